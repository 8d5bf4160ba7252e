//! The exchanges and queues, as one table, and how they come to be.
//!
//! Looking comes first and proves that something is there, never with which arguments: an operator may have chosen
//! others, and declaring over them is refused.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use tracing::warn;

use super::connect::{answer, bounded, protocol_error};
use super::{SessionError, word};
use crate::domain::request::Lane;
use crate::domain::retry;

/// What a queue is for, which decides its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Keeps messages until somebody takes them; looking at them often does not drop them.
    Keep,
    /// Holds requests; one that kills its consumer over and over becomes a dead letter.
    Lane,
    /// Holds a deferred copy for so many seconds, then sends it back to its lane.
    Wait(u64),
}

/// A queue, and how messages reach it. Names are without the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The durable topic exchange it is bound to.
    pub exchange: &'static str,
    /// Its name.
    pub name: String,
    /// The key it is bound with.
    pub key: String,
    /// What it is for.
    pub purpose: Purpose,
}

/// Every queue, in the order in which they are declared: where messages end up before where they come from.
pub fn queues() -> Vec<Queue> {
    let queue = |exchange, name: &str, key: &str, purpose| Queue {
        exchange,
        name: name.to_owned(),
        key: key.to_owned(),
        purpose,
    };
    let mut queues = vec![
        queue("dead-letters", "dead-letters", "#", Purpose::Keep),
        queue("results", "results", "#", Purpose::Keep),
        queue("audit", "audit", "#", Purpose::Keep),
        queue("requests", "requests.tickets", "reset.#", Purpose::Lane),
        queue("requests", "requests.batch", "batch.#", Purpose::Lane),
    ];
    for lane in Lane::ALL {
        for step in retry::STEPS {
            let name = format!("retry.{}.{step}", lane.name());
            queues.push(queue("retry", &name, &format!("{}.{step}", word(lane)), Purpose::Wait(step)));
        }
    }
    queues
}

/// An argument of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

impl Purpose {
    /// The arguments of such a queue. Every limit is explicit, since defaults differ from version to version.
    pub fn arguments(self, prefix: &str) -> Vec<(&'static str, Argument)> {
        use Argument::{Number, Text};
        // At-least-once dead-lettering works only together with reject-publish; the length is an alarm.
        let dead_letters_to = |exchange: &str| {
            vec![
                ("x-dead-letter-exchange", Text(format!("{prefix}.{exchange}"))),
                ("x-dead-letter-strategy", Text("at-least-once".to_owned())),
                ("x-overflow", Text("reject-publish".to_owned())),
                ("x-max-length", Number(1_000_000)),
            ]
        };
        let mut arguments = vec![("x-queue-type", Text("quorum".to_owned()))];
        arguments.extend(match self {
            Self::Keep => vec![("x-delivery-limit", Number(1_000_000_000))],
            Self::Lane => vec![("x-delivery-limit", Number(20))],
            Self::Wait(step) => {
                vec![("x-delivery-limit", Number(1_000_000_000)), ("x-message-ttl", Number(step * 1000))]
            }
        });
        arguments.extend(match self {
            Self::Keep => Vec::new(),
            // Never into a retry loop: the broker drops what comes round again without having been rejected.
            Self::Lane => dead_letters_to("dead-letters"),
            // The key stays, and so the lane.
            Self::Wait(_) => dead_letters_to("requests"),
        });
        arguments
    }
}

/// Makes sure that everything is there.
pub(super) async fn ensure(connection: &Connection, prefix: &str, declare: bool) -> Result<(), SessionError> {
    let mut broker = Broker { connection, prefix, channel: None };
    let (mut missing, mut unbound) = (Vec::new(), Vec::new());
    let mut exchanges = Vec::new();
    for queue in queues() {
        if !exchanges.contains(&queue.exchange) {
            exchanges.push(queue.exchange);
            if !broker.has_exchange(queue.exchange).await? {
                missing.push(format!("exchange {prefix}.{}", queue.exchange));
                if declare {
                    broker.declare_exchange(queue.exchange).await?;
                }
            }
        }
        let exists = broker.has_queue(&queue.name).await?;
        if !exists {
            missing.push(format!("queue {prefix}.{}", queue.name));
        }
        // Also one that exists: whoever declared it may have been stopped before it was bound.
        if declare && !broker.settle(&queue, exists).await? {
            unbound.push(queue.name);
        }
    }
    if !unbound.is_empty() {
        warn!(queues = unbound.join(", "), "not permitted to bind queues that exist: taking them as bound");
    }
    if declare || missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(wrong(format!("the broker lacks {missing}: import the definitions, or set broker.declare = true")))
}

/// Looks and declares. A complaint closes the channel, so the next question opens another.
struct Broker<'a> {
    connection: &'a Connection,
    prefix: &'a str,
    channel: Option<Channel>,
}

