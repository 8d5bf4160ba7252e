//! The token endpoint. Tokens look like those of Entra, roles claim and all, but only their exact text counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::call::Reply;
use super::tenant::{App, Tenant};

/// What an app may do that was not listed with roles of its own.
pub const ALL_ROLES: [&str; 8] = [
    "UserAuthenticationMethod.ReadWrite.All",
    "User.RevokeSessions.All",
    "User.Read.All",
    "GroupMember.Read.All",
    "RoleManagement.Read.Directory",
    "RoleEligibilitySchedule.Read.Directory",
    "AdministrativeUnit.Read.All",
    "Policy.Read.All",
];

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
        let app = match asked.check(tenant) {
            Ok(app) => app,
            Err(refusal) => return refusal,
        };
        let listed = app.and_then(|app| app.roles.clone());
        let roles = listed.unwrap_or_else(|| ALL_ROLES.map(String::from).to_vec());
        let claims = json!({
            "aud": "https://graph.microsoft.com", "tid": asked.tenant, "appid": asked.get("client_id"),
            "idtyp": "app", "roles": roles, "iat": unix, "exp": unix + lifetime.as_secs().cast_signed(),
            "uti": Uuid::from_u128(rng.u128(..)),
        });
        let parts = [r#"{"typ":"JWT","alg":"none"}"#.into(), claims.to_string(), format!("{:032x}", rng.u128(..))];
        let token = parts.map(|part| base64url(part.as_bytes())).join(".");
        let now = Instant::now();
        self.0.retain(|_, issued| issued.expires > now);
        self.0.insert(
            token.clone(),
            Issued { app: asked.get("client_id").to_lowercase(), roles: roles.into(), expires: now + lifetime },
        );
        let seconds = lifetime.as_secs();
        Reply::ok(json!({
            "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token,
        }))
    }
}

/// Holds what a request for a token says.
pub struct Asked {
    pub tenant: String,
    pub form: Vec<(String, String)>,
}

impl Asked {
    fn get(&self, name: &str) -> &str {
        self.form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    fn check<'a>(&self, tenant: &'a Tenant) -> Result<Option<&'a App>, Reply> {
        if tenant.id.as_ref().is_some_and(|id| !id.eq_ignore_ascii_case(&self.tenant)) {
            return Err(refusal(400, "invalid_request", 90_002, "Tenant not found."));
        }
        if self.get("grant_type") != "client_credentials" {
            return Err(refusal(400, "unsupported_grant_type", 70_003, "The grant type is not supported."));
        }
        if self.get("client_id").is_empty() {
            return Err(refusal(400, "invalid_request", 900_144, "The request body must contain 'client_id'."));
        }
        if !self.get("scope").ends_with("/.default") {
            return Err(refusal(400, "invalid_scope", 70_011, "The provided value for 'scope' is not valid."));
        }
        let proves = |name| !self.get(name).is_empty();
        if !proves("client_secret") && !proves("client_assertion") {
            return Err(refusal(401, "invalid_client", 7_000_218, "A client_assertion or client_secret is needed."));
        }
        if tenant.apps.is_empty() {
            return Ok(None);
        }
        let app = tenant.apps.iter().find(|app| app.client_id.eq_ignore_ascii_case(self.get("client_id")));
        let app = app.ok_or_else(|| refusal(400, "unauthorized_client", 700_016, "Application was not found."))?;
        if app.disabled {
            return Err(refusal(401, "unauthorized_client", 7_000_112, "Application is disabled."));
        }
        if proves("client_secret") && app.secret_expired {
            return Err(refusal(401, "invalid_client", 7_000_222, "The provided client secret keys are expired."));
        }
        if proves("client_secret") && app.secret != self.get("client_secret") {
            return Err(refusal(401, "invalid_client", 7_000_215, "Invalid client secret provided."));
        }
        Ok(Some(app))
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

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let letters = (0..=chunk.len()).map(|at| ALPHABET[(word >> (18 - 6 * at)) as usize & 63]);
        out.extend(letters.map(char::from));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn encodes_base64url() {
        for (plain, coded) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("??>", "Pz8-")] {
            assert_eq!(super::base64url(plain.as_bytes()), coded);
        }
    }
}
