//! DOES: one job, front to back. `attempt` acts and `conclude` tells; in `carrying`, how a plan is carried out, and in
//! `ending`, what follows where the job does not end.
//!
//! Every effect goes through [`Ports`]. The order is the promise: plan and audit record are durable before any change,
//! each change is written down before it is sent; the result is recorded, published, and then acknowledged.

mod carrying;
mod ending;

use jiff::Timestamp;
use tracing::info;
use uuid::Uuid;

use crate::domain::audit::{self, Subject};
use crate::domain::event;
use crate::domain::guard::{self, Decision, Facts};
use crate::domain::outcome::{Fault, Outcome, OutcomeKind};
use crate::domain::plan::Plan;
use crate::domain::reason::Reason;
use crate::domain::request::Target;
use crate::domain::retry::Cause;
use crate::domain::rules::Rules;
use crate::domain::summary;
use crate::ports::{Conclusion, Job, Lease, Ports, Recall, UserHold};

/// What to do with the delivery, and what to count.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// Acknowledge, if its result is confirmed: the job is concluded.
    Concluded(Concluded),
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

/// A job that was concluded just now.
#[derive(Debug, Clone)]
pub struct Concluded {
    /// How.
    pub outcome: Outcome,
    /// What the guard said, if it was asked.
    pub decision: Option<Decision>,
    /// When a worker first saw the request.
    pub first_seen: Timestamp,
    /// Whether its result is confirmed; if not, the delivery that comes again repeats it.
    pub told: bool,
}

/// How far a job came.
struct Progress {
    lease: Lease,
    user: Option<String>,
    decision: Option<Decision>,
    plan: Option<Plan>,
}

/// One delivery of one job, with its effects and rules.
pub struct Reset<'a, P> {
    /// The effects.
    pub ports: &'a P,
    /// The request and what its delivery said.
    pub job: &'a Job,
    /// The rules.
    pub rules: &'a Rules,
}

