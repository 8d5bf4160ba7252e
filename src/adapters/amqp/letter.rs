//! A dead letter: why it died, whose word for it counts, and a name that it keeps however often it is looked at.

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

use super::envelope::{self, DELIVERY_COUNT, PRODUCER, header, text, words};
use super::outgoing::{DETAIL, REASON};
use super::word;
use crate::domain::profile::Profiles;
use crate::domain::reason::Reason;
use crate::domain::request::{Envelope, Lane, MAX_BODY, Request, hex};

/// What the broker counts up when a message is looked at.
const COUNTERS: [&str; 2] = [DELIVERY_COUNT, "x-acquired-count"];
/// The reason of a letter that nobody gave one.
const UNROUTABLE: &str = "unroutable";

/// A dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Names it: SHA-256 in hex over all of it that looking does not change. Exact copies share it.
    pub id: String,
    /// Why it died, as the message says: a producer may have written this.
    pub reason: String,
    /// The same in words.
    pub detail: Option<String>,
    /// When the broker gave it up, if it was the broker; without fractions of a second.
    pub died_at: Option<Timestamp>,
    /// What a worker would believe of it: marks of ours only if the broker says that we put it there.
    pub envelope: Envelope,
    /// The id of the request, if one can be read.
    pub request_id: Option<String>,
    /// The ticket system, if one can be read.
    pub ticket_system: Option<String>,
    /// The ticket number, if one can be read.
    pub ticket_number: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// Routing key, properties and headers, as JSON.
    pub message: Value,
    /// Why it cannot be replayed, if so.
    pub obstacle: Option<&'static str>,
}

impl Letter {
    /// Reads a message from the dead letters. `us` is the user we log in as, which is to be the worker's.
    pub(super) fn read(key: &str, properties: &BasicProperties, body: Vec<u8>, us: &str) -> Self {
        let none = FieldTable::default();
        let headers = properties.headers().as_ref().unwrap_or(&none);
        // The first word is all of the key that counts.
        let batch = key.split('.').next() == Some(word(Lane::Batch));
        let envelope = envelope::read(properties, if batch { Lane::Batch } else { Lane::Tickets }, us);
        let death = last_death(headers);
        let why = death.and_then(|death| header(death, "reason"));
        let reason = header(headers, REASON).or(why).unwrap_or_else(|| UNROUTABLE.to_owned());
        // Where a profile is not known here, the ids are read all the same.
        let (request_id, ticket_system, ticket_number) = match Request::parse(&body, &envelope, &Profiles::default()) {
            Ok(request) => (Some(request.key.id), Some(request.ticket.system), Some(request.ticket.number)),
            Err(malformed) => (malformed.id, malformed.system, malformed.number),
        };
        let message = json!({"routing_key": key, "properties": shown(properties), "headers": table(headers)});
        Self {
            id: name(&message, &body),
            obstacle: obstacle(properties, headers, &reason, body.len(), us),
            reason,
            detail: words(headers, DETAIL),
            died_at: death.and_then(|death| time(death.inner().get("time")?)),
            envelope,
            request_id,
            ticket_system,
            ticket_number,
            body,
            message,
        }
    }

    /// Since when it is known: when it died, else when a worker first saw it.
    pub fn since(&self) -> Option<Timestamp> {
        self.died_at.or(self.envelope.first_seen)
    }

    /// When the request was first seen, as far as that is known. What the broker gave up without a word from a worker
    /// was seen before it died, and that is the latest that can be true.
    pub(super) fn first_seen(&self, now: Timestamp) -> Option<Timestamp> {
        let dead_by =
            self.died_at.map(|died| died.saturating_add(SignedDuration::from_secs(1)).unwrap_or(now).min(now));
        self.envelope.first_seen.or(dead_by)
    }
}

