//! From a plan as far as it got to an [`Outcome`], and from an outcome to the words that people read.

use super::method::MethodType;
use super::outcome::{MethodReport, MethodResult, Outcome, OutcomeKind, StepReport};
use super::plan::{Action, Plan, Setting, State, Step};
use super::reason::Reason;

/// The outcome of a dry run: the plan itself.
pub fn planned(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::untouched(OutcomeKind::Planned, Reason::DryRun, None);
    let would = |step: &Step| report(step, None, Some(Reason::DryRun));
    outcome.methods = plan.steps.iter().filter_map(would).chain(plan.left_alone.iter().cloned()).collect();
    outcome.steps = plan.steps.iter().filter_map(|step| step_report(step, None, Some(Reason::DryRun))).collect();
    outcome
}

/// The outcome of a job that a reason stopped, wherever it was.
pub fn stopped(plan: Option<&Plan>, reason: Reason, detail: Option<String>) -> Outcome {
    match plan {
        Some(plan) => of_plan(plan, Some((reason, detail))),
        None => Outcome::untouched(untouched(reason), reason, detail),
    }
}

/// How a job ends that was stopped before it changed anything.
fn untouched(reason: Reason) -> OutcomeKind {
    if reason == Reason::Expired {
        OutcomeKind::Expired
    } else if reason.entry().outcomes.contains(&OutcomeKind::Denied) {
        OutcomeKind::Denied
    } else {
        OutcomeKind::Failed
    }
}

/// The outcome of a plan that was carried out and verified, or stopped for a reason.
pub fn of_plan(plan: &Plan, stopped: Option<(Reason, Option<String>)>) -> Outcome {
    let open_reason = stopped.as_ref().map(|(reason, _)| *reason);
    let finished = stopped.is_none();
    let told = |step| (step, settled(step, open_reason));
    let removals: Vec<MethodReport> =
        plan.steps.iter().map(told).filter_map(|(step, (result, why))| report(step, Some(result), why)).collect();
    let steps: Vec<StepReport> =
        plan.steps.iter().map(told).filter_map(|(step, (result, why))| step_report(step, Some(result), why)).collect();
    let revoked = |step: &Step| settled(step, None).0.is_set();
    let revocations = || plan.steps.iter().filter(|step| step.action == Action::RevokeSessions);
    let touched = plan.steps.iter().any(touches);
    let (reason, detail) = match stopped {
        Some(stopped) => stopped,
        None => (verdict(plan, &removals, &steps), None),
    };
    let kind = if reason == Reason::Done {
        OutcomeKind::Succeeded
    } else if reason == Reason::NothingToRemove {
        OutcomeKind::NothingToDo
    } else if touched {
        OutcomeKind::Partial
    } else {
        untouched(reason)
    };
    let gone = removals.iter().all(|method| method.result.is_some_and(MethodResult::is_gone));
    let aside = ["revoke_sessions", CHANGE_DEFAULT];
    let set = steps.iter().filter(|step| !aside.contains(&step.step.as_str())).all(stands);
    Outcome {
        kind,
        reason,
        detail,
        verified: finished && gone && set,
        sessions_revoked: revocations().next_back().is_some_and(revoked),
        methods: removals.into_iter().chain(plan.left_alone.iter().cloned()).collect(),
        steps,
    }
}

/// What became of a step, if it stays as it is.
fn settled(step: &Step, open: Option<Reason>) -> (MethodResult, Option<Reason>) {
    match step.state {
        State::Done { result, reason } => (result, reason),
        State::Open if step.doubted_since.is_none() => (MethodResult::Failed, open),
        // Called, and nobody has read since what became of it; or Graph lagged when somebody did.
        State::Open | State::Sent { .. } | State::NotFound => (MethodResult::Ambiguous, open),
    }
}

/// Whether a step changed something, or may have.
fn touches(step: &Step) -> bool {
    let removes = matches!(step.action, Action::Remove(_));
    match step.state {
        State::Done { result, .. } => {
            matches!(result, MethodResult::Removed | MethodResult::Done)
                || (result == MethodResult::Ambiguous && !removes)
        }
        State::Open => step.doubted_since.is_some(),
        State::Sent { .. } | State::NotFound => true,
    }
}

/// Whether things are as the step wants them.
fn stands(step: &StepReport) -> bool {
    step.result.is_some_and(MethodResult::is_set)
}

/// The reason of a plan that ran to its end: the first cause of what went wrong, if anything did.
fn verdict(plan: &Plan, removals: &[MethodReport], steps: &[StepReport]) -> Reason {
    let wrong = |method: &MethodReport| match method.result {
        Some(result) if result.is_gone() => None,
        Some(result) => Some(cause(result, method.reason_code)),
        None => None,
    };
    // What became of the default method shows in the removal that it was changed for.
    let counts = |step: &&StepReport| step.step != CHANGE_DEFAULT && !stands(step);
    let unset = steps.iter().find(counts).and_then(|step| step.result.map(|result| cause(result, step.reason_code)));
    // A blocked method is often a consequence of another one that stayed: the cause is told first.
    let blocked = |reason: &Reason| matches!(reason, Reason::BlockedDefault | Reason::BlockedDependency);
    let first = removals.iter().filter_map(wrong).find(|reason| !blocked(reason));
    let first = first.or_else(|| removals.iter().find_map(wrong)).or(unset).or(plan.incomplete);
    match first {
        Some(reason) => reason,
        None if plan.removes && removals.is_empty() && !steps.iter().any(sets) => Reason::NothingToRemove,
        None => Reason::Done,
    }
}