impl<P: Ports> Reset<'_, P> {
    /// One attempt and what follows from it; `jitter` is in 0..1.
    pub async fn run(&self, jitter: f64) -> Result<Settlement, Fault> {
        // A deferred copy was let in when it came first; its job may be under way.
        let may = guard::may_ask(&self.job.request, self.job.envelope.producer.as_deref(), &self.rules.policy);
        if let (Decision::Deny(rule), false) = (may, self.job.envelope.is_deferred_copy()) {
            return self.refuse(OutcomeKind::Denied, rule.reason(), Some(Decision::Deny(rule))).await;
        }
        let (lease, plan, fault) = match self.ports.recall(self.job).await? {
            Recall::Leased(lease, plan) => (lease, plan, None),
            Recall::Busy(lease) => (lease, None, Some(Fault::JobLeased)),
            Recall::LedgerLost(lease) => (lease, None, Some(Fault::Permanent { reason: Reason::LedgerLost })),
            Recall::Superseded => return Ok(Settlement::Superseded),
            Recall::Reused => return self.refuse(OutcomeKind::Rejected, Reason::IdReused, None).await,
            Recall::Concluded(event) => {
                self.ports.publish(&event).await?;
                self.ports.mark_published(&event).await?;
                return Ok(Settlement::Repeated);
            }
        };
        let user = plan.as_ref().map(|plan| plan.user.clone());
        let mut progress = Progress { lease, user, decision: None, plan };
        let ended = if let Some(fault) = fault { Err(fault) } else { self.attempt(&mut progress).await };
        match ended {
            Ok(outcome) => self.conclude(progress, outcome).await,
            Err(fault) => self.stopped(progress, fault, jitter).await,
        }
    }

    /// One attempt: surveys, decides, plans, removes, proves. A recorded plan is finished, never made anew.
    async fn attempt(&self, progress: &mut Progress) -> Result<Outcome, Fault> {
        self.still_wanted(progress)?;
        let open = progress.plan.as_ref().is_none_or(Plan::has_open_steps);
        if open && let Some(outcome) = self.prepare(progress).await? {
            return Ok(outcome);
        }
        let Progress { lease, plan: Some(plan), .. } = progress else { return Err(Fault::Stopped) };
        self.carry_out(lease, plan).await?;
        self.verify(plan).await?;
        Ok(summary::of_plan(plan, None))
    }

    /// Refuses a job that is past its deadline, or past its expiry before anything was done.
    fn still_wanted(&self, progress: &Progress) -> Result<(), Fault> {
        let (now, first_seen) = (self.ports.now(), progress.lease.first_seen);
        let begun = progress.plan.as_ref().is_some_and(Plan::has_begun);
        if now >= self.job.request.expiry(first_seen) && !begun {
            return Err(Fault::Permanent { reason: Reason::Expired });
        }
        if now >= self.rules.limits.deadline_of(first_seen) {
            return Err(Fault::Permanent { reason: Reason::DeadlineExceeded });
        }
        Ok(())
    }

    /// Everything before a change; it may end the job. Every attempt asks the guard: people become administrators.
    async fn prepare(&self, progress: &mut Progress) -> Result<Option<Outcome>, Fault> {
        let request = &self.job.request;
        // A recorded plan is for an object id; names may have changed since.
        let planned_for = progress.plan.as_ref().map(|plan| Target::of_object(&plan.user));
        let user = self.ports.resolve(planned_for.as_ref().unwrap_or(&request.target)).await?;
        progress.user = Some(user.object_id.clone());
        let hold = self.ports.take_user(&progress.lease, &user).await?;
        let UserHold::Taken(last_reset) = hold else { return Err(Fault::UserHeld) };
        let asked = self.ports.now();
        let facts = Facts { last_reset, ..self.ports.survey(&user).await? };
        if let Some(plan) = &mut progress.plan {
            plan.spare_unread(&facts.unread, facts.beta);
            plan.reconcile(&facts.methods, asked);
        }
        let decision = guard::decide(request, &user, &facts, &self.rules.policy, self.ports.now());
        progress.decision = Some(decision);
        if let Decision::Deny(rule) = decision {
            return Ok(Some(summary::stopped(progress.plan.as_ref(), rule.reason(), Some(rule.name().into()))));
        }
        if progress.plan.is_some() {
            return Ok(None);
        }
        let digest = |kind, value: &str| self.ports.digest(&user.object_id, kind, value);
        let mut plan = Plan::make(&user.object_id, request, &facts, &digest);
        plan.listed(asked);
        let planned = summary::planned(&plan);
        if request.dry_run {
            return Ok(Some(planned));
        }
        if request.only_lists() {
            return Ok(Some(summary::of_plan(&plan, None)));
        }
        let (calls, now) = (self.ports.calls(), self.ports.now());
        let subject = self.subject(Some(&plan.user), Some(decision), &calls);
        self.ports.write_plan(&progress.lease, &plan, audit::intent(&subject, &planned, now)).await?;
        progress.plan = Some(plan);
        Ok(None)
    }

    /// Tells how the job ended: records, then publishes. The caller acknowledges.
    async fn conclude(&self, progress: Progress, outcome: Outcome) -> Result<Settlement, Fault> {
        let changes = progress.plan.as_ref().map(Plan::changes).unwrap_or_default();
        let steps = progress.plan.iter().flat_map(|plan| &plan.steps);
        let calls: Vec<Uuid> =
            self.ports.calls().into_iter().chain(steps.flat_map(|step| step.calls.clone())).collect();
        let Progress { lease, user, decision, .. } = progress;
        let (user, attempts, now) = (user.as_deref(), lease.attempts + 1, self.ports.now());
        let facts = event::Facts { user, attempts, started_at: lease.first_seen, finished_at: now };
        let event = event::result("result", &self.job.request, &self.job.envelope, &outcome, &facts);
        let audit = audit::conclusion(&self.subject(user, decision, &calls), &outcome, now);
        let conclusion = Conclusion { outcome, event, audit, changes };
        self.ports.record_outcome(&lease, &conclusion).await?;
        let told = self.ports.publish(&conclusion.event).await.is_ok();
        if told {
            // Where this fails, the result goes out once more under the same id.
            let _ = self.ports.mark_published(&conclusion.event).await;
        }
        let reason = conclusion.outcome.reason.code();
        info!(request.id = %self.job.request.key, outcome = conclusion.outcome.kind.name(), reason, attempts, "job concluded");
        let (outcome, first_seen) = (conclusion.outcome, lease.first_seen);
        Ok(Settlement::Concluded(Concluded { outcome, decision, first_seen, told }))
    }

    fn subject<'s>(&'s self, user: Option<&'s str>, decision: Option<Decision>, calls: &'s [Uuid]) -> Subject<'s> {
        let (Rules { policy, app, .. }, producer) = (self.rules, self.job.envelope.producer.as_deref());
        Subject { request: &self.job.request, producer, user, decision, policy, app, calls }
    }
}
