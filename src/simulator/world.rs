//! Everything that the simulator knows, and the one way that every Graph call goes: limit, fault, permission, effect,
//! journal. It never waits; whoever holds it must not either.

use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::Options;
use super::call::{Call, Ending, Reply};
use super::choices::Choices;
use super::fault::Faults;
use super::generate;
use super::journal::{Entry, Journal};
use super::operation::{Operation, Route};
use super::routes;
use super::tenant::{Tenant, User};
use super::tenant_file::{self, InvalidTenant};
use super::throttle::{Limits, Throttle};
use super::token::{Asked, Tokens};

/// Holds what can be changed while the simulator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub latency: Duration,
    pub limits: Limits,
    pub lag: Duration,
    pub token_lifetime: Duration,
    pub page_size: usize,
    pub choices: Choices,
    /// How far Graph's clock is ahead of ours, in seconds.
    pub clock_ahead: i64,
}

/// Holds the whole state.
pub struct World {
    pub tenant: Tenant,
    pub settings: Settings,
    pub faults: Faults,
    pub journal: Journal,
    pub tokens: Tokens,
    pub rng: Rng,
    throttle: Throttle,
    batches: u64,
}

impl World {
    /// Makes the tenant and starts with an empty journal.
    pub fn new(options: &Options) -> Result<Self, InvalidTenant> {
        let file = options.tenant.clone().unwrap_or_else(|| json!({}));
        let (mut tenant, mut choices, has_users) = tenant_file::read(&file)?;
        choices.strict_default |= options.strict_default;
        choices.cloud = options.cloud.unwrap_or(choices.cloud);
        if !has_users {
            generate::populate(&mut tenant, options.users, options.seed);
        }
        let settings = Settings {
            latency: options.latency,
            limits: Limits {
                app: options.rate,
                tenant: options.tenant_rate,
                omit_retry_after: options.omit_retry_after,
                omit_percentage: options.omit_percentage,
            },
            lag: options.lag,
            token_lifetime: options.token_lifetime,
            page_size: options.page_size.clamp(1, 999),
            choices,
            clock_ahead: 0,
        };
        Ok(Self {
            tenant,
            settings,
            faults: Faults::default(),
            journal: Journal::default(),
            tokens: Tokens::default(),
            rng: Rng::with_seed(options.seed),
            throttle: Throttle::default(),
            batches: 0,
        })
    }

    /// Writes the time of Graph's clock.
    pub fn date(&self, format: &str) -> String {
        self.now().strftime(format).to_string()
    }

    /// Reads Graph's clock.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(SignedDuration::from_secs(self.settings.clock_ahead)).unwrap_or(now)
    }

    /// Numbers a `$batch`.
    pub fn next_batch(&mut self) -> u64 {
        self.batches += 1;
        self.batches
    }

    /// Carries a call out; without roles the caller has no valid token.
    pub fn handle(&mut self, call: &Call, roles: Option<&[String]>) -> Reply {
        let route = Route::of(call, &self.settings.choices);
        let user = route.user.as_deref().and_then(|key| self.meant(key)).map(|user| user.id.clone());
        let mut reply = match roles.ok_or_else(unauthorized).and_then(|roles| Ok((roles, self.throttle(call)?))) {
            Err(refused) => refused,
            Ok((roles, headers)) => {
                let run = |world: &mut Self| routes::carry_out(world, call, &route, roles);
                let mut reply = self.with_faults(route.operation, user.as_deref(), run);
                reply.headers.extend(headers);
                reply
            }
        };
        if call.batch.is_some() && reply.ending == Ending::Close {
            // One item cannot close the connection: the gateway says that nobody answered.
            let effect = reply.effect;
            reply = Reply { effect, ..Reply::error(504, "generalException", "The backend did not answer in time.") };
        }
        self.finish(call, &mut reply);
        self.write(call, route.operation, user, &reply);
        reply
    }

    fn meant(&self, key: &str) -> Option<&User> {
        self.tenant.find(key).or_else(|| self.tenant.with_alias(key).first().copied())
    }

    /// Finds the user whose methods are asked for by an app that may ask for methods like these.
    pub fn methods_of(&self, key: &str, permitted: bool, write: bool) -> Result<&User, Reply> {
        if !permitted {
            return Err(Reply::denied_by_authentication());
        }
        let user = self.tenant.find(key).ok_or_else(|| Reply::no_object(key))?;
        // In a restricted unit the permissions of an app do not count.
        if user.is_management_restricted && (write || self.settings.choices.restricted_reads) {
            return Err(Reply::denied_by_authentication());
        }
        Ok(user)
    }

    /// Counts a call against the limits: the headers of its answer, or the refusal.
    fn throttle(&mut self, call: &Call) -> Result<Vec<(&'static str, String)>, Reply> {
        let tenant = self.tenant.id.as_deref().unwrap_or("contoso.test");
        self.throttle.take(&self.settings.limits, &call.app, tenant, Instant::now())
    }

    /// Runs a call under the fault that is set for it, if any.
    pub fn with_faults(
        &mut self,
        operation: Operation,
        user: Option<&str>,
        run: impl FnOnce(&mut Self) -> Reply,
    ) -> Reply {
        let tenant = &self.tenant;
        let is_user = |key: &str| user.is_some() && tenant.find(key).map(|found| found.id.as_str()) == user;
        let Some(fault) = self.faults.take(operation, is_user) else { return run(self) };
        let applied = fault.applies().then(|| run(self));
        fault.spoil(applied)
    }

    /// Gives a reply its ids and dates.
    pub fn finish(&mut self, call: &Call, reply: &mut Reply) {
        let request_id = Uuid::from_u128(self.rng.u128(..)).to_string();
        let client_id = call.client_request_id.clone().unwrap_or_else(|| request_id.clone());
        let date = self.date("%Y-%m-%dT%H:%M:%S");
        if let Some(inner) = reply.body.as_mut().and_then(|body| body.get_mut("error")?.get_mut("innerError")) {
            inner["date"] = json!(date);
            inner["request-id"] = json!(request_id);
            inner["client-request-id"] = json!(client_id);
        }
        reply.headers.push(("request-id", request_id));
        reply.headers.push(("client-request-id", client_id));
    }

    /// Writes a call into the journal.
    pub fn write(&mut self, call: &Call, operation: Operation, user: Option<String>, reply: &Reply) {
        let answered = reply.ending == Ending::Answer;
        self.journal.write(Entry {
            n: 0,
            at_ms: call.at_ms,
            done_ms: Timestamp::now().as_millisecond(),
            method: call.method.to_string(),
            path: call.full_path(),
            status: if answered { reply.status } else { 0 },
            client_request_id: call.client_request_id.clone(),
            traceparent: call.traceparent.clone(),
            user,
            effect: reply.effect.clone(),
            operation,
            retry_after: reply.header("retry-after").map(Into::into),
            batch: call.batch,
        });
    }

    /// Answers a request for a token.
    pub fn token(&mut self, asked: &Asked) -> Reply {
        self.with_faults(Operation::Token, None, |world| {
            let unix = Timestamp::now().as_second() + world.settings.clock_ahead;
            world.tokens.issue(asked, &world.tenant, world.settings.token_lifetime, unix, &mut world.rng)
        })
    }
}

/// Answers a call without a valid token.
pub fn unauthorized() -> Reply {
    let challenge = r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize""#;
    let headers = vec![("WWW-Authenticate", challenge.to_owned())];
    let text = "Lifetime validation failed, the token is expired or was never issued.";
    Reply { headers, ..Reply::error(401, "InvalidAuthenticationToken", text) }
}
