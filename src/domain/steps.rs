//! Reads `steps`: a list of objects with one key each, in a request or in the configuration.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields;
use super::json::{Fields, Flaw};
use super::method::MethodType;
use super::task::{MfaState, Phones, Private, STEPS, Selection, Task};

/// The most steps of a request.
pub const MOST: usize = 20;
/// What a phone number looks like for Graph: the country, a space, the number, and maybe an extension.
pub const PHONE: &str = r"^\+[1-9][0-9]{0,2} [0-9][0-9 ().-]{2,24}(x[0-9]{1,10})?$";

/// Reads steps: at least one, and no setting twice.
pub fn read(items: Vec<(&Value, String)>, pointer: &str) -> Result<Vec<Task>, Flaw> {
    if items.is_empty() {
        return Err(Flaw::new(pointer, "at least one step is expected"));
    }
    let mut tasks: Vec<Task> = Vec::with_capacity(items.len());
    for (value, pointer) in items {
        let task = task(value, pointer.clone())?;
        let sets = !matches!(task, Task::RevokeSessions | Task::RemoveMethods(_));
        if sets && tasks.iter().any(|other| other.name() == task.name()) {
            return Err(Flaw::new(pointer, "this step may stand there once"));
        }
        tasks.push(task);
    }
    Ok(tasks)
}

fn task(value: &Value, pointer: String) -> Result<Task, Flaw> {
    let one = || Flaw::new(&pointer, format!("an object with one key is expected: one of {}", STEPS.join(", ")));
    let object = value.as_object().filter(|object| object.len() == 1).ok_or_else(one)?;
    let name = STEPS.into_iter().find(|name| object.contains_key(*name)).ok_or_else(one)?;
    let inside = object.get(name).unwrap_or(&Value::Null);
    let mut fields = Fields::open(inside, format!("{pointer}/{name}"))?;
    let task = match name {
        "revoke_sessions" => Task::RevokeSessions,
        "remove_methods" => Task::RemoveMethods(selection(&mut fields)?),
        "set_phones" => Task::SetPhones(phones(&mut fields)?),
        "set_email" => {
            let address = fields::address(&mut fields, "address")?;
            let missing = || Flaw::new(fields.pointer("address"), "the field is required");
            Task::SetEmail(Private::new(address.ok_or_else(missing)?))
        }
        "set_per_user_mfa" => {
            let state = fields.required_text("state", 32)?;
            let state = MfaState::ALL.into_iter().find(|known| known.name() == state);
            let unknown = || Flaw::new(fields.pointer("state"), "disabled, enabled or enforced is expected");
            Task::SetPerUserMfa(state.ok_or_else(unknown)?)
        }
        _ => Task::ListMethods,
    };
    fields.close()?;
    Ok(task)
}

fn selection(fields: &mut Fields<'_>) -> Result<Selection, Flaw> {
    for name in ["all", "types", "ids", "aaguids", "registered_after"] {
        fields.refuse_null(name)?;
    }
    let text = |(value, pointer): (&Value, String)| {
        let text =
            value.as_str().filter(|text| !text.is_empty() && text.len() <= 255 && !text.contains(char::is_control));
        text.map(str::to_owned).ok_or_else(|| Flaw::new(pointer, "1 to 255 characters are expected"))
    };
    let selection = Selection {
        all: fields.flag("all")?,
        types: fields.list("types", 15)?.into_iter().map(removable).collect::<Result<_, _>>()?,
        ids: fields.list("ids", 50)?.into_iter().map(text).collect::<Result<_, _>>()?,
        aaguids: fields.list("aaguids", 50)?.into_iter().map(aaguid).collect::<Result<BTreeSet<_>, _>>()?,
        registered_after: fields.time("registered_after")?,
    };
    let said = !selection.types.is_empty() || !selection.ids.is_empty() || selection.registered_after.is_some();
    let narrow = !selection.types.is_empty() || !selection.ids.is_empty() || !selection.aaguids.is_empty();
    if selection.all && narrow {
        return Err(Flaw::new(fields.pointer("all"), "all goes with registered_after only"));
    }
    if !selection.aaguids.is_empty() && !selection.types.contains(&MethodType::Fido2) {
        return Err(Flaw::new(fields.pointer("aaguids"), "aaguids narrows the type fido2, which has to be named"));
    }
    if said || selection.all {
        return Ok(selection);
    }
    Err(Flaw::new(fields.pointer("types"), "one of all, types, ids and registered_after is required"))
}

fn removable((value, pointer): (&Value, String)) -> Result<MethodType, Flaw> {
    let found = value.as_str().and_then(MethodType::from_name);
    let found = found.filter(|kind| kind.entry().collection.is_some());
    found.ok_or_else(|| Flaw::new(pointer, "a type of method that can be removed is expected"))
}

fn aaguid((value, pointer): (&Value, String)) -> Result<String, Flaw> {
    let id = value.as_str().and_then(|text| uuid::Uuid::try_parse(text).ok());
    id.map(|id| id.to_string()).ok_or_else(|| Flaw::new(pointer, "an AAGUID is expected"))
}

