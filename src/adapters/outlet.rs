//! Where results go: to the broker, or to the process itself.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::amqp::{Outgoing, PublishError, Publisher};
use crate::domain::event::Event;
use crate::domain::outcome::Fault;

/// Takes a result where there is no broker.
pub type Write = Arc<dyn Fn(&Event) -> std::io::Result<()> + Send + Sync>;

/// Counts the messages that are refused: one more (`true`), or one less. Tells whether it is the first, or was the last.
pub type Refusals = Arc<dyn Fn(bool) -> bool + Send + Sync>;

/// Where results go.
#[derive(Clone)]
pub enum Outlet {
    /// To the broker, with the count of what it refuses.
    Broker(Publisher, Refusals),
    /// To the process itself, which has no broker.
    Local(Write),
}

/// Publishes until the broker has it: a refusal waits up to a minute and tries again, a lost session ends it, since
/// the delivery then belongs to somebody else.
pub async fn publish(
    publisher: &Publisher,
    outgoing: &Outgoing,
    stop: &CancellationToken,
    refusals: &Refusals,
) -> Result<(), Fault> {
    let mut refused = None;
    for wait in waits() {
        match publisher.publish(outgoing).await {
            Ok(()) => return Ok(()),
            Err(error @ (PublishError::Refused | PublishError::Unroutable)) => {
                refused.get_or_insert_with(|| Refused::begin(refusals, &error));
                pause(wait, stop).await?;
            }
            // Why is told where the session ends.
            Err(PublishError::Lost) => return Err(Fault::Stopped),
            Err(error @ PublishError::Invalid(_)) => {
                warn!(error = %error, "a message was not published");
                return Err(Fault::Stopped);
            }
        }
    }
    Err(Fault::Stopped)
}

/// The waits between two tries to publish: up to half a minute, and with jitter up to a minute.
pub(super) fn waits() -> ExponentialBackoff {
    let waits = ExponentialBuilder::default().with_min_delay(Duration::from_secs(1));
    waits.with_max_delay(Duration::from_secs(30)).with_jitter().without_max_times().build()
}

/// A message that is being refused, until it is dropped.
pub struct Refused(Refusals, bool);

impl Refused {
    /// Counts it; the first of many is told.
    pub(super) fn begin(refusals: &Refusals, error: &PublishError) -> Self {
        let refused = Self::silently(refusals);
        if refused.1 {
            warn!(error = %error, "the broker refuses messages: they are tried again until it takes them");
        }
        refused
    }

    /// Counts one that nobody has tried yet.
    pub fn silently(refusals: &Refusals) -> Self {
        let first = refusals(true);
        Self(refusals.clone(), first)
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        (self.0)(false);
    }
}

/// Waits, unless stopped.
pub(super) async fn pause(time: Duration, stop: &CancellationToken) -> Result<(), Fault> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = stop.cancelled() => Err(Fault::Stopped),
    }
}
