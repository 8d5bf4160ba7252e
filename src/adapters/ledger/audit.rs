//! The audit chain in the ledger: records and checkpoints, each stored as the very line that is exported.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::writer::Writer;
use super::{Ledger, decode, encode};
use crate::domain::audit;
use crate::domain::outcome::Fault;

/// How much later than the checkpoint before it a record may be, in milliseconds: a checkpoint taken out leaves a gap.
pub(super) const UNSIGNED: i64 = 3_600_000;

impl Writer {
    /// Puts a record at the end of the chain, in the open transaction. After a long silence, such as a machine asleep,
    /// a checkpoint goes before it.
    pub(super) async fn append(&mut self, record: Value) -> sqlx::Result<()> {
        if let Some(time) = record["time"].as_i64().filter(|time| time.saturating_sub(self.signed.1) > UNSIGNED) {
            self.sign(time).await?;
        }
        let sealed = audit::seal(&mut self.head, record);
        let record = sealed.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let request = text("/metadata/correlation_uid").and_then(|key| key.split_once('/')).map(|(_, id)| id);
        let insert = "INSERT INTO audit (chain, seq, digest, line, request, ticket, user_id) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let insert = sqlx::query(insert).bind(self.head.chain.to_string()).bind(self.head.seq.cast_signed());
        let insert = insert.bind(self.head.digest.clone()).bind(encode(&record)?);
        let insert = insert.bind(request).bind(text("/unmapped/ticket/number")).bind(text("/user/uid"));
        self.run(insert).await.map(drop)
    }

    /// Signs how far the chain has come, in the open transaction.
    pub(super) async fn sign(&mut self, now: i64) -> sqlx::Result<()> {
        self.signed = (self.signed.0 + 1, now);
        let public = self.key.public();
        let mut checkpoint = json!({
            "type": "checkpoint", "number": self.signed.0, "time": now,
            "chain": self.head.chain, "seq": self.head.seq, "digest": self.head.digest,
            "key_id": public.id(), "public_key": public.to_string(),
        });
        checkpoint["signature"] = self.key.sign(encode(&checkpoint)?.as_bytes()).into();
        let insert = sqlx::query("INSERT INTO audit (chain, line) VALUES ($1, $2)");
        self.run(insert.bind(self.head.chain.to_string()).bind(encode(&checkpoint)?)).await.map(drop)
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

    /// Records and checkpoints that are not published yet, in the order they were written, each with its row.
    pub async fn pending_audit(&self, limit: u32) -> Result<Vec<(i64, Value)>, Fault> {
        let select = sqlx::query_as("SELECT id, line FROM audit WHERE published = 0 ORDER BY id LIMIT $1");
        let rows: Vec<(i64, String)> = self.rows(select.bind(i64::from(limit))).await?;
        rows.into_iter().map(|(id, line)| Ok((id, decode(&line)?))).collect()
    }

    /// Notes that a record or checkpoint is published.
    pub async fn mark_audit_published(&self, row: i64) -> Result<(), Fault> {
        self.run(sqlx::query("UPDATE audit SET published = 1 WHERE id = $1").bind(row)).await
    }
}
