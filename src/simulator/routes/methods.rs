//! Authentication methods: the mixed list, the typed collections, and their deletion.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::simulator::call::{Call, Reply};
use crate::simulator::permissions::{self, READ_METHODS};
use crate::simulator::render;
use crate::simulator::rules;
use crate::simulator::tenant::{Method, User};
use crate::simulator::world::World;

/// Tells whether a list still shows a method: one that is gone lingers.
fn listed(world: &World, method: &Method) -> bool {
    method.removed_at.is_none_or(|removed| removed + world.settings.lag > Instant::now())
}

/// Answers `GET .../authentication/methods` and one item of it.
pub fn list(world: &World, call: &Call, key: &str, id: Option<&str>, roles: &[String]) -> Reply {
    let user = match world.methods_of(key, permissions::any(roles, READ_METHODS), false) {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    if !call.query.is_empty() {
        return Reply::error(
            400,
            "badRequest",
            "The query specified in the URI is not valid: no query options are supported.",
        );
    }
    let choices = &world.settings.choices;
    let known = |method: &&Method| choices.lists(method.kind, call.version);
    let shown = user.methods.iter().filter(|method| listed(world, method)).filter(known);
    let context = call.context(&format!("users('{}')/authentication/methods", user.id));
    answer(shown.map(|method| render::method(method, call.version, choices, true)), context, id)
}

/// Answers `GET` of a typed collection and one item of it.
pub fn list_typed(
    world: &World,
    call: &Call,
    key: &str,
    collection: &str,
    id: Option<&str>,
    roles: &[String],
) -> Reply {
    let choices = &world.settings.choices;
    let kinds = choices.of_collection(collection, call.version);
    let permitted = kinds.iter().any(|kind| permissions::typed(roles, *kind, false));
    let user = match world.methods_of(key, permitted, false) {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let shown = user.methods.iter().filter(|method| listed(world, method) && kinds.contains(&method.kind));
    let context = call.context(&format!("users('{}')/authentication/{collection}", user.id));
    let only = shown.clone().next().map_or("", |method| method.id.as_str());
    let id = if collection == "qrCodePinMethod" { Some(only) } else { id };
    answer(shown.map(|method| render::method(method, call.version, choices, false)), context, id)
}

fn answer(items: impl Iterator<Item = Value>, context: String, id: Option<&str>) -> Reply {
    let mut items: Vec<Value> = items.collect();
    let Some(id) = id else { return Reply::ok(json!({"@odata.context": context, "value": items})) };
    items.retain(|item| item["id"] == id);
    match items.pop() {
        Some(mut item) => {
            item["@odata.context"] = json!(context + "/$entity");
            Reply::ok(item)
        }
        None => rules::Refusal::NotThere.reply(&[], id),
    }
}

/// Answers `DELETE` of a method through its typed collection.
pub fn delete(
    world: &mut World,
    call: &Call,
    key: &str,
    collection: &str,
    id: Option<&str>,
    roles: &[String],
) -> Reply {
    if collection == "methods" {
        return no_such_controller(call);
    }
    let kinds = world.settings.choices.of_collection(collection, call.version);
    if !kinds.iter().any(|kind| permissions::typed(roles, *kind, true)) {
        return Reply::denied_by_authentication();
    }
    let Some(user) = world.tenant.find_mut(key) else { return Reply::no_object(key) };
    match rules::refuse(user, &kinds, id, &world.settings.choices) {
        Ok(at) => Reply::no_content(remove(user, at)),
        Err(refusal) => refusal.reply(&kinds, id.unwrap_or_default()),
    }
}

fn remove(user: &mut User, at: usize) -> Value {
    if rules::default_method(user).is_some_and(|default| default.id == user.methods[at].id) {
        user.default_method = None;
    }
    let method = &mut user.methods[at];
    method.removed_at = Some(Instant::now());
    json!({"removed": method.mark()})
}

/// Answers as the backend behind Graph does to the generic delete, which nobody built.
fn no_such_controller(call: &Call) -> Reply {
    let address = format!("https://mface.windowsazure.com{}", call.full_path());
    let body = json!({
        "Message": format!("No HTTP resource was found that matches the request URI '{address}'."),
        "MessageDetail": "No type was found that matches the controller named 'users'.",
    });
    Reply { status: 404, body: Some(body), ..Reply::default() }
}
