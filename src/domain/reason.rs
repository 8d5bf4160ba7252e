//! Reason codes: the closed, stable list of why a job ended as it did. The README's table is made from it.

use serde::{Deserialize, Serialize};

use super::outcome::OutcomeKind::{self, Denied, Failed, NothingToDo, Partial, Planned, Rejected, Succeeded};

/// Why a job, or one method of it, ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the meaning of each stands in TABLE, from which the README is made")]
pub enum Reason {
    Done,
    NothingToRemove,
    DryRun,
    Residual,
    Ambiguous,
    BlockedDefault,
    BlockedDependency,
    UnsupportedMethod,
    SyncedPasskey,
    NoRegistrationTime,
    NotApplied,
    ReplacedSince,
    NotFoundButListed,
    Forbidden,
    GraphRefused,
    GraphUnavailable,
    TokenRefused,
    LedgerUnavailable,
    ProtectedTarget,
    RequesterIsTarget,
    ProducerNotAllowed,
    RecentlyReset,
    StepNotEnabled,
    Expired,
    UserNotFound,
    AmbiguousTarget,
    TargetMismatch,
    UserBusy,
    AttemptsExhausted,
    DeadlineExceeded,
    LedgerLost,
    Malformed,
    UnsupportedKind,
    IdReused,
}

/// One row of the table.
#[derive(Debug)]
pub struct Entry {
    /// The reason.
    pub reason: Reason,
    /// Its code in every contract.
    pub code: &'static str,
    /// The outcomes it comes with; none for a reason that only a method has.
    pub outcomes: &'static [OutcomeKind],
    /// Whether the same request, sent again under a new id, may end better without anybody doing anything.
    pub retryable: bool,
    /// What it means.
    pub meaning: &'static str,
    /// What an operator does.
    pub action: &'static str,
}

const fn row(
    reason: Reason,
    code: &'static str,
    outcomes: &'static [OutcomeKind],
    retryable: bool,
    meaning: &'static str,
    action: &'static str,
) -> Entry {
    Entry { reason, code, outcomes, retryable, meaning, action }
}

