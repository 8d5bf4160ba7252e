//! Whether a user must use a second factor at all, set for this user alone. Beta only.

use serde::Deserialize;
use serde_json::json;

use crate::simulator::call::{Call, Reply};
use crate::simulator::permissions::{self, READ_REQUIREMENTS, WRITE_REQUIREMENTS};
use crate::simulator::tenant::MfaState;
use crate::simulator::world::World;

/// Answers `GET .../authentication/requirements`.
pub fn get(world: &World, call: &Call, key: &str, roles: &[String]) -> Reply {
    let user = match world.methods_of(key, permissions::any(roles, READ_REQUIREMENTS), false) {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    Reply::ok(json!({
        "@odata.context": call.context(&format!("users('{}')/authentication/requirements", user.id)),
        "perUserMfaState": user.per_user_mfa_state,
    }))
}

/// Answers `PATCH .../authentication/requirements`. Who has a second factor already is never just `enabled`.
pub fn set(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Reply {
    let user = match world.methods_of(key, permissions::any(roles, WRITE_REQUIREMENTS), true) {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let Ok(wanted) = MfaState::deserialize(&call.body["perUserMfaState"]) else {
        return Reply::error(
            400,
            "badRequest",
            "The body must contain perUserMfaState: disabled, enabled or enforced.",
        );
    };
    let registered = user.live().any(|method| method.kind.is_second_factor());
    let state = if wanted == MfaState::Enabled && registered { MfaState::Enforced } else { wanted };
    let owner = user.id.clone();
    if let Some(user) = world.tenant.find_mut(&owner) {
        user.per_user_mfa_state = state;
    }
    Reply::no_content(json!({"per_user_mfa_state": state}))
}
