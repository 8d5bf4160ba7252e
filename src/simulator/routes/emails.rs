//! The address for resetting a forgotten password. A person has one.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulator::call::{Call, Reply};
use crate::simulator::kind::Kind;
use crate::simulator::permissions;
use crate::simulator::routes::values;
use crate::simulator::rules;
use crate::simulator::tenant::Method;
use crate::simulator::tenant_file::id_for;
use crate::simulator::world::World;

/// Answers `POST .../authentication/emailMethods`.
pub fn add(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Reply {
    try_add(world, call, key, roles).unwrap_or_else(|refusal| refusal)
}

fn try_add(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Result<Reply, Reply> {
    let user = world.methods_of(key, permissions::typed(roles, Kind::Email, true), true)?;
    let value = address(&call.body)?.into();
    if user.live().any(|method| method.kind == Kind::Email) {
        return Err(Reply::error(400, "badRequest", "An email address is already registered for the user."));
    }
    let owner = user.id.clone();
    let method = Method { kind: Kind::Email, id: id_for(Kind::Email, Uuid::nil()), value, ..Method::default() };
    Ok(values::add(world, call, &owner, method))
}

/// Answers `PATCH .../authentication/emailMethods/{id}`.
pub fn change(world: &mut World, call: &Call, key: &str, id: Option<&str>, roles: &[String]) -> Reply {
    try_change(world, call, key, id, roles).unwrap_or_else(|refusal| refusal)
}

fn try_change(world: &mut World, call: &Call, key: &str, id: Option<&str>, roles: &[String]) -> Result<Reply, Reply> {
    let user = world.methods_of(key, permissions::typed(roles, Kind::Email, true), true)?;
    let old = rules::meant(user, &[Kind::Email], id)?;
    let method = Method { value: address(&call.body)?.into(), ..old.clone() };
    let (owner, effect) = (user.id.clone(), json!({"replaced": method.mark_with(old)}));
    Ok(values::replace(world, call, &owner, method, effect))
}

fn address(body: &Value) -> Result<&str, Reply> {
    let is_address = |text: &&str| {
        text.split_once('@')
            .is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.') && !text.contains(' '))
    };
    let bad = || Reply::error(400, "badRequest", "The body must contain emailAddress, an email address.");
    body["emailAddress"].as_str().filter(is_address).ok_or_else(bad)
}
