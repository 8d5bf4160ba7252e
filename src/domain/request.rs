//! Bytes in, a valid [`Request`] or a [`Malformed`] out.
//!
//! The body is untrusted: every field is typed and bounded, unknown fields and duplicate keys are refused.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields;
use super::json::{self, Flaw};
use super::method::MethodType;
use super::profile::Profiles;
use super::reason::Reason;
use super::task::{GRANTING, Task};

/// The largest body accepted, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// How long a request without `expires_at` counts.
const DEFAULT_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Which queue a request came through: a person waits for a ticket, nobody for one of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Single tickets.
    Tickets,
    /// Mass resets.
    Batch,
}

impl Lane {
    /// Both lanes, the urgent one first.
    pub const ALL: [Self; 2] = [Self::Tickets, Self::Batch];

    /// The word in queue names and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tickets => "tickets",
            Self::Batch => "batch",
        }
    }
}

/// What a delivery says about a request beside its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The lane it came through.
    pub lane: Lane,
    /// The AMQP `message_id`.
    pub message_id: Option<String>,
    /// The AMQP `correlation_id`, echoed in the result.
    pub correlation_id: Option<String>,
    /// The AMQP `content_type`.
    pub content_type: Option<String>,
    /// The broker user that published the original, checked by the broker.
    pub producer: Option<String>,
    /// When a worker first saw it, if this is a worker's own deferred copy.
    pub first_seen: Option<Timestamp>,
    /// How often it was deferred, if this is a worker's own deferred copy.
    pub deferral: u32,
    /// Whether a person took it out of the dead letters and sent it again.
    pub replayed: bool,
    /// The W3C trace context.
    pub traceparent: Option<String>,
}

impl Envelope {
    /// A delivery that says nothing but its lane.
    pub const fn bare(lane: Lane) -> Self {
        Self {
            lane,
            message_id: None,
            correlation_id: None,
            content_type: None,
            producer: None,
            first_seen: None,
            deferral: 0,
            replayed: false,
            traceparent: None,
        }
    }

    /// Whether it comes from a retry queue: then it was let in before, and a newer copy may be on its way. A replay is
    /// judged like a request that comes from its producer again.
    pub const fn is_deferred_copy(&self) -> bool {
        self.first_seen.is_some() && !self.replayed
    }
}

/// What makes a request one request: its id within its ticket system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The ticket system.
    pub system: String,
    /// The id of the request.
    pub id: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.system, self.id)
    }
}

/// The ticket that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The ticket system, such as `servicenow`.
    pub system: String,
    /// The number people know.
    pub number: String,
    /// The id machines know.
    pub id: Option<String>,
    /// Where people find it.
    pub url: Option<String>,
}

/// Whom to reset. Names are lower case, as Entra compares them.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The object id.
    pub object_id: Option<String>,
    /// The user principal name.
    pub upn: Option<String>,
    /// A mail address.
    pub mail: Option<String>,
}

impl Target {
    /// The user with this object id.
    pub fn of_object(id: &str) -> Self {
        Self { object_id: Some(id.to_owned()), upn: None, mail: None }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Target").field("object_id", &self.object_id).finish_non_exhaustive()
    }
}

/// How the requester made sure who the person is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// One of the known ways.
    pub method: String,
    /// Who did it.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// Where the evidence is.
    pub reference: Option<String>,
}

/// Who approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Who.
    pub by: String,
    /// When.
    pub at: Option<Timestamp>,
}

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What makes it one request.
    pub key: Key,
    /// Tells a resend from a reuse of the key: SHA-256 in hex over what was asked, never over times or raw bytes.
    pub fingerprint: String,
    /// The ticket that asks.
    pub ticket: Ticket,
    /// Whom to reset.
    pub target: Target,
    /// The profile that was named, if it was.
    pub profile: Option<String>,
    /// What to do, step by step; those of the profile, if one was named.
    pub tasks: Vec<Task>,
    /// Types to leave alone.
    pub keep: BTreeSet<MethodType>,
    /// Whether only the plan is wanted.
    pub dry_run: bool,
    /// Who asks.
    pub requested_by: String,
    /// Since when.
    pub requested_at: Option<Timestamp>,
    /// Until when it counts.
    pub expires_at: Option<Timestamp>,
    /// How the person's identity was verified.
    pub verification: Vec<Verification>,
    /// Who approved.
    pub approvals: Vec<Approval>,
    /// Why, in the requester's words.
    pub reason: Option<String>,
}

