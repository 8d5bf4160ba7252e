//! `mfa-reset run FILE|-`: requests from JSON Lines, one result event a line on stdout, progress on stderr.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, BufReader};
use tokio_util::sync::CancellationToken;

use super::assemble::{self, Process};
use super::{Misconfigured, Unreachable};
use crate::admin::Health;
use crate::config::Config;
use crate::domain::event::Event;
use crate::domain::outcome::{Fault, OutcomeKind};
use crate::domain::reason::Reason;
use crate::local::Local;

/// Works through the file, or stdin. `true` if no request ended failed, partial or rejected.
pub async fn run(config: &Config, file: Option<&PathBuf>, stop: CancellationToken) -> anyhow::Result<bool> {
    let lines = open(file).await?;
    let process = Process::open(config, assemble::metrics()?, Health::new()).await?;
    let graph = &process.shared.graph;
    graph.sign_in().await.map_err(|fault| not_signed_in(fault, graph.token_trouble()))?;
    let end = CancellationToken::new();
    let mut beside = process.start(config, &end);
    let progress = progress_bar();
    let bad = Arc::new(AtomicU64::new(0));
    let out = Mutex::new(std::io::stdout());
    let (bar, bad_ones) = (progress.clone(), bad.clone());
    let write = move |event: &Event| {
        bar.inc(1);
        if is_bad(event.outcome()) {
            bad_ones.fetch_add(1, Ordering::Relaxed);
        }
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(out, "{}", event.body)?;
        out.flush()
    };
    let local = Local {
        shared: process.shared.clone(),
        rules: process.rules.clone(),
        metrics: process.metrics.clone(),
        write: Arc::new(write),
    };
    let ran = local.run(lines, &stop).await.context("the requests cannot be read");
    progress.finish();
    end.cancel();
    while beside.join_next().await.is_some() {}
    process.close().await;
    let unfinished = ran?;
    if unfinished > 0 {
        bail!("{unfinished} or more requests have no result yet: run the same file again");
    }
    Ok(bad.load(Ordering::Relaxed) == 0)
}

fn not_signed_in(fault: Fault, trouble: Option<String>) -> anyhow::Error {
    let why = trouble.unwrap_or_else(|| fault.to_string());
    if fault == (Fault::Unavailable { reason: Reason::TokenRefused }) {
        return Misconfigured(format!("no token for graph: {why}")).into();
    }
    Unreachable { what: "the identity service", why }.into()
}

/// Whether an outcome makes the command fail.
pub const fn is_bad(outcome: Option<OutcomeKind>) -> bool {
    matches!(outcome, Some(OutcomeKind::Failed | OutcomeKind::Partial | OutcomeKind::Rejected))
}

/// A bar on stderr, only where stderr is a terminal.
pub fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} done, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

async fn open(file: Option<&PathBuf>) -> anyhow::Result<Box<dyn AsyncBufRead + Send + Unpin>> {
    Ok(match file {
        None => Box::new(BufReader::new(tokio::io::stdin())),
        Some(path) => {
            let file = tokio::fs::File::open(path).await;
            Box::new(BufReader::new(file.with_context(|| format!("{} cannot be read", path.display()))?))
        }
    })
}
