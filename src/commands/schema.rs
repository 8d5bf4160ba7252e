//! `mfa-reset schema NAME`.

use std::io::Write;

use crate::cli::Schema;
use crate::schema;

/// Prints a JSON Schema.
pub fn print(name: Schema, out: &mut impl Write) -> anyhow::Result<()> {
    let schema = match name {
        Schema::Request => schema::request(),
        Schema::Result => schema::result(),
        Schema::Delayed => schema::delayed(),
        Schema::Audit => schema::audit(),
    };
    serde_json::to_writer_pretty(&mut *out, &schema)?;
    writeln!(out)?;
    Ok(())
}
