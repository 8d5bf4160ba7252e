//! Tokens: one request for all, renewed early, kept while they work, dropped when refused.

use std::time::Duration;

use futures_util::future::join_all;
use mfa_reset::adapters::graph::{Observed, Operation, Status};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::reason::Reason;
use mfa_reset::ports::Reply;
use serde_json::json;
use uuid::Uuid;
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::bench::{Bench, METHODS_PATH, TOKEN_PATH, USER, list, phone_path};

fn empty_list() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"value": []}))
}

#[tokio::test]
async fn fifty_calls_share_one_token_request() {
    let bench = Bench::without_tokens(|_| {}).await;
    let grant = ResponseTemplate::new(200)
        .set_body_json(json!({"access_token": "token", "expires_in": "3599"}))
        .set_delay(Duration::from_millis(100));
    Mock::given(method("POST"))
        .and(path(TOKEN_PATH))
        .and(body_string_contains("grant_type=client_credentials"))
        .and(body_string_contains("client_secret=canary-secret"))
        .and(body_string_contains("%2F.default"))
        .respond_with(grant)
        .expect(1)
        .mount(&bench.server)
        .await;
    bench.answer(METHODS_PATH, |_, _| empty_list()).await;
    assert!(!bench.graph.is_ready());
    let calls = join_all((0..50).map(|_| list(&bench.graph))).await;
    assert!(calls.iter().all(Result::is_ok));
    assert!(bench.graph.is_ready() && bench.graph.expires_at().is_some());
    let requests = bench.requests(METHODS_PATH).await;
    assert!(requests.iter().all(|request| request.headers["authorization"] == "Bearer token"));
    assert_eq!(requests.len(), 50);
}

#[tokio::test]
async fn a_token_is_renewed_in_the_background_before_it_ends() {
    let bench = Bench::without_tokens(|_| {}).await;
    bench.grant(|n| json!({"access_token": format!("token-{n}"), "expires_in": 3})).await;
    bench.graph.sign_in().await.unwrap();
    let first = bench.graph.expires_at();
    let renewed = async {
        while bench.graph.expires_at() <= first {
            assert!(bench.graph.is_ready(), "the old token works until the new one is there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), renewed).await.unwrap();
}

#[tokio::test]
async fn the_old_token_is_kept_while_it_works() {
    let bench = Bench::without_tokens(|_| {}).await;
    bench
        .answer(TOKEN_PATH, |n, _| match n {
            1 => ResponseTemplate::new(200).set_body_json(json!({"access_token": "old", "expires_in": 4})),
            _ => {
                ResponseTemplate::new(401).set_body_json(json!({"error": "invalid_client", "error_codes": [7_000_222]}))
            }
        })
        .await;
    bench.answer(METHODS_PATH, |_, _| empty_list()).await;
    let failed = |heard: &[Observed]| heard.iter().any(|seen| matches!(seen, Observed::TokenRefresh { ok: false, .. }));
    list(&bench.graph).await.unwrap();
    let until_it_failed = async {
        while !failed(&bench.heard()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), until_it_failed).await.unwrap();
    assert!(bench.graph.is_ready());
    list(&bench.graph).await.unwrap();
}

#[tokio::test]
async fn a_refused_token_is_dropped_and_the_call_sent_once_more() {
    let bench = Bench::new().await;
    bench.answer(&phone_path(), |n, _| ResponseTemplate::new(if n == 1 { 401 } else { 204 })).await;
    let call = Uuid::new_v4();
    assert_eq!(bench.graph.remove(USER, &Bench::phone(), call, jiff::Timestamp::now()).await, Ok(Reply::Done));
    let requests = bench.requests(&phone_path()).await;
    let tokens: Vec<_> = requests.iter().map(|request| &request.headers["authorization"]).collect();
    assert_eq!(tokens, ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(bench.statuses(Operation::DeleteMethod), [Status::Code(401), Status::Code(204)]);
}

#[tokio::test]
async fn a_graph_that_refuses_every_token_is_not_asked_for_ever() {
    let bench = Bench::new().await;
    bench.answer(METHODS_PATH, |_, _| ResponseTemplate::new(401)).await;
    for _ in 0..5 {
        assert_eq!(list(&bench.graph).await, Err(Fault::Unavailable { reason: Reason::TokenRefused }));
    }
    assert_eq!(bench.requests(TOKEN_PATH).await.len(), 2);
    assert_eq!(bench.requests(METHODS_PATH).await.len(), 6);
}

#[tokio::test]
async fn a_refused_credential_stops_every_call_and_is_not_tried_in_a_loop() {
    let bench = Bench::without_tokens(|_| {}).await;
    bench
        .answer(TOKEN_PATH, |_, _| {
            ResponseTemplate::new(401).set_body_json(json!({"error": "invalid_client", "error_codes": [7_000_215]}))
        })
        .await;
    let calls = join_all((0..20).map(|_| list(&bench.graph))).await;
    let refused = Err(Fault::Unavailable { reason: Reason::TokenRefused });
    assert!(calls.iter().all(|call| *call == refused));
    assert_eq!(bench.requests(TOKEN_PATH).await.len(), 1);
    assert_eq!(bench.requests(METHODS_PATH).await.len(), 0);
}

#[tokio::test]
async fn a_busy_identity_service_is_asked_again() {
    let bench = Bench::without_tokens(|_| {}).await;
    bench
        .answer(TOKEN_PATH, |n, _| match n {
            1 => ResponseTemplate::new(503),
            2 => ResponseTemplate::new(400).set_body_json(json!({"error": "temporarily_unavailable"})),
            _ => ResponseTemplate::new(200).set_body_json(json!({"access_token": "token", "expires_in": 3599})),
        })
        .await;
    bench.graph.sign_in().await.unwrap();
    assert_eq!(bench.requests(TOKEN_PATH).await.len(), 3);
}
