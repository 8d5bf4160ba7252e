//! What is not about one job: results that wait to be published, and the hold on Graph.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Ledger, decode, moment};
use crate::domain::event::Event;
use crate::domain::outcome::Fault;

impl Ledger {
    /// Notes that a result is published.
    pub async fn mark_published(&self, event: Uuid) -> Result<(), Fault> {
        self.run(sqlx::query("DELETE FROM outbox WHERE event_id = $1").bind(event.to_string())).await
    }

    /// Results recorded up to `older_than` that nobody has published, the oldest first.
    pub async fn pending_events(&self, older_than: Timestamp, limit: u32) -> Result<Vec<Event>, Fault> {
        let select = sqlx::query_as("SELECT event FROM outbox WHERE created_at <= $1 ORDER BY created_at LIMIT $2");
        let select = select.bind(older_than.as_millisecond()).bind(i64::from(limit));
        let rows: Vec<(String,)> = self.rows(select).await?;
        rows.iter().map(|(event,)| decode(event)).collect()
    }

    /// How many results wait to be published, and how long the oldest has waited.
    pub async fn outbox(&self, now: Timestamp) -> Result<(u64, Duration), Fault> {
        let now = now.as_millisecond();
        let select = sqlx::query_as("SELECT COUNT(*), COALESCE(MIN(created_at), $1) FROM outbox").bind(now);
        let rows: Vec<(i64, i64)> = self.rows(select).await?;
        let (count, oldest) = rows.first().copied().unwrap_or((0, now));
        Ok((count.unsigned_abs(), Duration::from_millis((now - oldest).max(0).unsigned_abs())))
    }

    /// Holds all calls to Graph until then. A hold is never shortened.
    pub async fn hold(&self, until: Timestamp) -> Result<(), Fault> {
        let update = sqlx::query("UPDATE holds SET held_until = $1 WHERE held_until < $1");
        self.run(update.bind(until.as_millisecond())).await
    }

    /// Until when Graph is not to be called, if it is not to be called now.
    pub async fn held_until(&self, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let select = sqlx::query_as("SELECT held_until FROM holds WHERE held_until > $1");
        let rows: Vec<(i64,)> = self.rows(select.bind(now.as_millisecond())).await?;
        Ok(rows.first().map(|(until,)| moment(*until)))
    }

    /// Whether the ledger takes a write right now.
    pub async fn is_writable(&self) -> bool {
        self.run(sqlx::query("UPDATE meta SET probes = probes + 1")).await.is_ok()
    }
}
