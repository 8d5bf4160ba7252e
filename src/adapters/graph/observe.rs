//! What the world may know of the calls: enough to count and time them, nothing about whom they concern.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use crate::trace::Context;

/// Hears of every call. It is called in passing and must not block.
pub type Observer = Arc<dyn Fn(Observed) + Send + Sync>;

/// Something that happened at the edge of Graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observed {
    /// A request, or one item of a batch, ended.
    Call {
        /// What it asked for.
        operation: Operation,
        /// How it ended.
        status: Status,
        /// How long it took, in seconds; for an item, how long its batch took.
        seconds: f64,
        /// Its `client-request-id`, where it has one.
        id: Option<Uuid>,
        /// What it said of its trace, if a job made it.
        context: Option<Context>,
    },
    /// A token was asked for.
    TokenRefresh {
        /// Whether there is a new one.
        ok: bool,
        /// When the one in use expires.
        expires_at: Option<Timestamp>,
    },
    /// Graph asked to wait longer than it had before.
    Hold {
        /// By how much the wait grew, in seconds.
        seconds: f64,
        /// Until when Graph must not be called.
        until: Timestamp,
    },
}

/// What a call asks for: the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Token,
    GetUser,
    FindUser,
    FindGroups,
    Batch,
    ListMemberships,
    ListRoleAssignments,
    ListRoleEligibilities,
    ListMethods,
    ListTyped,
    GetPreferences,
    DeleteMethod,
    RevokeSessions,
    SetPreferences,
    SetPhone,
    SetSmsSignIn,
    SetEmail,
    SetPerUserMfa,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 18] = [
        Self::Token,
        Self::GetUser,
        Self::FindUser,
        Self::FindGroups,
        Self::Batch,
        Self::ListMemberships,
        Self::ListRoleAssignments,
        Self::ListRoleEligibilities,
        Self::ListMethods,
        Self::ListTyped,
        Self::GetPreferences,
        Self::DeleteMethod,
        Self::RevokeSessions,
        Self::SetPreferences,
        Self::SetPhone,
        Self::SetSmsSignIn,
        Self::SetEmail,
        Self::SetPerUserMfa,
    ];

    /// The word in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::GetUser => "get_user",
            Self::FindUser => "find_user",
            Self::FindGroups => "find_groups",
            Self::Batch => "batch",
            Self::ListMemberships => "list_memberships",
            Self::ListRoleAssignments => "list_role_assignments",
            Self::ListRoleEligibilities => "list_role_eligibilities",
            Self::ListMethods => "list_methods",
            Self::DeleteMethod => "delete_method",
            Self::RevokeSessions => "revoke_sessions",
            Self::ListTyped => "list_typed",
            Self::GetPreferences => "get_preferences",
            Self::SetPreferences => "set_preferences",
            Self::SetPhone => "set_phone",
            Self::SetSmsSignIn => "set_sms_sign_in",
            Self::SetEmail => "set_email",
            Self::SetPerUserMfa => "set_per_user_mfa",
        }
    }
}

/// How a call ended: the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// With this HTTP status.
    Code(u16),
    /// Not in time.
    Timeout,
    /// No connection came about, so nothing was sent.
    Connect,
    /// The connection broke, or the answer could not be read.
    Body,
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "{code}"),
            Self::Timeout => formatter.write_str("timeout"),
            // The connection never came about, or broke: the same to whoever reads the metric.
            Self::Connect | Self::Body => formatter.write_str("connect"),
        }
    }
}

/// The ids of the reading calls of one attempt, for its audit record.
#[derive(Debug, Default)]
pub struct Trail(Mutex<Vec<Uuid>>);

impl Trail {
    /// Adds a call.
    pub fn push(&self, call: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// The calls since this was last asked.
    pub fn take(&self) -> Vec<Uuid> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
