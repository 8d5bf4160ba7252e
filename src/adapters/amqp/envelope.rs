//! What a delivery says about a request beside its body.
//!
//! Headers are as untrusted as the body: ours are believed only on copies that the broker says we published.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::domain::request::{Envelope, Lane};

/// When a worker first saw the request, RFC 3339.
pub(super) const FIRST_SEEN: &str = "x-mfa-first-seen";
/// How often it was deferred.
pub(super) const ATTEMPT: &str = "x-mfa-attempt";
/// The broker user that published the original; empty if the broker knew of none.
pub(super) const PRODUCER: &str = "x-mfa-producer";
/// The W3C trace context.
pub(super) const TRACEPARENT: &str = "traceparent";
/// How often the broker delivered the message before.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Reads the envelope of a delivery. `us` is the user we log in as.
pub(super) fn read(properties: &BasicProperties, lane: Lane, us: &str) -> Envelope {
    let none = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&none);
    let user = text(properties.user_id());
    let ours = user.as_deref() == Some(us);
    let mut envelope = Envelope {
        lane,
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        content_type: text(properties.content_type()),
        producer: user,
        first_seen: None,
        deferral: 0,
        traceparent: header(headers, TRACEPARENT).filter(|text| is_traceparent(text)),
    };
    if ours {
        envelope.first_seen = header(headers, FIRST_SEEN).and_then(|text| text.parse::<Timestamp>().ok());
        envelope.deferral = integer(headers, ATTEMPT).and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        if let Some(producer) = header(headers, PRODUCER) {
            envelope.producer = Some(producer).filter(|producer| !producer.is_empty());
        }
    }
    envelope
}

/// How often the broker delivered the message before.
pub(super) fn delivery_count(properties: &BasicProperties) -> u64 {
    let headers = properties.headers().as_ref();
    let count = headers.and_then(|headers| integer(headers, DELIVERY_COUNT));
    count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

fn text(property: &Option<ShortString>) -> Option<String> {
    property.as_ref().map(ToString::to_string).filter(|text| !text.is_empty())
}

/// A header of at most 255 bytes of text, in whatever type the sender's library chose.
fn header(headers: &FieldTable, name: &str) -> Option<String> {
    let bytes = match headers.inner().get(name)? {
        value if value.as_short_string().is_some() => value.as_short_string()?.as_str().as_bytes(),
        value if value.as_long_string().is_some() => value.as_long_string()?.as_bytes(),
        value => value.as_byte_array()?.as_slice(),
    };
    std::str::from_utf8(bytes).ok().filter(|text| text.len() <= 255).map(str::to_owned)
}

/// A header that is a whole number, in whatever width the sender's library chose.
fn integer(headers: &FieldTable, name: &str) -> Option<i64> {
    let value: &AMQPValue = headers.inner().get(name)?;
    let small = value.as_short_short_int().map(i64::from).or(value.as_short_short_uint().map(i64::from));
    let medium = value.as_short_int().map(i64::from).or(value.as_short_uint().map(i64::from));
    let large = value.as_long_int().map(i64::from).or(value.as_long_uint().map(i64::from));
    small.or(medium).or(large).or(value.as_long_long_int())
}

/// Whether a text is a W3C trace context of the one version there is, naming a trace and a span.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let hex = |part: Option<&str>, length: usize| {
        part.is_some_and(|part| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let id = |part: Option<&str>, length| hex(part, length) && part.is_some_and(|part| part.bytes().any(|b| b != b'0'));
    parts.next() == Some("00")
        && id(parts.next(), 32)
        && id(parts.next(), 16)
        && hex(parts.next(), 2)
        && parts.next().is_none()
}
