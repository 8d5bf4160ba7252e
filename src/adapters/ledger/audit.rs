//! The audit chain in the ledger: records and checkpoints, each stored as the very line that is exported.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::writer::Writer;
use super::{Ledger, encode};
use crate::domain::audit;
use crate::domain::outcome::Fault;

/// A record or checkpoint that is to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// Its row.
    pub id: i64,
    /// The record or checkpoint.
    pub body: Value,
}

impl Writer {
    /// Puts a record at the end of the chain, in the open transaction.
    pub(super) async fn append(&mut self, record: Value) -> sqlx::Result<()> {
        let record = audit::seal(&mut self.head, record).map_err(encode)?;
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let request = text("/metadata/correlation_uid").and_then(|key| key.split_once('/')).map(|(_, id)| id);
        let insert = "INSERT INTO audit (chain, seq, line, request, ticket, user_id) VALUES ($1, $2, $3, $4, $5, $6)";
        sqlx::query(insert)
            .bind(self.head.chain.to_string())
            .bind(self.head.seq.cast_signed())
            .bind(serde_json_canonicalizer::to_string(&record).map_err(encode)?)
            .bind(request)
            .bind(text("/unmapped/ticket/number"))
            .bind(text("/user/uid"))
            .execute(&mut self.conn)
            .await?;
        Ok(())
    }

    /// Signs how far the chain has come, in the open transaction.
    async fn sign(&mut self, now: Timestamp) -> sqlx::Result<()> {
        self.checkpoints += 1;
        let public = self.key.public();
        let mut checkpoint = json!({
            "type": "checkpoint", "number": self.checkpoints, "time": now.as_millisecond(),
            "chain": self.head.chain, "seq": self.head.seq, "digest": self.head.digest,
            "key_id": public.id(), "public_key": public.to_string(),
        });
        let unsigned = serde_json_canonicalizer::to_vec(&checkpoint).map_err(encode)?;
        checkpoint["signature"] = self.key.sign(&unsigned).into();
        sqlx::query("INSERT INTO audit (chain, line) VALUES ($1, $2)")
            .bind(self.head.chain.to_string())
            .bind(serde_json_canonicalizer::to_string(&checkpoint).map_err(encode)?)
            .execute(&mut self.conn)
            .await?;
        Ok(())
    }
}

impl Ledger {
    /// Writes the record of a request that was turned away at the door.
    pub async fn record_refusal(&self, audit: Value) -> Result<(), Fault> {
        self.write(move |writer| Box::pin(writer.append(audit))).await
    }

    /// Writes a signed checkpoint, whether anything happened or not: silence is proved too.
    pub async fn checkpoint(&self, now: Timestamp) -> Result<(), Fault> {
        self.write(move |writer| Box::pin(writer.sign(now))).await
    }

    /// What is not published yet, in the order it was written.
    pub async fn pending_audit(&self, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        let rows: Vec<(i64, String)> = self
            .write(move |writer| {
                let select = "SELECT id, line FROM audit WHERE published = 0 ORDER BY id LIMIT $1";
                Box::pin(sqlx::query_as(select).bind(i64::from(limit)).fetch_all(&mut writer.conn))
            })
            .await?;
        rows.into_iter().map(|(id, line)| Ok(AuditRow { id, body: super::decode(&line)? })).collect()
    }

    /// Notes what is published.
    pub async fn mark_audit_published(&self, rows: Vec<i64>) -> Result<(), Fault> {
        self.write(move |writer| {
            Box::pin(async move {
                for id in rows {
                    let update = sqlx::query("UPDATE audit SET published = 1 WHERE id = $1");
                    update.bind(id).execute(&mut writer.conn).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
