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
        self.write(move |writer| {
            Box::pin(async move {
                let delete = sqlx::query("DELETE FROM outbox WHERE event_id = $1");
                delete.bind(event.to_string()).execute(&mut writer.conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Results recorded before `older_than` that nobody has published, the oldest first.
    pub async fn pending_events(&self, older_than: Timestamp, limit: u32) -> Result<Vec<Event>, Fault> {
        let rows: Vec<String> = self
            .write(move |writer| {
                let select = "SELECT event FROM outbox WHERE created_at <= $1 ORDER BY created_at LIMIT $2";
                let select = sqlx::query_scalar(select).bind(older_than.as_millisecond()).bind(i64::from(limit));
                Box::pin(select.fetch_all(&mut writer.conn))
            })
            .await?;
        rows.iter().map(|event| decode(event)).collect()
    }

    /// How many results wait to be published, and how long the oldest has waited.
    pub async fn outbox(&self, now: Timestamp) -> Result<(u64, Duration), Fault> {
        let (count, oldest): (i64, Option<i64>) = self
            .write(|writer| {
                let select = "SELECT COUNT(*), MIN(created_at) FROM outbox";
                Box::pin(sqlx::query_as(select).fetch_one(&mut writer.conn))
            })
            .await?;
        let age = oldest.map_or(0, |oldest| now.as_millisecond() - oldest);
        Ok((count.unsigned_abs(), Duration::from_millis(age.max(0).unsigned_abs())))
    }

    /// Holds all calls to Graph until then. A hold is never shortened.
    pub async fn hold(&self, until: Timestamp) -> Result<(), Fault> {
        self.write(move |writer| {
            Box::pin(async move {
                let update = sqlx::query("UPDATE holds SET held_until = $1 WHERE held_until < $1");
                update.bind(until.as_millisecond()).execute(&mut writer.conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Until when Graph is not to be called, if it is not to be called now.
    pub async fn held_until(&self, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let until: i64 = self
            .write(|writer| Box::pin(sqlx::query_scalar("SELECT held_until FROM holds").fetch_one(&mut writer.conn)))
            .await?;
        Ok((until > now.as_millisecond()).then(|| moment(until)))
    }

    /// Whether the ledger takes a write right now.
    pub async fn is_writable(&self) -> bool {
        self.write(|writer| {
            Box::pin(async move {
                sqlx::query("UPDATE meta SET probes = probes + 1").execute(&mut writer.conn).await?;
                Ok(())
            })
        })
        .await
        .is_ok()
    }
}
