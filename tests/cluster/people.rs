//! The clients of the broker, and the users: they publish, read results, and register a new phone once the old one went.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::demand::Wish;
use crate::record::{Asked, Held, Letter, Record, Told};
use crate::secrets::BROKER_PASSWORD;
use crate::simulator::{MOBILE, Simulator};

/// How long the broker may take for anything; after that the connection is given up.
const ANSWER: Duration = Duration::from_secs(10);

/// The record that everybody writes to.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Record>>);

impl Notes {
    /// The record, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap()
    }
}

/// A connection of a user by way of a proxy, opened again whenever it failed.
pub struct Client {
    url: String,
    user: &'static str,
    line: Option<(Connection, Channel)>,
}

impl Client {
    /// A client that is not connected yet.
    pub fn new(user: &'static str, address: std::net::SocketAddr) -> Self {
        let url = format!("amqp://{user}:{BROKER_PASSWORD}@{address}/%2f?heartbeat=10");
        Self { url, user, line: None }
    }

    async fn channel(&mut self) -> Option<Channel> {
        if self.line.is_none() {
            let connection = bounded(Connection::connect(&self.url, ConnectionProperties::default())).await?;
            let channel = bounded(connection.create_channel()).await?;
            bounded(channel.confirm_select(ConfirmSelectOptions::default())).await?;
            self.line = Some((connection, channel));
        }
        self.line.as_ref().map(|(_, channel)| channel.clone())
    }

    /// Publishes one message; whether the broker confirmed it.
    async fn publish(&mut self, wish: &Wish) -> bool {
        let Some(channel) = self.channel().await else { return false };
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_user_id(self.user.into())
            .with_message_id(wish.id.as_str().into())
            .with_correlation_id(wish.id.as_str().into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = channel.basic_publish("mfa.requests".into(), wish.lane.into(), options, &wish.body, properties);
        let confirmed = bounded(async { sent.await?.await }).await;
        if !matches!(confirmed, Some(Confirmation::Ack(_) | Confirmation::Nack(_))) {
            self.line = None;
        }
        // With a message inside it was not routed.
        matches!(confirmed, Some(Confirmation::Ack(None)))
    }

    /// Takes one message: its correlation id, its headers and its body. Nothing where there is none, or no broker.
    async fn take(&mut self, queue: &str) -> Option<lapin::message::Delivery> {
        let channel = self.channel().await?;
        let Some(got) = bounded(channel.basic_get(queue.into(), BasicGetOptions::default())).await else {
            self.line = None;
            return None;
        };
        Some(got?.delivery)
    }

    /// How many messages wait in a queue; none where it cannot be told.
    pub async fn waiting(&mut self, queue: &str) -> Option<u32> {
        let channel = self.channel().await?;
        let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let declared = bounded(channel.queue_declare(queue.into(), look, FieldTable::default())).await;
        if declared.is_none() {
            self.line = None;
        }
        declared.map(|queue| queue.message_count())
    }

    async fn acknowledge(&mut self, delivery: &lapin::message::Delivery) {
        if bounded(delivery.ack(BasicAckOptions::default())).await != Some(true) {
            self.line = None;
        }
    }
}

async fn bounded<T>(call: impl Future<Output = lapin::Result<T>>) -> Option<T> {
    timeout(ANSWER, call).await.ok()?.ok()
}

/// Publishes each wish at its time, and again until it is confirmed.
pub async fn produce(mut client: Client, wishes: Vec<Wish>, start: Instant, notes: Notes) {
    for wish in wishes {
        sleep_until(start + wish.at).await;
        loop {
            notes.lock().asked.entry(wish.id.clone()).or_insert(Asked { kind: wish.kind, confirmed: false });
            let confirmed = client.publish(&wish).await;
            if confirmed {
                notes.lock().asked.entry(wish.id.clone()).and_modify(|asked| asked.confirmed = true);
            }
            if confirmed || !wish.stubborn {
                break;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }
}

fn correlation(delivery: &lapin::message::Delivery) -> String {
    delivery.properties.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Takes every result, until it is told to stop and there is none left.
pub async fn read_results(mut client: Client, notes: Notes, stop: CancellationToken) {
    loop {
        let Some(delivery) = client.take("mfa.results").await else {
            // No connection is no empty queue.
            if stop.is_cancelled() && client.line.is_some() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let event: Value = serde_json::from_slice(&delivery.data).expect("a result event is JSON");
        notes.lock().told.push(Told { request: correlation(&delivery), event });
        client.acknowledge(&delivery).await;
    }
}

/// Takes every dead letter that is there.
pub async fn read_letters(mut client: Client, notes: &Notes) {
    while let Some(delivery) = client.take("mfa.dead-letters").await {
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        let reason =
            headers.inner().get("x-mfa-reason").and_then(|reason| reason.as_long_string().map(ToString::to_string));
        let reason = reason.unwrap_or_else(|| format!("{headers:?}"));
        notes.lock().letters.push(Letter { request: correlation(&delivery), reason });
        client.acknowledge(&delivery).await;
    }
    assert!(client.line.is_some(), "the dead letters can be read");
}

/// Watches for planned phones that go, and lets most of their owners register another one, at once or a little later.
pub async fn register(
    simulator: Arc<Simulator>,
    owners: BTreeSet<usize>,
    mut random: Rng,
    notes: Notes,
    stop: CancellationToken,
) {
    let (mut seen, mut ended) = (0, false);
    let mut later = JoinSet::new();
    while !ended {
        ended = stop.is_cancelled();
        let entries = simulator.get(&format!("journal?since={seen}")).await.expect("the journal");
        for entry in entries.as_array().unwrap() {
            seen = entry["n"].as_u64().unwrap();
            if entry["effect"]["removed"]["id"] == MOBILE && random.u8(..100) < 70 {
                let wait = if random.bool() { Duration::ZERO } else { Duration::from_secs(5).mul_f64(random.f64()) };
                let user = entry["user"].as_str().unwrap().to_owned();
                later.spawn(anew(simulator.clone(), user, owners.clone(), wait, notes.clone()));
            }
        }
        sleep(Duration::from_millis(25)).await;
    }
    while let Some(done) = later.join_next().await {
        done.unwrap();
    }
}

async fn anew(simulator: Arc<Simulator>, user: String, owners: BTreeSet<usize>, wait: Duration, notes: Notes) {
    let state = simulator.get(&format!("users/{user}")).await.expect("the user");
    let name = state["userPrincipalName"].as_str().unwrap();
    let number: usize = name["user".len()..][..5].parse().unwrap();
    if owners.contains(&number) {
        sleep(wait).await;
        let shown = simulator.register_mobile(&user, &format!("+1 206777{number:05}")).await;
        let value = shown["value_hash"].as_str().expect("a digest").to_owned();
        let method = (user, "phone_mobile".to_owned(), MOBILE.to_owned());
        notes.lock().registered.push(Held { method, value });
    }
}
