//! What is not about one job: results that wait to be published, and the hold on Graph.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::jobs::Clock;
use super::writer::millis;
use super::{CLAIM, Ledger, decode, moment};
use crate::domain::event::Event;
use crate::domain::outcome::Fault;
use crate::domain::request::Lane;

impl Ledger {
    /// Notes that a result is published.
    pub async fn mark_published(&self, event: Uuid) -> Result<(), Fault> {
        self.run(sqlx::query("DELETE FROM outbox WHERE event_id = $1").bind(event.to_string())).await
    }

    /// Claims results that were recorded longer than `patience` ago and that nobody has published or is publishing.
    /// A claim lasts a minute.
    pub async fn pending_events(&self, patience: Duration, limit: u32, now: Timestamp) -> Result<Vec<Event>, Fault> {
        let clock = Clock::at(now);
        let claimed = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.asked(clock);
                let claim = "UPDATE outbox SET claimed_until = $1 WHERE event_id IN (SELECT event_id FROM outbox \
                             WHERE created_at <= $2 AND claimed_until <= $3 ORDER BY created_at LIMIT $4) RETURNING event";
                let claim = sqlx::query_as(claim).bind(now + CLAIM).bind(now - millis(patience)).bind(now);
                writer.rows::<(String,)>(claim.bind(i64::from(limit))).await
            })
        });
        // One that cannot be read, such as a later version's, keeps nobody waiting.
        Ok(claimed.await?.iter().filter_map(|(event,)| decode(event).ok()).collect())
    }

    /// How many results wait to be published, and how long the oldest has waited.
    pub async fn outbox(&self, now: Timestamp) -> Result<(u64, Duration), Fault> {
        self.backlog("SELECT COUNT(*), MIN(created_at) FROM outbox", now).await
    }

    /// How many jobs of a lane are not concluded, and for how long the oldest has been known. The lane is found as
    /// [`crate::domain::request::Request::to_remember`] writes it: behind a flag, where no text of a ticket can stand.
    pub async fn open_jobs(&self, lane: Lane, now: Timestamp) -> Result<(u64, Duration), Fault> {
        let select = match lane {
            Lane::Tickets => {
                r#"SELECT COUNT(*), MIN(first_seen) FROM jobs WHERE event IS NULL AND about LIKE '%e,"tickets",%'"#
            }
            Lane::Batch => {
                r#"SELECT COUNT(*), MIN(first_seen) FROM jobs WHERE event IS NULL AND about LIKE '%e,"batch",%'"#
            }
        };
        self.backlog(select, now).await
    }

    async fn backlog(&self, select: &'static str, now: Timestamp) -> Result<(u64, Duration), Fault> {
        let clock = Clock::at(now);
        let read = self.write(move |writer| {
            Box::pin(async move {
                let rows: Vec<(i64, Option<i64>)> = writer.rows(sqlx::query_as(select)).await?;
                let (count, oldest) = rows.first().copied().unwrap_or_default();
                Ok((count.unsigned_abs(), oldest.map_or(0, |oldest| (writer.asked(clock) - oldest).max(0))))
            })
        });
        let (count, age) = read.await?;
        Ok((count, Duration::from_millis(age.unsigned_abs())))
    }

    /// Holds all calls to Graph until then, by the caller's clock. A hold is never shortened.
    pub async fn hold(&self, until: Timestamp, now: Timestamp) -> Result<(), Fault> {
        let (until, clock) = (until.as_millisecond(), Clock::at(now));
        let held = self.write(move |writer| {
            Box::pin(async move {
                let until = until + writer.ahead(clock);
                let update = sqlx::query("UPDATE holds SET held_until = $1 WHERE held_until < $1").bind(until);
                writer.run(update).await.map(drop)
            })
        });
        held.await
    }

    /// Until when Graph is not to be called, by the caller's clock, if it is not to be called now.
    pub async fn held_until(&self, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let clock = Clock::at(now);
        let read = self.write(move |writer| {
            Box::pin(async move {
                let select = sqlx::query_as("SELECT held_until FROM holds WHERE held_until > $1");
                let rows: Vec<(i64,)> = writer.rows(select.bind(writer.now(clock))).await?;
                let ahead = writer.ahead(clock);
                Ok(rows.first().map(|(until,)| until - ahead))
            })
        });
        Ok(read.await?.map(moment))
    }

    /// Whether the ledger takes a write right now.
    pub async fn is_writable(&self) -> bool {
        self.run(sqlx::query("UPDATE meta SET probes = probes + 1")).await.is_ok()
    }
}
