//! The settings in force: one table of keys ([`keys::TABLE`]), read from flags, environment and a file.
//!
//! Every mistake is reported at once, and none of them quotes a value: it may be a secret. This is the only module
//! that reads the environment. It connects to nothing.

pub mod check;
pub mod keys;
mod load;
mod service_manager;
mod show;
mod sign_in;
pub mod source;
pub mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::profile::Profiles;
use crate::domain::retry::Limits;
use crate::domain::rules::Policy;
use keys::{Key, Part};
pub use load::{Mistake, Mistakes};
pub use service_manager::ServiceManager;
pub use show::reference_table;
pub use sign_in::{Cloud, Credential, Platform};
pub use source::Sources;

/// What a command uses, and so what must be configured for it. Everything that is set is checked all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// It connects to RabbitMQ.
    pub broker: bool,
    /// It calls Graph.
    pub graph: bool,
}

impl Needs {
    /// The ledger alone, which has a default.
    pub const LEDGER: Self = Self { broker: false, graph: false };
    /// Everything.
    pub const WORKER: Self = Self { broker: true, graph: true };
    /// Graph and the ledger.
    pub const RUN: Self = Self { broker: false, graph: true };
    /// The broker.
    pub const SUBMIT: Self = Self { broker: true, graph: false };

    const fn part(self, part: Part) -> bool {
        match part {
            Part::Broker => self.broker,
            Part::Graph(_) => self.graph,
        }
    }
}

/// Where RabbitMQ is and how much is taken from it.
#[derive(Debug, Clone, Default)]
pub struct Broker {
    /// The AMQP address with user and password; empty where a command needs no broker.
    pub url: SecretString,
    /// The first word of every exchange and queue.
    pub prefix: String,
    /// Whether missing exchanges and queues are declared.
    pub declare: bool,
    /// The certificates that vouch for the broker.
    pub ca_file: Option<PathBuf>,
    /// The certificate shown to the broker.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// How many requests of the tickets lane are in hand at once.
    pub prefetch_tickets: u16,
    /// How many requests of the batch lane are in hand at once.
    pub prefetch_batch: u16,
    /// The management API with user and password.
    pub management_url: Option<SecretString>,
}

/// How Graph is reached.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The root of Graph, without version and closing slash.
    pub endpoint: String,
    /// The root of the token endpoint, without tenant and closing slash.
    pub authority: String,
    /// The cloud that both are of, unless they are set.
    pub cloud: Cloud,
    /// How the application proves who it is.
    pub credential: Credential,
    /// The tenant; may be empty for a managed identity.
    pub tenant_id: String,
    /// The application; empty means the platform's own managed identity.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Its certificate and key.
    pub certificate_file: PathBuf,
    /// The token that its issuer writes and renews.
    pub federated_token_file: PathBuf,
    /// Who vouches for a managed identity; `None` for the other credentials.
    pub platform: Option<Platform>,
    /// The most requests a second.
    pub requests_per_second: u32,
    /// Whether the beta API may be called.
    pub beta: bool,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether `http://` is accepted off loopback.
    pub allow_http: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Every setting.
#[derive(Debug, Clone)]
pub struct Config {
    /// `broker.*`.
    pub broker: Broker,
    /// `graph.*`.
    pub graph: Graph,
    /// `ledger.url`.
    pub ledger_url: SecretString,
    /// `policy.*`. `producers` is `None` where anybody may ask: allowed by `allow_any_producer`, or no broker is there
    /// to say who asks.
    pub policy: Policy,
    /// The built-in profiles and those of `policy.profiles`.
    pub profiles: Profiles,
    /// `audit.signing_key_file`.
    pub signing_key_file: PathBuf,
    /// `audit.checkpoint_interval`.
    pub checkpoint_interval: Duration,
    /// `retry.*`.
    pub retry: Limits,
    /// `admin.listen`.
    pub admin_listen: SocketAddr,
    /// `log.format`; `None` is text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// `log.filter`.
    pub log_filter: String,
    /// `log.otlp_endpoint`.
    pub otlp_endpoint: Option<String>,
    /// `shutdown.grace_period`.
    pub grace_period: Duration,
    /// Whoever wants to hear how the worker is.
    pub service_manager: Option<ServiceManager>,
    allow_any_producer: bool,
    in_force: Vec<InForce>,
}

/// One setting as it is shown: secrets are gone already.
#[derive(Debug, Clone)]
struct InForce {
    key: &'static Key,
    shown: String,
    origin: String,
}
