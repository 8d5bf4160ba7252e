//! Where results go: to the broker, or to the process itself.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::amqp::{Outgoing, PublishError, Publisher};
use crate::domain::event::Event;
use crate::domain::outcome::Fault;

/// Takes a result where there is no broker.
pub type Write = Arc<dyn Fn(&Event) -> std::io::Result<()> + Send + Sync>;

/// Is told that one more message is refused (`true`), or one less.
pub type Refusals = Arc<dyn Fn(bool) + Send + Sync>;

/// Where results go.
#[derive(Clone)]
pub enum Outlet {
    /// To the broker; told when a message begins to be refused and when that ends.
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
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(Duration::from_secs(60))
        .with_jitter()
        .without_max_times();
    let mut refused = None;
    for wait in waits.build() {
        match publisher.publish(outgoing).await {
            Ok(()) => return Ok(()),
            Err(error @ (PublishError::Refused | PublishError::Unroutable)) => {
                warn!(error = %error, retry_after_seconds = wait.as_secs(), "the broker refuses a message");
                refused.get_or_insert_with(|| Refused::begin(refusals));
                pause(wait, stop).await?;
            }
            Err(error @ (PublishError::Lost | PublishError::Invalid(_))) => {
                warn!(error = %error, "a message was not published");
                return Err(Fault::Stopped);
            }
        }
    }
    Err(Fault::Stopped)
}

/// A message that is being refused, until it is dropped.
struct Refused<'a>(&'a Refusals);

impl<'a> Refused<'a> {
    fn begin(refusals: &'a Refusals) -> Self {
        refusals(true);
        Self(refusals)
    }
}

impl Drop for Refused<'_> {
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
