//! Phones: registered, changed, and made good for signing in by SMS. A person has one of each type.
//!
//! How Graph words its refusals here is not documented, save for the policy that forbids signing in by SMS.

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

const TYPES: [(&str, Kind); 3] =
    [("mobile", Kind::PhoneMobile), ("alternateMobile", Kind::PhoneAlternateMobile), ("office", Kind::PhoneOffice)];

/// Answers `POST .../authentication/phoneMethods`.
pub fn add(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Reply {
    try_add(world, call, key, roles).unwrap_or_else(|refusal| refusal)
}

fn try_add(world: &mut World, call: &Call, key: &str, roles: &[String]) -> Result<Reply, Reply> {
    let user = world.methods_of(key, permissions::typed(roles, Kind::PhoneMobile, true), true)?;
    let number = number(&call.body)?.ok_or_else(|| bad("The body must contain phoneNumber."))?;
    let kind = kind(&call.body)?.ok_or_else(|| bad("The body must contain phoneType."))?;
    if user.live().any(|method| method.kind == kind) {
        return Err(bad("A phone of this type is already registered for the user."));
    }
    if kind == Kind::PhoneAlternateMobile && !user.live().any(|method| method.kind == Kind::PhoneMobile) {
        return Err(bad("An alternate mobile phone needs a mobile phone to be registered first."));
    }
    let (owner, id) = (user.id.clone(), id_for(kind, Uuid::nil()));
    let mut method = Method { kind, id, value: number.into(), ..Method::default() };
    set_state(&mut method, sms_state(world, kind, number, &owner));
    Ok(values::add(world, call, &owner, method))
}

/// Answers `PATCH .../authentication/phoneMethods/{id}`.
pub fn change(world: &mut World, call: &Call, key: &str, id: Option<&str>, roles: &[String]) -> Reply {
    try_change(world, call, key, id, roles).unwrap_or_else(|refusal| refusal)
}

fn try_change(world: &mut World, call: &Call, key: &str, id: Option<&str>, roles: &[String]) -> Result<Reply, Reply> {
    let user = world.methods_of(key, permissions::typed(roles, Kind::PhoneMobile, true), true)?;
    let old = rules::meant(user, &TYPES.map(|(_, kind)| kind), id)?;
    if kind(&call.body)?.is_some_and(|kind| kind != old.kind) {
        return Err(bad("The type of a phone cannot be changed."));
    }
    let number = number(&call.body)?.unwrap_or(&old.value);
    let owner = user.id.clone();
    let mut method = Method { value: number.into(), ..old.clone() };
    set_state(&mut method, sms_state(world, old.kind, number, &owner));
    let effect = json!({"replaced": method.mark_with(old)});
    Ok(values::replace(world, call, &owner, method, effect))
}

/// Answers `POST .../phoneMethods/{id}/enableSmsSignIn` and `disableSmsSignIn`.
pub fn set_sms_sign_in(world: &mut World, call: &Call, key: &str, id: Option<&str>, roles: &[String]) -> Reply {
    try_set_sms_sign_in(world, call, key, id, roles).unwrap_or_else(|refusal| refusal)
}

fn try_set_sms_sign_in(
    world: &mut World,
    call: &Call,
    key: &str,
    id: Option<&str>,
    roles: &[String],
) -> Result<Reply, Reply> {
    let user = world.methods_of(key, permissions::typed(roles, Kind::PhoneMobile, true), true)?;
    let mut method = rules::meant(user, &TYPES.map(|(_, kind)| kind), id)?.clone();
    let owner = user.id.clone();
    let state = match call.segments.last().map(String::as_str) {
        Some("enableSmsSignIn") => sms_state(world, method.kind, &method.value, &owner),
        _ if method.kind == Kind::PhoneMobile => "notEnabled",
        _ => "notSupported",
    };
    match state {
        "notSupported" => return Err(bad("Only a mobile phone can be used to sign in by SMS.")),
        "notAllowedByPolicy" => {
            let text = "Cannot enable SMS sign-in on phone auth method as the credential policy is not enabled on user";
            return Err(bad(text));
        }
        "phoneNumberNotUnique" => return Err(bad("The phone number is used by another user.")),
        _ => set_state(&mut method, state),
    }
    world.tenant.put(&owner, method);
    Ok(Reply { status: 200, effect: json!({"sms_sign_in": state}), ..Reply::default() })
}

/// Finds out whether a phone can be used to sign in: registering one makes it so, where nothing forbids it.
fn sms_state(world: &World, kind: Kind, number: &str, owner: &str) -> &'static str {
    let same = |method: &Method| method.kind == Kind::PhoneMobile && method.value == number;
    if kind != Kind::PhoneMobile {
        "notSupported"
    } else if !world.settings.choices.sms_sign_in {
        "notAllowedByPolicy"
    } else if world.tenant.users().any(|user| user.id != owner && user.live().any(same)) {
        "phoneNumberNotUnique"
    } else {
        "ready"
    }
}

fn set_state(method: &mut Method, state: &str) {
    method.properties.insert("smsSignInState".into(), json!(state));
}

fn kind(body: &Value) -> Result<Option<Kind>, Reply> {
    if body["phoneType"].is_null() {
        return Ok(None);
    }
    let known = TYPES.iter().find(|(name, _)| body["phoneType"] == *name);
    known.map(|(_, kind)| Some(*kind)).ok_or_else(|| bad("phoneType has no such value."))
}

fn number(body: &Value) -> Result<Option<&str>, Reply> {
    let number = &body["phoneNumber"];
    if number.is_null() {
        return Ok(None);
    }
    let bad = || bad("The phone number is not of the form '+{country code} {number}x{extension}'.");
    number.as_str().filter(|number| is_number(number)).map(Some).ok_or_else(bad)
}

/// Tells whether a number is written as Graph wants it: `+1 5555550100`, or `+1 5555550100x123`.
fn is_number(text: &str) -> bool {
    let digits =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((code, rest)) = text.strip_prefix('+').and_then(|text| text.split_once(' ')) else { return false };
    let (number, extension) =
        rest.split_once('x').map_or((rest, None), |(number, extension)| (number, Some(extension)));
    digits(code, 3) && digits(number, 15) && extension.is_none_or(|extension| digits(extension, 10))
}

fn bad(text: &str) -> Reply {
    Reply::error(400, "badRequest", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for good in ["+1 5555550100", "+44 7700900123", "+1 5555550100x123", "+352 621123456"] {
            assert!(is_number(good), "{good}");
        }
        for bad in ["5555550100", "+15555550100", "+1 555 555 0100", "+1 555-0100", "+1 5555550100x", "+ 555", "+1 "] {
            assert!(!is_number(bad), "{bad}");
        }
    }
}
