//! The command line: what may be asked of the program, and in which words. It does nothing.

mod dead_letters;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::config::Needs;
use crate::config::value::duration;
use crate::domain::request::Lane;
use crate::simulator::Cloud;
pub use dead_letters::{DeadLetters, Filter, Settle};

const AFTER_HELP: &str = "\
Settings come from --set, then MFA_RESET_SECTION__KEY in the environment, then the file of --config; `mfa-reset config show`
prints those in force. Lists in the environment are comma-separated, durations are written 10s, 5m, 1h.

Exit codes: 0 done; 1 a request ended failed, partial or rejected, a check failed, or something stayed undone; 2 wrong usage; 64 bad
configuration; 69 a dependency cannot be reached.

Examples:
  mfa-reset check --config /etc/mfa-reset.toml      is everything as a worker needs it, and how to mend it
  mfa-reset demo                                    see it work; nothing to install
  mfa-reset worker --config /etc/mfa-reset.toml     serve the queues
  mfa-reset run requests.jsonl > results.jsonl      reset from a file, without a broker
  mfa-reset submit --wait < request.json            ask a worker, and wait for its result";

/// Resets the sign-in methods of Microsoft Entra ID users.
#[derive(Parser)]
#[command(name = "mfa-reset", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Cli {
    /// Reads settings from this TOML file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one key, over environment and file; repeatable; not for secrets, which others could see in the list of processes
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Consumes requests from RabbitMQ until SIGTERM
    ///
    /// A dependency that is away does not end it: it stays unready and reconnects.
    Worker,
    /// Carries out requests from a file, without a broker
    ///
    /// Reads JSON Lines, one request a line, and writes one result event a line to stdout; progress goes to stderr.
    /// The same file again does nothing twice.
    Run(Input),
    /// Shows the program at work on sample tickets against a simulated Graph
    Demo,
    /// Serves a simulated Microsoft Graph
    Simulator(Simulator),
    /// Publishes requests to RabbitMQ
    #[command(after_help = "Example:\n  mfa-reset submit --wait --timeout 2m request.json")]
    Submit(Submit),
    /// Looks at requests that ended among the dead letters, sends them again or throws them away
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Reads and proves the audit trail
    #[command(subcommand)]
    Audit(Audit),
    /// Asks the worker on this machine whether it is well; exits with 1 if not
    ///
    /// It asks at `admin.listen` of its own settings, over loopback where the worker listens everywhere.
    Health {
        /// Asks whether work can be taken, not only whether the worker is alive
        #[arg(long)]
        ready: bool,
    },
    /// Prints a JSON Schema (2020-12)
    Schema {
        /// Which one
        name: Schema,
    },
    /// Shows the settings
    #[command(subcommand)]
    Config(Config),
    /// Looks at everything that a worker with these settings needs, and changes nothing
    ///
    /// Each line is ok, warn or fail, with how to mend it; exits with 1 when something failed. Run it as the worker's user.
    Check(Check),
    /// Writes the manual pages
    #[command(after_help = "Example:\n  mfa-reset man /usr/local/share/man/man1")]
    Man {
        /// Where to, a page a command; without it the first page goes to stdout
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Prints completions for a shell
    #[command(after_help = "Example:\n  mfa-reset completions bash > /usr/share/bash-completion/completions/mfa-reset")]
    Completions {
        /// Which one
        shell: clap_complete::Shell,
    },
}

/// Where requests come from.
#[derive(Debug, Args)]
pub struct Input {
    /// The file; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}

impl Input {
    /// The file, unless it is stdin.
    pub fn path(&self) -> Option<&PathBuf> {
        Some(&self.file).filter(|file| file.as_os_str() != "-")
    }
}

/// How the simulated Graph behaves.
#[derive(Debug, Args)]
pub struct Simulator {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8088")]
    pub listen: SocketAddr,
    /// How many users it has
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub users: usize,
    /// What their methods are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Takes the tenant from this JSON file instead
    #[arg(long, value_name = "FILE")]
    pub tenant: Option<PathBuf>,
    /// How long each answer takes, such as 50ms
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time)]
    pub latency: Duration,
    /// How many requests a second of one application it takes before it throttles; no limit if left out
    #[arg(long, value_name = "N")]
    pub rate: Option<u32>,
    /// Which cloud it is, since some lack kinds of methods; the tenant file says if left out, else it is global
    #[arg(long, value_enum)]
    pub cloud: Option<Cloud>,
    /// The same for all applications together
    #[arg(long, value_name = "N")]
    pub tenant_rate: Option<u32>,
    /// Never tells how much of a limit is used, only that it is used up
    #[arg(long)]
    pub omit_percentage: bool,
}

/// What is published, and whether to wait.
#[derive(Debug, Args)]
pub struct Submit {
    /// One request as JSON, or several as JSON Lines
    #[command(flatten)]
    pub input: Input,
    /// Waits for the results, and prints them
    #[arg(long)]
    pub wait: bool,
    /// Which queue: tickets are served at once, a batch when there is room
    #[arg(long, value_enum, default_value = "tickets")]
    pub lane: LaneName,
    /// How long to wait between two requests, such as 2s, to spread them over time
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time, conflicts_with = "wait")]
    pub pause: Duration,
    /// How long to wait for each answer of the broker and, with --wait, for results after the last request
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    pub timeout: Duration,
}

/// A lane by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LaneName {
    /// Single tickets
    Tickets,
    /// Mass resets
    Batch,
}

impl From<LaneName> for Lane {
    fn from(name: LaneName) -> Self {
        match name {
            LaneName::Tickets => Self::Tickets,
            LaneName::Batch => Self::Batch,
        }
    }
}