impl Broker<'_> {
    async fn has_exchange(&mut self, name: &str) -> Result<bool, SessionError> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let full = self.full(name)?;
        let channel = self.channel().await?;
        let looking = channel.exchange_declare(full, ExchangeKind::Topic, options, FieldTable::default());
        let looked = bounded("looking for an exchange", looking).await?;
        self.judge("look for", name, looked, AMQPSoftError::NOTFOUND)
    }

    async fn has_queue(&mut self, name: &str) -> Result<bool, SessionError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let full = self.full(name)?;
        let channel = self.channel().await?;
        let looking = channel.queue_declare(full, options, FieldTable::default());
        let looked = bounded("looking for a queue", looking).await?;
        self.judge("look for", name, looked.map(|_| ()), AMQPSoftError::NOTFOUND)
    }

    async fn declare_exchange(&mut self, name: &str) -> Result<(), SessionError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let full = self.full(name)?;
        let channel = self.channel().await?;
        let declaring = channel.exchange_declare(full, ExchangeKind::Topic, options, FieldTable::default());
        let declared = bounded("declaring an exchange", declaring).await?;
        declared.map_err(|error| refusal("declare", &self.name(name), &error))
    }

    /// Declares a queue unless it exists, and binds it. Only for one that exists may the broker refuse the binding:
    /// then the answer is `false`.
    async fn settle(&mut self, queue: &Queue, exists: bool) -> Result<bool, SessionError> {
        let name = self.full(&queue.name)?;
        if !exists {
            let arguments = table(queue.purpose.arguments(self.prefix));
            let channel = self.channel().await?;
            let declaring = channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments);
            let declared = bounded("declaring a queue", declaring).await?;
            declared.map_err(|error| refusal("declare", &self.name(&queue.name), &error))?;
        }
        let (exchange, key) = (self.full(queue.exchange)?, ShortString::from(queue.key.as_str()));
        let channel = self.channel().await?;
        let binding = channel.queue_bind(name, exchange, key, QueueBindOptions::default(), FieldTable::default());
        let bound = bounded("binding a queue", binding).await?;
        let bound = self.judge("bind", &queue.name, bound, AMQPSoftError::ACCESSREFUSED)?;
        if bound || exists { Ok(bound) } else { Err(wrong(forbidden("bind", &self.name(&queue.name)))) }
    }

    /// `false` for the one complaint that is an answer; it has closed the channel.
    fn judge(
        &mut self,
        verb: &str,
        name: &str,
        answer: lapin::Result<()>,
        complaint: AMQPSoftError,
    ) -> Result<bool, SessionError> {
        match answer {
            Ok(()) => Ok(true),
            Err(error) if protocol_error(&error) == Some(&AMQPErrorKind::Soft(complaint)) => {
                self.channel = None;
                Ok(false)
            }
            Err(error) => Err(refusal(verb, &self.name(name), &error)),
        }
    }

    async fn channel(&mut self) -> Result<Channel, SessionError> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = answer("opening a channel", self.connection.create_channel()).await?;
        Ok(self.channel.insert(channel).clone())
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn full(&self, name: &str) -> Result<ShortString, SessionError> {
        ShortString::try_new(self.name(name)).map_err(|_| wrong("broker.prefix is too long"))
    }
}

fn wrong(what: impl Into<String>) -> SessionError {
    SessionError::Configuration(what.into())
}

fn forbidden(verb: &str, name: &str) -> String {
    format!(
        "the broker user may not {verb} {name}: grant the permission, or import the definitions and set \
         broker.declare = false"
    )
}

fn refusal(verb: &str, name: &str, error: &lapin::Error) -> SessionError {
    match protocol_error(error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => wrong(forbidden(verb, name)),
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => {
            wrong(format!("the broker does not let us {verb} {name} as it should be: {error}"))
        }
        Some(_) | None => SessionError::Passing(format!("could not {verb} {name}: {error}")),
    }
}

pub(super) fn table(arguments: Vec<(&'static str, Argument)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, argument) in arguments {
        let value = match argument {
            Argument::Number(number) => AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX)),
            Argument::Text(text) => AMQPValue::LongString(text.into()),
        };
        table.insert(ShortString::from(name), value);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(name: &str) -> Vec<(&'static str, Argument)> {
        let queue = queues().into_iter().find(|queue| queue.name == name).unwrap();
        queue.purpose.arguments("mfa")
    }

    #[test]
    fn there_is_a_retry_queue_for_each_lane_and_step_and_each_goes_back_to_its_lane() {
        let queues = queues();
        assert_eq!(queues.len(), 5 + 2 * retry::STEPS.len());
        let waits: Vec<_> = queues.iter().filter(|queue| queue.exchange == "retry").collect();
        assert_eq!((waits[1].name.as_str(), waits[1].key.as_str()), ("retry.tickets.60", "reset.60"));
        for wait in waits {
            let lane = wait.name.split('.').nth(1).unwrap();
            let lane = queues.iter().find(|queue| queue.name == format!("requests.{lane}")).unwrap();
            assert!(wait.key.starts_with(lane.key.trim_end_matches('#')), "{} comes back another way", wait.name);
        }
    }

    #[test]
    fn no_lane_dead_letters_into_a_loop_and_no_kept_message_is_dropped() {
        let exchange = |name: &str| ("x-dead-letter-exchange", Argument::Text(name.to_owned()));
        assert!(arguments("requests.batch").contains(&exchange("mfa.dead-letters")));
        assert!(arguments("retry.batch.3600").contains(&exchange("mfa.requests")));
        assert!(arguments("retry.batch.3600").contains(&("x-message-ttl", Argument::Number(3_600_000))));
        for kept in ["dead-letters", "results", "audit"] {
            let expected = [
                ("x-queue-type", Argument::Text("quorum".into())),
                ("x-delivery-limit", Argument::Number(1_000_000_000)),
            ];
            assert_eq!(arguments(kept), expected);
        }
    }
}
