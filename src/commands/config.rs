//! `mfa-reset config show`.

use std::io::Write;

use crate::config::Config;

/// Prints the settings in force, secrets as `***`.
pub fn show(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    out.write_all(config.show().as_bytes())?;
    Ok(())
}
