//! `mfa-reset man [DIR]`.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::Cli;

/// Writes a page for the program and one for each command into a directory, or prints the first of them.
pub fn write(directory: Option<&Path>, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(directory) = directory else {
        clap_mangen::Man::new(Cli::command().disable_help_subcommand(true)).render(out)?;
        return Ok(());
    };
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let written = clap_mangen::generate_to(Cli::command(), directory);
    written.with_context(|| format!("cannot write to {}", directory.display()))
}
