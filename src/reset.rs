//! DOES: one job, front to back. [`attempt`] acts, [`conclude`] tells, [`defer`] comes back later.
//!
//! Every effect goes through [`Ports`]. The order is the promise: the plan and the audit record are durable before
//! the first removal, each removal is written down before it is sent, and the result is recorded, then published,
//! then (by the caller) acknowledged.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::domain::audit::{self, Subject};
use crate::domain::event::{self, Event};
use crate::domain::guard::{self, Decision, Policy};
use crate::domain::outcome::{Fault, MethodReport, MethodResult, Outcome, OutcomeKind};
use crate::domain::plan::{Action, Plan};
use crate::domain::reason::Reason;
use crate::domain::retry::{self, Cause, Limits, Standing, Verdict};
use crate::domain::summary;
use crate::ports::{Conclusion, Deferral, Hold, Job, Lease, Ports, Recall, Removal};

/// What a reset goes by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who may ask, and who may be reset.
    pub policy: Policy,
    /// How long a job may take.
    pub limits: Limits,
    /// The application id that Graph knows the worker by.
    pub app: String,
}

/// What to do with the delivery, and what to count.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// Acknowledge: the job is concluded and its result confirmed.
    Concluded(Outcome, Option<Decision>),
    /// Acknowledge: the job was concluded before, and its result is confirmed again.
    Repeated,
    /// Acknowledge: a newer copy is on its way.
    Superseded,
    /// Acknowledge: the request was turned away at the door, and its sender was told.
    Refused(Outcome, Option<Decision>),
    /// Acknowledge: a copy comes back later.
    Deferred(Cause),
    /// Work on it again: the wait is over.
    Again(Cause),
    /// Leave it to the broker.
    GivenBack,
}

/// How far an attempt came, for those who have to tell.
#[derive(Debug, Default)]
pub struct Progress {
    lease: Option<Lease>,
    user: Option<String>,
    decision: Option<Decision>,
    plan: Option<Plan>,
}

/// How an attempt ended that no fault stopped.
pub enum End {
    /// The job is over.
    Outcome(Outcome),
    /// It was over before; this was its result.
    Known(Box<Event>),
    /// A newer copy is on its way.
    Superseded,
    /// Another request has this key.
    Reused,
}

/// How often a list is read to prove a removal, and the wait before each, in seconds: Graph lags behind its deletes.
const LOOKS: [u64; 7] = [0, 1, 2, 4, 8, 15, 30];
/// How many calls of one attempt may be throttled, or end unknown, before the job gives its slot back.
const PATIENCE: u32 = 5;

/// Works on a job until its delivery can be settled: waits in place where the wait is short, or where the ledger is
/// away so that nothing could be written down. `waits` is told of every wait; `jitter` draws a number in 0..1.
pub async fn settle<P: Ports>(
    ports: &P,
    job: &Job,
    rules: &Rules,
    jitter: fn() -> f64,
    waits: impl Fn(Cause) + Send,
) -> Settlement {
    let mut patience = Duration::from_secs(1);
    loop {
        match run(ports, job, rules, jitter).await {
            Ok(Settlement::Again(cause)) => waits(cause),
            Ok(settlement) => return settlement,
            Err(Fault::Stopped) => return Settlement::GivenBack,
            Err(fault) => {
                warn!(request.id = %job.request.key, fault = %fault, retry_after_seconds = patience.as_secs(), "job waits");
                if ports.pause(patience).await.is_err() {
                    return Settlement::GivenBack;
                }
                waits(Cause::Unavailable);
                patience = (patience * 2).min(Duration::from_secs(60));
            }
        }
    }
}

/// One attempt and what follows from it. `jitter` draws a number in 0..1.
pub async fn run<P: Ports>(ports: &P, job: &Job, rules: &Rules, jitter: fn() -> f64) -> Result<Settlement, Fault> {
    if let Decision::Deny(rule) = guard::may_ask(job.envelope.producer.as_deref(), &rules.policy) {
        let outcome = Outcome::untouched(OutcomeKind::Denied, rule.reason(), None);
        return refuse(ports, job, rules, outcome, Some(Decision::Deny(rule))).await;
    }
    let mut progress = Progress::default();
    match attempt(ports, job, rules, &mut progress).await {
        Ok(End::Outcome(outcome)) => conclude(ports, job, rules, progress, outcome).await,
        Ok(End::Known(event)) => {
            ports.publish(&event).await?;
            ports.mark_published(&event).await?;
            Ok(Settlement::Repeated)
        }
        Ok(End::Superseded) => Ok(Settlement::Superseded),
        Ok(End::Reused) => {
            let outcome = Outcome::untouched(OutcomeKind::Rejected, Reason::IdReused, None);
            refuse(ports, job, rules, outcome, None).await
        }
        Err(fault) => stopped(ports, job, rules, progress, fault, jitter()).await,
    }
}

