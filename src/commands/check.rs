//! `mfa-reset check [--json]`: looks at everything that a worker with these settings needs, changes nothing, and says of
//! what is not as it should be how to mend it.
//!
//! What stands behind a line that failed, and so could not be looked at, has no line of its own.

mod broker;
mod files;
mod graph;
mod ledger;
mod permissions;
mod policies;
mod queues;
mod report;
mod settings;

use std::io::Write;

use crate::cli;
use crate::config::Config;
use report::Report;

/// Looks at all of it; `false` where something failed.
pub async fn run(config: &Config, args: &cli::Check, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    let mut report = Report::new(out, args.json);
    settings::look(config, &mut report);
    ledger::look(config, &mut report).await;
    broker::look(config, &mut report).await;
    graph::look(config, &mut report).await?;
    report.end()
}
