//! The AsyncAPI 3.0 document, made from the topology that the worker declares.

use std::path::Path;

use mfa_reset::adapters::amqp::topology::{Argument, Queue, queues};
use serde_json::{Map, Value, json};

const BINDING: &str = "0.3.0";

/// The document. The retry queues are left out: they are between workers, and nobody else may use them.
pub fn document() -> Value {
    let queues: Vec<Queue> = queues().into_iter().filter(|queue| queue.exchange != "retry").collect();
    let channels: Map<String, Value> = queues.iter().map(|queue| (id(queue), channel(queue))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "mfa-reset",
            "version": "1",
            "description": "Requests to reset the sign-in methods of a user of Microsoft Entra ID, and what became of them. \
                Seen from the worker: it receives requests and sends everything else. Names have the default prefix mfa.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "rabbitmq.contoso.com:5671",
                "protocol": "amqps",
                "protocolVersion": "0-9-1",
                "description": "RabbitMQ 3.10 to 4.3; who publishes is proved by the user of the connection",
                "security": [{"$ref": "#/components/securitySchemes/password"}],
            },
        },
        "channels": channels,
        "operations": {
            "receiveTicket": receive("requestsTickets"),
            "receiveBatch": receive("requestsBatch"),
            "sendResult": send("results", &["result"], "How a request ended. A repeat has the same id."),
            "sendDelay": send("results", &["delayed"], "Once, when a request first waits for more than a minute."),
            "sendAudit": send("audit", &["audit", "checkpoint"], "Audit records and checkpoints, for a copy that lives elsewhere."),
            "sendDeadLetter": send("deadLetters", &["deadLetter"], "What a person has to look at; also sent by the broker."),
        },
        "components": {
            "securitySchemes": {"password": {"type": "userPassword"}},
            "messages": messages(),
        },
    })
}

fn id(queue: &Queue) -> String {
    let mut words = queue.name.split(['.', '-']);
    let first = words.next().unwrap().to_owned();
    words.fold(first, |id, word| id + &word[..1].to_uppercase() + &word[1..])
}

fn channel(queue: &Queue) -> Value {
    let (exchange, name) = (format!("mfa.{}", queue.exchange), format!("mfa.{}", queue.name));
    let arguments: Map<String, Value> = queue.purpose.arguments("mfa").into_iter().map(argument).collect();
    let lane = queue.exchange == "requests";
    let names: &[&str] = match queue.exchange {
        "requests" => &["request"],
        "results" => &["result", "delayed"],
        "audit" => &["audit", "checkpoint"],
        "dead-letters" => &["deadLetter"],
        other => panic!("what does {other} carry?"),
    };
    let messages: Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), reference(&format!("#/components/messages/{name}")))).collect();
    // Producers know a routing key, consumers a queue.
    let binding = if lane {
        json!({"is": "routingKey", "exchange": {"name": exchange, "type": "topic", "durable": true, "autoDelete": false, "vhost": "mfa"}})
    } else {
        json!({"is": "queue", "queue": {"name": name, "durable": true, "exclusive": false, "autoDelete": false, "vhost": "mfa"}})
    };
    let mut amqp = binding;
    amqp["bindingVersion"] = BINDING.into();
    json!({
        "address": if lane { queue.key.trim_end_matches(".#").to_owned() } else { name.clone() },
        "messages": messages,
        "bindings": {"amqp": amqp},
        "x-exchange": exchange,
        "x-queue": name,
        "x-binding-key": queue.key,
        "x-queue-arguments": arguments,
    })
}

