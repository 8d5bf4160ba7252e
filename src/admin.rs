//! The worker's own HTTP, for probes and scrapers:
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the worker's loop turns; no dependency counts |
//! | `/readyz` | 200 or 503, and each check as JSON; `reasons.token` says why there is no new token |
//! | `/metrics` | Prometheus's text format |
//! | `/version` | name and version as JSON |
//!
//! It changes nothing and shows no request, user or secret. Graph does not count for readiness beyond the token: its
//! outage is every replica's, and no reason to replace one.

pub mod systemd;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::metrics::{CHECKS, Metrics};

/// How long the loop may be silent and still count as alive.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// How long a slow client may hold the end up.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How the worker is; cheap to clone, and every clone is the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<Signs>);

#[derive(Debug)]
struct Signs {
    born: Instant,
    last_beat: AtomicU64,
    consuming: AtomicBool,
    publisher: AtomicBool,
    refused: AtomicUsize,
    ledger: AtomicBool,
    token: AtomicBool,
    token_trouble: Mutex<Option<String>>,
    draining: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Alive, and ready for nothing yet.
    pub fn new() -> Self {
        let no = || AtomicBool::new(false);
        Self(Arc::new(Signs {
            born: Instant::now(),
            last_beat: AtomicU64::new(0),
            consuming: no(),
            publisher: no(),
            refused: AtomicUsize::new(0),
            ledger: no(),
            token: no(),
            token_trouble: Mutex::default(),
            draining: no(),
        }))
    }

    /// The loop turned.
    pub fn beat(&self) {
        self.0.last_beat.store(self.age(), Ordering::Relaxed);
    }

    /// Whether deliveries are being consumed.
    pub fn set_consuming(&self, yes: bool) {
        self.0.consuming.store(yes, Ordering::Relaxed);
    }

    /// Whether there is a broker to publish to, and it is not short of memory or disk.
    pub fn set_publisher(&self, yes: bool) {
        self.0.publisher.store(yes, Ordering::Relaxed);
    }

    /// One message more that the broker refuses (`true`), or one less. Tells whether it is the first, or was the last.
    pub fn refused(&self, one_more: bool) -> bool {
        let refused = &self.0.refused;
        let before =
            if one_more { refused.fetch_add(1, Ordering::SeqCst) } else { refused.fetch_sub(1, Ordering::SeqCst) };
        before == usize::from(!one_more)
    }

    /// Whether the broker takes all that is published.
    pub fn publisher(&self) -> bool {
        self.0.publisher.load(Ordering::Relaxed) && self.0.refused.load(Ordering::SeqCst) == 0
    }

    /// Whether the ledger can be written.
    pub fn set_ledger(&self, yes: bool) {
        self.0.ledger.store(yes, Ordering::Relaxed);
    }

    /// Whether the ledger could be written when last tried.
    pub fn ledger(&self) -> bool {
        self.0.ledger.load(Ordering::Relaxed)
    }

    /// Whether there is a token for Graph, and why the last attempt to get one failed, if it did: an old token may
    /// still work.
    pub fn set_token(&self, yes: bool, trouble: Option<String>) {
        self.0.token.store(yes, Ordering::Relaxed);
        *self.0.token_trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn token_trouble(&self) -> Option<String> {
        self.0.token_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The worker stops taking work; there is no way back.
    pub fn set_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the loop turned lately.
    pub fn is_alive(&self) -> bool {
        let silence = self.age().saturating_sub(self.0.last_beat.load(Ordering::Relaxed));
        u128::from(silence) <= LONGEST_SILENCE.as_millis()
    }

    /// Whether work is being done.
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|(_, ok)| *ok)
    }

