//! Users: one by id or UPN, some by address, and the end of their sessions.

use serde_json::{Map, Value, json};

use crate::simulator::call::{Call, Reply};
use crate::simulator::odata;
use crate::simulator::permissions;
use crate::simulator::tenant::User;
use crate::simulator::world::World;

const DEFAULT: [&str; 11] = [
    "businessPhones",
    "displayName",
    "givenName",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
    "id",
];

fn object(user: &User) -> Value {
    json!({
        "businessPhones": [], "displayName": user.display_name, "givenName": null, "jobTitle": null,
        "mail": user.mail, "mobilePhone": null, "officeLocation": null, "preferredLanguage": null, "surname": null,
        "userPrincipalName": user.user_principal_name, "id": user.id, "userType": user.user_type,
        "accountEnabled": user.account_enabled, "onPremisesSyncEnabled": user.on_premises_sync_enabled,
        "isManagementRestricted": user.is_management_restricted, "proxyAddresses": user.proxy_addresses,
        "signInSessionsValidFromDateTime": user.sessions_valid_from, "otherMails": [],
        "createdDateTime": "2020-01-01T00:00:00Z", "usageLocation": null, "department": null,
    })
}

/// Shows what was selected, else Graph's default properties; names that a user does not have are refused.
fn shown(call: &Call, user: &User) -> Result<Value, Reply> {
    let all = object(user);
    let names = odata::selected(call);
    let names = names.as_deref().unwrap_or(&DEFAULT);
    let known = |name: &str| all.as_object().is_some_and(|all| all.keys().any(|key| key.eq_ignore_ascii_case(name)));
    match names.iter().find(|name| !known(name)) {
        Some(name) => {
            let text = format!("Could not find a property named '{name}' on type 'microsoft.graph.user'.");
            Err(Reply::error(400, "BadRequest", text))
        }
        None => Ok(odata::select(&all, Some(names))),
    }
}

/// Answers `GET /users/{id or UPN}`.
pub fn get(world: &World, call: &Call, key: &str, roles: &[String]) -> Reply {
    if !permissions::any(roles, permissions::READ_USERS) {
        return Reply::denied_by_directory();
    }
    let Some(user) = world.tenant.find(key) else { return Reply::no_object(key) };
    let mut body = Map::new();
    body.insert("@odata.context".into(), json!(call.context("users/$entity")));
    match shown(call, user) {
        Ok(Value::Object(fields)) => body.extend(fields),
        Ok(_) => {}
        Err(refusal) => return refusal,
    }
    Reply::ok(Value::Object(body))
}

/// Answers `GET /users`, all or those with an address.
pub fn find(world: &World, call: &Call, roles: &[String]) -> Reply {
    if !permissions::any(roles, permissions::READ_USERS) {
        return Reply::denied_by_directory();
    }
    let found = match call.option("$filter").map(odata::equals) {
        None => world.tenant.users().collect(),
        Some(Some((property, value))) => match property.as_str() {
            "proxyAddresses" => {
                let has =
                    |user: &&User| user.proxy_addresses.iter().any(|address| address.eq_ignore_ascii_case(&value));
                world.tenant.with_alias(&value).into_iter().filter(has).collect()
            }
            "mail" => world.tenant.with_alias(&value).into_iter().filter(|user| has_mail(user, &value)).collect(),
            "id" | "userPrincipalName" => world.tenant.find(&value).into_iter().collect::<Vec<_>>(),
            _ => return odata::unsupported_filter(),
        },
        Some(None) => return odata::unsupported_filter(),
    };
    let items: Result<Vec<Value>, Reply> = found.into_iter().map(|user| shown(call, user)).collect();
    match items {
        Ok(items) => odata::page(call, &items, "users", world.settings.page_size),
        Err(refusal) => refusal,
    }
}

fn has_mail(user: &User, value: &str) -> bool {
    user.mail.as_ref().is_some_and(|mail| mail.eq_ignore_ascii_case(value))
}

/// Answers `POST /users/{id}/revokeSignInSessions`.
pub fn revoke(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Reply {
    if !permissions::any(roles, permissions::REVOKE) {
        return Reply::denied_by_directory();
    }
    let now = world.date("%Y-%m-%dT%H:%M:%SZ");
    let Some(user) = world.tenant.find_mut(key) else { return Reply::no_object(key) };
    if user.is_management_restricted {
        return Reply::denied_by_directory();
    }
    let body = json!({"@odata.context": call.context("Edm.Boolean"), "value": true});
    // A guest signs in elsewhere; the answer is the same.
    if user.user_type == "Guest" {
        return Reply::ok(body);
    }
    user.sessions_valid_from = now;
    Reply { effect: json!({"revoked": true}), ..Reply::ok(body) }
}
