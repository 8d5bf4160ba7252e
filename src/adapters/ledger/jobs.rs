//! Jobs and who may work on them: leases with fencing numbers, and users held by one job at a time.
//!
//! A [`Fault`] inside a result is what the ledger found; whatever was written beside it stays written.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, query, query_as, query_scalar};
use tokio::time::Instant;

use super::writer::{Writer, millis};
use super::{Ledger, decode, moment, plans};
use crate::domain::outcome::Fault;
use crate::domain::request::{Envelope, Request};
use crate::ports::{Deferral, Lease, Recall, UserHold};

/// How long a lease lasts, in milliseconds.
const LEASE: i64 = 15_000;

/// A job as [`Ledger::recall`] finds it.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) fingerprint: String,
    first_seen: i64,
    deferrals: i64,
    attempts: i64,
    told: i64,
    pub(super) lease_fence: i64,
    lease_until: i64,
    lease_grace: i64,
    pub(super) plan: Option<String>,
    event: Option<String>,
}

impl Row {
    pub(super) fn lease(&self, fence: i64) -> Lease {
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
    RETURNING id, fingerprint, first_seen, deferrals, attempts, told, lease_fence, lease_until, lease_grace, plan, event";

/// The caller's time, for a write that may have to queue.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// When it was asked, in milliseconds.
    pub(super) asked: i64,
    since: Instant,
}

impl Clock {
    /// Starts at this time.
    pub(super) fn at(now: Timestamp) -> Self {
        Self { asked: now.as_millisecond(), since: Instant::now() }
    }

