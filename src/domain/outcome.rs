//! How a job ends ([`Outcome`]), what became of each method, and what stops an attempt ([`Fault`]).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::method::MethodType;
use super::reason::Reason;

/// How a job ends, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Every step done and verified.
    Succeeded,
    /// Nothing to remove, and every other step done.
    NothingToDo,
    /// Something was done, something is left or unverified.
    Partial,
    /// A dry run.
    Planned,
    /// A guard said no.
    Denied,
    /// Past its expiry before any removal.
    Expired,
    /// Withdrawn before any removal.
    Cancelled,
    /// Nothing was removed, for a reason that will not pass or outlived the deadline.
    Failed,
    /// Malformed, unsupported, or an id used twice.
    Rejected,
}

impl OutcomeKind {
    /// Every outcome.
    pub const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::NothingToDo,
        Self::Partial,
        Self::Planned,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
        Self::Failed,
        Self::Rejected,
    ];

    /// The word in every contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::NothingToDo => "nothing_to_do",
            Self::Partial => "partial",
            Self::Planned => "planned",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

/// What became of one method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodResult {
    /// Removed by this job.
    Removed,
    /// Gone before this job reached it, as a list confirms.
    AlreadyAbsent,
    /// Outside the profile, or asked to be kept.
    Kept,
    /// Of a type that cannot be removed here.
    Unsupported,
    /// Graph keeps it as the default method.
    BlockedDefault,
    /// Graph keeps it because another method depends on it.
    BlockedDependency,
    /// Another value stands in its place since; left alone.
    ReplacedSince,
    /// Old or registered anew cannot be told; left alone.
    Ambiguous,
    /// Graph answers 403.
    Forbidden,
    /// Still there for another reason.
    Failed,
    /// Of a step that removes nothing: done by this job.
    Done,
    /// Of a step that removes nothing: it was so before this job reached it.
    Unchanged,
}

impl MethodResult {
    /// Every result that a method can have.
    pub const ALL: [Self; 10] = [
        Self::Removed,
        Self::AlreadyAbsent,
        Self::Kept,
        Self::Unsupported,
        Self::BlockedDefault,
        Self::BlockedDependency,
        Self::ReplacedSince,
        Self::Ambiguous,
        Self::Forbidden,
        Self::Failed,
    ];

    /// The word in every contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::AlreadyAbsent => "already_absent",
            Self::Kept => "kept",
            Self::Unsupported => "unsupported",
            Self::BlockedDefault => "blocked_default",
            Self::BlockedDependency => "blocked_dependency",
            Self::ReplacedSince => "replaced_since",
            Self::Ambiguous => "ambiguous",
            Self::Forbidden => "forbidden",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Unchanged => "unchanged",
        }
    }

    /// Whether the planned method is gone.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Removed | Self::AlreadyAbsent | Self::ReplacedSince)
    }

    /// Whether a step that removes nothing left things as they shall be.
    pub const fn is_set(self) -> bool {
        matches!(self, Self::Done | Self::Unchanged)
    }
}

/// Why the methods of a type could not be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// This cloud does not have the collection.
    Missing,
    /// The application may not read it.
    Forbidden,
}

impl Unread {
    /// What that means for a method or step.
    pub const fn result(self) -> MethodResult {
        match self {
            Self::Missing => MethodResult::Unsupported,
            Self::Forbidden => MethodResult::Forbidden,
        }
    }

    /// Why.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Missing => Reason::UnsupportedMethod,
            Self::Forbidden => Reason::Forbidden,
        }
    }
}

/// One method of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodReport {
    /// Its type.
    #[serde(rename = "type")]
    pub method_type: MethodType,
    /// Graph's id; `None` for a type whose methods could not be listed.
    pub id: Option<String>,
    /// What became of it; `None` in a dry run.
    pub result: Option<MethodResult>,
    /// Why, where the result does not say it.
    pub reason_code: Option<Reason>,
    /// When it was registered, where Graph tells.
    #[serde(default)]
    pub registered_at: Option<Timestamp>,
}

/// One step of the result that removes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub step: String,
    /// The type of method that it is about, if any.
    #[serde(rename = "type")]
    pub method_type: Option<MethodType>,
    /// What was to be set, where it is a word and nobody's number or address.
    pub value: Option<String>,
    /// What became of it; `None` in a dry run.
    pub result: Option<MethodResult>,
    /// Why, where the result does not say it.
    pub reason_code: Option<Reason>,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// In one word.
    pub kind: OutcomeKind,
    /// Why.
    pub reason: Reason,
    /// The rule or field behind the reason, for people; never a name, number or address.
    pub detail: Option<String>,
    /// Whether a list proved that every planned method is gone, and what was set is there.
    pub verified: bool,
    /// Whether sessions were revoked.
    pub sessions_revoked: bool,
    /// What became of each method.
    pub methods: Vec<MethodReport>,
    /// What became of each other step.
    #[serde(default)]
    pub steps: Vec<StepReport>,
}

impl Outcome {
    /// An outcome for a job in which nothing was done.
    pub const fn untouched(kind: OutcomeKind, reason: Reason, detail: Option<String>) -> Self {
        Self { kind, reason, detail, verified: false, sessions_revoked: false, methods: Vec::new(), steps: Vec::new() }
    }
}

/// What stops an attempt, named by what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Graph asks to wait; the call had no effect. Costs no attempt.
    #[error("graph asks to wait {} s", after.as_secs())]
    Throttled {
        /// How long at least.
        after: Duration,
    },
    /// The hourly limit on resets is reached. Costs no attempt.
    #[error("the hourly limit on resets is reached")]
    QuotaReached {
        /// Until when about.
        after: Duration,
    },
    /// A live attempt holds this job. Costs no attempt.
    #[error("a live attempt holds this job")]
    JobLeased,
    /// Another job holds the user. Costs no attempt.
    #[error("another job holds the user")]
    UserHeld,
    /// Nothing happened, and the next attempt may fare better.
    #[error("{} for now", reason.code())]
    Transient {
        /// What failed.
        reason: Reason,
    },
    /// The call may have taken effect: read before doing anything.
    #[error("unknown outcome: {}", reason.code())]
    Unknown {
        /// What failed.
        reason: Reason,
    },
    /// A dependency serves nobody now, so this request is not to blame. Costs no attempt.
    #[error("{}", reason.code())]
    Unavailable {
        /// Which.
        reason: Reason,
    },
    /// Will not pass.
    #[error("{}", reason.code())]
    Permanent {
        /// Why.
        reason: Reason,
    },
    /// Another attempt holds the job by now; this one may change nothing more.
    #[error("the lease is lost")]
    LeaseLost,
    /// The worker drains or its broker session ended; the delivery goes back.
    #[error("stopped")]
    Stopped,
}
