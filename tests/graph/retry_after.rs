//! `Retry-After` in every form that servers send it: one public table, held against the reader of the header, and against
//! whole answers (429, 503, items of a batch). A call is never earlier than asked.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mfa_reset::adapters::graph::retry_after::{LONGEST, parse};
use mfa_reset::adapters::graph::{Observed, Trail};
use mfa_reset::domain::request::Lane;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;
use wiremock::ResponseTemplate;

use crate::bench::{Bench, USER, phone_path};

/// The clock of the server and of the client, unless a row says otherwise.
const NOW: &str = "Sun, 06 Nov 1994 08:49:30 GMT";
const DAY: u64 = 24 * 60 * 60 * 1000;

/// What it is; the headers; the answer's `Date` where it differs; the wait in milliseconds, `None` where none is said.
/// Where nothing, or no time at all, is asked for, the wait is our own: a second, doubled while it goes on.
type Vector = (&'static str, &'static [&'static str], Option<&'static str>, Option<u64>);

const VECTORS: [Vector; 40] = [
    ("absent", &[], None, None),
    ("whole seconds", &["10"], None, Some(10_000)),
    ("as Graph writes it", &["2.128"], None, Some(2_128)),
    ("rounded up to milliseconds", &["2.1281"], None, Some(2_129)),
    ("rounded up from next to nothing", &["0.0001"], None, Some(1)),
    ("trailing zeros", &["2.12800"], None, Some(2_128)),
    ("a short fraction", &["1.5"], None, Some(1_500)),
    ("a fraction alone", &[".5"], None, Some(500)),
    ("a point at the end", &["5."], None, Some(5_000)),
    ("zero", &["0"], None, Some(0)),
    ("negative", &["-5"], None, Some(0)),
    ("spaces", &["  7 "], None, Some(7_000)),
    ("leading zeros", &["0007"], None, Some(7_000)),
    ("past what SDKs wait for", &["300"], None, Some(300_000)),
    ("a list", &["31,120"], None, Some(120_000)),
    ("sent twice", &["3", "8"], None, Some(8_000)),
    ("sent twice, the longer first", &["8", "3"], None, Some(8_000)),
    ("sent twice, once garbage", &["soon", "3"], None, Some(3_000)),
    ("a day", &["86400"], None, Some(DAY)),
    ("more than a day", &["86401"], None, Some(DAY)),
    ("more than any number", &["99999999999999999999999"], None, Some(DAY)),
    ("a date", &["Sun, 06 Nov 1994 08:49:37 GMT"], None, Some(7_000)),
    ("a date over a minute away", &["Sun, 06 Nov 1994 08:51:35 GMT"], None, Some(125_000)),
    ("a date of the wrong weekday", &["Mon, 06 Nov 1994 08:49:37 GMT"], None, Some(7_000)),
    ("a date of RFC 850", &["Sunday, 06-Nov-94 08:49:37 GMT"], None, Some(7_000)),
    ("a date of asctime", &["Sun Nov  6 08:49:37 1994"], None, Some(7_000)),
    ("a date that is past", &["Sun, 06 Nov 1994 08:00:00 GMT"], None, Some(0)),
    ("a date a century away", &["Sun, 06 Nov 2094 08:49:37 GMT"], None, Some(DAY)),
    (
        "the server's clock is behind",
        &["Sun, 06 Nov 1994 08:49:37 GMT"],
        Some("Sun, 06 Nov 1994 08:49:00 GMT"),
        Some(37_000),
    ),
    (
        "the server's clock is ahead",
        &["Sun, 06 Nov 1994 09:00:05 GMT"],
        Some("Sun, 06 Nov 1994 09:00:00 GMT"),
        Some(5_000),
    ),
    ("no such day", &["Sun, 31 Feb 1994 08:49:37 GMT"], None, None),
    ("empty", &[""], None, None),
    ("a word", &["soon"], None, None),
    ("a unit", &["5s"], None, None),
    ("an exponent", &["1e3"], None, None),
    ("infinite", &["inf"], None, None),
    ("not a number", &["NaN"], None, None),
    ("two points", &["1.2.3"], None, None),
    ("a point alone", &["."], None, None),
    ("half a list", &["5,soon"], None, None),
];

#[test]
fn a_wait_is_never_shorter_than_asked() {
    for (what, values, date, millis) in VECTORS {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        }
        headers.insert(DATE, HeaderValue::from_static(date.unwrap_or(NOW)));
        let now = "1994-11-06T08:49:30Z".parse::<Timestamp>().unwrap();
        assert_eq!(parse(&headers, now), millis.map(Duration::from_millis), "{what}");
        if date.is_none() {
            headers.remove(DATE);
            assert_eq!(parse(&headers, now), millis.map(Duration::from_millis), "{what}, by our own clock");
        }
    }
    assert_eq!(LONGEST, Duration::from_millis(DAY));
}

