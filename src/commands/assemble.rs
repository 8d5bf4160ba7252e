//! Puts a configured process together: metrics, ledger, Graph, and the rules to go by.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Unreachable;
use crate::adapters::graph::{self, Graph, Observed, Observer, Operation, Platform, Proof, Status};
use crate::adapters::ledger::{Ledger, OpenError, SigningKey};
use crate::adapters::{Shared, amqp, upkeep};
use crate::admin::Health;
use crate::config::{self, Config, Credential};
use crate::domain::rules::Rules;
use crate::metrics::Metrics;
use crate::trace::{self, Span};

/// What every process that resets has.
pub struct Process {
    /// Graph and ledger.
    pub shared: Arc<Shared>,
    /// What to go by.
    pub rules: Arc<Rules>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` says.
    pub health: Health,
}

impl Process {
    /// Opens the ledger and makes the Graph client; connects to nothing else yet.
    pub async fn open(config: &Config, metrics: Arc<Metrics>, health: Health) -> anyhow::Result<Self> {
        let key = SigningKey::load_or_create(&config.signing_key_file).context("audit.signing_key_file")?;
        let (url, longest_call) = (config.ledger_url.expose_secret(), config.graph.timeout);
        let ledger = match Ledger::open(url, &instance(), key, longest_call, Timestamp::now()).await {
            Err(OpenError::Unreachable(error)) => {
                return Err(Unreachable { what: "the ledger's database", why: error.to_string() }.into());
            }
            opened => opened.context("ledger.url")?,
        };
        let graph = Graph::new(graph_settings(config, ledger.digest_key(), observer(&metrics))?).context("graph")?;
        metrics.set_graph_rate(graph.requests_per_second());
        let (policy, profiles) = (config.policy.clone(), config.profiles.clone());
        let rules = Rules { policy, limits: config.retry, app: app(&config.graph), profiles };
        let shared = Shared {
            ledger,
            graph,
            max_resets_per_hour: config.policy.max_resets_per_hour,
            leases: Mutex::new(BTreeSet::new()),
        };
        Ok(Self { shared: Arc::new(shared), rules: Arc::new(rules), metrics, health })
    }

    /// Starts what goes on beside the jobs, and asks for the first token.
    pub fn start(&self, config: &Config, stop: &CancellationToken) -> JoinSet<()> {
        let mut beside = JoinSet::new();
        let (shared, metrics, health) = (self.shared.clone(), self.metrics.clone(), self.health.clone());
        beside.spawn(upkeep::keep(shared, metrics, health, config.checkpoint_interval, stop.clone()));
        let (shared, health) = (self.shared.clone(), self.health.clone());
        beside.spawn(async move {
            // A refusal is told by the token client; upkeep notes when it gets better.
            let signed_in = shared.graph.sign_in().await.is_ok();
            health.set_token(signed_in, shared.graph.token_trouble());
        });
        beside
    }

    /// Signs the last checkpoint and closes the ledger.
    pub async fn close(&self) {
        upkeep::checkpoint(&self.shared, &self.metrics).await;
        self.shared.ledger.close().await;
    }
}

/// Graph's settings; the key is that of the digests of numbers and addresses.
pub fn graph_settings(config: &Config, digest_key: [u8; 32], observer: Observer) -> anyhow::Result<graph::Settings> {
    let graph = &config.graph;
    Ok(graph::Settings {
        endpoint: graph.endpoint.parse().context("graph.endpoint")?,
        authority: graph.authority.parse().context("graph.authority")?,
        tenant_id: graph.tenant_id.clone(),
        client_id: graph.client_id.clone(),
        proof: proof(graph)?,
        requests_per_second: f64::from(graph.requests_per_second),
        beta: graph.beta,
        timeout: graph.timeout,
        allow_http: graph.allow_http,
        digest_key,
        observer,
    })
}

/// What the audit trail calls the application. A platform does not tell the id of its own identity.
fn app(graph: &config::Graph) -> String {
    let own = graph.client_id.is_empty();
    if own { "system-assigned managed identity".to_owned() } else { graph.client_id.clone() }
}

fn proof(graph: &config::Graph) -> anyhow::Result<Proof> {
    Ok(match graph.credential {
        Credential::Secret => Proof::Secret(graph.client_secret.clone()),
        Credential::Certificate => Proof::Certificate(graph.certificate_file.clone()),
        Credential::Federated => Proof::Federated(graph.federated_token_file.clone()),
        Credential::ManagedIdentity => {
            Proof::ManagedIdentity(match graph.platform.as_ref().context("no platform")? {
                config::Platform::VirtualMachine(root) => Platform::VirtualMachine(root.parse().context("metadata")?),
                config::Platform::AppService { endpoint, header } => Platform::AppService {
                    endpoint: endpoint.parse().context("IDENTITY_ENDPOINT")?,
                    header: header.clone(),
                },
            })
        }
    })
}

fn observer(metrics: &Arc<Metrics>) -> Observer {
    let metrics = metrics.clone();
    Arc::new(move |observed| match observed {
        Observed::Call { operation, status, seconds, id, context } => {
            let took = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            metrics.graph_call(operation.name(), &status.to_string(), took);
            tell(operation, status, took, id.zip(context));
        }
        Observed::TokenRefresh { ok, expires_at } => metrics.token_refreshed(expires_at.filter(|_| ok)),
        Observed::Hold { seconds, .. } => {
            metrics.graph_held(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        }
    })
}

/// Tells of a call in the trace of the job that made it.
fn tell(operation: Operation, status: Status, took: Duration, made: Option<(Uuid, trace::Context)>) {
    let Some((id, context)) = made else { return };
    let Some(mut span) = Span::call(context, operation.name(), took) else { return };
    span.note("mfa_reset.graph.client_request_id", id.to_string());
    if let Status::Code(code) = status {
        span.note("http.response.status_code", code);
    }
    let good = matches!(status, Status::Code(..400));
    span.error = (!good).then(|| status.to_string());
    span.end();
}

/// The metrics of a process.
pub fn metrics() -> anyhow::Result<Arc<Metrics>> {
    Ok(Arc::new(Metrics::new().context("the metrics cannot be registered")?))
}

/// The broker's settings.
pub fn broker(config: &Config) -> amqp::Settings {
    let broker = &config.broker;
    amqp::Settings {
        url: broker.url.clone(),
        prefix: broker.prefix.clone(),
        declare: broker.declare,
        ca_file: broker.ca_file.clone(),
        client_cert_file: broker.client_cert_file.clone(),
        client_key_file: broker.client_key_file.clone(),
        prefetch_tickets: broker.prefetch_tickets,
        prefetch_batch: broker.prefetch_batch,
    }
}

/// What the audit trail calls this process.
pub fn instance() -> String {
    format!("{}:{}", hostname(), std::process::id())
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}
