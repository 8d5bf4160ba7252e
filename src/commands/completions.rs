//! `mfa-reset completions SHELL`.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints what a shell has to load to complete the words of this program.
pub fn print(shell: Shell, out: &mut impl Write) -> anyhow::Result<()> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mfa-reset", &mut script);
    // In bash clap_complete 4.6 calls a program with a hyphen in its name by two names, and so completes nothing below a command.
    let script = String::from_utf8(script)?.replace("mfa__subcmd__reset", "mfa__reset");
    out.write_all(script.as_bytes())?;
    Ok(())
}
