//! Looks at a broker and changes nothing: what is there, with which arguments, and what we may do with it.
//!
//! A permission is tried with a call that is refused all the same: RabbitMQ checks the permission first (403), and then a
//! property or argument that can never be accepted (406). No such call reaches a queue, declares or consumes anything.

use std::sync::PoisonError;

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};

use super::connect::{Access, Link, answer, bounded, protocol_error};
use super::topology::{self, Queue};
use super::{SessionError, Settings};

/// What the broker answers to a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is so.
    Good,
    /// The user may not.
    Forbidden,
    /// It is not there.
    Missing,
    /// It is otherwise: what the broker says of it.
    Otherwise(String),
}

/// A connection to look round with. Every question has a channel of its own, since a refusal closes it.
pub struct Inspection {
    link: Link,
    access: Access,
    prefix: String,
}

impl Inspection {
    /// Connects as the worker does.
    pub async fn open(settings: &Settings) -> Result<Self, SessionError> {
        let access = Access::read(settings)?;
        let link = access.connect("check").await?;
        Ok(Self { link, access, prefix: settings.prefix.clone() })
    }

    /// Host and port of the broker.
    pub fn place(&self) -> String {
        self.access.place()
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        self.access.vhost()
    }

    /// The broker user.
    pub fn user(&self) -> &str {
        self.access.user()
    }

    /// Whether nobody on the way can listen.
    pub fn is_private(&self) -> bool {
        self.access.is_private()
    }

    /// What the broker calls itself, such as `RabbitMQ`, and its version.
    pub fn product(&self) -> Option<(String, String)> {
        let greeting = self.link.greeting.lock().unwrap_or_else(PoisonError::into_inner);
        Some((property(&greeting, "product")?, property(&greeting, "version")?))
    }

