//! What phones and the address have in common: a value that is added, or takes the place of another.

use serde_json::{Value, json};

use crate::simulator::call::{Call, Reply};
use crate::simulator::render;
use crate::simulator::tenant::Method;
use crate::simulator::world::World;

/// Registers a method, and shows it.
pub fn add(world: &mut World, call: &Call, owner: &str, method: Method) -> Reply {
    let (effect, body) = (json!({"registered": method.mark()}), shown(world, call, owner, &method));
    if let Some(user) = world.tenant.find_mut(owner) {
        user.register(method);
    }
    Reply { status: 201, effect, ..Reply::ok(body) }
}

/// Puts a method in the place of its older self, and shows it.
pub fn replace(world: &mut World, call: &Call, owner: &str, method: Method, effect: Value) -> Reply {
    let body = shown(world, call, owner, &method);
    world.tenant.put(owner, method);
    Reply { effect, ..Reply::ok(body) }
}

fn shown(world: &World, call: &Call, owner: &str, method: &Method) -> Value {
    let collection = method.kind.facts().collection;
    let mut body = render::method(method, call.version, &world.settings.choices, false);
    body["@odata.context"] = json!(call.context(&format!("users('{owner}')/authentication/{collection}/$entity")));
    body
}
