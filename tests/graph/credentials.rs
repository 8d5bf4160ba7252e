//! Certificates and federated tokens, against the simulator, which checks what Entra checks; and the words for what is
//! wrong with them.
//!
//! The keys in `keys` were made with `openssl genpkey` and `openssl ca -selfsign` for these tests and open nothing:
//! `pkcs8.pem`; `pkcs1.pem`, with another certificate of a chain before its own; `elliptic.pem`; and two more for the
//! key of `pkcs1.pem`, `expired.pem` and `young.pem`, of the past and of the next century.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mfa_reset::adapters::graph::Proof;
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::reason::Reason;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use wiremock::ResponseTemplate;

use crate::bench::{Bench, METHODS_PATH, TOKEN_PATH, list};
use crate::sign_in::SignIn;

const REFUSED: Fault = Fault::Unavailable { reason: Reason::TokenRefused };
const PKCS8: &str = include_str!("keys/pkcs8.pem");
const PKCS1: &str = include_str!("keys/pkcs1.pem");
const EXPIRED: &str = include_str!("keys/expired.pem");
const YOUNG: &str = include_str!("keys/young.pem");
const ELLIPTIC: &str = include_str!("keys/elliptic.pem");

/// The parts of a PEM file.
fn parts(pem: &str) -> Vec<String> {
    pem.split("-----BEGIN ").skip(1).map(|part| format!("-----BEGIN {part}")).collect()
}

/// Its last certificate.
fn certificate(pem: &str) -> String {
    parts(pem).into_iter().rfind(|part| part.starts_with("-----BEGIN CERTIFICATE")).unwrap()
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

fn by_certificate(file: impl AsRef<Path>) -> Proof {
    Proof::Certificate(file.as_ref().to_owned())
}

fn by_federation(file: impl AsRef<Path>) -> Proof {
    Proof::Federated(file.as_ref().to_owned())
}

#[rstest]
#[case(PKCS8)]
#[case(PKCS1)]
#[tokio::test]
async fn a_certificate_signs_in(#[case] pem: &str) {
    let app = json!({"clientId": "client", "certificate": certificate(pem)});
    let file = file(pem);
    let simulated = SignIn::new(json!([app]), by_certificate(&file)).await;
    simulated.graph.sign_in().await.unwrap();
    assert_eq!(simulated.graph.token_trouble(), None);
    list(&simulated.graph).await.unwrap_err();
    assert_eq!(simulated.calls("token").await, [200]);
    assert_eq!(simulated.calls("list_methods").await, [404], "the token works: there is no such user");
}

#[tokio::test]
async fn a_certificate_that_the_app_does_not_have_is_refused_until_the_file_is_right() {
    let app = json!({"clientId": "client", "certificate": certificate(PKCS8)});
    let file = file(PKCS1);
    let simulated = SignIn::new(json!([app]), by_certificate(&file)).await;
    assert_eq!(simulated.graph.sign_in().await, Err(REFUSED));
    let trouble = simulated.graph.token_trouble().unwrap();
    assert!(trouble.contains("not registered with the app") && trouble.contains("AADSTS700027"), "{trouble}");
    std::fs::write(&file, PKCS8).unwrap();
    simulated.until_ready().await;
    assert_eq!(simulated.graph.token_trouble(), None);
}

#[tokio::test]
async fn a_clock_that_is_off_is_told() {
    let app = json!({"clientId": "client", "certificate": certificate(PKCS8)});
    let file = file(PKCS8);
    let simulated = SignIn::new(json!([app]), by_certificate(&file)).await;
    simulated.set(json!({"clock_ahead_s": 3600})).await;
    assert_eq!(simulated.graph.sign_in().await, Err(REFUSED));
    let trouble = simulated.graph.token_trouble().unwrap();
    assert!(trouble.contains("clock") && trouble.contains("AADSTS700024"), "{trouble}");
}

/// An assertion in a form.
fn sent(body: &[u8]) -> String {
    let form = String::from_utf8(body.to_vec()).unwrap();
    form.split('&').find_map(|pair| pair.strip_prefix("client_assertion=")).unwrap().to_owned()
}

/// Its header and its claims.
fn assertion(body: &[u8]) -> (Value, Value) {
    let value = sent(body);
    let part =
        |at| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value.split('.').nth(at).unwrap()).unwrap()).unwrap();
    (part(0), part(1))
}

