//! How a delivery ends where its job does not: deferred, given back, or turned away at the door.

use std::time::Duration;

use tracing::{debug, warn};

use super::{Progress, Reset, Settlement};
use crate::domain::guard::Decision;
use crate::domain::outcome::{Fault, Outcome, OutcomeKind};
use crate::domain::plan::Plan;
use crate::domain::reason::Reason;
use crate::domain::retry::{self, Cause, Standing, Verdict};
use crate::domain::{audit, event, summary};
use crate::ports::{Deferral, Job, Lease, Ports};

/// A ticket is told of a wait longer than this.
const LONG_WAIT: Duration = Duration::from_secs(60);

impl<P: Ports> Reset<'_, P> {
    /// A fault stopped the attempt: [`retry::decide`] says what follows.
    pub(super) async fn stopped(&self, progress: Progress, fault: Fault, jitter: f64) -> Result<Settlement, Fault> {
        let lease = &progress.lease;
        let standing = Standing { first_seen: lease.first_seen, attempts: lease.attempts, deferrals: lease.deferrals };
        match retry::decide(&fault, standing, self.rules.limits, self.ports.now(), jitter) {
            Verdict::Conclude { reason, detail } => {
                let outcome = summary::stopped(progress.plan.as_ref(), reason, detail.map(str::to_owned));
                self.conclude(progress, outcome).await
            }
            Verdict::Defer { after, cause, spends } => {
                debug!(request.id = %self.job.request.key, error = %fault, retry_after_seconds = after.as_secs(), "job deferred");
                self.defer(progress, after, cause, spends).await
            }
            Verdict::GiveBack => {
                self.note(lease, progress.plan, Deferral::of(lease)).await?;
                Ok(Settlement::GivenBack)
            }
        }
    }

    /// Ends a job past its deadline that nobody delivers any more: frees its user and tells its ticket.
    pub async fn abandon(&self, lease: Lease, user: Option<String>, plan: Option<Plan>) -> Result<Settlement, Fault> {
        let outcome = summary::stopped(plan.as_ref(), Reason::DeadlineExceeded, None);
        self.conclude(Progress { lease, user, decision: None, plan }, outcome).await
    }

    /// Comes back later: waits the rest in place, leaves a copy with the broker, records its number.
    async fn defer(
        &self,
        progress: Progress,
        after: Duration,
        cause: Cause,
        spends: bool,
    ) -> Result<Settlement, Fault> {
        let Progress { lease, plan, .. } = progress;
        let ((rest, step), tell) = (retry::split(after), after > LONG_WAIT && !lease.told);
        if tell {
            let Job { request, envelope } = self.job;
            self.ports.publish(&event::delayed(request, envelope, after, cause.name(), self.ports.now())).await?;
        }
        // What was done is written down before the wait, and nobody need wait for this lease to run out.
        self.note(&lease, plan, Deferral { spends, told: tell, ..Deferral::of(&lease) }).await?;
        self.ports.pause(rest).await?;
        let Some(step) = step else { return Ok(Settlement::Again(cause)) };
        let number = lease.deferrals + 1;
        self.ports.publish_copy(self.job, &lease, number, step).await?;
        self.note(&lease, None, Deferral { number, ..Deferral::of(&lease) }).await?;
        Ok(Settlement::Deferred(cause))
    }

    async fn note(&self, lease: &Lease, plan: Option<Plan>, deferral: Deferral) -> Result<(), Fault> {
        let changes = plan.as_ref().map(Plan::changes).unwrap_or_default();
        self.ports.record_deferral(lease, &Deferral { changes, ..deferral }).await
    }

    /// Turns a request away: it never becomes a job, so it cannot take another request's key.
    pub(super) async fn refuse(
        &self,
        kind: OutcomeKind,
        reason: Reason,
        decision: Option<Decision>,
    ) -> Result<Settlement, Fault> {
        let (request, now) = (&self.job.request, self.ports.now());
        let step = request.not_enabled(&self.rules.policy.enabled_steps).filter(|_| reason == Reason::StepNotEnabled);
        let outcome = Outcome::untouched(kind, reason, step.map(str::to_owned));
        let facts = event::Facts { user: None, attempts: 0, started_at: now, finished_at: now };
        let event = event::result(reason.code(), request, &self.job.envelope, &outcome, &facts);
        self.ports.record_refusal(audit::conclusion(&self.subject(None, decision, &[]), &outcome, now)).await?;
        self.ports.publish(&event).await?;
        warn!(request.id = %request.key, reason = reason.code(), "request turned away");
        Ok(Settlement::Refused(outcome, decision))
    }
}
