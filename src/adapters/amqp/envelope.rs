//! What a delivery says about a request beside its body.
//!
//! Headers are as untrusted as the body: ours are believed only on copies that the broker says we published.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::Suspicion;
use super::outgoing::REASON;
use crate::domain::request::{Envelope, Lane};
use crate::trace::Context;

/// When a worker first saw the request, RFC 3339.
pub(super) const FIRST_SEEN: &str = "x-mfa-first-seen";
/// How often it was deferred.
pub(super) const ATTEMPT: &str = "x-mfa-attempt";
/// The broker user that published the original; empty if the broker knew of none.
pub(super) const PRODUCER: &str = "x-mfa-producer";
/// On a copy of what kept coming back: how often it was tried on its own.
pub(super) const DEATHS: &str = "x-mfa-deaths";
/// On such a copy: whether it is its turn.
pub(super) const TURN: &str = "x-mfa-turn";
/// Is there where a person has taken the message out of the dead letters and sent it again.
pub(super) const REPLAYED: &str = "x-mfa-replayed";
/// The W3C trace context.
pub(super) const TRACEPARENT: &str = "traceparent";
/// How often the broker delivered the message before.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";

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
        // Moved out of the dead letters by other means than ours, it is still one.
        replayed: ours && (headers.contains_key(REPLAYED) || headers.contains_key(REASON)),
        traceparent: header(headers, TRACEPARENT).filter(|text| Context::parse(text).is_some()),
    };
    if !ours && [PRODUCER, REPLAYED].iter().any(|mark| headers.contains_key(mark)) {
        // A copy, but not of ours: whoever carried it did not ask.
        envelope.producer = None;
    }
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

/// What we noted on a copy of what kept coming back. `us` is the user we log in as.
pub(super) fn suspicion(properties: &BasicProperties, us: &str) -> Option<Suspicion> {
    let ours = text(properties.user_id()).as_deref() == Some(us);
    let headers = properties.headers().as_ref().filter(|_| ours)?;
    let deaths = u32::try_from(integer(headers, DEATHS)?).ok()?;
    Some(Suspicion { deaths, turn: integer(headers, TURN) == Some(1) })
}

pub(super) fn text(property: &Option<ShortString>) -> Option<String> {
    property.as_ref().map(ToString::to_string).filter(|text| !text.is_empty())
}

/// A header of at most 255 bytes of text.
pub(super) fn header(headers: &FieldTable, name: &str) -> Option<String> {
    words(headers, name).filter(|text| text.len() <= 255)
}

