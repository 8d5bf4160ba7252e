//! Jobs: leases, users, plans, outcomes. Every write under a lease asks for the fencing number first.
//!
//! A fault among the results says what the ledger found, and whatever was written beside it stays written.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::{Ledger, decode, encode, moment, unavailable};
use crate::domain::outcome::{Fault, MethodResult};
use crate::domain::plan::{Plan, Step};
use crate::domain::request::{Envelope, Request};
use crate::ports::{Conclusion, Deferral, Hold, Lease, Recall};

/// How long a lease lasts, in milliseconds.
const LEASE: i64 = 15_000;
/// The span of the limit on resets, in milliseconds.
const HOUR: i64 = 3_600_000;

/// A job as [`Ledger::recall`] finds it.
#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    fingerprint: String,
    first_seen: i64,
    deferrals: i64,
    attempts: i64,
    told: i64,
    lease_fence: i64,
    lease_until: i64,
    plan: Option<String>,
    event: Option<String>,
}

impl Row {
    fn lease(&self, fence: i64) -> Lease {
        let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        Lease {
            job: self.id,
            fence,
            first_seen: moment(self.first_seen),
            attempts: count(self.attempts),
            deferrals: count(self.deferrals),
            told: self.told != 0,
        }
    }
}

/// Writes a job down, or finds it; either way its row is locked until the commit. A trusted copy proves that it was
/// deferred as often as its number says.
const FIND: &str = "\
    INSERT INTO jobs (system, request_id, fingerprint, first_seen, deferrals, about) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (system, request_id) DO UPDATE SET deferrals = CASE \
        WHEN excluded.deferrals > jobs.deferrals AND excluded.fingerprint = jobs.fingerprint \
        THEN excluded.deferrals ELSE jobs.deferrals END \
    RETURNING id, fingerprint, first_seen, deferrals, attempts, told, lease_fence, lease_until, plan, event";

impl Ledger {
    /// Looks a request up, writes it down where it is new, and leases it where nobody works on it.
    pub async fn recall(&self, request: &Request, envelope: &Envelope, now: Timestamp) -> Result<Recall, Fault> {
        let (key, fingerprint) = (request.key.clone(), request.fingerprint.clone());
        let first_seen = envelope.first_seen.unwrap_or_else(|| now.max(self.birth())).as_millisecond();
        let (deferral, now) = (i64::from(envelope.deferral), now.as_millisecond());
        let about = about(request, envelope).to_string();
        let (row, free, steps) = self
            .write(move |writer| {
                Box::pin(async move {
                    let find = sqlx::query_as(FIND).bind(key.system).bind(key.id).bind(&fingerprint);
                    let find = find.bind(first_seen).bind(deferral).bind(about);
                    let row: Row = find.fetch_one(&mut writer.conn).await?;
                    let wanted = row.fingerprint == fingerprint && row.event.is_none() && deferral >= row.deferrals;
                    let free = wanted && row.lease_until <= now;
                    let steps = if free { lease(&mut writer.conn, row.id, now).await? } else { Vec::new() };
                    Ok((row, free, steps))
                })
            })
            .await?;
        if row.fingerprint != request.fingerprint {
            return Ok(Recall::Reused);
        }
        if let Some(event) = &row.event {
            return Ok(Recall::Concluded(Box::new(decode(event)?)));
        }
        if deferral < row.deferrals {
            return Ok(Recall::Superseded);
        }
        if !free {
            return Ok(Recall::Busy(row.lease(-1)));
        }
        let lease = row.lease(row.lease_fence + 1);
        if row.first_seen < self.birth().as_millisecond() {
            return Ok(Recall::LedgerLost(lease));
        }
        Ok(Recall::Leased(lease, row.plan.map(|header| rebuild(&header, &steps)).transpose()?))
    }

