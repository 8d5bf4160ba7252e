//! The limit on calls: a bucket that fills at a steady rate and holds one second's worth.
//!
//! A refused call counts too, as Graph says of retries that come while it throttles: who keeps knocking waits longer.

use std::time::Duration;

use tokio::time::Instant;

/// Holds what is left of the allowance.
pub struct Bucket {
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// Starts full.
    pub fn new() -> Self {
        Self { level: f64::MAX, filled: Instant::now() }
    }

    /// Takes one call: the share of the limit now in use, or how long to wait.
    pub fn take(&mut self, rate: f64, now: Instant) -> Result<f64, Duration> {
        let size = rate.max(1.0);
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.level = (self.level + gained).min(size);
        self.filled = now;
        let enough = self.level >= 1.0;
        self.level = (self.level - 1.0).max(-size);
        if enough {
            return Ok(1.0 - self.level / size);
        }
        Err(Duration::from_secs_f64((1.0 - self.level) / rate))
    }
}

/// Writes a wait as Graph does, in decimal seconds, never too short.
pub fn retry_after(wait: Duration) -> String {
    format!("{:.3}", (wait.as_secs_f64() * 1000.0).ceil() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_past_the_rate_and_recovers() {
        let mut bucket = Bucket::new();
        let start = Instant::now();
        assert!((0..10).all(|_| bucket.take(10.0, start).is_ok()));
        let first = bucket.take(10.0, start).unwrap_err();
        let second = bucket.take(10.0, start).unwrap_err();
        assert!(second > first, "knocking costs");
        assert!(bucket.take(10.0, start + second).is_ok());
    }

    #[test]
    fn rounds_up() {
        assert_eq!(retry_after(Duration::from_micros(2_127_100)), "2.128");
    }
}
