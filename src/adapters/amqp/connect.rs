//! One connection: where to, as whom, with which certificates, and what a refusal means.
//!
//! Every wait is bounded here, since the library bounds none; and it is strict where the library is silently lenient.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{SessionError, Settings, guard};

/// How long connecting may take, TLS and login included.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a goodbye may take.
const CLOSE: Duration = Duration::from_secs(5);
/// How long the broker may take to answer anything else.
pub(super) const ANSWER: Duration = Duration::from_secs(15);
/// A peer that falls silent is noticed after two of these, in seconds.
const HEARTBEAT: u16 = 15;

/// Where to connect, and as whom.
pub(super) struct Access {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
}

impl Access {
    /// Reads address and certificates.
    pub(super) fn read(settings: &Settings) -> Result<Self, SessionError> {
        let mut uri = address(settings.url.expose_secret())?;
        uri.query.heartbeat = uri.query.heartbeat.filter(|seconds| *seconds > 0).or(Some(HEARTBEAT));
        let cert_chain = settings.ca_file.as_deref().map(authorities).transpose()?;
        let identity = match (&settings.client_cert_file, &settings.client_key_file) {
            (Some(cert), Some(key)) => Some(identity(cert, key)?),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(wrong("broker.client_cert_file and broker.client_key_file go together"));
            }
        };
        Ok(Self { uri, tls: OwnedTLSConfig { identity, cert_chain } })
    }

    /// The broker user that the URL names.
    pub(super) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Connects; `purpose` is what the broker's own lists show.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Link, SessionError> {
        let properties = ConnectionProperties::default().with_connection_name(format!("mfa-reset {purpose}").into());
        let hang_up = CancellationToken::new();
        let greeting = guard::Greeting::default();
        let (uri, tls) = (self.uri.clone(), self.tls.clone());
        let connecting = guard::connect(uri, tls, properties, hang_up.clone(), greeting.clone());
        let hang_up = hang_up.drop_guard();
        match timeout(CONNECT, connecting).await {
            Ok(Ok(connection)) => Ok(Link { connection, greeting, _hang_up: hang_up }),
            Ok(Err(error)) => Err(self.refusal(&error)),
            Err(_) => {
                let (place, limit) = (self.place(), CONNECT.as_secs());
                Err(SessionError::Passing(format!("the broker at {place} did not answer within {limit} s")))
            }
        }
    }

    /// Whether the connection is encrypted, or stays on this machine.
    pub(super) fn is_private(&self) -> bool {
        let host = self.uri.authority.host.as_str();
        let local = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        self.uri.scheme == AMQPScheme::AMQPS || local
    }

    /// The virtual host.
    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Host and port.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    fn refusal(&self, error: &lapin::Error) -> SessionError {
        let (user, vhost, place) = (self.user(), &self.uri.vhost, self.place());
        match protocol_error(error) {
            Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => wrong(format!(
                "the broker at {place} refused the user {user:?}: check the name and password in broker.url"
            )),
            Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => wrong(format!(
                "the broker at {place} does not let the user {user:?} into the virtual host {vhost:?}, or there is none: \
                 check the path of broker.url (%2f is the default virtual host)"
            )),
            Some(_) | None => SessionError::Passing(format!("cannot connect to the broker at {place}: {error}")),
        }
    }
}

/// A connection, whose socket goes with it.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// What the broker said first.
    pub(super) greeting: guard::Greeting,
    _hang_up: DropGuard,
}

impl Link {
    /// Says goodbye, and hangs up even on one who does not answer.
    pub(super) async fn close(self) {
        _ = timeout(CLOSE, self.connection.close(200, "bye".into())).await;
    }
}

/// What the broker complains of, if it is the broker.
pub(super) fn protocol_error(error: &lapin::Error) -> Option<&AMQPErrorKind> {
    if let ErrorKind::ProtocolError(error) = error.kind() { Some(error.kind()) } else { None }
}

