//! Jobs that nobody delivers any more: their message was lost on the way, and they still hold their users.

use jiff::Timestamp;
use sqlx::query_as;

use super::jobs::Row;
use super::{Ledger, decode, plans};
use crate::domain::outcome::Fault;
use crate::domain::plan::Plan;
use crate::domain::request::{Envelope, Key, Request};
use crate::ports::{Job, Lease};

/// A job past its deadline, leased to whoever asked.
#[derive(Debug)]
pub struct Overdue {
    /// The lease.
    pub lease: Lease,
    /// The request and its envelope, as far as they were remembered.
    pub job: Job,
    /// The user, if it was resolved.
    pub user: Option<String>,
    /// The plan, if one was made.
    pub plan: Option<Plan>,
}

impl Ledger {
    /// Leases the oldest job first seen before this time that is not concluded and nobody works on.
    pub async fn overdue(&self, first_seen_before: Timestamp, now: Timestamp) -> Result<Option<Overdue>, Fault> {
        let (before, now) = (first_seen_before.as_millisecond(), now.as_millisecond());
        let found = self.write(move |writer| {
            Box::pin(async move {
                let oldest = "SELECT id, fingerprint, first_seen, deferrals, attempts, told, lease_fence, lease_until, plan, \
                              event FROM jobs WHERE event IS NULL AND first_seen < $1 AND lease_until <= $2 \
                              ORDER BY first_seen LIMIT 1";
                let rows: Vec<Row> = writer.rows(query_as(oldest).bind(before).bind(now)).await?;
                let Some(row) = rows.into_iter().next() else { return Ok(None) };
                let steps = writer.lease(row.id, now).await?;
                let about = query_as("SELECT system, request_id, user_id, about FROM jobs WHERE id = $1").bind(row.id);
                let about: Vec<(String, String, Option<String>, String)> = writer.rows(about).await?;
                Ok(about.into_iter().next().map(|about| (row, steps, about)))
            })
        });
        let Some((row, steps, (system, id, user, about))) = found.await? else { return Ok(None) };
        let plan = row.plan.as_deref().map(|plan| plans::rebuild(plan, &steps)).transpose()?;
        let lease = row.lease(row.lease_fence + 1);
        let (request, envelope): (Request, Envelope) =
            Request::remembered(Key { system, id }, row.fingerprint, decode(&about)?)
                .map_err(|_| super::unavailable())?;
        Ok(Some(Overdue { lease, job: Job { request, envelope }, user, plan }))
    }
}
