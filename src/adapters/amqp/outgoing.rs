//! What we publish: results, deferred copies, dead letters, audit records, requests.
//!
//! Copies are built from an allow-list. Whatever else came with a message stays behind: a foreign `user_id` closes the
//! channel, and `expiration`, `CC` or `x-death` drop or multiply the copy.

use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString, ShortStringError};
use serde_json::Value;

use super::envelope::{ATTEMPT, DEATHS, FIRST_SEEN, PRODUCER, REPLAYED, TRACEPARENT, TURN};
use super::{Submission, Suspicion, word};
use crate::domain::event::Event;
use crate::domain::request::Envelope;
use crate::trace::Context;

/// Why a message is a dead letter: a reason code.
pub const REASON: &str = "x-mfa-reason";
/// Why, in words.
pub const DETAIL: &str = "x-mfa-detail";
/// The longest detail, in characters.
const MAX_DETAIL: usize = 1000;

/// A message to be published.
#[derive(Clone, PartialEq)]
pub struct Outgoing {
    exchange: &'static str,
    key: String,
    body: Vec<u8>,
    message_id: Option<String>,
    correlation_id: Option<String>,
    content_type: Option<String>,
    kind: Option<String>,
    time: Option<Timestamp>,
    headers: Vec<(&'static str, AMQPValue)>,
}

impl Outgoing {
    /// A result event, or one that tells of a delay.
    pub fn result(event: &Event) -> Self {
        let mut out = Self::new("results", event.routing_key.clone(), event.body.to_string().into_bytes());
        out.message_id = Some(event.id.to_string());
        out.correlation_id.clone_from(&event.correlation_id);
        out.content_type = Some("application/cloudevents+json; charset=utf-8".to_owned());
        out.kind = Some(event.event_type.clone());
        out.time = event.body["time"].as_str().and_then(|time| time.parse().ok());
        for (header, attribute) in [
            ("cloudEvents_id", "id"),
            ("cloudEvents_type", "type"),
            ("cloudEvents_source", "source"),
            ("cloudEvents_specversion", "specversion"),
            ("cloudEvents_subject", "subject"),
            ("cloudEvents_time", "time"),
        ] {
            out.head(header, event.body[attribute].as_str());
        }
        out.head(TRACEPARENT, event.traceparent.as_deref());
        out
    }

    /// The same within a span of ours, in place of the context that came with the request.
    pub fn within(mut self, context: Option<Context>) -> Self {
        if let Some(context) = context {
            self.headers.retain(|(name, _)| *name != TRACEPARENT);
            self.head(TRACEPARENT, Some(&context.to_string()));
        }
        self
    }

    /// A copy of a delivery for the retry queue that waits `step`.
    pub fn retry(body: &[u8], envelope: &Envelope, step: Duration, first_seen: Timestamp, deferral: u32) -> Self {
        let key = format!("{}.{}", word(envelope.lane), step.as_secs());
        Self::copy("retry", key, body, envelope, Some(first_seen), deferral)
    }

    /// The delivery as it is, once more after `step`: the broker counts anew how often it comes back, we go on counting.
    pub fn again(body: &[u8], envelope: &Envelope, step: Duration, suspicion: Option<Suspicion>) -> Self {
        let key = format!("{}.{}", word(envelope.lane), step.as_secs());
        let mut out = Self::copy("retry", key, body, envelope, envelope.first_seen, envelope.deferral);
        if let Some(Suspicion { deaths, turn }) = suspicion {
            out.headers.push((DEATHS, AMQPValue::LongLongInt(deaths.into())));
            out.headers.push((TURN, AMQPValue::LongLongInt(turn.into())));
        }
        // Its producer is still to be checked.
        if envelope.replayed {
            out.headers.push((REPLAYED, AMQPValue::Boolean(true)));
        }
        out
    }

    /// A copy of a delivery for those who look into what went wrong.
    pub fn dead_letter(
        body: &[u8],
        envelope: &Envelope,
        reason: &str,
        detail: Option<&str>,
        first_seen: Option<Timestamp>,
        attempt: u32,
    ) -> Self {
        let key = word(envelope.lane).to_owned();
        let mut out = Self::copy("dead-letters", key, body, envelope, first_seen, attempt);
        out.head(REASON, Some(reason));
        let detail = detail.map(|detail| detail.chars().take(MAX_DETAIL).collect::<String>());
        out.head(DETAIL, detail.as_deref());
        out
    }

    /// A copy of a dead letter for the lane it came through, to pass every check again.
    pub(super) fn replay(body: &[u8], envelope: &Envelope, first_seen: Option<Timestamp>) -> Self {
        let key = word(envelope.lane).to_owned();
        let mut out = Self::copy("requests", key, body, envelope, first_seen, envelope.deferral);
        out.headers.push((REPLAYED, AMQPValue::Boolean(true)));
        out
    }