fn phones(fields: &mut Fields<'_>) -> Result<Phones, Flaw> {
    let mut number = |name: &'static str| {
        let text = fields.text(name, 64)?;
        let wrong = text.as_ref().is_some_and(|text| !is_phone(text));
        let flaw = || Flaw::new(fields.pointer(name), "a number such as +1 5555550100 or +49 301234567x12 is expected");
        if wrong { Err(flaw()) } else { Ok(text.map(Private::new)) }
    };
    let phones = Phones {
        mobile: number("mobile")?,
        alternate_mobile: number("alternate_mobile")?,
        office: number("office")?,
        sms_sign_in: None,
    };
    fields.refuse_null("sms_sign_in")?;
    let said = fields.has("sms_sign_in");
    let sms_sign_in = Some(fields.flag("sms_sign_in")?).filter(|_| said);
    if phones.mobile.is_none() && phones.office.is_none() && phones.alternate_mobile.is_none() {
        return Err(Flaw::new(
            fields.pointer("mobile"),
            "at least one number is expected: remove_methods removes them all",
        ));
    }
    if phones.alternate_mobile.is_some() && phones.mobile.is_none() {
        return Err(Flaw::new(fields.pointer("alternate_mobile"), "an alternate mobile phone needs a mobile one"));
    }
    if sms_sign_in == Some(true) && phones.mobile.is_none() {
        return Err(Flaw::new(fields.pointer("sms_sign_in"), "signing in by SMS needs a mobile phone"));
    }
    Ok(Phones { sms_sign_in, ..phones })
}

/// Whether [`PHONE`] matches.
fn is_phone(text: &str) -> bool {
    let Some((country, rest)) = text.strip_prefix('+').and_then(|rest| rest.split_once(' ')) else { return false };
    let (number, extension) =
        rest.split_once('x').map_or((rest, None), |(number, extension)| (number, Some(extension)));
    let digits =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(country, 3)
        && !country.starts_with('0')
        && (3..=25).contains(&number.len())
        && number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || b" ().-".contains(&byte))
        && extension.is_none_or(|extension| digits(extension, 10))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tasks(value: &Value) -> Result<Vec<Task>, Flaw> {
        let body = json!({ "steps": value });
        let mut fields = Fields::open(&body, String::new())?;
        read(fields.list("steps", MOST)?, "/steps")
    }

    #[test]
    fn every_step_is_read_by_its_name_and_a_number_does_not_print() {
        let steps = json!([
            {"revoke_sessions": {}}, {"remove_methods": {"types": ["fido2"], "registered_after": "2026-11-21T09:15:07Z"}},
            {"set_phones": {"mobile": "+1 5555550100", "sms_sign_in": false}}, {"set_email": {"address": "Ada@x.test"}},
            {"set_per_user_mfa": {"state": "enforced"}}, {"list_methods": {}},
        ]);
        let read = tasks(&steps).unwrap();
        assert_eq!(read.iter().map(Task::name).collect::<Vec<_>>(), STEPS);
        let shown = format!("{read:?}");
        assert!(!shown.contains("555") && !shown.contains("x.test"), "{shown}");
    }

    #[test]
    fn every_flaw_names_its_place() {
        let check = |steps: Value, pointer: &str| {
            assert_eq!(tasks(&steps).expect_err(pointer).pointer, pointer, "{steps}");
        };
        check(json!([]), "/steps");
        check(json!([{}]), "/steps/0");
        check(json!([{"reboot": {}}]), "/steps/0");
        check(json!([{"revoke_sessions": {}, "list_methods": {}}]), "/steps/0");
        check(json!([{"revoke_sessions": null}]), "/steps/0/revoke_sessions");
        check(json!([{"revoke_sessions": {"x": 1}}]), "/steps/0/revoke_sessions/x");
        check(json!([{"list_methods": {}}, {"list_methods": {}}]), "/steps/1");
        check(json!([{"remove_methods": {}}]), "/steps/0/remove_methods/types");
        check(json!([{"remove_methods": {"types": []}}]), "/steps/0/remove_methods/types");
        check(json!([{"remove_methods": {"types": ["password"]}}]), "/steps/0/remove_methods/types/0");
        check(json!([{"remove_methods": {"types": ["unknown"]}}]), "/steps/0/remove_methods/types/0");
        check(json!([{"remove_methods": {"all": true, "ids": ["x"]}}]), "/steps/0/remove_methods/all");
        check(
            json!([{"remove_methods": {"all": true, "registered_after": null}}]),
            "/steps/0/remove_methods/registered_after",
        );
        check(json!([{"remove_methods": {"ids": [7]}}]), "/steps/0/remove_methods/ids/0");
        check(
            json!([{"remove_methods": {"types": ["email"], "aaguids": ["de1e552d-db1d-4423-a619-566b625cdc84"]}}]),
            "/steps/0/remove_methods/aaguids",
        );
        check(json!([{"set_phones": {"mobile": "5555550100"}}]), "/steps/0/set_phones/mobile");
        check(json!([{"set_phones": {"alternate_mobile": "+1 5555550100"}}]), "/steps/0/set_phones/alternate_mobile");
        check(
            json!([{"set_phones": {"office": "+1 5555550100", "sms_sign_in": true}}]),
            "/steps/0/set_phones/sms_sign_in",
        );
        check(json!([{"set_phones": {}}]), "/steps/0/set_phones/mobile");
        check(json!([{"set_phones": {"mobile": null, "sms_sign_in": false}}]), "/steps/0/set_phones/mobile");
        check(json!([{"set_email": {}}]), "/steps/0/set_email/address");
        check(json!([{"set_per_user_mfa": {"state": "on"}}]), "/steps/0/set_per_user_mfa/state");
    }

    #[test]
    fn a_phone_number_has_a_country_a_space_and_digits() {
        for good in ["+1 5555550100", "+49 30 (12) 34-567", "+1 5555550100x123"] {
            assert!(is_phone(good), "{good}");
        }
        for bad in
            ["+15555550100", "5555550100", "+0 555", "+1 ", "+1 55x", "+1 555x1x2", "+1 555a", "+1234 5555", "+1 (555"]
        {
            assert!(!is_phone(bad), "{bad}");
        }
    }
}
