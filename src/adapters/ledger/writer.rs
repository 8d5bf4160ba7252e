//! One connection and one task: writes wait in a queue, and what has queued up shares one commit.
//!
//! A caller that goes away changes nothing: its write runs here, whole or not at all. Works hold no logic of their
//! own beyond SQL; what they read is decoded by the caller, so that one bad row cannot fail its neighbours.
//!
//! After an error nothing is assumed, since a commit whose answer was lost may have happened: its callers hear that the
//! ledger is unavailable and look again, and the ledger says whether the audit chain ends before the group or after it.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{Any, AnyConnection, Connection, FromRow};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::jobs::Clock;
use super::key::SigningKey;
use super::place::{Place, too_slow};
use crate::domain::audit::Head;

/// How many writes share a commit at most.
const GROUP: usize = 32;
/// How long a group may take: a database that hangs is as good as away.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long trouble that goes on is not told again.
const SILENCE: Duration = Duration::from_secs(60);

/// A statement with its values.
pub(super) type Statement<'q> = Query<'q, Any, AnyArguments>;
/// A statement with its values, and what its rows are read as.
pub(super) type Question<'q, T> = QueryAs<'q, Any, T, AnyArguments>;
/// Tells the caller, once its write is durable; dropped unheard, it means that it is not.
pub(super) type Answer = Box<dyn FnOnce() + Send>;
/// A write: runs on the open transaction.
pub(super) type Work = Box<dyn for<'c> FnOnce(&'c mut Writer) -> BoxFuture<'c, sqlx::Result<Answer>> + Send>;

/// What was written since the ledger was opened.
#[derive(Debug, Default)]
pub struct Counts {
    records: AtomicU64,
    commits: AtomicU64,
}

impl Counts {
    /// Audit records.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Commits.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

/// Where a chain ends.
#[derive(Clone)]
pub(super) struct End {
    /// Its last record.
    pub(super) head: Head,
    /// How many checkpoints it has, and the time of the last.
    pub(super) signed: (u64, i64),
}

/// All that a write may touch.
pub(super) struct Writer {
    /// Where the ledger is.
    pub(super) place: Place,
    /// The connection, in an open transaction.
    pub(super) conn: AnyConnection,
    /// Whether the last group met an error, so that the connection may be bad.
    pub(super) broken: bool,
    /// When trouble was last told.
    pub(super) told: Option<Instant>,
    /// Where this process's chain stood when the transaction began.
    pub(super) before: End,
    /// Where it may stand since an error: without the group that met it, or with it.
    pub(super) doubt: Option<[End; 2]>,
    /// The database's time when the transaction began, where its clock is the one that counts.
    pub(super) began: Option<(i64, Instant)>,
    /// The end of this process's audit chain.
    pub(super) end: End,
    /// Signs checkpoints.
    pub(super) key: SigningKey,
    /// What was written so far.
    pub(super) counts: Arc<Counts>,
    /// Held until the connection is closed: no other process may write.
    pub(super) lock: Option<File>,
}

impl Writer {
    /// Runs a statement, and tells how many rows it changed.
    pub(super) async fn run(&mut self, statement: Statement<'_>) -> sqlx::Result<u64> {
        Ok(statement.execute(&mut self.conn).await?.rows_affected())
    }

    /// Reads rows.
    pub(super) async fn rows<T>(&mut self, question: Question<'_, T>) -> sqlx::Result<Vec<T>>
    where
        T: Send + Unpin + for<'r> FromRow<'r, AnyRow>,
    {
        question.fetch_all(&mut self.conn).await
    }

    /// Writes until the queue is closed and empty.
    pub(super) async fn serve(mut self, mut queue: mpsc::Receiver<Work>, closing: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                () = closing.cancelled(), if !queue.is_closed() => queue.close(),
                taken = queue.recv_many(&mut group, GROUP) => match taken {
                    0 => break,
                    _ => self.write(std::mem::take(&mut group)).await,
                },
            }
        }
        if let Err(error) = self.conn.close().await {
            warn!(%error, "the ledger was not closed cleanly");
        }
        drop(self.lock);
    }

    /// Writes a group and answers it.
    async fn write(&mut self, group: Vec<Work>) {
        let writes = group.len();
        let written = timeout(PATIENCE, self.commit(group)).await;
        match written.unwrap_or_else(|_| Err(too_slow("writing"))) {
            Ok(answers) => {
                self.count();
                answers.into_iter().for_each(|answer| answer());
            }
            Err(error) => {
                self.broken = true;
                if self.told.is_none_or(|told| told.elapsed() > SILENCE) {
                    self.told = Some(Instant::now());
                    warn!(%error, writes, "the ledger cannot be written");
                }
                if self.doubt.is_none() {
                    self.doubt = Some([self.before.clone(), self.end.clone()]);
                }
            }
        }
    }

    /// Notes a commit.
    pub(super) fn count(&self) {
        self.counts.records.store(self.end.head.seq, Ordering::Relaxed);
        self.counts.commits.fetch_add(1, Ordering::Relaxed);
    }

    async fn commit(&mut self, group: Vec<Work>) -> sqlx::Result<Vec<Answer>> {
        self.before = self.end.clone();
        if self.broken {
            self.place.recover(&mut self.conn).await?;
        }
        self.begin().await?;
        if let Some(ends) = self.doubt.clone() {
            self.end = self.find_end(ends).await?;
            (self.before, self.doubt) = (self.end.clone(), None);
        }
        let mut answers = Vec::with_capacity(group.len());
        for work in group {
            answers.push(work(self).await?);
        }
        self.finish().await?;
        self.broken = false;
        Ok(answers)
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        self.began = self.place.begin(&mut self.conn).await?;
        Ok(())
    }

    /// Commits it.
    pub(super) async fn finish(&mut self) -> sqlx::Result<()> {
        self.run(sqlx::query("COMMIT")).await.map(drop)
    }

    /// When the caller asked, by the clock that counts.
    pub(super) fn asked(&self, clock: Clock) -> i64 {
        clock.asked + self.ahead(clock)
    }

    /// How far the database's clock is ahead of the caller's, in milliseconds.
    pub(super) fn ahead(&self, clock: Clock) -> i64 {
        self.began.map_or(0, |_| self.now(clock) - clock.now())
    }

    /// The time, in milliseconds: the database's where it has a clock, else the caller's.
    pub(super) fn now(&self, clock: Clock) -> i64 {
        self.began.map_or_else(|| clock.now(), |(time, since)| time + millis(since.elapsed()))
    }
}

/// A span in milliseconds.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
