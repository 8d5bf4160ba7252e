//! Which second factor a user prefers, the default that goes last, and whether the system chooses. Beta only.

use serde_json::{Map, Value, json};

use crate::simulator::call::{Call, Reply};
use crate::simulator::permissions::{self, READ_METHODS, WRITE_METHODS};
use crate::simulator::rules;
use crate::simulator::tenant::User;
use crate::simulator::world::World;

const PREFERRED: &str = "userPreferredMethodForSecondaryAuthentication";
const BY_SYSTEM: &str = "isSystemPreferredAuthenticationMethodEnabled";

/// Answers `GET .../authentication/signInPreferences`.
pub fn get(world: &World, call: &Call, key: &str, roles: &[String]) -> Reply {
    let user = match world.methods_of(key, permissions::any(roles, READ_METHODS), false) {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    Reply::ok(json!({
        "@odata.context": call.context(&format!("users('{}')/authentication/signInPreferences", user.id)),
        BY_SYSTEM: user.system_preferred,
        PREFERRED: user.default_method,
    }))
}

/// Answers `PATCH .../authentication/signInPreferences`.
pub fn set(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Reply {
    try_set(world, call, key, roles).unwrap_or_else(|refusal| refusal)
}

fn try_set(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Result<Reply, Reply> {
    let user = world.methods_of(key, permissions::any(roles, WRITE_METHODS), true)?;
    let preferred = preferred(user, &call.body)?.map(str::to_owned);
    let by_system = call.body[BY_SYSTEM].as_bool();
    if by_system.is_none() && !call.body[BY_SYSTEM].is_null() {
        return Err(bad(format!("{BY_SYSTEM} must be true or false.")));
    }
    let mut effect = Map::new();
    effect.extend(preferred.as_ref().map(|value| ("default".to_owned(), json!(value))));
    effect.extend(by_system.map(|value| ("system_preferred".to_owned(), json!(value))));
    if effect.is_empty() {
        return Err(bad(format!("The body must contain {PREFERRED} or {BY_SYSTEM}.")));
    }
    let owner = user.id.clone();
    if let Some(user) = world.tenant.find_mut(&owner) {
        user.system_preferred = by_system.unwrap_or(user.system_preferred);
        user.default_method = preferred.or(user.default_method.take());
    }
    Ok(Reply::no_content(effect.into()))
}

fn preferred<'a>(user: &User, body: &'a Value) -> Result<Option<&'a str>, Reply> {
    if body[PREFERRED].is_null() {
        return Ok(None);
    }
    let wanted = body[PREFERRED].as_str().unwrap_or_default();
    let kinds = rules::serving(wanted);
    let kinds = kinds.ok_or_else(|| bad(format!("'{wanted}' is not a valid value of {PREFERRED}.")))?;
    if !user.live().any(|method| kinds.contains(&method.kind)) {
        return Err(bad("The user has not registered the requested method."));
    }
    Ok(Some(wanted))
}

fn bad(text: impl Into<String>) -> Reply {
    Reply::error(400, "badRequest", text)
}
