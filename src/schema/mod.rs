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
use crate::domain::reason;

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
