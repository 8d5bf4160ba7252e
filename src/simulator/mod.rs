//! A Microsoft Graph to test against: a pretended tenant, Graph's rules for it, and faults on demand.
//!
//! It imports nothing else of this crate and must not: its tables are written from Graph's schema and permission data, so
//! that it can disagree with the client. It stores nothing and is no security boundary; it belongs on loopback.
//!
//! # What it serves
//!
//! Graph under `/v1.0` and `/beta`; tokens under `/{tenant}/oauth2/v2.0/token`, and for managed identities as a virtual
//! machine hands them out (`/metadata/identity/oauth2/token`) and as App Service does (`/msi/token`); and for tests, JSON
//! under `/_simulator`:
//!
//! | call | does |
//! |---|---|
//! | `GET journal?since=N` | the calls after number N, `{n, at_ms, done_ms, method, path, status, client_request_id, traceparent, user, effect, operation, retry_after, batch}`; `status` 0 = nothing was answered; the items of a `$batch` come one by one, then the batch itself |
//! | `GET users/{upn or id}` | the whole state; `removed` holds the methods that were deleted |
//! | `PATCH users/{upn or id}` | changes any key of a user below, `deleted` and `methods` (all of them) too |
//! | `POST users/{upn or id}/methods` | registers a method `{type, value?, id?, created?, properties?}`; 409 when its id is taken |
//! | `GET`, `POST`, `DELETE faults` | shows, sets, clears faults |
//! | `GET stats` | `{requests, throttled, operations: {name: {requests, throttled}}}`; the totals leave tokens and batches themselves out |
//! | `GET`, `PATCH settings` | `latency_ms`, `rate` and `tenant_rate` (0 = none), `lag_ms`, `omit_retry_after`, `omit_percentage`, `token_lifetime_s`, `page_size`, `clock_ahead_s`, and what the tenant chooses (below) |
//! | `DELETE tokens` | makes every token that was issued worthless |
//!
//! # Throttling
//!
//! Each application has a bucket that `rate` fills and that holds one second's worth, and all of them share one that
//! `tenant_rate` fills. A call takes one unit of both, an item of a `$batch` too, refused or not. Answers carry
//! `x-ms-resource-unit` and, above 0.8, `x-ms-throttle-limit-percentage`, the share of the bucket in use, up to 1.8; a
//! 429 carries `Retry-After`, `x-ms-throttle-scope` (`<scope>/ReadWrite/<application>/<tenant>`) and
//! `x-ms-throttle-information` as well. In a `$batch` they are headers of the items.
//!
//! # Faults
//!
//! `{operation, user?, status?, retry_after?, mode?, times?, apply?, body?}`. Operations: `token`, `get_user`, `find_user`,
//! `find_groups`, `list_memberships`, `list_role_assignments`, `list_role_eligibilities`, `list_methods`, `list_typed`, `delete_method`,
//! `add_method`, `change_method`, `set_sms_sign_in`, `revoke_sessions`, `get_sign_in_preferences`,
//! `set_sign_in_preferences`, `get_requirements`, `set_requirements`, `list_hardware_tokens`, `reset_password`, `batch`. `times` is 1 unless said, 0 = until
//! cleared. `retry_after` goes into the header as it stands. A fault strikes direct calls and items of a `$batch` alike.
//!
//! | mode | the call | the caller |
//! |---|---|---|
//! | `answer` (default) | has no effect | gets `status`, else 429 with a `retry_after`, else 503 |
//! | `drop_after_apply` | has its effect | sees the connection close without an answer; as an item of a batch, 504 |
//! | `close` | has no effect | the same |
//! | `stall` | has no effect | waits until it gives up; so does the whole batch of an item |
//! | `malformed` | has its effect | gets JSON cut short; as an item of a batch, a string for a body |
//!
//! `apply` overrides whether it has its effect.
//!
//! # What Graph leaves open
//!
//! Where documents are silent the simulator has one answer, and other ones for the asking: in `settings` of the tenant
//! file, by `PATCH settings`, and where the second column says so for one user.
//!
//! | setting | user | says |
//! |---|---|---|
//! | `default_wording` | `defaultWording` | how the default is refused: `each_backend`, `other_methods`, `matches_default` |
//! | `counted` | `counted` | the types that keep the default from going; second factors when null |
//! | `strict_default` | `strictDefault` | every type but the password does |
//! | `sms_sign_in` | | whether the policy lets people sign in by SMS |
//! | `restricted_reads` | | whether methods of a user in a restricted unit cannot even be read |
//! | `pass_policy` | | Temporary Access Passes: `enabled`, `minimum_minutes`, `maximum_minutes`, `default_minutes`, `once_only` |
//! | `cloud` | | `global`, `us-gov`, `us-gov-dod`, `china`: which collections there are |
//! | `full_beta` | | whether beta has all of them in every cloud |
//!
//! # Effects
//!
//! What a call changed, for the journal; null when nothing. `value_hash` stands for a number or address.
//!
//! | effect | after |
//! |---|---|
//! | `{"registered": {type, id, value_hash}}` | a method came |
//! | `{"replaced": {type, id, value_hash, old_value_hash}}` | its number, address or pass changed |
//! | `{"removed": {type, id, value_hash}}` | it went; a hardware token stays in the directory |
//! | `{"code_removed": "standardQRCode"}` | one of the QR codes went |
//! | `{"sms_sign_in": "ready"}` | signing in by SMS was switched, here on |
//! | `{"default": "sms", "system_preferred": true}` | the preferred second factor changed; what was not in the call is left out |
//! | `{"per_user_mfa_state": "enforced"}` | per-user MFA changed |
//! | `{"revoked": true}` | sessions were revoked; for a guest nothing is |
//!
//! # Tenant file
//!
//! Every key is optional; one that is not known is an error. Without `users`, users are drawn from the seed.
//!
//! ```json
//! {"tenantId": "only this tenant gets tokens", "premium": true,
//!  "settings": {"default_wording": "each_backend", "sms_sign_in": false},
//!  "apps": [{"clientId": "a", "secret": "s", "roles": ["User.Read.All"], "disabled": false, "secretExpired": false,
//!            "certificate": "-----BEGIN CERTIFICATE-----...", "managedIdentity": "system or user",
//!            "federated": [{"issuer": "i", "subject": "s", "audience": "api://AzureADTokenExchange"}]}],
//!  "roles": [{"id": "template id", "displayName": "Custom", "hidden": false}],
//!  "administrativeUnits": [{"id": "u1", "displayName": "Region", "hidden": false}],
//!  "groups": [{"id": "g1", "displayName": "Team", "isAssignableToRole": false, "roles": ["template id"],
//!              "groups": ["group that it is in"], "hidden": false}],
//!  "users": [{"id": "object id", "userPrincipalName": "ada@contoso.test", "mail": "ada@contoso.test",
//!             "proxyAddresses": ["SMTP:ada@contoso.test"], "displayName": "Ada", "userType": "Member",
//!             "accountEnabled": true, "onPremisesSyncEnabled": null, "isManagementRestricted": false,
//!             "signInSessionsValidFromDateTime": "2026-01-01T00:00:00Z",
//!             "roles": ["template id", {"role": "template id", "scope": "/administrativeUnits/u1"}],
//!             "eligibleRoles": [], "groups": ["g1"], "administrativeUnits": ["u1"],
//!             "defaultMethod": "push", "systemPreferred": false, "strictDefault": false, "counted": ["fido2"],
//!             "defaultWording": null, "perUserMfaState": "disabled", "deleted": false,
//!             "methods": [{"type": "phone_mobile", "value": "+1 5550100", "id": "only where types have no fixed one",
//!                          "created": null, "properties": {"smsSignInState": "ready"}}]}]}
//! ```
//!
//! Without `apps` any client id goes with any secret, assertion or header. A listed app is held to what it lists: the
//! signature, names and times of an assertion by `certificate`; issuer, subject, audience and times of a token that is
//! `federated`, but not its signature; and `secret` is the header of App Service where a `managedIdentity` lists one.
//!
//! Types: `password`, `phone_mobile`, `phone_alternate_mobile`, `phone_office`, `email`, `fido2`, `windows_hello`,
//! `microsoft_authenticator`, `passwordless_microsoft_authenticator`, `software_oath`, `hardware_oath`,
//! `temporary_access_pass`, `platform_credential`, `qr_code_pin`, `external`, `resource_account_key`, `unknown` (give
//! `properties` an `@odata.type`). A password is added where none is listed. `defaultMethod` is a value of Graph's
//! `userPreferredMethodForSecondaryAuthentication`. `hidden` objects come back with an id and nulls.

