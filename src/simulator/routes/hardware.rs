//! Hardware tokens as the directory keeps them: a token taken from its owner stays there, free for the next. Beta only.

use serde_json::{Value, json};

use crate::simulator::call::{Call, Reply};
use crate::simulator::kind::Kind;
use crate::simulator::odata;
use crate::simulator::permissions::{self, READ_TOKENS};
use crate::simulator::render;
use crate::simulator::tenant::{Method, User};
use crate::simulator::world::World;

/// Answers `GET /directory/authenticationMethodDevices/hardwareOathDevices`.
pub fn list(world: &World, call: &Call, roles: &[String]) -> Reply {
    if !permissions::any(roles, READ_TOKENS) {
        return Reply::denied_by_authentication();
    }
    let of_user =
        |user: &User| user.methods.iter().filter(is_token).map(|token| device(user, token)).collect::<Vec<_>>();
    let items: Vec<Value> = world.tenant.users().flat_map(of_user).collect();
    let context = "directory/authenticationMethodDevices/hardwareOathDevices";
    odata::page(call, &items, context, world.settings.page_size)
}

fn is_token(method: &&Method) -> bool {
    method.kind == Kind::HardwareOath
}

fn device(user: &User, token: &Method) -> Value {
    let mut device = render::token(token);
    if token.removed_at.is_none() {
        device["assignedTo"] = json!({"id": user.id, "displayName": user.display_name});
    } else {
        device["status"] = json!("available");
        device["assignedTo"] = Value::Null;
    }
    device
}