/// A copy would say too little or something else than what was asked.
fn obstacle(
    properties: &BasicProperties,
    headers: &FieldTable,
    reason: &str,
    length: usize,
    us: &str,
) -> Option<&'static str> {
    match properties.user_id().as_ref().map(|user| user.as_str()) {
        Some(user) if user != us && [REASON, PRODUCER].iter().any(|mark| headers.contains_key(mark)) => Some(
            "another broker user than that of broker.url put it there, so its marks count for nothing: use the \
             configuration of the worker that did",
        ),
        Some(user) if user == us && reason == Reason::Malformed.code() && length >= MAX_BODY => {
            Some("its body was too long, and only the beginning is kept")
        }
        Some(_) | None => None,
    }
}

/// What the broker wrote when it last gave the message up.
fn last_death(headers: &FieldTable) -> Option<&FieldTable> {
    headers.inner().get("x-death")?.as_array()?.as_slice().first()?.as_field_table()
}

fn time(value: &AMQPValue) -> Option<Timestamp> {
    value.as_timestamp().and_then(|seconds| Timestamp::from_second(seconds.try_into().ok()?).ok())
}

fn name(message: &Value, body: &[u8]) -> String {
    let mut message = message.clone();
    if let Some(headers) = message["headers"].as_object_mut() {
        COUNTERS.iter().for_each(|counter| drop(headers.remove(*counter)));
    }
    let all = [message.to_string().as_bytes(), b"\n", body].concat();
    hex(digest::digest(&digest::SHA256, &all).as_ref())
}

fn shown(properties: &BasicProperties) -> Value {
    let texts = [
        ("message_id", properties.message_id()),
        ("correlation_id", properties.correlation_id()),
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
        ("type", properties.kind()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("cluster_id", properties.cluster_id()),
    ];
    let numbers = [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", *properties.timestamp()),
    ];
    let texts = texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value)?.into())));
    let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Value::Object(texts.chain(numbers).collect())
}

fn table(table: &FieldTable) -> Value {
    Value::Object(table.into_iter().map(|(name, value)| (name.to_string(), plain(value))).collect::<Map<_, _>>())
}