#[tokio::test]
async fn a_rotated_certificate_signs_the_next_assertion() {
    let file = file(PKCS8);
    let bench = Bench::without_tokens(|settings| settings.proof = by_certificate(&file)).await;
    bench.grant(|n| json!({"access_token": format!("token-{n}"), "expires_in": 3599})).await;
    bench.answer(METHODS_PATH, |n, _| ResponseTemplate::new(if n == 1 { 401 } else { 404 })).await;
    bench.graph.sign_in().await.unwrap();
    std::fs::write(&file, PKCS1).unwrap();
    list(&bench.graph).await.unwrap_err();
    let requests = bench.requests(TOKEN_PATH).await;
    assert_eq!(requests.len(), 2);
    let [(first, claims), (second, later)] = [0, 1].map(|at| assertion(&requests[at].body));
    assert_ne!(first["x5t#S256"], second["x5t#S256"]);
    assert_ne!(claims["jti"], later["jti"]);
    for (header, claims) in [(first, &claims), (second, &later)] {
        assert_eq!((&header["alg"], &header["typ"]), (&json!("PS256"), &json!("JWT")));
        assert_eq!(claims["aud"], format!("{}{TOKEN_PATH}", bench.server.uri()));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("client"), &json!("client")));
        let time = |name: &str| claims[name].as_i64().unwrap();
        assert_eq!((time("exp") - time("nbf"), time("iat")), (600, time("nbf")));
    }
    let form = String::from_utf8(requests[0].body.clone()).unwrap();
    assert!(form.contains("client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"));
    assert!(!form.contains("client_secret"));
}

