//! Asks once for a token: the client credentials grant at the tenant's token endpoint, by secret or by assertion, or
//! the platform, which vouches for a managed identity.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::{Answer, Broken};
use super::observe::{Observed, Observer, Operation};
use super::refusal::Refusal;
use super::settings::{Proof, Settings};
use super::{assertion, managed_identity};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest life that is believed.
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Who we are to the identity service.
pub(super) struct Credential {
    http: reqwest::Client,
    proof: Proof,
    /// The token endpoint; an assertion is made out to it.
    url: Url,
    client_id: String,
    /// The root of Graph, with its closing slash.
    resource: String,
    timeout: Duration,
}

/// A token, and how long it works.
pub(super) struct Grant {
    pub(super) token: SecretString,
    pub(super) life: Duration,
}

impl Credential {
    pub(super) fn new(http: reqwest::Client, settings: &Settings) -> Self {
        let mut url = settings.authority.clone();
        url.set_path(&format!("/{}/oauth2/v2.0/token", super::address::encode(&settings.tenant_id)));
        Self {
            http,
            proof: settings.proof.clone(),
            url,
            client_id: settings.client_id.clone(),
            resource: format!("{}/", settings.endpoint.as_str().trim_end_matches('/')),
            timeout: settings.timeout,
        }
    }

    /// Asks once.
    pub(super) async fn ask(&self, observer: &Observer) -> Result<Grant, Refusal> {
        let request = self.request().await?;
        let started = Instant::now();
        let (ending, status) = match request.timeout(self.timeout).send().await {
            Ok(response) => {
                let (answer, status) = Answer::read(response).await;
                (Ok(answer), status)
            }
            Err(error) => {
                let broken = Broken::of(&error);
                (Err(broken), broken.status())
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        observer(Observed::Call { operation: Operation::Token, status, seconds, id: None, context: None });
        let managed = matches!(self.proof, Proof::ManagedIdentity(_));
        match ending {
            Ok(answer) => grant(&answer, Timestamp::now())
                .ok_or_else(|| if managed { managed_identity::refusal(&answer) } else { Refusal::of(&answer) }),
            Err(broken) if managed => Err(managed_identity::silence(broken)),
            Err(broken) => Err(Refusal::away(broken.status().to_string())),
        }
    }

    /// How long to wait before each further try, while what refuses may pass.
    pub(super) fn delays(&self) -> Vec<Duration> {
        match self.proof {
            Proof::ManagedIdentity(_) => managed_identity::DELAYS.into(),
            Proof::Secret(_) | Proof::Certificate(_) | Proof::Federated(_) => {
                let delays = ExponentialBuilder::default().with_min_delay(Duration::from_millis(500)).with_max_times(2);
                delays.with_jitter().build().collect()
            }
        }
    }

    async fn request(&self) -> Result<RequestBuilder, Refusal> {
        let assertion = match &self.proof {
            Proof::ManagedIdentity(platform) => {
                return Ok(managed_identity::request(&self.http, platform, &self.client_id, &self.resource));
            }
            Proof::Secret(_) => None,
            Proof::Certificate(file) => Some(assertion::signed(file, &self.client_id, self.url.as_str()).await?),
            Proof::Federated(file) => Some(assertion::federated(file).await?),
        };
        let scope = format!("{}.default", self.resource);
        let mut form =
            vec![("client_id", self.client_id.as_str()), ("scope", &scope), ("grant_type", "client_credentials")];
        if let Proof::Secret(secret) = &self.proof {
            form.push(("client_secret", secret.expose_secret()));
        }
        if let Some(assertion) = &assertion {
            form.push(("client_assertion_type", ASSERTION_TYPE));
            form.push(("client_assertion", assertion.expose_secret()));
        }
        Ok(self.http.post(self.url.clone()).form(&form))
    }
}

/// What an answer grants, if anything. A platform gives numbers as texts, and App Service only the time of the end.
fn grant(answer: &Answer, now: Timestamp) -> Option<Grant> {
    let body = answer.body.as_ref().filter(|_| answer.is_good())?;
    let seconds = |name: &str| {
        let value = body.get(name)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    };
    let life = seconds("expires_in").or_else(|| Some(seconds("expires_on")?.saturating_sub(now.as_second())))?;
    let life = Duration::from_secs(u64::try_from(life).ok().filter(|life| *life > 0)?).min(WEEK);
    let token = body.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty())?;
    Some(Grant { token: token.to_owned().into(), life })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: Value, life: Option<u64>) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let answer = Answer { status: 200, retry_after: None, date: None, body: Some(body.clone()) };
        assert_eq!(grant(&answer, now).map(|grant| grant.life.as_secs()), life, "{body}");
    }

    #[test]
    fn a_life_is_a_number_or_a_text_or_a_time() {
        check(json!({"access_token": "t", "expires_in": 3599}), Some(3599));
        check(json!({"access_token": "t", "expires_in": "3599", "expires_on": "1"}), Some(3599));
        check(json!({"access_token": "t", "expires_on": "1800003600"}), Some(3600));
        check(json!({"access_token": "t", "expires_on": 1_800_003_600}), Some(3600));
        check(json!({"access_token": "t", "expires_in": 86_400_000}), Some(7 * 86_400));
        for nothing in [
            json!({"access_token": "t"}),
            json!({"access_token": "", "expires_in": 3599}),
            json!({"access_token": "t", "expires_in": 0}),
            json!({"access_token": "t", "expires_in": "soon"}),
            json!({"access_token": "t", "expires_on": "1700000000"}),
            json!({"expires_in": 3599}),
            json!([]),
        ] {
            check(nothing, None);
        }
    }

    #[test]
    fn an_error_grants_nothing() {
        let body = Some(json!({"access_token": "t", "expires_in": 3599}));
        assert!(grant(&Answer { status: 400, retry_after: None, date: None, body }, Timestamp::now()).is_none());
    }
}
