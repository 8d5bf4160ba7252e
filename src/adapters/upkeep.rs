//! What goes on beside the jobs: leases are renewed, holds shared, checkpoints signed, gauges set, and what could not
//! be published in its turn is published later.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Shared;
use super::amqp::{Outgoing, Publisher};
use crate::admin::Health;
use crate::domain::outcome::Fault;
use crate::metrics::{Backlog, Metrics};

/// How often leases are renewed: a third of their length.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long a result may wait for its own job to publish it.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);
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
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut renewed, mut signed) = (Instant::now(), Instant::now());
    let mut shared_hold = Timestamp::MIN;
    let mut records = 0;
    health.set_ledger(shared.ledger.is_writable().await);
    loop {
        tokio::select! {
            _ = second.tick() => {}
            () = stop.cancelled() => return,
        }
        if renewed.elapsed() >= RENEWAL {
            renewed = Instant::now();
            // A failure is told by the ledger; a lease that runs out stops its attempt before the next call.
            let _ = shared.ledger.renew(shared.live_leases(), Timestamp::now()).await;
            health.set_ledger(shared.ledger.is_writable().await);
        }
        share_hold(&shared, &mut shared_hold).await;
        if signed.elapsed() >= checkpoint_interval {
            signed = Instant::now();
            checkpoint(&shared, &metrics).await;
        }
        gauges(&shared, &metrics, &health, &mut records).await;
    }
}

/// Lets the ledger know what Graph asked, for other replicas and for the next start, and learns what they were asked.
async fn share_hold(shared: &Shared, known: &mut Timestamp) {
    let now = Timestamp::now();
    if let Some(until) = shared.graph.held_until().filter(|until| until > known && *until > now) {
        if shared.ledger.hold(until).await.is_ok() {
            *known = until;
        }
    } else if let Ok(Some(until)) = shared.ledger.held_until(now).await {
        shared.graph.hold_until(until);
        *known = (*known).max(until);
    }
}

/// Signs a checkpoint of the audit chain, whether or not anything happened.
pub async fn checkpoint(shared: &Shared, metrics: &Metrics) {
    let now = Timestamp::now();
    match shared.ledger.checkpoint(now).await {
        Ok(()) => metrics.checkpoint_signed(now),
        Err(fault) => error!(fault = %fault, "the audit checkpoint could not be signed"),
    }
}

async fn gauges(shared: &Shared, metrics: &Metrics, health: &Health, records: &mut u64) {
    health.set_token(shared.graph.is_ready());
    let stored = shared.ledger.counts().records();
    metrics.audit_stored(stored - std::mem::replace(records, stored));
    if let Ok((pending, oldest)) = shared.ledger.outbox(Timestamp::now()).await {
        metrics.set_outbox(Backlog { pending, oldest });
    }
}

/// Posts audit records, checkpoints, and results that their own job could not publish, as long as it is polled.
pub async fn post(shared: Arc<Shared>, metrics: Arc<Metrics>, publisher: Publisher) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        if let Err(fault) = post_once(&shared, &metrics, &publisher).await {
            warn!(fault = %fault, "audit records or results wait to be published");
        }
    }
}

/// Signs the last checkpoint and posts what there is.
pub async fn last_post(shared: &Shared, metrics: &Metrics, publisher: &Publisher) {
    checkpoint(shared, metrics).await;
    if let Err(fault) = post_once(shared, metrics, publisher).await {
        warn!(fault = %fault, "audit records or results wait for the next start");
    }
}

async fn post_once(shared: &Shared, metrics: &Metrics, publisher: &Publisher) -> Result<(), Fault> {
    loop {
        let rows = shared.ledger.pending_audit(PAGE).await?;
        let mut posted = Vec::with_capacity(rows.len());
        for (id, record) in &rows {
            if let Err(error) = publisher.publish(&Outgoing::audit(record)).await {
                metrics.audit_publish_failed();
                warn!(error = %error, "an audit record was not published");
                break;
            }
            posted.push(*id);
        }
        let more = posted.len() == PAGE as usize;
        // Together, so that they share a commit.
        try_join_all(posted.into_iter().map(|id| shared.ledger.mark_audit_published(id))).await?;
        if !more {
            break;
        }
    }
    let stale = Timestamp::now().saturating_sub(PATIENCE).unwrap_or(Timestamp::MIN);
    for event in shared.ledger.pending_events(stale, PAGE).await? {
        match publisher.publish(&Outgoing::result(&event)).await {
            Ok(()) => shared.ledger.mark_published(event.id).await?,
            Err(error) => {
                warn!(error = %error, "a result was not published");
                break;
            }
        }
    }
    Ok(())
}
