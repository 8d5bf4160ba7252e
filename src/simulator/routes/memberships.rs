//! What a user is a member of: groups, roles and units in one list. What the app may not read comes back with its id
//! and nothing else, and the answer is 200 all the same.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::simulator::call::{Call, Reply};
use crate::simulator::odata;
use crate::simulator::permissions::{self, READ_MEMBERSHIPS, SEE_GROUPS, SEE_ROLES, SEE_UNITS};
use crate::simulator::tenant::{Group, User};
use crate::simulator::world::World;

/// Answers `GET /users/{id}/transitiveMemberOf`, with or without a cast.
pub fn list(world: &World, call: &Call, key: &str, cast: Option<&str>, roles: &[String]) -> Reply {
    if !permissions::any(roles, READ_MEMBERSHIPS) && !permissions::any(roles, SEE_ROLES) {
        return Reply::denied_by_directory();
    }
    let Some(user) = world.tenant.find(key) else { return Reply::no_object(key) };
    if cast.is_some() && !(call.eventual && call.option("$count") == Some("true")) {
        let text = "The specified cast needs the header ConsistencyLevel: eventual and $count=true.";
        return Reply::error(400, "Request_UnsupportedQuery", text);
    }
    if call.option("$filter").is_some() {
        return odata::unsupported_filter();
    }
    let mut items = objects(world, user, roles);
    if let Some(cast) = cast {
        let wanted = format!("#{cast}");
        items.retain(|item| item["@odata.type"] == wanted.as_str());
    }
    let names = odata::selected(call);
    let items: Vec<Value> = items.iter().map(|item| odata::select(item, names.as_deref())).collect();
    odata::page(call, &items, "directoryObjects", world.settings.page_size)
}

fn objects(world: &World, user: &User, roles: &[String]) -> Vec<Value> {
    let groups = all_groups(world, user);
    let through_groups = groups.iter().flat_map(|group| &group.roles);
    let mut held: Vec<&str> = Vec::new();
    // A role within a scope is an assignment, not a membership.
    for grant in user.roles.iter().chain(through_groups).filter(|grant| grant.scope() == "/") {
        if !held.contains(&grant.role()) {
            held.push(grant.role());
        }
    }
    let see_groups = permissions::any(roles, SEE_GROUPS);
    let see_roles = permissions::any(roles, SEE_ROLES);
    let see_units = permissions::any(roles, SEE_UNITS);
    let groups = groups.iter().map(|group| veil(group_object(group), see_groups && !group.hidden));
    let directory_roles = held.into_iter().map(|role| {
        let hidden = world.tenant.roles.get(role).is_some_and(|role| role.hidden);
        veil(role_object(world, role), see_roles && !hidden)
    });
    let units = user.administrative_units.iter().map(|id| {
        let unit = world.tenant.units.get(id);
        let name = unit.map(|unit| unit.display_name.as_str());
        let object = json!({"@odata.type": "#microsoft.graph.administrativeUnit", "id": id, "displayName": name});
        veil(object, see_units && !unit.is_some_and(|unit| unit.hidden))
    });
    groups.chain(directory_roles).chain(units).collect()
}

fn all_groups<'a>(world: &'a World, user: &'a User) -> Vec<&'a Group> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut open: Vec<&String> = user.groups.iter().rev().collect();
    while let Some(id) = open.pop() {
        if let Some(group) = world.tenant.groups.get(id).filter(|_| seen.insert(id)) {
            open.extend(&group.groups);
            found.push(group);
        }
    }
    found
}

fn group_object(group: &Group) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.group", "id": group.id, "displayName": group.display_name,
        // Graph says true or nothing at all: for an ordinary group it is null, as for one that the app may not read.
        "isAssignableToRole": group.is_assignable_to_role.then_some(true),
        "securityEnabled": true, "mailEnabled": false,
    })
}

/// Answers `GET /groups?$filter=isAssignableToRole eq true`.
pub fn assignable(world: &World, call: &Call, roles: &[String]) -> Reply {
    if !permissions::any(roles, SEE_GROUPS) {
        return Reply::denied_by_directory();
    }
    if call.option("$filter") != Some("isAssignableToRole eq true") {
        return odata::unsupported_filter();
    }
    let mut groups: Vec<&Group> = world.tenant.groups.values().filter(|group| group.is_assignable_to_role).collect();
    groups.sort_by(|one, other| one.id.cmp(&other.id));
    let names = odata::selected(call);
    let items: Vec<Value> =
        groups.into_iter().map(|group| odata::select(&group_object(group), names.as_deref())).collect();
    odata::page(call, &items, "groups", world.settings.page_size)
}

fn role_object(world: &World, template: &str) -> Value {
    let listed = world.tenant.roles.get(template);
    let known = ROLE_NAMES.iter().find(|(id, _)| *id == template).map(|(_, name)| *name);
    json!({
        "@odata.type": "#microsoft.graph.directoryRole", "id": role_id(template), "roleTemplateId": template,
        "displayName": listed.map(|role| role.display_name.as_str()).or(known), "description": null,
    })
}

/// Makes the object id of a directory role, which differs from its template id.
fn role_id(template: &str) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, template.as_bytes()).to_string()
}

fn veil(mut object: Value, visible: bool) -> Value {
    if let Some(fields) = object.as_object_mut().filter(|_| !visible) {
        let rest = fields.iter_mut().filter(|(key, _)| *key != "id" && *key != "@odata.type");
        rest.for_each(|(_, value)| *value = Value::Null);
    }
    object
}

const ROLE_NAMES: [(&str, &str); 8] = [
    ("62e90394-69f5-4237-9190-012177145e10", "Global Administrator"),
    ("e8611ab8-c189-46e8-94e1-60213ab1f814", "Privileged Role Administrator"),
    ("7be44c8a-adaf-4e2a-84d6-ab2649e08a13", "Privileged Authentication Administrator"),
    ("c4e39bd9-1100-46d3-8c65-fb160da0071f", "Authentication Administrator"),
    ("194ae4cb-b126-40b2-bd5b-6091b380977d", "Security Administrator"),
    ("fe930be7-5e62-47db-91af-98c3a49a38b1", "User Administrator"),
    ("729827e3-9c14-49f7-bb1b-9608f156bbb8", "Helpdesk Administrator"),
    ("88d8e3e3-8f55-4a1e-953a-9b9898b8876b", "Directory Readers"),
];