    /// An audit record or checkpoint.
    pub fn audit(record: &Value) -> Self {
        let mut out = Self::new("audit", "audit".to_owned(), record.to_string().into_bytes());
        out.message_id = record.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
        out.content_type = Some("application/json".to_owned());
        out
    }

    /// A request, as a producer publishes it.
    pub(super) fn request(submission: &Submission) -> Self {
        let mut out = Self::new("requests", word(submission.lane).to_owned(), submission.body.clone());
        out.message_id.clone_from(&submission.message_id);
        out.correlation_id.clone_from(&submission.correlation_id);
        out.content_type = Some("application/json".to_owned());
        out
    }

    fn copy(
        exchange: &'static str,
        key: String,
        body: &[u8],
        envelope: &Envelope,
        first_seen: Option<Timestamp>,
        deferral: u32,
    ) -> Self {
        let mut out = Self::new(exchange, key, body.to_vec());
        out.message_id.clone_from(&envelope.message_id);
        out.correlation_id.clone_from(&envelope.correlation_id);
        out.content_type.clone_from(&envelope.content_type);
        out.head(TRACEPARENT, envelope.traceparent.as_deref());
        // Always there, or a copy of what nobody vouched for would come back as our own.
        out.head(PRODUCER, Some(envelope.producer.as_deref().unwrap_or_default()));
        out.head(FIRST_SEEN, first_seen.map(|time| time.to_string()).as_deref());
        out.headers.push((ATTEMPT, AMQPValue::LongLongInt(deferral.into())));
        out
    }

    fn new(exchange: &'static str, key: String, body: Vec<u8>) -> Self {
        Self {
            exchange,
            key,
            body,
            message_id: None,
            correlation_id: None,
            content_type: None,
            kind: None,
            time: None,
            headers: Vec::new(),
        }
    }

    fn head(&mut self, name: &'static str, value: Option<&str>) {
        self.headers.extend(value.map(|value| (name, AMQPValue::LongString(value.into()))));
    }

    /// What goes over the wire. `user` is the one we log in as; the broker refuses any other.
    pub(super) fn letter(&self, prefix: &str, user: &str) -> Result<Letter, ShortStringError> {
        let short = |text: &Option<String>| text.as_deref().map(ShortString::try_new).transpose();
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_app_id("mfa-reset".into())
            .with_user_id(ShortString::try_new(user)?);
        let message_id = short(&self.message_id)?;
        properties = message_id.clone().into_iter().fold(properties, BasicProperties::with_message_id);
        properties = short(&self.correlation_id)?.into_iter().fold(properties, BasicProperties::with_correlation_id);
        properties = short(&self.content_type)?.into_iter().fold(properties, BasicProperties::with_content_type);
        properties = short(&self.kind)?.into_iter().fold(properties, BasicProperties::with_type);
        let seconds = self.time.and_then(|time| u64::try_from(time.as_second()).ok());
        properties = seconds.into_iter().fold(properties, BasicProperties::with_timestamp);
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            headers.insert(ShortString::from(*name), value.clone());
        }
        Ok(Letter {
            exchange: ShortString::try_new(format!("{prefix}.{}", self.exchange))?,
            key: ShortString::try_new(self.key.as_str())?,
            body: self.body.clone(),
            properties: properties.with_headers(headers),
            message_id,
        })
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = formatter.debug_struct("Outgoing");
        debug.field("exchange", &self.exchange).field("key", &self.key).finish_non_exhaustive()
    }
}

/// A message with its address, ready for the wire.
pub(super) struct Letter {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
    pub(super) message_id: Option<ShortString>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::super::envelope;
    use super::*;
    use crate::domain::request::Lane;

    fn envelope() -> Envelope {
        Envelope {
            lane: Lane::Batch,
            message_id: Some("m".into()),
            correlation_id: Some("c".into()),
            content_type: Some("application/json".into()),
            producer: Some("servicenow".into()),
            first_seen: None,
            deferral: 0,
            replayed: false,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        }
    }

