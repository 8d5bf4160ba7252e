//! Looks at a ledger and changes nothing: whether it is there and how old its tables are, who has it, and what a
//! database lets us do. A worker may go on working meanwhile.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyConnection, query_scalar};

use super::key::beside;
use super::moment;
use super::open::OpenError;
use super::place::{POSTGRES, POSTGRES_CLOCK, Place, SQLITE};

/// Every table, and what the worker does with it.
const TABLES: [(&str, &[&str]); 7] = [
    ("meta", &["SELECT", "INSERT", "UPDATE"]),
    ("holds", &["SELECT", "UPDATE"]),
    ("jobs", &["SELECT", "INSERT", "UPDATE"]),
    ("steps", &["SELECT", "INSERT", "UPDATE"]),
    ("users_held", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("outbox", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("audit", &["SELECT", "INSERT", "UPDATE"]),
];

/// What a ledger is found to be.
#[derive(Debug)]
pub enum Look {
    /// In memory, and gone with the process.
    Memory,
    /// A SQLite file.
    File(FileLook),
    /// A PostgreSQL database.
    Database(DatabaseLook),
}

/// A SQLite file as it is found.
#[derive(Debug)]
pub struct FileLook {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// Whether a running worker has locked it.
    pub held: bool,
    /// The version of its tables, if it has any.
    pub version: Option<i64>,
    /// The newest version that this program knows.
    pub known: i64,
}

/// A database as it is found.
#[derive(Debug)]
pub struct DatabaseLook {
    /// The version of its tables, if it has any.
    pub version: Option<i64>,
    /// The newest version that this program knows.
    pub known: i64,
    /// Whether it takes no writes: a standby, or set so.
    pub read_only: bool,
    /// Whether a commit is on the disk before it is confirmed, as far as the server says.
    pub durable: bool,
    /// Whether its encoding is UTF-8.
    pub utf8: bool,
    /// Whether the role may make tables.
    pub may_create: bool,
    /// What the role may not do and the worker has to, such as `UPDATE on jobs`.
    pub closed: Vec<String>,
    /// By how much its clock is ahead of ours.
    pub ahead: SignedDuration,
}

/// Looks at the ledger.
pub async fn look(url: &str) -> Result<Look, OpenError> {
    match Place::parse(url)? {
        Place::Memory => Ok(Look::Memory),
        Place::File(path) => Ok(Look::File(look_at_file(path).await?)),
        place @ Place::Postgres(_) => {
            let mut conn = place.reach("ro").await.map_err(OpenError::Unreachable)?;
            Ok(Look::Database(look_at_database(&mut conn).await.map_err(OpenError::Sql)?))
        }
    }
}

async fn look_at_file(path: PathBuf) -> Result<FileLook, OpenError> {
    let known = SQLITE.iter().map(|migration| migration.version).max().unwrap_or_default();
    let size = match fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(FileLook { path, exists: false, held: false, version: None, known });
        }
        Err(error) => return Err(OpenError::File(path, error)),
    };
    let held = is_held(&path)?;
    let version = if size == 0 { None } else { version_of(&path).await.map_err(OpenError::Sql)? };
    Ok(FileLook { path, exists: true, held, version, known })
}

/// Whether somebody has the lock. It is tried for a moment, shared; a worker that starts just then waits a second.
fn is_held(path: &Path) -> Result<bool, OpenError> {
    let lock = beside(path, ".lock");
    let failed = |error| OpenError::File(lock.clone(), error);
    match File::open(&lock) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Where there is no log of changes, SQLite would make one even to read, unless it is told that nobody writes.
async fn version_of(path: &Path) -> sqlx::Result<Option<i64>> {
    let logged = beside(path, "-wal").exists();
    let mode = if logged { "ro" } else { "ro&immutable=true" };
    let mut conn = Place::File(path.to_owned()).reach(mode).await?;
    let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let tables: i64 = query_scalar(tables).fetch_one(&mut conn).await?;
    if tables == 0 { Ok(None) } else { version(&mut conn).await }
}

async fn version(conn: &mut AnyConnection) -> sqlx::Result<Option<i64>> {
    query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(conn).await
}

async fn look_at_database(conn: &mut AnyConnection) -> sqlx::Result<DatabaseLook> {
    let known = POSTGRES.iter().map(|migration| migration.version).max().unwrap_or_default();
    let read_only = yes(conn, "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'").await?;
    let durable = yes(conn, "SELECT current_setting('fsync') = 'on'").await?;
    let utf8 = yes(conn, "SELECT current_setting('server_encoding') = 'UTF8'").await?;
    let may_create = yes(conn, "SELECT COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)").await?;
    let asked = Timestamp::now();
    let clock: i64 = query_scalar(POSTGRES_CLOCK).fetch_one(&mut *conn).await?;
    let middle = asked + Timestamp::now().duration_since(asked) / 2;
    let ahead = moment(clock).duration_since(middle);
    let made = yes(conn, "SELECT to_regclass('_sqlx_migrations') IS NOT NULL").await?;
    let (mut version_found, mut closed) = (None, Vec::new());
    if made {
        let readable = yes(conn, "SELECT has_table_privilege('_sqlx_migrations', 'SELECT')").await?;
        version_found = if readable { version(conn).await? } else { None };
        closed = closed_tables(conn).await?;
        closed.extend((!readable).then(|| "SELECT on _sqlx_migrations".to_owned()));
    }
    Ok(DatabaseLook { version: version_found, known, read_only, durable, utf8, may_create, closed, ahead })
}

async fn yes(conn: &mut AnyConnection, question: &'static str) -> sqlx::Result<bool> {
    query_scalar(question).fetch_one(conn).await
}

async fn closed_tables(conn: &mut AnyConnection) -> sqlx::Result<Vec<String>> {
    let question = "SELECT to_regclass($1) IS NULL OR has_table_privilege($1, $2)";
    let mut closed = Vec::new();
    for (table, needed) in TABLES {
        for privilege in needed {
            let open = query_scalar(question).bind(table).bind(*privilege);
            let open: bool = open.fetch_one(&mut *conn).await?;
            closed.extend((!open).then(|| format!("{privilege} on {table}")));
        }
    }
    Ok(closed)
}