    /// Renews leases that were not ended; one that ran out comes back to life if nobody else took the job.
    pub async fn renew(&self, leases: Vec<(i64, i64)>, now: Timestamp) -> Result<(), Fault> {
        let until = now.as_millisecond() + LEASE;
        self.write(move |writer| {
            Box::pin(async move {
                let renew = "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND lease_fence = $2 AND lease_until > 0";
                for (job, fence) in leases {
                    sqlx::query(renew).bind(job).bind(fence).bind(until).execute(&mut writer.conn).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Takes the user for the job until it concludes, and tells when another job last reset this user.
    pub async fn take_user(&self, lease: &Lease, user: &str, now: Timestamp) -> Result<Hold, Fault> {
        let (id, user, now) = (Id::of(lease), user.to_owned(), now.as_millisecond());
        self.write(move |writer| {
            Box::pin(async move {
                let conn = &mut writer.conn;
                if id.lock(conn).await?.is_none_or(|until| until <= now) {
                    return Ok(Err(Fault::LeaseLost));
                }
                let take = "INSERT INTO users_held (user_id, job) VALUES ($1, $2) \
                            ON CONFLICT (user_id) DO UPDATE SET job = users_held.job RETURNING job";
                let holder: i64 = sqlx::query_scalar(take).bind(&user).bind(id.job).fetch_one(&mut *conn).await?;
                if holder != id.job {
                    return Ok(Ok(Hold::Busy));
                }
                let note = sqlx::query("UPDATE jobs SET user_id = $2 WHERE id = $1");
                note.bind(id.job).bind(&user).execute(&mut *conn).await?;
                let last = sqlx::query_scalar("SELECT MAX(reset_at) FROM jobs WHERE user_id = $1 AND id <> $2");
                let last: Option<i64> = last.bind(&user).bind(id.job).fetch_one(conn).await?;
                Ok(Ok(Hold::Taken(last.map(moment))))
            })
        })
        .await?
    }

    /// Writes the plan and the audit record of the intent in one commit, if the hourly limit allows. There is never a
    /// second plan.
    pub async fn write_plan(
        &self,
        lease: &Lease,
        plan: &Plan,
        intent: Value,
        max_per_hour: u32,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let (id, now) = (Id::of(lease), now.as_millisecond());
        let header = header(plan)?;
        let steps: Vec<(usize, Step)> = plan.steps.iter().cloned().enumerate().collect();
        self.write(move |writer| {
            Box::pin(async move {
                let conn = &mut writer.conn;
                let recent = sqlx::query_as("SELECT COUNT(*), MIN(planned_at) FROM jobs WHERE planned_at > $1");
                let recent: (i64, Option<i64>) = recent.bind(now - HOUR).fetch_one(&mut *conn).await?;
                if recent.0 >= i64::from(max_per_hour) {
                    return Ok(Err(Fault::QuotaReached { after: span(recent.1.unwrap_or(now) + HOUR - now) }));
                }
                let plan = "UPDATE jobs SET plan = $4, planned_at = $3 WHERE id = $1 AND lease_fence = $2 \
                            AND lease_until > $3 AND plan IS NULL AND event IS NULL";
                let plan = sqlx::query(plan).bind(id.job).bind(id.fence).bind(now).bind(header);
                if plan.execute(&mut *conn).await?.rows_affected() == 0 {
                    return Ok(Err(Fault::LeaseLost));
                }
                put(conn, id.job, &steps).await?;
                writer.append(intent).await.map(Ok)
            })
        })
        .await?
    }

    /// Crosses steps off and marks the next one as sent, in one commit. Nothing is crossed off once another attempt
    /// has the job, and nothing is marked while Graph asks to wait.
    pub async fn advance(
        &self,
        lease: &Lease,
        crossed: Vec<(usize, Step)>,
        next: Option<(usize, Step)>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let (id, now) = (Id::of(lease), now.as_millisecond());
        self.write(move |writer| {
            Box::pin(async move {
                let conn = &mut writer.conn;
                let Some(until) = id.lock(conn).await? else { return Ok(Err(Fault::LeaseLost)) };
                put(conn, id.job, &crossed).await?;
                let Some(next) = next else { return Ok(Ok(())) };
                if until <= now {
                    return Ok(Err(Fault::LeaseLost));
                }
                let held: i64 = sqlx::query_scalar("SELECT held_until FROM holds").fetch_one(&mut *conn).await?;
                if held > now {
                    return Ok(Err(Fault::Throttled { after: span(held - now) }));
                }
                put(conn, id.job, &[next]).await.map(Ok)
            })
        })
        .await?
    }

    /// Writes how the job ended: steps, outcome, audit record and result in one commit, which also releases the user.
    pub async fn record_outcome(&self, lease: &Lease, conclusion: &Conclusion, now: Timestamp) -> Result<(), Fault> {
        let (id, now, end) = (Id::of(lease), now.as_millisecond(), conclusion.clone());
        let removed = end.outcome.methods.iter().any(|method| method.result == Some(MethodResult::Removed));
        let reset_at = (removed || end.outcome.sessions_revoked).then_some(now);
        let (outcome, event) = (json_of(&end.outcome)?, json_of(&end.event)?);
        self.write(move |writer| {
            Box::pin(async move {
                let conn = &mut writer.conn;
                let update = "UPDATE jobs SET outcome = $3, event = $4, concluded_at = $5, reset_at = $6, \
                              lease_until = 0 WHERE id = $1 AND lease_fence = $2 AND event IS NULL";
                let update = sqlx::query(update).bind(id.job).bind(id.fence).bind(outcome).bind(&event);
                if update.bind(now).bind(reset_at).execute(&mut *conn).await?.rows_affected() == 0 {
                    return Ok(Err(Fault::LeaseLost));
                }
                put(conn, id.job, &end.changes).await?;
                let post = "INSERT INTO outbox (event_id, event, created_at) VALUES ($1, $2, $3) \
                            ON CONFLICT (event_id) DO NOTHING";
                let post = sqlx::query(post).bind(end.event.id.to_string()).bind(event).bind(now);
                post.execute(&mut *conn).await?;
                sqlx::query("DELETE FROM users_held WHERE job = $1").bind(id.job).execute(conn).await?;
                writer.append(end.audit).await.map(Ok)
            })
        })
        .await?
    }

    /// Notes a deferral. The number of the newest copy counts whoever brings it; the rest only from the newest lease,
    /// which ends here.
    pub async fn record_deferral(&self, lease: &Lease, deferral: &Deferral) -> Result<(), Fault> {
        let (id, deferral) = (Id::of(lease), deferral.clone());
        self.write(move |writer| {
            Box::pin(async move {
                let conn = &mut writer.conn;
                let note = "UPDATE jobs SET told = told | $3, \
                            deferrals = CASE WHEN deferrals < $2 THEN $2 ELSE deferrals END WHERE id = $1";
                let note = sqlx::query(note).bind(id.job).bind(i64::from(deferral.number));
                note.bind(i64::from(deferral.told)).execute(&mut *conn).await?;
                let end = "UPDATE jobs SET attempts = attempts + $3, lease_until = 0 \
                           WHERE id = $1 AND lease_fence = $2 AND event IS NULL";
                let end = sqlx::query(end).bind(id.job).bind(id.fence).bind(i64::from(deferral.spends));
                match end.execute(&mut *conn).await?.rows_affected() {
                    0 => Ok(()),
                    _ => put(conn, id.job, &deferral.changes).await,
                }
            })
        })
        .await
    }
}

/// A job and a fencing number.
#[derive(Clone, Copy)]
struct Id {
    job: i64,
    fence: i64,
}

impl Id {
    const fn of(lease: &Lease) -> Self {
        Self { job: lease.job, fence: lease.fence }
    }

    /// Tells until when the lease lasts, if no newer one was given. The update changes nothing: it is the row lock
    /// that every database understands.
    async fn lock(self, conn: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
        let lock = "UPDATE jobs SET lease_fence = lease_fence WHERE id = $1 AND lease_fence = $2 AND event IS NULL \
                    RETURNING lease_until";
        sqlx::query_scalar(lock).bind(self.job).bind(self.fence).fetch_optional(conn).await
    }
}

/// Gives the next lease on a job and reads its steps.
async fn lease(conn: &mut SqliteConnection, job: i64, now: i64) -> sqlx::Result<Vec<String>> {
    let lease = sqlx::query("UPDATE jobs SET lease_fence = lease_fence + 1, lease_until = $2 WHERE id = $1");
    lease.bind(job).bind(now + LEASE).execute(&mut *conn).await?;
    sqlx::query_scalar("SELECT step FROM steps WHERE job = $1 ORDER BY seq").bind(job).fetch_all(conn).await
}

/// Writes steps down.
async fn put(conn: &mut SqliteConnection, job: i64, steps: &[(usize, Step)]) -> sqlx::Result<()> {
    let put = "INSERT INTO steps (job, seq, step) VALUES ($1, $2, $3) \
               ON CONFLICT (job, seq) DO UPDATE SET step = excluded.step";
    for (seq, step) in steps {
        let step = serde_json::to_string(step).map_err(encode)?;
        sqlx::query(put).bind(job).bind(seq.cast_signed() as i64).bind(step).execute(&mut *conn).await?;
    }
    Ok(())
}

/// What a result event needs where the request is no longer at hand; nobody's name.
fn about(request: &Request, envelope: &Envelope) -> Value {
    json!({
        "ticket": request.ticket, "profile": request.profile, "dry_run": request.dry_run,
        "correlation_id": envelope.correlation_id.as_ref().or(envelope.message_id.as_ref()),
        "traceparent": envelope.traceparent,
    })
}

/// The plan without its steps, which are written down one by one.
fn header(plan: &Plan) -> Result<String, Fault> {
    let mut header = serde_json::to_value(plan).map_err(|_| unavailable())?;
    if let Some(fields) = header.as_object_mut() {
        fields.remove("steps");
    }
    Ok(header.to_string())
}

fn rebuild(header: &str, steps: &[String]) -> Result<Plan, Fault> {
    let mut plan: Value = decode(header)?;
    plan["steps"] = steps.iter().map(|step| decode(step)).collect::<Result<Vec<Value>, _>>()?.into();
    decode(&plan.to_string())
}

fn json_of(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|_| unavailable())
}

/// A wait, at least a second.
fn span(milliseconds: i64) -> Duration {
    Duration::from_millis(milliseconds.max(1000).unsigned_abs())
}
