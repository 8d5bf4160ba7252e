//! Which call is meant: a path and a verb become an operation with its arguments.

use serde::{Deserialize, Serialize};

use super::call::{Call, Version};
use super::choices::Choices;
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
    AddMethod,
    ChangeMethod,
    SetSmsSignIn,
    RevokeSessions,
    GetSignInPreferences,
    SetSignInPreferences,
    GetRequirements,
    SetRequirements,
    ListHardwareTokens,
    ResetPassword,
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
    pub fn of(call: &Call, choices: &Choices) -> Self {
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
            ("GET", ["directory", "authenticationMethodDevices", "hardwareOathDevices"])
                if call.version == Version::Beta =>
            {
                Self::new(Operation::ListHardwareTokens, None)
            }
            (_, ["users", user, "authentication", rest @ ..]) => Self::authentication(call, user, rest, choices),
            (
                _,
                ["groups"] | ["users"] | ["users", _] | ["users", _, "transitiveMemberOf" | "revokeSignInSessions"],
            ) => Self::new(Operation::WrongVerb, None),
            _ => Self::new(Operation::Unknown, None),
        }
    }

    fn authentication(call: &Call, user: &str, rest: &[&str], choices: &Choices) -> Self {
        let beta = call.version == Version::Beta;
        let here = |name: &str| choices.has(name, call.version);
        let operation = match (call.method.as_str(), rest) {
            ("GET", ["methods"] | ["methods", _]) if here("methods") => Operation::ListMethods,
            ("DELETE", ["methods", _]) if here("methods") => Operation::DeleteMethod,
            ("POST", ["methods", _, "resetPassword"]) if here("methods") => Operation::ResetPassword,
            (_, ["methods", ..]) if here("methods") => Operation::WrongVerb,
            (verb, ["signInPreferences"]) if beta => {
                one(verb, Operation::GetSignInPreferences, Operation::SetSignInPreferences)
            }
            (verb, ["requirements"]) if beta => one(verb, Operation::GetRequirements, Operation::SetRequirements),
            (verb, [name, ..]) if !choices.of_collection(name, call.version).is_empty() => typed(verb, rest),
            _ => Operation::Unknown,
        };
        Self::on(operation, user, rest.first().copied(), rest.get(1).copied())
    }
}

/// Chooses between reading and changing what a user has one of.
fn one(verb: &str, get: Operation, set: Operation) -> Operation {
    match verb {
        "GET" => get,
        "PATCH" => set,
        _ => Operation::WrongVerb,
    }
}

fn typed(verb: &str, rest: &[&str]) -> Operation {
    match (verb, rest) {
        // The one collection that is none: there is but one of it, without an id.
        ("GET", ["qrCodePinMethod"] | ["qrCodePinMethod", "pin" | "standardQRCode" | "temporaryQRCode"]) => {
            Operation::ListTyped
        }
        ("DELETE", ["qrCodePinMethod"]) => Operation::DeleteMethod,
        ("DELETE", ["qrCodePinMethod", "standardQRCode" | "temporaryQRCode"]) => Operation::ChangeMethod,
        (_, ["qrCodePinMethod"] | ["qrCodePinMethod", "pin" | "standardQRCode" | "temporaryQRCode"]) => {
            Operation::WrongVerb
        }
        (_, ["qrCodePinMethod", ..]) => Operation::Unknown,
        ("POST", ["phoneMethods", _, "enableSmsSignIn" | "disableSmsSignIn"]) => Operation::SetSmsSignIn,
        ("POST", ["phoneMethods" | "emailMethods" | "temporaryAccessPassMethods"]) => Operation::AddMethod,
        ("PATCH", ["phoneMethods" | "emailMethods", _]) => Operation::ChangeMethod,
        ("GET", [_] | [_, _]) => Operation::ListTyped,
        ("DELETE", [_, _]) => Operation::DeleteMethod,
        (_, [_] | [_, _] | ["phoneMethods", _, "enableSmsSignIn" | "disableSmsSignIn"]) => Operation::WrongVerb,
        _ => Operation::Unknown,
    }
}

/// Names the segment at which a path ends that means nothing here.
pub fn missing<'a>(call: &'a Call, choices: &Choices) -> &'a str {
    let parts: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["users", _, "authentication", name, ..] if choices.of_collection(name, call.version).is_empty() => name,
        [.., last] => last,
        [] => "",
    }
}

/// Finds the user that a filter is about.
fn filtered(call: &Call) -> Option<String> {
    odata::equals(call.option("$filter")?).map(|(_, value)| value)
}