/// One attempt: recalls what is known, surveys, decides, plans, removes, proves. A recorded plan is finished, never
/// made anew.
pub async fn attempt<P: Ports>(ports: &P, job: &Job, rules: &Rules, progress: &mut Progress) -> Result<End, Fault> {
    let (lease, recorded) = match ports.recall(job).await? {
        Recall::Leased(lease, plan) => (lease, plan),
        Recall::Concluded(event) => return Ok(End::Known(event)),
        Recall::Superseded => return Ok(End::Superseded),
        Recall::Reused => return Ok(End::Reused),
        Recall::Busy(lease) => {
            progress.lease = Some(lease);
            return Err(Fault::JobLeased);
        }
        Recall::LedgerLost(lease) => {
            progress.lease = Some(lease);
            return Err(Fault::Permanent { reason: Reason::LedgerLost });
        }
    };
    progress.lease = Some(lease.clone());
    progress.user = recorded.as_ref().map(|plan| plan.user.clone());
    let resumed = recorded.is_some();
    progress.plan = recorded;
    still_wanted(ports, job, rules, &lease, progress.plan.as_ref())?;
    if progress.plan.is_none()
        && let Some(outcome) = prepare(ports, job, rules, &lease, progress).await?
    {
        return Ok(End::Outcome(outcome));
    }
    let Some(plan) = &mut progress.plan else { return Err(Fault::Stopped) };
    carry_out(ports, &lease, plan, resumed).await?;
    verify(ports, plan).await?;
    Ok(End::Outcome(summary::of_plan(plan, None)))
}

/// Refuses a job that is past its deadline, or past its expiry before anything was done.
fn still_wanted<P: Ports>(
    ports: &P,
    job: &Job,
    rules: &Rules,
    lease: &Lease,
    plan: Option<&Plan>,
) -> Result<(), Fault> {
    let now = ports.now();
    if now >= job.request.expiry(lease.first_seen) && !plan.is_some_and(Plan::has_begun) {
        return Err(Fault::Permanent { reason: Reason::Expired });
    }
    if now >= rules.limits.deadline_of(lease.first_seen) {
        return Err(Fault::Permanent { reason: Reason::DeadlineExceeded });
    }
    Ok(())
}

/// Everything before the first change: whom, may they be reset, what to do. Ends the job early where the guard says
/// no or the request is a dry run.
async fn prepare<P: Ports>(
    ports: &P,
    job: &Job,
    rules: &Rules,
    lease: &Lease,
    progress: &mut Progress,
) -> Result<Option<Outcome>, Fault> {
    let request = &job.request;
    let user = ports.resolve(&request.target).await?;
    progress.user = Some(user.object_id.clone());
    let Hold::Taken(last_reset) = ports.take_user(lease, &user).await? else { return Err(Fault::UserHeld) };
    let mut facts = ports.survey(&user).await?;
    facts.last_reset = last_reset;
    let decision = guard::decide(request, &user, &facts, &rules.policy, ports.now());
    progress.decision = Some(decision);
    if let Decision::Deny(rule) = decision {
        let detail = Some(rule.name().to_owned());
        return Ok(Some(Outcome::untouched(OutcomeKind::Denied, rule.reason(), detail)));
    }
    let plan = Plan::make(&user.object_id, request.profile, &request.keep, &facts.methods, facts.read_at);
    if request.dry_run {
        return Ok(Some(summary::planned(&plan)));
    }
    let planned: Vec<MethodReport> = summary::planned(&plan).methods;
    let calls = ports.calls();
    let intent = audit::intent(&subject(job, rules, progress, &calls), &planned, ports.now());
    ports.write_plan(lease, &plan, intent).await?;
    progress.plan = Some(plan);
    Ok(None)
}