/// Whether a step set something.
fn sets(step: &StepReport) -> bool {
    step.step != "revoke_sessions" && step.result == Some(MethodResult::Done)
}

/// The reason behind what went wrong with a method or step.
fn cause(result: MethodResult, reason: Option<Reason>) -> Reason {
    match result {
        MethodResult::BlockedDefault => Reason::BlockedDefault,
        MethodResult::BlockedDependency => Reason::BlockedDependency,
        MethodResult::Ambiguous => Reason::Ambiguous,
        MethodResult::ReplacedSince => Reason::ReplacedSince,
        MethodResult::Unsupported => Reason::UnsupportedMethod,
        MethodResult::Forbidden => Reason::Forbidden,
        MethodResult::Removed
        | MethodResult::AlreadyAbsent
        | MethodResult::Kept
        | MethodResult::Failed
        | MethodResult::Done
        | MethodResult::Unchanged => reason.unwrap_or(Reason::GraphRefused),
    }
}

fn report(step: &Step, result: Option<MethodResult>, reason_code: Option<Reason>) -> Option<MethodReport> {
    let Action::Remove(method) = &step.action else { return None };
    let reason_code = reason_code.filter(|_| !result.is_some_and(MethodResult::is_gone));
    let (id, registered_at) = (Some(method.id.clone()), method.registered_at);
    Some(MethodReport { method_type: method.method_type, id, result, reason_code, registered_at })
}

/// The step that changes the default method; no request asks for it.
pub const CHANGE_DEFAULT: &str = "change_default";
/// What `set_phones` says of signing in by SMS.
pub const SMS_SIGN_IN: &str = "sms_sign_in";

fn step_report(step: &Step, result: Option<MethodResult>, reason_code: Option<Reason>) -> Option<StepReport> {
    let (name, method_type, value) = match &step.action {
        Action::Remove(_) => return None,
        Action::RevokeSessions => ("revoke_sessions", None, None),
        Action::SetDefault(preference) => (CHANGE_DEFAULT, None, Some(preference.name())),
        Action::SetValue(Setting { method_type: MethodType::Email, .. }) => {
            ("set_email", Some(MethodType::Email), None)
        }
        Action::SetValue(setting) => ("set_phones", Some(setting.method_type), None),
        Action::SetSmsSignIn { on, .. } => (SMS_SIGN_IN, None, Some(if *on { "on" } else { "off" })),
        Action::SetPerUserMfa(state) => ("set_per_user_mfa", None, Some(state.name())),
    };
    let value = value.map(str::to_owned);
    let reason_code = reason_code.filter(|_| !result.is_some_and(MethodResult::is_set));
    Some(StepReport { step: name.to_owned(), method_type, value, result, reason_code })
}

/// One sentence for lists.
pub fn summary(outcome: &Outcome) -> String {
    let entry = outcome.reason.entry();
    let detail = outcome.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}: {}{detail}.", outcome.kind.name().replace('_', " "), entry.meaning)
}

/// What the service desk reads in the ticket: the outcome, each method, what to do.
pub fn work_note(outcome: &Outcome) -> String {
    let why =
        |reason: Option<Reason>| reason.map(|reason| format!(" ({})", reason.entry().meaning)).unwrap_or_default();
    let mut note = format!("MFA reset {}", summary(outcome));
    if outcome.sessions_revoked {
        note.push_str("\nSessions were revoked.");
    }
    for method in &outcome.methods {
        let word = method.result.map_or("would be removed", MethodResult::name).replace('_', " ");
        let name = method.method_type.name().replace('_', " ");
        note.push_str(&format!("\n- {name}: {word}{}", why(method.reason_code)));
    }
    for step in outcome.steps.iter().filter(|step| step.step != "revoke_sessions") {
        let about = step.method_type.map(MethodType::name).or(step.value.as_deref());
        let about = about.map(|about| format!(", {about}")).unwrap_or_default();
        let word = step.result.map_or("would be done", MethodResult::name);
        note.push_str(&format!("\n- {}{about}: {word}{}", step.step, why(step.reason_code)).replace('_', " "));
    }
    let action = outcome.reason.entry().action;
    if action != "nothing" {
        note.push_str(&format!("\nNext: {action}."));
    }
    note.chars().take(4000).collect()
}

