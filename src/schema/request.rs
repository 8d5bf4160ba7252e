//! The schema of a request: as strict as the parser, but for what a schema cannot say (the bytes, duplicate keys,
//! `message_id` in place of `id`, which time is later) and for times, which it describes and the parser proves.

use serde_json::{Value, json};

use super::{DIALECT, method_types};
use crate::domain::fields::WAYS;
use crate::domain::method::TABLE;
use crate::domain::profile::BUILT_IN;
use crate::domain::steps::{MOST, PHONE};
use crate::domain::task::MfaState;

/// Control characters, inside a class of a pattern.
const CONTROL: &str = r"\u0000-\u001f\u007f-\u009f";
/// Control characters but for line breaks and tabs.
const CONTROL_IN_PROSE: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";
const OBJECT_ID: &str = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";

/// The schema of a request.
pub fn request() -> Value {
    let mut schema = closed(
        &["ticket", "target", "requested_by"],
        json!({
            "kind": {"enum": ["reset", null], "default": "reset"},
            "id": optional(text(255)),
            "ticket": ticket(),
            "target": target(),
            "profile": profile(),
            "steps": {"type": ["array", "null"], "minItems": 1, "maxItems": MOST, "items": {"oneOf": steps()}},
            "requested_by": text(320),
            "requested_at": time(),
            "expires_at": time(),
            "verification": list(verification()),
            "approvals": list(closed(&["by"], json!({"by": text(320), "at": time()}))),
            "keep": {"type": "array", "maxItems": 15, "items": {"enum": method_types()}},
            "dry_run": {"type": "boolean", "default": false},
            "reason": optional(text_without(CONTROL_IN_PROSE, 4000)),
        }),
    );
    let some = |name: &str, kind: &str| json!({"required": [name], "properties": {name: {"type": kind}}});
    schema["oneOf"] = json!([some("profile", "string"), some("steps", "array")]);
    schema["$schema"] = DIALECT.into();
    schema["$id"] = "urn:mfa-reset:schema:request:1".into();
    schema["title"] = "A request to reset the sign-in methods of one user".into();
    schema["description"] =
        "application/json, at most 64 KiB. Without `id` the AMQP message_id is the id. `expires_at` \
        is later than `requested_at`; without it a request counts for 24 hours."
            .into();
    schema
}

/// The names of profiles; configuration can add some.
fn profile() -> Value {
    let mut profile = optional(text(64));
    profile["examples"] = json!(BUILT_IN.map(|(name, _)| name));
    profile
}

/// The steps, each an object with one key.
fn steps() -> Vec<Value> {
    let removable = TABLE.iter().filter(|entry| entry.collection.is_some()).map(|entry| entry.name).collect::<Vec<_>>();
    let words = |most: u32| json!({"type": "array", "maxItems": most, "items": text(255)});
    let phone = json!({"type": ["string", "null"], "maxLength": 64, "pattern": PHONE});
    let address = json!({"type": "string", "maxLength": 320, "pattern": r"^\s*[^\s@]+@[^\s@]+\s*$"});
    let states = MfaState::ALL.map(MfaState::name);
    let mut selection = closed(
        &[],
        json!({
            "all": {"type": "boolean"},
            "types": {"type": "array", "maxItems": 15, "items": {"enum": removable}},
            "ids": words(50),
            "aaguids": {"type": "array", "maxItems": 50, "items": {"type": "string", "pattern": OBJECT_ID}},
            "registered_after": {"type": "string", "maxLength": 64, "format": "date-time"},
        }),
    );
    selection["minProperties"] = 1.into();
    let phones =
        json!({"mobile": phone, "alternate_mobile": phone, "office": phone, "sms_sign_in": {"type": "boolean"}});
    let step = |name: &str, inside: Value| closed(&[name], json!({name: inside}));
    vec![
        step("revoke_sessions", closed(&[], json!({}))),
        step("remove_methods", selection),
        step("set_phones", closed(&[], phones)),
        step("set_email", closed(&["address"], json!({"address": address}))),
        step("set_per_user_mfa", closed(&["state"], json!({"state": {"enum": states}}))),
        step("list_methods", closed(&[], json!({}))),
    ]
}

fn ticket() -> Value {
    let mut url = optional(text(2048));
    url["allOf"] = json!([{"pattern": "^https?://"}]);
    closed(
        &["system", "number"],
        json!({
            "system": {"type": "string", "pattern": "^[a-z0-9-]{1,32}$"},
            "number": text(255),
            "id": optional(text(255)),
            "url": url,
        }),
    )
}

fn target() -> Value {
    let mut address = optional(text(320));
    address["allOf"] = json!([{"pattern": r"^\s*[^\s@]+@[^\s@]+\s*$"}]);
    let object_id = json!({"type": ["string", "null"], "pattern": OBJECT_ID});
    let mut target = closed(&[], json!({"object_id": object_id, "upn": address, "mail": address}));
    let one = |name: &str| json!({"required": [name], "properties": {name: {"type": "string"}}});
    target["anyOf"] = json!([one("object_id"), one("upn"), one("mail")]);
    target
}

fn verification() -> Value {
    let properties = json!({
        "method": {"enum": WAYS},
        "by": optional(text(320)),
        "at": time(),
        "reference": optional(text(255)),
    });
    closed(&["method"], properties)
}

/// A string with something to read in it.
fn text(most: u32) -> Value {
    text_without(CONTROL, most)
}

fn text_without(control: &str, most: u32) -> Value {
    let pattern = format!(r"^[^{control}]*[^\s{control}][^{control}]*$");
    json!({"type": "string", "maxLength": most, "pattern": pattern})
}

fn time() -> Value {
    json!({"type": ["string", "null"], "maxLength": 64, "format": "date-time"})
}

fn list(items: Value) -> Value {
    json!({"type": ["array", "null"], "maxItems": 10, "items": items})
}

/// Null counts as absent.
fn optional(mut schema: Value) -> Value {
    schema["type"] = json!(["string", "null"]);
    schema
}

fn closed(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}
