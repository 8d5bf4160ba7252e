//! `mfa-reset simulator`: a Microsoft Graph to test against.

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli;
use crate::simulator::{self, Options};

/// Serves until `stop`.
pub async fn run(args: &cli::Simulator, stop: CancellationToken) -> anyhow::Result<()> {
    let tenant = match &args.tenant {
        None => None,
        Some(path) => {
            let text = tokio::fs::read(path).await.with_context(|| format!("{} cannot be read", path.display()))?;
            Some(serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?)
        }
    };
    let options = Options {
        users: args.users,
        seed: args.seed,
        tenant,
        latency: args.latency,
        rate: args.rate.map(f64::from),
        cloud: args.cloud,
        tenant_rate: args.tenant_rate.map(f64::from),
        omit_percentage: args.omit_percentage,
        ..Options::default()
    };
    let listener = TcpListener::bind(args.listen).await.context("--listen")?;
    info!(address = %listener.local_addr().context("--listen")?, "simulating Microsoft Graph");
    simulator::serve(listener, options, async move { stop.cancelled().await }).await.context("the simulator failed")
}
