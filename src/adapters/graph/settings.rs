//! Where Graph is and who we are to it, checked before anything is sent: the token goes to these places only.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;
use secrecy::SecretString;

use super::managed_identity::Platform;
use super::observe::Observer;

/// How long a connection may take to come about, at most.
const CONNECT: Duration = Duration::from_secs(10);
/// The same for a service of the platform that the worker runs on.
const CONNECT_NEARBY: Duration = Duration::from_secs(2);

/// Where Graph is, and who we are to it.
pub struct Settings {
    /// The root of Graph, without version.
    pub endpoint: Url,
    /// The root of the identity service, without tenant.
    pub authority: Url,
    /// The tenant.
    pub tenant_id: String,
    /// The application; for a managed identity the one that is meant, or empty for the platform's own.
    pub client_id: String,
    /// How it proves who it is.
    pub proof: Proof,
    /// The ceiling of the rate, in requests a second; an item of a batch counts as one.
    pub requests_per_second: f64,
    /// Whether the beta API may be called.
    pub beta: bool,
    /// How long a request may take.
    pub timeout: Duration,
    /// Whether `http://` is accepted off loopback too.
    pub allow_http: bool,
    /// The key of the digests of numbers and addresses.
    pub digest_key: [u8; 32],
    /// Hears of every call.
    pub observer: Observer,
}

/// How the application proves who it is. The files are read anew for every token.
#[derive(Clone)]
pub enum Proof {
    /// By a secret that it shares with the identity service.
    Secret(SecretString),
    /// By signing with the key of a certificate; both are in this PEM file.
    Certificate(PathBuf),
    /// By the token in this file, from an issuer that it trusts.
    Federated(PathBuf),
    /// By where it runs.
    ManagedIdentity(Platform),
}

/// Why Graph cannot be called with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// An address will not do.
    #[error("{key}: {expected} is expected")]
    Address {
        /// The configuration key.
        key: &'static str,
        /// What is accepted.
        expected: &'static str,
    },
    /// A number will not do.
    #[error("{key}: more than zero is expected")]
    NotPositive {
        /// The configuration key.
        key: &'static str,
    },
    /// The HTTP client cannot be built, as where no certificates are installed.
    #[error("the HTTPS client cannot be built")]
    Client(#[source] reqwest::Error),
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SetUpError> {
        for (key, url) in [("graph.endpoint", &self.endpoint), ("graph.authority", &self.authority)] {
            let root = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            if url.host().is_none() || !root || !url.username().is_empty() || url.password().is_some() {
                return Err(SetUpError::Address { key, expected: "a root such as https://graph.microsoft.com" });
            }
            let plain = url.scheme() == "http" && (self.allow_http || is_loopback(url));
            if url.scheme() != "https" && !plain {
                return Err(SetUpError::Address { key, expected: "https:// (http:// only for loopback)" });
            }
        }
        if !(self.requests_per_second.is_finite() && self.requests_per_second > 0.0) {
            return Err(SetUpError::NotPositive { key: "graph.requests_per_second" });
        }
        if self.timeout.is_zero() {
            return Err(SetUpError::NotPositive { key: "graph.timeout" });
        }
        Ok(())
    }

    pub(super) fn http_client(&self) -> Result<reqwest::Client, SetUpError> {
        let simulated = |url: &Url| url.scheme() == "http" && is_loopback(url);
        let mut builder = plain_client(CONNECT.min(self.timeout))
            .pool_idle_timeout(Duration::from_secs(60))
            .https_only(self.endpoint.scheme() == "https" && self.authority.scheme() == "https");
        if simulated(&self.endpoint) && simulated(&self.authority) {
            // Needs no certificates, which a bare container lacks, and nothing local goes through a proxy.
            builder = builder.tls_certs_only([]).no_proxy();
        }
        builder.build().map_err(SetUpError::Client)
    }

    /// What tokens are asked with: Graph's client, or for a platform one of its own, which no proxy may come between.
    pub(super) fn token_client(&self, graph: &reqwest::Client) -> Result<reqwest::Client, SetUpError> {
        match self.proof {
            Proof::Secret(_) | Proof::Certificate(_) | Proof::Federated(_) => Ok(graph.clone()),
            Proof::ManagedIdentity(_) => {
                let builder = plain_client(CONNECT_NEARBY.min(self.timeout));
                builder.no_proxy().tls_certs_only([]).build().map_err(SetUpError::Client)
            }
        }
    }
}

fn plain_client(connect: Duration) -> reqwest::ClientBuilder {
    let name = concat!("mfa-reset/", env!("CARGO_PKG_VERSION"));
    reqwest::Client::builder().user_agent(name).redirect(Policy::none()).referer(false).connect_timeout(connect)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}