/// Calls the open steps one after the other: never two at once for one user.
async fn carry_out<P: Ports>(ports: &P, lease: &Lease, plan: &mut Plan, resumed: bool) -> Result<(), Fault> {
    let mut must_list = resumed;
    let mut trouble = 0;
    loop {
        if must_list || plan.is_in_doubt() {
            let listed = ports.list_methods(&plan.user).await?;
            plan.reconcile(&listed, ports.now());
            must_list = false;
        }
        let Some(index) = plan.next_step() else { break };
        match call(ports, lease, plan, index).await {
            Ok(()) => {}
            Err(Fault::Throttled { .. } | Fault::Unknown { .. }) if trouble < PATIENCE => trouble += 1,
            Err(fault) => return Err(fault),
        }
    }
    ports.advance(lease, plan.take_changes(), None).await
}

/// One step: waits its turn, writes down that it is sent, calls, and notes the answer.
async fn call<P: Ports>(ports: &P, lease: &Lease, plan: &mut Plan, index: usize) -> Result<(), Fault> {
    ports.admit().await?;
    let id = ports.call_id();
    let crossed = plan.take_changes();
    let sent = plan.send(index, ports.now(), id);
    let advanced = ports.advance(lease, crossed, Some((index, sent))).await;
    let answer = match (advanced, plan.steps[index].action.clone()) {
        (Err(fault), _) => Err(fault),
        (Ok(()), Action::RevokeSessions) => ports.revoke_sessions(&plan.user, id).await.map(|()| Removal::Removed),
        (Ok(()), Action::Remove(method)) => ports.remove(&plan.user, &method, id).await,
    };
    match answer {
        Ok(Removal::Removed) => plan.settle(index, MethodResult::Removed, None),
        Ok(Removal::NotFound) => plan.not_found(index),
        Ok(Removal::Refused(refusal)) => plan.put_off(index, refusal),
        Ok(Removal::Forbidden) => plan.settle(index, MethodResult::Forbidden, Some(Reason::Forbidden)),
        Ok(Removal::Impossible) => plan.settle(index, MethodResult::Failed, Some(Reason::GraphRefused)),
        Err(fault @ Fault::Unknown { .. }) => return Err(fault),
        Err(fault) => {
            // Every other fault had no effect.
            plan.unsend(index);
            return Err(fault);
        }
    }
    Ok(())
}

/// Proves by reading that every planned method is gone. A method registered since is no residue.
async fn verify<P: Ports>(ports: &P, plan: &mut Plan) -> Result<(), Fault> {
    if !plan.steps.iter().any(|step| matches!(step.action, Action::Remove(_))) {
        return Ok(());
    }
    let mut residue = Vec::new();
    for wait in LOOKS {
        ports.pause(Duration::from_secs(wait)).await?;
        residue = plan.residue(&ports.list_methods(&plan.user).await?);
        if residue.is_empty() {
            break;
        }
    }
    plan.verified(&residue);
    Ok(())
}

/// Tells how the job ended: records, then publishes. The caller acknowledges.
async fn conclude<P: Ports>(
    ports: &P,
    job: &Job,
    rules: &Rules,
    mut progress: Progress,
    outcome: Outcome,
) -> Result<Settlement, Fault> {
    let Some(lease) = progress.lease.take() else { return Ok(Settlement::GivenBack) };
    let changes = progress.plan.as_mut().map(Plan::take_changes).unwrap_or_default();
    let mut calls = ports.calls();
    calls.extend(progress.plan.iter().flat_map(|plan| plan.steps.iter().filter_map(|step| step.call)));
    let now = ports.now();
    let facts = event::Facts {
        user: progress.user.as_deref(),
        attempts: lease.attempts + 1,
        started_at: lease.first_seen,
        finished_at: now,
    };
    let event = event::result("result", &job.request, &job.envelope, &outcome, &facts);
    let audit = audit::conclusion(&subject(job, rules, &progress, &calls), &outcome, now);
    let conclusion = Conclusion { outcome, event, audit, changes };
    ports.record_outcome(&lease, &conclusion).await?;
    ports.publish(&conclusion.event).await?;
    ports.mark_published(&conclusion.event).await?;
    let (outcome, reason) = (conclusion.outcome.kind.name(), conclusion.outcome.reason.code());
    info!(request.id = %job.request.key, outcome, reason, attempts = facts.attempts, "job concluded");
    Ok(Settlement::Concluded(conclusion.outcome, progress.decision))
}

