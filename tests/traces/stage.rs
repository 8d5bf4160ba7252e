//! A simulated tenant and a process that resets, without a broker: what a message would say is said here.

use std::sync::Arc;

use jiff::Timestamp;
use mfa_reset::adapters::{JobPorts, Outlet};
use mfa_reset::admin::Health;
use mfa_reset::commands::assemble::{self, Process};
use mfa_reset::config::{Config, Needs, Sources};
use mfa_reset::domain::request::{Envelope, Lane, Request};
use mfa_reset::drive::drive;
use mfa_reset::ports::Job;
use mfa_reset::reset::Settlement;
use mfa_reset::simulator::{self, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub const SECRET: &str = "canary-client-secret-traces";
pub const NUMBER: &str = "+1 5555550199";

pub struct Stage {
    pub root: String,
    http: reqwest::Client,
    process: Process,
    _directory: tempfile::TempDir,
    _server: JoinSet<()>,
}

/// What every process needs to know to reset in this tenant.
pub fn settings(root: &str, directory: &tempfile::TempDir) -> Vec<String> {
    let at = |file: &str| directory.path().join(file).display().to_string();
    vec![
        format!("graph.endpoint={root}"),
        format!("graph.authority={root}"),
        "graph.tenant_id=tenant".into(),
        "graph.client_id=client".into(),
        format!("graph.client_secret={SECRET}"),
        "graph.requests_per_second=1000".into(),
        format!("ledger.url=sqlite:{}", at("ledger.db")),
        format!("audit.signing_key_file={}", at("audit.key")),
    ]
}

pub fn upn(user: usize) -> String {
    format!("traced{user}@contoso.test")
}

pub fn request(id: &str, user: usize) -> Value {
    json!({
        "id": id,
        "ticket": {"system": "servicenow", "number": id},
        "target": {"upn": upn(user)},
        "profile": "lost-phone",
        "requested_by": "sam@contoso.test",
    })
}

impl Stage {
    /// A tenant with so many users, each with a phone and an authenticator.
    pub async fn new(users: usize) -> Self {
        let methods = json!([{"type": "phone_mobile", "value": NUMBER}, {"type": "microsoft_authenticator"}]);
        let user = |number| json!({"userPrincipalName": upn(number), "methods": methods});
        let tenant = json!({"premium": true, "users": (1..=users).map(user).collect::<Vec<_>>()});
        let options = Options { tenant: Some(tenant), ..Options::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { simulator::serve(listener, options, std::future::pending()).await.unwrap() });
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources { flags: settings(&root, &directory), ..Sources::default() };
        let config = Config::load(&sources, Needs::RUN).unwrap();
        let process = Process::open(&config, assemble::metrics().unwrap(), Health::new()).await.unwrap();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        Self { root, http, process, _directory: directory, _server: server }
    }

    /// Works on a request that came with this context until it succeeds, and gives the calls to Graph.
    pub async fn work(&self, id: &str, user: usize, traceparent: Option<&str>) -> Vec<Value> {
        let before = self.calls().await.len();
        let body = request(id, user).to_string().into_bytes();
        let traceparent = traceparent.map(str::to_owned);
        let envelope = Envelope { traceparent, ..Envelope::bare(Lane::Tickets) };
        let request = Request::parse(&body, &envelope, &self.process.rules.profiles).unwrap();
        let job = Job { request, envelope };
        let (shared, outlet) = (self.process.shared.clone(), Outlet::Local(Arc::new(|_| Ok(()))));
        let ports = JobPorts::new(shared, outlet, job.clone(), body, CancellationToken::new());
        let settled = drive(&ports, &job, &self.process.rules, &self.process.metrics, Timestamp::now()).await;
        let Settlement::Concluded(concluded) = settled else { panic!("{settled:?}") };
        assert_eq!(concluded.outcome.kind.name(), "succeeded", "{concluded:?}");
        self.calls().await.split_off(before)
    }

    /// Lets the next call of this kind fail.
    pub async fn spoil(&self, operation: &str, status: u16) {
        let fault = json!({"operation": operation, "status": status});
        let sent = self.http.post(format!("{}/_simulator/faults", self.root)).json(&fault).send().await.unwrap();
        assert!(sent.status().is_success());
    }

    /// The calls of one kind.
    pub async fn journal(&self, operation: &str) -> Vec<Value> {
        let all: Vec<Value> =
            self.http.get(format!("{}/_simulator/journal", self.root)).send().await.unwrap().json().await.unwrap();
        all.into_iter().filter(|entry| entry["operation"] == operation).collect()
    }

    async fn calls(&self) -> Vec<Value> {
        let all: Vec<Value> =
            self.http.get(format!("{}/_simulator/journal", self.root)).send().await.unwrap().json().await.unwrap();
        all.into_iter().filter(|entry| entry["operation"] != "token").collect()
    }
}
