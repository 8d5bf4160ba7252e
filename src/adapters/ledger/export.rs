//! Exports the audit log.

use std::io::{self, Write};

use futures_util::TryStreamExt;

use super::open::OpenError;
use super::place::Place;

/// Why a log cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Open(#[source] OpenError),
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Read(#[source] sqlx::Error),
    /// The output cannot be written.
    #[error("the export cannot be written")]
    Write(#[source] io::Error),
}

/// Writes the audit log as JSON Lines, chain by chain, and tells how many lines there were; with `about`, only the
/// records of this ticket number, request id or user's object id. A worker may go on working meanwhile.
pub async fn export(url: &str, out: &mut (dyn Write + Send), about: Option<&str>) -> Result<u64, ExportError> {
    let place = Place::parse(url).map_err(ExportError::Open)?;
    let mut conn = place.connect_to_read().await.map_err(ExportError::Read)?;
    let select = "SELECT line FROM audit JOIN (SELECT chain AS c, MIN(id) AS first FROM audit GROUP BY chain) AS birth \
                  ON chain = birth.c WHERE $1 = '' OR $1 IN (ticket, request, user_id) ORDER BY birth.first, id";
    let mut lines = sqlx::query_scalar::<_, String>(select).bind(about.unwrap_or_default()).fetch(&mut conn);
    let mut count = 0;
    while let Some(line) = lines.try_next().await.map_err(ExportError::Read)? {
        writeln!(out, "{line}").map_err(ExportError::Write)?;
        count += 1;
    }
    out.flush().map_err(ExportError::Write)?;
    Ok(count)
}
