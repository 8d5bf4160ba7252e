//! `mfa-reset worker`: serves the queues until a signal, then drains.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Unreachable;
use super::assemble::{self, Process};
use crate::adapters::ledger::OpenError;
use crate::admin::{self, Health};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::worker::{self, Worker};

/// How long the last checkpoint and the goodbye to the ledger may take, on top of the drain: a part of the grace period.
const CLOSING_SHARE: f64 = 0.1;

/// How long a ledger may take to open: tables may have to be changed. A network may swallow every word without an error.
const OPENING: Duration = Duration::from_secs(300);

/// Opens the ledger as soon as it can be had: it may be away, or another worker may still hold it. `None` if stopped
/// meanwhile.
async fn open(
    config: &Config,
    metrics: &Arc<Metrics>,
    health: &Health,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Process>> {
    loop {
        let opening = timeout(OPENING, Process::open(config, metrics.clone(), health.clone()));
        let opened = tokio::select! {
            opened = opening => opened.unwrap_or_else(|_| Err(silent().into())),
            // A database that is slow to answer keeps nobody from stopping, and is no reason to kill the worker.
            () = stop.cancelled() => return Ok(None),
            never = keep_beating(health) => match never {},
        };
        match opened {
            Err(error) if is_passing(&error) => warn!(error = %format!("{error:#}"), "waiting for the ledger"),
            opened => return opened.map(Some),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

fn silent() -> Unreachable {
    Unreachable { what: "the ledger", why: format!("it did not open within {} s", OPENING.as_secs()) }
}

async fn keep_beating(health: &Health) -> Infallible {
    loop {
        health.beat();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn is_passing(error: &anyhow::Error) -> bool {
    error.is::<Unreachable>() || error.chain().any(|cause| matches!(cause.downcast_ref(), Some(OpenError::Locked(_))))
}

/// Runs until `stop`.
pub async fn run(config: &Config, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.admin_listen).await.context("admin.listen")?;
    let address = listener.local_addr().context("admin.listen")?;
    info!(address = %address, version = env!("CARGO_PKG_VERSION"), "listening for /livez, /readyz and /metrics");
    let (metrics, health, end) = (assemble::metrics()?, Health::new(), CancellationToken::new());
    let mut served = JoinSet::new();
    served.spawn(admin::serve(listener, health.clone(), metrics.clone(), end.clone()));
    if let Some(manager) = config.service_manager.clone() {
        served.spawn(admin::systemd::tell(manager, health.clone(), stop.clone(), end.clone()));
    }
    let opened = open(config, &metrics, &health, &stop).await?;
    if let Some(process) = opened {
        work(config, &process, stop, &end).await;
    }
    end.cancel();
    while let Some(ended) = served.join_next().await {
        if let Ok(Err(error)) = ended {
            error!(error = %error, "the admin server, or the word to systemd, failed");
        }
    }
    Ok(())
}

/// Works until `stop`, and closes the ledger.
async fn work(config: &Config, process: &Process, stop: CancellationToken, end: &CancellationToken) {
    let mut beside = process.start(config, end);
    let worker = Worker {
        shared: process.shared.clone(),
        rules: process.rules.clone(),
        broker: Arc::new(assemble::broker(config)),
        metrics: process.metrics.clone(),
        health: process.health.clone(),
        grace: config.grace_period,
    };
    worker::run(worker, stop).await;
    end.cancel();
    let closing = async {
        while beside.join_next().await.is_some() {}
        process.close().await;
    };
    // What is not written by now is found by the next start: the ledger promises nothing that it has not committed.
    if timeout(config.grace_period.mul_f64(CLOSING_SHARE), closing).await.is_err() {
        warn!("the ledger was not closed in time");
    }
}
