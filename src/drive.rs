//! What both drivers do with a job: work on it until it can be settled, and count what became of it.

use std::time::Duration;

use jiff::Timestamp;

use crate::adapters::JobPorts;
use crate::domain::outcome::OutcomeKind;
use crate::domain::reason::Reason;
use crate::domain::request::Lane;
use crate::metrics::Metrics;
use crate::ports::Job;
use crate::reset::{self, Rules, Settlement};

/// Works on a job that was received then, and counts.
pub async fn drive(ports: &JobPorts, job: &Job, rules: &Rules, metrics: &Metrics, received: Timestamp) -> Settlement {
    let lane = job.envelope.lane;
    metrics.job_began(lane);
    let _left = OnDrop(|| metrics.job_left(lane));
    let settlement = reset::settle(ports, job, rules, fastrand::f64, |cause| metrics.deferred(cause)).await;
    count(job, &settlement, metrics, received);
    settlement
}

/// Counts a body that was no request.
pub fn count_rejection(lane: Lane, reason: Reason, metrics: &Metrics, received: Timestamp) {
    metrics.job_concluded(lane, (OutcomeKind::Rejected, reason), since(received), None);
}

fn count(job: &Job, settlement: &Settlement, metrics: &Metrics, received: Timestamp) {
    let lane = job.envelope.lane;
    match settlement {
        Settlement::Concluded(outcome, decision) => {
            let age = job.request.requested_at.map(since);
            metrics.job_concluded(lane, (outcome.kind, outcome.reason), since(received), age);
            decision.iter().for_each(|decision| metrics.guard(*decision));
            for method in &outcome.methods {
                method.result.iter().for_each(|result| metrics.removal(method.method_type, *result));
            }
        }
        Settlement::Refused(outcome, decision) => {
            metrics.job_concluded(lane, (outcome.kind, outcome.reason), since(received), None);
            decision.iter().for_each(|decision| metrics.guard(*decision));
        }
        Settlement::Deferred(cause) => metrics.deferred(*cause),
        Settlement::Repeated | Settlement::Superseded | Settlement::Again(_) | Settlement::GivenBack => {}
    }
}

fn since(time: Timestamp) -> Duration {
    Timestamp::now().duration_since(time).try_into().unwrap_or_default()
}

/// Runs when a job leaves, by whatever way.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
