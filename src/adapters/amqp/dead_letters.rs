//! The dead letters: looked at without taking one away, until somebody says that one is settled.
//!
//! The broker hands letters out and gets back, when we close, all that was not acknowledged. It takes a consumer for
//! every thousand of them, since a consumer brings no more than its prefetch and what is on its way is in our memory.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Consumer};
use tokio::time::{Instant, sleep, timeout};

use super::arrival::arrive;
use super::connect::{ANSWER, Access, Link, answer, bounded, protocol_error};
use super::{Letter, Lost, SessionError, Settings};

/// How many letters one consumer brings. Of up to 32 consumers the broker takes letters back in their order.
const CHUNK: u16 = 1000;
/// After so long a silence the broker is asked whether there is more.
const LULL: Duration = Duration::from_secs(1);
/// How long to wait until letters lie in their queue again.
const RETURN: Duration = Duration::from_secs(2);

/// A look at the dead letters, at as many as there were when it began.
pub struct DeadLetters {
    link: Link,
    channel: Channel,
    queue: ShortString,
    us: String,
    left: u32,
    seen: u32,
    shared: bool,
    consumer: Option<Running>,
}

struct Running {
    deliveries: Consumer,
    brought: u16,
    cancelled: bool,
}

/// A dead letter in hand. Dropped, it goes back when the look ends.
pub struct Held {
    /// The letter.
    pub letter: Letter,
    acker: Acker,
}

impl Held {
    /// Takes it out of the dead letters for good.
    pub async fn settle(self) -> Result<(), Lost> {
        let acked = timeout(ANSWER, self.acker.ack(BasicAckOptions::default())).await;
        if matches!(acked, Ok(Ok(true))) { Ok(()) } else { Err(Lost) }
    }
}

impl DeadLetters {
    /// Connects, and counts how many there are to look at.
    pub async fn open(settings: &Settings) -> Result<Self, SessionError> {
        let access = Access::read(settings)?;
        let queue = ShortString::try_new(format!("{}.dead-letters", settings.prefix));
        let queue = queue.map_err(|error| SessionError::Configuration(error.to_string()))?;
        let link = access.connect("dead-letters").await?;
        let channel = answer("opening a channel", link.connection.create_channel()).await?;
        answer("setting the prefetch", channel.basic_qos(CHUNK, BasicQosOptions::default())).await?;
        let (left, consumers) = count(&channel, &queue).await?;
        let us = access.user().to_owned();
        Ok(Self { link, channel, queue, us, left, seen: 0, shared: consumers > 0, consumer: None })
    }

    /// The next letter; none after as many as there were.
    pub async fn next(&mut self) -> Result<Option<Held>, SessionError> {
        let mut silence = Duration::ZERO;
        while self.left > 0 {
            let running = match &mut self.consumer {
                Some(running) => running,
                None => self.consumer.insert(consume(&self.channel, &self.queue, self.seen).await?),
            };
            match timeout(LULL, running.deliveries.next()).await {
                Ok(Some(Ok(delivery))) => {
                    running.brought += 1;
                    (self.left, self.seen) = (self.left - 1, self.seen + 1);
                    if running.brought == CHUNK || self.left == 0 {
                        self.cancel().await?;
                    }
                    let key = delivery.routing_key.as_str();
                    let letter = Letter::read(key, &delivery.properties, delivery.data, &self.us);
                    return Ok(Some(Held { letter, acker: delivery.acker }));
                }
                Ok(None) if running.cancelled => self.consumer = None,
                Ok(Some(Err(error))) => return Err(SessionError::Passing(format!("consuming failed: {error}"))),
                Ok(None) => return Err(SessionError::Passing(format!("the broker stopped giving {} out", self.queue))),
                Err(_) if count(&self.channel, &self.queue).await?.0 == 0 => {
                    // Somebody else has them.
                    (self.left, self.shared) = (0, true);
                    self.cancel().await?;
                }
                Err(_) if silence > ANSWER => {
                    return Err(SessionError::Passing(format!("the broker does not give {} out", self.queue)));
                }
                Err(_) => silence += LULL,
            }
        }
        Ok(None)
    }

    /// Whether somebody else was seen to look at them too: what they have in hand is not shown.
    pub fn shared(&self) -> bool {
        self.shared
    }

    /// Ends the look, of which so many letters were settled, and waits until the others lie in their queue again, so that
    /// whoever looks next sees them.
    pub async fn close(self, settled: u32) -> Result<(), SessionError> {
        if settled > 0 {
            arrive(&self.channel, &self.queue).await?;
            count(&self.channel, &self.queue).await?;
        }
        let back = self.seen.saturating_sub(settled);
        answer("closing a channel", self.channel.close(200, "bye".into())).await?;
        let channel = answer("opening a channel", self.link.connection.create_channel()).await?;
        let start = Instant::now();
        while start.elapsed() < RETURN && count(&channel, &self.queue).await?.0 < back {
            sleep(Duration::from_millis(5)).await;
        }
        self.link.close().await;
        Ok(())
    }

    /// Lets the consumer bring what is on its way and nothing more. What it has brought stays in hand.
    async fn cancel(&mut self) -> Result<(), SessionError> {
        match &mut self.consumer {
            Some(running) if !running.cancelled => running.cancel(&self.channel).await,
            _ => Ok(()),
        }
    }
}

impl Running {
    async fn cancel(&mut self, channel: &Channel) -> Result<(), SessionError> {
        self.cancelled = true;
        let cancelling = channel.basic_cancel(self.deliveries.tag(), BasicCancelOptions::default());
        answer("cancelling a consumer", cancelling).await
    }
}

/// Starts a consumer. Tags sort in the order of the letters, and so the broker takes them back.
async fn consume(channel: &Channel, queue: &ShortString, seen: u32) -> Result<Running, SessionError> {
    let tag = ShortString::from(format!("mfa-reset-look-{seen:010}"));
    let consuming = channel.basic_consume(queue.clone(), tag, BasicConsumeOptions::default(), FieldTable::default());
    let consuming = bounded("consuming dead letters", consuming).await?;
    let deliveries = consuming.map_err(|error| refusal("read", queue, &error))?;
    Ok(Running { deliveries, brought: 0, cancelled: false })
}

/// How many letters lie in the queue, besides those in somebody's hand, and how many consumers it has.
async fn count(channel: &Channel, queue: &ShortString) -> Result<(u32, u32), SessionError> {
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let looked = bounded("counting dead letters", channel.queue_declare(queue.clone(), look, FieldTable::default()));
    let found = looked.await?.map_err(|error| refusal("look at", queue, &error))?;
    Ok((found.message_count(), found.consumer_count()))
}

fn refusal(verb: &str, queue: &ShortString, error: &lapin::Error) -> SessionError {
    match protocol_error(error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            SessionError::Configuration(format!("the broker user may not {verb} {queue}: grant the permission"))
        }
        Some(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)) => {
            SessionError::Configuration(format!("the broker has no queue {queue}: is broker.prefix right?"))
        }
        Some(_) | None => SessionError::Passing(format!("could not {verb} {queue}: {error}")),
    }
}