/// Waits for an answer of the broker, but not for ever.
pub(super) async fn bounded<T>(
    what: impl Display,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<lapin::Result<T>, SessionError> {
    let answered = timeout(ANSWER, asked).await;
    answered.map_err(|_| SessionError::Passing(format!("{what}: no answer within {} s", ANSWER.as_secs())))
}

/// The same where any complaint is a failure.
pub(super) async fn answer<T>(
    what: impl Display,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, SessionError> {
    let failed = |error: lapin::Error| SessionError::Passing(format!("{what} failed: {error}"));
    bounded(&what, asked).await?.map_err(failed)
}

fn wrong(what: impl Into<String>) -> SessionError {
    SessionError::Configuration(what.into())
}

/// Reads the URL. The parser's own message may quote the URL, password and all, so it is not passed on.
fn address(url: &str) -> Result<AMQPUri, SessionError> {
    let mut uri: AMQPUri =
        url.parse().map_err(|_| wrong("broker.url is not of the form amqps://user:password@host:port/vhost"))?;
    if let Some(host) = ipv6_host(url) {
        uri.authority.host = host.to_owned();
    }
    let named = url.split(['?', '#']).next().is_some_and(|address| address.contains('@'));
    if uri.query.auth_mechanism == Some(SASLMechanism::External) && !named {
        return Err(wrong(
            "broker.url with auth_mechanism=external must name the broker user that the certificate stands for, \
             as in amqps://user@host/vhost",
        ));
    }
    Ok(uri)
}

/// The host of a URL where it is an IPv6 address: the parser takes such a host for none, and none for `localhost`.
fn ipv6_host(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    host.strip_prefix('[')?.split(']').next()
}

/// Reads the authorities. Unreadable ones would be ignored in silence, and the connection refused for no visible cause.
fn authorities(path: &Path) -> Result<String, SessionError> {
    let text = String::from_utf8(read(path, "broker.ca_file")?).map_err(|_| no_certificate(path, "broker.ca_file"))?;
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, text.as_bytes(), "broker.ca_file")? {
        store.add(certificate).map_err(|_| no_certificate(path, "broker.ca_file"))?;
    }
    Ok(text)
}

fn identity(cert: &Path, key: &Path) -> Result<OwnedIdentity, SessionError> {
    let pem = read(cert, "broker.client_cert_file")?;
    certificates(cert, &pem, "broker.client_cert_file")?;
    let key_pem = read(key, "broker.client_key_file")?;
    PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|_| wrong(format!("broker.client_key_file: {} holds no PEM private key", key.display())))?;
    Ok(OwnedIdentity::PKCS8 { pem, key: key_pem })
}

fn certificates(path: &Path, pem: &[u8], setting: &str) -> Result<Vec<CertificateDer<'static>>, SessionError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| no_certificate(path, setting))
}

fn no_certificate(path: &Path, setting: &str) -> SessionError {
    wrong(format!("{setting}: {} holds something that is no PEM certificate", path.display()))
}

fn read(path: &Path, setting: &str) -> Result<Vec<u8>, SessionError> {
    std::fs::read(path).map_err(|error| wrong(format!("{setting}: cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings(url: &str) -> Settings {
        Settings {
            url: url.into(),
            prefix: "mfa".into(),
            declare: true,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            prefetch_tickets: 1,
            prefetch_batch: 1,
        }
    }

    #[rstest]
    #[case("amqps://ada:s3cret@rabbit/%2f", "rabbit:5671", "ada")]
    #[case("amqp://ada:s3cret@[2001:db8::1]:5673/mfa", "2001:db8::1:5673", "ada")]
    #[case("amqp://127.0.0.1", "127.0.0.1:5672", "guest")]
    #[case("amqps://ada@rabbit/mfa?auth_mechanism=external", "rabbit:5671", "ada")]
    fn a_url_says_where_and_as_whom(#[case] url: &str, #[case] place: &str, #[case] user: &str) {
        let access = Access::read(&settings(url)).unwrap();
        assert_eq!((access.place().as_str(), access.user()), (place, user));
        assert_eq!(access.uri.query.heartbeat, Some(HEARTBEAT));
    }

    #[rstest]
    #[case("s3cret")]
    #[case("amqp:s3cret")]
    #[case("http://ada:s3cret@rabbit")]
    #[case("amqp://ada:s3cret@rabbit:port")]
    #[case("amqps://rabbit/s3cret?auth_mechanism=external")]
    fn a_bad_url_is_refused_and_not_repeated(#[case] url: &str) {
        let Err(SessionError::Configuration(message)) = Access::read(&settings(url)) else { panic!("{url} is taken") };
        assert!(message.contains("broker.url") && !message.contains("s3cret"), "{message}");
    }

    #[rstest]
    #[case("")]
    #[case("no certificate")]
    #[case("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    fn an_unreadable_authority_is_refused(#[case] pem: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        let settings = Settings { ca_file: Some(file.path().to_owned()), ..settings("amqps://rabbit") };
        assert!(matches!(Access::read(&settings), Err(SessionError::Configuration(what)) if what.contains("ca_file")));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let settings = Settings { client_cert_file: Some("cert.pem".into()), ..settings("amqps://rabbit") };
        assert!(matches!(Access::read(&settings), Err(SessionError::Configuration(what)) if what.contains("together")));
    }
}