mod assertion;
mod batch;
mod call;
mod choices;
mod cloud;
mod control;
mod edge;
mod fault;
mod generate;
mod journal;
mod kind;
mod odata;
mod operation;
mod permissions;
mod platform;
mod render;
mod routes;
mod rules;
mod tenant;
mod tenant_file;
mod throttle;
mod token;
mod world;

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;

pub use cloud::Cloud;
pub use tenant_file::InvalidTenant;

/// Holds what a simulator starts with.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many users are drawn, where the tenant lists none.
    pub users: usize,
    /// What they, and everything else left to chance, are drawn from.
    pub seed: u64,
    /// A tenant file, parsed.
    pub tenant: Option<serde_json::Value>,
    /// How long every answer takes.
    pub latency: Duration,
    /// How many calls a second of each application are answered; each item of a `$batch` is one, token calls are none.
    pub rate: Option<f64>,
    /// The same for all applications of the tenant together.
    pub tenant_rate: Option<f64>,
    /// How long a list still shows a deleted method.
    pub lag: Duration,
    /// How long a token counts.
    pub token_lifetime: Duration,
    /// How many items a page has where `$top` does not say, up to 999.
    pub page_size: usize,
    /// Whether a 429 comes without `Retry-After`.
    pub omit_retry_after: bool,
    /// Whether answers never say how much of the limit is used.
    pub omit_percentage: bool,
    /// Whether every method but the password keeps the default from being deleted, whatever the tenant file says.
    pub strict_default: bool,
    /// Which cloud it is, whatever the tenant file says.
    pub cloud: Option<Cloud>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: 1000,
            seed: 1,
            tenant: None,
            latency: Duration::ZERO,
            rate: None,
            tenant_rate: None,
            lag: Duration::ZERO,
            token_lifetime: Duration::from_secs(3599),
            page_size: 100,
            omit_retry_after: false,
            omit_percentage: false,
            strict_default: false,
            cloud: None,
        }
    }
}

/// Holds a tenant ready to be served.
pub struct Simulator {
    shared: edge::Shared,
}

impl Simulator {
    /// Makes the tenant.
    pub fn new(options: &Options) -> Result<Self, InvalidTenant> {
        Ok(Self { shared: edge::Shared::new(world::World::new(options)?) })
    }

    /// Builds a router over the tenant, for whoever brings a server.
    pub fn router(&self) -> axum::Router {
        edge::router(self.shared.clone())
    }

    /// Serves the tenant until `stop` completes and the calls in flight are answered.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let stalled = self.shared.stopped.clone();
        let listener = listener.tap_io(|stream| {
            // Only slower without.
            let _ = stream.set_nodelay(true);
        });
        let stop = async move {
            stop.await;
            stalled.cancel();
        };
        axum::serve(listener, self.router()).with_graceful_shutdown(stop).await
    }
}

/// Makes a tenant and serves it until `stop` completes.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let simulator = Simulator::new(&options).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    simulator.serve(listener, stop).await
}