/// A body that is not a valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong, and where.
    pub flaw: Flaw,
    /// [`Reason::Malformed`] or [`Reason::UnsupportedKind`].
    pub reason: Reason,
    /// The id, if one could be read.
    pub id: Option<String>,
    /// The ticket system, if one could be read.
    pub system: Option<String>,
    /// The ticket number, if one could be read.
    pub number: Option<String>,
}

impl Request {
    /// Reads a request from a body and what came with it.
    pub fn parse(body: &[u8], envelope: &Envelope, profiles: &Profiles) -> Result<Self, Box<Malformed>> {
        let content_type = envelope.content_type.as_deref().unwrap_or("application/json");
        let json_type = content_type.split(';').next().unwrap_or_default().trim();
        let parsed = match body.len() {
            _ if !json_type.eq_ignore_ascii_case("application/json") => {
                Err(Flaw::new("", "the content type application/json is expected"))
            }
            0..=MAX_BODY => json::parse(body),
            _ => Err(Flaw::new("", format!("at most {MAX_BODY} bytes are accepted"))),
        };
        let value = parsed.map_err(|flaw| malformed(flaw, Reason::Malformed, &Value::Null, envelope))?;
        let known = |flaw, reason| malformed(flaw, reason, &value, envelope);
        if let Some(flaw) = fields::not_built(&value) {
            return Err(known(flaw, Reason::UnsupportedKind));
        }
        fields::read(&value, envelope, profiles).map_err(|flaw| known(flaw, Reason::Malformed))
    }

    /// The name of a step that gives access and that the policy does not enable.
    pub fn not_enabled(&self, enabled: &BTreeSet<String>) -> Option<&'static str> {
        let names = self.tasks.iter().map(Task::name);
        names.into_iter().find(|name| GRANTING.contains(name) && !enabled.contains(*name))
    }

    /// Whether it only asks what is there.
    pub fn only_lists(&self) -> bool {
        self.tasks.iter().all(|task| *task == Task::ListMethods)
    }

    /// What is worth remembering where the request is not at hand any more: nobody's name.
    pub fn to_remember(&self, envelope: &Envelope) -> Value {
        let correlation_id = envelope.correlation_id.as_ref().or(envelope.message_id.as_ref());
        json!([self.ticket, self.profile, self.keep, self.dry_run, envelope.lane, correlation_id, envelope.traceparent])
    }

    /// A request, and what came with it, as far as it was remembered. Who asked stands in the audit record of the
    /// intent; whom, in the plan.
    pub fn remembered(key: Key, fingerprint: String, memory: Value) -> Result<(Self, Envelope), serde_json::Error> {
        let (ticket, profile, keep, dry_run, lane, correlation_id, traceparent) = serde_json::from_value(memory)?;
        let request = Self {
            key,
            fingerprint,
            ticket,
            target: Target { object_id: None, upn: None, mail: None },
            profile,
            tasks: Vec::new(),
            keep,
            dry_run,
            requested_by: String::new(),
            requested_at: None,
            expires_at: None,
            verification: Vec::new(),
            approvals: Vec::new(),
            reason: None,
        };
        Ok((request, Envelope { correlation_id, traceparent, ..Envelope::bare(lane) }))
    }

    /// Until when the request counts, if a worker first saw it at `first_seen`. A `requested_at` in the future does
    /// not lengthen its life.
    pub fn expiry(&self, first_seen: Timestamp) -> Timestamp {
        let since = self.requested_at.map_or(first_seen, |at| at.min(first_seen));
        self.expires_at.unwrap_or_else(|| since.saturating_add(DEFAULT_LIFE).unwrap_or(Timestamp::MAX))
    }
}

