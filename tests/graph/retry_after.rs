//! `Retry-After` in every form that servers send it.

use std::time::Duration;

use jiff::Timestamp;
use mfa_reset::adapters::graph::retry_after::{LONGEST, parse};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use rstest::rstest;

const NOW: &str = "1994-11-06T08:49:30Z";

fn waits(values: &[&str], date: Option<&str>) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
    }
    if let Some(date) = date {
        headers.insert(DATE, HeaderValue::from_str(date).unwrap());
    }
    parse(&headers, NOW.parse::<Timestamp>().unwrap())
}

#[rstest]
#[case::whole("10", Some(10_000))]
#[case::decimal("2.128", Some(2_128))]
#[case::rounded_up("2.1281", Some(2_129))]
#[case::rounded_up_from_nothing("0.0001", Some(1))]
#[case::trailing_zeros("2.12800", Some(2_128))]
#[case::short_fraction("1.5", Some(1_500))]
#[case::bare_fraction(".5", Some(500))]
#[case::bare_point("5.", Some(5_000))]
#[case::zero("0", Some(0))]
#[case::negative("-5", Some(0))]
#[case::spaces("  7 ", Some(7_000))]
#[case::leading_zeros("0007", Some(7_000))]
#[case::list("31,120", Some(120_000))]
#[case::three_minutes("300", Some(300_000))]
#[case::imf_date("Sun, 06 Nov 1994 08:49:37 GMT", Some(7_000))]
#[case::imf_date_over_a_minute("Sun, 06 Nov 1994 08:51:35 GMT", Some(125_000))]
#[case::wrong_weekday("Mon, 06 Nov 1994 08:49:37 GMT", Some(7_000))]
#[case::rfc_850_date("Sunday, 06-Nov-94 08:49:37 GMT", Some(7_000))]
#[case::asctime_date("Sun Nov  6 08:49:37 1994", Some(7_000))]
#[case::past_date("Sun, 06 Nov 1994 08:00:00 GMT", Some(0))]
#[case::empty("", None)]
#[case::word("soon", None)]
#[case::unit("5s", None)]
#[case::exponent("1e3", None)]
#[case::infinite("inf", None)]
#[case::not_a_number("NaN", None)]
#[case::two_points("1.2.3", None)]
#[case::point_alone(".", None)]
#[case::half_a_list("5,soon", None)]
#[case::no_such_day("Sun, 31 Feb 1994 08:49:37 GMT", None)]
fn a_wait_is_never_shorter_than_asked(#[case] value: &str, #[case] millis: Option<u64>) {
    assert_eq!(waits(&[value], None), millis.map(Duration::from_millis));
}

#[test]
fn without_the_header_nothing_is_asked() {
    assert_eq!(waits(&[], None), None);
}

#[test]
fn of_two_headers_the_longer_counts_and_garbage_does_not() {
    assert_eq!(waits(&["3", "8"], None), Some(Duration::from_secs(8)));
    assert_eq!(waits(&["8", "3"], None), Some(Duration::from_secs(8)));
    assert_eq!(waits(&["soon", "3"], None), Some(Duration::from_secs(3)));
}

#[test]
fn a_date_counts_from_the_servers_clock() {
    let date = Some("Sun, 06 Nov 1994 08:49:00 GMT");
    assert_eq!(waits(&["Sun, 06 Nov 1994 08:49:37 GMT"], date), Some(Duration::from_secs(37)));
    assert_eq!(waits(&["Sun, 06 Nov 1994 08:49:37 GMT"], Some("rubbish")), Some(Duration::from_secs(7)));
}

#[test]
fn a_wait_beyond_reason_is_a_day() {
    for value in ["86401", "99999999999999999999999", "Sun, 06 Nov 2094 08:49:37 GMT"] {
        assert_eq!(waits(&[value], None), Some(LONGEST), "{value}");
    }
}
