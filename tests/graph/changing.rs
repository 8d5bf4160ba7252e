//! Calls that change something: one request, and the truth about its outcome.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mfa_reset::adapters::graph::{Graph, Operation, Status};
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::Refusal;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::Lane;
use mfa_reset::ports::Reply;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wiremock::ResponseTemplate;

use crate::bench::{Bench, TOKEN_PATH, USER, error, phone_path, settings};

const AWAY: Reason = Reason::GraphUnavailable;
const LAST: &str = "Cannot delete default method with other methods configured. Please change default method.";
const MATCHES: &str = "The requested authentication method id of [x] matches the user's current Default \
                       Authentication Method, and cannot be deleted until the default is changed";

#[rstest]
#[case::removed(204, Value::Null, Ok(Reply::Done))]
#[case::removed_with_a_body(200, json!({}), Ok(Reply::Done))]
#[case::not_found(404, json!({"Message": "No HTTP resource was found"}), Ok(Reply::NotFound))]
#[case::gone(410, Value::Null, Ok(Reply::NotFound))]
#[case::default(400, error("badRequest", LAST), Ok(Reply::Refused(Refusal::Default)))]
#[case::default_in_other_words(400, error("badRequest", MATCHES), Ok(Reply::Refused(Refusal::Default)))]
#[case::alternate(
    400,
    error("", "not Without First deleting alternate mobile number"),
    Ok(Reply::Refused(Refusal::Dependency))
)]
#[case::other(400, error("badRequest", "whatever"), Ok(Reply::Refused(Refusal::Other)))]
#[case::page(400, json!("<html>"), Ok(Reply::Refused(Refusal::Other)))]
#[case::orphan(400, error("badRequest", "Invalid value for KeyId"), Ok(Reply::Impossible))]
#[case::orphan_in_other_words(400, json!({"Message": "The input is not a valid Base-64 string"}), Ok(Reply::Impossible))]
#[case::throttled_by_code(400, error("activityLimitReached", ""), Err(Fault::Throttled { after: Duration::ZERO }))]
#[case::forbidden(403, error("accessDenied", "Request Authorization failed"), Ok(Reply::Forbidden))]
#[case::wrong_method(405, Value::Null, Ok(Reply::Impossible))]
#[case::redirect(302, Value::Null, Ok(Reply::Impossible))]
#[case::slow_request(408, Value::Null, Err(Fault::Unknown { reason: AWAY }))]
#[case::conflict(409, Value::Null, Err(Fault::Transient { reason: AWAY }))]
#[case::precondition(412, Value::Null, Err(Fault::Transient { reason: AWAY }))]
#[case::locked(423, Value::Null, Err(Fault::Transient { reason: AWAY }))]
#[case::throttled(429, error("TooManyRequests", ""), Err(Fault::Throttled { after: Duration::ZERO }))]
#[case::bandwidth(509, Value::Null, Err(Fault::Throttled { after: Duration::ZERO }))]
#[case::error(500, Value::Null, Err(Fault::Unknown { reason: AWAY }))]
#[case::gateway(502, json!("<html>"), Err(Fault::Unknown { reason: AWAY }))]
#[case::away(503, error("TooManyRequests", ""), Err(Fault::Unknown { reason: AWAY }))]
#[case::gateway_timeout(504, Value::Null, Err(Fault::Unknown { reason: AWAY }))]
#[tokio::test]
async fn a_removal_tells_what_happened(
    #[case] status: u16,
    #[case] body: Value,
    #[case] expected: Result<Reply, Fault>,
) {
    let bench = Bench::new().await;
    bench
        .answer(&phone_path(), move |_, _| {
            ResponseTemplate::new(status).set_body_json(&body).insert_header("Location", "/x")
        })
        .await;
    let call = Uuid::new_v4();
    let removal = bench.graph.remove(USER, &Bench::phone(), call, Timestamp::now()).await;
    match (&removal, &expected) {
        (Err(Fault::Throttled { after }), Err(Fault::Throttled { .. })) => assert!(!after.is_zero()),
        _ => assert_eq!(removal, expected),
    }
    let requests = bench.requests(&phone_path()).await;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method.as_str(), "DELETE");
    assert_eq!(requests[0].headers["client-request-id"], call.to_string());
    assert!(requests[0].headers["user-agent"].to_str().unwrap().starts_with("mfa-reset/"));
    assert_eq!(bench.statuses(Operation::DeleteMethod), [Status::Code(status)]);
    assert_eq!(bench.requests("/x").await.len(), 0, "a redirect is not followed");
}

#[rstest]
#[case(200, Ok(()))]
#[case(204, Ok(()))]
#[case(400, Err(Fault::Permanent { reason: Reason::GraphRefused }))]
#[case(403, Err(Fault::Permanent { reason: Reason::Forbidden }))]
#[case(404, Err(Fault::Permanent { reason: Reason::UserNotFound }))]
#[case(409, Err(Fault::Transient { reason: AWAY }))]
#[case(500, Err(Fault::Unknown { reason: AWAY }))]
#[tokio::test]
async fn a_revocation_tells_what_happened(#[case] status: u16, #[case] expected: Result<(), Fault>) {
    let bench = Bench::new().await;
    let path = format!("/v1.0/users/{USER}/revokeSignInSessions");
    bench.answer(&path, move |_, _| ResponseTemplate::new(status).set_body_json(json!({"value": true}))).await;
    assert_eq!(bench.graph.revoke_sessions(USER, Uuid::new_v4(), Timestamp::now()).await, expected);
    let requests = bench.requests(&path).await;
    assert_eq!((requests.len(), requests[0].method.as_str()), (1, "POST"));
    assert_eq!(requests[0].headers["content-length"], "0");
}

