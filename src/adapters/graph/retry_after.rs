//! How long an answer asks to wait: the `Retry-After` header, in every form that is seen. Pure.
//!
//! The wait is never shorter than asked: fractions are rounded up, of two headers the longer counts, and a date counts
//! from the answer's own `Date`, so that a clock that is wrong shortens nothing. No wait, or one that cannot be read, is
//! `None` or zero, and then the gate waits for a time of its own.
//!
//! The retry handlers that Microsoft ships with its SDKs (kiota) are the measure of what happens without this:
//!
//! | asked for | .NET | Go | Python | TypeScript | Java |
//! |---|---|---|---|---|---|
//! | `2.128` | a flat 3 s | 2 s: too early | an exception | | |
//! | `300` | 180 s: too early | waits | gives up | about 180 s: too early | 180 s at most |
//! | `0`, or a date that is past | | at once | its own back-off for `0` | at once | within 10 ms |
//! | a date | the seconds of the difference without its minutes, by the local clock | | | | |
//! | garbage | 3 s | | an exception | | within 10 ms |
//! | more than three times | gives up | gives up | gives up | gives up | gives up |
//!
//! None of them lets one call's 429 slow the next call down; ours is one wait for all calls, of all replicas. An empty
//! cell is not known.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::{rfc2822, strtime};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The longest wait that is believed: no limit of Graph's lasts as long, and no job waits longer by default. After it one
/// call tries, and hears again what to wait.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait that the headers ask for. A date counts from the answer's own `Date`, else from `now`.
pub fn parse(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let now = date(headers).unwrap_or(now);
    let values = headers.get_all(RETRY_AFTER).into_iter().filter_map(|value| value.to_str().ok());
    values.filter_map(|value| wait(value, now)).max()
}

/// The answer's own clock.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// One header's wait; a list of numbers asks for its longest.
pub(super) fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    if let Some(at) = http_date(value.trim()) {
        let wait = at.duration_since(now);
        return Some(if wait.is_positive() { wait.unsigned_abs().min(LONGEST) } else { Duration::ZERO });
    }
    value.split(',').map(|part| seconds(part.trim())).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Plain digits with an optional fraction, rounded up to milliseconds; a negative number is no wait at all.
fn seconds(text: &str) -> Option<Duration> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !(digits(whole) && digits(fraction)) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    if negative {
        return Some(Duration::ZERO);
    }
    // All digits: what does not fit is simply too long.
    let whole = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u64::MAX) };
    let mut millis: u64 = format!("{fraction:0<3}")[..3].parse().unwrap_or(0);
    millis += u64::from(fraction.bytes().skip(3).any(|digit| digit != b'0'));
    Some(Duration::from_secs(whole).saturating_add(Duration::from_millis(millis)).min(LONGEST))
}

/// The three forms of a date that HTTP knows; all are in UTC.
fn http_date(text: &str) -> Option<Timestamp> {
    let obsolete = |format: &str| {
        let time = strtime::parse(format, text).ok()?.to_datetime().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(time).ok()
    };
    rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(text)
        .ok()
        .or_else(|| obsolete("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|| obsolete("%a %b %e %H:%M:%S %Y"))
}
