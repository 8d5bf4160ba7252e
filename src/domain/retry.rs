//! What to do with a fault: conclude, defer and for how long, or give the delivery back.

use std::time::Duration;

use jiff::Timestamp;

use super::outcome::Fault;
use super::reason::Reason;

/// How long a job may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many attempts may meet a fault of their own.
    pub max_attempts: u32,
    /// How long a job may live from first seen.
    pub deadline: Duration,
}

impl Limits {
    /// When a job first seen then is over.
    pub fn deadline_of(&self, first_seen: Timestamp) -> Timestamp {
        first_seen.saturating_add(self.deadline).unwrap_or(Timestamp::MAX)
    }
}

/// Where a job stands when an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When a worker first saw the request.
    pub first_seen: Timestamp,
    /// How many attempts met a fault before.
    pub attempts: u32,
    /// How often it was deferred before.
    pub deferrals: u32,
}

/// Why a job is deferred: the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Graph asked to wait.
    Throttled,
    /// The hourly limit is reached.
    Quota,
    /// A live attempt holds the job.
    JobLeased,
    /// Another job holds the user.
    UserBusy,
    /// The attempt met a fault.
    Fault,
    /// A dependency serves nobody.
    Unavailable,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] =
        [Self::Throttled, Self::Quota, Self::JobLeased, Self::UserBusy, Self::Fault, Self::Unavailable];

    /// The word in metrics and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::JobLeased => "job_leased",
            Self::UserBusy => "user_busy",
            Self::Fault => "fault",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The job ends for this reason; the fault that led to it, where the reason does not tell.
    Conclude {
        /// Why.
        reason: Reason,
        /// The code of the last fault.
        detail: Option<&'static str>,
    },
    /// The job goes on later.
    Defer {
        /// Not before this time has passed.
        after: Duration,
        /// Why.
        cause: Cause,
        /// Whether an attempt is spent.
        spends: bool,
    },
    /// The delivery goes back as it is.
    GiveBack,
}

/// Waits after the first, second ... attempt that met a fault, in seconds.
const AFTER_FAULT: [u64; 8] = [2, 10, 30, 60, 300, 900, 900, 3600];
/// Waits for something that is not the job's fault, in seconds.
const AFTER_WAIT: [u64; 3] = [10, 60, 300];
/// A taker waits for the lease of the other attempt to run out.
const AFTER_LEASE: Duration = Duration::from_secs(15);

/// Decides what follows from a fault. `jitter` is in 0..1 and only ever lengthens a wait.
pub fn decide(fault: &Fault, standing: Standing, limits: Limits, now: Timestamp, jitter: f64) -> Verdict {
    let step = |steps: &[u64], past: u32| {
        Duration::from_secs(steps[usize::try_from(past).unwrap_or(usize::MAX).min(steps.len() - 1)])
    };
    let waited = step(&AFTER_WAIT, standing.deferrals);
    let (after, cause, code) = match fault {
        Fault::Stopped => return Verdict::GiveBack,
        Fault::Permanent { reason } => return Verdict::Conclude { reason: *reason, detail: None },
        Fault::Throttled { after } => (*after, Cause::Throttled, None),
        // Not all at once for the next place that falls free.
        Fault::QuotaReached { after } => ((*after).max(waited), Cause::Quota, None),
        Fault::JobLeased | Fault::LeaseLost => (AFTER_LEASE, Cause::JobLeased, None),
        Fault::UserHeld => (waited, Cause::UserBusy, None),
        Fault::Unavailable { reason } => (waited, Cause::Unavailable, Some(reason.code())),
        Fault::Transient { reason } | Fault::Unknown { reason } => {
            (step(&AFTER_FAULT, standing.attempts), Cause::Fault, Some(reason.code()))
        }
    };
    let spends = cause == Cause::Fault;
    if spends && standing.attempts + 1 >= limits.max_attempts {
        return Verdict::Conclude { reason: Reason::AttemptsExhausted, detail: code };
    }
    let deadline = limits.deadline_of(standing.first_seen);
    if now >= deadline {
        let reason = if cause == Cause::UserBusy { Reason::UserBusy } else { Reason::DeadlineExceeded };
        return Verdict::Conclude { reason, detail: code };
    }
    let left = deadline.duration_since(now).unsigned_abs();
    Verdict::Defer { after: lengthen(after, jitter).min(left), cause, spends }
}

