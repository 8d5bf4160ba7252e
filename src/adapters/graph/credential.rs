//! Asks the identity service for a token: the client credentials grant, and the table of its errors.
//!
//! Errors are told apart by their codes and named by nothing else; a description may name people.

use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::Settings;
use super::answer::{Answer, Broken};
use super::observe::{Observed, Observer, Operation};
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;

/// Codes of errors that pass: the service is away, busy, or throttles the tenant.
const PASSING: [u64; 8] = [50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090];

/// Who we are to the identity service.
pub(super) struct Credential {
    http: reqwest::Client,
    url: Url,
    client_id: String,
    client_secret: SecretString,
    scope: String,
    timeout: Duration,
}

/// A token, and how long it works.
pub(super) struct Grant {
    pub(super) token: SecretString,
    pub(super) life: Duration,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The credential or the app is not accepted, by code.
    Final(String),
    /// The identity service is away or busy, and asked to wait so long.
    Passing(Option<Duration>),
}

impl Refusal {
    /// What it means for every job.
    pub(super) const fn fault(&self) -> Fault {
        match self {
            Self::Final(_) => Fault::Unavailable { reason: Reason::TokenRefused },
            Self::Passing(_) => Fault::Unavailable { reason: Reason::GraphUnavailable },
        }
    }

    /// Whether the other is no news after this one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Final(code), Self::Final(other)) => code == other,
            (Self::Passing(_), Self::Passing(_)) => true,
            (Self::Final(_), Self::Passing(_)) | (Self::Passing(_), Self::Final(_)) => false,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Final(code) => write!(formatter, "the identity service refuses the credential: {code}"),
            Self::Passing(_) => formatter.write_str("the identity service is away or busy"),
        }
    }
}

impl Credential {
    pub(super) fn new(http: reqwest::Client, settings: &Settings) -> Self {
        let mut url = settings.authority.clone();
        url.set_path(&format!("/{}/oauth2/v2.0/token", super::address::encode(&settings.tenant_id)));
        Self {
            http,
            url,
            client_id: settings.client_id.clone(),
            client_secret: settings.client_secret.clone(),
            scope: format!("{}/.default", settings.endpoint.as_str().trim_end_matches('/')),
            timeout: settings.timeout,
        }
    }

    /// Asks once.
    pub(super) async fn ask(&self, observer: &Observer) -> Result<Grant, Refusal> {
        let started = Instant::now();
        let form = [
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.expose_secret()),
            ("scope", &self.scope),
            ("grant_type", "client_credentials"),
        ];
        let sent = self.http.post(self.url.clone()).timeout(self.timeout).form(&form).send().await;
        let (answer, status) = match sent {
            Ok(response) => {
                let (answer, status) = Answer::read(response).await;
                (Some(answer), status)
            }
            Err(error) => (None, Broken::of(&error).status()),
        };
        observer(Observed::Call { operation: Operation::Token, status, seconds: started.elapsed().as_secs_f64() });
        answer.map_or(Err(Refusal::Passing(None)), |answer| read(&answer))
    }
}

fn read(answer: &Answer) -> Result<Grant, Refusal> {
    let field = |name: &str| answer.body.as_ref().and_then(|body| body.get(name));
    if answer.is_good() {
        let life = field("expires_in").and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
        let token = field("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        return match (token, life) {
            (Some(token), Some(life @ 1..)) => Ok(Grant {
                token: SecretString::from(token.to_owned()),
                life: Duration::from_secs(life.min(7 * 24 * 60 * 60)),
            }),
            _ => Err(Refusal::Passing(None)),
        };
    }
    let error = field("error").and_then(Value::as_str).unwrap_or_default();
    let codes: Vec<u64> =
        field("error_codes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64).collect();
    let passing = matches!(answer.status, 408 | 429 | 500..=599)
        || error == "temporarily_unavailable"
        || codes.iter().any(|code| PASSING.contains(code));
    if passing {
        return Err(Refusal::Passing(answer.retry_after));
    }
    let word: String = error.chars().filter(|letter| letter.is_ascii_lowercase() || *letter == '_').take(40).collect();
    Err(Refusal::Final(match codes.first() {
        Some(code) => format!("AADSTS{code}"),
        None if word.is_empty() => format!("HTTP {}", answer.status),
        None => word,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(status: u16, body: Value) -> Refusal {
        let answer = Answer { status, retry_after: None, date: None, body: Some(body) };
        read(&answer).err().unwrap()
    }

    #[test]
    fn a_code_tells_whether_it_passes() {
        let expired = json!({"error": "invalid_client", "error_codes": [7_000_222], "error_description": "for Ada"});
        assert_eq!(refusal(401, expired), Refusal::Final("AADSTS7000222".to_owned()));
        assert_eq!(refusal(400, json!({"error": "invalid_request"})), Refusal::Final("invalid_request".to_owned()));
        assert_eq!(refusal(400, json!("<html>")), Refusal::Final("HTTP 400".to_owned()));
        assert_eq!(refusal(302, json!({})), Refusal::Final("HTTP 302".to_owned()));
        for (status, body) in [
            (400, json!({"error": "temporarily_unavailable"})),
            (400, json!({"error": "invalid_grant", "error_codes": [90_055]})),
            (429, json!({})),
            (503, json!({})),
            (200, json!({"access_token": "t"})),
            (200, json!({"access_token": "", "expires_in": 3599})),
        ] {
            assert_eq!(refusal(status, body.clone()), Refusal::Passing(None), "{status} {body}");
        }
    }

    #[test]
    fn a_life_is_a_number_or_a_text() {
        for life in [json!(3599), json!("3599")] {
            let body = Some(json!({"access_token": "t", "expires_in": life}));
            let answer = Answer { status: 200, retry_after: None, date: None, body };
            assert_eq!(read(&answer).ok().unwrap().life, Duration::from_secs(3599));
        }
    }
}
