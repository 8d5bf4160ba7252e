//! Bytes in, a valid [`Request`] or a [`Malformed`] out.
//!
//! The body is untrusted: every field is typed and bounded, unknown fields and duplicate keys are refused.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::json::{self, Fields, Flaw};
use super::method::MethodType;
use super::profile::Profile;
use super::reason::Reason;

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
    /// The W3C trace context.
    pub traceparent: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// What to do.
    pub profile: Profile,
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
    pub fn parse(body: &[u8], envelope: &Envelope) -> Result<Self, Box<Malformed>> {
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
        if let Some(flaw) = not_built(&value) {
            return Err(known(flaw, Reason::UnsupportedKind));
        }
        read(&value, envelope).map_err(|flaw| known(flaw, Reason::Malformed))
    }

    /// Until when the request counts, if a worker first saw it at `first_seen`. A `requested_at` in the future does
    /// not lengthen its life.
    pub fn expiry(&self, first_seen: Timestamp) -> Timestamp {
        let since = self.requested_at.map_or(first_seen, |at| at.min(first_seen));
        self.expires_at.unwrap_or_else(|| since.saturating_add(DEFAULT_LIFE).unwrap_or(Timestamp::MAX))
    }
}

fn not_built(value: &Value) -> Option<Flaw> {
    let kind = value.get("kind").and_then(Value::as_str);
    if matches!(kind, Some("batch" | "cancel" | "approve")) {
        return Some(Flaw::new("/kind", "this kind is not built yet"));
    }
    value.get("steps").filter(|steps| !steps.is_null()).map(|_| Flaw::new("/steps", "steps are not built yet"))
}

fn malformed(flaw: Flaw, reason: Reason, value: &Value, envelope: &Envelope) -> Box<Malformed> {
    let short = |pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str).filter(|text| text.chars().count() <= 255);
        text.map(str::to_owned)
    };
    let id = short("/id").or_else(|| envelope.message_id.clone());
    Box::new(Malformed { flaw, reason, id, system: short("/ticket/system"), number: short("/ticket/number") })
}

fn read(value: &Value, envelope: &Envelope) -> Result<Request, Flaw> {
    let mut fields = Fields::open(value, String::new())?;
    if fields.text("kind", 32)?.is_some_and(|kind| kind != "reset") {
        return Err(Flaw::new("/kind", "reset is expected"));
    }
    let id = fields.text("id", 255)?.or_else(|| envelope.message_id.clone());
    let id = id.ok_or_else(|| Flaw::new("/id", "an id is required, here or as message_id"))?;
    let ticket = ticket(fields.object("ticket")?)?;
    let target = target(fields.object("target")?)?;
    let profile = fields.required_text("profile", 64)?;
    let profile = Profile::from_name(&profile).ok_or_else(|| Flaw::new("/profile", "unknown profile"))?;
    fields.has("steps");
    let keep = fields.list("keep", 15)?.into_iter().map(kept_type).collect::<Result<BTreeSet<_>, _>>()?;
    let dry_run = fields.flag("dry_run")?;
    let requested_by = fields.required_text("requested_by", 320)?;
    let (requested_at, expires_at) = (fields.time("requested_at")?, fields.time("expires_at")?);
    if requested_at.zip(expires_at).is_some_and(|(from, until)| until <= from) {
        return Err(Flaw::new("/expires_at", "a time after requested_at is expected"));
    }
    let verification = fields.list("verification", 10)?.into_iter().map(verified).collect::<Result<_, _>>()?;
    let approvals = fields.list("approvals", 10)?.into_iter().map(approved).collect::<Result<_, _>>()?;
    let reason = fields.text("reason", 4000)?;
    fields.close()?;
    let key = Key { system: ticket.system.clone(), id };
    let fingerprint = fingerprint(&json!([target, profile, keep, dry_run, requested_by, ticket]));
    Ok(Request {
        key,
        fingerprint,
        ticket,
        target,
        profile,
        keep,
        dry_run,
        requested_by,
        requested_at,
        expires_at,
        verification,
        approvals,
        reason,
    })
}

fn ticket(fields: Option<Fields<'_>>) -> Result<Ticket, Flaw> {
    let mut fields = fields.ok_or_else(|| Flaw::new("/ticket", "the field is required"))?;
    let system = fields.required_text("system", 32)?;
    if !system.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return Err(Flaw::new("/ticket/system", "only a-z, 0-9 and - are accepted"));
    }
    let ticket = Ticket {
        system,
        number: fields.required_text("number", 255)?,
        id: fields.text("id", 255)?,
        url: fields.text("url", 2048)?,
    };
    if ticket.url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        return Err(Flaw::new("/ticket/url", "an http or https address is expected"));
    }
    fields.close()?;
    Ok(ticket)
}

fn target(fields: Option<Fields<'_>>) -> Result<Target, Flaw> {
    let mut fields = fields.ok_or_else(|| Flaw::new("/target", "the field is required"))?;
    let object_id = fields.text("object_id", 64)?.map(|id| id.to_ascii_lowercase());
    if object_id.as_ref().is_some_and(|id| uuid::Uuid::try_parse(id).is_err() || id.len() != 36) {
        return Err(Flaw::new(
            "/target/object_id",
            "an object id such as 00000000-0000-0000-0000-000000000000 is expected",
        ));
    }
    let upn = address(&mut fields, "upn")?;
    let mail = address(&mut fields, "mail")?;
    fields.close()?;
    if object_id.is_none() && upn.is_none() && mail.is_none() {
        return Err(Flaw::new("/target", "one of object_id, upn and mail is required"));
    }
    Ok(Target { object_id, upn, mail })
}

fn address(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<String>, Flaw> {
    let address = fields.text(name, 320)?.map(|address| address.trim().to_lowercase());
    let valid = |address: &String| {
        let parts = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        parts && address.matches('@').count() == 1 && !address.chars().any(|letter| letter.is_whitespace())
    };
    match address {
        Some(address) if !valid(&address) => {
            Err(Flaw::new(fields.pointer(name), "a name such as ada@contoso.com is expected"))
        }
        other => Ok(other),
    }
}

fn kept_type((value, pointer): (&Value, String)) -> Result<MethodType, Flaw> {
    let found = value.as_str().and_then(MethodType::from_name);
    found.ok_or_else(|| Flaw::new(pointer, "unknown type of method"))
}

fn verified((value, pointer): (&Value, String)) -> Result<Verification, Flaw> {
    const WAYS: [&str; 6] = ["video_call", "in_person", "verified_id", "push", "manager", "callback"];
    let mut fields = Fields::open(value, pointer)?;
    let method = fields.required_text("method", 32)?;
    if !WAYS.contains(&method.as_str()) {
        return Err(Flaw::new(fields.pointer("method"), format!("one of {} is expected", WAYS.join(", "))));
    }
    let (by, at) = (fields.text("by", 320)?, fields.time("at")?);
    let reference = fields.text("reference", 255)?;
    fields.close()?;
    Ok(Verification { method, by, at, reference })
}

fn approved((value, pointer): (&Value, String)) -> Result<Approval, Flaw> {
    let mut fields = Fields::open(value, pointer)?;
    let approval = Approval { by: fields.required_text("by", 320)?, at: fields.time("at")? };
    fields.close()?;
    Ok(approval)
}

fn fingerprint(asked: &Value) -> String {
    hex(digest::digest(&digest::SHA256, asked.to_string().as_bytes()).as_ref())
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
