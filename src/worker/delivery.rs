//! One delivery, from its body to its acknowledgement.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Worker;
use crate::adapters::amqp::{Delivery, Outgoing, Publisher, Session};
use crate::adapters::ledger::Overdue;
use crate::adapters::{JobPorts, Outlet, Refusals};
use crate::domain::event;
use crate::domain::reason::Reason;
use crate::domain::request::{MAX_BODY, Malformed, Request};
use crate::drive::{count, count_rejection, drive};
use crate::ports::Job;
use crate::reset::{Reset, Settlement};

/// After more returns than this, a delivery is suspected to kill the worker and runs alone.
const SUSPICIOUS: u64 = 3;
/// How often jobs are looked for that nobody delivers any more.
const SWEEP: Duration = Duration::from_secs(60);
/// How long after the deadline such a job is left to its own delivery, at most.
const LONGEST_SLACK: Duration = Duration::from_secs(600);
/// Suspicious deliveries draw lots of up to this length for their turn.
const LONGEST_DRAW: Duration = Duration::from_secs(5);

/// What every delivery of a session needs.
#[derive(Clone)]
pub(super) struct Here {
    worker: Worker,
    publisher: Publisher,
    /// Stops attempts before their next call; the session goes on.
    pub(super) halt: CancellationToken,
    refusals: Refusals,
    /// Held shared by most, alone by a suspicious delivery.
    turns: Arc<RwLock<()>>,
}

impl Here {
    /// Makes it ready for a session.
    pub(super) fn new(worker: &Worker, session: &Session) -> Self {
        // The session's own token would take the connection with it: a drain stops attempts and still settles.
        let halt = session.token().child_token();
        let (publisher, refusals) = (session.publisher(), refusals(worker));
        Self { worker: worker.clone(), publisher, halt, refusals, turns: Arc::default() }
    }

    /// One delivery, from its body to its acknowledgement.
    pub(super) async fn handle(self, delivery: Delivery) {
        let received = Timestamp::now();
        if delivery.redelivered {
            self.worker.metrics.redelivered();
        }
        // On a first delivery the count is whatever the producer wrote.
        if delivery.redelivered && delivery.delivery_count > SUSPICIOUS {
            warn!(deliveries = delivery.delivery_count, "a delivery that came back often runs alone");
            // Not in the order they came: the one that kills would always be the first.
            tokio::select! {
                () = tokio::time::sleep(LONGEST_DRAW.mul_f64(fastrand::f64())) => {}
                () = self.halt.cancelled() => return,
            }
            let _alone = self.turns.write().await;
            self.work(delivery, received).await;
        } else {
            let _shared = self.turns.read().await;
            self.work(delivery, received).await;
        }
    }

    /// Ends jobs that are past their deadline and that nobody delivers any more, as long as it is polled.
    pub(super) async fn sweep(self) {
        let deadline = self.worker.rules.limits.deadline;
        // Their own deliveries come first.
        let patience = deadline + (deadline / 10).min(LONGEST_SLACK);
        let mut often = tokio::time::interval(patience.min(SWEEP));
        loop {
            often.tick().await;
            let now = Timestamp::now();
            let before = now.saturating_sub(patience).unwrap_or(Timestamp::MIN);
            while let Ok(Some(overdue)) = self.worker.shared.ledger.overdue(before, now).await {
                let Overdue { lease, job, user, plan } = overdue;
                warn!(request.id = %job.request.key, "a job past its deadline was left by its message");
                let ports = JobPorts::new(
                    self.worker.shared.clone(),
                    self.outlet(),
                    job.clone(),
                    Vec::new(),
                    self.halt.clone(),
                );
                let reset = Reset { ports: &ports, job: &job, rules: &self.worker.rules };
                match reset.abandon(lease, user, plan).await {
                    Ok(settlement) => count(&job, &settlement, &self.worker.metrics, now),
                    Err(_) => break,
                }
            }
        }
    }

    async fn work(&self, delivery: Delivery, received: Timestamp) {
        let request = match Request::parse(&delivery.body, &delivery.envelope) {
            Ok(request) => request,
            Err(malformed) => return self.reject(delivery, &malformed, received).await,
        };
        let job = Job { request, envelope: delivery.envelope.clone() };
        let ports = JobPorts::new(
            self.worker.shared.clone(),
            self.outlet(),
            job.clone(),
            delivery.body.clone(),
            self.halt.clone(),
        );
        match drive(&ports, &job, &self.worker.rules, &self.worker.metrics, received).await {
            // Left unsettled: the broker has it back when the session ends.
            Settlement::GivenBack | Settlement::Again(_) => return,
            Settlement::Concluded(concluded) if !concluded.told => return,
            Settlement::Refused(outcome, _) if outcome.reason == Reason::IdReused => {
                let detail = "the id belongs to another request";
                if !self.dead_letter(&delivery, outcome.reason, detail, received).await {
                    return;
                }
            }
            Settlement::Concluded(..)
            | Settlement::Repeated
            | Settlement::Superseded
            | Settlement::Refused(..)
            | Settlement::Deferred(_) => {}
        }
        acknowledge(delivery).await;
    }

    /// A body that is no request: its sender hears why, the body is kept for people, the queue goes on.
    async fn reject(&self, delivery: Delivery, malformed: &Malformed, received: Timestamp) {
        let event = event::rejection(malformed, &delivery.body, &delivery.envelope, received);
        let told = self.publish(&Outgoing::result(&event)).await;
        if told && self.dead_letter(&delivery, malformed.reason, &malformed.flaw.to_string(), received).await {
            count_rejection(delivery.envelope.lane, malformed.reason, &self.worker.metrics, received);
            acknowledge(delivery).await;
        }
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason, detail: &str, received: Timestamp) -> bool {
        // A body over the limit is kept as far as the limit goes: copies of it would fill the broker.
        let kept_body = &delivery.body[..delivery.body.len().min(MAX_BODY)];
        let envelope = &delivery.envelope;
        let first_seen = envelope.first_seen.unwrap_or(received);
        let letter = Outgoing::dead_letter(
            kept_body,
            envelope,
            reason.code(),
            Some(detail),
            Some(first_seen),
            envelope.deferral,
        );
        let kept = self.publish(&letter).await;
        if kept {
            self.worker.metrics.dead_letter(reason);
        }
        kept
    }

    /// Publishes until the broker has it; `false` where the session ended first.
    async fn publish(&self, outgoing: &Outgoing) -> bool {
        crate::adapters::publish(&self.publisher, outgoing, &self.halt, &self.refusals).await.is_ok()
    }

    fn outlet(&self) -> Outlet {
        Outlet::Broker(self.publisher.clone(), self.refusals.clone())
    }
}

/// Counts the messages that the broker refuses now: while there is one, nothing new is consumed.
fn refusals(worker: &Worker) -> Refusals {
    let (health, refused) = (worker.health.clone(), AtomicUsize::new(0));
    Arc::new(move |one_more| {
        let before = if one_more { refused.fetch_add(1, SeqCst) } else { refused.fetch_sub(1, SeqCst) };
        health.set_publisher(!one_more && before == 1);
    })
}

/// The last act. Where the channel is gone the broker delivers again, and the ledger knows what was done.
async fn acknowledge(delivery: Delivery) {
    if let Err(lost) = delivery.ack().await {
        warn!(error = %lost, "an acknowledgement was lost; the delivery comes again");
    }
}