#[tokio::test]
async fn a_hold_is_kept_by_every_call() {
    let bench = Bench::new().await;
    bench.answer(&phone_path(), |_, _| ResponseTemplate::new(503).insert_header("Retry-After", "600")).await;
    let unknown = Err(Fault::Unknown { reason: AWAY });
    assert_eq!(bench.graph.remove(USER, &Bench::phone(), Uuid::new_v4(), Timestamp::now()).await, unknown);
    let held = |result| matches!(result, Err(Fault::Throttled { after }) if after > Duration::from_secs(599));
    assert!(held(bench.graph.remove(USER, &Bench::phone(), Uuid::new_v4(), Timestamp::now()).await.map(|_| ())));
    assert!(held(bench.graph.revoke_sessions(USER, Uuid::new_v4(), Timestamp::now()).await));
    assert!(held(bench.graph.admit(Lane::Tickets, &CancellationToken::new()).await));
    assert_eq!(bench.requests(&phone_path()).await.len(), 1);
    assert!(bench.graph.held_until().is_some());
}

#[tokio::test]
async fn what_graph_did_not_hear_is_not_unknown() {
    let bench = Bench::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let graph = Graph::new(settings(&nowhere, &bench.server.uri(), &Arc::default())).unwrap();
    let fault = graph.remove(USER, &Bench::phone(), Uuid::new_v4(), Timestamp::now()).await;
    assert_eq!(fault, Err(Fault::Transient { reason: AWAY }));
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_leaves_the_outcome_unknown() {
    let bench = Bench::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broken = format!("http://{}", listener.local_addr().unwrap());
    let graph = Graph::new(settings(&broken, &bench.server.uri(), &Arc::default())).unwrap();
    let cut = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    };
    let phone = Bench::phone();
    let (fault, ()) = tokio::join!(graph.remove(USER, &phone, Uuid::new_v4(), Timestamp::now()), cut);
    assert_eq!(fault, Err(Fault::Unknown { reason: AWAY }));
}

#[tokio::test]
async fn an_answer_that_comes_too_late_leaves_the_outcome_unknown() {
    let bench = Bench::without_tokens(|settings| settings.timeout = Duration::from_millis(300)).await;
    bench.grant(|_| json!({"access_token": "token", "expires_in": 3599})).await;
    bench.answer(&phone_path(), |_, _| ResponseTemplate::new(204).set_delay(Duration::from_secs(2))).await;
    let fault = bench.graph.remove(USER, &Bench::phone(), Uuid::new_v4(), Timestamp::now()).await;
    assert_eq!(fault, Err(Fault::Unknown { reason: AWAY }));
    assert_eq!(bench.statuses(Operation::DeleteMethod), [Status::Timeout]);
}

#[rstest]
#[case::no_collection(MethodType::HardwareOath, "x")]
#[case::no_id(MethodType::Fido2, "")]
#[case::climbing_id(MethodType::Fido2, "..")]
#[tokio::test]
async fn what_cannot_be_removed_is_not_asked_for(#[case] method_type: MethodType, #[case] id: &str) {
    let bench = Bench::new().await;
    let method = Method { id: id.to_owned(), method_type, ..Bench::phone() };
    assert_eq!(bench.graph.remove(USER, &method, Uuid::new_v4(), Timestamp::now()).await, Ok(Reply::Impossible));
    assert!(bench.server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_strange_id_stays_one_segment() {
    let bench = Bench::new().await;
    let path = format!("/v1.0/users/{USER}/authentication/fido2Methods/a%2Fb%23c");
    bench.answer(&path, |_, _| ResponseTemplate::new(204)).await;
    let method = Method { id: "a/b#c".to_owned(), method_type: MethodType::Fido2, ..Bench::phone() };
    assert_eq!(bench.graph.remove(USER, &method, Uuid::new_v4(), Timestamp::now()).await, Ok(Reply::Done));
}

/// Nobody knows what happened between the check of the lease and the call: the process may have been frozen.
#[rstest]
#[case::long_ago(-6)]
#[case::before_the_clock_was_set_back(60)]
#[tokio::test]
async fn nothing_is_changed_on_a_check_of_another_time(#[case] seconds: i64) {
    let bench = Bench::new().await;
    let checked = Timestamp::now() + SignedDuration::from_secs(seconds);
    let removal = bench.graph.remove(USER, &Bench::phone(), Uuid::new_v4(), checked).await;
    assert_eq!(removal, Err(Fault::LeaseLost));
    assert_eq!(bench.graph.revoke_sessions(USER, Uuid::new_v4(), checked).await, Err(Fault::LeaseLost));
    assert_eq!(bench.statuses(Operation::DeleteMethod), []);
    let asked = bench.server.received_requests().await.unwrap();
    assert!(asked.iter().all(|request| request.url.path() == TOKEN_PATH), "nothing but a token was asked for");
}
