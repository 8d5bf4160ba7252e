//! Opening a ledger: one process at a time, its predecessor's leases voided, a new audit chain begun.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use sqlx::ConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use super::key::{SigningKey, beside, unhex};
use super::writer::{Counts, Writer};
use super::{Ledger, moment};
use crate::domain::audit::{self, Head};
use crate::domain::request::hex;

static MIGRATIONS: Migrator = sqlx::migrate!("src/adapters/ledger/migrations/sqlite");
/// How many writes may wait; past it, callers wait to queue.
const QUEUE: usize = 1024;

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a place that this version can keep a ledger in.
    #[error("the ledger url must be sqlite:PATH or sqlite::memory:")]
    Url,
    /// Another process has it open.
    #[error("another worker uses this ledger: {} is locked", .0.display())]
    Locked(PathBuf),
    /// A file cannot be made or locked.
    #[error("the ledger file {} cannot be used", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The database answers with an error, or is damaged.
    #[error("the ledger cannot be opened")]
    Sql(#[source] sqlx::Error),
}

impl Ledger {
    /// Opens the ledger at `sqlite:PATH` or `sqlite::memory:`, making it where there is none.
    pub async fn open(url: &str, instance: &str, key: SigningKey, now: Timestamp) -> Result<Self, OpenError> {
        let path = place(url)?;
        let lock = path.as_deref().map(claim).transpose()?;
        let conn = options(path.as_deref()).connect().await.map_err(OpenError::Sql)?;
        let head = Head { chain: Uuid::now_v7(), seq: 0, digest: String::new() };
        let counts = Arc::new(Counts::default());
        let mut writer = Writer { conn, head, signed: (0, now.as_millisecond()), key, counts: counts.clone(), lock };
        let (birth, digest_key) = writer.begin(instance, now).await.map_err(OpenError::Sql)?;
        let (queue, works) = mpsc::channel(QUEUE);
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(writer.serve(works, closing.clone()));
        tasks.close();
        Ok(Self { queue, closing, tasks, counts, birth, digest_key })
    }
}

impl Writer {
    /// Brings the tables up to date, voids the leases of the process before, and begins the audit chain,
    /// signed from its first record on. Tells when the ledger was made, and its digest key.
    async fn begin(&mut self, instance: &str, now: Timestamp) -> sqlx::Result<(Timestamp, [u8; 32])> {
        MIGRATIONS.run(&mut self.conn).await?;
        let mut fresh = [0; 32];
        rand::fill(&mut fresh).map_err(|_| damaged("no randomness"))?;
        self.run(sqlx::query("BEGIN IMMEDIATE")).await?;
        let insert = "INSERT INTO meta (one, birth, digest_key, instance) VALUES (1, $1, $2, $3) \
                      ON CONFLICT (one) DO NOTHING";
        self.run(sqlx::query(insert).bind(now.as_millisecond()).bind(hex(&fresh)).bind(instance)).await?;
        self.run(sqlx::query("UPDATE jobs SET lease_until = 0 WHERE lease_until > 0")).await?;
        let heads = self.heads().await?;
        self.append(audit::birth(instance, &heads, now)).await?;
        self.sign(now.as_millisecond()).await?;
        let select = sqlx::query_as("SELECT birth, digest_key FROM meta");
        let (birth, key): (i64, String) = select.fetch_one(&mut self.conn).await?;
        self.run(sqlx::query("COMMIT")).await?;
        self.count();
        let key = unhex(&key).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| damaged("no digest key"))?;
        Ok((moment(birth), key))
    }

    /// The last record of every chain.
    async fn heads(&mut self) -> sqlx::Result<Vec<Head>> {
        let select = "SELECT chain, seq, digest FROM audit JOIN \
                      (SELECT chain AS c, MAX(seq) AS s FROM audit GROUP BY chain) AS last \
                      ON chain = last.c AND seq = last.s ORDER BY id";
        let rows: Vec<(String, i64, String)> = self.rows(sqlx::query_as(select)).await?;
        let head = |(chain, seq, digest): (String, i64, String)| {
            let chain = chain.parse().map_err(|_| damaged("an audit chain without an id"))?;
            Ok(Head { chain, seq: seq.unsigned_abs(), digest })
        };
        rows.into_iter().map(head).collect()
    }
}

fn damaged(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

/// The file that the url names; none for a ledger in memory.
pub(super) fn place(url: &str) -> Result<Option<PathBuf>, OpenError> {
    let path = url.strip_prefix("sqlite:").ok_or(OpenError::Url)?;
    match path.strip_prefix("//").unwrap_or(path) {
        "" => Err(OpenError::Url),
        ":memory:" => Ok(None),
        path => Ok(Some(path.into())),
    }
}

/// Makes the file, for its owner alone (SQLite gives its companions the same mode), and locks it for this process.
fn claim(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, ".lock");
    let open = |path: &Path| {
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        opened.map_err(|source| OpenError::File(path.to_owned(), source))
    };
    let lock = open(&lock_path)?;
    match lock.try_lock() {
        Ok(()) => open(path)?,
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(lock_path)),
        Err(TryLockError::Error(source)) => return Err(OpenError::File(lock_path, source)),
    };
    ["", "-wal", "-shm", ".lock"].iter().try_for_each(|suffix| close_to_others(beside(path, suffix))).map(|()| lock)
}

/// Takes a file from everybody but its owner, where a copy or a restore has opened it to others.
fn close_to_others(path: PathBuf) -> Result<(), OpenError> {
    let closed = match fs::metadata(&path) {
        Ok(found) if found.permissions().mode() & 0o177 == 0 => Ok(()),
        Ok(_) => {
            warn!(file = %path.display(), "a file of the ledger was open to others; it is now its owner's alone");
            fs::set_permissions(&path, Permissions::from_mode(0o600))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    closed.map_err(|source| OpenError::File(path, source))
}

/// How to connect: a commit is on the disk before anybody is told of it.
fn options(path: Option<&Path>) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        .disable_statement_logging();
    match path {
        Some(path) => options.filename(path),
        None => options.in_memory(true),
    }
}
