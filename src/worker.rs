//! DRIVES: broker session, deliveries, settlement, drain.
//!
//! One function is one broker session; [`run`] is the loop round it that backs off and starts afresh. A delivery is
//! acknowledged last, after [`crate::reset`] has recorded and published. Nothing is consumed while the ledger cannot be
//! written, the broker refuses messages, or Graph asked for a long wait: what is in hand waits, and goes round after ten
//! minutes; the rest stays where it is.

mod delivery;
mod suspicion;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::adapters::amqp::{self, Inbox, Incoming, Lost, Session};
use crate::adapters::{Refused, Shared, upkeep};
use crate::admin::Health;
use crate::domain::request::Lane;
use crate::domain::rules::Rules;
use crate::metrics::Metrics;
use delivery::Here;

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
/// How often the loop turns.
const TICK: Duration = Duration::from_millis(50);
/// How long a session may take to find that all is well; after that there is something to be told.
const MOMENT: Duration = Duration::from_secs(1);
/// Consumption begins again within this after trouble, not everywhere at once.
const SPREAD: Duration = Duration::from_secs(5);
/// Up to which part of the grace period consumers may take to be cancelled, ...
const CANCEL_SHARE: f64 = 0.2;
/// ... attempts to finish on their own, ...
const SOFT_SHARE: f64 = 0.7;
/// ... attempts to stop before their next call, ...
const HARD_SHARE: f64 = 0.9;
/// ... and the last audit records to be published; what is left is for closing.
const POST_SHARE: f64 = 0.95;

/// Consumes until `stop`, through as many broker sessions as it takes.
pub async fn run(worker: Worker, stop: CancellationToken) {
    let mut jobs = JoinSet::new();
    let backoff = || {
        let waits = ExponentialBuilder::default().with_min_delay(Duration::from_millis(500));
        waits.with_max_delay(Duration::from_secs(30)).with_jitter().without_max_times().build()
    };
    let (mut waits, mut first) = (backoff(), true);
    while !stop.is_cancelled() {
        let started = Instant::now();
        let ended = session(&worker, first, &mut jobs, &stop).await;
        worker.disconnected();
        let Err(error) = ended else { break };
        first &= matches!(error, Ended::NotOpened(_));
        if started.elapsed() > Duration::from_secs(60) {
            waits = backoff();
        }
        let wait = waits.next().unwrap_or(Duration::from_secs(30));
        warn!(error = %error, retry_after_seconds = wait.as_secs_f64(), "broker session ended");
        tokio::select! {
            () = beating(&worker, tokio::time::sleep(wait)) => {}
            () = stop.cancelled() => {}
        }
    }
    // Attempts of sessions that died finish the call in flight; a drained session has left none.
    let _ = tokio::time::timeout(worker.grace.mul_f64(1.0 - SOFT_SHARE), join_all(&mut jobs)).await;
}

/// How a session ended that was not drained.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    NotOpened(amqp::SessionError),
    #[error("{0}")]
    Died(String),
}

/// One broker session, from connect to drain (`Ok`) or to its death (`Err`).
async fn session(worker: &Worker, first: bool, jobs: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), Ended> {
    let token = CancellationToken::new();
    let opened = tokio::select! {
        opened = beating(worker, Session::open(&worker.broker, token.clone())) => opened,
        () = stop.cancelled() => return Ok(()),
    };
    let (session, mut inbox) = opened.map_err(Ended::NotOpened)?;
    worker.metrics.set_broker_connected(true);
    let here = Here::new(worker, &session, first);
    // Nothing is consumed before something is published.
    let unproved = Refused::silently(&here.refusals);
    let (shared, metrics, refusals) = (worker.shared.clone(), worker.metrics.clone(), here.refusals.clone());
    let mut beside = JoinSet::new();
    beside.spawn(upkeep::post(shared, metrics, session.publisher(), refusals, unproved));
    beside.spawn(here.clone().sweep());
    beside.spawn(upkeep::mend(worker.broker.clone(), worker.health.clone()));
    let consumed = consume(worker, &session, &mut inbox, &here, jobs, stop).await;
    drop(beside);
    match consumed {
        Ok(()) => {
            beating(worker, drain(worker, session, &here.halt, jobs)).await;
            Ok(())
        }
        Err(Lost) => Err(Ended::Died(session.why().unwrap_or("the broker session is over").to_owned())),
    }
}

/// Spawns a job for every delivery until `stop` (`Ok`) or the end of the session.
async fn consume(
    worker: &Worker,
    session: &Session,
    inbox: &mut Inbox,
    here: &Here,
    jobs: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), Lost> {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace { consuming: false, told: None, since: Instant::now(), not_before: Instant::now() };
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = session.token().cancelled() => return Err(Lost),
            Some(ended) = jobs.join_next() => report(ended)?,
            _ = tick.tick() => tokio::select! {
                paced = keep_pace(worker, session, &mut pace) => paced?,
                // A broker that is slow to answer keeps nobody from draining.
                () = stop.cancelled() => return Ok(()),
            },
            Some(incoming) = inbox.tickets.recv() => receive(incoming, here, jobs)?,
            Some(incoming) = inbox.batch.recv() => receive(incoming, here, jobs)?,
        }
    }
}