    /// The time now, in milliseconds.
    pub(super) fn now(self) -> i64 {
        self.asked + millis(self.since.elapsed())
    }
}

impl Ledger {
    /// Looks a request up, writes it down where it is new, and leases it where nobody works on it.
    pub async fn recall(&self, request: &Request, envelope: &Envelope, now: Timestamp) -> Result<Recall, Fault> {
        let (key, fingerprint) = (request.key.clone(), request.fingerprint.clone());
        let first_seen = envelope.first_seen.map(Timestamp::as_millisecond);
        let (deferral, clock, calls) = (i64::from(envelope.deferral), Clock::at(now), self.longest_call);
        // Only a deferred copy can be older than another one: what a producer or a person sends again always counts.
        let ours = envelope.is_deferred_copy();
        let (about, birth) = (request.to_remember(envelope).to_string(), self.birth().as_millisecond());
        let found = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.now(clock);
                let first_seen = first_seen.unwrap_or(writer.asked(clock).max(birth));
                let find = query_as(FIND).bind(key.system).bind(key.id).bind(&fingerprint);
                let row: Row = find.bind(first_seen).bind(deferral).bind(about).fetch_one(&mut writer.conn).await?;
                let wanted =
                    row.fingerprint == fingerprint && row.event.is_none() && !(ours && deferral < row.deferrals);
                // A lease that was not given back may have a call under way.
                let free = wanted && (row.lease_until == 0 || row.lease_until + row.lease_grace <= now);
                let steps = if free { writer.lease(row.id, now, calls).await? } else { Vec::new() };
                Ok((row, free, steps))
            })
        });
        let (row, free, steps) = found.await?;
        let lost = row.first_seen < self.birth().as_millisecond();
        let lease = row.lease(if free { row.lease_fence + 1 } else { -1 });
        Ok(match row.event {
            _ if row.fingerprint != request.fingerprint => Recall::Reused,
            Some(event) => Recall::Concluded(Box::new(decode(&event)?)),
            None if ours && deferral < row.deferrals => Recall::Superseded,
            None if !free => Recall::Busy(lease),
            None if lost => Recall::LedgerLost(lease),
            None => Recall::Leased(lease, row.plan.map(|plan| plans::rebuild(&plan, &steps)).transpose()?),
        })
    }

    /// Renews leases (job and fencing number) that last. One that ran out stays so: the process may have been frozen,
    /// and what its attempt has read may be old.
    pub async fn renew(&self, leases: Vec<(i64, i64)>, now: Timestamp) -> Result<(), Fault> {
        if leases.is_empty() {
            return Ok(());
        }
        let clock = Clock::at(now);
        let leases: Vec<String> = leases.iter().map(|(job, fence)| format!("({job}, {fence})")).collect();
        // One statement for all, since they must not wait for each other's way to the database and back.
        let renew = "UPDATE jobs SET lease_until = $1 WHERE lease_until > $2 AND (id, lease_fence) IN";
        let renew = format!("{renew} (VALUES {})", leases.join(", "));
        let renewed = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.now(clock);
                let renew = query(AssertSqlSafe(renew)).persistent(false).bind(now + LEASE).bind(now);
                writer.run(renew).await.map(drop)
            })
        });
        renewed.await
    }

    /// Takes the user for the job, from its plan on until it concludes, and tells when another job last reset this user.
    pub async fn take_user(&self, lease: &Lease, user: &str, now: Timestamp) -> Result<UserHold, Fault> {
        let (lease, user, clock) = (lease.clone(), user.to_owned(), Clock::at(now));
        let taken = self.write(move |writer| {
            Box::pin(async move {
                let now = writer.now(clock);
                if writer.lock(&lease).await?.is_none_or(|until| until <= now) {
                    return Ok(Err(Fault::LeaseLost));
                }
                let take = "INSERT INTO users_held (user_id, job) VALUES ($1, $2) \
                            ON CONFLICT (user_id) DO UPDATE SET job = users_held.job RETURNING job";
                let take = query_scalar(take).bind(&user).bind(lease.job);
                let holder: i64 = take.fetch_one(&mut writer.conn).await?;
                if holder != lease.job {
                    return Ok(Ok(UserHold::Busy));
                }
                writer.run(query("UPDATE jobs SET user_id = $2 WHERE id = $1").bind(lease.job).bind(&user)).await?;
                let last = query_scalar("SELECT MAX(reset_at) FROM jobs WHERE user_id = $1 AND id <> $2");
                let last: Option<i64> = last.bind(&user).bind(lease.job).fetch_one(&mut writer.conn).await?;
                Ok(Ok(UserHold::Taken(last.map(moment))))
            })
        });
        taken.await?
    }

    /// Notes a deferral. The number of the newest copy counts whoever brings it; the rest only from the newest lease,
    /// which ends here. Without a plan the job lets its user go, and takes it again at its next attempt.
    pub async fn record_deferral(&self, lease: &Lease, deferral: &Deferral) -> Result<(), Fault> {
        let (lease, deferral) = (lease.clone(), deferral.clone());
        let recorded = self.write(move |writer| {
            Box::pin(async move {
                let note = "UPDATE jobs SET told = told | $3, \
                            deferrals = CASE WHEN deferrals < $2 THEN $2 ELSE deferrals END WHERE id = $1";
                let note = query(note).bind(lease.job).bind(i64::from(deferral.number));
                writer.run(note.bind(i64::from(deferral.told))).await?;
                let end = "UPDATE jobs SET attempts = attempts + $3, lease_until = 0 \
                           WHERE id = $1 AND lease_fence = $2 AND event IS NULL";
                let end = query(end).bind(lease.job).bind(lease.fence).bind(i64::from(deferral.spends));
                if writer.run(end).await? == 0 {
                    return Ok(());
                }
                let free = "DELETE FROM users_held WHERE job IN (SELECT id FROM jobs WHERE id = $1 AND plan IS NULL)";
                writer.run(query(free).bind(lease.job)).await?;
                writer.put(lease.job, &deferral.changes).await
            })
        });
        recorded.await
    }
}

impl Writer {
    /// Tells until when a lease lasts, if no newer one was given. The update changes nothing: it is the row lock that
    /// every database understands.
    pub(super) async fn lock(&mut self, lease: &Lease) -> sqlx::Result<Option<i64>> {
        let lock = "UPDATE jobs SET lease_fence = lease_fence WHERE id = $1 AND lease_fence = $2 AND event IS NULL \
                    RETURNING lease_until";
        query_scalar(lock).bind(lease.job).bind(lease.fence).fetch_optional(&mut self.conn).await
    }

    /// Gives the next lease on a job, and reads its steps.
    pub(super) async fn lease(&mut self, job: i64, now: i64, grace: i64) -> sqlx::Result<Vec<(String,)>> {
        let lease = "UPDATE jobs SET lease_fence = lease_fence + 1, lease_until = $2, lease_grace = $3 WHERE id = $1";
        self.run(query(lease).bind(job).bind(now + LEASE).bind(grace)).await?;
        self.rows(query_as("SELECT step FROM steps WHERE job = $1 ORDER BY seq").bind(job)).await
    }
}