    fn checks(&self) -> [(&'static str, bool); CHECKS.len()] {
        let is = |sign: &AtomicBool| sign.load(Ordering::Relaxed);
        let (signs, [consuming, publisher, ledger, token, not_draining]) = (&self.0, CHECKS);
        [
            (consuming, is(&signs.consuming)),
            (publisher, self.publisher()),
            (ledger, self.ledger()),
            (token, is(&signs.token)),
            (not_draining, !is(&signs.draining)),
        ]
    }

    fn age(&self) -> u64 {
        u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health.clone())
        .merge(Router::new().route("/metrics", get(render)).with_state((metrics, health)))
        .route("/version", get(version));
    let stopped = stop.clone().cancelled_owned();
    let patience = async {
        stop.cancelled().await;
        sleep(LAST_WORDS).await;
    };
    tokio::select! {
        ended = axum::serve(listener, router).with_graceful_shutdown(stopped) => ended,
        () = patience => Ok(()),
    }
}

async fn livez(State(health): State<Health>) -> Response {
    answer(health.is_alive(), json!({"alive": health.is_alive()}))
}

async fn readyz(State(health): State<Health>) -> Response {
    let checks = health.checks();
    let ready = checks.iter().all(|(_, ok)| *ok);
    let checks: serde_json::Map<_, _> = checks.into_iter().map(|(name, ok)| (name.to_owned(), ok.into())).collect();
    let mut body = json!({"ready": ready, "checks": checks});
    if let Some(trouble) = health.token_trouble() {
        body["reasons"] = json!({"token": trouble});
    }
    answer(ready, body)
}

async fn render(State((metrics, health)): State<(Arc<Metrics>, Health)>) -> Response {
    metrics.set_checks(health.checks());
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn version() -> Json<serde_json::Value> {
    Json(json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")}))
}

fn answer(good: bool, body: serde_json::Value) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::task::JoinSet;

    use super::*;

    struct Served {
        health: Health,
        address: String,
        stop: CancellationToken,
        server: JoinSet<io::Result<()>>,
    }

    async fn served() -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (health, stop) = (Health::new(), CancellationToken::new());
        let mut server = JoinSet::new();
        server.spawn(serve(listener, health.clone(), Arc::new(Metrics::new().unwrap()), stop.clone()));
        Served { health, address, stop, server }
    }

    async fn get(served: &Served, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let response = client.get(format!("{}{path}", served.address)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    #[tokio::test]
    async fn ready_when_every_check_is_and_never_again_once_draining() {
        let served = served().await;
        assert_eq!(get(&served, "/readyz").await.0, 503);
        served.health.set_consuming(true);
        served.health.set_publisher(true);
        served.health.set_ledger(true);
        let (status, body) = get(&served, "/readyz").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["checks"]["token"], &body["checks"]["ledger"]), (503, &false.into(), &true.into()));
        assert_eq!(body["reasons"], Value::Null);
        served.health.set_token(true, Some("the client secret has expired".to_owned()));
        let (status, body) = get(&served, "/readyz").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["reasons"]["token"]), (200, &"the client secret has expired".into()));
        served.health.set_draining();
        let (status, body) = get(&served, "/readyz").await;
        assert!(status == 503 && body.contains("\"not_draining\":false"), "{body}");
        assert_eq!(get(&served, "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_and_version_are_served_and_the_rest_is_not() {
        let served = served().await;
        let (status, text) = get(&served, "/metrics").await;
        assert!(status == 200 && text.contains("mfa_reset_build_info{version="), "{text}");
        assert!(get(&served, "/version").await.1.contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(get(&served, "/").await.0, 404);
    }

    #[tokio::test]
    async fn stop_ends_the_server_although_a_client_stalls() {
        let mut served = served().await;
        let _stalled = tokio::net::TcpStream::connect(served.address.trim_start_matches("http://")).await.unwrap();
        served.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), served.server.join_next()).await;
        ended.unwrap().unwrap().unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn alive_while_the_loop_turns() {
        let health = Health::new();
        tokio::time::advance(LONGEST_SILENCE).await;
        assert!(health.is_alive());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!health.is_alive());
        health.beat();
        assert!(health.is_alive());
    }
}
