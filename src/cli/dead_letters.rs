//! What may be asked about dead letters.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::time;

const AFTER_HELP: &str = "\
Run it with the worker's own configuration: what a worker noted on a letter counts only for the broker user that wrote it.

Examples:
  mfa-reset dead-letters list --reason delivery_limit --older-than 2h
  mfa-reset dead-letters show 3f6c0a9be1d24477
  mfa-reset dead-letters replay --ticket INC0012345 --by sam@contoso.com --note 'fixed in CHG0042'
  mfa-reset dead-letters discard --all --dry-run";

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
#[command(after_help = AFTER_HELP)]
pub enum DeadLetters {
    /// Lists them, without their bodies; changes nothing
    #[command(after_help = AFTER_HELP)]
    List {
        /// Which ones; all of them if nothing is said
        #[command(flatten)]
        filter: Filter,
        /// Writes JSON Lines
        #[arg(long)]
        json: bool,
    },
    /// Prints all of one, the body and the people named in it too; changes nothing
    Show {
        /// Its id, or the beginning of it
        #[arg(value_parser = id)]
        id: String,
    },
    /// Sends copies to the lanes they came through, where every check is made again, and takes the letters away
    #[command(after_help = AFTER_HELP)]
    Replay(Settle),
    /// Throws them away for good
    #[command(after_help = AFTER_HELP)]
    Discard(Settle),
}

/// Which letters are meant: all of it must match.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Why they died, such as id_reused or delivery_limit
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Known to be dead, or else seen, for at least so long, such as 2h; a letter without a time does not match
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub older_than: Option<Duration>,
    /// Known to be dead, or else seen, for less than so long; a letter without a time does not match
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub newer_than: Option<Duration>,
    /// The number of the ticket
    #[arg(long, value_name = "NUMBER")]
    pub ticket: Option<String>,
}

/// Which letters are settled, and by whom.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true)
    .args(["ids", "all", "reason", "older_than", "newer_than", "ticket"]))]
pub struct Settle {
    /// The letters, by their ids or the beginnings of them; an id stands for exact copies too
    #[arg(value_name = "ID", value_parser = id,
        conflicts_with_all = ["all", "reason", "older_than", "newer_than", "ticket"])]
    pub ids: Vec<String>,
    /// Which ones
    #[command(flatten)]
    pub filter: Filter,
    /// All that there are when it begins
    #[arg(long, conflicts_with_all = ["reason", "older_than", "newer_than", "ticket"])]
    pub all: bool,
    /// Shows what would be done, and does nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who does it, for the audit record
    #[arg(long, value_name = "NAME", value_parser = name, required_unless_present = "dry_run")]
    pub by: Option<String>,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", value_parser = note)]
    pub note: Option<String>,
}

fn id(text: &str) -> Result<String, &'static str> {
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let good = hex && (8..=64).contains(&text.len());
    good.then(|| text.to_ascii_lowercase()).ok_or("the first 8 to 64 digits of an id are expected, as `list` shows it")
}

fn name(text: &str) -> Result<String, &'static str> {
    line(text, 320).ok_or("1 to 320 characters without control characters are expected")
}

fn note(text: &str) -> Result<String, &'static str> {
    line(text, 4000).ok_or("1 to 4000 characters without control characters are expected")
}

fn line(text: &str, most: usize) -> Option<String> {
    let good = !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control);
    good.then(|| text.to_owned())
}
