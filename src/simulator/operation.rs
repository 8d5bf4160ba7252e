//! Which call is meant: a path and a verb become an operation with its arguments.

use serde::{Deserialize, Serialize};

use super::call::{Call, Version};
use super::kind::Kind;
use super::odata;

/// Names what can be asked; faults and statistics go by these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Token,
    GetUser,
    FindUser,
    FindGroups,
    ListMemberships,
    ListRoleAssignments,
    ListRoleEligibilities,
    ListMethods,
    ListTyped,
    DeleteMethod,
    RevokeSessions,
    GetSignInPreferences,
    SetSignInPreferences,
    Batch,
    /// A known path with the wrong verb.
    WrongVerb,
    /// A path that this version of Graph does not have.
    Unknown,
}

/// Holds an operation with its arguments.
#[derive(Debug)]
pub struct Route {
    pub operation: Operation,
    /// The user as the caller named it.
    pub user: Option<String>,
    /// A collection of methods, or a type to cast to.
    pub name: Option<String>,
    /// One method of the collection.
    pub id: Option<String>,
}

impl Route {
    fn new(operation: Operation, user: Option<&str>) -> Self {
        Self { operation, user: user.map(Into::into), name: None, id: None }
    }

    fn on(operation: Operation, user: &str, name: Option<&str>, id: Option<&str>) -> Self {
        Self { name: name.map(Into::into), id: id.map(Into::into), ..Self::new(operation, Some(user)) }
    }

    /// Finds out what a call asks for.
    pub fn of(call: &Call) -> Self {
        let parts: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let verb = call.method.as_str();
        match (verb, parts.as_slice()) {
            ("GET", ["users"]) => Self::new(Operation::FindUser, filtered(call).as_deref()),
            ("GET", ["groups"]) => Self::new(Operation::FindGroups, None),
            ("GET", ["users", user]) => Self::new(Operation::GetUser, Some(user)),
            ("GET", ["users", user, "transitiveMemberOf"]) => Self::new(Operation::ListMemberships, Some(user)),
            ("GET", ["users", user, "transitiveMemberOf", cast]) => {
                Self::on(Operation::ListMemberships, user, Some(cast), None)
            }
            ("POST", ["users", user, "revokeSignInSessions"]) => Self::new(Operation::RevokeSessions, Some(user)),
            ("GET", ["roleManagement", "directory", "roleAssignments"]) => {
                Self::new(Operation::ListRoleAssignments, filtered(call).as_deref())
            }
            ("GET", ["roleManagement", "directory", "roleEligibilityScheduleInstances"]) => {
                Self::new(Operation::ListRoleEligibilities, filtered(call).as_deref())
            }
            (_, ["users", user, "authentication", rest @ ..]) => Self::authentication(call, user, rest),
            (
                _,
                ["groups"] | ["users"] | ["users", _] | ["users", _, "transitiveMemberOf" | "revokeSignInSessions"],
            ) => Self::new(Operation::WrongVerb, None),
            _ => Self::new(Operation::Unknown, None),
        }
    }

    fn authentication(call: &Call, user: &str, rest: &[&str]) -> Self {
        let v1 = call.version == Version::V1;
        let operation = match (call.method.as_str(), rest) {
            ("GET", ["methods"] | ["methods", _]) => Operation::ListMethods,
            ("DELETE", ["methods", _]) => Operation::DeleteMethod,
            ("GET", ["signInPreferences"]) if !v1 => Operation::GetSignInPreferences,
            ("PATCH", ["signInPreferences"]) if !v1 => Operation::SetSignInPreferences,
            (_, ["methods", ..]) => Operation::WrongVerb,
            (_, ["signInPreferences"]) if !v1 => Operation::WrongVerb,
            (verb, [name] | [name, _]) if !Kind::of_collection(name, v1).is_empty() => typed(verb, rest),
            _ => Operation::Unknown,
        };
        Self::on(operation, user, rest.first().copied(), rest.get(1).copied())
    }
}

fn typed(verb: &str, rest: &[&str]) -> Operation {
    match (verb, rest) {
        // The one collection that is none: there is but one of it, without an id.
        ("GET", ["qrCodePinMethod"]) => Operation::ListTyped,
        ("DELETE", ["qrCodePinMethod"]) => Operation::DeleteMethod,
        (_, ["qrCodePinMethod", ..]) => Operation::Unknown,
        ("GET", _) => Operation::ListTyped,
        ("DELETE", [_, _]) => Operation::DeleteMethod,
        _ => Operation::WrongVerb,
    }
}

/// Finds the user that a filter is about.
fn filtered(call: &Call) -> Option<String> {
    odata::equals(call.option("$filter")?).map(|(_, value)| value)
}