/// What the person whose methods were reset may read; it gives nothing away.
pub fn user_text(outcome: &Outcome) -> &'static str {
    let removed = outcome.methods.iter().any(|method| method.result == Some(MethodResult::Removed));
    match outcome.kind {
        OutcomeKind::Succeeded if removed => {
            "Your sign-in methods were reset. Sign in again and register a new method when you are asked to."
        }
        OutcomeKind::Succeeded | OutcomeKind::NothingToDo if outcome.sessions_revoked => {
            "Your request was carried out. You have been signed out; please sign in again."
        }
        OutcomeKind::Succeeded => "Your request was carried out.",
        OutcomeKind::NothingToDo => "There was nothing to reset.",
        OutcomeKind::Partial => "Not everything could be reset. The service desk will contact you.",
        OutcomeKind::Planned => "Your request was checked. Nothing has been changed.",
        OutcomeKind::Denied | OutcomeKind::Failed | OutcomeKind::Rejected => {
            "Your request could not be carried out. The service desk will contact you."
        }
        OutcomeKind::Expired => "Your request expired before it was carried out. Ask again if you still need it.",
        OutcomeKind::Cancelled => "Your request was withdrawn. Nothing has been changed.",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::domain::guard::Facts;
    use crate::domain::method::{Method, MethodType};
    use crate::domain::profile::Profiles;
    use crate::domain::request::{Envelope, Lane, Request};

    fn plan() -> Plan {
        let body = serde_json::json!({
            "id": "1", "ticket": {"system": "jira", "number": "A-1"}, "target": {"upn": "ada@contoso.test"},
            "profile": "re-register", "requested_by": "sam",
        });
        let envelope = Envelope::bare(Lane::Tickets);
        let request = Request::parse(body.to_string().as_bytes(), &envelope, &Profiles::default()).unwrap();
        let listed = [MethodType::MicrosoftAuthenticator, MethodType::SoftwareOath];
        let listed = listed.map(|kind| Method::new(kind, kind.name()));
        Plan::make("user", &request, &Facts::of(&listed), &|_, _| None)
    }

    fn check(change: impl FnOnce(&mut Plan), stopped: Option<Reason>, kind: OutcomeKind, verified: bool) -> Outcome {
        let mut plan = plan();
        change(&mut plan);
        let outcome = of_plan(&plan, stopped.map(|reason| (reason, None)));
        assert_eq!((outcome.kind, outcome.verified), (kind, verified), "{outcome:?}");
        outcome
    }

    #[test]
    fn a_plan_that_was_carried_out_and_read_back_succeeded() {
        let all = |plan: &mut Plan| {
            (0..2).for_each(|index| plan.settle(index, MethodResult::Removed, None));
            plan.settle(2, MethodResult::Done, None);
        };
        let outcome = check(all, None, OutcomeKind::Succeeded, true);
        assert!(outcome.sessions_revoked && outcome.methods.len() == 2);
    }

    #[test]
    fn what_was_sent_and_never_read_back_is_neither_failed_nor_removed() {
        let sent = |plan: &mut Plan| drop(plan.send(0, Timestamp::UNIX_EPOCH, Uuid::nil()));
        let outcome = check(sent, Some(Reason::AttemptsExhausted), OutcomeKind::Partial, false);
        assert_eq!(outcome.methods[0].result, Some(MethodResult::Ambiguous));
        assert_eq!(outcome.methods[1].result, Some(MethodResult::Failed));
        check(|plan| plan.not_found(0), Some(Reason::DeadlineExceeded), OutcomeKind::Partial, false);
    }

    #[test]
    fn what_was_sent_and_is_listed_by_a_graph_that_may_lag_is_not_said_to_have_failed() {
        let listed = [MethodType::MicrosoftAuthenticator, MethodType::SoftwareOath];
        let lagging = |plan: &mut Plan| {
            plan.send(0, Timestamp::UNIX_EPOCH, Uuid::nil());
            plan.reconcile(&listed.map(|kind| Method::new(kind, kind.name())), Timestamp::UNIX_EPOCH);
        };
        let outcome = check(lagging, Some(Reason::ProtectedTarget), OutcomeKind::Partial, false);
        assert_eq!(outcome.methods.iter().filter(|method| method.result == Some(MethodResult::Ambiguous)).count(), 1);
    }

    #[test]
    fn a_job_that_was_stopped_is_never_verified() {
        let removed = |plan: &mut Plan| (0..2).for_each(|index| plan.settle(index, MethodResult::Removed, None));
        check(removed, Some(Reason::Forbidden), OutcomeKind::Partial, false);
    }

    #[test]
    fn a_job_stopped_before_it_changed_anything_says_so() {
        check(|_| (), Some(Reason::DeadlineExceeded), OutcomeKind::Failed, false);
        check(|_| (), Some(Reason::Expired), OutcomeKind::Expired, false);
        check(|_| (), Some(Reason::ProtectedTarget), OutcomeKind::Denied, false);
    }

    #[test]
    fn the_cause_is_told_before_what_follows_from_it() {
        let blocked = |plan: &mut Plan| {
            plan.settle(0, MethodResult::BlockedDefault, None);
            plan.settle(1, MethodResult::Forbidden, Some(Reason::Forbidden));
            plan.settle(2, MethodResult::Done, None);
        };
        assert_eq!(check(blocked, None, OutcomeKind::Partial, false).reason, Reason::Forbidden);
    }
}
