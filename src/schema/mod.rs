//! JSON Schemas (2020-12) of what goes in and what comes out. Lists of words come from the domain's tables, so that
//! they cannot differ from the code.
//!
//! What goes in is closed: an unknown field is refused. What comes out is open: a consumer ignores what it does not
//! know.

mod audit;
mod event;
mod request;

use serde_json::{Value, json};

pub use audit::audit;
pub use event::{delayed, result};
pub use request::request;

use crate::domain::method;
use crate::domain::outcome::MethodResult;
use crate::domain::reason;
use crate::domain::summary::{CHANGE_DEFAULT, SMS_SIGN_IN};
use crate::domain::task::STEPS;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A string, or null.
fn text_or_null() -> Value {
    json!({"type": ["string", "null"]})
}

/// A point in time.
fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// A number of things.
fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

/// Types of methods.
fn method_types() -> Vec<&'static str> {
    method::TABLE.iter().map(|entry| entry.name).collect()
}

/// Reason codes.
fn reasons() -> Vec<&'static str> {
    reason::TABLE.iter().map(|entry| entry.code).collect()
}

/// A list of words that may be null.
fn or_null(words: Vec<&str>) -> Value {
    let words: Vec<Value> = words.into_iter().map(Value::from).chain([Value::Null]).collect();
    json!({"enum": words})
}

/// An object in which every one of these fields is there.
fn object(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().map(|fields| fields.keys().collect()).unwrap_or_default();
    json!({"type": "object", "required": required, "properties": properties})
}

/// One method of a result.
fn method() -> Value {
    object(json!({
        "type": {"enum": method_types()},
        "id": {"type": ["string", "null"], "description": "null for a type whose methods could not be listed"},
        "result": or_null(MethodResult::ALL.map(MethodResult::name).to_vec()),
        "reason_code": or_null(reasons()),
        "registered_at": or_null_time(),
    }))
}

/// One step of a result that removes nothing.
fn step() -> Value {
    let results = ["done", "unchanged", "replaced_since", "ambiguous", "forbidden", "failed", "blocked_default"];
    let names = [&STEPS[..], &[CHANGE_DEFAULT, SMS_SIGN_IN]].concat();
    object(json!({
        "step": {"enum": names},
        "type": or_null(method_types()),
        "value": {"type": ["string", "null"], "description": "what was to be set; never a number or address"},
        "result": or_null(results.to_vec()),
        "reason_code": or_null(reasons()),
    }))
}

fn or_null_time() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}
