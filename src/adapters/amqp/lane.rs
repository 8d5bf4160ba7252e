//! One lane: its queue, its channel, and a consumer that can be stopped and started.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arrival::arrive;
use super::connect::{ANSWER, answer};
use super::{Delivery, Ending, Incoming, Lost, SessionError, Settings};
use crate::domain::request::Lane;

/// A lane of a session.
pub(super) struct Tap {
    channel: Channel,
    queue: ShortString,
    pipe: Arc<Pipe>,
    running: Mutex<Option<Running>>,
}

/// Where deliveries go, and how they are read.
struct Pipe {
    lane: Lane,
    us: String,
    sender: mpsc::UnboundedSender<Incoming>,
    ending: Ending,
}

struct Running {
    tag: ShortString,
    stopping: CancellationToken,
    /// None while the broker has not answered yet.
    pump: Option<JoinHandle<()>>,
}

impl Tap {
    /// Opens the lane's channel and sets its prefetch.
    pub(super) async fn open(
        connection: &Connection,
        settings: &Settings,
        us: &str,
        lane: Lane,
        sender: mpsc::UnboundedSender<Incoming>,
        ending: Ending,
    ) -> Result<Self, SessionError> {
        let prefetch = match lane {
            Lane::Tickets => settings.prefetch_tickets,
            Lane::Batch => settings.prefetch_batch,
        };
        let channel = answer("opening a channel", connection.create_channel()).await?;
        // None would mean: without limit.
        let qos = channel.basic_qos(prefetch.max(1), BasicQosOptions::default());
        answer("setting the prefetch", qos).await?;
        let queue = format!("{}.requests.{}", settings.prefix, lane.name());
        let queue = ShortString::try_new(queue).map_err(|error| SessionError::Configuration(error.to_string()))?;
        let pipe = Arc::new(Pipe { lane, us: us.to_owned(), sender, ending });
        Ok(Self { channel, queue, pipe, running: Mutex::new(None) })
    }

    /// Starts the consumer, unless it runs.
    pub(super) async fn consume(&self, tasks: &TaskTracker) -> Result<(), Lost> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        let tag = ShortString::from(format!("mfa-reset-{}", self.pipe.lane.name()));
        let stopping = CancellationToken::new();
        // Before the answer: whoever is told to stop meanwhile has a consumer to cancel.
        *running = Some(Running { tag: tag.clone(), stopping: stopping.clone(), pump: None });
        let options = BasicConsumeOptions::default();
        let consuming = self.channel.basic_consume(self.queue.clone(), tag.clone(), options, FieldTable::default());
        let consumer = answer(format!("consuming {}", self.queue), consuming).await;
        let consumer = consumer.map_err(|error| self.lost(&error.to_string()))?;
        let pump = tasks.spawn(pump(consumer, Arc::clone(&self.pipe), stopping.clone()));
        *running = Some(Running { tag, stopping, pump: Some(pump) });
        Ok(())
    }

    /// Stops the consumer, if it runs, and waits until all that the broker sent is in the inbox.
    pub(super) async fn cancel(&self) -> Result<(), Lost> {
        let mut running = self.running.lock().await;
        let Some(current) = running.as_mut() else { return Ok(()) };
        current.stopping.cancel();
        let cancelling = self.channel.basic_cancel(current.tag.clone(), BasicCancelOptions::default());
        let cancelled = answer(format!("cancelling {}", self.queue), cancelling).await;
        cancelled.map_err(|error| self.lost(&error.to_string()))?;
        let pumped = match &mut current.pump {
            Some(pump) => timeout(ANSWER, pump).await.map(|_| ()),
            None => Ok(()),
        };
        *running = None;
        pumped.map_err(|_| self.lost("a cancelled consumer did not end"))
    }

    /// Waits until what was acknowledged has reached the queue, so that none of it comes again when the session ends.
    pub(super) async fn arrive(&self) -> Result<(), Lost> {
        arrive(&self.channel, &self.queue).await.map_err(|error| self.lost(&error.to_string()))
    }

    fn lost(&self, why: &str) -> Lost {
        self.pipe.ending.end(why);
        Lost
    }
}

/// Moves deliveries to the inbox until the consumer ends, and the session with it unless somebody asked for that.
async fn pump(mut consumer: Consumer, pipe: Arc<Pipe>, stopping: CancellationToken) {
    let why = loop {
        match consumer.next().await {
            Some(Ok(delivery)) => {
                let delivery = Delivery::new(delivery, pipe.lane, &pipe.us, pipe.ending.clone());
                if pipe.sender.send(Incoming::Delivery(Box::new(delivery))).is_err() {
                    break "nobody takes deliveries any more".to_owned();
                }
            }
            Some(Err(error)) => break format!("consuming failed: {error}"),
            None if stopping.is_cancelled() => return,
            None => {
                break format!("the broker stopped the consumer of the {} lane: is its queue gone?", pipe.lane.name());
            }
        }
    };
    // First, or whoever hears of it asks in vain for the reason.
    pipe.ending.end(why.clone());
    _ = pipe.sender.send(Incoming::Ended(why));
}
