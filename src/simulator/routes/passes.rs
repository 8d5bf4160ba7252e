//! Temporary Access Passes: a person has one, and is told it once.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulator::call::{Call, Reply};
use crate::simulator::choices::PassPolicy;
use crate::simulator::kind::Kind;
use crate::simulator::permissions;
use crate::simulator::render;
use crate::simulator::tenant::Method;
use crate::simulator::world::World;

const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789+*#";

/// Answers `POST .../authentication/temporaryAccessPassMethods`: a new pass takes the place of the old one.
pub fn add(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Reply {
    try_add(world, call, key, roles).unwrap_or_else(|refusal| refusal)
}

fn try_add(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Result<Reply, Reply> {
    let user = world.methods_of(key, permissions::typed(roles, Kind::TemporaryAccessPass, true), true)?;
    if user.user_type == "Guest" {
        return Err(bad("A pass for an external user is issued where the user comes from."));
    }
    let owner = user.id.clone();
    let now = world.now();
    let properties = terms(&call.body, &world.settings.choices.pass_policy, now)?;
    let mut rng = world.rng.fork();
    let value = (0..8).map(|_| char::from(*rng.choice(LETTERS).unwrap_or(&b'A'))).collect();
    let mut method = Method {
        kind: Kind::TemporaryAccessPass,
        id: Uuid::from_u128(rng.u128(..)).to_string(),
        value,
        created: Some(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ..Method::default()
    };
    if let Value::Object(properties) = properties {
        method.properties = properties;
    }
    let context = call.context(&format!("users('{owner}')/authentication/temporaryAccessPassMethods/$entity"));
    let mut body = render::method(&method, call.version, &world.settings.choices, false);
    body["temporaryAccessPass"] = json!(method.value);
    body["@odata.context"] = json!(context);
    Ok(Reply { status: 201, effect: put(world, &owner, method), ..Reply::ok(body) })
}

fn put(world: &mut World, owner: &str, method: Method) -> Value {
    let Some(user) = world.tenant.find_mut(owner) else { return Value::Null };
    let old = user.live().find(|old| old.kind == method.kind).cloned();
    let effect = match &old {
        Some(old) => json!({"replaced": method.mark_with(old)}),
        None => json!({"registered": method.mark()}),
    };
    user.methods.retain(|other| old.as_ref().is_none_or(|old| old.id != other.id));
    user.register(method);
    effect
}

/// Reads what the pass shall be, within what the policy allows.
fn terms(body: &Value, policy: &PassPolicy, now: Timestamp) -> Result<Value, Reply> {
    if !policy.enabled {
        return Err(bad("Temporary Access Pass is not enabled by policy for the user."));
    }
    let given = |name: &str| Some(&body[name]).filter(|value| !value.is_null());
    let minutes = given("lifetimeInMinutes").map_or(policy.default_minutes, |value| value.as_u64().unwrap_or(0));
    if !(policy.minimum_minutes..=policy.maximum_minutes).contains(&minutes) {
        return Err(bad("The lifetime is not within what the policy allows."));
    }
    let once = body["isUsableOnce"].as_bool().unwrap_or(policy.once_only);
    if policy.once_only && !once {
        return Err(bad("The policy requires that a pass is used once."));
    }
    let start = match given("startDateTime") {
        None => now,
        Some(value) => {
            value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| bad("startDateTime is no time."))?
        }
    };
    let minute_ago = now.checked_sub(SignedDuration::from_mins(1)).unwrap_or(now);
    if start < minute_ago {
        return Err(bad("A pass cannot start in the past."));
    }
    let usable = start <= now;
    Ok(json!({
        "startDateTime": start.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "lifetimeInMinutes": minutes,
        "isUsableOnce": once, "isUsable": usable,
        "methodUsabilityReason": if usable { "EnabledByPolicy" } else { "NotYetValid" },
    }))
}

fn bad(text: &str) -> Reply {
    Reply::error(400, "badRequest", text)
}