fn malformed(flaw: Flaw, reason: Reason, value: &Value, envelope: &Envelope) -> Box<Malformed> {
    let short = |pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str).filter(|text| text.chars().count() <= 255);
        text.map(str::to_owned)
    };
    let id = short("/id").or_else(|| envelope.message_id.clone());
    Box::new(Malformed { flaw, reason, id, system: short("/ticket/system"), number: short("/ticket/number") })
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope() -> Envelope {
        Envelope::bare(Lane::Tickets)
    }

    fn valid() -> Value {
        json!({
            "kind": "reset", "id": "INC1:1", "ticket": {"system": "servicenow", "number": "INC1", "id": "a9", "url": "https://x"},
            "target": {"object_id": "2F1A9B0C-0000-4000-8000-000000000001", "upn": "Ada@Contoso.com"},
            "profile": "re-register", "requested_by": "sam@contoso.com",
            "requested_at": "2026-11-21T09:15:07Z", "expires_at": "2026-11-21T13:15:07+02:00",
            "verification": [{"method": "video_call", "by": "sam", "at": "2026-11-21T09:10:00Z", "reference": "rec-77"}],
            "approvals": [{"by": "lead", "at": "2026-11-21T09:14:00Z"}], "keep": ["fido2"], "dry_run": false,
            "reason": "phone stolen"
        })
    }

    fn check(change: impl FnOnce(&mut Value), pointer: &str) {
        let mut body = valid();
        change(&mut body);
        let flaw =
            Request::parse(body.to_string().as_bytes(), &envelope(), &Profiles::default()).expect_err(pointer).flaw;
        assert_eq!(flaw.pointer, pointer, "{}", flaw.reason);
    }

    #[test]
    fn a_valid_request_is_read_and_names_are_lower_case() {
        let request = Request::parse(valid().to_string().as_bytes(), &envelope(), &Profiles::default()).unwrap();
        assert_eq!(request.target.upn.as_deref(), Some("ada@contoso.com"));
        assert_eq!(request.key.to_string(), "servicenow/INC1:1");
        assert!(!format!("{request:?}").contains("ada@contoso"), "a target does not print its names");
    }

    #[test]
    fn every_flaw_names_its_place() {
        check(|body| body["extra"] = 1.into(), "/extra");
        check(|body| body["ticket"]["a/b"] = 1.into(), "/ticket/a~1b");
        check(|body| body["ticket"]["system"] = "Jira".into(), "/ticket/system");
        check(|body| body["ticket"]["number"] = Value::Null, "/ticket/number");
        check(|body| body["ticket"]["url"] = "javascript:1".into(), "/ticket/url");
        check(|body| body["target"] = json!({}), "/target");
        check(|body| body["target"]["object_id"] = "1".into(), "/target/object_id");
        check(|body| body["target"]["upn"] = "ada contoso@x".into(), "/target/upn");
        check(|body| body["profile"] = "everything".into(), "/profile");
        check(|body| body["keep"] = json!(["fido2", "fido3"]), "/keep/1");
        check(|body| body["dry_run"] = "false".into(), "/dry_run");
        check(|body| body["dry_run"] = Value::Null, "/dry_run");
        check(|body| body["keep"] = Value::Null, "/keep");
        check(|body| body["requested_by"] = "sam\nWARN forged".into(), "/requested_by");
        check(|body| body["requested_by"] = "x".repeat(321).into(), "/requested_by");
        check(|body| body["requested_at"] = "yesterday".into(), "/requested_at");
        check(|body| body["expires_at"] = "2026-11-21T09:15:07Z".into(), "/expires_at");
        check(|body| body["verification"][0]["method"] = "trust me".into(), "/verification/0/method");
        check(|body| body["approvals"][0] = json!({"at": "2026-11-21T09:14:00Z"}), "/approvals/0/by");
        check(|body| body["reason"] = "a\u{7}".into(), "/reason");
        check(|body| body["id"] = Value::Null, "/id");
        check(|body| body["kind"] = "batch".into(), "/kind");
        check(|body| body["steps"] = json!([{"list_methods": {}}]), "/steps");
        check(|body| body["profile"] = Value::Null, "/profile");
        let email = json!([{"set_email": {"address": "a@b.test"}}]);
        check(|body| (body["profile"], body["steps"], body["keep"]) = (Value::Null, email, json!(["email"])), "/keep");
        check(|body| *body = json!([]), "");
    }

    #[test]
    fn duplicate_keys_large_bodies_and_other_content_types_are_refused() {
        let flaw = |body: &[u8], envelope: &Envelope| {
            Request::parse(body, envelope, &Profiles::default()).expect_err("refused").flaw
        };
        assert_eq!(flaw(br#"{"ticket":{"number":"1","number":"2"}}"#, &envelope()).pointer, "/ticket/number");
        assert_eq!(flaw(&vec![b' '; MAX_BODY + 1], &envelope()).pointer, "");
        let xml = Envelope { content_type: Some("text/xml".into()), ..envelope() };
        assert_eq!(flaw(valid().to_string().as_bytes(), &xml).reason, "the content type application/json is expected");
    }

    #[test]
    fn the_fingerprint_covers_what_is_asked_and_not_when_or_how_it_is_written() {
        let print = |change: fn(&mut Value)| {
            let mut body = valid();
            change(&mut body);
            Request::parse(body.to_string().as_bytes(), &envelope(), &Profiles::default()).unwrap().fingerprint
        };
        let original = print(|_| ());
        assert_eq!(print(|body| body["requested_at"] = "2026-11-20T09:15:07Z".into()), original);
        assert_eq!(print(|body| body["target"]["upn"] = "ADA@contoso.com".into()), original);
        assert_ne!(print(|body| body["profile"] = "all".into()), original);
        assert_ne!(print(|body| body["keep"] = json!([])), original);
        assert_ne!(print(|body| body["requested_by"] = "eve".into()), original);
    }

    #[test]
    fn a_requested_at_in_the_future_does_not_lengthen_life() {
        let mut body = valid();
        body["expires_at"] = Value::Null;
        body["requested_at"] = "2099-01-01T00:00:00Z".into();
        let request = Request::parse(body.to_string().as_bytes(), &envelope(), &Profiles::default()).unwrap();
        let seen = Timestamp::UNIX_EPOCH;
        assert_eq!(request.expiry(seen), seen + SignedDuration::from_hours(24));
    }

    #[test]
    fn what_is_remembered_names_nobody_and_is_enough_for_a_result() {
        let request = Request::parse(valid().to_string().as_bytes(), &envelope(), &Profiles::default()).unwrap();
        let asked = Envelope { message_id: Some("m".into()), lane: Lane::Batch, ..envelope() };
        let memory = request.to_remember(&asked);
        assert!(!memory.to_string().contains("contoso.com") && !memory.to_string().contains("2f1a9b0c"));
        let (again, envelope) = Request::remembered(request.key.clone(), "print".into(), memory).unwrap();
        assert_eq!((&again.ticket, &again.profile, &again.keep), (&request.ticket, &request.profile, &request.keep));
        assert_eq!((envelope.correlation_id.as_deref(), envelope.lane), (Some("m"), Lane::Batch));
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&body, &envelope(), &Profiles::default());
        }

        #[test]
        fn no_change_of_one_byte_panics(at in 0_usize..400, byte in any::<u8>()) {
            let mut body = valid().to_string().into_bytes();
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
            let _ = Request::parse(&body, &envelope(), &Profiles::default());
        }
    }
}