/// The table, in the order of the enum.
#[rustfmt::skip]
pub const TABLE: [Entry; 34] = [
    row(Reason::Done, "done", &[Succeeded], false, "every step was done and verified", "nothing"),
    row(Reason::NothingToRemove, "nothing_to_remove", &[NothingToDo], false, "the user had no method that the profile removes; every other step was done", "nothing"),
    row(Reason::DryRun, "dry_run", &[Planned], false, "the request asked for the plan only", "send it again without dry_run to carry it out"),
    row(Reason::Residual, "residual", &[Partial], true, "a removed method is still listed after the wait for Graph's lag", "list the user's methods in a few minutes; ask again if it is still there"),
    row(Reason::Ambiguous, "ambiguous", &[Partial, Failed], false, "a change was sent, its answer was lost, and what is there now may be old or newer: that cannot be told", "ask the user what is theirs; set it right by hand or ask again under a new id"),
    row(Reason::BlockedDefault, "blocked_default", &[Partial, Failed], false, "Graph keeps the user's default method while others stay", "ask the user to choose another default sign-in method under My Security Info and send the request again, or ask for a profile that removes the others too"),
    row(Reason::BlockedDependency, "blocked_dependency", &[Partial, Failed], false, "Graph keeps the mobile phone while the alternate mobile phone is registered", "ask for a profile that removes both phones"),
    row(Reason::UnsupportedMethod, "unsupported_method", &[Partial, Failed], false, "the user has, or may have, a method of a type that cannot be removed or listed in this cloud or without the beta API", "look at the user's methods in the Entra admin center"),
    row(Reason::SyncedPasskey, "synced_passkey", &[], false, "the passkey is synchronised between devices by a provider, so it may be on the lost phone too", "ask the user where else they are signed in with that provider; remove it by hand if in doubt"),
    row(Reason::NoRegistrationTime, "no_registration_time", &[Partial, Failed], false, "Graph does not tell when a method was registered, so it is kept", "ask the user whether it is theirs; ask for its removal by id or type if not"),
    row(Reason::NotApplied, "not_applied", &[Partial, Failed], true, "a phone or address that was set is not listed", "list the user's methods in a few minutes; ask again if it is still missing"),
    row(Reason::ReplacedSince, "replaced_since", &[Partial, Failed], false, "somebody else set the phone or address after the plan was made, so it was left alone", "ask who did; ask again under a new id if it is still wanted"),
    row(Reason::NotFoundButListed, "not_found_but_listed", &[Partial, Failed], true, "Graph answers 404 to the removal and goes on listing the method", "try again later; open a case with Microsoft if it stays"),
    row(Reason::Forbidden, "forbidden", &[Partial, Failed], false, "Graph answers 403: the app lacks a permission, or the user is in a restricted management unit", "compare the app's permissions with the README; look at the user's administrative units"),
    row(Reason::GraphRefused, "graph_refused", &[Partial, Failed], false, "Graph refuses the call for a reason that will not pass", "look up the client-request-id of the audit record with Microsoft"),
    row(Reason::GraphUnavailable, "graph_unavailable", &[Partial, Failed], true, "Graph was away, too slow, or answered with a server error", "look at Microsoft's service health; ask again"),
    row(Reason::TokenRefused, "token_refused", &[Partial, Failed], true, "the identity service refuses the app's credential", "look at reasons.token of /readyz or at the worker's log: they say what to renew or correct"),
    row(Reason::LedgerUnavailable, "ledger_unavailable", &[Partial, Failed], true, "the ledger cannot be read or written", "look at the ledger's disk or database"),
    row(Reason::ProtectedTarget, "protected_target", &[Denied, Partial], false, "the user holds or may take a role, is protected by policy, or could not be proved unprotected", "reset this person by hand, under the rules for administrators"),
    row(Reason::RequesterIsTarget, "requester_is_target", &[Denied, Partial], false, "the requester asks for their own reset", "let somebody else ask"),
    row(Reason::ProducerNotAllowed, "producer_not_allowed", &[Denied], false, "the broker user that published the request may not ask, or the message carries no user_id", "publish as an allowed user with user_id set, or add it to policy.producers"),
    row(Reason::RecentlyReset, "recently_reset", &[Denied, Partial], true, "the user was reset within policy.cool_down", "check whether two tickets ask for the same; wait, or reset by hand"),
    row(Reason::StepNotEnabled, "step_not_enabled", &[Denied, Partial], false, "the request asks for a step that gives access, which policy.enabled_steps does not name", "set it by hand, or add the step to policy.enabled_steps"),
    row(Reason::Expired, "expired", &[OutcomeKind::Expired], false, "the request expired before anything was removed", "ask again if it is still wanted"),
    row(Reason::UserNotFound, "user_not_found", &[Failed], false, "no user has this identifier", "correct the ticket"),
    row(Reason::AmbiguousTarget, "ambiguous_target", &[Failed], false, "more than one user has this mail address", "name the user by object id"),
    row(Reason::TargetMismatch, "target_mismatch", &[Failed], false, "the identifiers of the request belong to different users", "correct the ticket"),
    row(Reason::UserBusy, "user_busy", &[Failed], true, "another job held the user until the deadline", "look at the other job; ask again"),
    row(Reason::AttemptsExhausted, "attempts_exhausted", &[Partial, Failed], true, "every attempt met a fault", "look at the worker's log for this ticket; ask again"),
    row(Reason::DeadlineExceeded, "deadline_exceeded", &[Partial, Failed], true, "the job outlived retry.deadline", "look at holds and at Graph's health; ask again"),
    row(Reason::LedgerLost, "ledger_lost", &[Failed], false, "the request was under way in a ledger that is gone, so what was done is unknown", "compare the audit records with the user's methods; ask again under a new id"),
    row(Reason::Malformed, "malformed", &[Rejected], false, "the body is not a valid request", "correct the producer; the pointer in the summary names the field"),
    row(Reason::UnsupportedKind, "unsupported_kind", &[Rejected], false, "the request asks for something that is not built yet", "see the README for what is"),
    row(Reason::IdReused, "id_reused", &[Rejected], false, "another request already has this id", "give every request its own id"),
];

impl Reason {
    /// The row of the table.
    pub const fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// The code in every contract.
    pub const fn code(self) -> &'static str {
        self.entry().code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_its_codes_are_the_serialised_ones() {
        for (index, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.reason as usize, index);
            assert_eq!(serde_json::to_value(entry.reason).unwrap(), entry.code);
            assert!(!entry.meaning.is_empty() && !entry.action.is_empty());
        }
    }

    #[test]
    fn every_outcome_has_a_reason() {
        for kind in OutcomeKind::ALL {
            let some = TABLE.iter().any(|entry| entry.outcomes.contains(&kind));
            assert!(some || kind == OutcomeKind::Cancelled, "{kind:?}");
        }
    }
}
