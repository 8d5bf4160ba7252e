//! A Graph to call, a server that plays it, and an ear for what is observed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mfa_reset::adapters::graph::{Graph, Observed, Operation, Proof, Settings, Status, Trail};
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::Reach;
use mfa_reset::domain::request::Lane;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

pub const USER: &str = "00000000-0000-0000-0000-000000000001";
pub const TOKEN_PATH: &str = "/tenant/oauth2/v2.0/token";
pub const METHODS_PATH: &str = "/v1.0/users/00000000-0000-0000-0000-000000000001/authentication/methods";
pub const PHONE_ID: &str = "3179e48a-750b-4051-897c-87b9720928f7";

pub struct Bench {
    pub server: MockServer,
    pub graph: Graph,
    heard: Arc<Mutex<Vec<Observed>>>,
}

/// Settings for a Graph at `endpoint` whose tokens come from `authority`.
pub fn settings(endpoint: &str, authority: &str, heard: &Arc<Mutex<Vec<Observed>>>) -> Settings {
    let heard = Arc::clone(heard);
    Settings {
        endpoint: endpoint.parse().unwrap(),
        authority: authority.parse().unwrap(),
        tenant_id: "tenant".to_owned(),
        client_id: "client".to_owned(),
        proof: Proof::Secret("canary-secret".to_owned().into()),
        requests_per_second: 1000.0,
        beta: false,
        timeout: Duration::from_secs(5),
        allow_http: false,
        digest_key: [7; 32],
        observer: Arc::new(move |observed| heard.lock().unwrap().push(observed)),
    }
}

impl Bench {
    /// A server that grants tokens and nothing else yet.
    pub async fn new() -> Self {
        let bench = Self::without_tokens(|_| {}).await;
        bench.grant(|n| json!({"access_token": format!("token-{n}"), "expires_in": 3599})).await;
        bench
    }

    pub async fn without_tokens(change: impl FnOnce(&mut Settings)) -> Self {
        let server = MockServer::start().await;
        let heard = Arc::default();
        let mut settings = settings(&server.uri(), &server.uri(), &heard);
        change(&mut settings);
        Self { graph: Graph::new(settings).unwrap(), server, heard }
    }

    /// Answers the n-th request for a token with `answer(n)`, from 1.
    pub async fn grant(&self, answer: fn(usize) -> Value) {
        let count = Mutex::new(0);
        let reply = move |_: &Request| {
            let mut count = count.lock().unwrap();
            *count += 1;
            ResponseTemplate::new(200).set_body_json(answer(*count))
        };
        Mock::given(method("POST")).and(path(TOKEN_PATH)).respond_with(reply).mount(&self.server).await;
    }

    /// Answers every request to a path with what `answer` makes of its number, from 1.
    pub async fn answer(&self, at: &str, answer: impl Fn(usize, &Request) -> ResponseTemplate + Send + Sync + 'static) {
        let count = Mutex::new(0);
        let reply = move |request: &Request| {
            let mut count = count.lock().unwrap();
            *count += 1;
            answer(*count, request)
        };
        Mock::given(path(at)).respond_with(reply).mount(&self.server).await;
    }

    /// The requests that reached a path.
    pub async fn requests(&self, at: &str) -> Vec<Request> {
        let all = self.server.received_requests().await.unwrap();
        all.into_iter().filter(|request| request.url.path() == at).collect()
    }

    pub fn heard(&self) -> Vec<Observed> {
        self.heard.lock().unwrap().clone()
    }

    /// How the calls of one operation ended.
    pub fn statuses(&self, wanted: Operation) -> Vec<Status> {
        let heard = self.heard();
        let calls = heard.iter().filter_map(|observed| match observed {
            Observed::Call { operation, status, .. } if *operation == wanted => Some(*status),
            Observed::Call { .. } | Observed::TokenRefresh { .. } | Observed::Hold { .. } => None,
        });
        calls.collect()
    }

    /// Removes the mobile phone of the user.
    pub fn phone() -> Method {
        let method_type = MethodType::PhoneMobile;
        Method::new(method_type, PHONE_ID)
    }
}

/// Lists the methods of the user.
pub async fn list(graph: &Graph) -> Result<(), Fault> {
    graph.list_methods(Lane::Tickets, USER, &Reach::default(), &Trail::default()).await.map(|_| ())
}

pub fn phone_path() -> String {
    format!("/v1.0/users/{USER}/authentication/phoneMethods/{PHONE_ID}")
}

pub fn error(code: &str, message: &str) -> Value {
    json!({"error": {"code": code, "message": message, "innererror": {"date": "2026-01-01T00:00:00"}}})
}
