//! Result events: CloudEvents 1.0 in structured JSON, with ids that are the same however often they are built.

use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::outcome::{MethodResult, Outcome, OutcomeKind};
use super::reason::Reason;
use super::request::{Envelope, Key, Malformed, Request, hex};
use super::summary;

/// The namespace of event ids, drawn once.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d5d_8a0e_93b1_4f7c_a0c2_51c6_0c5e_7d13);
/// Where events come from.
const SOURCE: &str = "urn:mfa-reset:worker";

/// An event, ready to be published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The CloudEvents id; a repeat carries the same.
    pub id: Uuid,
    /// The CloudEvents type, `mfa-reset.<word>.v1`.
    pub event_type: String,
    /// The AMQP routing key, `result.<word>.<ticket system>`.
    pub routing_key: String,
    /// The request's `correlation_id`, else its `message_id`.
    pub correlation_id: Option<String>,
    /// The request's trace context.
    pub traceparent: Option<String>,
    /// The whole event.
    pub body: Value,
}

/// What a result says about the job beside its outcome.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The target, if it was resolved.
    pub user: Option<&'a str>,
    /// How many attempts it took.
    pub attempts: u32,
    /// When a worker first saw the request.
    pub started_at: Timestamp,
    /// When the outcome was known.
    pub finished_at: Timestamp,
}

/// The result of a job. `kind` keeps apart the results that one request can have: of the job itself, and of being
/// turned away at the door.
pub fn result(kind: &str, request: &Request, envelope: &Envelope, outcome: &Outcome, facts: &Facts<'_>) -> Event {
    let ticket = &request.ticket;
    let about = json!({
        "request_id": request.key.id,
        "ticket_system": ticket.system,
        "ticket_number": ticket.number,
        "ticket_id": ticket.id,
        "ticket_url": ticket.url,
        "dry_run": request.dry_run,
        "target_object_id": facts.user,
    });
    let seed = event_seed(&request.key, &request.fingerprint, kind);
    build(&seed, about, outcome, facts, envelope)
}

/// The result of a body that is not a valid request.
pub fn rejection(malformed: &Malformed, body: &[u8], envelope: &Envelope, now: Timestamp) -> Event {
    let about = json!({
        "request_id": malformed.id,
        "ticket_system": malformed.system,
        "ticket_number": malformed.number,
        "ticket_id": null,
        "ticket_url": null,
        "dry_run": false,
        "target_object_id": null,
    });
    let body = hex(digest::digest(&digest::SHA256, body).as_ref());
    let seed = format!("{body}\n{}", envelope.message_id.as_deref().unwrap_or_default());
    let outcome = Outcome::untouched(OutcomeKind::Rejected, malformed.reason, Some(malformed.flaw.to_string()));
    let facts = Facts { user: None, attempts: 0, started_at: now, finished_at: now };
    build(&seed, about, &outcome, &facts, envelope)
}

/// Tells a ticket that its request waits.
pub fn delayed(request: &Request, envelope: &Envelope, wait: Duration, cause: &str, now: Timestamp) -> Event {
    let until = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    let id = Uuid::new_v5(&NAMESPACE, event_seed(&request.key, &request.fingerprint, "delayed").as_bytes());
    let data = json!({
        "request_id": request.key.id,
        "ticket_system": request.ticket.system,
        "ticket_number": request.ticket.number,
        "ticket_id": request.ticket.id,
        "ticket_url": request.ticket.url,
        "reason_code": cause,
        "not_before": until,
        "work_note": format!("The MFA reset waits ({cause}); the next attempt comes after {until:.0}."),
    });
    let system = envelope_system(Some(&request.ticket.system));
    finish(id, "delayed", &system, &request.key.id, data, now, envelope)
}

fn event_seed(key: &Key, fingerprint: &str, kind: &str) -> String {
    format!("{}\n{}\n{fingerprint}\n{kind}", key.system, key.id)
}

fn build(seed: &str, about: Value, outcome: &Outcome, facts: &Facts<'_>, envelope: &Envelope) -> Event {
    let removed = |result: Option<MethodResult>| result == Some(MethodResult::Removed);
    let left = |result: Option<MethodResult>| !result.is_some_and(MethodResult::is_gone);
    let mut data = json!({
        "outcome": outcome.kind,
        "reason_code": outcome.reason,
        "summary": summary::summary(outcome),
        "work_note": summary::work_note(outcome),
        "user_text": summary::user_text(outcome),
        "verified": outcome.verified,
        "sessions_revoked": outcome.sessions_revoked,
        "methods_removed": outcome.methods.iter().filter(|method| removed(method.result)).count(),
        "methods_left": outcome.methods.iter().filter(|method| left(method.result)).count(),
        "attempts": facts.attempts,
        "started_at": facts.started_at,
        "finished_at": facts.finished_at,
        "methods": outcome.methods,
        "steps": outcome.steps,
    });
    let system = envelope_system(about["ticket_system"].as_str());
    let subject = about["request_id"].as_str().unwrap_or_default().to_owned();
    if let (Value::Object(data), Value::Object(about)) = (&mut data, about) {
        data.extend(about);
    }
    let id = Uuid::new_v5(&NAMESPACE, seed.as_bytes());
    finish(id, outcome.kind.name(), &system, &subject, data, facts.finished_at, envelope)
}

/// The ticket system as a word of a routing key; a malformed body may have said anything.
fn envelope_system(system: Option<&str>) -> String {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let system = system.filter(|system| (1..=32).contains(&system.len()) && system.bytes().all(plain));
    system.unwrap_or("unknown").to_owned()
}

fn finish(
    id: Uuid,
    word: &str,
    system: &str,
    subject: &str,
    data: Value,
    now: Timestamp,
    envelope: &Envelope,
) -> Event {
    let event_type = format!("mfa-reset.{word}.v1");
    let mut body = json!({
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": event_type,
        "time": now,
        "datacontenttype": "application/json",
        "data": data,
    });
    if !subject.is_empty() {
        body["subject"] = subject.into();
    }
    Event {
        id,
        event_type,
        routing_key: format!("result.{word}.{system}"),
        correlation_id: envelope.correlation_id.clone().or_else(|| envelope.message_id.clone()),
        traceparent: envelope.traceparent.clone(),
        body,
    }
}

impl Event {
    /// The outcome of a result event.
    pub fn outcome(&self) -> Option<OutcomeKind> {
        serde_json::from_value(self.body["data"]["outcome"].clone()).ok()
    }

    /// The reason of a result event.
    pub fn reason(&self) -> Option<Reason> {
        serde_json::from_value(self.body["data"]["reason_code"].clone()).ok()
    }
}
