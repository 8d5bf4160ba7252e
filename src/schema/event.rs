//! The schemas of the events: results, and the word that a request waits.

use serde_json::{Map, Value, json};

use super::{DIALECT, count, method, object, reasons, step, text_or_null, time};
use crate::domain::outcome::OutcomeKind;
use crate::domain::reason;
use crate::domain::retry::Cause;

/// The schema of a result event.
pub fn result() -> Value {
    let kinds = OutcomeKind::ALL.map(|kind| format!("mfa-reset.{}.v1", kind.name()));
    let mut fields = ticket();
    fields.extend(fields_of(json!({
        "outcome": {"enum": OutcomeKind::ALL.map(OutcomeKind::name)},
        "reason_code": {"enum": reasons()},
        "summary": words(),
        "work_note": words(),
        "user_text": words(),
        "verified": {"type": "boolean", "description": "a list proved that every planned method is gone"},
        "sessions_revoked": {"type": "boolean"},
        "methods_removed": count(),
        "methods_left": count(),
        "attempts": count(),
        "started_at": time(),
        "finished_at": time(),
        "dry_run": {"type": "boolean"},
        "target_object_id": text_or_null(),
        "methods": {"type": "array", "items": method()},
        "steps": {"type": "array", "items": step()},
    })));
    let mut data = object(Value::Object(fields));
    data["anyOf"] = pairs();
    cloud_event("result", "How a request ended", json!({"enum": kinds}), data)
}

/// The schema of the event that tells a ticket that its request waits.
pub fn delayed() -> Value {
    let mut fields = ticket();
    fields.extend(fields_of(json!({
        "reason_code": {"enum": Cause::ALL.map(Cause::name)},
        "not_before": time(),
        "work_note": words(),
    })));
    let data = object(Value::Object(fields));
    cloud_event("delayed", "A request waits", json!({"const": "mfa-reset.delayed.v1"}), data)
}

fn cloud_event(name: &str, title: &str, kind: Value, data: Value) -> Value {
    let mut schema = object(json!({
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "format": "uuid", "description": "a repeat of the event carries the same"},
        "source": {"type": "string", "format": "uri-reference"},
        "type": kind,
        "time": time(),
        "datacontenttype": {"const": "application/json"},
        "data": data,
    }));
    schema["properties"]["subject"] =
        json!({"type": "string", "minLength": 1, "description": "the id of the request, if it is known"});
    schema["$schema"] = DIALECT.into();
    schema["$id"] = format!("urn:mfa-reset:schema:{name}:1").into();
    schema["title"] = title.into();
    schema["description"] =
        "CloudEvents 1.0, structured JSON. What is unknown is null; ignore fields you do not know.".into();
    schema
}

/// What every event says about the ticket; a malformed request may not have told.
fn ticket() -> Map<String, Value> {
    ["request_id", "ticket_system", "ticket_number", "ticket_id", "ticket_url"]
        .map(|name| (name.to_owned(), text_or_null()))
        .into_iter()
        .collect()
}

/// Which reasons an outcome comes with.
fn pairs() -> Value {
    let reasons_of = |kind| {
        let entries = reason::TABLE.iter().filter(move |entry| entry.outcomes.contains(&kind));
        entries.map(|entry| entry.code).collect::<Vec<_>>()
    };
    let kinds = OutcomeKind::ALL.into_iter().map(|kind| (kind.name(), reasons_of(kind)));
    kinds
        .filter(|(_, reasons)| !reasons.is_empty())
        .map(|(kind, reasons)| json!({"properties": {"outcome": {"const": kind}, "reason_code": {"enum": reasons}}}))
        .collect()
}

fn words() -> Value {
    json!({"type": "string", "maxLength": 4000})
}

fn fields_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
