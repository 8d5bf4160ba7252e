//! One delivery, from its body to its acknowledgement.
//!
//! None stays in hand for ever, whatever it waits for: the broker takes a consumer for dead that holds one for half an
//! hour, and everything with it.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Worker;
use super::suspicion::{Judge, Judgement, after_panic};
use crate::adapters::amqp::{Delivery, Outgoing, Publisher, Session, Suspicion};
use crate::adapters::ledger::Overdue;
use crate::adapters::{JobPorts, Outlet, Refusals};
use crate::domain::event;
use crate::domain::reason::Reason;
use crate::domain::request::{MAX_BODY, Malformed, Request};
use crate::domain::retry::Cause;
use crate::drive::{count, count_rejection, drive};
use crate::ports::Job;
use crate::reset::{Reset, Settlement};

/// How long a delivery may be worked on. With both of the next, a third of the broker's shortest time-out.
const IN_HAND: Duration = Duration::from_secs(540);
/// How long its work may take to stop after that, ...
const STOPPING: Duration = Duration::from_secs(30);
/// ... and a copy to be handed on.
const HANDING_ON: Duration = Duration::from_secs(30);
/// How long a copy that is handed on stays away.
const ROUND: Duration = Duration::from_secs(10);
/// How often jobs are looked for that nobody delivers any more.
const SWEEP: Duration = Duration::from_secs(60);
/// How long after the deadline such a job is left to its own delivery, at most.
const LONGEST_SLACK: Duration = Duration::from_secs(600);

/// What every delivery of a session needs.
#[derive(Clone)]
pub(super) struct Here {
    worker: Worker,
    publisher: Publisher,
    /// Ends the session.
    session: CancellationToken,
    /// Stops attempts before their next call; the session goes on.
    pub(super) halt: CancellationToken,
    /// Counts the messages that the broker refuses now: while there is one, nothing new is consumed.
    pub(super) refusals: Refusals,
    judge: Arc<Judge>,
}

impl Here {
    /// Makes it ready for a session, the first of its process or a later one.
    pub(super) fn new(worker: &Worker, session: &Session, first: bool) -> Self {
        let health = worker.health.clone();
        Self {
            worker: worker.clone(),
            publisher: session.publisher(),
            session: session.token().clone(),
            // The session's own token would take the connection with it: a drain stops attempts and still settles.
            halt: session.token().child_token(),
            refusals: Arc::new(move |one_more| health.refused(one_more)),
            judge: Arc::new(Judge::new(first)),
        }
    }