fn argument((name, value): (&'static str, Argument)) -> (String, Value) {
    let value = match value {
        Argument::Number(number) => number.into(),
        Argument::Text(text) => text.into(),
    };
    (name.to_owned(), value)
}

fn reference(to: &str) -> Value {
    json!({"$ref": to})
}

fn receive(channel: &str) -> Value {
    let of = |name: &str| reference(&format!("#/channels/results/messages/{name}"));
    json!({
        "action": "receive",
        "channel": reference(&format!("#/channels/{channel}")),
        "messages": [reference(&format!("#/channels/{channel}/messages/request"))],
        "reply": {"channel": reference("#/channels/results"), "messages": [of("result"), of("delayed")]},
        "bindings": {"amqp": {"ack": true, "bindingVersion": BINDING}},
    })
}

fn send(channel: &str, messages: &[&str], summary: &str) -> Value {
    let of = |name: &&str| reference(&format!("#/channels/{channel}/messages/{name}"));
    json!({
        "action": "send",
        "summary": summary,
        "channel": reference(&format!("#/channels/{channel}")),
        "messages": messages.iter().map(of).collect::<Vec<_>>(),
        "bindings": {"amqp": {"deliveryMode": 2, "mandatory": true, "bindingVersion": BINDING}},
    })
}

const TRACE: (&str, &str) =
    ("traceparent", "a header, optional: the trace that this is part of, as W3C Trace Context writes it");
const JSON: &str = "application/json";
const EVENT: &str = "application/cloudevents+json; charset=utf-8";

fn messages() -> Value {
    let request = [
        ("message_id", "the id of the request, where its body has none"),
        ("correlation_id", "comes back with the result"),
        ("user_id", "required: the broker user of the connection; the broker checks it"),
        TRACE,
    ];
    let event = [
        ("message_id", "the id of the event: what repeats has the same"),
        ("correlation_id", "the correlation_id of the request, else its message_id"),
        ("type", "the type of the event"),
        TRACE,
    ];
    let dead = [
        ("x-mfa-reason", "why: malformed and the like"),
        ("x-mfa-detail", "why, in words"),
        ("correlation_id", "that of the request"),
    ];
    let whatever = json!({"description": "the body as it came, which may be anything"});
    json!({
        "request": message("A request", JSON, &request, payload("request")),
        "result": message("How a request ended", EVENT, &event, payload("result")),
        "delayed": message("A request waits", EVENT, &event, payload("delayed")),
        "audit": message("An audit record", JSON, &[("message_id", "the id of the record")], payload("audit")),
        "checkpoint": message("A signed checkpoint of the audit trail", JSON, &[], checkpoint()),
        "deadLetter": message("What nobody could carry out", "application/octet-stream", &dead, whatever),
    })
}

/// A checkpoint, as the ledger writes it.
fn checkpoint() -> Value {
    let text = |words: &str| json!({"type": "string", "description": words});
    let properties = json!({
        "type": {"const": "checkpoint"},
        "number": {"type": "integer", "minimum": 1, "description": "of this chain, without a gap"},
        "time": {"type": "integer", "description": "milliseconds since 1970"},
        "chain": {"type": "string", "format": "uuid", "description": "the chain it speaks of"},
        "seq": {"type": "integer", "minimum": 0, "description": "the last record it covers"},
        "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "the digest of that record"},
        "key_id": text("which key has signed"),
        "public_key": text("that key's public half"),
        "signature": text("Ed25519, over all of this but the signature itself"),
    });
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// A message with these properties and headers.
fn message(title: &str, content: &str, headers: &[(&str, &str)], payload: Value) -> Value {
    let text = |words: &str| json!({"type": "string", "description": words});
    let properties: Map<String, Value> =
        headers.iter().map(|(name, words)| ((*name).to_owned(), text(words))).collect();
    let mut message = json!({
        "title": title,
        "contentType": content,
        "payload": payload,
        "bindings": {"amqp": {"bindingVersion": BINDING}},
    });
    if properties.contains_key("correlation_id") {
        message["correlationId"] = json!({"location": "$message.header#/correlation_id"});
    }
    if !properties.is_empty() {
        let about = "properties and headers of the AMQP message";
        message["headers"] = json!({"type": "object", "description": about, "properties": properties});
    }
    message
}

fn payload(schema: &str) -> Value {
    let file = reference(&format!("./schemas/{schema}.json"));
    json!({"schemaFormat": "application/schema+json;version=2020-12", "schema": file})
}

/// As YAML. Every text is quoted as in JSON, so that none can be taken for something else.
pub fn yaml(document: &Value) -> String {
    let mut lines = "# Made from the code: UPDATE_README=1 cargo test --test contract\n".to_owned();
    write(document, 0, &mut lines);
    lines
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let empty =
        |value: &Value| value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    let mut entry = |head: String, value: &Value| {
        let nested = (value.is_object() || value.is_array()) && !empty(value);
        out.push_str(&if nested { format!("{indent}{head}\n") } else { format!("{indent}{head} {value}\n") });
        if nested {
            write(value, depth + 1, out);
        }
    };
    if let Some(fields) = value.as_object() {
        let plain = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        for (key, value) in fields {
            entry(if plain(key) { format!("{key}:") } else { format!("{}:", Value::from(key.as_str())) }, value);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        entry("-".to_owned(), item);
    }
}

/// Every reference leads somewhere, and operations speak of messages of their own channel.
pub fn assert_whole(document: &Value, folder: &Path) {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        found.extend(value.get("$ref").and_then(Value::as_str));
        let parts = value.as_object().into_iter().flat_map(Map::values).chain(value.as_array().into_iter().flatten());
        parts.for_each(|part| references(part, found));
    }
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let there = match reference.strip_prefix('#') {
            Some(pointer) => document.pointer(pointer).is_some(),
            None => folder.join(reference).exists(),
        };
        assert!(there, "{reference} leads nowhere");
    }
    let mut named = Vec::new();
    for operation in document["operations"].as_object().unwrap().values() {
        let channel = operation["channel"]["$ref"].as_str().unwrap();
        named.push(channel.trim_start_matches("#/channels/"));
        for message in operation["messages"].as_array().unwrap() {
            assert!(message["$ref"].as_str().unwrap().starts_with(&format!("{channel}/messages/")), "{message}");
        }
    }
    for channel in document["channels"].as_object().unwrap().keys() {
        assert!(named.contains(&channel.as_str()), "nothing is done with {channel}");
    }
}
