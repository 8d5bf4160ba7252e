//! Opening a ledger: tables brought up to date, a new audit chain begun. A SQLite ledger has one process at a time, which
//! voids the leases of the one before.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use super::jobs::Clock;
use super::key::{SigningKey, beside, unhex};
use super::place::Place;
use super::writer::{Counts, End, Writer, millis};
use super::{Ledger, moment};
use crate::domain::audit::{self, Head};
use crate::domain::request::hex;

/// How many writes may wait; past it, callers wait to queue.
const QUEUE: usize = 1024;

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a place that this version can keep a ledger in.
    #[error("the ledger url must be sqlite:PATH or postgres://...")]
    Url,
    /// Another process has it open.
    #[error("another worker uses this ledger: {} is locked", .0.display())]
    Locked(PathBuf),
    /// A file cannot be made or locked.
    #[error("the ledger file {} cannot be used", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The database does not answer, or turns the process away.
    #[error("the ledger's database cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    /// The database answers with an error, or is damaged.
    #[error("the ledger cannot be opened")]
    Sql(#[source] sqlx::Error),
}

impl Ledger {
    /// Opens the ledger at `sqlite:PATH`, `sqlite::memory:` or `postgres://...`, making its file or tables where there
    /// are none. No call to Graph takes longer than `longest_call`: that long after its end a lease is not given anew.
    pub async fn open(
        url: &str,
        instance: &str,
        key: SigningKey,
        longest_call: Duration,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let place = Place::parse(url)?;
        let lock = if let Place::File(path) = &place { Some(claim(path)?) } else { None };
        let mut writer = Writer::connect(place, key, lock, now).await?;
        let (birth, digest_key) =
            writer.prepare(instance, now).await.map_err(|error| writer.place.cannot_open(error))?;
        let (queue, works) = mpsc::channel(QUEUE);
        let (tasks, closing, counts) = (TaskTracker::new(), CancellationToken::new(), writer.counts.clone());
        tasks.spawn(writer.serve(works, closing.clone()));
        tasks.close();
        Ok(Self { queue, closing, tasks, counts, birth, digest_key, longest_call: millis(longest_call) })
    }
}

impl Writer {
    /// Connects, with a new chain that has no record yet.
    pub(super) async fn connect(
        place: Place,
        key: SigningKey,
        lock: Option<File>,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let conn = place.connect().await.map_err(|error| place.cannot_open(error))?;
        let head = Head { chain: Uuid::now_v7(), seq: 0, digest: String::new() };
        let end = End { head, signed: (0, now.as_millisecond()) };
        let (before, counts) = (end.clone(), Arc::new(Counts::default()));
        Ok(Self { place, conn, broken: false, told: None, before, doubt: None, began: None, end, key, counts, lock })
    }

    /// Brings the tables up to date, voids the leases of the process before, and begins the audit chain. Tells when the
    /// ledger was made, and its digest key.
    async fn prepare(&mut self, instance: &str, now: Timestamp) -> sqlx::Result<(Timestamp, [u8; 32])> {
        self.place.migrate(&mut self.conn).await?;
        let mut fresh = [0; 32];
        rand::fill(&mut fresh).map_err(|_| damaged("no randomness"))?;
        self.begin().await?;
        let insert = "INSERT INTO meta (one, birth, digest_key, instance) VALUES (1, $1, $2, $3) \
                      ON CONFLICT (one) DO NOTHING";
        let born = self.now(Clock::at(now));
        self.run(sqlx::query(insert).bind(born).bind(hex(&fresh)).bind(instance)).await?;
        if !self.place.is_shared() {
            self.run(sqlx::query("UPDATE jobs SET lease_until = 0 WHERE lease_until > 0")).await?;
            self.run(sqlx::query("UPDATE audit SET claimed_until = 0 WHERE published = 0")).await?;
            self.run(sqlx::query("UPDATE outbox SET claimed_until = 0")).await?;
        }
        self.begin_chain(instance, !self.place.is_shared(), now).await?;
        let select = sqlx::query_as("SELECT birth, digest_key FROM meta");
        let (birth, key): (i64, String) = select.fetch_one(&mut self.conn).await?;
        self.finish().await?;
        self.count();
        let key = unhex(&key).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| damaged("no digest key"))?;
        Ok((moment(birth), key))
    }

    /// Begins the audit chain, signed from its first record on. `alone` says that every other chain has ended.
    pub(super) async fn begin_chain(&mut self, instance: &str, alone: bool, now: Timestamp) -> sqlx::Result<()> {
        let heads = self.heads().await?;
        self.append(audit::birth(instance, &heads, alone, now)).await?;
        self.sign(now.as_millisecond()).await
    }

    /// The last record of every chain that has grown since a chain last began, the one that began then among them. Where
    /// the others end was said at an earlier start.
    async fn heads(&mut self) -> sqlx::Result<Vec<Head>> {
        let select = "SELECT chain, seq, digest FROM audit JOIN \
                      (SELECT chain AS c, MAX(seq) AS s FROM audit \
                      WHERE id >= (SELECT MAX(id) FROM audit WHERE seq = 1) GROUP BY chain) AS last \
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
