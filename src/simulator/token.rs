//! The token endpoint. Tokens look like those of Entra, roles claim and all, but only their exact text counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::assertion;
use super::call::Reply;
use super::platform::Wanted;
use super::tenant::{App, Tenant};

/// What an app may do that was not listed with roles of its own.
pub const ALL_ROLES: [&str; 9] = [
    "UserAuthenticationMethod.ReadWrite.All",
    "User.RevokeSessions.All",
    "User.Read.All",
    "GroupMember.Read.All",
    "RoleManagement.Read.Directory",
    "RoleEligibilitySchedule.Read.Directory",
    "AdministrativeUnit.Read.All",
    "Policy.Read.All",
    "Policy.ReadWrite.AuthenticationMethod",
];

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

struct Issued {
    app: String,
    roles: Arc<[String]>,
    expires: Instant,
}

/// Holds the tokens that were given out.
#[derive(Default)]
pub struct Tokens(HashMap<String, Issued>);

impl Tokens {
    /// Finds out which application the bearer is, and what it may do.
    pub fn bearer(&self, token: &str, now: Instant) -> Option<(String, Arc<[String]>)> {
        let issued = self.0.get(token).filter(|issued| issued.expires > now)?;
        Some((issued.app.clone(), issued.roles.clone()))
    }

    /// Makes every token worthless.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Answers a request for a token.
    pub fn issue(&mut self, asked: &Asked, tenant: &Tenant, lifetime: Duration, unix: i64, rng: &mut Rng) -> Reply {
        let granted = match asked {
            Asked::Entra(form) => form.check(tenant, unix),
            Asked::Platform(wanted) => wanted.check(tenant),
        };
        match granted {
            Ok(granted) => {
                let minted = self.mint(&granted, lifetime, unix, rng);
                Reply::ok(match asked {
                    Asked::Entra(_) => json!({
                        "token_type": "Bearer", "expires_in": minted.seconds, "ext_expires_in": minted.seconds,
                        "access_token": minted.token,
                    }),
                    Asked::Platform(wanted) => wanted.answer(&granted, &minted),
                })
            }
            Err(refusal) => refusal,
        }
    }

    fn mint(&mut self, granted: &Granted, lifetime: Duration, unix: i64, rng: &mut Rng) -> Minted {
        let roles = granted.roles.clone().unwrap_or_else(|| ALL_ROLES.map(String::from).to_vec());
        let seconds = lifetime.as_secs().cast_signed();
        let claims = json!({
            "aud": granted.audience, "tid": granted.tenant, "appid": granted.client_id,
            "idtyp": "app", "roles": roles, "iat": unix, "exp": unix + seconds,
            "uti": Uuid::from_u128(rng.u128(..)),
        });
        let parts = [r#"{"typ":"JWT","alg":"none"}"#.into(), claims.to_string(), format!("{:032x}", rng.u128(..))];
        let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let now = Instant::now();
        self.0.retain(|_, issued| issued.expires > now);
        let app = granted.client_id.to_lowercase();
        self.0.insert(token.clone(), Issued { app, roles: roles.into(), expires: now + lifetime });
        Minted { token, expires: unix + seconds, seconds }
    }
}

/// Holds a request for a token, by where it came in.
pub enum Asked {
    /// At the token endpoint.
    Entra(Form),
    /// At a platform's service for managed identities.
    Platform(Wanted),
}

/// Tells who is granted a token.
pub struct Granted {
    pub tenant: String,
    pub client_id: String,
    /// The service that it is good for.
    pub audience: String,
    /// All roles where there are none.
    pub roles: Option<Vec<String>>,
}

/// Holds a new token; times are in seconds, the end since 1970.
pub struct Minted {
    pub token: String,
    pub expires: i64,
    pub seconds: i64,
}

/// Holds what a request at the token endpoint says.
pub struct Form {
    pub tenant: String,
    /// The address it was sent to.
    pub url: String,
    pub form: Vec<(String, String)>,
}

impl Form {
    fn get(&self, name: &str) -> &str {
        self.form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    fn check(&self, tenant: &Tenant, unix: i64) -> Result<Granted, Reply> {
        if tenant.id.as_ref().is_some_and(|id| !id.eq_ignore_ascii_case(&self.tenant)) {
            return Err(refusal(400, "invalid_request", 90_002, "Tenant not found."));
        }
        if self.get("grant_type") != "client_credentials" {
            return Err(refusal(400, "unsupported_grant_type", 70_003, "The grant type is not supported."));
        }
        if self.get("client_id").is_empty() {
            return Err(refusal(400, "invalid_request", 900_144, "The request body must contain 'client_id'."));
        }
        let Some(audience) = self.get("scope").strip_suffix("/.default") else {
            return Err(refusal(400, "invalid_scope", 70_011, "The provided value for 'scope' is not valid."));
        };
        let (secret, assertion) = (self.get("client_secret"), self.get("client_assertion"));
        if secret.is_empty() && assertion.is_empty() {
            return Err(refusal(401, "invalid_client", 7_000_218, "A client_assertion or client_secret is needed."));
        }
        if !assertion.is_empty() && self.get("client_assertion_type") != ASSERTION_TYPE {
            return Err(refusal(400, "invalid_request", 900_144, "'client_assertion_type' is missing or unknown."));
        }
        let app = if tenant.apps.is_empty() { None } else { Some(self.app(tenant)?) };
        if let Some(app) = app {
            self.check_proof(app, unix)?;
        }
        Ok(Granted {
            tenant: self.tenant.clone(),
            client_id: self.get("client_id").to_owned(),
            audience: audience.to_owned(),
            roles: app.and_then(|app| app.roles.clone()),
        })
    }

    fn app<'a>(&self, tenant: &'a Tenant) -> Result<&'a App, Reply> {
        let app = tenant.apps.iter().find(|app| app.client_id.eq_ignore_ascii_case(self.get("client_id")));
        let app = app.ok_or_else(|| refusal(400, "unauthorized_client", 700_016, "Application was not found."))?;
        if app.disabled {
            return Err(refusal(401, "unauthorized_client", 7_000_112, "Application is disabled."));
        }
        Ok(app)
    }

    fn check_proof(&self, app: &App, unix: i64) -> Result<(), Reply> {
        let secret = self.get("client_secret");
        if secret.is_empty() {
            return assertion::check(app, self.get("client_assertion"), &self.url, unix);
        }
        if app.secret_expired {
            return Err(refusal(401, "invalid_client", 7_000_222, "The provided client secret keys are expired."));
        }
        if app.secret != secret {
            return Err(refusal(401, "invalid_client", 7_000_215, "Invalid client secret provided."));
        }
        Ok(())
    }
}

/// Answers with the error body of the token endpoint.
pub fn refusal(status: u16, error: &str, code: u32, text: &str) -> Reply {
    let id = Uuid::new_v4();
    let body: Value = json!({
        "error": error, "error_description": format!("AADSTS{code}: {text} Trace ID: {id}"), "error_codes": [code],
        "timestamp": jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        "trace_id": id, "correlation_id": Uuid::new_v4(),
    });
    Reply { status, body: Some(body), ..Reply::default() }
}
