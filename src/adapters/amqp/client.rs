//! The broker for those who ask: publishes requests and, if wanted, waits for their results.
//!
//! Results are read from a queue of one's own that dies with the connection, never from the one that the ticketing
//! system reads.

use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::Consumer;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connect::{Access, Link, answer};
use super::{Ending, Letter, Lost, Outgoing, PublishError, Publisher, SessionError, Settings};
use crate::domain::request::Lane;

/// A request to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Which lane it takes.
    pub lane: Lane,
    /// The request, as JSON.
    pub body: Vec<u8>,
    /// The AMQP `message_id`.
    pub message_id: Option<String>,
    /// The AMQP `correlation_id`, by which its result is known.
    pub correlation_id: Option<String>,
}

/// A connection to publish requests with.
pub struct Client {
    link: Link,
    prefix: String,
    publisher: Publisher,
}

/// Results, from the moment they were asked for.
pub struct Results(Consumer);

/// A result event.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The `correlation_id` of its request, else the `message_id`.
    pub correlation_id: Option<String>,
    /// The CloudEvent.
    pub event: Value,
}

impl Client {
    /// Connects; checks nothing of the topology, since a request that no queue takes comes back.
    pub async fn open(settings: &Settings) -> Result<Self, SessionError> {
        Self::connect(settings, "submit").await
    }

    /// The same to replay dead letters; apart from the connection they are read from, since a broker short of memory
    /// stops those that publish.
    pub async fn to_replay(settings: &Settings) -> Result<Self, SessionError> {
        Self::connect(settings, "replay").await
    }

    async fn connect(settings: &Settings, purpose: &str) -> Result<Self, SessionError> {
        let access = Access::read(settings)?;
        let link = access.connect(purpose).await?;
        let ending = Ending::new(CancellationToken::new());
        let (_, blocked) = watch::channel(false);
        let publisher = Publisher::open(&link.connection, &settings.prefix, access.user(), blocked, ending).await?;
        Ok(Self { link, prefix: settings.prefix.clone(), publisher })
    }

    /// Begins to listen for results. Before the request is published, or its result may be missed.
    pub async fn results(&self) -> Result<Results, SessionError> {
        let channel = answer("opening a channel", self.link.connection.create_channel()).await?;
        let short = |name: String| ShortString::try_new(name).map_err(|e| SessionError::Configuration(e.to_string()));
        let queue = short(format!("{}.wait.{}", self.prefix, Uuid::new_v4()))?;
        let exchange = short(format!("{}.results", self.prefix))?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        // A virtual host may make queues quorum queues by default, and those cannot be exclusive.
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        answer("declaring a queue for results", channel.queue_declare(queue.clone(), options, arguments)).await?;
        let (binding, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = channel.queue_bind(queue.clone(), exchange, "result.#".into(), binding, none);
        answer("binding a queue for results", bound).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consuming = channel.basic_consume(queue, "mfa-reset-wait".into(), options, FieldTable::default());
        answer("consuming results", consuming).await.map(Results)
    }

    /// Publishes a request and waits until a queue has stored it.
    pub async fn submit(&self, submission: &Submission) -> Result<(), PublishError> {
        self.publisher.publish(&Outgoing::request(submission)).await
    }

    /// Publishes a copy of a dead letter to its lane and waits until a queue has stored it.
    pub async fn replay(&self, letter: &Letter, now: Timestamp) -> Result<(), PublishError> {
        let copy = Outgoing::replay(&letter.body, &letter.envelope, letter.first_seen(now));
        self.publisher.publish(&copy).await
    }

    /// Says goodbye; the queue for results goes with the connection.
    pub async fn close(self) {
        self.link.close().await;
    }
}

impl Results {
    /// The next result, whoever asked.
    pub async fn next(&mut self) -> Result<Answer, Lost> {
        loop {
            let Some(Ok(delivery)) = self.0.next().await else { return Err(Lost) };
            let acked = delivery.ack(BasicAckOptions::default()).await;
            if !matches!(acked, Ok(true)) {
                return Err(Lost);
            }
            let correlation_id = delivery.properties.correlation_id().as_ref().map(ToString::to_string);
            if let Ok(event) = serde_json::from_slice(&delivery.data) {
                return Ok(Answer { correlation_id, event });
            }
        }
    }
}

impl Answer {
    /// Whether the job is over, rather than delayed.
    pub fn is_final(&self) -> bool {
        self.event.pointer("/data/outcome").is_some()
    }

    /// Whether it answers a request: it echoes the correlation id, or else the message id; or it is about that request,
    /// as the repeated result of one that was concluded before, which echoes what came with the first delivery.
    pub fn is_for(&self, submission: &Submission) -> bool {
        let echoed = submission.correlation_id.as_ref().or(submission.message_id.as_ref());
        if echoed.is_some() && self.correlation_id.as_ref() == echoed {
            return true;
        }
        let body: Value = serde_json::from_slice(&submission.body).unwrap_or_default();
        let id = body.get("id").and_then(Value::as_str).or(submission.message_id.as_deref());
        let told = |pointer: &str| self.event.pointer(pointer).and_then(Value::as_str);
        id.is_some()
            && told("/data/request_id") == id
            && told("/data/ticket_system") == body.pointer("/ticket/system").and_then(Value::as_str)
    }
}