/// What can be done with the audit trail.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Proves that no record was changed, left out or put in
    ///
    /// Prints `ok: N records, M chains`, or the first bad record and exits with 1.
    #[command(
        after_help = "Example:\n  mfa-reset audit verify export.jsonl --checkpoints checkpoints.jsonl --public-key audit.pub"
    )]
    Verify {
        /// An export to verify instead of the ledger; `-` is stdin
        file: Option<PathBuf>,
        /// Signed checkpoints that were kept elsewhere: they prove that no end was cut off
        #[arg(long, value_name = "FILE")]
        checkpoints: Option<PathBuf>,
        /// The key to verify their signatures with; once for each worker that has a key of its own
        #[arg(long, value_name = "FILE")]
        public_key: Vec<PathBuf>,
    },
    /// Writes records as JSON Lines, in order
    Export {
        /// Only those of this ticket number
        #[arg(long, value_name = "NUMBER")]
        ticket: Option<String>,
    },
    /// Lists what was done, a line each
    #[command(
        after_help = "Example:\n  mfa-reset audit search --requested-by sam@contoso.com --since 2026-11-01T00:00:00Z"
    )]
    Search(Search),
}

/// What is searched for: all of it must match.
#[derive(Debug, Default, Args)]
pub struct Search {
    /// The number of the ticket
    #[arg(long, value_name = "NUMBER")]
    pub ticket: Option<String>,
    /// The object id of the user that was reset
    #[arg(long, value_name = "OBJECT_ID")]
    pub user: Option<String>,
    /// Who asked
    #[arg(long, value_name = "NAME")]
    pub requested_by: Option<String>,
    /// How it ended, such as partial
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    pub since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Schema {
    /// What a producer publishes
    Request,
    /// What comes back
    Result,
    /// What tells a ticket that its request waits
    Delayed,
    /// A record of the audit trail
    Audit,
}

/// How the findings are told.
#[derive(Debug, Args)]
pub struct Check {
    /// As one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What can be done with the settings.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Config {
    /// Prints the settings in force, and where each comes from; secrets are hidden
    Show,
}

impl Command {
    /// What must be configured for it; `None` if it reads no settings.
    pub const fn needs(&self) -> Option<Needs> {
        match self {
            Self::Worker | Self::Check(_) => Some(Needs::WORKER),
            Self::Run(_) => Some(Needs::RUN),
            Self::Submit(_) | Self::DeadLetters(_) => Some(Needs::SUBMIT),
            Self::Audit(_) | Self::Config(_) | Self::Health { .. } => Some(Needs::LEDGER),
            Self::Demo | Self::Simulator(_) | Self::Schema { .. } => None,
            Self::Man { .. } | Self::Completions { .. } => None,
        }
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    duration(text).ok_or("a time such as 50ms, 10s or 5m is expected")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_lines_are_understood() {
        for line in [
            "mfa-reset worker --config a.toml --set log.filter=debug --set broker.prefix=x",
            "mfa-reset run",
            "mfa-reset run -",
            "mfa-reset --config a.toml run requests.jsonl",
            "mfa-reset demo",
            "mfa-reset simulator --listen 127.0.0.1:8088 --users 10 --seed 7 --tenant t.json --latency 50ms --rate 50",
            "mfa-reset submit --wait --lane batch --timeout 2m -",
            "mfa-reset submit --pause 2s -",
            "mfa-reset audit verify",
            "mfa-reset audit verify a.jsonl --checkpoints c.jsonl --public-key k.pem",
            "mfa-reset audit export --ticket INC1",
            "mfa-reset audit search --user 0f --since 2026-11-01T00:00:00Z --outcome partial",
            "mfa-reset dead-letters list --reason malformed --older-than 2h --newer-than 1d --ticket INC1 --json",
            "mfa-reset dead-letters show 0123abcd",
            "mfa-reset dead-letters replay 0123abcd 0123abcdef --by sam --note why",
            "mfa-reset dead-letters replay --all --by sam",
            "mfa-reset dead-letters discard --reason malformed --ticket INC1 --dry-run",
            "mfa-reset health --ready --set admin.listen=0.0.0.0:9464",
            "mfa-reset schema result",
            "mfa-reset config show",
            "mfa-reset check",
            "mfa-reset check --json --config a.toml",
            "mfa-reset man",
            "mfa-reset man pages",
            "mfa-reset completions fish",
        ] {
            assert!(parsed(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for line in [
            "mfa-reset",
            "mfa-reset fly",
            "mfa-reset simulator --latency 5",
            "mfa-reset schema nothing",
            "mfa-reset dead-letters",
            "mfa-reset dead-letters show",
            "mfa-reset dead-letters show 0123abc",
            "mfa-reset dead-letters show 0123abcx",
            "mfa-reset dead-letters replay --by sam",
            "mfa-reset dead-letters discard --dry-run",
            "mfa-reset dead-letters replay --all",
            "mfa-reset dead-letters replay --all --by \u{1b}c",
            "mfa-reset dead-letters replay --all --by sam --note \u{7}",
            "mfa-reset dead-letters replay --all --by sam --reason malformed",
            "mfa-reset dead-letters replay 0123abcd --by sam --ticket INC1",
            "mfa-reset dead-letters replay 0123abcd --by sam --all",
            "mfa-reset dead-letters list --older-than soon",
        ] {
            let error = parsed(line).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_dash_is_stdin() {
        let Command::Run(input) = parsed("mfa-reset run").unwrap().command else { panic!("run is expected") };
        assert_eq!(input.path(), None);
    }
}
