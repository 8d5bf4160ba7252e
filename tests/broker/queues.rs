//! The broker's side of a test: exchanges and queues under a prefix of the test's own, which is gone when the test is done.

use std::time::{Duration, Instant};

use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::process::apart;

const LANES: [&str; 2] = ["requests.tickets", "requests.batch"];
const STEPS: [u32; 5] = [10, 60, 300, 900, 3600];
const OTHERS: [&str; 3] = ["results", "audit", "dead-letters"];
const EXCHANGES: [&str; 5] = ["requests", "retry", "results", "audit", "dead-letters"];

/// The names of one test on one broker.
pub struct Queues {
    pub prefix: String,
    pub url: String,
    line: Option<(Connection, Channel)>,
}

impl Queues {
    /// Fresh names; nothing is declared.
    pub fn new(url: &str) -> Self {
        let prefix = format!("t{:012x}", fastrand::u64(..1 << 48));
        Self { prefix, url: url.to_owned(), line: None }
    }

    /// The full name of an exchange or a queue.
    pub fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// The user that publishes.
    pub fn user(&self) -> String {
        self.uri().authority.userinfo.username
    }

    /// The broker's address in parts.
    pub fn uri(&self) -> AMQPUri {
        self.url.parse().unwrap()
    }

    /// The channel of this test, opened again where the last one is gone. It is one for all, since the library closes a
    /// dropped channel some time later, and by then its number may be another's: that one's acknowledgements are lost.
    pub async fn channel(&mut self) -> Channel {
        let start = Instant::now();
        loop {
            if let Some((_, channel)) = &self.line
                && channel.status().connected()
            {
                return channel.clone();
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the broker takes no connection");
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.line = connect(&self.url).await;
        }
    }

    /// Publishes these bodies as a user, or as nobody, and waits until the broker has stored them all.
    pub async fn publish(&mut self, key: &str, bodies: &[Vec<u8>], user: Option<&str>) {
        let properties = BasicProperties::default();
        let user = user.map(Into::into);
        self.publish_as(key, bodies, user.into_iter().fold(properties, BasicProperties::with_user_id)).await;
    }

    /// Publishes these bodies with more properties than that.
    pub async fn publish_as(&mut self, key: &str, bodies: &[Vec<u8>], properties: BasicProperties) {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let exchange = self.name("requests");
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = properties.with_delivery_mode(2);
        let mut confirms = Vec::new();
        for body in bodies {
            let (exchange, properties) = (exchange.as_str().into(), properties.clone());
            let sent = channel.basic_publish(exchange, key.into(), options, body, properties);
            confirms.push(sent.await.unwrap());
        }
        for confirm in confirms {
            let answer = confirm.await.unwrap();
            assert!(matches!(answer, Confirmation::Ack(None)), "a request was not routed");
        }
    }

    /// Takes everything that waits in a queue right now. What a dying connection takes back comes again another time.
    pub async fn take(&mut self, queue: &str) -> Vec<Delivery> {
        let channel = self.channel().await;
        let (name, mut taken) = (self.name(queue), Vec::<Delivery>::new());
        let get = || bounded(channel.basic_get(name.as_str().into(), BasicGetOptions::default()));
        while let Some(Some(message)) = get().await {
            taken.push(message.delivery);
        }
        if let Some(last) = taken.last() {
            bounded(last.ack(BasicAckOptions { multiple: true })).await;
        }
        taken
    }

    /// How many messages wait in a queue, besides those that a consumer holds; none where the broker is away.
    pub async fn waiting(&mut self, queue: &str) -> u32 {
        let (channel, name) = (self.channel().await, self.name(queue));
        let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue = channel.queue_declare(name.as_str().into(), look, FieldTable::default());
        bounded(queue).await.map_or(0, |queue| queue.message_count())
    }

    /// How many requests wait in lanes and retry queues.
    pub async fn requests_waiting(&mut self) -> u32 {
        let mut sum = 0;
        for queue in LANES.map(str::to_owned).into_iter().chain(retry_queues()) {
            sum += self.waiting(&queue).await;
        }
        sum
    }

    async fn clean(&self) -> Option<()> {
        let (_connection, channel) = connect(&self.url).await?;
        let fixed = LANES.iter().chain(&OTHERS).map(|name| (*name).to_owned());
        for queue in fixed.chain(retry_queues()).map(|queue| self.name(&queue)) {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.ok()?;
        }
        for exchange in EXCHANGES.map(|exchange| self.name(exchange)) {
            let name = exchange.as_str().into();
            channel.exchange_delete(name, ExchangeDeleteOptions::default()).await.ok()?;
        }
        Some(())
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        let clean = async { tokio::time::timeout(Duration::from_secs(20), self.clean()).await };
        let cleaned = apart(clean);
        if !matches!(cleaned, Ok(Ok(Some(())))) {
            println!("names that start with {} may be left on the broker", self.prefix);
        }
    }
}

fn retry_queues() -> impl Iterator<Item = String> {
    let lane = |lane| STEPS.iter().map(move |step| format!("retry.{lane}.{step}"));
    lane("tickets").chain(lane("batch"))
}

async fn connect(url: &str) -> Option<(Connection, Channel)> {
    let connection = bounded(Connection::connect(url, ConnectionProperties::default())).await?;
    let channel = bounded(connection.create_channel()).await?;
    Some((connection, channel))
}

/// What a healthy broker answers in time: a broker that dies in the middle may leave us waiting for ever.
async fn bounded<T>(call: impl Future<Output = lapin::Result<T>>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(5), call).await.ok()?.ok()
}
