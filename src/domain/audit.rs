//! Audit records: OCSF 1.8 Account Change, MFA Factor Disable (class 3001, activity 11), and how they are chained.
//!
//! A record is written before the first call that changes anything and again when the job ends. The only people it
//! names are those who asked and approved; the target is an object id.

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::guard::Decision;
use super::method::MethodType;
use super::outcome::{MethodReport, MethodResult, Outcome, OutcomeKind};
use super::request::{Envelope, Request, hex};
use super::rules::Policy;

/// What a record is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The request.
    pub request: &'a Request,
    /// The broker user that published the request, checked by the broker.
    pub producer: Option<&'a str>,
    /// The target, if it was resolved.
    pub user: Option<&'a str>,
    /// What the guard said, if it was asked.
    pub decision: Option<Decision>,
    /// The policy it went by.
    pub policy: &'a Policy,
    /// The application id that Graph knows the worker by.
    pub app: &'a str,
    /// The `client-request-id` of the calls made since the last record.
    pub calls: &'a [Uuid],
}

/// The record before the first call that changes anything.
pub fn intent(subject: &Subject<'_>, planned: &Outcome, now: Timestamp) -> Value {
    let mut record = base(subject, "intent", planned, now);
    record["status_id"] = 0.into();
    record["status"] = "Unknown".into();
    record["severity_id"] = 1.into();
    record["message"] = "an MFA reset begins".into();
    record
}

/// The record of how a job ended.
pub fn conclusion(subject: &Subject<'_>, outcome: &Outcome, now: Timestamp) -> Value {
    let mut record = base(subject, "conclusion", outcome, now);
    let (status_id, status, severity) = match outcome.kind {
        OutcomeKind::Succeeded | OutcomeKind::NothingToDo | OutcomeKind::Planned => (1, "Success", 1),
        OutcomeKind::Partial => (99, "Partial", 3),
        OutcomeKind::Denied | OutcomeKind::Expired | OutcomeKind::Cancelled => (2, "Failure", 1),
        OutcomeKind::Failed | OutcomeKind::Rejected => (2, "Failure", 3),
    };
    record["status_id"] = status_id.into();
    record["status"] = status.into();
    record["severity_id"] = severity.into();
    record["status_code"] = outcome.reason.code().into();
    record["status_detail"] = outcome.detail.clone().into();
    record["message"] = format!("an MFA reset ended: {}", outcome.kind.name()).into();
    record["unmapped"]["outcome"] = outcome.kind.name().into();
    record["unmapped"]["verified"] = outcome.verified.into();
    record["unmapped"]["sessions_revoked"] = outcome.sessions_revoked.into();
    record
}

fn base(subject: &Subject<'_>, phase: &str, outcome: &Outcome, now: Timestamp) -> Value {
    let (request, Outcome { methods, steps, .. }) = (subject.request, outcome);
    // Where only the memory of a request is left, its intent tells who asked.
    let requester =
        Some(&request.requested_by).filter(|name| !name.is_empty()).map_or("see the intent", String::as_str);
    let decision = subject.decision.map(|decision| match decision {
        Decision::Allow => json!({"decision": "allow", "policy": {"uid": subject.policy.digest(), "name": "none"}}),
        Decision::Deny(rule) => {
            json!({"decision": "deny", "policy": {"uid": subject.policy.digest(), "name": rule.name()}})
        }
    });
    json!({
        "category_uid": 3, "category_name": "Identity & Access Management",
        "class_uid": 3001, "class_name": "Account Change",
        "activity_id": 11, "activity_name": "MFA Factor Disable", "type_uid": 300_111,
        "time": now.as_millisecond(),
        "metadata": {
            "version": "1.8.0", "log_name": "audit", "event_code": phase,
            "product": {"name": "mfa-reset", "vendor_name": "mfa-reset", "version": env!("CARGO_PKG_VERSION")},
            "correlation_uid": request.key.to_string(),
        },
        "actor": {
            "user": {"uid": requester},
            "app_name": "mfa-reset", "app_uid": subject.app,
            "authorizations": decision.into_iter().collect::<Vec<_>>(),
        },
        "user": {"uid": subject.user.unwrap_or("unresolved")},
        "auth_factors": methods.iter().map(factor).collect::<Vec<_>>(),
        "unmapped": {
            "ticket": request.ticket, "profile": request.profile, "keep": request.keep, "dry_run": request.dry_run,
            "reason": request.reason, "approvals": request.approvals, "verification": request.verification,
            "producer": subject.producer, "methods": methods, "steps": steps, "client_request_ids": subject.calls,
        },
    })
}

/// A dead letter that a person settles, and who.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    /// `dead_letter_replayed` or `dead_letter_discarded`.
    pub event_code: &'a str,
    /// Who does it, as they say.
    pub by: &'a str,
    /// What they note.
    pub note: Option<&'a str>,
    /// Why the letter died, as it says.
    pub reason: &'a str,
    /// What came with the letter.
    pub envelope: &'a Envelope,
    /// The id of the request, the ticket system and the ticket number, as far as they can be read.
    pub request: [Option<&'a str>; 3],
    /// The body; the record holds its digest.
    pub body: &'a [u8],
}

