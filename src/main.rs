//! The life of the process: read the command line and the settings, begin to log, run, and end with an exit code that
//! says how it went.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mfa_reset::cli::{Cli, Command};
use mfa_reset::commands::{self, EXIT_CONFIG, EXIT_FAILED, EXIT_UNAVAILABLE, Misconfigured, Unreachable};
use mfa_reset::config::{Config, LogFormat, Sources};
use mfa_reset::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Up to which part of the grace period the last traces may take, on top of the drain.
#[cfg(feature = "otlp")]
const FLUSH_SHARE: f64 = 0.05;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match configure(&cli) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let ended = traced(config.as_ref(), run(&cli.command, config.as_ref())).await;
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Unreachable>()) {
        EXIT_UNAVAILABLE
    } else if error.chain().any(|cause| cause.is::<Misconfigured>()) {
        EXIT_CONFIG
    } else {
        EXIT_FAILED
    }
}

/// Settings, where the command reads any, and logging.
fn configure(cli: &Cli) -> anyhow::Result<Option<Config>> {
    let sources = || Sources::of_process(cli.config.clone(), cli.set.clone());
    let config = cli.command.needs().map(|needs| Config::load(&sources(), needs)).transpose()?;
    let (format, filter) = match (&config, &cli.command) {
        (_, Command::Demo) => (Some(LogFormat::Text), "error"),
        // What goes wrong is a line of what it prints.
        (Some(config), Command::Check(_)) => (config.log_format, "off"),
        (Some(config), _) => (config.log_format, config.log_filter.as_str()),
        (None, _) => (None, "info"),
    };
    telemetry::init(format, filter)?;
    Ok(config)
}

/// Sends the traces of what a command does to the collector, if there is one.
#[cfg(feature = "otlp")]
async fn traced<T>(config: Option<&Config>, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    use mfa_reset::trace::otlp::Exporter;
    let collector = config.and_then(|config| Some((config.otlp_endpoint.as_ref()?, config.grace_period)));
    let Some((collector, grace)) = collector else { return work.await };
    let exporter = Exporter::start(collector, commands::assemble::instance())?;
    let ended = work.await;
    exporter.stop(grace.mul_f64(FLUSH_SHARE)).await;
    ended
}

#[cfg(not(feature = "otlp"))]
async fn traced<T>(_: Option<&Config>, work: impl Future<Output = T>) -> T {
    work.await
}

async fn run(command: &Command, config: Option<&Config>) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    match (command, config) {
        (Command::Worker, Some(config)) => commands::worker::run(config, stop_signal()?).await.map(|()| true),
        (Command::Run(input), Some(config)) => commands::run::run(config, input.path(), stop_signal()?).await,
        (Command::Submit(args), Some(config)) => commands::submit::run(config, args, &mut out).await,
        (Command::DeadLetters(letters), Some(config)) => commands::dead_letters::run(config, letters, &mut out).await,
        (Command::Audit(audit), Some(config)) => commands::audit::run(config, audit, &mut out).await,
        (Command::Check(args), Some(config)) => commands::check::run(config, args, &mut out).await,
        (Command::Config(_), Some(config)) => commands::config::show(config, &mut out).map(|()| true),
        (Command::Health { ready }, Some(config)) => commands::health::run(config, *ready, &mut out).await,
        (Command::Demo, _) => commands::demo::run(&mut out, stop_signal()?).await.map(|()| true),
        (Command::Simulator(args), _) => commands::simulator::run(args, stop_signal()?).await.map(|()| true),
        (Command::Man { directory }, _) => commands::man::write(directory.as_deref(), &mut out).map(|()| true),
        (Command::Completions { shell }, _) => commands::completions::print(*shell, &mut out).map(|()| true),
        (Command::Schema { name }, _) => commands::schema::print(*name, &mut out).map(|()| true),
        (Command::Worker | Command::Run(_) | Command::Submit(_) | Command::Audit(_), None)
        | (Command::DeadLetters(_) | Command::Config(_) | Command::Check(_) | Command::Health { .. }, None) => {
            anyhow::bail!("this command reads settings")
        }
    }
}

/// Is cancelled at SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    let mut next = async move || {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process and holds nothing to drain")]
    tokio::spawn(async move {
        next().await;
        tracing::info!("stopping");
        told.cancel();
        next().await;
        std::process::exit(130);
    });
    Ok(stop)
}

fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "mfa-reset: {error:#}");
}
