//! A simulated tenant to sign in to.

use std::sync::Arc;
use std::time::Duration;

use mfa_reset::adapters::graph::{Graph, Platform, Proof};
use mfa_reset::simulator::{self, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::bench::settings;

/// A served tenant and a Graph that signs in to it, until it is dropped.
pub struct SignIn {
    pub graph: Graph,
    pub root: String,
    pub http: reqwest::Client,
    _server: JoinSet<()>,
}

impl SignIn {
    /// A tenant called `tenant` with these apps.
    pub async fn new(apps: Value, proof: Proof) -> Self {
        Self::with(apps, "client", |_| proof).await
    }

    /// The same, for a proof that has to know where the tenant is served.
    pub async fn with(apps: Value, client_id: &str, proof: impl FnOnce(&str) -> Proof) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let tenant = Some(json!({"tenantId": "tenant", "apps": apps}));
        let options = Options { tenant, users: 1, ..Options::default() };
        let mut server = JoinSet::new();
        server.spawn(async move { simulator::serve(listener, options, std::future::pending()).await.unwrap() });
        let mut settings = settings(&root, &root, &Arc::default());
        settings.client_id = client_id.to_owned();
        settings.proof = proof(&root);
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        Self { graph: Graph::new(settings).unwrap(), root, http, _server: server }
    }

    /// How the calls of one operation ended.
    pub async fn calls(&self, operation: &str) -> Vec<u64> {
        let journal = self.http.get(format!("{}/_simulator/journal", self.root)).send().await.unwrap();
        let journal: Vec<Value> = journal.json().await.unwrap();
        let of = journal.iter().filter(|call| call["operation"] == operation);
        of.map(|call| call["status"].as_u64().unwrap()).collect()
    }

    pub async fn set(&self, change: Value) {
        let sent = self.http.patch(format!("{}/_simulator/settings", self.root)).json(&change).send().await.unwrap();
        assert!(sent.status().is_success(), "{:?}", sent.text().await);
    }

    pub async fn fault(&self, fault: Value) {
        let sent = self.http.post(format!("{}/_simulator/faults", self.root)).json(&fault).send().await.unwrap();
        assert!(sent.status().is_success(), "{:?}", sent.text().await);
    }

    pub async fn forget_tokens(&self) {
        let sent = self.http.delete(format!("{}/_simulator/tokens", self.root)).send().await.unwrap();
        assert!(sent.status().is_success());
    }

    /// Waits for the token that is asked for in the background.
    pub async fn until_ready(&self) {
        let ready = async {
            while !self.graph.is_ready() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready).await.unwrap();
    }
}

/// A virtual machine whose metadata service is at `root`.
pub fn virtual_machine(root: &str) -> Proof {
    Proof::ManagedIdentity(Platform::VirtualMachine(root.parse().unwrap()))
}

/// App Service at `root`.
pub fn app_service(root: &str, header: &str) -> Proof {
    let endpoint = format!("{root}/msi/token").parse().unwrap();
    Proof::ManagedIdentity(Platform::AppService { endpoint, header: header.into() })
}
