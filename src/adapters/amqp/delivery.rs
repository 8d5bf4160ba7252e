//! A delivery, and how it is settled.
//!
//! One that is dropped unsettled stays with the session and goes back to its queue when that ends.

use std::fmt;

use lapin::Acker;
use lapin::options::BasicAckOptions;
use tokio::time::timeout;

use super::connect::ANSWER;
use super::{Ending, Lost, envelope};
use crate::domain::request::{Envelope, Lane};

/// What a lane brings.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Delivery(Box<Delivery>),
    /// Nothing more: the session is over, and why.
    Ended(String),
}

/// What we noted on a copy of a message that kept coming back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// How often it was tried on its own and did not come to an end.
    pub deaths: u32,
    /// Whether it is its turn: this try is counted already.
    pub turn: bool,
}

/// A message in hand.
pub struct Delivery {
    /// The body.
    pub body: Vec<u8>,
    /// What it says about the request beside the body.
    pub envelope: Envelope,
    /// Whether somebody may have had it before.
    pub redelivered: bool,
    /// How often the broker counts it as delivered before.
    pub delivery_count: u64,
    /// What we noted, if this is a copy of ours that kept coming back.
    pub suspicion: Option<Suspicion>,
    acker: Acker,
    ending: Ending,
}

impl Delivery {
    pub(super) fn new(delivery: lapin::message::Delivery, lane: Lane, us: &str, ending: Ending) -> Self {
        Self {
            envelope: envelope::read(&delivery.properties, lane, us),
            delivery_count: envelope::delivery_count(&delivery.properties),
            suspicion: envelope::suspicion(&delivery.properties, us),
            redelivered: delivery.redelivered,
            body: delivery.data,
            acker: delivery.acker,
            ending,
        }
    }

    /// Tells the broker to forget the message. Where this fails, the broker delivers it again.
    pub async fn ack(self) -> Result<(), Lost> {
        let acked = timeout(ANSWER, self.acker.ack(BasicAckOptions::default())).await;
        self.settled(matches!(acked, Ok(Ok(true))), "an acknowledgement")
    }

    /// The library answers `false`, not an error, when the channel is gone: the message is somebody else's by now.
    fn settled(&self, done: bool, what: &str) -> Result<(), Lost> {
        if done {
            return Ok(());
        }
        self.ending.end(format!("{what} did not reach the broker"));
        Err(Lost)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Delivery");
        debug.field("lane", &self.envelope.lane).field("bytes", &self.body.len());
        debug.field("redelivered", &self.redelivered).finish_non_exhaustive()
    }
}
