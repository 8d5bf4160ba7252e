//! Exchanges and queues: which are there, and whether they are as this program declares them.

use crate::adapters::amqp::topology::{Argument, Queue, queues};
use crate::adapters::amqp::{Inspection, SessionError, Settings, Verdict};

use super::report::Finding;

/// Arguments that an operator may choose: where a queue lives, and not what becomes of its messages.
const FREE: [&str; 3] = ["x-quorum-initial-group-size", "x-quorum-target-group-size", "x-queue-leader-locator"];

/// What was found of all exchanges and queues. Names are without the prefix.
#[derive(Default)]
pub struct Parts {
    /// Exchanges that are there.
    pub exchanges: Vec<&'static str>,
    /// Queues that are there.
    pub queues: Vec<Queue>,
    /// What is not there, in words.
    missing: Vec<String>,
    /// What of it the user may not declare.
    undeclarable: Vec<String>,
    /// What is otherwise, in words.
    pub different: Vec<String>,
    /// Queues whose arguments AMQP does not tell.
    pub unknown: Vec<Queue>,
}

impl Parts {
    /// Looks at all of them, one after the other.
    pub async fn find(broker: &Inspection, settings: &Settings) -> Result<Self, SessionError> {
        let mut parts = Self::default();
        let prefix = &settings.prefix;
        let mut seen = Vec::new();
        for queue in queues() {
            if !seen.contains(&queue.exchange) {
                seen.push(queue.exchange);
                parts.add_exchange(broker, settings, queue.exchange).await?;
            }
            let name = format!("queue {prefix}.{}", queue.name);
            if broker.queue(&queue.name).await? == Verdict::Missing {
                if settings.declare && !broker.may_declare_queue(&queue.name).await? {
                    parts.undeclarable.push(name.clone());
                }
                parts.missing.push(name);
                continue;
            }
            match broker.compare_queue(&queue).await? {
                Verdict::Good => {}
                Verdict::Forbidden | Verdict::Missing => parts.unknown.push(queue.clone()),
                Verdict::Otherwise(why) if FREE.iter().any(|free| why.contains(free)) => {
                    parts.unknown.push(queue.clone());
                }
                Verdict::Otherwise(why) => parts.different.push(format!("{name}: {}", words(&why))),
            }
            parts.queues.push(queue);
        }
        Ok(parts)
    }

    async fn add_exchange(
        &mut self,
        broker: &Inspection,
        settings: &Settings,
        exchange: &'static str,
    ) -> Result<(), SessionError> {
        let name = format!("exchange {}.{exchange}", settings.prefix);
        if broker.exchange(exchange).await? == Verdict::Missing {
            if settings.declare && !broker.may_declare_exchange(exchange).await? {
                self.undeclarable.push(name.clone());
            }
            self.missing.push(name);
            return Ok(());
        }
        self.exchanges.push(exchange);
        if let Verdict::Otherwise(why) = broker.compare_exchange(exchange).await? {
            self.different.push(format!("{name}: {}", words(&why)));
        }
        Ok(())
    }
}

/// What the broker says of a difference, without what stands before and after it.
fn words(why: &str) -> &str {
    let start = ["inequivalent arg", "invalid arg"].iter().find_map(|mark| why.find(mark)).unwrap_or(0);
    why[start..].trim()
}

/// Whether everything is there.
pub fn topology(parts: &Parts, settings: &Settings) -> Finding {
    const CHECK: &str = "broker.topology";
    let all = parts.exchanges.len() + parts.queues.len();
    let missing = parts.missing.join(", ");
    if parts.missing.is_empty() {
        return Finding::ok(CHECK, format!("all {all} exchanges and queues are there"));
    }
    if !settings.declare {
        let mend = "import the definitions, or let the worker declare what is missing: broker.declare = true";
        return Finding::fail(CHECK, format!("the broker lacks {missing}"), mend);
    }
    if !parts.undeclarable.is_empty() {
        let closed = parts.undeclarable.join(", ");
        let detail = format!("the broker lacks {missing}, and the user may not declare {closed}");
        let mend = "give the user configure permission until the worker has started once, or import the definitions and \
                    set broker.declare = false";
        return Finding::fail(CHECK, detail, mend);
    }
    if all == 0 {
        let count = parts.missing.len();
        return Finding::ok(
            CHECK,
            format!("none of {count} exchanges and queues is there yet; the worker declares them"),
        );
    }
    let mend = "start the worker, or start it again: it declares what is missing; find out who deleted it";
    Finding::warn(CHECK, format!("the broker lacks {missing}"), mend)
}

/// How the arguments of a queue, as the management API tells them, differ from those that this program declares.
pub fn differences(queue: &Queue, prefix: &str, found: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    let wanted = queue.purpose.arguments(prefix);
    let same = |meant: &Argument, is: &serde_json::Value| match meant {
        Argument::Number(number) => is.as_u64() == Some(*number),
        Argument::Text(text) => is.as_str() == Some(text),
    };
    let mut different = Vec::new();
    for (name, meant) in &wanted {
        let is = found.get(*name);
        if !is.is_some_and(|is| same(meant, is)) {
            let meant = match meant {
                Argument::Number(number) => number.to_string(),
                Argument::Text(text) => text.clone(),
            };
            let is = is.map_or_else(|| "not set".to_owned(), ToString::to_string);
            different.push(format!("{name} is {is} where {meant} is meant"));
        }
    }
    let ours = |name: &String| wanted.iter().any(|(known, _)| known == name) || FREE.contains(&name.as_str());
    different.extend(found.keys().filter(|name| !ours(name)).map(|name| format!("{name} is set")));
    different
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_compared_one_by_one() {
        let lane = queues().into_iter().find(|queue| queue.name == "requests.tickets").unwrap();
        let mut found = json!({
            "x-queue-type": "quorum", "x-delivery-limit": 20, "x-dead-letter-exchange": "mfa.dead-letters",
            "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish", "x-max-length": 1_000_000,
            "x-quorum-initial-group-size": 3,
        });
        let compare = |found: &serde_json::Value| differences(&lane, "mfa", found.as_object().unwrap());
        assert_eq!(compare(&found), [""; 0]);
        found["x-delivery-limit"] = json!(5);
        found["x-message-ttl"] = json!(1000);
        found.as_object_mut().unwrap().remove("x-overflow");
        assert_eq!(
            compare(&found),
            [
                "x-delivery-limit is 5 where 20 is meant",
                "x-overflow is not set where reject-publish is meant",
                "x-message-ttl is set"
            ]
        );
    }
}
