//! Publishes, and knows what became of it.
//!
//! A channel carries one message at a time, so that a returned message belongs to the confirm it comes with: with
//! several under way the library may hand it to a neighbour. Several channels make up for it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::connect::answer;
use super::outgoing::{Letter, Outgoing};
use super::{Ending, SessionError};
use crate::domain::request::Lane;

/// How many messages may wait for their confirm at once.
const CHANNELS: usize = 8;
/// How long a confirm may take; after that nobody knows.
const CONFIRM: Duration = Duration::from_secs(20);

/// Why a message is not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue took it: a binding or a queue is missing.
    #[error("no queue is bound for the message")]
    Unroutable,
    /// A queue is full, or the broker is short of memory or disk; nothing was stored.
    #[error("the broker refuses messages for now")]
    Refused,
    /// Nobody knows whether it was stored, and the session is over.
    #[error("whether the message was stored is unknown")]
    Lost,
    /// It cannot be put into the form that the protocol asks.
    #[error("the message cannot be published: {0}")]
    Invalid(String),
}

/// Publishes for everybody who has a clone.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    prefix: String,
    user: String,
    idle: Mutex<Vec<Channel>>,
    permits: Semaphore,
    blocked: watch::Receiver<bool>,
    ending: Ending,
    tasks: TaskTracker,
}

impl Publisher {
    pub(super) async fn open(
        connection: &Connection,
        prefix: &str,
        user: &str,
        blocked: watch::Receiver<bool>,
        ending: Ending,
    ) -> Result<Self, SessionError> {
        let idle = try_join_all((0..CHANNELS).map(|_| async {
            let channel = answer("opening a channel", connection.create_channel()).await?;
            answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
            Ok::<_, SessionError>(channel)
        }));
        Ok(Self(Arc::new(Inner {
            prefix: prefix.to_owned(),
            user: user.to_owned(),
            idle: Mutex::new(idle.await?),
            permits: Semaphore::new(CHANNELS),
            blocked,
            ending,
            tasks: TaskTracker::new(),
        })))
    }

    /// The full name of an exchange.
    pub fn exchange(&self, name: &str) -> String {
        format!("{}.{name}", self.0.prefix)
    }

    /// The full name of the queue of a lane.
    pub fn queue(&self, lane: Lane) -> String {
        format!("{}.requests.{}", self.0.prefix, lane.name())
    }

    /// Publishes and waits until a queue has stored the message. A caller that stops waiting stops nothing.
    pub async fn publish(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        let letter = outgoing.letter(&self.0.prefix, &self.0.user);
        let letter = letter.map_err(|error| PublishError::Invalid(error.to_string()))?;
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move { inner.send(letter).await }).await.unwrap_or(Err(PublishError::Lost))
    }
}

impl Inner {
    async fn send(&self, letter: Letter) -> Result<(), PublishError> {
        let Ok(_permit) = self.permits.acquire().await else { return Err(PublishError::Lost) };
        if self.ending.token.is_cancelled() {
            return Err(PublishError::Lost);
        }
        if *self.blocked.borrow() {
            return Err(PublishError::Refused);
        }
        let Some(channel) = self.idle().pop() else { return Err(PublishError::Lost) };
        let result = self.send_on(&channel, letter).await;
        if result != Err(PublishError::Lost) {
            self.idle().push(channel);
        }
        result
    }

    async fn send_on(&self, channel: &Channel, letter: Letter) -> Result<(), PublishError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let Letter { exchange, key, body, properties, message_id } = letter;
        let publishing = async { channel.basic_publish(exchange, key, options, &body, properties).await?.await };
        let why = match self.confirmed(publishing).await {
            Ok(Ok(Confirmation::Ack(None))) => return Ok(()),
            Ok(Ok(Confirmation::Nack(None))) => return Err(PublishError::Refused),
            Ok(Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)))) => {
                if *returned.delivery.properties.message_id() == message_id {
                    return Err(PublishError::Unroutable);
                }
                "the broker returned another message than the one published".to_owned()
            }
            Ok(Ok(Confirmation::NotRequested)) => "the publishing channel gives no confirms".to_owned(),
            Ok(Err(error)) => format!("publishing failed: {error}"),
            Err(why) => why,
        };
        self.ending.end(why);
        Err(PublishError::Lost)
    }

    /// Waits for the answer to a publish. While the broker is blocked it reads nothing, so the time does not count.
    async fn confirmed(
        &self,
        publishing: impl Future<Output = lapin::Result<Confirmation>>,
    ) -> Result<lapin::Result<Confirmation>, String> {
        let mut blocked = self.blocked.clone();
        let mut publishing = pin!(publishing);
        loop {
            blocked.mark_unchanged();
            tokio::select! {
                biased;
                answer = &mut publishing => return Ok(answer),
                () = self.ending.token.cancelled() => return Err("the session ended".to_owned()),
                () = sleep(CONFIRM) => {}
            }
            if !*blocked.borrow() && !blocked.has_changed().unwrap_or(false) {
                return Err(format!("the broker did not confirm a message within {} s", CONFIRM.as_secs()));
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