#[test]
fn a_date_that_is_none_does_not_count() {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
    headers.insert(DATE, HeaderValue::from_static("rubbish"));
    assert_eq!(parse(&headers, "1994-11-06T08:49:30Z".parse().unwrap()), Some(Duration::from_secs(7)));
}

/// Holds the end of the hold that was heard of against what was asked between these moments.
fn check(what: &str, bench: &Bench, before: Timestamp, after: Timestamp, millis: Option<u64>) {
    let untils: Vec<Timestamp> = bench.heard().iter().filter_map(until).collect();
    let [until] = untils[..] else { panic!("{what}: {untils:?}") };
    let (least, most) = match millis.filter(|millis| *millis > 0) {
        Some(asked) => (asked, asked),
        None => (1_000, 1_250),
    };
    let wait = |millis: u64| SignedDuration::from_millis(i64::try_from(millis).unwrap());
    assert!(until >= before + wait(least) && until <= after + wait(most), "{what}: {until} for {before} to {after}");
    let held = bench.graph.held_until();
    assert!(held == Some(until) || until <= Timestamp::now(), "{what}: {held:?}");
}

fn until(observed: &Observed) -> Option<Timestamp> {
    match observed {
        Observed::Hold { until, .. } => Some(*until),
        Observed::Call { .. } | Observed::TokenRefresh { .. } => None,
    }
}

#[tokio::test]
async fn a_whole_answer_holds_every_call_as_long_as_it_asks() {
    for (what, values, date, millis) in VECTORS {
        for status in [429, 503] {
            let bench = Bench::new().await;
            let answer = move |_: usize, _: &wiremock::Request| {
                let answer = ResponseTemplate::new(status).insert_header("Date", date.unwrap_or(NOW));
                values.iter().fold(answer, |answer, value| answer.append_header("Retry-After", *value))
            };
            bench.answer(&phone_path(), answer).await;
            let before = Timestamp::now();
            assert!(bench.graph.remove(USER, &Bench::phone(), Uuid::new_v4(), before).await.is_err());
            check(&format!("{what}, {status}"), &bench, before, Timestamp::now(), millis);
            if millis >= Some(5_000) {
                let again = bench.graph.remove(USER, &Bench::phone(), Uuid::new_v4(), Timestamp::now()).await;
                assert!(again.is_err() && bench.requests(&phone_path()).await.len() == 1, "{what}: nothing is sent");
            }
        }
    }
}

#[tokio::test]
async fn an_item_of_a_batch_holds_every_call_as_long_as_it_asks() {
    for (what, values, date, millis) in VECTORS {
        let Some(text) = values.first().filter(|_| values.len() < 2) else {
            continue; // An item cannot have a header twice.
        };
        // As a number an exponent is well-formed.
        let number = serde_json::from_str(text).ok().filter(|value: &Value| value.is_number() && !text.contains('e'));
        for value in [Some(json!(text)), number].into_iter().flatten() {
            let bench = Bench::new().await;
            let headers = json!({"retry-after": value});
            let answer = move |_: usize, request: &wiremock::Request| {
                let asked: Value = request.body_json().unwrap();
                let item = |item: &Value| json!({"id": item["id"], "status": 429, "headers": headers, "body": null});
                let items: Vec<Value> = asked["requests"].as_array().unwrap().iter().map(item).collect();
                ResponseTemplate::new(200)
                    .insert_header("Date", date.unwrap_or(NOW))
                    .set_body_json(json!({"responses": items[..1]}))
            };
            bench.answer("/v1.0/$batch", answer).await;
            let (before, trail) = (Timestamp::now(), Trail::default());
            let heard = async {
                while !bench.heard().iter().any(|observed| until(observed).is_some()) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                survey = bench.graph.survey(Lane::Tickets, USER, &trail) => assert!(survey.is_err(), "{what}"),
                () = heard => {}
            }
            check(&format!("{what}, an item, {value}"), &bench, before, Timestamp::now(), millis);
        }
    }
}