    fn header<'a>(letter: &'a Letter, name: &str) -> Option<std::borrow::Cow<'a, str>> {
        letter
            .properties
            .headers()
            .as_ref()?
            .inner()
            .get(name)?
            .as_long_string()
            .map(|text| String::from_utf8_lossy(text.as_bytes()))
    }

    #[test]
    fn a_copy_says_what_the_next_worker_must_know() {
        let first_seen: Timestamp = "2026-11-21T09:15:07.123456789Z".parse().unwrap();
        let copy = Outgoing::retry(b"{}", &envelope(), Duration::from_secs(60), first_seen, 2);
        let letter = copy.letter("mfa", "worker").unwrap();
        assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("mfa.retry", "batch.60"));
        let read = envelope::read(&letter.properties, Lane::Batch, "worker");
        assert_eq!(read, Envelope { first_seen: Some(first_seen), deferral: 2, ..envelope() });
        assert_eq!((letter.properties.expiration(), letter.properties.reply_to()), (&None, &None));

        let nobody = Envelope { producer: None, ..envelope() };
        let copy = Outgoing::retry(b"{}", &nobody, Duration::from_secs(60), first_seen, 1).letter("mfa", "worker");
        assert_eq!(envelope::read(&copy.unwrap().properties, Lane::Batch, "worker").producer, None);
    }

    #[test]
    fn what_comes_again_is_what_it_was() {
        let suspicion = Suspicion { deaths: 3, turn: true };
        let again = Outgoing::again(b"{}", &envelope(), Duration::from_secs(10), Some(suspicion));
        let letter = again.letter("mfa", "worker").unwrap();
        assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("mfa.retry", "batch.10"));
        // No first-seen mark, which would let a producer in that may not ask.
        assert_eq!(envelope::read(&letter.properties, Lane::Batch, "worker"), envelope());
        assert_eq!(envelope::suspicion(&letter.properties, "worker"), Some(suspicion));
        let first_seen = Some(Timestamp::from_second(1_800_000_000).unwrap());
        for replayed in [false, true] {
            let seen = Envelope { first_seen, deferral: 7, replayed, ..envelope() };
            let again = Outgoing::again(b"{}", &seen, Duration::from_secs(10), None).letter("mfa", "worker").unwrap();
            assert_eq!(envelope::read(&again.properties, Lane::Batch, "worker"), seen);
            assert_eq!(envelope::suspicion(&again.properties, "worker"), None);
        }
    }

    #[test]
    fn a_replay_keeps_its_times_and_its_producer_and_says_what_it_is() {
        let first_seen: Timestamp = "2026-11-21T09:15:07.123456789Z".parse().unwrap();
        let dead = Envelope { first_seen: Some(first_seen), deferral: 2, ..envelope() };
        let letter = Outgoing::replay(b"{}", &dead, dead.first_seen).letter("mfa", "worker").unwrap();
        assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("mfa.requests", "batch"));
        let read = envelope::read(&letter.properties, Lane::Batch, "worker");
        assert_eq!(read, Envelope { replayed: true, ..dead });
        assert!(!read.is_deferred_copy());

        let of_nobody = Envelope { producer: None, ..envelope() };
        let letter = Outgoing::replay(b"{}", &of_nobody, None).letter("mfa", "worker").unwrap();
        let read = envelope::read(&letter.properties, Lane::Batch, "worker");
        assert_eq!((read.producer, read.first_seen), (None, None));
    }

    #[test]
    fn a_dead_letter_has_a_reason_and_a_bounded_detail() {
        let dead = Outgoing::dead_letter(b"x", &envelope(), "malformed", Some(&"ä".repeat(9000)), None, 3);
        let letter = dead.letter("mfa", "worker").unwrap();
        assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("mfa.dead-letters", "batch"));
        assert_eq!(header(&letter, REASON).as_deref(), Some("malformed"));
        assert_eq!(header(&letter, DETAIL).map(|detail| detail.chars().count()), Some(MAX_DETAIL));
        assert_eq!(header(&letter, FIRST_SEEN), None);
    }

    #[test]
    fn an_event_is_known_without_reading_its_body() {
        let mut event = Event {
            id: Uuid::nil(),
            event_type: "mfa-reset.failed.v1".into(),
            routing_key: "result.failed.jira".into(),
            correlation_id: Some("c".into()),
            traceparent: None,
            body: json!({"id": Uuid::nil(), "time": "2026-11-21T09:15:07.5Z", "source": "urn:x", "data": {}}),
        };
        let letter = Outgoing::result(&event).letter("mfa", "worker").unwrap();
        assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("mfa.results", "result.failed.jira"));
        assert_eq!(letter.properties.timestamp(), &Some(1_795_252_507));
        assert_eq!(letter.properties.kind().as_ref().map(ShortString::as_str), Some("mfa-reset.failed.v1"));
        assert_eq!(letter.properties.delivery_mode(), &Some(2));
        assert_eq!(header(&letter, "cloudEvents_source").as_deref(), Some("urn:x"));
        assert_eq!(header(&letter, "cloudEvents_subject"), None);
        event.routing_key = "x".repeat(256);
        assert!(Outgoing::result(&event).letter("mfa", "worker").is_err());
    }
}
