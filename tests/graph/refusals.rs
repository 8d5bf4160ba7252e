//! What the identity service refuses: what passes is tried again, what lasts is told, and nothing private is.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use mfa_reset::adapters::graph::Proof;
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::reason::Reason;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::bench::{Bench, TOKEN_PATH};
use crate::sign_in::SignIn;

const REFUSED: Fault = Fault::Unavailable { reason: Reason::TokenRefused };

fn error(status: u16, error: &str, code: u64) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({
        "error": error, "error_codes": [code], "trace_id": "canary-trace",
        "error_description": format!("AADSTS{code}: canary-description of ada@contoso.test"),
    }))
}

#[tokio::test]
async fn what_lasts_is_told_in_words_and_asked_once() {
    let cases = [
        (7_000_215, "the client secret is wrong"),
        (7_000_222, "the client secret has expired"),
        (7_000_218, "neither secret nor assertion arrived"),
        (700_027, "the certificate is not registered"),
        (700_024, "clock"),
        (500_133, "clock"),
        (50_013, "clock"),
        (700_211, "issuer"),
        (700_213, "subject"),
        (700_016, "the app is not in this tenant"),
        (7_000_112, "the app is disabled"),
        (90_002, "the tenant is not found"),
        (90_038, "another cloud"),
        (900_382, "another cloud"),
        (500_011, "Graph is not known in this tenant"),
        (70_011, "graph.endpoint"),
        (53_003, "Conditional Access"),
        (50_196, "in a loop"),
        (9_002_313, "not well formed"),
        (123_456, "refuses the credential"),
    ];
    let told = cases.map(|(code, words)| async move {
        let bench = Bench::without_tokens(|_| {}).await;
        bench.answer(TOKEN_PATH, move |_, _| error(401, "invalid_client", code)).await;
        assert_eq!(bench.graph.sign_in().await, Err(REFUSED), "{code}");
        let trouble = bench.graph.token_trouble().unwrap();
        assert!(trouble.contains(words) && trouble.ends_with(&format!("(AADSTS{code})")), "{code}: {trouble}");
        assert!(!trouble.contains("canary") && !trouble.contains("ada@"), "{trouble}");
        assert_eq!(bench.requests(TOKEN_PATH).await.len(), 1, "{code}");
    });
    join_all(told).await;
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let codes = [50_033, 50_087, 90_006, 90_012, 90_024, 90_033, 90_055, 90_090];
    let answers = codes.map(|code| error(400, "invalid_grant", code)).into_iter();
    let named = [error(400, "temporarily_unavailable", 1), error(503, "invalid_client", 7_000_215)];
    let bare = [429, 500, 504].map(ResponseTemplate::new);
    let tried = answers.chain(named).chain(bare).map(|first| async move {
        let bench = Bench::without_tokens(|_| {}).await;
        let good = ResponseTemplate::new(200).set_body_json(json!({"access_token": "token", "expires_in": 3599}));
        bench.answer(TOKEN_PATH, move |n, _| if n == 1 { first.clone() } else { good.clone() }).await;
        bench.graph.sign_in().await.unwrap();
        assert_eq!(bench.requests(TOKEN_PATH).await.len(), 2);
        assert_eq!(bench.graph.token_trouble(), None);
    });
    join_all(tried).await;
}

async fn trouble(apps: Value, client_id: &str, secret: &str) -> String {
    let simulated = SignIn::with(apps, client_id, |_| Proof::Secret(secret.into())).await;
    assert_eq!(simulated.graph.sign_in().await, Err(REFUSED));
    simulated.graph.token_trouble().unwrap()
}

#[tokio::test]
async fn the_simulated_tenant_refuses_as_entra_does() {
    let apps = json!([{"clientId": "client", "secret": "right"}, {"clientId": "off", "secret": "s", "disabled": true},
                      {"clientId": "old", "secret": "s", "secretExpired": true}]);
    for (client_id, secret, code) in [
        ("client", "wrong", "AADSTS7000215"),
        ("old", "s", "AADSTS7000222"),
        ("off", "s", "AADSTS7000112"),
        ("nobody", "s", "AADSTS700016"),
    ] {
        let trouble = trouble(apps.clone(), client_id, secret).await;
        assert!(trouble.contains(code), "{client_id}: {trouble}");
    }
    let simulated = SignIn::with(apps, "client", |_| Proof::Secret("right".into())).await;
    simulated.graph.sign_in().await.unwrap();
}

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_why_and_nothing_private() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("mfa_reset=trace")
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let bench = Bench::without_tokens(|_| {}).await;
    bench.answer(TOKEN_PATH, |_, _| error(401, "invalid_client", 7_000_222)).await;
    assert_eq!(bench.graph.sign_in().await, Err(REFUSED));
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("the client secret has expired: make a new one (AADSTS7000222)"), "{logged}");
    assert!(!logged.contains("canary") && !logged.contains("ada@"), "{logged}");
}
