//! One step of a plan: what it does, and how far it is.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::method::{Method, MethodType};
use crate::domain::outcome::MethodResult;
use crate::domain::preference::Preference;
use crate::domain::reason::Reason;
use crate::domain::task::MfaState;

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Revokes the user's sessions.
    RevokeSessions,
    /// Removes a method.
    Remove(Method),
    /// Changes the default method, so that the old one can go.
    SetDefault(Preference),
    /// Sets a phone number or address; the value itself stays in the request.
    SetValue(Setting),
    /// Allows or forbids signing in by SMS, for the mobile phone with this number and no other.
    SetSmsSignIn {
        /// Whether it is allowed.
        on: bool,
        /// The keyed digest of the number.
        digest: Option<String>,
    },
    /// Sets the per-user MFA state.
    SetPerUserMfa(MfaState),
}

impl Action {
    /// The type of method that it is about, if a list tells of that.
    pub(super) fn method_type(&self) -> Option<MethodType> {
        match self {
            Self::Remove(method) => Some(method.method_type),
            Self::SetValue(setting) => Some(setting.method_type),
            Self::RevokeSessions | Self::SetDefault(_) | Self::SetSmsSignIn { .. } | Self::SetPerUserMfa(_) => None,
        }
    }

    /// Whether it comes in passes: what Graph refuses now may be accepted once others are gone.
    pub(super) const fn is_removing(&self) -> bool {
        matches!(self, Self::Remove(_) | Self::SetDefault(_))
    }
}

/// A phone or address to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its type.
    pub method_type: MethodType,
    /// The keyed digest of the new value.
    pub digest: Option<String>,
    /// That of the value at the survey.
    pub before: Option<String>,
    /// Whether it takes the place of one that is there.
    pub replaces: bool,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not called, or called without an effect that is known.
    Open,
    /// Called, and the answer is not known (yet).
    Sent {
        /// When.
        at: Timestamp,
    },
    /// Graph answered 404: gone, once a list no longer shows it.
    NotFound,
    /// Settled.
    Done {
        /// What became of the method; for sessions `removed` or `failed`.
        result: MethodResult,
        /// Why, where the result does not say it.
        reason: Option<Reason>,
    },
}

/// Why Graph would not remove a method for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is the default method.
    Default,
    /// Another method depends on it.
    Dependency,
    /// Another 400.
    Other,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Call this step.
    Call(usize),
    /// Wait, since Graph may not know yet what is gone.
    Wait(Duration),
    /// Nothing is left.
    Nothing,
}

/// Which methods a list has to tell of, to be held against a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Their types.
    pub types: BTreeSet<MethodType>,
    /// Whether a passwordless registration is among them, which has a collection of its own.
    pub passwordless: bool,
    /// Whether some of them live in the beta API.
    pub beta: bool,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// How far it is.
    pub state: State,
    /// The `client-request-id` of each of its calls.
    pub calls: Vec<Uuid>,
    /// When an earlier call was sent that may have taken effect: then a 404 tells of our own removal, and after Graph's
    /// lag a method whose id is the same for everybody may be another one.
    pub doubted_since: Option<Timestamp>,
    /// Put off to the next pass, and why: not written down, since a later attempt may as well try again.
    #[serde(skip)]
    pub put_off: Option<Refusal>,
}

impl Step {
    pub(super) const fn open(action: Action) -> Self {
        Self { action, state: State::Open, calls: Vec::new(), doubted_since: None, put_off: None }
    }

    pub(super) fn settled(action: Action, result: MethodResult) -> Self {
        Self { state: State::Done { result, reason: None }, ..Self::open(action) }
    }

    /// Whether a list has to settle or to prove it.
    pub(super) fn needs_list(&self) -> bool {
        match self.state {
            State::Open | State::Sent { .. } | State::NotFound => true,
            State::Done { result, .. } => {
                result.is_set() || matches!(result, MethodResult::Removed | MethodResult::AlreadyAbsent)
            }
        }
    }

    /// Whether it may have changed something.
    pub(super) fn has_begun(&self) -> bool {
        let untouched = [
            MethodResult::AlreadyAbsent,
            MethodResult::ReplacedSince,
            MethodResult::Unchanged,
            MethodResult::Unsupported,
        ];
        match self.state {
            State::Open => self.doubted_since.is_some(),
            State::Sent { .. } | State::NotFound => true,
            State::Done { result, .. } => !untouched.contains(&result),
        }
    }

    /// Since when a call may have taken effect whose answer is not known.
    pub(super) fn in_doubt_since(&self) -> Option<Timestamp> {
        self.doubted_since.or(match self.state {
            State::Sent { at } => Some(at),
            State::Open | State::NotFound | State::Done { .. } => None,
        })
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Sent { .. })
    }
}
