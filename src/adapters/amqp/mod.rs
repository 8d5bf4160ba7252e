//! Everything that knows AMQP: a session with the broker, what comes in, what goes out, and the topology.
//!
//! A session is never repaired: the first sign of trouble ends it, and the caller opens another. Nothing here decides
//! what a delivery means or whether it is acknowledged.

mod arrival;
mod client;
mod connect;
mod dead_letters;
mod delivery;
mod envelope;
mod guard;
mod inspect;
mod lane;
mod letter;
mod management;
mod outgoing;
mod publisher;
mod session;
mod sieve;
pub mod topology;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

pub use client::{Answer, Client, Results, Submission};
pub use dead_letters::{DeadLetters, Held};
pub use delivery::{Delivery, Incoming, Suspicion};
pub use inspect::{Inspection, Verdict};
pub use letter::Letter;
pub use management::{Management, QueueView};
pub use outgoing::Outgoing;
pub use publisher::{PublishError, Publisher};
pub use session::{Inbox, Session};

use crate::domain::request::Lane;

/// How to reach the broker, and how much to take from it at once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `amqp://` or `amqps://` URL.
    pub url: SecretString,
    /// What the names of all queues and exchanges begin with.
    pub prefix: String,
    /// Whether to declare what is missing.
    pub declare: bool,
    /// The PEM file with the authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The PEM file with the client's certificate.
    pub client_cert_file: Option<PathBuf>,
    /// The PEM file with the client's key.
    pub client_key_file: Option<PathBuf>,
    /// How many deliveries of the tickets lane may be in hand.
    pub prefetch_tickets: u16,
    /// How many deliveries of the batch lane may be in hand.
    pub prefetch_batch: u16,
}

/// Why there is no session. The message says what to do and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It stays so until somebody changes a setting, a permission or the topology.
    #[error("{0}")]
    Configuration(String),
    /// It may well be better soon.
    #[error("{0}")]
    Passing(String),
}

/// The session is over; what was asked of it may or may not have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker session is over")]
pub struct Lost;

/// How a session ends: the first reason counts, and everybody with the token hears of it.
#[derive(Debug, Clone)]
struct Ending {
    token: CancellationToken,
    why: Arc<OnceLock<String>>,
}

impl Ending {
    fn new(token: CancellationToken) -> Self {
        Self { token, why: Arc::default() }
    }

    fn end(&self, why: impl Into<String>) {
        if !self.token.is_cancelled() {
            self.why.get_or_init(|| why.into());
        }
        self.token.cancel();
    }
}

/// The word for a lane in routing keys.
const fn word(lane: Lane) -> &'static str {
    match lane {
        Lane::Tickets => "reset",
        Lane::Batch => "batch",
    }
}
