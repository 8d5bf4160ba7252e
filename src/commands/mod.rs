//! One file a subcommand. Here, and in `main`, errors end as words for people.

pub mod assemble;
pub mod audit;
pub mod check;
pub mod completions;
pub mod config;
pub mod dead_letters;
pub mod demo;
mod demo_tickets;
pub mod health;
pub mod man;
pub mod run;
pub mod schema;
pub mod simulator;
pub mod submit;
pub mod worker;

/// A request ended failed, partial or rejected, or a check failed.
pub const EXIT_FAILED: u8 = 1;
/// The configuration is bad.
pub const EXIT_CONFIG: u8 = 64;
/// A dependency cannot be reached.
pub const EXIT_UNAVAILABLE: u8 = 69;

/// A dependency refuses what it was configured with: the exit code of bad configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misconfigured(pub String);

/// A dependency is away: its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be reached: {why}")]
pub struct Unreachable {
    /// Which dependency.
    pub what: &'static str,
    /// What it said.
    pub why: String,
}
