//! What each call does. A route reads and changes the world; permissions of its own it checks itself.

pub mod emails;
pub mod hardware;
pub mod memberships;
pub mod methods;
pub mod passes;
pub mod phones;
pub mod preferences;
pub mod qr_code;
pub mod requirements;
pub mod roles;
pub mod users;
pub mod values;

use super::call::{Call, Reply};
use super::operation::{self, Operation, Route};
use super::world::World;

/// Carries a call out, or says that there is no such call.
pub fn carry_out(world: &mut World, call: &Call, route: &Route, roles: &[String]) -> Reply {
    let key = route.user.as_deref().unwrap_or_default();
    let name = route.name.as_deref();
    let id = route.id.as_deref();
    match route.operation {
        Operation::GetUser => users::get(world, call, key, roles),
        Operation::FindUser => users::find(world, call, roles),
        Operation::RevokeSessions => users::revoke(world, call, key, roles),
        Operation::FindGroups => memberships::assignable(world, call, roles),
        Operation::ListMemberships => memberships::list(world, call, key, name, roles),
        Operation::ListRoleAssignments => roles::assignments(world, call, roles),
        Operation::ListRoleEligibilities => roles::eligibilities(world, call, roles),
        Operation::ListMethods => methods::list(world, call, key, id, roles),
        Operation::ListTyped if name == Some("qrCodePinMethod") && id.is_some() => {
            qr_code::get(world, call, key, id.unwrap_or_default(), roles)
        }
        Operation::ListHardwareTokens => hardware::list(world, call, roles),
        Operation::ListTyped => methods::list_typed(world, call, key, name.unwrap_or_default(), id, roles),
        Operation::DeleteMethod => methods::delete(world, call, key, name.unwrap_or_default(), id, roles),
        Operation::AddMethod | Operation::ChangeMethod | Operation::SetSmsSignIn => change(world, call, route, roles),
        Operation::GetRequirements => requirements::get(world, call, key, roles),
        Operation::SetRequirements => requirements::set(world, call, key, roles),
        Operation::GetSignInPreferences => preferences::get(world, call, key, roles),
        Operation::SetSignInPreferences => preferences::set(world, call, key, roles),
        // No application permission covers it.
        Operation::ResetPassword => Reply::denied_by_authentication(),
        Operation::WrongVerb => {
            Reply::error(405, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
        }
        Operation::Token | Operation::Batch | Operation::Unknown => {
            Reply::no_segment(operation::missing(call, &world.settings.choices))
        }
    }
}

/// Carries out what adds or changes a method.
fn change(world: &mut World, call: &Call, route: &Route, roles: &[String]) -> Reply {
    let key = route.user.as_deref().unwrap_or_default();
    let id = route.id.as_deref();
    match (route.operation, route.name.as_deref()) {
        (Operation::AddMethod, Some("emailMethods")) => emails::add(world, call, key, roles),
        (Operation::AddMethod, Some("temporaryAccessPassMethods")) => passes::add(world, call, key, roles),
        (Operation::AddMethod, _) => phones::add(world, call, key, roles),
        (Operation::SetSmsSignIn, _) => phones::set_sms_sign_in(world, call, key, id, roles),
        (_, Some("emailMethods")) => emails::change(world, call, key, id, roles),
        (_, Some("qrCodePinMethod")) => qr_code::remove(world, call, key, id.unwrap_or_default(), roles),
        _ => phones::change(world, call, key, id, roles),
    }
}
