//! What AMQP does not tell and the management API does: arguments where the user may not declare, bindings, and policies
//! that reach over our queues.

use serde_json::{Map, Value};

use super::queues::{Parts, differences};
use super::report::{Finding, Report};
use crate::adapters::amqp::topology::{Purpose, Queue};
use crate::adapters::amqp::{Management, SessionError, Settings};
use crate::config::Config;

/// What a policy may set that loses messages or changes where they go.
const HARMFUL: [&str; 7] = [
    "message-ttl",
    "expires",
    "delivery-limit",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "dead-letter-strategy",
    "consumer-timeout",
];
/// What may drop the oldest message, unless the queue refuses the newest instead.
const LENGTHS: [&str; 2] = ["max-length", "max-length-bytes"];

/// What the management API told.
#[derive(Default)]
struct Told {
    different: Vec<String>,
    unbound: Vec<String>,
    policies: Vec<String>,
    /// Queues of which it told no policy, not even that there is none.
    silent: usize,
}

/// Looks at arguments, bindings and policies.
pub async fn look(config: &Config, settings: &Settings, parts: &Parts, report: &mut Report<'_>) {
    let Some(url) = &config.broker.management_url else {
        report.add(arguments(parts, &parts.different, !parts.unknown.is_empty()));
        return report.add(Finding::warn(
            "broker.policies",
            "policies and bindings were not looked at: AMQP does not tell them",
            "name the management API in broker.management_url, with a user that has the tag `management`",
        ));
    };
    match ask(url, settings, parts).await {
        Ok(told) => {
            report.add(Finding::ok("broker.management", "the management API answers"));
            let different = [&parts.different[..], &told.different[..]].concat();
            report.add(arguments(parts, &different, false));
            report.add(bindings(&told));
            report.add(policies(&told));
        }
        Err(error) => {
            let mend = "correct broker.management_url, its user and password; the user needs the tag `management` and \
                        permissions in the virtual host, the broker the plugin rabbitmq_management";
            report.add(Finding::fail("broker.management", error.to_string(), mend));
            report.add(arguments(parts, &parts.different, !parts.unknown.is_empty()));
        }
    }
}

async fn ask(url: &secrecy::SecretString, settings: &Settings, parts: &Parts) -> Result<Told, SessionError> {
    let management = Management::new(url, settings)?;
    let mut told = Told::default();
    for queue in &parts.queues {
        let Some(view) = management.queue(&queue.name).await? else {
            let what = format!("the management API does not know the queue {}.{}", settings.prefix, queue.name);
            return Err(SessionError::Configuration(what));
        };
        let name = format!("queue {}.{}", settings.prefix, queue.name);
        if parts.unknown.contains(queue) {
            let different = differences(queue, &settings.prefix, &view.arguments);
            told.different.extend(different.iter().map(|what| format!("{name}: {what}")));
        }
        told.silent += usize::from(view.policy.is_none());
        told.policies
            .extend(harm(queue, &view.policy.unwrap_or_default()).iter().map(|what| format!("{name}: {what}")));
        if !management.keys(queue.exchange, &queue.name).await?.contains(&queue.key) {
            told.unbound.push(format!("{name} to {}.{} with {}", settings.prefix, queue.exchange, queue.key));
        }
    }
    Ok(told)
}

fn arguments(parts: &Parts, different: &[String], unknown: bool) -> Finding {
    const CHECK: &str = "broker.arguments";
    if !different.is_empty() {
        let mend = "the arguments of a queue cannot be changed: move its messages away, delete it, and let the worker \
                    declare it (broker.declare = true) or import the definitions again";
        return Finding::fail(CHECK, different.join("; "), mend);
    }
    if unknown {
        let mend = "name the management API in broker.management_url; the user has no permission to configure, and AMQP \
                    compares arguments for no other";
        return Finding::warn(CHECK, format!("of {} queues they were not looked at", parts.unknown.len()), mend);
    }
    Finding::ok(CHECK, "every queue that is there is as this version declares it")
}

fn bindings(told: &Told) -> Finding {
    const CHECK: &str = "broker.bindings";
    if told.unbound.is_empty() {
        return Finding::ok(CHECK, "every queue that is there is bound");
    }
    let mend = "bind it, let the worker do so (broker.declare = true and permission to configure), or import the \
                definitions again";
    Finding::fail(CHECK, format!("not bound: {}", told.unbound.join("; ")), mend)
}

fn policies(told: &Told) -> Finding {
    const CHECK: &str = "broker.policies";
    if told.policies.is_empty() && told.silent > 0 {
        let mend = "check again in a few seconds; if it stays, let the broker collect metrics of queues \
                    (management_agent.disable_metrics_collector = false)";
        let detail = format!("the management API tells no policies of {} queues", told.silent);
        return Finding::warn(CHECK, detail, mend);
    }
    if told.policies.is_empty() {
        return Finding::ok(CHECK, "no policy changes what becomes of messages");
    }
    let mend = "let the pattern of that policy or operator policy leave these queues out: `rabbitmqctl list_policies -p \
                VHOST`, `rabbitmqctl list_operator_policies -p VHOST`";
    Finding::fail(CHECK, told.policies.join("; "), mend)
}

/// What policies do to a queue that they must not.
fn harm(queue: &Queue, policy: &Map<String, Value>) -> Vec<String> {
    // Lanes and retry queues refuse what is too much, by arguments that no policy outweighs.
    let refuses =
        queue.purpose != Purpose::Keep || policy.get("overflow").and_then(Value::as_str) == Some("reject-publish");
    let harmful = |name: &str| HARMFUL.contains(&name) || (LENGTHS.contains(&name) && !refuses);
    policy
        .iter()
        .filter(|(name, _)| harmful(name))
        .map(|(name, value)| format!("a policy sets {name} = {value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapters::amqp::topology::queues;

    #[test]
    fn a_policy_may_bound_a_queue_that_refuses_and_nothing_may_expire() {
        let check = |name: &str, policy: Value, expected: &[&str]| {
            let queue = queues().into_iter().find(|queue| queue.name == name).unwrap();
            assert_eq!(harm(&queue, policy.as_object().unwrap()), expected, "{name} {policy}");
        };
        check("requests.tickets", json!({}), &[]);
        check("requests.tickets", json!({"max-length": 5, "queue-leader-locator": "balanced"}), &[]);
        check("requests.tickets", json!({"message-ttl": 5}), &["a policy sets message-ttl = 5"]);
        check("results", json!({"max-length": 5}), &["a policy sets max-length = 5"]);
        check("results", json!({"max-length": 5, "overflow": "reject-publish"}), &[]);
        check("dead-letters", json!({"delivery-limit": 20}), &["a policy sets delivery-limit = 20"]);
    }
}
