//! Audit records of a command that works beside the workers.

use jiff::Timestamp;
use serde_json::Value;

use super::key::SigningKey;
use super::open::OpenError;
use super::place::Place;
use super::writer::Writer;

/// Appends records as a chain of their own, begun, signed and ended in one commit. A worker may have the ledger open
/// meanwhile; the ledger must be there already.
pub async fn record_beside(
    url: &str,
    instance: &str,
    key: SigningKey,
    records: Vec<Value>,
    now: Timestamp,
) -> Result<(), OpenError> {
    let mut writer = Writer::connect(Place::parse(url)?, key, None, now).await?;
    let recorded = writer.record_chain(instance, records, now).await;
    recorded.map_err(|error| writer.place.cannot_open(error))
}

impl Writer {
    async fn record_chain(&mut self, instance: &str, records: Vec<Value>, now: Timestamp) -> sqlx::Result<()> {
        self.begin().await?;
        self.begin_chain(instance, false, now).await?;
        for record in records {
            self.append(record).await?;
        }
        self.sign(now.as_millisecond()).await?;
        // Whoever has a line to the broker may post it at once.
        let free = sqlx::query("UPDATE audit SET claimed_until = 0 WHERE chain = $1");
        self.run(free.bind(self.end.head.chain.to_string())).await?;
        self.finish().await
    }
}