/// The waits of the retry queues, in seconds.
pub const STEPS: [u64; 5] = [10, 60, 300, 900, 3600];
/// The longest rest that is waited in place, holding the delivery; what is longer comes back early and waits again.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Splits a wait into a rest to be waited in place and the largest retry queue not above it.
pub fn split(after: Duration) -> (Duration, Option<Duration>) {
    let step = STEPS.into_iter().map(Duration::from_secs).rev().find(|step| *step <= after);
    (after.saturating_sub(step.unwrap_or_default()).min(LONGEST_REST), step)
}

/// A wait plus up to a fifth of it, at most five minutes more, so that those who wait together do not return together.
fn lengthen(wait: Duration, jitter: f64) -> Duration {
    wait.saturating_add((wait / 5).min(Duration::from_secs(300)).mul_f64(jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { max_attempts: 8, deadline: Duration::from_secs(86_400) };

    fn check(fault: Fault, attempts: u32, deferrals: u32, age: i64, expected: Verdict) {
        let first_seen = Timestamp::from_second(1_000_000).unwrap();
        let now = first_seen + jiff::SignedDuration::from_secs(age);
        let standing = Standing { first_seen, attempts, deferrals };
        assert_eq!(decide(&fault, standing, LIMITS, now, 0.0), expected, "{fault:?}");
    }

    fn defer(seconds: u64, cause: Cause) -> Verdict {
        Verdict::Defer { after: Duration::from_secs(seconds), cause, spends: cause == Cause::Fault }
    }

    #[test]
    fn faults_spend_attempts_and_waits_do_not() {
        let transient = || Fault::Transient { reason: Reason::GraphUnavailable };
        check(transient(), 0, 0, 0, defer(2, Cause::Fault));
        check(transient(), 6, 9, 0, defer(900, Cause::Fault));
        check(Fault::UserHeld, 7, 0, 0, defer(10, Cause::UserBusy));
        check(Fault::UserHeld, 7, 99, 0, defer(300, Cause::UserBusy));
        check(Fault::JobLeased, 7, 0, 0, defer(15, Cause::JobLeased));
        let detail = Some("graph_unavailable");
        check(transient(), 7, 0, 0, Verdict::Conclude { reason: Reason::AttemptsExhausted, detail });
    }

    #[test]
    fn the_deadline_bounds_everything_and_a_busy_user_says_so() {
        check(Fault::UserHeld, 0, 0, 86_400, Verdict::Conclude { reason: Reason::UserBusy, detail: None });
        let throttled = Fault::Throttled { after: Duration::from_secs(1) };
        check(throttled.clone(), 0, 0, 86_400, Verdict::Conclude { reason: Reason::DeadlineExceeded, detail: None });
        check(Fault::QuotaReached { after: Duration::from_secs(600) }, 0, 0, 86_390, defer(10, Cause::Quota));
    }

    #[test]
    fn a_stopped_attempt_gives_the_delivery_back_and_a_lost_lease_defers_it() {
        check(Fault::Stopped, 99, 99, 99_999, Verdict::GiveBack);
        check(Fault::LeaseLost, 7, 0, 0, defer(15, Cause::JobLeased));
    }

    #[test]
    fn a_wait_is_split_into_a_retry_queue_and_a_rest_in_place() {
        let split = |seconds| {
            let (rest, step) = split(Duration::from_secs(seconds));
            (rest.as_secs(), step.map(|step| step.as_secs()))
        };
        assert_eq!(split(9), (9, None));
        assert_eq!(split(10), (0, Some(10)));
        assert_eq!(split(66), (6, Some(60)));
        assert_eq!(split(299), (60, Some(60)));
        assert_eq!(split(90_000), (60, Some(3600)));
    }

    proptest! {
        #[test]
        fn never_earlier_than_graph_asked_unless_the_deadline_comes_first(seconds in 0_u64..1_000_000, jitter in -1.0..2.0_f64) {
            let first_seen = Timestamp::from_second(0).unwrap();
            let standing = Standing { first_seen, attempts: 0, deferrals: 0 };
            let asked = Duration::from_secs(seconds);
            let verdict = decide(&Fault::Throttled { after: asked }, standing, LIMITS, first_seen, jitter);
            let Verdict::Defer { after, spends: false, .. } = verdict else { panic!("{verdict:?}") };
            prop_assert!(after >= asked.min(LIMITS.deadline) && after <= asked + Duration::from_secs(300));
        }
    }
}
