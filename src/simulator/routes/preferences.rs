//! Which second factor a user prefers: the default that goes last. Beta only.

use serde_json::json;

use crate::simulator::call::{Call, Reply};
use crate::simulator::permissions::{self, READ_METHODS, WRITE_METHODS};
use crate::simulator::rules;
use crate::simulator::world::World;

const PREFERRED: &str = "userPreferredMethodForSecondaryAuthentication";

/// Answers `GET .../authentication/signInPreferences`.
pub fn get(world: &World, call: &Call, key: &str, roles: &[String]) -> Reply {
    if !permissions::any(roles, READ_METHODS) {
        return Reply::denied_by_authentication();
    }
    let Some(user) = world.tenant.find(key) else { return Reply::no_object(key) };
    Reply::ok(json!({
        "@odata.context": call.context(&format!("users('{}')/authentication/signInPreferences", user.id)),
        "isSystemPreferredAuthenticationMethodEnabled": user.system_preferred,
        PREFERRED: user.default_method,
    }))
}

/// Answers `PATCH .../authentication/signInPreferences`.
pub fn set(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Reply {
    if !permissions::any(roles, WRITE_METHODS) {
        return Reply::denied_by_authentication();
    }
    let Some(user) = world.tenant.find_mut(key) else { return Reply::no_object(key) };
    let Some(wanted) = call.body[PREFERRED].as_str() else {
        return Reply::error(400, "badRequest", format!("The body must contain {PREFERRED}."));
    };
    let Some(kinds) = rules::serving(wanted) else {
        return Reply::error(400, "badRequest", format!("'{wanted}' is not a valid value of {PREFERRED}."));
    };
    if !user.live().any(|method| kinds.contains(&method.kind)) {
        return Reply::error(400, "badRequest", "The user has not registered the requested method.");
    }
    user.default_method = Some(wanted.to_owned());
    Reply::no_content(json!({"default": wanted}))
}
