//! Requests, outcomes and the messages made from them, the same at every run.

use std::time::Duration;

use jiff::Timestamp;
use mfa_reset::domain::audit::{self, Subject};
use mfa_reset::domain::event::{self, Event, Facts};
use mfa_reset::domain::guard::Decision;
use mfa_reset::domain::method::MethodType;
use mfa_reset::domain::outcome::{MethodReport, MethodResult, Outcome, OutcomeKind, StepReport};
use mfa_reset::domain::profile::Profiles;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::{Envelope, Lane, Request};
use mfa_reset::domain::retry::Cause;
use mfa_reset::domain::rules::Policy;
use serde_json::Value;
use uuid::Uuid;

pub const FULL: &str = include_str!("full.json");
pub const MINIMAL: &str = include_str!("minimal.json");
pub const NULLS: &str = include_str!("nulls.json");
const USER: &str = "2f1a9b0c-0000-4000-8000-000000000001";

/// The full request with `value` at `pointer`; null takes a field away.
pub fn changed(pointer: &str, value: Value) -> Value {
    let mut body: Value = serde_json::from_str(FULL).unwrap();
    let Some((parent, field)) = pointer.rsplit_once('/') else { return value };
    let parent = body.pointer_mut(parent).unwrap();
    match parent.as_array_mut() {
        Some(items) => items[field.parse::<usize>().unwrap()] = value,
        None if value.is_null() => drop(parent.as_object_mut().unwrap().remove(field)),
        None => parent[field.replace("~1", "/")] = value,
    }
    body
}

pub fn envelope() -> Envelope {
    Envelope {
        lane: Lane::Tickets,
        message_id: None,
        correlation_id: Some("a9e3".into()),
        content_type: Some("application/json".into()),
        producer: Some("itsm".into()),
        first_seen: None,
        deferral: 0,
        replayed: false,
        traceparent: None,
    }
}

pub fn full() -> Request {
    Request::parse(FULL.as_bytes(), &envelope(), &Profiles::default()).unwrap()
}

pub fn now() -> Timestamp {
    "2026-11-21T09:16:00Z".parse().unwrap()
}

pub fn report(method_type: MethodType, result: MethodResult, reason_code: Option<Reason>) -> MethodReport {
    let id = Some(format!("id-of-{}", method_type.name()));
    MethodReport { method_type, id, result: Some(result), reason_code, registered_at: None }
}

pub fn outcome() -> Outcome {
    Outcome {
        kind: OutcomeKind::Partial,
        reason: Reason::BlockedDefault,
        detail: None,
        verified: false,
        sessions_revoked: true,
        methods: vec![
            report(MethodType::MicrosoftAuthenticator, MethodResult::Removed, None),
            report(MethodType::PhoneMobile, MethodResult::BlockedDefault, None),
            report(MethodType::Fido2, MethodResult::Kept, None),
            report(MethodType::HardwareOath, MethodResult::Unsupported, Some(Reason::UnsupportedMethod)),
        ],
        steps: vec![
            StepReport {
                step: "set_phones".into(),
                method_type: Some(MethodType::PhoneOffice),
                value: None,
                result: Some(MethodResult::Unchanged),
                reason_code: None,
            },
            StepReport {
                step: "revoke_sessions".into(),
                method_type: None,
                value: None,
                result: Some(MethodResult::Done),
                reason_code: None,
            },
        ],
    }
}

pub fn result_event(outcome: &Outcome) -> Event {
    let started_at = now() - jiff::SignedDuration::from_secs(20);
    let facts = Facts { user: Some(USER), attempts: 2, started_at, finished_at: now() };
    event::result("job", &full(), &envelope(), outcome, &facts)
}

pub fn rejection(body: &str) -> Event {
    let malformed = Request::parse(body.as_bytes(), &envelope(), &Profiles::default()).unwrap_err();
    event::rejection(&malformed, body.as_bytes(), &envelope(), now())
}

pub fn delayed(cause: Cause) -> Event {
    event::delayed(&full(), &envelope(), std::time::Duration::from_secs(300), cause.name(), now())
}

pub fn policy() -> Policy {
    Policy {
        producers: Some(["itsm".to_owned()].into()),
        protected_users: [].into(),
        protected_groups: [].into(),
        harmless_roles: [].into(),
        cool_down: Duration::from_secs(3600),
        max_resets_per_hour: 600,
        enabled_steps: [].into(),
    }
}

pub const CALLS: [Uuid; 1] = [Uuid::from_u128(42)];

pub fn subject<'a>(request: &'a Request, policy: &'a Policy) -> Subject<'a> {
    let producer = Some("itsm");
    Subject { request, producer, user: Some(USER), decision: Some(Decision::Allow), policy, app: "app", calls: &CALLS }
}

pub fn intent() -> Value {
    let planned = MethodReport { result: None, ..report(MethodType::PhoneMobile, MethodResult::Removed, None) };
    let planned = Outcome { methods: vec![planned], ..Outcome::untouched(OutcomeKind::Planned, Reason::DryRun, None) };
    audit::intent(&subject(&full(), &policy()), &planned, now())
}

pub fn conclusion(outcome: &Outcome) -> Value {
    audit::conclusion(&subject(&full(), &policy()), outcome, now())
}

pub fn settled(event_code: &str) -> Value {
    let envelope = Envelope { message_id: Some("m-1".into()), ..envelope() };
    let request = [Some("INC0012345:1"), Some("servicenow"), Some("INC0012345")];
    let settled = audit::Settled {
        event_code,
        by: "sam@contoso.test",
        note: Some("fixed"),
        reason: "delivery_limit",
        envelope: &envelope,
        request,
        body: FULL.as_bytes(),
    };
    audit::settled(&settled, now())
}

/// The version changes with every release, and the digest with it.
pub fn of_any_version(mut record: Value) -> Value {
    record["metadata"]["product"]["version"] = "VERSION".into();
    record["attestation"]["fingerprint"]["value"] = "DIGEST".into();
    if record["attestation"]["prev_event"]["fingerprint"]["value"] != "" {
        record["attestation"]["prev_event"]["fingerprint"]["value"] = "DIGEST".into();
    }
    record
}
