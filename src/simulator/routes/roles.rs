//! Role assignments and eligibilities of one principal: those made to the user itself, not those through a group.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulator::call::{Call, Reply};
use crate::simulator::odata;
use crate::simulator::permissions::{self, READ_ELIGIBILITIES, SEE_ROLES};
use crate::simulator::tenant::{Grant, User};
use crate::simulator::world::World;

/// Answers `GET /roleManagement/directory/roleAssignments`.
pub fn assignments(world: &World, call: &Call, roles: &[String]) -> Reply {
    if !permissions::any(roles, SEE_ROLES) {
        return Reply::denied_by_directory();
    }
    list(world, call, "roleManagement/directory/roleAssignments", |user| {
        user.roles.iter().map(|grant| item(user, grant)).collect()
    })
}

/// Answers `GET /roleManagement/directory/roleEligibilityScheduleInstances`.
pub fn eligibilities(world: &World, call: &Call, roles: &[String]) -> Reply {
    if !permissions::any(roles, READ_ELIGIBILITIES) {
        return Reply::denied_by_directory();
    }
    if !world.tenant.premium {
        let text = "The tenant needs to have Microsoft Entra ID P2 or Microsoft Entra ID Governance license.";
        return Reply::error(400, "AadPremiumLicenseRequired", text);
    }
    list(world, call, "roleManagement/directory/roleEligibilityScheduleInstances", |user| {
        let eligible = |grant: &Grant| {
            let mut item = item(user, grant);
            item["memberType"] = json!("Direct");
            item["startDateTime"] = json!("2026-01-01T00:00:00Z");
            item["endDateTime"] = Value::Null;
            item
        };
        user.eligible_roles.iter().map(eligible).collect()
    })
}

fn list(world: &World, call: &Call, context: &str, items: impl Fn(&User) -> Vec<Value>) -> Reply {
    let principal = match call.option("$filter").map(odata::equals) {
        Some(Some((property, value))) if property == "principalId" => value,
        _ => return odata::unsupported_filter(),
    };
    let user = world.tenant.find(&principal).filter(|user| user.id.eq_ignore_ascii_case(&principal));
    let names = odata::selected(call);
    let items: Vec<Value> = user.map(items).unwrap_or_default();
    let items: Vec<Value> = items.iter().map(|item| odata::select(item, names.as_deref())).collect();
    odata::page(call, &items, context, world.settings.page_size)
}

fn item(user: &User, grant: &Grant) -> Value {
    let name = format!("{}/{}/{}", user.id, grant.role(), grant.scope());
    json!({
        "id": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()), "principalId": user.id,
        "roleDefinitionId": grant.role(), "directoryScopeId": grant.scope(), "appScopeId": null,
    })
}
