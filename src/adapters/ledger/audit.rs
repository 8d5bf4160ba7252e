//! The audit chain in the ledger: records and checkpoints, each stored as the very line that is exported.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::jobs::Clock;
use super::writer::{End, Writer};
use super::{CLAIM, Ledger, decode, encode};
use crate::domain::audit;
use crate::domain::outcome::Fault;

/// How much later than the checkpoint before it a record may be, in milliseconds: a checkpoint taken out leaves a gap.
pub(super) const UNSIGNED: i64 = 3_600_000;

impl Writer {
    /// Puts a record at the end of the chain, in the open transaction. After a long silence, such as a machine asleep,
    /// a checkpoint goes before it.
    pub(super) async fn append(&mut self, record: Value) -> sqlx::Result<()> {
        if let Some(time) = record["time"].as_i64().filter(|time| time.saturating_sub(self.end.signed.1) > UNSIGNED) {
            self.sign(time).await?;
        }
        let sealed = audit::seal(&mut self.end.head, record);
        let record = sealed.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        // PostgreSQL has no place for NUL in a text; a dead letter may bring one.
        let text = |pointer: &str| Some(record.pointer(pointer)?.as_str()?.replace('\0', "\u{fffd}"));
        let request = text("/metadata/correlation_uid").and_then(|key| Some(key.split_once('/')?.1.to_owned()));
        let insert = "INSERT INTO audit (chain, seq, digest, line, request, ticket, user_id, claimed_until) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let insert = sqlx::query(insert).bind(self.end.head.chain.to_string()).bind(self.end.head.seq.cast_signed());
        let insert = insert.bind(self.end.head.digest.clone()).bind(encode(&record)?);
        let insert = insert.bind(request).bind(text("/unmapped/ticket/number")).bind(text("/user/uid"));
        self.run(insert.bind(self.claim())).await.map(drop)
    }

    /// Signs how far the chain has come, in the open transaction.
    pub(super) async fn sign(&mut self, now: i64) -> sqlx::Result<()> {
        self.end.signed = (self.end.signed.0 + 1, now);
        let public = self.key.public();
        let mut checkpoint = json!({
            "type": "checkpoint", "number": self.end.signed.0, "time": now,
            "chain": self.end.head.chain, "seq": self.end.head.seq, "digest": self.end.head.digest,
            "key_id": public.id(), "public_key": public.to_string(),
        });
        checkpoint["signature"] = self.key.sign(encode(&checkpoint)?.as_bytes()).into();
        let insert = sqlx::query("INSERT INTO audit (chain, line, claimed_until) VALUES ($1, $2, $3)");
        let insert = insert.bind(self.end.head.chain.to_string()).bind(encode(&checkpoint)?);
        self.run(insert.bind(self.claim())).await.map(drop)
    }

    /// Until when a new line is left to the process that wrote it. A SQLite ledger has one process.
    fn claim(&self) -> i64 {
        self.began.map_or(0, |(time, _)| time + CLAIM)
    }

    /// Tells at which of these ends the chain stands. At another one somebody else has written to it, and this process
    /// writes no more: it would sign what is not its own.
    pub(super) async fn find_end(&mut self, ends: [End; 2]) -> sqlx::Result<End> {
        let chain = ends[0].head.chain.to_string();
        let count = sqlx::query_as("SELECT COUNT(seq), COUNT(*) - COUNT(seq) FROM audit WHERE chain = $1").bind(&chain);
        let counts: Vec<(i64, i64)> = self.rows(count).await?;
        let last = "SELECT digest FROM audit WHERE chain = $1 AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1";
        let digests: Vec<(String,)> = self.rows(sqlx::query_as(last).bind(&chain)).await?;
        let stands = |end: &End| {
            counts.first() == Some(&(end.head.seq.cast_signed(), end.signed.0.cast_signed()))
                && digests.first().is_some_and(|(digest,)| *digest == end.head.digest)
        };
        let stands_at = ends.into_iter().find(stands);
        stands_at.ok_or_else(|| sqlx::Error::Protocol("the audit chain of this process was changed".to_owned()))
    }
}

impl Ledger {
    /// Writes the record of a request that was turned away at the door.
    pub async fn record_refusal(&self, audit: Value) -> Result<(), Fault> {
        self.write(move |writer| Box::pin(writer.append(audit))).await
    }

    /// Writes a signed checkpoint, whether anything happened or not: silence is proved too.
    pub async fn checkpoint(&self, now: Timestamp) -> Result<(), Fault> {
        self.write(move |writer| Box::pin(writer.sign(now.as_millisecond()))).await
    }

    /// Claims records and checkpoints that are not published yet, in the order they were written, each with its row:
    /// this process's own, and those that another one has left alone for a minute.
    pub async fn pending_audit(&self, limit: u32, now: Timestamp) -> Result<Vec<(i64, Value)>, Fault> {
        let clock = Clock::at(now);
        let claimed = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.now(clock);
                let claim = "UPDATE audit SET claimed_until = $1 WHERE id IN (SELECT id FROM audit WHERE published = 0 \
                             AND (chain = $2 OR claimed_until <= $3) ORDER BY id LIMIT $4) RETURNING id, line";
                let claim = sqlx::query_as(claim).bind(now + CLAIM).bind(writer.end.head.chain.to_string());
                writer.rows::<(i64, String)>(claim.bind(now).bind(i64::from(limit))).await
            })
        });
        let mut rows = claimed.await?;
        rows.sort_unstable_by_key(|(id, _)| *id);
        rows.into_iter().map(|(id, line)| Ok((id, decode(&line)?))).collect()
    }

    /// Notes that these records or checkpoints are published.
    pub async fn mark_audit_published(&self, rows: &[i64]) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<String> = rows.iter().map(i64::to_string).collect();
        let mark = format!("UPDATE audit SET published = 1 WHERE id IN ({})", rows.join(", "));
        self.run(sqlx::query(AssertSqlSafe(mark)).persistent(false)).await
    }
}
