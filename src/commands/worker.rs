//! `mfa-reset worker`: serves the queues until a signal, then drains.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::assemble::{self, Process};
use crate::adapters::ledger::OpenError;
use crate::admin;
use crate::config::Config;
use crate::worker::{self, Worker};

/// Opens the ledger as soon as the worker before this one has let go of it; `None` if stopped meanwhile.
async fn open(config: &Config, stop: &CancellationToken) -> anyhow::Result<Option<Process>> {
    loop {
        match Process::open(config).await {
            Err(error) if is_locked(&error) => warn!(%error, "the ledger is in use; waiting for it"),
            opened => return opened.map(Some),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(OpenError::Locked(_))))
}

/// Runs until `stop`.
pub async fn run(config: &Config, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.admin_listen).await.context("admin.listen")?;
    let address = listener.local_addr().context("admin.listen")?;
    let Some(process) = open(config, &stop).await? else { return Ok(()) };
    info!(address = %address, version = env!("CARGO_PKG_VERSION"), "listening for /livez, /readyz and /metrics");
    let end = CancellationToken::new();
    let mut beside = process.start(config, &end);
    let mut served = JoinSet::new();
    served.spawn(admin::serve(listener, process.health.clone(), process.metrics.clone(), end.clone()));
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
    while beside.join_next().await.is_some() {}
    while let Some(ended) = served.join_next().await {
        if let Ok(Err(error)) = ended {
            error!(error = %error, "the admin server failed");
        }
    }
    process.close().await;
    Ok(())
}
