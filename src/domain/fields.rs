//! Reads a request field by field: each typed, bounded and validated.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::json::{Fields, Flaw};
use super::method::MethodType;
use super::profile::Profiles;
use super::request::{Approval, Envelope, Key, Request, Target, Ticket, Verification, hex};
use super::steps;
use super::task::Task;

/// What is a valid wish, but not built yet.
pub fn not_built(value: &Value) -> Option<Flaw> {
    let kind = value.get("kind").and_then(Value::as_str);
    matches!(kind, Some("batch" | "cancel" | "approve")).then(|| Flaw::new("/kind", "this kind is not built yet"))
}

/// Reads every field of a request.
pub fn read(value: &Value, envelope: &Envelope, profiles: &Profiles) -> Result<Request, Flaw> {
    let mut fields = Fields::open(value, String::new())?;
    if fields.text("kind", 32)?.is_some_and(|kind| kind != "reset") {
        return Err(Flaw::new("/kind", "reset is expected"));
    }
    let id = fields.text("id", 255)?.or_else(|| envelope.message_id.clone().filter(|id| is_printable(id)));
    let id = id.ok_or_else(|| Flaw::new("/id", "an id is required, here or as message_id"))?;
    let ticket = ticket(fields.object("ticket")?)?;
    let target = target(fields.object("target")?)?;
    let (profile, tasks) = wish(&mut fields, profiles)?;
    fields.refuse_null("keep").and_then(|()| fields.refuse_null("dry_run"))?;
    let keep = kept(&mut fields, &tasks)?;
    let dry_run = fields.flag("dry_run")?;
    let requested_by = fields.required_text("requested_by", 320)?;
    let (requested_at, expires_at) = (fields.time("requested_at")?, fields.time("expires_at")?);
    if requested_at.zip(expires_at).is_some_and(|(from, until)| until <= from) {
        return Err(Flaw::new("/expires_at", "a time after requested_at is expected"));
    }
    let verification = fields.list("verification", 10)?.into_iter().map(verified).collect::<Result<_, _>>()?;
    let approvals = fields.list("approvals", 10)?.into_iter().map(approved).collect::<Result<_, _>>()?;
    let reason = fields.prose("reason", 4000)?;
    fields.close()?;
    let key = Key { system: ticket.system.clone(), id };
    let wish = profile.as_ref().map_or_else(|| json!(tasks), |name| json!(name));
    let fingerprint = fingerprint(&json!([target, wish, keep, dry_run, requested_by, ticket]));
    Ok(Request {
        key,
        fingerprint,
        ticket,
        target,
        profile,
        tasks,
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

/// What is asked for: a profile by its name, or steps.
fn wish(fields: &mut Fields<'_>, profiles: &Profiles) -> Result<(Option<String>, Vec<Task>), Flaw> {
    let profile = fields.text("profile", 64)?;
    let said = fields.has("steps");
    let steps = fields.list("steps", steps::MOST)?;
    match profile {
        Some(_) if said => Err(Flaw::new("/steps", "either profile or steps is expected, not both")),
        None if said => Ok((None, steps::read(steps, "/steps")?)),
        None => Err(Flaw::new("/profile", "one of profile and steps is required")),
        Some(name) => match profiles.tasks(&name) {
            Some(tasks) => Ok((Some(name), tasks.to_vec())),
            None => Err(Flaw::new("/profile", "unknown profile")),
        },
    }
}

fn is_printable(id: &str) -> bool {
    !id.trim().is_empty() && id.chars().count() <= 255 && !id.chars().any(char::is_control)
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

/// An address, in lower case.
pub fn address(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<String>, Flaw> {
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

/// The types to leave alone; none that a step sets.
fn kept(fields: &mut Fields<'_>, tasks: &[Task]) -> Result<BTreeSet<MethodType>, Flaw> {
    let keep = fields.list("keep", 15)?.into_iter().map(kept_type).collect::<Result<BTreeSet<_>, _>>()?;
    if keep.iter().any(|kind| tasks.iter().any(|task| task.value(*kind).is_some())) {
        return Err(Flaw::new("/keep", "what a step sets cannot be kept"));
    }
    Ok(keep)
}

fn kept_type((value, pointer): (&Value, String)) -> Result<MethodType, Flaw> {
    let found = value.as_str().and_then(MethodType::from_name);
    found.ok_or_else(|| Flaw::new(pointer, "unknown type of method"))
}

/// The ways in which a requester makes sure who a person is.
pub const WAYS: [&str; 6] = ["video_call", "in_person", "verified_id", "push", "manager", "callback"];

fn verified((value, pointer): (&Value, String)) -> Result<Verification, Flaw> {
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
