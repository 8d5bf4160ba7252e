//! Where a ledger is: a SQLite file that one process owns, or a PostgreSQL database that several share.
//!
//! Statements are the same for both. What differs is here: how to connect, how writers take turns, and whose clock
//! counts.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::any::{AnyConnectOptions, install_default_drivers};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{ConnectOptions, query_scalar, raw_sql};
use tokio::time::{Instant, timeout};

use super::open::OpenError;

pub(super) static SQLITE: Migrator = sqlx::migrate!("src/adapters/ledger/migrations/sqlite");
pub(super) static POSTGRES: Migrator = sqlx::migrate!("src/adapters/ledger/migrations/postgres");

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long reading the database's clock may take: no lease is off by more than that.
const CLOCK: Duration = Duration::from_secs(2);

/// A commit is on the disk before anybody is told of it.
const SQLITE_SESSION: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                              PRAGMA busy_timeout = 5000";
/// The same; and a process that freezes in the middle of a transaction, or is cut off, keeps the others waiting no
/// longer than this.
const POSTGRES_SESSION: &str = "SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'; \
                                SET idle_in_transaction_session_timeout = '5s'; SET statement_timeout = '10s'; \
                                SET client_min_messages = warning; SET timezone = 'UTC'";
/// Writers of all processes take turns, as they do in SQLite: a group of writes is short, Graph is what is slow, and
/// nobody need think of deadlocks. The number is this program's own.
const POSTGRES_BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(7163725384)";
pub(super) const POSTGRES_CLOCK: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT";

/// Where a ledger is.
#[derive(Clone)]
pub(super) enum Place {
    /// In memory, and gone with the process.
    Memory,
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database, by its url.
    Postgres(String),
}

impl Place {
    /// Reads `sqlite:PATH`, `sqlite::memory:` or `postgres://...`.
    pub(super) fn parse(url: &str) -> Result<Self, OpenError> {
        if ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(Self::Postgres(url.to_owned()));
        }
        let path = url.strip_prefix("sqlite:").ok_or(OpenError::Url)?;
        match path.strip_prefix("//").unwrap_or(path) {
            "" => Err(OpenError::Url),
            ":memory:" => Ok(Self::Memory),
            path => Ok(Self::File(path.into())),
        }
    }

    /// Whether other processes may write, too.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// What an error means on the way to an open ledger: a database elsewhere may be better soon, unless it holds what
    /// this version cannot work with.
    pub(super) fn cannot_open(&self, error: sqlx::Error) -> OpenError {
        let settled = if let sqlx::Error::Migrate(error) = &error {
            !matches!(**error, MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))
        } else {
            matches!(error, sqlx::Error::Decode(_) | sqlx::Error::Configuration(_))
        };
        if self.is_shared() && !settled { OpenError::Unreachable(error) } else { OpenError::Sql(error) }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> sqlx::Result<AnyConnection> {
        let mut conn = self.reach("rw").await?;
        let session = if self.is_shared() { POSTGRES_SESSION } else { SQLITE_SESSION };
        raw_sql(session).execute(&mut conn).await?;
        Ok(conn)
    }

    /// Connects to read only.
    pub(super) async fn connect_to_read(&self) -> sqlx::Result<AnyConnection> {
        self.reach("ro").await
    }

    pub(super) async fn reach(&self, mode: &str) -> sqlx::Result<AnyConnection> {
        install_default_drivers();
        let url = match self {
            Self::Memory => "sqlite::memory:".to_owned(),
            Self::File(path) => format!("sqlite:{}?mode={mode}", escaped(&path.to_string_lossy())),
            Self::Postgres(url) => url.clone(),
        };
        let options: AnyConnectOptions = url.parse()?;
        let options = options.disable_statement_logging();
        timeout(CONNECT, options.connect()).await.unwrap_or_else(|_| Err(too_slow("connecting")))
    }

    /// Brings the tables up to date. Processes that start together take turns.
    pub(super) async fn migrate(&self, conn: &mut AnyConnection) -> sqlx::Result<()> {
        if !self.is_shared() {
            return Ok(SQLITE.run(conn).await?);
        }
        let encoding: String = query_scalar("SHOW server_encoding").fetch_one(&mut *conn).await?;
        if encoding != "UTF8" {
            return Err(sqlx::Error::Configuration("the database's encoding has to be UTF8".into()));
        }
        Ok(POSTGRES.run(conn).await?)
    }

    /// Begins a transaction that no other writer shares, and tells the database's time, in milliseconds, with the
    /// moment before it was asked. A SQLite ledger has no clock of its own.
    pub(super) async fn begin(&self, conn: &mut AnyConnection) -> sqlx::Result<Option<(i64, Instant)>> {
        if !self.is_shared() {
            raw_sql("BEGIN IMMEDIATE").execute(conn).await?;
            return Ok(None);
        }
        raw_sql(POSTGRES_BEGIN).execute(&mut *conn).await?;
        let asked = Instant::now();
        let time = query_scalar(POSTGRES_CLOCK).fetch_one(conn).await?;
        if asked.elapsed() > CLOCK { Err(too_slow("reading the clock")) } else { Ok(Some((time, asked))) }
    }

    /// Makes a connection good again that met an error, whatever became of its transaction.
    pub(super) async fn recover(&self, conn: &mut AnyConnection) -> sqlx::Result<()> {
        if self.is_shared() {
            *conn = self.connect().await?;
        } else {
            // Where SQLite has rolled back by itself, this fails, and nothing is the matter.
            let _ = raw_sql("ROLLBACK").execute(conn).await;
        }
        Ok(())
    }
}

/// A path as it may stand in a url.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(super) fn too_slow(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} took too long")))
}
