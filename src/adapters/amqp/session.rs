//! A session with the broker: two connections, one to publish and one to consume, and an inbox for each lane.
//!
//! Where any part of it fails, all of it ends: the token is cancelled, both connections are closed, and what was in
//! hand is the broker's again.

use futures_util::{Stream, StreamExt};
use lapin::Event;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{Access, Link};
use super::lane::Tap;
use super::{Ending, Incoming, Lost, Publisher, SessionError, Settings, topology};
use crate::domain::request::Lane;

/// A session with the broker.
pub struct Session {
    publisher: Publisher,
    tickets: Tap,
    batch: Tap,
    blocked: watch::Receiver<bool>,
    ending: Ending,
    tasks: TaskTracker,
}

/// What both lanes bring. Each receiver stays open across pauses of its lane.
#[derive(Debug)]
pub struct Inbox {
    /// What the tickets lane brings.
    pub tickets: mpsc::UnboundedReceiver<Incoming>,
    /// What the batch lane brings.
    pub batch: mpsc::UnboundedReceiver<Incoming>,
}

impl Session {
    /// Connects, checks the topology, and makes ready to publish and to consume. The token is the session's own: the
    /// session cancels it when it ends, and whoever cancels it ends the session.
    pub async fn open(settings: &Settings, token: CancellationToken) -> Result<(Self, Inbox), SessionError> {
        tokio::select! {
            () = token.cancelled() => Err(SessionError::Passing("stopped while connecting to the broker".to_owned())),
            opened = Self::establish(settings, Ending::new(token.clone())) => opened,
        }
    }

    async fn establish(settings: &Settings, ending: Ending) -> Result<(Self, Inbox), SessionError> {
        let access = Access::read(settings)?;
        let (outward, inward) = tokio::try_join!(access.connect("publish"), access.connect("consume"))?;
        topology::ensure(&inward.connection, &settings.prefix, settings.declare).await?;
        let user = access.user();
        let tasks = TaskTracker::new();
        let (block, blocked) = watch::channel(outward.connection.status().blocked());
        let events = (outward.connection.events_listener(), inward.connection.events_listener());
        let publisher =
            Publisher::open(&outward.connection, &settings.prefix, user, blocked.clone(), ending.clone()).await?;
        let (to_tickets, tickets) = mpsc::unbounded_channel();
        let (to_batch, batch) = mpsc::unbounded_channel();
        let tap = |lane, sender| Tap::open(&inward.connection, settings, user, lane, sender, ending.clone());
        let taps = (tap(Lane::Tickets, to_tickets).await?, tap(Lane::Batch, to_batch).await?);
        tasks.spawn(keep(outward, events.0, ending.clone(), Some(block)));
        tasks.spawn(keep(inward, events.1, ending.clone(), None));
        let session = Self { publisher, tickets: taps.0, batch: taps.1, blocked, ending, tasks };
        Ok((session, Inbox { tickets, batch }))
    }

    /// Looks over the topology once more, and declares what is missing where it may, on a connection of its own.
    pub async fn mend(settings: &Settings) -> Result<(), SessionError> {
        let link = Access::read(settings)?.connect("mend").await?;
        let mended = topology::ensure(&link.connection, &settings.prefix, settings.declare).await;
        link.close().await;
        mended
    }

    /// Begins to consume a lane, with as many deliveries in hand as its prefetch says; nothing if it does already. To be
    /// awaited to the end, unless the session is to end too.
    pub async fn consume(&self, lane: Lane) -> Result<(), Lost> {
        self.tap(lane).consume(&self.tasks).await
    }

    /// Stops consuming a lane. Then nothing more arrives than what its inbox holds, and all in hand can be settled.
    pub async fn cancel(&self, lane: Lane) -> Result<(), Lost> {
        self.tap(lane).cancel().await
    }

    /// Waits until what was acknowledged has reached its queue. For a session that is about to end.
    pub async fn arrive(&self) -> Result<(), Lost> {
        let (tickets, batch) = tokio::join!(self.tickets.arrive(), self.batch.arrive());
        tickets.and(batch)
    }

    /// A handle to publish with, good as long as the session.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Whether the broker takes no messages for want of memory or disk.
    pub fn blocked(&self) -> bool {
        *self.blocked.borrow()
    }

    /// The token that is cancelled when the session ends.
    pub fn token(&self) -> &CancellationToken {
        &self.ending.token
    }

    /// Why the session ended, if it did on its own.
    pub fn why(&self) -> Option<&str> {
        self.ending.why.get().map(String::as_str)
    }

    /// Ends the session and waits, briefly, until the broker has said goodbye. What is not settled goes back.
    pub async fn close(self) {
        self.ending.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn tap(&self, lane: Lane) -> &Tap {
        match lane {
            Lane::Tickets => &self.tickets,
            Lane::Batch => &self.batch,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ending.token.cancel();
    }
}

/// Holds a connection for as long as the session lasts, and ends the session with the connection.
async fn keep(link: Link, events: impl Stream<Item = Event>, ending: Ending, block: Option<watch::Sender<bool>>) {
    let mut events = std::pin::pin!(events);
    if !link.connection.status().connected() {
        ending.end("the connection to the broker was lost");
    }
    let tell = |blocked| block.iter().for_each(|block| _ = block.send_replace(blocked));
    loop {
        tokio::select! {
            () = ending.token.cancelled() => break,
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(_)) => tell(true),
                Some(Event::ConnectionUnblocked) => tell(false),
                Some(Event::Error(error)) => ending.end(format!("the connection to the broker failed: {error}")),
                Some(_) => {}
                None => ending.end("the connection to the broker was lost"),
            }
        }
    }
    link.close().await;
}