    /// Whether an exchange is there.
    pub async fn exchange(&self, name: &str) -> Result<Verdict, SessionError> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        self.declare_exchange(name, options, FieldTable::default()).await
    }

    /// Whether a queue is there.
    pub async fn queue(&self, name: &str) -> Result<Verdict, SessionError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.declare_queue(name, options, FieldTable::default()).await
    }

    /// Whether an exchange is as this program declares it. Only for one that is there: it would be made.
    pub async fn compare_exchange(&self, name: &str) -> Result<Verdict, SessionError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        self.declare_exchange(name, options, FieldTable::default()).await
    }

    /// Whether a queue is as this program declares it. Only for one that is there: it would be made.
    pub async fn compare_queue(&self, queue: &Queue) -> Result<Verdict, SessionError> {
        let arguments = topology::table(queue.purpose.arguments(&self.prefix));
        self.declare_queue(&queue.name, QueueDeclareOptions::durable(), arguments).await
    }

    /// Whether the user may declare an exchange: no exchange can have a number for its alternate.
    pub async fn may_declare_exchange(&self, name: &str) -> Result<bool, SessionError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let arguments = argument("alternate-exchange", AMQPValue::LongInt(1));
        Ok(self.declare_exchange(name, options, arguments).await? != Verdict::Forbidden)
    }

    /// Whether the user may declare a queue: no queue can have a word for its time to live.
    pub async fn may_declare_queue(&self, name: &str) -> Result<bool, SessionError> {
        let arguments = argument("x-message-ttl", AMQPValue::LongString("none".into()));
        Ok(self.declare_queue(name, QueueDeclareOptions::durable(), arguments).await? != Verdict::Forbidden)
    }

    /// Whether the user may consume a queue: no consumer can have a word for its priority.
    pub async fn may_read(&self, name: &str) -> Result<bool, SessionError> {
        let (queue, channel) = (self.full(name)?, self.channel().await?);
        let arguments = argument("x-priority", AMQPValue::LongString("none".into()));
        let consuming = channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), arguments);
        let answer = bounded("trying to consume", consuming).await?.map(drop);
        Ok(judge(name, answer)? != Verdict::Forbidden)
    }

    /// Whether the user may publish to an exchange: no message can have a word for its expiration.
    pub async fn may_write(&self, name: &str) -> Result<bool, SessionError> {
        Ok(self.publish(name, b"").await? != Verdict::Forbidden)
    }

    /// The longest message that the broker takes, if that is less than `length`.
    pub async fn size_limit(&self, name: &str, length: usize) -> Result<Option<u64>, SessionError> {
        let Verdict::Otherwise(why) = self.publish(name, &vec![b' '; length]).await? else { return Ok(None) };
        let limit = why.split_once("max size ").map(|(_, rest)| rest.trim_end().trim_end_matches(['\'', '"', '.']));
        Ok(limit.and_then(|limit| limit.parse().ok()))
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.link.close().await;
    }

    /// Publishes what is never accepted.
    async fn publish(&self, name: &str, body: &[u8]) -> Result<Verdict, SessionError> {
        let (exchange, channel) = (self.full(name)?, self.channel().await?);
        answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let properties = BasicProperties::default().with_expiration("none".into());
        let options = BasicPublishOptions::default();
        let publishing =
            async { channel.basic_publish(exchange, "check".into(), options, body, properties).await?.await };
        let answer = bounded("trying to publish", publishing).await?.map(drop);
        judge(name, answer)
    }

    async fn declare_exchange(
        &self,
        name: &str,
        options: ExchangeDeclareOptions,
        arguments: FieldTable,
    ) -> Result<Verdict, SessionError> {
        let (full, channel) = (self.full(name)?, self.channel().await?);
        let declaring = channel.exchange_declare(full, ExchangeKind::Topic, options, arguments);
        judge(name, bounded("looking at an exchange", declaring).await?)
    }

    async fn declare_queue(
        &self,
        name: &str,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Result<Verdict, SessionError> {
        let (full, channel) = (self.full(name)?, self.channel().await?);
        let declaring = channel.queue_declare(full, options, arguments);
        judge(name, bounded("looking at a queue", declaring).await?.map(drop))
    }

    async fn channel(&self) -> Result<Channel, SessionError> {
        answer("opening a channel", self.link.connection.create_channel()).await
    }

    fn full(&self, name: &str) -> Result<ShortString, SessionError> {
        let full = ShortString::try_new(format!("{}.{name}", self.prefix));
        full.map_err(|_| SessionError::Configuration("broker.prefix is too long".to_owned()))
    }
}

fn judge(name: &str, answer: lapin::Result<()>) -> Result<Verdict, SessionError> {
    let Err(error) = answer else { return Ok(Verdict::Good) };
    match protocol_error(&error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => Ok(Verdict::Forbidden),
        Some(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)) => Ok(Verdict::Missing),
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => Ok(Verdict::Otherwise(error.to_string())),
        Some(_) | None => Err(SessionError::Passing(format!("could not look at {name}: {error}"))),
    }
}

fn argument(name: &str, value: AMQPValue) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(ShortString::from(name), value);
    table
}

/// A text among the properties that a server opens with: the length of the name, the name, `S`, the length, the text.
fn property(greeting: &[u8], name: &str) -> Option<String> {
    let mark = [&[u8::try_from(name.len()).ok()?], name.as_bytes(), b"S"].concat();
    let at = greeting.windows(mark.len()).position(|window| window == mark)?;
    let (length, rest) = greeting[at + mark.len()..].split_first_chunk::<4>()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_tells_product_and_version() {
        let greeting = b"\x01\0\0\0\0\0\x40\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x054.0.5";
        assert_eq!(property(greeting, "product").as_deref(), Some("RabbitMQ"));
        assert_eq!(property(greeting, "version").as_deref(), Some("4.0.5"));
        assert_eq!(property(greeting, "platform"), None);
        assert_eq!(property(&greeting[..greeting.len() - 1], "version"), None, "cut short");
    }
}
