//! Managed identities: a virtual machine's metadata service and App Service, simulated and feared.

use std::time::Duration;

use futures_util::future::join_all;
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::reason::Reason;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::bench::{Bench, list};
use crate::sign_in::{SignIn, app_service, virtual_machine};

const REFUSED: Fault = Fault::Unavailable { reason: Reason::TokenRefused };
const METADATA_PATH: &str = "/metadata/identity/oauth2/token";

fn lasts(bench: &mfa_reset::adapters::graph::Graph) -> i64 {
    let ends = bench.expires_at().unwrap();
    ends.as_second() - jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn a_virtual_machine_vouches_for_the_worker() {
    let apps = json!([{"clientId": "registered", "secret": "s"}, {"clientId": "own", "managedIdentity": "system"}]);
    let simulated = SignIn::with(apps, "", virtual_machine).await;
    simulated.graph.sign_in().await.unwrap();
    assert!((3590..=3599).contains(&lasts(&simulated.graph)), "its numbers are texts");
    list(&simulated.graph).await.unwrap_err();
    assert_eq!(simulated.calls("list_methods").await, [404], "the token works: there is no such user");
}

#[tokio::test]
async fn one_of_several_identities_is_named_by_its_client_id() {
    let apps = json!([{"clientId": "one", "managedIdentity": "user"}, {"clientId": "two", "managedIdentity": "user"}]);
    for (client_id, known) in [("two", true), ("", false), ("three", false)] {
        let simulated = SignIn::with(apps.clone(), client_id, virtual_machine).await;
        let signed_in = simulated.graph.sign_in().await;
        assert_eq!(signed_in, if known { Ok(()) } else { Err(REFUSED) }, "{client_id}");
        let trouble = simulated.graph.token_trouble().unwrap_or_default();
        assert_eq!(trouble.contains("no such managed identity here"), !known, "{trouble}");
        assert_eq!(simulated.calls("token").await, [if known { 200 } else { 400 }], "and it is not tried in a loop");
    }
}

#[tokio::test]
async fn app_service_tells_only_when_a_token_ends() {
    let apps = json!([{"clientId": "own", "managedIdentity": "system", "secret": "canary-header"}]);
    let simulated = SignIn::with(apps.clone(), "", |root| app_service(root, "canary-header")).await;
    simulated.graph.sign_in().await.unwrap();
    assert!((3590..=3600).contains(&lasts(&simulated.graph)));
    let wrong = SignIn::with(apps, "", |root| app_service(root, "other-canary")).await;
    assert_eq!(wrong.graph.sign_in().await, Err(REFUSED));
    let trouble = wrong.graph.token_trouble().unwrap();
    assert!(trouble.contains("refuses to vouch") && !trouble.contains("canary"), "{trouble}");
}

#[tokio::test]
async fn a_platform_is_asked_as_it_wants_to_be() {
    let grant = |ends: &Value| {
        let ends = ends.clone();
        move |_: usize, _: &wiremock::Request| ResponseTemplate::new(200).set_body_json(ends.clone())
    };
    let machine = Bench::without_tokens(|settings| {
        settings.proof = virtual_machine(settings.endpoint.as_str());
        settings.client_id = "mine".to_owned();
    })
    .await;
    machine.answer(METADATA_PATH, grant(&json!({"access_token": "t", "expires_in": "86399", "expires_on": "1"}))).await;
    machine.graph.sign_in().await.unwrap();
    assert!(lasts(&machine.graph) > 86_000);
    let request = machine.requests(METADATA_PATH).await.remove(0);
    assert_eq!((request.method.as_str(), &request.headers["metadata"]), ("GET", &HeaderValue::from_static("true")));
    let query = |request: &wiremock::Request| {
        let mut query: Vec<(String, String)> = request.url.query_pairs().into_owned().collect();
        query.sort();
        query
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let resource = pair("resource", &format!("{}/", machine.server.uri()));
    assert_eq!(query(&request), [pair("api-version", "2018-02-01"), pair("client_id", "mine"), resource]);
    assert!(!request.headers.contains_key("authorization") && request.body.is_empty());

    let app = Bench::without_tokens(|settings| {
        settings.proof = app_service(settings.endpoint.as_str().trim_end_matches('/'), "canary-header");
        settings.client_id = String::new();
    })
    .await;
    let ends = (jiff::Timestamp::now().as_second() + 7200).to_string();
    app.answer("/msi/token", grant(&json!({"access_token": "t", "expires_on": ends}))).await;
    app.graph.sign_in().await.unwrap();
    assert!((7190..=7200).contains(&lasts(&app.graph)));
    let request = app.requests("/msi/token").await.remove(0);
    assert_eq!(request.headers["x-identity-header"], "canary-header");
    let resource = pair("resource", &format!("{}/", app.server.uri()));
    assert_eq!(query(&request), [pair("api-version", "2019-08-01"), resource]);
}

/// Answers a virtual machine's first request with `first`, and tells how many there were and how long it took.
async fn after(first: ResponseTemplate) -> (usize, Duration) {
    let bench = Bench::without_tokens(|settings| {
        settings.proof = virtual_machine(settings.endpoint.as_str());
        settings.timeout = Duration::from_secs(1);
    })
    .await;
    let good = json!({"access_token": "token", "expires_in": "3599"});
    let answer = move |n: usize| if n == 1 { first.clone() } else { ResponseTemplate::new(200).set_body_json(&good) };
    bench.answer(METADATA_PATH, move |n, _| answer(n)).await;
    let started = tokio::time::Instant::now();
    bench.graph.sign_in().await.unwrap();
    (bench.requests(METADATA_PATH).await.len(), started.elapsed())
}

#[tokio::test]
async fn a_platform_that_is_away_or_busy_is_asked_again_after_two_seconds() {
    let late = ResponseTemplate::new(200).set_delay(Duration::from_secs(3));
    let cut = ResponseTemplate::new(200).set_body_string("{\"access_token\":");
    let statuses = [404, 410, 429, 500, 503].map(ResponseTemplate::new);
    for (requests, took) in join_all(statuses.into_iter().chain([late, cut]).map(after)).await {
        assert_eq!(requests, 2);
        assert!(took >= Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn why_there_is_no_token_shows_while_it_is_asked_for() {
    let simulated = SignIn::with(json!([]), "", virtual_machine).await;
    simulated.fault(json!({"operation": "token", "status": 410})).await;
    let told = async {
        while simulated.graph.token_trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        simulated.graph.token_trouble().unwrap()
    };
    let (signed_in, told) = tokio::join!(simulated.graph.sign_in(), told);
    assert!(signed_in.is_ok() && told.ends_with("is away or busy (HTTP 410)"), "{told}");
    assert_eq!((simulated.calls("token").await, simulated.graph.token_trouble()), (vec![410, 200], None));
}

/// Asks the simulator itself.
async fn ask(simulated: &SignIn, path: &str, headers: &[(&'static str, &'static str)]) -> (u16, Value) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_static(value));
    }
    let sent = simulated.http.get(format!("{}{path}", simulated.root)).headers(map).send().await.unwrap();
    (sent.status().as_u16(), sent.json().await.unwrap_or_default())
}

#[tokio::test]
async fn the_simulated_platforms_keep_their_rules() {
    let simulated = SignIn::with(json!([]), "", virtual_machine).await;
    let machine = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=r/";
    let app = "/msi/token?api-version=2019-08-01&resource=r/";
    let (right, header) = (("metadata", "true"), ("x-identity-header", "h"));
    for (path, headers, status) in [
        (machine, &[right][..], 200),
        (machine, &[], 400),
        (machine, &[("metadata", "yes")], 400),
        (machine, &[right, ("x-forwarded-for", "10.0.0.1")], 400),
        ("/metadata/identity/oauth2/token?resource=r/", &[right], 400),
        ("/metadata/identity/oauth2/token?api-version=2018-02-01", &[right], 400),
        (app, &[header], 200),
        (app, &[right], 401),
        ("/msi/token?api-version=2017-09-01&resource=r/", &[header], 400),
    ] {
        assert_eq!(ask(&simulated, path, headers).await.0, status, "{path} {headers:?}");
    }
    let (_, body) = ask(&simulated, machine, &[right]).await;
    assert!(body["expires_in"].is_string() && body["expires_on"].is_string(), "{body}");
    let (_, body) = ask(&simulated, app, &[header]).await;
    assert!(body["expires_in"].is_null() && body["expires_on"].is_string(), "{body}");
}
