//! Opening a ledger: one process at a time, its predecessor's leases voided, a new audit chain begun.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::key::{SigningKey, beside, unhex};
use super::writer::{Counts, Writer};
use super::{Ledger, decode, moment};
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
    #[error("the ledger file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database answers with an error.
    #[error("the ledger cannot be opened")]
    Sql(#[source] sqlx::Error),
    /// The tables cannot be brought up to date.
    #[error("the ledger's tables cannot be brought up to date")]
    Migrate(#[source] MigrateError),
    /// What the ledger says of itself makes no sense.
    #[error("the ledger is damaged")]
    Damaged,
}

impl Ledger {
    /// Opens the ledger at `sqlite:PATH` or `sqlite::memory:`, making it where there is none.
    pub async fn open(url: &str, instance: &str, key: SigningKey, now: Timestamp) -> Result<Self, OpenError> {
        let path = place(url)?;
        let lock = path.as_deref().map(claim).transpose()?;
        let conn = options(path.as_deref()).connect().await.map_err(OpenError::Sql)?;
        let head = Head { chain: Uuid::now_v7(), seq: 0, digest: String::new() };
        let counts = Arc::new(Counts::default());
        let mut writer = Writer { conn, head, checkpoints: 0, key, counts: counts.clone(), lock };
        MIGRATIONS.run(&mut writer.conn).await.map_err(OpenError::Migrate)?;
        let (birth, digest_key) = identity(&mut writer.conn, instance, now).await?;
        let heads = heads(&mut writer.conn).await?;
        let (queue, works) = mpsc::channel(QUEUE);
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(writer.run(works, closing.clone()));
        tasks.close();
        let ledger = Self { queue, closing, tasks, counts, birth, digest_key };
        ledger.begin(audit::birth(instance, &heads, now)).await?;
        Ok(ledger)
    }

    /// Voids the leases of the process before and begins the audit chain.
    async fn begin(&self, birth: serde_json::Value) -> Result<(), OpenError> {
        let begun = self.write(move |writer| {
            Box::pin(async move {
                let void = sqlx::query("UPDATE jobs SET lease_until = 0 WHERE lease_until > 0");
                void.execute(&mut writer.conn).await?;
                writer.append(birth).await
            })
        });
        begun.await.map_err(|_| OpenError::Sql(sqlx::Error::WorkerCrashed))
    }
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
    let open = |path: &Path| {
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        opened.map_err(|source| OpenError::File { path: path.to_owned(), source })
    };
    let lock = open(&beside(path, ".lock"))?;
    match lock.try_lock() {
        Ok(()) => open(path).map(|_| lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(beside(path, ".lock"))),
        Err(TryLockError::Error(source)) => Err(OpenError::File { path: beside(path, ".lock"), source }),
    }
}

/// How to connect; a commit is on the disk before anybody is told.
pub(super) fn options(path: Option<&Path>) -> SqliteConnectOptions {
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

/// When the ledger was made, and its digest key; both are made up where it is new.
async fn identity(
    conn: &mut SqliteConnection,
    instance: &str,
    now: Timestamp,
) -> Result<(Timestamp, [u8; 32]), OpenError> {
    let mut fresh = [0; 32];
    rand::fill(&mut fresh).map_err(|_| OpenError::Damaged)?;
    let insert = "INSERT INTO meta (one, birth, digest_key, instance) VALUES (1, $1, $2, $3) \
                  ON CONFLICT (one) DO NOTHING";
    let insert = sqlx::query(insert).bind(now.as_millisecond()).bind(hex(&fresh)).bind(instance);
    insert.execute(&mut *conn).await.map_err(OpenError::Sql)?;
    let select = sqlx::query_as("SELECT birth, digest_key FROM meta").fetch_one(conn);
    let (birth, key): (i64, String) = select.await.map_err(OpenError::Sql)?;
    let key = unhex(&key).and_then(|bytes| bytes.try_into().ok()).ok_or(OpenError::Damaged)?;
    Ok((moment(birth), key))
}

/// The last record of every chain.
async fn heads(conn: &mut SqliteConnection) -> Result<Vec<Head>, OpenError> {
    let select = "SELECT line FROM audit JOIN (SELECT chain AS c, MAX(seq) AS s FROM audit GROUP BY chain) AS last \
                  ON chain = last.c AND seq = last.s ORDER BY id";
    let lines: Vec<String> = sqlx::query_scalar(select).fetch_all(conn).await.map_err(OpenError::Sql)?;
    lines.iter().map(|line| decode(line).ok().and_then(|record| head(&record)).ok_or(OpenError::Damaged)).collect()
}

fn head(record: &serde_json::Value) -> Option<Head> {
    Some(Head {
        chain: record.pointer("/attestation/chain_uid")?.as_str()?.parse().ok()?,
        seq: record.pointer("/metadata/sequence")?.as_u64()?,
        digest: record.pointer("/attestation/fingerprint/value")?.as_str()?.to_owned(),
    })
}
