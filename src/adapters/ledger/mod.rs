//! The ledger: what must survive a crash. Leases, plans, outcomes, holds, the audit chain and the outbox, in a SQLite
//! file of one process or in a PostgreSQL database that several share.
//!
//! Every write is durable when its method returns, and every write under a lease checks the fencing number in the
//! same transaction. It decides nothing about a reset, and no name, address or phone number reaches it but through
//! audit records.

mod audit;
mod beside;
mod export;
mod inspect;
mod jobs;
mod key;
mod open;
mod outbox;
mod place;
mod plans;
mod sweep;
mod verify;
mod writer;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use beside::record_beside;
pub use export::{ExportError, export};
pub use inspect::{DatabaseLook, FileLook, Look, look};
pub use key::{KeyError, PublicKey, SigningKey};
pub use open::OpenError;
pub use sweep::Overdue;
pub use verify::{Bad, Verified, verify};
pub use writer::Counts;

use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;
use writer::{Answer, Statement, Work, Writer};

/// How long a message is left to the process that claimed it, in milliseconds.
const CLAIM: i64 = 60_000;

/// An open ledger. No other process can open one in SQLite.
pub struct Ledger {
    queue: mpsc::Sender<Work>,
    closing: CancellationToken,
    tasks: TaskTracker,
    counts: Arc<Counts>,
    birth: Timestamp,
    digest_key: [u8; 32],
    /// How long a call to Graph may take, in milliseconds.
    longest_call: i64,
}

impl Ledger {
    /// When this ledger was made.
    pub fn birth(&self) -> Timestamp {
        self.birth
    }

    /// The key of the digests in plans: as old as the ledger, and never printed.
    pub fn digest_key(&self) -> [u8; 32] {
        self.digest_key
    }

    /// What was written since the ledger was opened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Finishes what is queued and closes the file; later writes find the ledger unavailable.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
    }

    /// Runs `work` in the next commit and waits for it. Dropping the future changes nothing about the write.
    async fn write<T, W>(&self, work: W) -> Result<T, Fault>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut Writer) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |writer| {
            Box::pin(async move {
                let value = work(writer).await?;
                let answer: Answer = Box::new(move || drop(tell.send(value)));
                Ok(answer)
            })
        });
        self.queue.send(work).await.map_err(|_| unavailable())?;
        told.await.map_err(|_| unavailable())
    }

    /// Runs one statement.
    async fn run(&self, statement: Statement<'static>) -> Result<(), Fault> {
        self.write(move |writer| Box::pin(async move { writer.run(statement).await.map(drop) })).await
    }
}

const fn unavailable() -> Fault {
    Fault::Unavailable { reason: Reason::LedgerUnavailable }
}

fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

/// Writes JSON.
fn encode(value: &impl Serialize) -> sqlx::Result<String> {
    serde_json_canonicalizer::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Reads JSON that this ledger wrote.
fn decode<T: DeserializeOwned>(json: &str) -> Result<T, Fault> {
    serde_json::from_str(json).map_err(|error| {
        warn!(%error, "the ledger holds something that cannot be read");
        unavailable()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_fails_the_writes_and_nothing_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let url = format!("sqlite:{}", path.display());
        let key = SigningKey::load_or_create(&dir.path().join("key")).unwrap();
        let ledger = Ledger::open(&url, "test", key, std::time::Duration::ZERO, Timestamp::UNIX_EPOCH).await.unwrap();
        let record = serde_json::json!({"metadata": {}, "time": 1, "message": "x".repeat(100_000)});
        // SQLite answers "database or disk is full" past this many pages.
        ledger.run(sqlx::query("PRAGMA max_page_count = 1")).await.unwrap();
        assert_eq!(ledger.record_refusal(record.clone()).await, Err(unavailable()));
        ledger.run(sqlx::query("PRAGMA max_page_count = 1000000")).await.unwrap();
        ledger.record_refusal(record.clone()).await.unwrap();
        let wrong = ledger.run(sqlx::query("DELETE FROM nowhere"));
        let (wrong, written) = tokio::join!(wrong, ledger.record_refusal(record.clone()));
        assert_eq!((wrong, written), (Err(unavailable()), Err(unavailable())), "they share a commit");
        ledger.record_refusal(record).await.unwrap();
        assert_eq!(ledger.counts().records(), 3);
        ledger.close().await;
        let mut out = Vec::new();
        export(&url, &mut out, None).await.unwrap();
        assert_eq!(verify(&out[..], None, &[]).unwrap().records, 3);
    }
}
