//! `$batch`: up to twenty calls in one. Each goes the way of a direct call; the answers come back in any order.

use std::collections::{HashMap, HashSet};

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::call::{Call, Ending, Reply};
use super::operation::Operation;
use super::world::World;

const LIMIT: usize = 20;

/// Carries a `$batch` out.
pub fn run(world: &mut World, call: &Call, roles: Option<&[String]>) -> Reply {
    let number = world.next_batch();
    let mut reply = match roles {
        None => super::world::unauthorized(),
        Some(roles) => world.with_faults(Operation::Batch, None, |world| match items(&call.body) {
            Ok(items) => answer(world, call, &items, roles, number),
            Err(text) => Reply::error(400, "BadRequest", text),
        }),
    };
    world.finish(call, &mut reply);
    world.write(&Call { batch: Some(number), ..call.clone() }, Operation::Batch, None, &reply);
    reply
}

fn items(body: &Value) -> Result<Vec<Value>, &'static str> {
    let items = body["requests"].as_array().ok_or("Invalid batch payload format.")?;
    if items.len() > LIMIT {
        return Err("The maximum number of requests in one batch is 20.");
    }
    let mut ids = HashSet::new();
    for item in items {
        let id = item["id"].as_str().filter(|id| !id.is_empty()).ok_or("A request has no id.")?;
        if !ids.insert(id.to_lowercase()) {
            return Err("Two requests have the same id.");
        }
        if item["method"].as_str().is_none() || item["url"].as_str().is_none() {
            return Err("A request has no method or no url.");
        }
    }
    Ok(items.clone())
}

fn answer(world: &mut World, call: &Call, items: &[Value], roles: &[String], number: u64) -> Reply {
    let mut statuses: HashMap<&str, u16> = HashMap::new();
    let mut responses = Vec::new();
    let mut ending = Ending::Answer;
    for item in items {
        let reply = if ready(item, &statuses) {
            one(world, call, item, roles, number)
        } else {
            Reply::error(424, "FailedDependency", "A request that this one depends on has failed.")
        };
        let id = item["id"].as_str().unwrap_or_default();
        statuses.insert(id, reply.status);
        if reply.ending == Ending::Stall {
            ending = Ending::Stall;
        }
        responses.push(shown(id, reply));
    }
    world.rng.shuffle(&mut responses);
    Reply { ending, ..Reply::ok(json!({ "responses": responses })) }
}

fn ready(item: &Value, statuses: &HashMap<&str, u16>) -> bool {
    let needed = item["dependsOn"].as_array().into_iter().flatten().filter_map(Value::as_str);
    needed.into_iter().all(|id| statuses.get(id).is_some_and(|status| *status < 400))
}

fn one(world: &mut World, call: &Call, item: &Value, roles: &[String], number: u64) -> Reply {
    let url = item["url"].as_str().unwrap_or_default();
    let headers = item["headers"].as_object();
    let header = |name: &str| {
        let found = headers?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str())
    };
    let method = item["method"].as_str().and_then(|verb| Method::from_bytes(verb.as_bytes()).ok());
    let body = item.get("body").cloned().unwrap_or_default();
    let mistaken =
        url.contains("://") || url.contains("$batch") || (!body.is_null() && header("content-type").is_none());
    let Some(method) = method.filter(|_| !mistaken) else {
        return Reply::error(400, "BadRequest", "The request in the batch is not well formed.");
    };
    let mut call = Call {
        method,
        body,
        client_request_id: header("client-request-id").map(Into::into).or(call.client_request_id.clone()),
        traceparent: header("traceparent").map(Into::into),
        eventual: header("consistencylevel").is_some_and(|level| level.eq_ignore_ascii_case("eventual")),
        batch: Some(number),
        ..call.clone()
    };
    call.aim(url.split('#').next().unwrap_or_default());
    world.handle(&call, Some(roles))
}

fn shown(id: &str, reply: Reply) -> Value {
    let mut headers: Map<String, Value> =
        reply.headers.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let body = reply.raw.map(Value::String).or(reply.body).unwrap_or_default();
    if !body.is_null() {
        headers.insert("Content-Type".into(), json!("application/json"));
    }
    json!({"id": id, "status": reply.status, "headers": headers, "body": body})
}
