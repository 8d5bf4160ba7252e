//! DRIVES: broker session, deliveries, settlement, drain.
//!
//! [`session`] is one broker session; [`run`] is the loop round it that backs off and starts afresh. A delivery is
//! acknowledged last, by [`handle`], after [`crate::reset`] has recorded and published.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::adapters::amqp::{self, Delivery, Incoming, Outgoing, PublishError, Publisher, Session};
use crate::adapters::{JobPorts, Outlet, Shared};
use crate::admin::Health;
use crate::domain::event;
use crate::domain::reason::Reason;
use crate::domain::request::{Lane, Malformed, Request};
use crate::metrics::Metrics;
use crate::ports::Job;
use crate::reset::{self, Rules, Settlement};

/// What a worker needs.
#[derive(Clone)]
pub struct Worker {
    /// Graph and ledger.
    pub shared: Arc<Shared>,
    /// What to go by.
    pub rules: Arc<Rules>,
    /// Where the broker is.
    pub broker: Arc<amqp::Settings>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` says.
    pub health: Health,
    /// How long a drain may take.
    pub grace: Duration,
}

/// A hold longer than this stops consumption, rather than pump the backlog through the retry queues.
const LONG_HOLD: Duration = Duration::from_secs(30);
/// From this many deliveries on, one is suspected to kill the worker and runs alone.
const SUSPICIOUS: u64 = 3;
/// How much of the grace period attempts get to finish on their own.
const SOFT_SHARE: f64 = 0.7;

/// Consumes until `stop`, through as many broker sessions as it takes.
pub async fn run(worker: Worker, stop: CancellationToken) {
    let mut jobs = JoinSet::new();
    let backoff = || {
        let waits = ExponentialBuilder::default().with_min_delay(Duration::from_millis(500));
        waits.with_max_delay(Duration::from_secs(30)).with_jitter().without_max_times().build()
    };
    let mut waits = backoff();
    while !stop.is_cancelled() {
        let started = Instant::now();
        let ended = session(&worker, &mut jobs, &stop).await;
        worker.disconnected();
        let Err(error) = ended else { break };
        if started.elapsed() > Duration::from_secs(60) {
            waits = backoff();
        }
        let wait = waits.next().unwrap_or(Duration::from_secs(30));
        warn!(error = %error, retry_after_ms = wait.as_millis(), "broker session ended");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
    // Attempts of sessions that died finish the call in flight; a drained session has left none.
    let _ = tokio::time::timeout(worker.grace.mul_f64(1.0 - SOFT_SHARE), join_all(&mut jobs)).await;
}

/// One broker session, from connect to drain (`Ok`) or to its death (`Err`).
async fn session(worker: &Worker, jobs: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), amqp::SessionError> {
    let halt = CancellationToken::new();
    let _halt_on_drop = halt.clone().drop_guard();
    let mut session = tokio::select! {
        session = Session::open(&worker.broker, halt.clone()) => session?,
        () = stop.cancelled() => return Ok(()),
    };
    worker.health.set_publisher(true);
    worker.metrics.set_broker_connected(true);
    let here = Here { worker: worker.clone(), publisher: session.publisher(), halt: halt.clone(), turns: Arc::default() };
    start(&mut session).await?;
    worker.health.set_consuming(true);
    info!("consuming");
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut resume: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return drain(worker, session, &halt, jobs).await,
            () = halt.cancelled() => return Err(amqp::SessionError::lost("the connection is gone")),
            Some(ended) = jobs.join_next() => report(ended),
            _ = tick.tick() => {
                worker.health.beat();
                pace(worker, &mut session, &mut resume).await?;
            }
            incoming = session.next() => match incoming {
                Incoming::Delivery(delivery) => {
                    jobs.spawn(here.clone().handle(delivery));
                }
                Incoming::Ended(reason) => return Err(amqp::SessionError::lost(reason)),
            },
        }
    }
}

async fn start(session: &mut Session) -> Result<(), amqp::SessionError> {
    for lane in Lane::ALL {
        session.consume(lane).await?;
    }
    Ok(())
}

/// Stops consuming under a long hold or a blocked connection, and resumes with jitter when it is over.
async fn pace(worker: &Worker, session: &mut Session, resume: &mut Option<Instant>) -> Result<(), amqp::SessionError> {
    let hold = worker.shared.graph.held_for();
    let waits = hold > LONG_HOLD || session.blocked() || worker.health.publisher_refused();
    match *resume {
        None if waits => {
            info!(hold_seconds = hold.as_secs(), blocked = session.blocked(), "consumption stops");
            worker.health.set_consuming(false);
            for lane in Lane::ALL {
                session.cancel(lane).await?;
            }
            *resume = Some(Instant::now() + hold.mul_f64(0.1 * fastrand::f64()));
        }
        Some(_) if waits => *resume = Some(Instant::now() + hold + Duration::from_secs(5).mul_f64(fastrand::f64())),
        Some(at) if Instant::now() >= at => {
            info!("consumption resumes");
            start(session).await?;
            worker.health.set_consuming(true);
            *resume = None;
        }
        None | Some(_) => {}
    }
    Ok(())
}

/// Two stages under one deadline: take nothing more and let attempts finish; then stop them before their next call.
/// What is left goes back to the broker.
async fn drain(
    worker: &Worker,
    mut session: Session,
    halt: &CancellationToken,
    jobs: &mut JoinSet<()>,
) -> Result<(), amqp::SessionError> {
    worker.health.set_draining();
    info!(jobs = jobs.len(), grace_seconds = worker.grace.as_secs(), "draining");
    for lane in Lane::ALL {
        if let Err(error) = session.cancel(lane).await {
            warn!(error = %error, "a consumer could not be cancelled");
        }
    }
    let soft = worker.grace.mul_f64(SOFT_SHARE);
    if tokio::time::timeout(soft, join_all(jobs)).await.is_err() {
        warn!(jobs = jobs.len(), "attempts are stopped before their next call");
        halt.cancel();
        let hard = worker.grace.saturating_sub(soft).mul_f64(0.8);
        if tokio::time::timeout(hard, join_all(jobs)).await.is_err() {
            error!(jobs = jobs.len(), "attempts did not stop in time; their deliveries go back to the broker");
            jobs.abort_all();
        }
    }
    session.close().await;
    info!("drained");
    Ok(())
}

async fn join_all(jobs: &mut JoinSet<()>) {
    while let Some(ended) = jobs.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(error = %error, "a job died; its delivery goes back to the broker");
    }
}

impl Worker {
    fn disconnected(&self) {
        self.health.set_publisher(false);
        self.health.set_consuming(false);
        self.metrics.set_broker_connected(false);
    }
}

/// What every delivery of a session needs.
#[derive(Clone)]
struct Here {
    worker: Worker,
    publisher: Publisher,
    halt: CancellationToken,
    /// Held shared by most, alone by a suspicious delivery.
    turns: Arc<RwLock<()>>,
}

impl Here {
    /// One delivery, from its body to its acknowledgement.
    async fn handle(self, delivery: Delivery) {
        let received = Timestamp::now();
        if delivery.redelivered {
            self.worker.metrics.redelivered();
        }
        if delivery.delivery_count > SUSPICIOUS {
            warn!(deliveries = delivery.delivery_count, "a delivery that came back often runs alone");
            let _alone = self.turns.write().await;
            self.work(delivery, received).await;
        } else {
            let _shared = self.turns.read().await;
            self.work(delivery, received).await;
        }
    }

    async fn work(&self, delivery: Delivery, received: Timestamp) {
        let request = match Request::parse(&delivery.body, &delivery.envelope) {
            Ok(request) => request,
            Err(malformed) => return self.reject(delivery, &malformed, received).await,
        };
        let (metrics, lane) = (&self.worker.metrics, delivery.envelope.lane);
        let job = Job { request, envelope: delivery.envelope.clone() };
        let ports = JobPorts::new(
            self.worker.shared.clone(),
            self.outlet(),
            job.clone(),
            delivery.body.to_vec(),
            self.halt.clone(),
        );
        metrics.job_started(lane);
        let settlement =
            reset::settle(&ports, &job, &self.worker.rules, fastrand::f64, |cause| metrics.deferred(cause)).await;
        metrics.job_ended(lane);
        match &settlement {
            Settlement::GivenBack => return,
            Settlement::Refused(outcome) if outcome.reason == Reason::IdReused => {
                let detail = "the id belongs to another request";
                if !self.dead_letter(&delivery, outcome.reason, detail).await {
                    return;
                }
            }
            Settlement::Deferred(cause) => metrics.deferred(*cause),
            Settlement::Concluded(..)
            | Settlement::Repeated
            | Settlement::Superseded
            | Settlement::Refused(_)
            | Settlement::Again(_) => {}
        }
        metrics.settled(&job, &settlement, received);
        acknowledge(delivery).await;
    }

    /// A body that is no request: its sender hears why, the body is kept for people, the queue goes on.
    async fn reject(&self, delivery: Delivery, malformed: &Malformed, received: Timestamp) {
        let event = event::rejection(malformed, &delivery.body, &delivery.envelope, received);
        let told = self.publish(&Outgoing::result(&event)).await;
        if told && self.dead_letter(&delivery, malformed.reason, &malformed.flaw.to_string()).await {
            self.worker.metrics.rejected(delivery.envelope.lane, malformed.reason);
            acknowledge(delivery).await;
        }
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason, detail: &str) -> bool {
        let letter = Outgoing::dead_letter(&delivery.body, &delivery.envelope, reason.code(), detail, Timestamp::now());
        let kept = self.publish(&letter).await;
        if kept {
            self.worker.metrics.dead_letter(reason);
        }
        kept
    }

    /// Publishes until the broker has it; `false` where the session ended first.
    async fn publish(&self, outgoing: &Outgoing) -> bool {
        crate::adapters::publish(&self.publisher, outgoing, &self.halt, &self.refused()).await.is_ok()
    }

    fn outlet(&self) -> Outlet {
        Outlet::Broker(self.publisher.clone(), self.refused())
    }

    fn refused(&self) -> Arc<dyn Fn(bool) + Send + Sync> {
        let health = self.worker.health.clone();
        Arc::new(move |refused| health.set_publisher(!refused))
    }
}

/// The last act. Where the channel is gone the broker delivers again, and the ledger knows what was done.
async fn acknowledge(delivery: Delivery) {
    if let Err(lost) = delivery.ack().await {
        warn!(error = %lost, "an acknowledgement was lost; the delivery comes again");
    }
}
