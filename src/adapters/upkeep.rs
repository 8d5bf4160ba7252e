//! What goes on beside the jobs: leases are renewed, holds shared, checkpoints signed, gauges set, and what could not
//! be published in its turn is published later.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Shared;
use super::amqp::{self, Outgoing, PublishError, Publisher, Session};
use super::graph::Graph;
use super::ledger::Ledger;
use super::outlet::{Refusals, Refused, waits};
use crate::admin::Health;
use crate::domain::outcome::Fault;
use crate::domain::request::Lane;
use crate::metrics::{Backlog, Metrics};

/// How often leases are renewed, a third of their length, and the ledger is tried.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often open jobs are counted: a batch may leave many, and nobody writes meanwhile.
const COUNTING: Duration = Duration::from_secs(30);
/// How often the topology is looked over while messages are refused.
const MENDING: Duration = Duration::from_secs(30);
/// How long the ledger may take to answer before it counts as away.
const SLOW: Duration = Duration::from_secs(5);
/// How long a result may wait for its own job to publish it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many messages are posted at a time.
const PAGE: u32 = 100;

/// Keeps a process going until `stop`.
pub async fn keep(
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    health: Health,
    checkpoint_interval: Duration,
    stop: CancellationToken,
) {
    let turns = turns(&shared, &metrics, &health, checkpoint_interval, &stop);
    tokio::join!(turns, renewals(&shared, &stop), share_holds(&shared.graph, &shared.ledger, &stop));
}

/// Renews leases, beside everything else: they do not wait for it.
async fn renewals(shared: &Shared, stop: &CancellationToken) {
    let mut often = interval(RENEWAL);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = often.tick() => {}
            () = stop.cancelled() => return,
        }
        // A failure is told by the ledger; a lease that runs out stops its attempt before the next call.
        let _ = shared.ledger.renew(shared.live_leases(), Timestamp::now()).await;
    }
}