fn receive(incoming: Incoming, here: &Here, jobs: &mut JoinSet<()>) -> Result<(), Lost> {
    let Incoming::Delivery(delivery) = incoming else { return Err(Lost) };
    jobs.spawn(here.clone().handle(*delivery));
    Ok(())
}

/// Whether the lanes are consumed, and if not, what was told of it.
struct Pace {
    consuming: bool,
    told: Option<&'static str>,
    since: Instant,
    not_before: Instant,
}

/// Consumes while nothing speaks against it, and begins again with jitter when trouble is over.
async fn keep_pace(worker: &Worker, session: &Session, pace: &mut Pace) -> Result<(), Lost> {
    worker.health.beat();
    worker.health.set_publisher(!session.blocked());
    let (obstacle, now) = (obstacle(worker, session), Instant::now());
    let wanted = obstacle.is_none() && pace.not_before <= now;
    if wanted && !pace.consuming {
        for lane in Lane::ALL {
            beating(worker, session.consume(lane)).await?;
        }
        info!("consuming");
        *pace = Pace { consuming: true, told: None, ..*pace };
        worker.health.set_consuming(true);
    }
    let Some(why) = obstacle else { return Ok(()) };
    if pace.since + MOMENT <= now {
        if pace.told != Some(why) {
            warn!(why, "nothing is consumed");
        }
        *pace = Pace { told: Some(why), not_before: now + SPREAD.mul_f64(fastrand::f64()), ..*pace };
    }
    if pace.consuming {
        pace.consuming = false;
        worker.health.set_consuming(false);
        for lane in Lane::ALL {
            beating(worker, session.cancel(lane)).await?;
        }
    }
    Ok(())
}

/// What speaks against taking deliveries.
fn obstacle(worker: &Worker, session: &Session) -> Option<&'static str> {
    let until = worker.shared.graph.held_until();
    let hold = until.map(|until| until.duration_since(Timestamp::now()).try_into().unwrap_or_default());
    if !worker.health.ledger() {
        Some("the ledger cannot be written")
    } else if session.blocked() {
        Some("the broker is short of memory or disk")
    } else if !worker.health.publisher() {
        Some("the broker refuses messages")
    } else if hold > Some(LONG_HOLD) {
        Some("graph asked to wait")
    } else {
        None
    }
}

/// Stages under one deadline: take nothing more and let attempts finish; stop them before their next call; say goodbye.
/// What is left goes back to the broker, whose silence may cost time in every stage but never more than the whole.
async fn drain(worker: &Worker, session: Session, halt: &CancellationToken, jobs: &mut JoinSet<()>) {
    worker.health.set_draining();
    info!(jobs = jobs.len(), grace_seconds = worker.grace.as_secs(), "draining");
    let start = Instant::now();
    let until = |share: f64| start + worker.grace.mul_f64(share);
    let cancelled = async { tokio::join!(session.cancel(Lane::Tickets), session.cancel(Lane::Batch)) };
    if !matches!(timeout_at(until(CANCEL_SHARE), cancelled).await, Ok((Ok(()), Ok(())))) {
        warn!("a consumer could not be cancelled");
    }
    if timeout_at(until(SOFT_SHARE), join_all(jobs)).await.is_err() {
        warn!(jobs = jobs.len(), "attempts are stopped before their next call");
        halt.cancel();
        if timeout_at(until(HARD_SHARE), join_all(jobs)).await.is_err() {
            error!(jobs = jobs.len(), "attempts did not stop in time; their deliveries go back to the broker");
            jobs.abort_all();
        }
    }
    let publisher = session.publisher();
    let goodbye = async {
        let _ = timeout_at(until(POST_SHARE), upkeep::last_post(&worker.shared, &worker.metrics, &publisher)).await;
        if session.arrive().await.is_err() {
            warn!("acknowledgements may be lost; their deliveries come again");
        }
        session.close().await;
    };
    match timeout_at(until(1.0), goodbye).await {
        Ok(()) => info!("drained"),
        Err(_) => warn!("drained without a word from the broker"),
    }
}

/// Waits, and shows meanwhile that the loop turns.
async fn beating<T>(worker: &Worker, waiting: impl Future<Output = T>) -> T {
    let mut waiting = std::pin::pin!(waiting);
    loop {
        worker.health.beat();
        if let Ok(done) = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await {
            return done;
        }
    }
}

async fn join_all(jobs: &mut JoinSet<()>) {
    while let Some(ended) = jobs.join_next().await {
        let _ = report(ended);
    }
}

/// A job that died of a bug cannot settle its delivery: only the end of the session gives it back.
fn report(ended: Result<(), tokio::task::JoinError>) -> Result<(), Lost> {
    ended.map_err(|error| {
        error!(error = %error, "a job died; its delivery goes back to the broker");
        Lost
    })
}

impl Worker {
    fn disconnected(&self) {
        self.health.set_publisher(false);
        self.health.set_consuming(false);
        self.metrics.set_broker_connected(false);
    }
}
