//! The parts of the one method that has some: a PIN, the standing QR code and a temporary one. Beta only.

use serde_json::{Value, json};

use crate::simulator::call::{Call, Reply};
use crate::simulator::kind::Kind;
use crate::simulator::permissions;
use crate::simulator::render;
use crate::simulator::rules;
use crate::simulator::tenant::{Method, User};
use crate::simulator::world::World;

/// Answers `GET .../authentication/qrCodePinMethod/{part}`.
pub fn get(world: &World, call: &Call, key: &str, part: &str, roles: &[String]) -> Reply {
    let found = world
        .methods_of(key, permissions::typed(roles, Kind::QrCodePin, false), false)
        .and_then(|user| Ok((user, shown(world, call, user, part)?)));
    match found {
        Ok((user, mut body)) => {
            let context = format!("users('{}')/authentication/qrCodePinMethod/{part}/$entity", user.id);
            body["@odata.context"] = json!(call.context(&context));
            Reply::ok(body)
        }
        Err(refusal) => refusal,
    }
}

/// Answers `DELETE` of one of the codes; the PIN only goes with the method.
pub fn remove(world: &mut World, call: &Call, key: &str, part: &str, roles: &[String]) -> Reply {
    let found = world
        .methods_of(key, permissions::typed(roles, Kind::QrCodePin, true), true)
        .and_then(|user| shown(world, call, user, part).map(|_| user))
        .and_then(|user| Ok((user.id.clone(), method(user)?.clone())));
    match found {
        Ok((owner, mut method)) => {
            method.properties.insert(part.into(), Value::Null);
            world.tenant.put(&owner, method);
            Reply::no_content(json!({"code_removed": part}))
        }
        Err(refusal) => refusal,
    }
}

fn method(user: &User) -> Result<&Method, Reply> {
    rules::meant(user, &[Kind::QrCodePin], None)
}

fn shown(world: &World, call: &Call, user: &User, part: &str) -> Result<Value, Reply> {
    let mut whole = render::method(method(user)?, call.version, &world.settings.choices, false);
    let shown = whole[part].take();
    if shown.is_null() { Err(rules::Refusal::NotThere.reply(&[], part)) } else { Ok(shown) }
}
