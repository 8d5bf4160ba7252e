//! Plans: written down once, crossed off step by step, and concluded; always under a lease.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{query, query_as, query_scalar};

use super::jobs::Clock;
use super::writer::{Writer, millis};
use super::{Ledger, decode, encode, unavailable};
use crate::domain::outcome::{Fault, MethodResult};
use crate::domain::plan::{Plan, Step};
use crate::ports::{CHECK_HOLDS, Conclusion, Lease};

/// The span of the limit on resets, in milliseconds.
const HOUR: i64 = 3_600_000;

impl Ledger {
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
        let (lease, clock, steps) = (lease.clone(), Clock::at(now), plan.steps.clone());
        let header = header(plan).map_err(|_| unavailable())?;
        let written = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.asked(clock);
                let recent = query_as("SELECT COUNT(*), MIN(planned_at) FROM jobs WHERE planned_at > $1");
                let recent: (i64, Option<i64>) = recent.bind(now - HOUR).fetch_one(&mut writer.conn).await?;
                if recent.0 >= i64::from(max_per_hour) {
                    return Ok(Err(Fault::QuotaReached { after: wait(recent.1.unwrap_or(now) + HOUR - now) }));
                }
                let plan = "UPDATE jobs SET plan = $4, planned_at = $3 WHERE id = $1 AND lease_fence = $2 \
                            AND lease_until > $3 AND plan IS NULL AND event IS NULL";
                if writer.run(query(plan).bind(lease.job).bind(lease.fence).bind(now).bind(header)).await? == 0 {
                    return Ok(Err(Fault::LeaseLost));
                }
                writer.put(lease.job, &steps.into_iter().enumerate().collect::<Vec<_>>()).await?;
                writer.append(intent).await.map(Ok)
            })
        });
        written.await?
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
        let (lease, clock) = (lease.clone(), Clock::at(now));
        let advanced = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.now(clock);
                let Some(until) = writer.lock(&lease).await? else { return Ok(Err(Fault::LeaseLost)) };
                writer.put(lease.job, &crossed).await?;
                let Some(next) = next else { return Ok(Ok(())) };
                // The call that follows must begin while the lease lasts.
                if until <= now + millis(CHECK_HOLDS) {
                    return Ok(Err(Fault::LeaseLost));
                }
                let held = query_scalar("SELECT held_until FROM holds WHERE held_until > $1").bind(now);
                let held: Option<i64> = held.fetch_optional(&mut writer.conn).await?;
                match held {
                    Some(until) => Ok(Err(Fault::Throttled { after: wait(until - now) })),
                    None => writer.put(lease.job, &[next]).await.map(Ok),
                }
            })
        });
        advanced.await?
    }

    /// Writes how the job ended: steps, outcome, audit record and result in one commit, which also releases the user.
    pub async fn record_outcome(&self, lease: &Lease, conclusion: &Conclusion, now: Timestamp) -> Result<(), Fault> {
        let (lease, end, clock) = (lease.clone(), conclusion.clone(), Clock::at(now));
        let maybe_gone = |result| matches!(result, Some(MethodResult::Removed | MethodResult::Ambiguous));
        let removed = end.outcome.methods.iter().any(|method| maybe_gone(method.result));
        let reset = removed || end.outcome.sessions_revoked;
        let recorded = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.asked(clock);
                let event = encode(&end.event)?;
                let update = "UPDATE jobs SET outcome = $3, event = $4, concluded_at = $5, reset_at = $6, \
                              lease_until = 0 WHERE id = $1 AND lease_fence = $2 AND event IS NULL";
                let update = query(update).bind(lease.job).bind(lease.fence).bind(encode(&end.outcome)?);
                if writer.run(update.bind(&event).bind(now).bind(reset.then_some(now))).await? == 0 {
                    return Ok(Err(Fault::LeaseLost));
                }
                writer.put(lease.job, &end.changes).await?;
                let post = "INSERT INTO outbox (event_id, event, created_at) VALUES ($1, $2, $3) \
                            ON CONFLICT (event_id) DO NOTHING";
                writer.run(query(post).bind(end.event.id.to_string()).bind(&event).bind(now)).await?;
                writer.run(query("DELETE FROM users_held WHERE job = $1").bind(lease.job)).await?;
                writer.append(end.audit).await.map(Ok)
            })
        });
        recorded.await?
    }
}

impl Writer {
    /// Writes steps down.
    pub(super) async fn put(&mut self, job: i64, steps: &[(usize, Step)]) -> sqlx::Result<()> {
        let put = "INSERT INTO steps (job, seq, step) VALUES ($1, $2, $3) \
                   ON CONFLICT (job, seq) DO UPDATE SET step = excluded.step";
        for (seq, step) in steps {
            self.run(query(put).bind(job).bind(i64::try_from(*seq).unwrap_or(i64::MAX)).bind(encode(step)?)).await?;
        }
        Ok(())
    }
}

/// The plan without its steps, which are written down one by one.
fn header(plan: &Plan) -> sqlx::Result<String> {
    let mut header = plan.clone();
    header.steps.clear();
    encode(&header)
}

/// The plan from its header and its steps.
pub(super) fn rebuild(header: &str, steps: &[(String,)]) -> Result<Plan, Fault> {
    let mut plan: Plan = decode(header)?;
    plan.steps = steps.iter().map(|(step,)| decode(step)).collect::<Result<_, _>>()?;
    Ok(plan)
}

/// A wait, at least a second.
fn wait(milliseconds: i64) -> Duration {
    Duration::from_millis(milliseconds.max(1000).unsigned_abs())
}