/// The record before a dead letter is replayed or discarded.
pub fn settled(letter: &Settled<'_>, now: Timestamp) -> Value {
    let ([id, system, number], envelope) = (letter.request, letter.envelope);
    let key = system.zip(id).map(|(system, id)| format!("{system}/{id}"));
    json!({
        "category_uid": 3, "category_name": "Identity & Access Management",
        "class_uid": 3001, "class_name": "Account Change",
        "activity_id": 99, "activity_name": "Dead Letter Settled", "type_uid": 300_199,
        "severity_id": 1, "status_id": 0, "status": "Unknown", "time": now.as_millisecond(),
        "message": "a person settles a dead letter",
        "metadata": {
            "version": "1.8.0", "log_name": "audit", "event_code": letter.event_code,
            "product": {"name": "mfa-reset", "vendor_name": "mfa-reset", "version": env!("CARGO_PKG_VERSION")},
            "correlation_uid": key,
        },
        "actor": {"user": {"uid": letter.by}, "app_name": "mfa-reset"},
        "user": {"uid": "unresolved"},
        "unmapped": {
            "ticket": {"system": system, "number": number}, "note": letter.note,
            "reason_code": letter.reason, "message_id": envelope.message_id, "producer": envelope.producer,
            "lane": envelope.lane, "body_sha256": hex(digest::digest(&digest::SHA256, letter.body).as_ref()),
        },
    })
}

/// OCSF's factor types; the numbers are its own.
fn factor(method: &MethodReport) -> Value {
    let (id, name) = match method.method_type {
        MethodType::PhoneMobile => (1, "SMS"),
        MethodType::PhoneAlternateMobile | MethodType::PhoneOffice => (3, "Phone Call"),
        MethodType::WindowsHello | MethodType::PlatformCredential => (4, "Biometric"),
        MethodType::MicrosoftAuthenticator => (5, "Push Notification"),
        MethodType::HardwareOath => (6, "Hardware Token"),
        MethodType::SoftwareOath => (7, "OTP"),
        MethodType::Email => (8, "Email"),
        MethodType::Fido2 => (10, "WebAuthn"),
        MethodType::Password => (11, "Password"),
        MethodType::TemporaryAccessPass | MethodType::QrCodePin | MethodType::External | MethodType::Unknown => {
            (99, "Other")
        }
    };
    let result = method.result.map(MethodResult::name);
    json!({"factor_type_id": id, "factor_type": name, "device": {"uid": method.id}, "status": result})
}

/// Where the next record of a chain goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The chain: one per process start.
    pub chain: Uuid,
    /// The sequence number of the last record; the first is 1.
    pub seq: u64,
    /// The digest of the last record; empty before the first.
    pub digest: String,
}

/// Puts a record at the end of a chain: fills in its place, seals it, and moves the head.
///
/// The digest is SHA-256 over the canonical form (RFC 8785) of the whole record but the digest itself; it covers the
/// digest of the record before.
pub fn seal(head: &mut Head, mut record: Value) -> Result<Value, serde_json::Error> {
    head.seq += 1;
    record["metadata"]["uid"] = format!("{}:{}", head.chain, head.seq).into();
    record["metadata"]["sequence"] = head.seq.into();
    record["attestation"] = json!({"chain_uid": head.chain, "prev_event": {"fingerprint": {"value": head.digest}}});
    head.digest = digest_of(&record)?;
    record["attestation"]["fingerprint"] = json!({
        "algorithm_id": 3, "algorithm": "SHA-256", "encoding_id": 1, "serialization_id": 2, "value": head.digest,
    });
    Ok(record)
}

/// The digest of a record without its own fingerprint.
pub fn digest_of(record: &Value) -> Result<String, serde_json::Error> {
    let mut bare = record.clone();
    if let Some(attestation) = bare.get_mut("attestation").and_then(Value::as_object_mut) {
        attestation.remove("fingerprint");
    }
    let canonical = serde_json_canonicalizer::to_vec(&bare)?;
    Ok(hex(digest::digest(&digest::SHA256, &canonical).as_ref()))
}

/// The first record of a chain: names the instance and the heads of all chains known to the ledger, so that a chain
/// that vanishes is missed. With `alone` they all have ended there; else other processes go on with theirs.
pub fn birth(instance: &str, heads: &[Head], alone: bool, now: Timestamp) -> Value {
    let heads: Vec<Value> =
        heads.iter().map(|head| json!({"chain": head.chain, "seq": head.seq, "digest": head.digest})).collect();
    json!({
        "category_uid": 3, "class_uid": 3001, "activity_id": 99, "activity_name": "Chain Start", "type_uid": 300_199,
        "severity_id": 1, "status_id": 1, "status": "Success", "time": now.as_millisecond(),
        "message": "an audit chain begins",
        "metadata": {
            "version": "1.8.0", "log_name": "audit", "event_code": "chain_start",
            "product": {"name": "mfa-reset", "vendor_name": "mfa-reset", "version": env!("CARGO_PKG_VERSION")},
        },
        "actor": {"app_name": "mfa-reset"},
        "user": {"uid": instance},
        "unmapped": {"instance": instance, "alone": alone, "heads": heads},
    })
}