async fn turns(
    shared: &Shared,
    metrics: &Metrics,
    health: &Health,
    checkpoint_interval: Duration,
    stop: &CancellationToken,
) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Known { probed: None, counted: None, signed: Instant::now(), records: 0 };
    loop {
        tokio::select! {
            _ = second.tick() => {}
            () = stop.cancelled() => return,
        }
        let turn = turn(shared, metrics, health, checkpoint_interval, &mut known);
        tokio::select! {
            () = watched(health, turn) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What one turn of [`keep`] leaves to the next.
struct Known {
    probed: Option<Instant>,
    counted: Option<Instant>,
    signed: Instant,
    records: u64,
}

async fn turn(shared: &Shared, metrics: &Metrics, health: &Health, checkpoint_interval: Duration, known: &mut Known) {
    if known.probed.is_none_or(|probed| probed.elapsed() >= RENEWAL) {
        known.probed = Some(Instant::now());
        health.set_ledger(shared.ledger.is_writable().await);
    }
    if known.counted.is_none_or(|counted| counted.elapsed() >= COUNTING) {
        known.counted = Some(Instant::now());
        open_jobs(shared, metrics).await;
    }
    if known.signed.elapsed() >= checkpoint_interval {
        known.signed = Instant::now();
        checkpoint(shared, metrics).await;
    }
    gauges(shared, metrics, health, &mut known.records).await;
}

/// Waits for a turn, and says so when the ledger hangs: a disk may take a write and never answer.
async fn watched(health: &Health, turn: impl Future<Output = ()>) {
    let mut turn = std::pin::pin!(turn);
    if timeout(SLOW, &mut turn).await.is_err() {
        health.set_ledger(false);
        warn!(waited_seconds = SLOW.as_secs(), "the ledger does not answer");
        turn.await;
    }
}

/// Lets the ledger know at once what Graph asked, for other replicas and for the next start, and learns each second
/// what they were asked.
pub async fn share_holds(graph: &Graph, ledger: &Ledger, stop: &CancellationToken) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Timestamp::MIN;
    loop {
        tokio::select! {
            _ = second.tick() => {}
            () = graph.hold_asked() => {}
            () = stop.cancelled() => return,
        }
        let share = share_hold(graph, ledger, &mut known);
        tokio::select! {
            () = share => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn share_hold(graph: &Graph, ledger: &Ledger, known: &mut Timestamp) {
    let now = Timestamp::now();
    if let Some(until) = graph.held_until().filter(|until| until > known && *until > now) {
        if ledger.hold(until, now).await.is_ok() {
            *known = until;
        }
    } else if let Ok(Some(until)) = ledger.held_until(now).await {
        graph.hold_until(until);
        *known = (*known).max(until);
    }
}

/// Signs a checkpoint of the audit chain, whether or not anything happened.
pub async fn checkpoint(shared: &Shared, metrics: &Metrics) {
    let now = Timestamp::now();
    match shared.ledger.checkpoint(now).await {
        Ok(()) => metrics.checkpoint_signed(now),
        Err(fault) => error!(error = %fault, "the audit checkpoint could not be signed"),
    }
}

async fn open_jobs(shared: &Shared, metrics: &Metrics) {
    for lane in Lane::ALL {
        if let Ok((pending, oldest)) = shared.ledger.open_jobs(lane, Timestamp::now()).await {
            metrics.set_open_jobs(lane, Backlog { pending, oldest });
        }
    }
}

async fn gauges(shared: &Shared, metrics: &Metrics, health: &Health, records: &mut u64) {
    health.set_token(shared.graph.is_ready(), shared.graph.token_trouble());
    metrics.set_graph_rate(shared.graph.requests_per_second());
    metrics.set_resets_per_hour(shared.max_resets_per_hour);
    shared.graph.held_until().into_iter().for_each(|until| metrics.set_graph_hold(until));
    let stored = shared.ledger.counts().records();
    metrics.audit_stored(stored - std::mem::replace(records, stored));
    if let Ok((pending, oldest)) = shared.ledger.outbox(Timestamp::now()).await {
        metrics.set_outbox(Backlog { pending, oldest });
    }
}

/// Posts audit records, checkpoints, and results that their own job could not publish, as long as it is polled. `first`
/// is let go once the broker has taken what there is to tell, or there was nothing.
pub async fn post(
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    publisher: Publisher,
    refusals: Refusals,
    first: Refused,
) {
    let (mut refused, mut told, mut tries) = (Some(first), false, waits());
    loop {
        let wait = match post_page(&shared, &metrics, &publisher).await {
            Ok(Posted::All { more }) => {
                (refused, told, tries) = (None, false, waits());
                Some(if more { Duration::ZERO } else { Duration::from_secs(1) })
            }
            Ok(Posted::Stuck { result, error }) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(error = %error, "audit records or results wait to be published");
                }
                // A full audit queue is no reason to stop; results that nobody takes are, and so is a queue that is gone.
                match error {
                    PublishError::Refused if !result => refused = None,
                    PublishError::Refused | PublishError::Unroutable => {
                        refused.get_or_insert_with(|| Refused::silently(&refusals));
                    }
                    PublishError::Lost | PublishError::Invalid(_) => {}
                }
                tries.next()
            }
            // The ledger tells why.
            Err(_) => None,
        };
        sleep(wait.unwrap_or(RENEWAL)).await;
    }
}

/// While messages are refused, for want of a queue perhaps, declares what went missing, where it may.
pub async fn mend(broker: Arc<amqp::Settings>, health: Health) {
    loop {
        sleep(MENDING).await;
        if !health.publisher()
            && let Err(error) = Session::mend(&broker).await
        {
            warn!(error = %error, "the queues could not be looked over");
        }
    }
}

/// Signs the last checkpoint and posts what there is.
pub async fn last_post(shared: &Shared, metrics: &Metrics, publisher: &Publisher) {
    checkpoint(shared, metrics).await;
    loop {
        match post_page(shared, metrics, publisher).await {
            Ok(Posted::All { more: true }) => {}
            Ok(Posted::All { more: false }) => return,
            Ok(Posted::Stuck { error, .. }) => {
                warn!(error = %error, "audit records or results wait for the next start");
                return;
            }
            Err(_) => return,
        }
    }
}

/// What became of a page.
enum Posted {
    /// All of it is published, and there may be more.
    All { more: bool },
    /// The broker did not take a record, or a result.
    Stuck { result: bool, error: PublishError },
}

async fn post_page(shared: &Shared, metrics: &Metrics, publisher: &Publisher) -> Result<Posted, Fault> {
    let rows = shared.ledger.pending_audit(PAGE, Timestamp::now()).await?;
    let (mut posted, mut stuck) = (Vec::with_capacity(rows.len()), None);
    for (id, record) in &rows {
        if let Err(error) = publisher.publish(&Outgoing::audit(record)).await {
            metrics.audit_publish_failed();
            stuck = Some(error);
            break;
        }
        posted.push(*id);
    }
    let more = posted.len() == PAGE as usize;
    shared.ledger.mark_audit_published(&posted).await?;
    for event in shared.ledger.pending_events(PATIENCE, PAGE, Timestamp::now()).await? {
        match publisher.publish(&Outgoing::result(&event)).await {
            Ok(()) => shared.ledger.mark_published(event.id).await?,
            Err(error) => return Ok(Posted::Stuck { result: true, error }),
        }
    }
    Ok(stuck.map_or(Posted::All { more }, |error| Posted::Stuck { result: false, error }))
}
