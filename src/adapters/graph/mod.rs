//! HOW: the calls we make to Microsoft Graph (as an application; v1.0, and beta where that is allowed), and nothing else.
//!
//! Reading calls wait at the gate, are retried, and leave the ids of their requests on a [`Trail`]. Calls that
//! change something are one request each: their caller has been admitted, has checked its lease, and is told when
//! the outcome is unknown. What is private (numbers, addresses, tokens) does not leave this module, whose errors and
//! logs name statuses and codes only. It must not decide anything, and must not know of metrics or other adapters.

mod address;
mod answer;
mod assertion;
mod batch;
mod client;
mod credential;
mod digest;
mod fault;
mod gate;
mod inspect;
mod listing;
mod managed_identity;
mod methods;
#[cfg(test)]
mod model;
mod observe;
mod rate;
mod reading;
mod refusal;
pub mod retry_after;
mod settings;
mod survey;
mod token;
mod users;

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use tokio_util::sync::CancellationToken;

use crate::domain::method::MethodType;
use crate::domain::outcome::Fault;
use crate::domain::request::Lane;

use digest::DigestKey;
use gate::Gate;
use token::Tokens;

pub use managed_identity::Platform;
pub use observe::{Observed, Observer, Operation, Status, Trail};
pub use settings::{Proof, SetUpError, Settings};

/// Microsoft Graph, as one application of one tenant sees it.
pub struct Graph {
    http: reqwest::Client,
    endpoint: Url,
    timeout: Duration,
    observer: Observer,
    gate: Gate,
    tokens: Tokens,
    digest_key: DigestKey,
    beta: bool,
}

impl Graph {
    /// Checks the settings and builds the client. Nothing is sent yet.
    pub fn new(settings: Settings) -> Result<Self, SetUpError> {
        settings.check()?;
        let http = settings.http_client()?;
        Ok(Self {
            gate: Gate::new(settings.requests_per_second, settings.observer.clone()),
            tokens: Tokens::new(settings.token_client(&http)?, &settings),
            digest_key: DigestKey::new(&settings.digest_key),
            http,
            beta: settings.beta,
            endpoint: settings.endpoint,
            timeout: settings.timeout,
            observer: settings.observer,
        })
    }

    /// Fetches a token if there is none that works, so that a wrong credential shows at the start.
    pub async fn sign_in(&self) -> Result<(), Fault> {
        self.tokens.current().await.map(|_| ())
    }

    /// Waits until a changing call may be sent: for a token, for a hold of up to 30 s, and for the rate.
    pub async fn admit(&self, lane: Lane, stop: &CancellationToken) -> Result<(), Fault> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Fault::Stopped),
            admitted = self.admitted(lane, 1) => admitted,
        }
    }

    /// Holds every call until then; what another replica learned. A hold is only ever lengthened.
    pub fn hold_until(&self, until: Timestamp) {
        self.gate.hold_until(until);
    }

    /// The keyed digest of a user's phone number or address.
    pub fn digest(&self, user_id: &str, kind: MethodType, value: &str) -> Option<String> {
        self.digest_key.digest(kind, user_id, Some(value))
    }

    /// Until when Graph asked not to be called, if that is still to come.
    pub fn held_until(&self) -> Option<Timestamp> {
        self.gate.held_until()
    }

    /// Waits until Graph asks to wait longer than it had before: other replicas should hear of it at once.
    pub async fn hold_asked(&self) {
        self.gate.hold_asked().await;
    }

    /// The most requests a second that this replica allows itself now.
    pub fn requests_per_second(&self) -> f64 {
        self.gate.per_second()
    }

    /// Whether there is a token that works.
    pub fn is_ready(&self) -> bool {
        self.tokens.expires_at().is_some()
    }

    /// Why the last try to get a token failed, if it did: what is wrong and its code, no secret and no name.
    pub fn token_trouble(&self) -> Option<String> {
        self.tokens.trouble()
    }

    /// When the token expires, if there is one that works.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.tokens.expires_at()
    }
}
