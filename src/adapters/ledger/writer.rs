//! One connection and one task: writes wait in a queue, and what has queued up shares one commit.
//!
//! A caller that goes away changes nothing: its write runs here, whole or not at all. Works hold no logic of their
//! own beyond SQL; what they read is decoded by the caller, so that one bad row cannot fail its neighbours.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use sqlx::query::{Query, QueryAs};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Connection, FromRow, Sqlite, SqliteConnection};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::key::SigningKey;
use crate::domain::audit::Head;

/// How many writes share a commit at most.
const GROUP: usize = 64;

/// A statement with its values.
pub(super) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;
/// A statement with its values, and what its rows are read as.
pub(super) type Question<'q, T> = QueryAs<'q, Sqlite, T, SqliteArguments>;
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

/// All that a write may touch.
pub(super) struct Writer {
    /// The connection, in an open transaction.
    pub(super) conn: SqliteConnection,
    /// The end of this process's audit chain.
    pub(super) head: Head,
    /// How many checkpoints the chain has, and the time of the last.
    pub(super) signed: (u64, i64),
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
        T: Send + Unpin + for<'r> FromRow<'r, SqliteRow>,
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

    /// Writes a group and answers it; after an error nothing of it is left, here or in the database.
    async fn write(&mut self, group: Vec<Work>) {
        let (head, signed, writes) = (self.head.clone(), self.signed, group.len());
        match self.commit(group).await {
            Ok(answers) => {
                self.count();
                answers.into_iter().for_each(|answer| answer());
            }
            Err(error) => {
                warn!(%error, writes, "the ledger cannot be written");
                (self.head, self.signed) = (head, signed);
                // Where the database has rolled back by itself, this fails, and nothing is the matter.
                let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
            }
        }
    }

    /// Notes a commit.
    pub(super) fn count(&self) {
        self.counts.records.store(self.head.seq, Ordering::Relaxed);
        self.counts.commits.fetch_add(1, Ordering::Relaxed);
    }

    async fn commit(&mut self, group: Vec<Work>) -> sqlx::Result<Vec<Answer>> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await?;
        let mut answers = Vec::with_capacity(group.len());
        for work in group {
            answers.push(work(self).await?);
        }
        sqlx::query("COMMIT").execute(&mut self.conn).await?;
        Ok(answers)
    }
}