/// A header that is text, in whatever type the sender's library chose.
pub(super) fn words(headers: &FieldTable, name: &str) -> Option<String> {
    let bytes = match headers.inner().get(name)? {
        value if value.as_short_string().is_some() => value.as_short_string()?.as_str().as_bytes(),
        value if value.as_long_string().is_some() => value.as_long_string()?.as_bytes(),
        value => value.as_byte_array()?.as_slice(),
    };
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A header that is a whole number, in whatever width the sender's library chose.
fn integer(headers: &FieldTable, name: &str) -> Option<i64> {
    let value: &AMQPValue = headers.inner().get(name)?;
    let small = value.as_short_short_int().map(i64::from).or(value.as_short_short_uint().map(i64::from));
    let medium = value.as_short_int().map(i64::from).or(value.as_short_uint().map(i64::from));
    let large = value.as_long_int().map(i64::from).or(value.as_long_uint().map(i64::from));
    small.or(medium).or(large).or(value.as_long_long_int())
}

#[cfg(test)]
pub(super) mod tests {
    use lapin::types::ByteArray;
    use rstest::rstest;

    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    pub fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    pub fn properties(user: Option<&str>, headers: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        let properties = BasicProperties::default().with_headers(table).with_message_id("m".into());
        user.map(ShortString::from).into_iter().fold(properties, BasicProperties::with_user_id)
    }

    fn marks() -> Vec<(&'static str, AMQPValue)> {
        let first_seen = long("2026-11-21T09:15:07Z");
        let mut marks =
            vec![(FIRST_SEEN, first_seen), (ATTEMPT, AMQPValue::LongInt(3)), (PRODUCER, long("servicenow"))];
        marks.push((REPLAYED, AMQPValue::Boolean(true)));
        marks
    }

    #[rstest]
    #[case::our_own(Some("mfa"), Some("servicenow"), 3)]
    #[case::of_a_stranger(Some("eve"), None, 0)]
    #[case::of_nobody(None, None, 0)]
    fn marks_are_believed_only_on_our_own_copies(
        #[case] user: Option<&str>,
        #[case] producer: Option<&str>,
        #[case] deferral: u32,
    ) {
        let envelope = read(&properties(user, &marks()), Lane::Batch, "mfa");
        assert_eq!((envelope.producer.as_deref(), envelope.deferral), (producer, deferral));
        assert_eq!((envelope.first_seen.is_some(), envelope.replayed), (deferral > 0, deferral > 0));
        assert_eq!((envelope.lane, envelope.message_id.as_deref()), (Lane::Batch, Some("m")));
    }

    #[test]
    fn what_nobody_vouched_for_does_not_become_ours_and_what_we_submit_is() {
        let copy = properties(Some("mfa"), &[(PRODUCER, long(""))]);
        assert_eq!(read(&copy, Lane::Tickets, "mfa").producer, None);
        assert_eq!(read(&properties(Some("mfa"), &[]), Lane::Tickets, "mfa").producer.as_deref(), Some("mfa"));
    }

    #[test]
    fn a_suspicion_is_believed_only_on_our_own_copies() {
        let noted = [(DEATHS, AMQPValue::LongLongInt(2)), (TURN, AMQPValue::LongLongInt(1))];
        let ours = suspicion(&properties(Some("mfa"), &noted), "mfa");
        assert_eq!(ours, Some(Suspicion { deaths: 2, turn: true }));
        assert_eq!(suspicion(&properties(Some("eve"), &noted), "mfa"), None);
        assert_eq!(suspicion(&properties(None, &noted), "mfa"), None);
        assert_eq!(suspicion(&properties(Some("mfa"), &marks()), "mfa"), None);
    }

    #[rstest]
    #[case::no_time(FIRST_SEEN, long("yesterday"))]
    #[case::no_number(ATTEMPT, long("3"))]
    #[case::negative(ATTEMPT, AMQPValue::LongLongInt(-1))]
    #[case::too_large(ATTEMPT, AMQPValue::LongLongInt(1 << 40))]
    #[case::too_long(TRACEPARENT, long(&TRACE.repeat(9)))]
    fn a_mark_that_cannot_be_read_is_none(#[case] name: &str, #[case] value: AMQPValue) {
        let envelope = read(&properties(Some("mfa"), &[(name, value)]), Lane::Tickets, "mfa");
        assert_eq!((envelope.first_seen, envelope.deferral, envelope.traceparent), (None, 0, None));
    }

    #[rstest]
    #[case(long(TRACE), true)]
    #[case(AMQPValue::ShortString(TRACE.into()), true)]
    #[case(AMQPValue::ByteArray(ByteArray::from(TRACE.as_bytes())), true)]
    #[case(long(&TRACE.to_uppercase()), false)]
    #[case(long("00-00000000000000000000000000000000-b7ad6b7169203331-01"), false)]
    #[case(long(&format!("{TRACE}-more")), false)]
    #[case(long(&TRACE.replacen("00", "ff", 1)), false)]
    #[case(AMQPValue::LongString(vec![0xff; 55].into()), false)]
    #[case(AMQPValue::Boolean(true), false)]
    fn a_trace_context_is_taken_from_any_kind_of_text(#[case] value: AMQPValue, #[case] taken: bool) {
        let envelope = read(&properties(None, &[(TRACEPARENT, value)]), Lane::Tickets, "mfa");
        assert_eq!(envelope.traceparent.as_deref(), taken.then_some(TRACE));
    }

    #[rstest]
    #[case(AMQPValue::ShortShortInt(7), 7)]
    #[case(AMQPValue::ShortShortUInt(7), 7)]
    #[case(AMQPValue::ShortInt(7), 7)]
    #[case(AMQPValue::ShortUInt(7), 7)]
    #[case(AMQPValue::LongInt(7), 7)]
    #[case(AMQPValue::LongUInt(7), 7)]
    #[case(AMQPValue::LongLongInt(7), 7)]
    #[case(AMQPValue::LongLongInt(-7), 0)]
    #[case(AMQPValue::Void, 0)]
    fn a_delivery_count_is_taken_from_any_kind_of_number(#[case] value: AMQPValue, #[case] count: u64) {
        assert_eq!(delivery_count(&properties(None, &[(DELIVERY_COUNT, value)])), count);
        assert_eq!(delivery_count(&BasicProperties::default()), 0);
    }
}
