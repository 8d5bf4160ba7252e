//! The schema of an audit record: what OCSF 1.8 asks of an Account Change, and our place in the chain.

use serde_json::{Value, json};

use super::{DIALECT, count, method, method_types, object, or_null, reasons, step, text_or_null};
use crate::domain::guard::Rule;
use crate::domain::outcome::{MethodResult, OutcomeKind};
use crate::domain::request::Lane;

const DIGEST: &str = "^[0-9a-f]{64}$";

/// The schema of an audit record: the beginning of a chain, an intent, a conclusion, or a dead letter that was settled.
pub fn audit() -> Value {
    let mut schema = object(json!({
        "category_uid": {"const": 3},
        "class_uid": {"const": 3001},
        "activity_id": {"enum": [11, 99]},
        "activity_name": {"type": "string"},
        "type_uid": {"enum": [300_111, 300_199]},
        "severity_id": {"enum": [1, 3, 4]},
        "status_id": {"enum": [0, 1, 2, 99]},
        "status": {"enum": ["Unknown", "Success", "Failure", "Partial"]},
        "time": {"type": "integer", "description": "milliseconds since 1970"},
        "message": {"type": "string"},
        "metadata": metadata(),
        "actor": {"type": "object", "required": ["app_name"]},
        "user": object(json!({"uid": {"type": "string"}})),
        "unmapped": {"type": "object"},
        "attestation": attestation(),
    }));
    schema["$schema"] = DIALECT.into();
    schema["$id"] = "urn:mfa-reset:schema:audit:1".into();
    schema["title"] = "An audit record".into();
    schema["description"] =
        "OCSF 1.8 Account Change, chained: attestation.fingerprint.value is SHA-256 over the RFC 8785 form \
        of the record without attestation.fingerprint."
            .into();
    let event = |code: &str, then: Value| json!({"if": {"properties": {"metadata": {"properties": {"event_code": {"const": code}}}}}, "then": then});
    let unmapped = |fields: Value| json!({"properties": {"unmapped": fields}});
    schema["allOf"] = json!([
        event(
            "chain_start",
            unmapped(object(json!({"instance": {"type": "string"}, "alone": {"type": "boolean"}, "heads": heads()})))
        ),
        event("intent", reset()),
        event("conclusion", reset()),
        event("conclusion", conclusion()),
        event("dead_letter_replayed", settled()),
        event("dead_letter_discarded", settled()),
    ]);
    schema
}

fn metadata() -> Value {
    let product = ["name", "vendor_name", "version"];
    object(json!({
        "version": {"const": "1.8.0"},
        "log_name": {"const": "audit"},
        "event_code": {
            "enum": ["chain_start", "intent", "conclusion", "dead_letter_replayed", "dead_letter_discarded"],
        },
        "product": object(product.map(|name| (name.to_owned(), json!({"type": "string"}))).into_iter().collect()),
        "uid": {"type": "string", "description": "chain:sequence"},
        "sequence": {"type": "integer", "minimum": 1},
    }))
}

fn attestation() -> Value {
    object(json!({
        "chain_uid": {"type": "string", "format": "uuid"},
        "prev_event": object(json!({"fingerprint": object(json!({"value": {"type": "string", "pattern": "^([0-9a-f]{64})?$"}}))})),
        "fingerprint": object(json!({
            "algorithm_id": {"const": 3},
            "algorithm": {"const": "SHA-256"},
            "encoding_id": {"const": 1},
            "serialization_id": {"const": 2},
            "value": {"type": "string", "pattern": DIGEST},
        })),
    }))
}

fn heads() -> Value {
    let head = json!({"chain": {"type": "string"}, "seq": count(), "digest": {"type": "string"}});
    json!({"type": "array", "items": object(head)})
}

/// What intents and conclusions share.
fn reset() -> Value {
    let factor = object(json!({
        "factor_type_id": {"type": "integer"},
        "factor_type": {"type": "string"},
        "device": object(json!({"uid": text_or_null()})),
        "status": or_null(MethodResult::ALL.map(MethodResult::name).to_vec()),
    }));
    let unmapped = object(json!({
        "ticket": {"type": "object", "required": ["system", "number", "id", "url"]},
        "profile": text_or_null(),
        "keep": {"type": "array", "items": {"enum": method_types()}},
        "dry_run": {"type": "boolean"},
        "reason": text_or_null(),
        "approvals": {"type": "array", "items": {"type": "object", "required": ["by", "at"]}},
        "verification": {"type": "array", "items": {"type": "object", "required": ["method", "by", "at", "reference"]}},
        "producer": text_or_null(),
        "methods": {"type": "array", "items": method()},
        "steps": {"type": "array", "items": step()},
        "client_request_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}},
    }));
    let fields = json!({
        "actor": actor(),
        "auth_factors": {"type": "array", "items": factor},
        "unmapped": unmapped,
        "metadata": object(json!({"correlation_uid": {"type": "string", "description": "ticket system/request id"}})),
    });
    object(fields)
}

/// Who asked, through which application, and what the guard said.
fn actor() -> Value {
    let policy = object(json!({
        "uid": {"type": "string", "pattern": DIGEST},
        "name": {"enum": Rule::ALL.map(Rule::name)},
    }));
    object(json!({
        "user": object(json!({"uid": {"type": "string"}})),
        "app_name": {"type": "string"},
        "app_uid": {"type": "string"},
        "authorizations": {
            "type": "array",
            "maxItems": 1,
            "items": object(json!({"decision": {"enum": ["allow", "deny"]}, "policy": policy})),
        },
    }))
}

/// A dead letter that a person replays or discards.
fn settled() -> Value {
    let unmapped = object(json!({
        "ticket": object(json!({"system": text_or_null(), "number": text_or_null()})),
        "note": text_or_null(),
        "reason_code": {"type": "string"},
        "message_id": text_or_null(),
        "producer": text_or_null(),
        "lane": {"enum": Lane::ALL.map(Lane::name)},
        "body_sha256": {"type": "string", "pattern": DIGEST},
    }));
    let actor = object(json!({"user": object(json!({"uid": {"type": "string"}})), "app_name": {"type": "string"}}));
    object(json!({"actor": actor, "unmapped": unmapped}))
}

fn conclusion() -> Value {
    let unmapped = object(json!({
        "outcome": {"enum": OutcomeKind::ALL.map(OutcomeKind::name)},
        "verified": {"type": "boolean"},
        "sessions_revoked": {"type": "boolean"},
    }));
    object(json!({"status_code": {"enum": reasons()}, "status_detail": text_or_null(), "unmapped": unmapped}))
}