/// A fault stopped the attempt: concludes, defers or gives back, as [`retry::decide`] says.
async fn stopped<P: Ports>(
    ports: &P,
    job: &Job,
    rules: &Rules,
    progress: Progress,
    fault: Fault,
    jitter: f64,
) -> Result<Settlement, Fault> {
    let Some(lease) = &progress.lease else { return Err(fault) };
    let standing = Standing { first_seen: lease.first_seen, attempts: lease.attempts, deferrals: lease.deferrals };
    match retry::decide(&fault, standing, rules.limits, ports.now(), jitter) {
        Verdict::Conclude { reason, detail } => {
            let stop = (reason, detail.map(str::to_owned));
            let outcome = match &progress.plan {
                Some(plan) => summary::of_plan(plan, Some(stop)),
                None if reason == Reason::Expired => Outcome::untouched(OutcomeKind::Expired, reason, stop.1),
                None => Outcome::untouched(OutcomeKind::Failed, reason, stop.1),
            };
            conclude(ports, job, rules, progress, outcome).await
        }
        Verdict::Defer { after, cause, spends } => {
            debug!(request.id = %job.request.key, fault = %fault, after_seconds = after.as_secs(), "job deferred");
            defer(ports, job, progress, after, cause, spends).await
        }
        Verdict::GiveBack => {
            let lease = lease.clone();
            note(ports, &lease, progress.plan, lease.deferrals, false, lease.told).await?;
            Ok(Settlement::GivenBack)
        }
    }
}

/// Comes back later: waits the rest in place, leaves a copy with the broker, records its number. The caller
/// acknowledges.
async fn defer<P: Ports>(
    ports: &P,
    job: &Job,
    mut progress: Progress,
    after: Duration,
    cause: Cause,
    spends: bool,
) -> Result<Settlement, Fault> {
    let Some(lease) = progress.lease.take() else { return Ok(Settlement::GivenBack) };
    let (rest, step) = retry::split(after);
    let Some(step) = step else {
        note(ports, &lease, progress.plan, lease.deferrals, spends, lease.told).await?;
        ports.pause(rest).await?;
        return Ok(Settlement::Again(cause));
    };
    if after > Duration::from_secs(60) && !lease.told {
        let until = ports.now().saturating_add(after).unwrap_or(jiff::Timestamp::MAX);
        ports.publish(&event::delayed(&job.request, &job.envelope, until, cause.name(), ports.now())).await?;
    }
    // Others need not wait for this lease to run out; what was done is written down before the wait.
    note(ports, &lease, progress.plan, lease.deferrals, spends, lease.told || after > Duration::from_secs(60)).await?;
    ports.pause(rest).await?;
    let number = lease.deferrals + 1;
    ports.publish_copy(job, &lease, number, step).await?;
    note(ports, &lease, None, number, false, false).await?;
    Ok(Settlement::Deferred(cause))
}

async fn note<P: Ports>(
    ports: &P,
    lease: &Lease,
    plan: Option<Plan>,
    number: u32,
    spends: bool,
    told: bool,
) -> Result<(), Fault> {
    let changes = plan.map(|mut plan| plan.take_changes()).unwrap_or_default();
    ports.record_deferral(lease, &Deferral { number, spends, told, changes }).await
}

/// Turns a request away at the door: it never becomes a job, so it cannot take another request's key.
async fn refuse<P: Ports>(
    ports: &P,
    job: &Job,
    rules: &Rules,
    outcome: Outcome,
    decision: Option<Decision>,
) -> Result<Settlement, Fault> {
    let now = ports.now();
    let facts = event::Facts { user: None, attempts: 0, started_at: now, finished_at: now };
    let event = event::result(outcome.reason.code(), &job.request, &job.envelope, &outcome, &facts);
    let at_the_door = Progress { decision, ..Progress::default() };
    let audit = audit::conclusion(&subject(job, rules, &at_the_door, &[]), &outcome, now);
    ports.record_refusal(audit).await?;
    ports.publish(&event).await?;
    warn!(request.id = %job.request.key, reason = outcome.reason.code(), "request turned away");
    Ok(Settlement::Refused(outcome, decision))
}

fn subject<'a>(job: &'a Job, rules: &'a Rules, progress: &'a Progress, calls: &'a [uuid::Uuid]) -> Subject<'a> {
    Subject {
        request: &job.request,
        user: progress.user.as_deref(),
        decision: progress.decision,
        policy: &rules.policy,
        app: &rules.app,
        calls,
    }
}