    /// One delivery, from its body to its acknowledgement.
    pub(super) async fn handle(mut self, delivery: Delivery) {
        let received = Timestamp::now();
        let everybody = self.halt.clone();
        self.halt = everybody.child_token();
        if delivery.redelivered {
            self.worker.metrics.redelivered();
        }
        // On a first delivery the count is whatever the producer wrote.
        let returns = if delivery.redelivered { delivery.delivery_count } else { 0 };
        let work = async {
            match self.judge.judge(delivery.suspicion, returns) {
                Judgement::Work => self.work(&delivery, received).await,
                Judgement::HandOn(suspicion, wait) => {
                    if delivery.suspicion.is_none() {
                        warn!(deliveries = returns, "a delivery that came back often goes round until it is its turn");
                    }
                    tokio::select! {
                        () = sleep(wait) => self.hand_on(&delivery, Some(suspicion)).await,
                        () = self.halt.cancelled() => false,
                    }
                }
                Judgement::Bury => self.bury(&delivery, received).await,
            }
        };
        let again = match patiently(work, &self.halt).await {
            Ended::Settled => return acknowledge(delivery).await,
            // The broker has it back when the session ends.
            Ended::Died | Ended::Left if everybody.is_cancelled() => return,
            Ended::Died => Some(after_panic(delivery.suspicion)),
            Ended::Left => delivery.suspicion,
        };
        warn!(redelivered = delivery.redelivered, "a delivery could not be settled: it goes round");
        self.halt = everybody.clone();
        if timeout(HANDING_ON, self.hand_on(&delivery, again)).await == Ok(true) {
            acknowledge(delivery).await;
        } else if !everybody.is_cancelled() {
            error!("a delivery cannot be settled: everything in hand goes back to the broker");
            self.session.cancel();
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
            while let Ok(Some(overdue)) = self.worker.shared.ledger.overdue(patience, now).await {
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

    /// `true` where the delivery can be acknowledged.
    async fn work(&self, delivery: &Delivery, received: Timestamp) -> bool {
        let request = match Request::parse(&delivery.body, &delivery.envelope, &self.worker.rules.profiles) {
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
            Settlement::GivenBack | Settlement::Again(_) => false,
            Settlement::Refused(outcome, _) if outcome.reason == Reason::IdReused => {
                self.dead_letter(delivery, outcome.reason, "the id belongs to another request", received).await
            }
            Settlement::Concluded(concluded) => concluded.told,
            Settlement::Repeated | Settlement::Superseded | Settlement::Refused(..) | Settlement::Deferred(_) => true,
        }
    }

    /// Leaves the delivery to whoever gets it next, as a copy that the broker counts anew.
    async fn hand_on(&self, delivery: &Delivery, suspicion: Option<Suspicion>) -> bool {
        let copy = Outgoing::again(&delivery.body, &delivery.envelope, ROUND, suspicion);
        let handed_on = self.publish(&copy).await;
        if handed_on {
            debug!(?suspicion, "a delivery goes round");
            self.worker.metrics.deferred(Cause::Fault);
        }
        handed_on
    }

    /// No worker survives it, so a person has to look.
    async fn bury(&self, delivery: &Delivery, received: Timestamp) -> bool {
        error!("a delivery that ends whatever works on it is a dead letter");
        self.dead_letter(delivery, Reason::AttemptsExhausted, "every worker that tried it ended", received).await
    }

    /// A body that is no request: its sender hears why, the body is kept for people, the queue goes on.
    async fn reject(&self, delivery: &Delivery, malformed: &Malformed, received: Timestamp) -> bool {
        let event = event::rejection(malformed, &delivery.body, &delivery.envelope, received);
        let told = self.publish(&Outgoing::result(&event)).await;
        let kept = told && self.dead_letter(delivery, malformed.reason, &malformed.flaw.to_string(), received).await;
        if kept {
            count_rejection(delivery.envelope.lane, malformed.reason, &self.worker.metrics, received);
        }
        kept
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

/// How work on a delivery ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It can be acknowledged.
    Settled,
    /// It cannot, or nobody waits for it any longer.
    Left,
    /// It panicked.
    Died,
}

/// Waits for work to end, for so long as a delivery may be in hand; then asks it to stop, and then leaves it.
async fn patiently(work: impl Future<Output = bool>, stop: &CancellationToken) -> Ended {
    let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
    let mut ended = timeout(IN_HAND, &mut work).await;
    if ended.is_err() {
        stop.cancel();
        ended = timeout(STOPPING, work).await;
    }
    match ended {
        Ok(Ok(true)) => Ended::Settled,
        Ok(Ok(false)) | Err(_) => Ended::Left,
        Ok(Err(_)) => Ended::Died,
    }
}

/// The last act. Where the channel is gone the broker delivers again, and the ledger knows what was done.
async fn acknowledge(delivery: Delivery) {
    if let Err(lost) = delivery.ack().await {
        warn!(error = %lost, "an acknowledgement was lost; the delivery comes again");
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn check(work: impl Future<Output = bool>, stop: &CancellationToken, ended: Ended, seconds: u64) {
        let started = Instant::now();
        assert_eq!(patiently(work, stop).await, ended);
        assert_eq!(started.elapsed().as_secs(), seconds);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_in_hand_for_more_than_ten_minutes() {
        let stop = CancellationToken::new();
        check(async { true }, &stop, Ended::Settled, 0).await;
        check(sleep(IN_HAND / 2).map(|()| false), &stop, Ended::Left, 270).await;
        assert!(!stop.is_cancelled());
        check(stop.cancelled().map(|()| true), &stop, Ended::Settled, 540).await;
        check(std::future::pending(), &stop, Ended::Left, 570).await;
        assert!(IN_HAND + STOPPING + HANDING_ON <= Duration::from_secs(600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_the_work_on_its_own_delivery() {
        check(async { panic!("a bug") }, &CancellationToken::new(), Ended::Died, 0).await;
    }
}
