//! Jobs that nobody delivers any more: their message was lost on the way, and they still hold their users.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::query_as;

use super::jobs::{Clock, Row};
use super::writer::millis;
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

/// What is known of a job in the ledger's own terms: its row, its steps, and its key, user and request.
type Found = (Row, Vec<(String,)>, (String, String, Option<String>, String));

impl Ledger {
    /// Leases the oldest job first seen longer than `age` ago that is not concluded and nobody works on. One that cannot be
    /// read, such as a later version's, is left alone.
    pub async fn overdue(&self, age: Duration, now: Timestamp) -> Result<Option<Overdue>, Fault> {
        while let Some(found) = self.lease_overdue(age, now).await? {
            if let Ok(overdue) = read(found) {
                return Ok(Some(overdue));
            }
        }
        Ok(None)
    }

    async fn lease_overdue(&self, age: Duration, now: Timestamp) -> Result<Option<Found>, Fault> {
        let (clock, calls) = (Clock::at(now), self.longest_call);
        let found = self.write(move |writer| {
            Box::pin(async move {
                let oldest = "SELECT id, fingerprint, first_seen, deferrals, attempts, told, lease_fence, lease_until, \
                              lease_grace, plan, event FROM jobs WHERE event IS NULL AND first_seen < $1 \
                              AND (lease_until = 0 OR lease_until + lease_grace <= $2) ORDER BY first_seen LIMIT 1";
                let now = writer.now(clock);
                let oldest = query_as(oldest).bind(writer.asked(clock) - millis(age)).bind(now);
                let Some(row): Option<Row> = writer.rows(oldest).await?.into_iter().next() else { return Ok(None) };
                let steps = writer.lease(row.id, now, calls).await?;
                let about = query_as("SELECT system, request_id, user_id, about FROM jobs WHERE id = $1").bind(row.id);
                let about: Vec<(String, String, Option<String>, String)> = writer.rows(about).await?;
                Ok(about.into_iter().next().map(|about| (row, steps, about)))
            })
        });
        found.await
    }
}

fn read((row, steps, (system, id, user, about)): Found) -> Result<Overdue, Fault> {
    let plan = row.plan.as_deref().map(|plan| plans::rebuild(plan, &steps)).transpose()?;
    let lease = row.lease(row.lease_fence + 1);
    let remembered = Request::remembered(Key { system, id }, row.fingerprint, decode(&about)?);
    let (request, envelope): (Request, Envelope) = remembered.map_err(|_| super::unavailable())?;
    Ok(Overdue { lease, job: Job { request, envelope }, user, plan })
}
