//! Managed identities: the token services of the platforms, which speak unlike Entra. A virtual machine's wants its
//! header and gives every number as a text; App Service's wants its secret header and tells only when a token ends.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Reply;
use super::tenant::{App, Tenant};
use super::token::{Granted, Minted};

/// Tells whose identity a platform hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Assigned {
    /// The machine's own.
    System,
    /// One of those that were assigned to it.
    User,
}

/// Tells the services apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    VirtualMachine,
    AppService,
}

/// Holds what a request to a platform says.
pub struct Wanted {
    pub service: Service,
    /// The value of `Metadata` or `X-IDENTITY-HEADER`.
    pub header: Option<String>,
    /// Whether it came through a proxy, by its own account.
    pub forwarded: bool,
    pub query: Vec<(String, String)>,
}

impl Wanted {
    fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Finds out whether a token is granted, and to whom.
    pub fn check(&self, tenant: &Tenant) -> Result<Granted, Reply> {
        let version = self.get("api-version");
        let good = match self.service {
            Service::VirtualMachine => {
                if self.header.as_deref() != Some("true") || self.forwarded {
                    return Err(refusal(400, "invalid_request", "Required metadata header not specified"));
                }
                version.is_some_and(|version| version >= "2018-02-01")
            }
            Service::AppService => version == Some("2019-08-01"),
        };
        if !good {
            return Err(refusal(400, "invalid_request", "Required query variable 'api-version' is missing or unknown"));
        }
        let resource = self.get("resource").filter(|resource| !resource.is_empty());
        let resource =
            resource.ok_or_else(|| refusal(400, "invalid_request", "Required query variable 'resource' is missing"))?;
        let app = if tenant.apps.is_empty() { None } else { Some(self.identity(tenant)?) };
        self.check_secret(app)?;
        let own = || self.get("client_id").unwrap_or("system-assigned").to_owned();
        Ok(Granted {
            tenant: tenant.id.clone().unwrap_or_else(|| "contoso.test".into()),
            client_id: app.map_or_else(own, |app| app.client_id.clone()),
            audience: resource.to_owned(),
            roles: app.and_then(|app| app.roles.clone()),
        })
    }

    fn identity<'a>(&self, tenant: &'a Tenant) -> Result<&'a App, Reply> {
        let unknown = || refusal(400, "invalid_request", "Identity not found");
        let is = |kind| move |app: &&App| app.managed_identity == Some(kind);
        if let Some(id) = self.get("client_id") {
            let named = |app: &&App| app.managed_identity.is_some() && app.client_id.eq_ignore_ascii_case(id);
            return tenant.apps.iter().find(named).ok_or_else(unknown);
        }
        let mut assigned = tenant.apps.iter().filter(is(Assigned::User));
        match (tenant.apps.iter().find(is(Assigned::System)), assigned.next(), assigned.next()) {
            (Some(own), _, _) => Ok(own),
            (None, Some(only), None) => Ok(only),
            (None, Some(_), Some(_)) => {
                Err(refusal(400, "invalid_request", "Multiple user assigned identities exist, please specify one"))
            }
            (None, None, _) => Err(unknown()),
        }
    }

    fn check_secret(&self, app: Option<&App>) -> Result<(), Reply> {
        let sent = self.header.as_deref().unwrap_or_default();
        let secret = app.map(|app| app.secret.as_str()).filter(|secret| !secret.is_empty());
        match self.service {
            Service::AppService if sent.is_empty() || secret.is_some_and(|secret| secret != sent) => {
                Err(refusal(401, "unauthorized", "The identity header is missing or wrong."))
            }
            Service::AppService | Service::VirtualMachine => Ok(()),
        }
    }

    /// Shapes the answer.
    pub fn answer(&self, granted: &Granted, minted: &Minted) -> Value {
        let mut body = json!({
            "access_token": minted.token, "client_id": granted.client_id, "resource": granted.audience,
            "token_type": "Bearer", "expires_on": minted.expires.to_string(),
        });
        if self.service == Service::VirtualMachine {
            body["expires_in"] = json!(minted.seconds.to_string());
            body["ext_expires_in"] = json!(minted.seconds.to_string());
            body["not_before"] = json!((minted.expires - minted.seconds).to_string());
        }
        body
    }
}

fn refusal(status: u16, error: &str, text: &str) -> Reply {
    let body = json!({"error": error, "error_description": text});
    Reply { status, body: Some(body), ..Reply::default() }
}
