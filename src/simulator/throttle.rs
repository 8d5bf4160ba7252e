//! The limits on calls, for each application and for the tenant: buckets that fill at a steady rate and hold one
//! second's worth. What they say of themselves comes in the headers of Graph's identity service.
//!
//! A refused call counts too, as Graph says of retries that come while it throttles: who keeps knocking waits longer.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Reply;

/// From which share of a limit on Graph tells it, and the largest that it tells.
const TOLD: (f64, f64) = (0.8, 1.8);

/// Holds the limits in force.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many calls a second each application may make in this tenant.
    pub app: Option<f64>,
    /// How many calls a second all applications together may make in this tenant.
    pub tenant: Option<f64>,
    /// Whether a 429 comes without `Retry-After`.
    pub omit_retry_after: bool,
    /// Whether answers come without `x-ms-throttle-limit-percentage`.
    pub omit_percentage: bool,
}

/// Holds what is left of every allowance.
#[derive(Default)]
pub struct Throttle {
    tenant: Bucket,
    apps: HashMap<String, Bucket>,
}

impl Throttle {
    /// Takes one call: the headers of its answer, or the refusal.
    pub fn take(
        &mut self,
        limits: &Limits,
        app: &str,
        tenant: &str,
        now: Instant,
    ) -> Result<Vec<(&'static str, String)>, Reply> {
        let bucket = self.apps.entry(app.to_owned()).or_default();
        let by_app = limits.app.map(|rate| bucket.take(rate, now)).unwrap_or_default();
        let by_tenant = limits.tenant.map(|rate| self.tenant.take(rate, now)).unwrap_or_default();
        let share = by_app.share.max(by_tenant.share);
        let mut headers = vec![("x-ms-resource-unit", "1".to_owned())];
        if share > TOLD.0 && !limits.omit_percentage {
            headers.push(("x-ms-throttle-limit-percentage", format!("{:.2}", share.min(TOLD.1))));
        }
        let Some(wait) = by_app.wait.max(by_tenant.wait) else { return Ok(headers) };
        let scope = if by_app.wait.is_some() { "Tenant_Application" } else { "Tenant" };
        headers.push(("x-ms-throttle-scope", format!("{scope}/ReadWrite/{app}/{tenant}")));
        headers.push(("x-ms-throttle-information", "ResourceUnitLimitExceeded".to_owned()));
        let mut reply = Reply::throttled((!limits.omit_retry_after).then(|| retry_after(wait)));
        reply.headers.extend(headers);
        Err(reply)
    }
}

/// Tells how a call fared at one limit.
#[derive(Debug, Default)]
struct Usage {
    /// The share of the limit now in use.
    share: f64,
    /// How long to wait, if it is refused.
    wait: Option<Duration>,
}

/// Holds what is left of one allowance.
struct Bucket {
    level: f64,
    filled: Instant,
}

impl Default for Bucket {
    /// Starts full.
    fn default() -> Self {
        Self { level: f64::MAX, filled: Instant::now() }
    }
}

impl Bucket {
    /// Takes one call.
    fn take(&mut self, rate: f64, now: Instant) -> Usage {
        let size = rate.max(1.0);
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.level = (self.level + gained).min(size);
        self.filled = now;
        let enough = self.level >= 1.0;
        self.level = (self.level - 1.0).max(-size);
        let wait = Duration::from_secs_f64((1.0 - self.level).max(0.0) / rate);
        Usage { share: 1.0 - self.level / size, wait: (!enough).then_some(wait) }
    }
}

/// Writes a wait as Graph does, in decimal seconds, never too short.
fn retry_after(wait: Duration) -> String {
    format!("{:.3}", (wait.as_secs_f64() * 1000.0).ceil() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Limits = Limits { app: None, tenant: None, omit_retry_after: false, omit_percentage: false };

    fn calls(throttle: &mut Throttle, limits: &Limits, app: &str, count: usize) -> usize {
        let now = Instant::now();
        (0..count).filter(|_| throttle.take(limits, app, "t", now).is_ok()).count()
    }

    #[tokio::test]
    async fn refuses_past_the_rate_and_recovers() {
        let mut bucket = Bucket::default();
        let start = Instant::now();
        assert!((0..10).all(|_| bucket.take(10.0, start).wait.is_none()));
        let first = bucket.take(10.0, start).wait.unwrap();
        let second = bucket.take(10.0, start).wait.unwrap();
        assert!(second > first, "knocking costs");
        assert!(bucket.take(10.0, start + second).wait.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_has_its_own_limit_and_the_tenant_one_for_all() {
        let (mut throttle, limits) = (Throttle::default(), Limits { app: Some(10.0), tenant: Some(15.0), ..NONE });
        assert_eq!(calls(&mut throttle, &limits, "a", 12), 10);
        assert_eq!(calls(&mut throttle, &limits, "b", 10), 3, "refused calls count for the tenant too");
        let scope = |app: &str, throttle: &mut Throttle| {
            let refused = throttle.take(&limits, app, "t", Instant::now()).unwrap_err();
            refused.header("x-ms-throttle-scope").unwrap().to_owned()
        };
        assert_eq!(scope("a", &mut throttle), "Tenant_Application/ReadWrite/a/t");
        assert_eq!(scope("c", &mut throttle), "Tenant/ReadWrite/c/t");
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_is_told_above_four_fifths_and_up_to_nine() {
        let (mut throttle, limits) = (Throttle::default(), Limits { app: Some(10.0), ..NONE });
        let mut told = Vec::new();
        for _ in 0..30 {
            let headers = match throttle.take(&limits, "a", "t", Instant::now()) {
                Ok(headers) => headers,
                Err(refused) => refused.headers,
            };
            assert!(headers.contains(&("x-ms-resource-unit", "1".to_owned())));
            let name = "x-ms-throttle-limit-percentage";
            told.push(headers.into_iter().find(|header| header.0 == name).map_or("-".to_owned(), |header| header.1));
        }
        assert_eq!(told[7..11], ["-", "0.90", "1.00", "1.10"]);
        assert_eq!(told[29], "1.80");
        let silent = Limits { omit_percentage: true, omit_retry_after: true, ..limits };
        let refused = throttle.take(&silent, "a", "t", Instant::now()).unwrap_err();
        assert!(refused.header("x-ms-throttle-limit-percentage").is_none() && refused.header("retry-after").is_none());
        assert_eq!(refused.header("x-ms-throttle-information"), Some("ResourceUnitLimitExceeded"));
    }

    #[test]
    fn rounds_up() {
        assert_eq!(retry_after(Duration::from_micros(2_127_100)), "2.128");
    }
}
