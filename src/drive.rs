//! What both drivers do with a job: work on it until it can be settled, and count what became of it.

use std::time::Duration;

use jiff::Timestamp;
use tracing::debug;

use crate::adapters::JobPorts;
use crate::domain::outcome::{Fault, OutcomeKind};
use crate::domain::reason::Reason;
use crate::domain::request::Lane;
use crate::domain::retry::Cause;
use crate::domain::rules::Rules;
use crate::metrics::Metrics;
use crate::ports::{Job, Ports};
use crate::reset::{Concluded, Reset, Settlement};
use crate::trace::Span;

/// The longest wait between two tries while the ledger is away.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);

/// Works on a job that was received then, within its trace, and counts.
pub async fn drive(ports: &JobPorts, job: &Job, rules: &Rules, metrics: &Metrics, received: Timestamp) -> Settlement {
    let lane = job.envelope.lane;
    metrics.job_began(lane);
    let _left = OnDrop(|| metrics.job_left(lane));
    let span = Span::process(&job.request.key, &job.envelope, ports.queue().as_deref());
    let settlement = span.context.scope(settle(&Reset { ports, job, rules }, metrics)).await;
    count(job, &settlement, metrics, received);
    tell(span, &settlement);
    settlement
}

/// Tells in the trace what became of a job.
fn tell(mut span: Span, settlement: &Settlement) {
    let word = match settlement {
        Settlement::Concluded(Concluded { outcome, .. }) | Settlement::Refused(outcome, _) => {
            let bad = matches!(outcome.kind, OutcomeKind::Failed | OutcomeKind::Partial);
            span.error = bad.then(|| outcome.reason.code().to_owned());
            span.note("mfa_reset.outcome", outcome.kind.name());
            span.note("mfa_reset.reason", outcome.reason.code());
            "concluded"
        }
        Settlement::Deferred(cause) | Settlement::Again(cause) => {
            span.note("mfa_reset.reason", cause.name());
            "deferred"
        }
        Settlement::Repeated => "repeated",
        Settlement::Superseded => "superseded",
        Settlement::GivenBack => "given_back",
    };
    span.note("mfa_reset.settlement", word);
    span.end();
}

/// Runs attempts until the delivery can be settled: again where the wait was short, and in place where nothing can be
/// written down because the ledger is away.
async fn settle(reset: &Reset<'_, JobPorts>, metrics: &Metrics) -> Settlement {
    let mut patience = Duration::from_secs(1);
    loop {
        match reset.run(fastrand::f64()).await {
            Ok(Settlement::Again(cause)) => metrics.deferred(cause),
            Ok(settlement) => return settlement,
            Err(Fault::Stopped) => return Settlement::GivenBack,
            Err(fault) => {
                // Whoever met it has told it: every job in hand waits here.
                let retry_after_seconds = patience.as_secs();
                debug!(request.id = %reset.job.request.key, error = %fault, retry_after_seconds, "job waits");
                if reset.ports.pause(patience).await.is_err() {
                    return Settlement::GivenBack;
                }
                metrics.deferred(Cause::Unavailable);
                patience = (patience * 2).min(LONGEST_PATIENCE);
            }
        }
    }
}

/// Counts a body that was no request.
pub fn count_rejection(lane: Lane, reason: Reason, metrics: &Metrics, received: Timestamp) {
    metrics.job_concluded(lane, (OutcomeKind::Rejected, reason), since(received), None);
}

/// Counts what became of a job.
pub fn count(job: &Job, settlement: &Settlement, metrics: &Metrics, received: Timestamp) {
    let lane = job.envelope.lane;
    match settlement {
        Settlement::Concluded(Concluded { outcome, decision, first_seen, .. }) => {
            let age = job.request.requested_at.map(since);
            metrics.job_concluded(lane, (outcome.kind, outcome.reason), since(*first_seen), age);
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