/// A value as JSON; bytes that are no text in hex.
fn plain(value: &AMQPValue) -> Value {
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"hex": hex(bytes)}),
    };
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        AMQPValue::Timestamp(seconds) => (*seconds).into(),
        AMQPValue::Float(number) => (*number).into(),
        AMQPValue::Double(number) => (*number).into(),
        AMQPValue::DecimalValue(number) => json!({"scale": number.scale, "value": number.value}),
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::LongString(text) => bytes(text.as_bytes()),
        AMQPValue::ByteArray(array) => bytes(array.as_slice()),
        AMQPValue::FieldArray(items) => items.as_slice().iter().map(plain).collect(),
        AMQPValue::FieldTable(inner) => table(inner),
        AMQPValue::Void => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::envelope::tests::{long, properties};
    use super::*;

    const DIED: u64 = 1_795_252_507;

    fn death(reason: &str) -> (&'static str, AMQPValue) {
        let mut death = FieldTable::default();
        death.insert("reason".into(), long(reason));
        death.insert("time".into(), AMQPValue::Timestamp(DIED));
        ("x-death", AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)])))
    }

    fn letter(user: Option<&str>, headers: &[(&str, AMQPValue)], body: &[u8]) -> Letter {
        Letter::read("batch.wave1", &properties(user, headers), body.to_vec(), "mfa")
    }

    fn marks() -> Vec<(&'static str, AMQPValue)> {
        vec![
            (REASON, long("id_reused")),
            (DETAIL, long("in words")),
            (envelope::FIRST_SEEN, long("2026-11-21T09:15:07.25Z")),
            (envelope::ATTEMPT, AMQPValue::LongInt(3)),
            (PRODUCER, long("servicenow")),
        ]
    }

    #[test]
    fn looking_does_not_change_its_name_and_everything_else_does() {
        let names = [
            letter(None, &[], b"{}"),
            letter(Some("eve"), &[], b"{}"),
            letter(None, &[("a", long("1"))], b"{}"),
            letter(None, &[("a", AMQPValue::LongString(vec![0xff].into()))], b"{}"),
            letter(None, &[], b"{} "),
            Letter::read("batch", &properties(None, &[]), b"{}".to_vec(), "mfa"),
        ]
        .map(|letter| letter.id);
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        for counter in COUNTERS {
            assert_eq!(letter(None, &[(counter, AMQPValue::LongLongInt(7))], b"{}").id, names[0], "{counter}");
        }
    }

    #[test]
    fn the_reason_is_ours_else_the_brokers_else_unroutable() {
        let both = [marks(), vec![death("delivery_limit")]].concat();
        assert_eq!(letter(Some("mfa"), &both, b"").reason, "id_reused");
        assert_eq!(letter(None, &[death("delivery_limit")], b"").reason, "delivery_limit");
        assert_eq!(letter(None, &[("x-death", long("odd"))], b"").reason, UNROUTABLE);
        assert_eq!(letter(None, &[(REASON, AMQPValue::Boolean(true))], b"").reason, UNROUTABLE);
    }

    #[test]
    fn only_what_we_wrote_is_believed_and_times_are_never_made_up() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ours = letter(Some("mfa"), &marks(), b"{}");
        assert_eq!(ours.first_seen(now), Some("2026-11-21T09:15:07.25Z".parse().unwrap()));
        assert_eq!((ours.envelope.producer.as_deref(), ours.envelope.deferral), (Some("servicenow"), 3));
        assert_eq!((ours.obstacle, ours.envelope.lane), (None, Lane::Batch));

        let eves = letter(Some("eve"), &marks(), b"{}");
        assert_eq!((eves.first_seen(now), eves.envelope.producer.as_deref()), (None, None));
        assert!(eves.obstacle.is_some(), "another worker's letter, or a forged one");
        let deferred = letter(Some("eve"), &[(PRODUCER, long("servicenow")), death("delivery_limit")], b"{}");
        assert!(deferred.obstacle.is_some(), "another worker's deferred copy: its producer would be taken for eve");
        assert_eq!(letter(Some("eve"), &[death("delivery_limit")], b"{}").obstacle, None);
        let nobodys = letter(None, &[marks(), vec![death("delivery_limit")]].concat(), b"{}");
        assert_eq!((nobodys.obstacle, nobodys.envelope.producer.as_deref()), (None, None));
        // The broker cuts the fraction of the second off.
        let died = Timestamp::from_second(DIED.cast_signed()).unwrap();
        assert_eq!(nobodys.first_seen(now), Some(died + SignedDuration::from_secs(1)));
        assert_eq!(nobodys.first_seen(died), Some(died), "not in the future");
        assert_eq!(nobodys.since(), Some(died));
        assert_eq!(letter(None, &[], b"{}").first_seen(now), None);
    }

    #[test]
    fn a_body_that_was_cut_is_not_what_was_asked() {
        let marks = [(REASON, long("malformed"))];
        assert!(letter(Some("mfa"), &marks, &vec![b' '; MAX_BODY]).obstacle.is_some());
        assert_eq!(letter(Some("mfa"), &marks, &vec![b' '; MAX_BODY - 1]).obstacle, None);
        assert_eq!(letter(Some("mfa"), &[death("delivery_limit")], &vec![b' '; MAX_BODY]).obstacle, None);
    }

    #[test]
    fn the_ticket_is_read_as_far_as_the_body_goes() {
        let ticket = |body: &str| {
            let letter = letter(None, &[], body.as_bytes());
            (letter.request_id, letter.ticket_system, letter.ticket_number)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(ticket("{"), (some("m"), None, None));
        let partly = r#"{"id":"1","ticket":{"system":"jira","number":"A-1"},"extra":1}"#;
        assert_eq!(ticket(partly), (some("1"), some("jira"), some("A-1")));
    }
}
