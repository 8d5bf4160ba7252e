//! DOES: one job, front to back. `attempt` acts and `conclude` tells; in `ending`, what follows where the job does not
//! end.
//!
//! Every effect goes through [`Ports`]. The order is the promise: plan and audit record are durable before any change,
//! each change is written down before it is sent; the result is recorded, published, and then acknowledged.

mod ending;

use std::time::Duration;

use jiff::Timestamp;
use tracing::info;
use uuid::Uuid;

use crate::domain::audit::{self, Subject};
use crate::domain::event;
use crate::domain::guard::{self, Decision, Facts};
use crate::domain::outcome::{Fault, MethodResult, Outcome, OutcomeKind};
use crate::domain::plan::{Action, Next, Plan, Setting};
use crate::domain::reason::Reason;
use crate::domain::request::Target;
use crate::domain::retry::Cause;
use crate::domain::rules::Rules;
use crate::domain::summary;
use crate::domain::task::Private;
use crate::ports::{Change, Conclusion, Job, Lease, Ports, Recall, Reply, UserHold};

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

/// The waits before each list that is to prove a removal, in seconds: Graph lags.
const LOOKS: [u64; 7] = [0, 1, 2, 4, 8, 15, 30];
/// How many calls of one attempt may be throttled or end unknown.
const PATIENCE: u32 = 5;
/// The wait of a job whose lists grow old faster than its turn comes.
const WAIT: Duration = Duration::from_secs(10);

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

    /// Calls the open steps, never two at once. A lost answer is settled by a list.
    async fn carry_out(&self, lease: &Lease, plan: &mut Plan) -> Result<(), Fault> {
        let (mut trouble, mut stale) = (0, false);
        loop {
            if stale || plan.is_in_doubt() {
                let asked = self.ports.now();
                plan.reconcile(&self.ports.list_methods(&plan.user, &plan.reach()).await?, asked);
            }
            let index = match plan.next_step() {
                Next::Call(index) => index,
                Next::Wait(time) => {
                    self.ports.pause(time).await?;
                    continue;
                }
                Next::Nothing => break,
            };
            self.ports.admit().await?;
            // The wait may have been long enough for another phone to take the place of the planned one.
            stale = plan.is_stale(index, self.ports.now());
            if stale && trouble >= PATIENCE {
                return Err(Fault::Throttled { after: WAIT });
            }
            match if stale { Ok(()) } else { self.call(lease, plan, index).await } {
                Ok(()) => trouble += u32::from(stale),
                Err(Fault::Throttled { .. } | Fault::Unknown { .. }) if trouble < PATIENCE => trouble += 1,
                Err(fault) => return Err(fault),
            }
        }
        self.ports.advance(lease, plan.changes(), None).await?;
        plan.written();
        Ok(())
    }

    /// One step: writes down that it is sent, calls, and notes the answer.
    async fn call(&self, lease: &Lease, plan: &mut Plan, index: usize) -> Result<(), Fault> {
        let (id, crossed) = (self.ports.call_id(), plan.changes());
        let sent = plan.send(index, self.ports.now(), id);
        let advanced = self.ports.advance(lease, crossed, Some((index, sent))).await.map(|()| plan.written());
        let answer = match advanced {
            Ok(()) => self.act(&plan.user, &plan.steps[index].action, id).await,
            Err(fault) => Err(fault),
        };
        let removes = matches!(plan.steps[index].action, Action::Remove(_));
        match answer {
            Ok(Reply::Done) if removes => plan.settle(index, MethodResult::Removed, None),
            Ok(Reply::Done) => plan.settle(index, MethodResult::Done, None),
            Ok(Reply::NotFound) => plan.not_found(index),
            Ok(Reply::Refused(refusal)) => plan.put_off(index, refusal),
            Ok(Reply::Forbidden) => plan.settle(index, MethodResult::Forbidden, Some(Reason::Forbidden)),
            Ok(Reply::Impossible) => plan.settle(index, MethodResult::Failed, Some(Reason::GraphRefused)),
            Err(fault) => {
                // Every other fault than an unknown outcome had no effect.
                if !matches!(fault, Fault::Unknown { .. }) {
                    plan.unsend(index);
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The call of a step. A value comes from the request; a plan keeps its digest only.
    async fn act(&self, user: &str, action: &Action, id: Uuid) -> Result<Reply, Fault> {
        let change = match action {
            Action::RevokeSessions => return self.ports.revoke_sessions(user, id).await.map(|()| Reply::Done),
            Action::Remove(method) => return self.ports.remove(user, method, id).await,
            Action::SetDefault(preference) => Change::Default(*preference),
            Action::SetSmsSignIn(on) => Change::SmsSignIn(*on),
            Action::SetPerUserMfa(state) => Change::PerUserMfa(*state),
            Action::SetValue(Setting { method_type, digest, replaces, .. }) => {
                let mut values = self.job.request.tasks.iter().filter_map(|task| task.value(*method_type));
                let same = |value: &&Private| self.ports.digest(user, *method_type, value.expose()) == *digest;
                let Some(value) = values.find(same) else { return Ok(Reply::Impossible) };
                Change::Value { method_type: *method_type, value, replaces: *replaces }
            }
        };
        self.ports.change(user, change, id).await
    }

    /// Proves by reading that every planned method is gone, and every value set. A method registered since is no residue.
    async fn verify(&self, plan: &mut Plan) -> Result<(), Fault> {
        let (mut residue, mut listed) = (Vec::new(), Vec::new());
        if plan.can_be_verified() {
            for wait in LOOKS {
                self.ports.pause(Duration::from_secs(wait)).await?;
                listed = self.ports.list_methods(&plan.user, &plan.reach()).await?;
                residue = plan.residue(&listed);
                if residue.is_empty() {
                    break;
                }
            }
        }
        plan.verified(&residue, &listed);
        Ok(())
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
