//! MAY: every effect that a reset can have, on one page.
//!
//! [`crate::reset`] acts through this trait alone, so the order of record, call and publish can be read in one
//! place and broken in one place: the simulation crashes before and after each of these.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::guard::{Facts, User};
use crate::domain::method::{Method, MethodType};
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::plan::{Plan, Reach, Refusal, Step};
use crate::domain::preference::Preference;
use crate::domain::request::{Envelope, Request, Target};
use crate::domain::task::{MfaState, Private};

/// A request and what its delivery said.
#[derive(Debug, Clone)]
pub struct Job {
    /// The request.
    pub request: Request,
    /// What its delivery said.
    pub envelope: Envelope,
}

/// An attempt's right to work on a job. Every write under it checks the fencing number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job's row in the ledger.
    pub job: i64,
    /// Grows with every lease on the job; a write with an older number is refused.
    pub fence: i64,
    /// When a worker first saw the request.
    pub first_seen: Timestamp,
    /// How many attempts met a fault before this one.
    pub attempts: u32,
    /// How often the job was deferred.
    pub deferrals: u32,
    /// Whether the ticket was told that its request waits.
    pub told: bool,
}

/// What the ledger knows of a request.
#[derive(Debug, Clone)]
pub enum Recall {
    /// Nobody works on it: this attempt does now. The plan is there if an earlier attempt wrote one.
    Leased(Lease, Option<Plan>),
    /// It is concluded; this was its result.
    Concluded(Box<Event>),
    /// A live attempt works on it.
    Busy(Lease),
    /// This is an older copy than the last one deferred.
    Superseded,
    /// Another request has this key.
    Reused,
    /// A worker saw it before this ledger was born, and the ledger does not know it; it is leased to be concluded.
    LedgerLost(Lease),
}

/// What taking a user led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserHold {
    /// The job holds the user; when the user was last reset, as far as the ledger knows.
    Taken(Option<Timestamp>),
    /// Another job holds the user.
    Busy,
}

/// A change that removes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Another default method.
    Default(Preference),
    /// A phone or address, added or in the place of the one that is there.
    Value {
        /// Its type.
        method_type: MethodType,
        /// The number or address.
        value: &'a Private,
        /// Whether one is there.
        replaces: bool,
    },
    /// Whether the mobile phone is for signing in by SMS.
    SmsSignIn(bool),
    /// The per-user MFA state.
    PerUserMfa(MfaState),
}

/// What Graph said to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It is done: removed, or set.
    Done,
    /// 404.
    NotFound,
    /// 400, to be tried again after the others.
    Refused(Refusal),
    /// 403.
    Forbidden,
    /// Graph cannot do it, now or later.
    Impossible,
}

/// How long a check of the lease holds: a changing call is sent within it, or not at all. A process may be frozen between
/// the two and wake when another one has finished the job.
pub const CHECK_HOLDS: Duration = Duration::from_secs(5);

/// Every effect that a reset can have. All of them may end in a [`Fault`].
pub trait Ports: Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// A fresh id for a call that changes something, so that it can be written down before the call.
    fn call_id(&self) -> Uuid;

    /// The keyed digest of a user's phone number or address, as listed methods carry it.
    fn digest(&self, user: &str, kind: MethodType, value: &str) -> Option<String>;

    /// The ids of the reading calls made since this was last asked, for the audit record.
    fn calls(&self) -> Vec<Uuid>;

    /// Looks the request up and, where nobody works on it, leases it; a new one is written down as first seen now
    /// (or as its trusted copy says).
    fn recall(&self, job: &Job) -> impl Future<Output = Result<Recall, Fault>> + Send;

    /// Finds the one user that the target means; every identifier must agree.
    fn resolve(&self, target: &Target) -> impl Future<Output = Result<User, Fault>> + Send;

    /// Takes the user for the job until it concludes, or ends an attempt without a plan.
    fn take_user(&self, lease: &Lease, user: &User) -> impl Future<Output = Result<UserHold, Fault>> + Send;

    /// Reads methods, roles and groups of the user in one go. `last_reset` is left empty.
    fn survey(&self, user: &User) -> impl Future<Output = Result<Facts, Fault>> + Send;

    /// Writes the plan and the audit record of the intent in one commit, if the hourly limit allows.
    fn write_plan(&self, lease: &Lease, plan: &Plan, intent: Value) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Waits until Graph may be called: for its hold and for the rate. A long hold is [`Fault::Throttled`].
    fn admit(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Crosses steps off and marks the next one as sent, in one commit, if the lease is still held. Where Graph asked
    /// to wait, the steps are crossed off, nothing is marked, and the answer is [`Fault::Throttled`].
    fn advance(
        &self,
        lease: &Lease,
        crossed: Vec<(usize, Step)>,
        next: Option<(usize, Step)>,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Lists the user's methods: all that are within reach, or it is a fault.
    fn list_methods(&self, user: &str, reach: &Reach) -> impl Future<Output = Result<Vec<Method>, Fault>> + Send;

    /// Removes one method. One request, no retry, within [`CHECK_HOLDS`] of [`Ports::advance`]'s check.
    fn remove(&self, user: &str, method: &Method, call: Uuid) -> impl Future<Output = Result<Reply, Fault>> + Send;

    /// Sets something. One request, no retry, within [`CHECK_HOLDS`] of [`Ports::advance`]'s check.
    fn change(&self, user: &str, change: Change<'_>, call: Uuid) -> impl Future<Output = Result<Reply, Fault>> + Send;

    /// Revokes the user's sessions. One request, no retry, within [`CHECK_HOLDS`] of [`Ports::advance`]'s check.
    fn revoke_sessions(&self, user: &str, call: Uuid) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Waits, unless the worker drains.
    fn pause(&self, time: Duration) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Writes outcome, audit record and result event in one commit, and releases the user.
    fn record_outcome(&self, lease: &Lease, conclusion: &Conclusion) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Publishes an event and waits until the broker confirms that a queue has it.
    fn publish(&self, event: &Event) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Notes that the result is published.
    fn mark_published(&self, event: &Event) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Publishes a copy of the delivery, numbered `deferral`, to the retry queue that waits `step`, and waits for the
    /// confirm. Without a broker it waits `step`.
    fn publish_copy(
        &self,
        job: &Job,
        lease: &Lease,
        deferral: u32,
        step: Duration,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Notes a deferral and ends the lease; a job without a plan lets its user go.
    fn record_deferral(&self, lease: &Lease, deferral: &Deferral) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Writes the audit record of a request that was turned away at the door.
    fn record_refusal(&self, audit: Value) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// All that is written when an attempt ends and its job does not.
#[derive(Debug, Clone)]
pub struct Deferral {
    /// The number of the copy that waits; the job's own where none was published.
    pub number: u32,
    /// Whether an attempt is spent.
    pub spends: bool,
    /// Whether the ticket was told.
    pub told: bool,
    /// Steps not written down yet.
    pub changes: Vec<(usize, Step)>,
}

impl Deferral {
    /// One that changes nothing but to end the lease.
    pub const fn of(lease: &Lease) -> Self {
        Self { number: lease.deferrals, spends: false, told: lease.told, changes: Vec::new() }
    }
}

/// All that is written when a job ends.
#[derive(Debug, Clone)]
pub struct Conclusion {
    /// How it ended.
    pub outcome: Outcome,
    /// The result event.
    pub event: Event,
    /// The audit record.
    pub audit: Value,
    /// Steps not written down yet.
    pub changes: Vec<(usize, Step)>,
}