#[tokio::test]
async fn a_bad_certificate_file_is_told_and_nothing_is_sent() {
    let key = parts(PKCS8).remove(0);
    let armoured = |text: &str| format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    for (text, words) in [
        (String::new(), "no private key"),
        ("hunter2-canary".to_owned(), "no private key"),
        (certificate(PKCS8), "no private key"),
        (armoured("hunter2-canary!"), "not valid PEM"),
        (armoured("aGVsbG8="), "no RSA key"),
        (key.clone(), "no certificate"),
        (key + &certificate(PKCS1), "does not belong"),
        (ELLIPTIC.to_owned(), "no RSA key"),
        (EXPIRED.to_owned(), "has expired"),
        (YOUNG.to_owned(), "not valid yet"),
    ] {
        let file = file(&text);
        let bench = Bench::without_tokens(|settings| settings.proof = by_certificate(&file)).await;
        assert_eq!(bench.graph.sign_in().await, Err(REFUSED), "{words}");
        let trouble = bench.graph.token_trouble().unwrap();
        assert!(trouble.contains(words) && trouble.ends_with("(graph.certificate_file)"), "{trouble}");
        assert!(!trouble.contains("hunter2"), "{trouble}");
        assert_eq!(bench.requests(TOKEN_PATH).await.len(), 0);
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told() {
    for (proof, key) in [
        (by_certificate("/no/such/file"), "graph.certificate_file"),
        (by_federation("/no/such/file"), "graph.federated_token_file"),
    ] {
        let bench = Bench::without_tokens(|settings| settings.proof = proof).await;
        assert_eq!(bench.graph.sign_in().await, Err(REFUSED));
        let trouble = bench.graph.token_trouble().unwrap();
        assert!(trouble.contains("cannot be read") && trouble.contains(key), "{trouble}");
        assert_eq!(bench.requests(TOKEN_PATH).await.len(), 0);
    }
}

/// A token of a Kubernetes cluster; nobody here checks its signature.
fn service_account(subject: &str) -> String {
    let now = jiff::Timestamp::now().as_second();
    let audience = "api://AzureADTokenExchange";
    let claims = json!({"iss": "https://cluster.test", "sub": subject, "aud": audience, "iat": now, "exp": now + 600});
    let parts = [json!({"alg": "RS256", "kid": "1"}).to_string(), claims.to_string(), "signature".to_owned()];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

#[tokio::test]
async fn a_federated_token_is_read_anew_for_every_token() {
    let worker = "system:serviceaccount:mfa:worker";
    let app = json!({"clientId": "client", "federated": [{"issuer": "https://cluster.test", "subject": worker}]});
    let file = file(&format!("{}\n", service_account(worker)));
    let simulated = SignIn::new(json!([app]), by_federation(&file)).await;
    simulated.graph.sign_in().await.unwrap();
    std::fs::write(&file, service_account("system:serviceaccount:mfa:other")).unwrap();
    simulated.forget_tokens().await;
    assert_eq!(list(&simulated.graph).await, Err(REFUSED));
    let trouble = simulated.graph.token_trouble().unwrap();
    assert!(trouble.contains("subject of the token") && trouble.contains("AADSTS700213"), "{trouble}");
    std::fs::write(&file, service_account(worker)).unwrap();
    simulated.until_ready().await;
    let found = list(&simulated.graph).await;
    assert_eq!(found, Err(Fault::Permanent { reason: Reason::UserNotFound }), "the token works");
}

#[rstest]
#[case("")]
#[case("hunter2-canary")]
#[case("hunter2 canary.with.blanks")]
#[tokio::test]
async fn a_file_without_a_token_is_told_and_nothing_is_sent(#[case] text: &str) {
    let file = file(text);
    let bench = Bench::without_tokens(|settings| settings.proof = by_federation(&file)).await;
    assert_eq!(bench.graph.sign_in().await, Err(REFUSED));
    let trouble = bench.graph.token_trouble().unwrap();
    assert!(trouble.contains("no signed token") && !trouble.contains("hunter2"), "{trouble}");
    assert_eq!(bench.requests(TOKEN_PATH).await.len(), 0);
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Shows an assertion to the simulator itself; tells status and code.
async fn show(simulated: &SignIn, client_id: &str, text: &str, kind: &str) -> (u16, Value) {
    let form = [
        ("client_id", client_id),
        ("scope", "https://graph.microsoft.com/.default"),
        ("grant_type", "client_credentials"),
        ("client_assertion_type", kind),
        ("client_assertion", text),
    ];
    let sent = simulated.http.post(format!("{}{TOKEN_PATH}", simulated.root)).form(&form).send().await.unwrap();
    let status = sent.status().as_u16();
    let body: Value = sent.json().await.unwrap();
    (status, body["error_codes"][0].clone())
}

#[tokio::test]
async fn the_simulated_tenant_checks_an_assertion_to_the_last_bit() {
    let apps = json!([{"clientId": "client", "certificate": certificate(PKCS8)},
                      {"clientId": "other", "certificate": certificate(PKCS8)}, {"clientId": "plain", "secret": "s"}]);
    let file = file(PKCS8);
    let simulated = SignIn::new(apps, by_certificate(&file)).await;
    let bench = Bench::without_tokens(|settings| settings.proof = by_certificate(&file)).await;
    bench.grant(|_| json!({"access_token": "token", "expires_in": 3599})).await;
    bench.graph.sign_in().await.unwrap();
    let elsewhere = sent(&bench.requests(TOKEN_PATH).await[0].body);
    let mut parts: Vec<&str> = elsewhere.split('.').collect();
    let other_claims = URL_SAFE_NO_PAD.encode(json!({"iss": "client", "sub": "client"}).to_string());
    parts[1] = &other_claims;
    let forged = parts.join(".");
    for (client_id, text, kind, status, code) in [
        ("client", elsewhere.as_str(), ASSERTION_TYPE, 401, 700_023),
        ("other", &elsewhere, ASSERTION_TYPE, 401, 700_021),
        ("plain", &elsewhere, ASSERTION_TYPE, 401, 700_027),
        ("nobody", &elsewhere, ASSERTION_TYPE, 400, 700_016),
        ("client", &forged, ASSERTION_TYPE, 401, 700_027),
        ("client", "not.a.token", ASSERTION_TYPE, 400, 50_027),
        ("client", &elsewhere, "", 400, 900_144),
    ] {
        assert_eq!(show(&simulated, client_id, text, kind).await, (status, json!(code)), "{client_id} {text}");
    }
}

#[tokio::test]
async fn the_simulated_tenant_compares_what_a_federated_token_says() {
    let trust = |issuer: &str, subject: &str, audience: &str| json!([{"clientId": "client", "federated": [{"issuer": issuer, "subject": subject, "audience": audience}]}]);
    let (issuer, audience) = ("https://cluster.test", "api://AzureADTokenExchange");
    for (apps, code) in [
        (trust(issuer, "me", audience), Value::Null),
        (trust("https://other.test", "me", audience), json!(700_211)),
        (trust(issuer, "other", audience), json!(700_213)),
        (trust(issuer, "me", "api://other"), json!(700_212)),
    ] {
        let simulated = SignIn::new(apps, Proof::Secret("unused".into())).await;
        assert_eq!(show(&simulated, "client", &service_account("me"), ASSERTION_TYPE).await.1, code);
        simulated.set(json!({"clock_ahead_s": 3600})).await;
        let late = show(&simulated, "client", &service_account("me"), ASSERTION_TYPE).await.1;
        assert_eq!(late, if code.is_null() { json!(700_024) } else { code });
    }
}
