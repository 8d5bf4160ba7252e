//! The one door that every planned call goes through: the hold that Graph asked for, the ceiling on the rate, and
//! tickets before batches.
//!
//! The head of each lane waits for all behind it, so callers leave in order and one at a time: after a hold they go
//! out as evenly as ever. It never opens before the time that Graph named, and it never fails a caller who could
//! have waited half a minute.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::observe::{Observed, Observer};
use crate::domain::outcome::Fault;
use crate::domain::request::Lane;

/// The longest hold that is waited for in place.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much unused rate may be made up for at once, as time.
const BURST: Duration = Duration::from_millis(200);
/// The longest wait that we choose ourselves.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// The most that is added to a hold, so that replicas do not come back together.
const SPREAD: Duration = Duration::from_secs(2);

/// The door.
pub(super) struct Gate {
    interval: Duration,
    state: Mutex<State>,
    turns: [tokio::sync::Mutex<()>; 2],
    tickets: AtomicUsize,
    observer: Observer,
}

struct State {
    /// Not before then, as Graph asked, by both clocks.
    held: Option<(Instant, Timestamp)>,
    /// The hold and a little more: when the door opens.
    opens: Instant,
    /// When everybody let in so far is paid for at the steady rate.
    paid: Instant,
    /// How many times in a row Graph asked to wait without saying how long.
    unsaid: u32,
}

enum Entry {
    Open,
    At(Instant),
    TooLong(Duration),
}

impl Gate {
    pub(super) fn new(requests_per_second: f64, observer: Observer) -> Self {
        let now = Instant::now();
        let interval = Duration::try_from_secs_f64(1.0 / requests_per_second).unwrap_or(Duration::MAX);
        Self {
            interval: interval.min(Duration::from_secs(3600)),
            state: Mutex::new(State { held: None, opens: now, paid: now, unsaid: 0 }),
            turns: [tokio::sync::Mutex::default(), tokio::sync::Mutex::default()],
            tickets: AtomicUsize::new(0),
            observer,
        }
    }

    /// Waits until `cost` requests may be sent.
    pub(super) async fn admit(&self, lane: Lane, cost: u32) -> Result<(), Fault> {
        let entered = Instant::now();
        let _waiting = (lane == Lane::Tickets).then(|| Waiting::new(&self.tickets));
        let _turn = self.turns[lane as usize].lock().await;
        loop {
            match self.enter(lane, cost, entered) {
                Entry::Open => return Ok(()),
                Entry::At(at) => sleep_until(at).await,
                Entry::TooLong(after) => return Err(Fault::Throttled { after }),
            }
        }
    }

    fn enter(&self, lane: Lane, cost: u32, entered: Instant) -> Entry {
        let mut state = self.state();
        let now = Instant::now();
        if state.opens > now {
            let too_long = state.held.is_some_and(|(until, _)| until.duration_since(entered) > PATIENCE);
            return if too_long { Entry::TooLong(state.opens.duration_since(now)) } else { Entry::At(state.opens) };
        }
        let early = state.paid.saturating_duration_since(now).saturating_sub(BURST.saturating_sub(self.interval));
        if !early.is_zero() {
            return Entry::At(now + early);
        }
        if lane == Lane::Batch && self.tickets.load(Ordering::Relaxed) > 0 {
            return Entry::At(now + self.interval);
        }
        state.paid = state.paid.max(now) + self.interval.saturating_mul(cost);
        Entry::Open
    }

    /// Graph asked to wait, perhaps without saying how long: then it is our own guess, doubled while it goes on.
    pub(super) fn asked(&self, wait: Option<Duration>) {
        let mut state = self.state();
        let now = Instant::now();
        let wait = wait.filter(|wait| !wait.is_zero()).unwrap_or_else(|| {
            let over = state.held.is_none_or(|(until, _)| until <= now);
            state.unsaid = state.unsaid.saturating_add(u32::from(over)).max(1);
            let doubled = Duration::from_secs(1 << (state.unsaid - 1).min(6)).min(LONGEST_BACKOFF);
            doubled + doubled.mul_f64(fastrand::f64() / 4.0)
        });
        let until = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        let before = state.held.map_or(now, |(until, _)| until.max(now));
        if now + wait <= before {
            return;
        }
        self.hold(&mut state, now + wait, until);
        drop(state);
        let seconds = (now + wait).duration_since(before).as_secs_f64();
        // Calls that were under way together lengthen a hold by little, one after the other.
        if seconds >= 0.5 {
            info!(seconds = wait.as_secs_f64(), "graph asks to wait");
        }
        (self.observer)(Observed::Hold { seconds, until });
    }

    /// A call went well.
    pub(super) fn went_well(&self) {
        let mut state = self.state();
        if state.held.is_none_or(|(until, _)| until <= Instant::now()) {
            state.unsaid = 0;
        }
    }

    /// Lengthens the hold to what another replica learned. Nobody is told: whoever learned it has.
    pub(super) fn hold_until(&self, until: Timestamp) {
        let wait = until.duration_since(Timestamp::now());
        let mut state = self.state();
        if wait.is_positive() && state.held.is_none_or(|(_, held)| until > held) {
            self.hold(&mut state, Instant::now() + wait.unsigned_abs().min(super::retry_after::LONGEST), until);
        }
    }

    fn hold(&self, state: &mut State, until: Instant, by_the_clock: Timestamp) {
        let wait = until.saturating_duration_since(Instant::now());
        let spread = (wait / 10).min(SPREAD).mul_f64(fastrand::f64());
        state.held = Some((until, by_the_clock));
        state.opens = state.opens.max(until + spread + Duration::from_millis(1));
        // What was not used during the hold is not made up for.
        state.paid = state.paid.max(state.opens + BURST.saturating_sub(self.interval));
    }

    /// Until when Graph asked to wait, if that is still to come.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        self.state().held.filter(|(until, _)| *until > Instant::now()).map(|(_, by_the_clock)| by_the_clock)
    }

    /// How long the door stays shut.
    pub(super) fn remaining(&self) -> Duration {
        self.state().opens.saturating_duration_since(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ticket that waits; batches let it go first.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(tickets: &'a AtomicUsize) -> Self {
        tickets.fetch_add(1, Ordering::Relaxed);
        Self(tickets)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    fn gate(requests_per_second: f64) -> Arc<Gate> {
        Arc::new(Gate::new(requests_per_second, Arc::new(|_| {})))
    }

    /// When each of `count` callers was let in, in order.
    async fn entries(gate: &Arc<Gate>, lane: Lane, count: usize) -> Vec<Instant> {
        let mut callers = JoinSet::new();
        for _ in 0..count {
            let gate = Arc::clone(gate);
            callers.spawn(async move { gate.admit(lane, 1).await.map(|()| Instant::now()).unwrap() });
        }
        let mut entries = callers.join_all().await;
        entries.sort();
        entries
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_the_rate_and_a_burst() {
        let entries = entries(&gate(50.0), Lane::Tickets, 200).await;
        for window in entries.windows(61) {
            assert!(window[60] - window[0] >= Duration::from_millis(990), "{:?}", window[60] - window[0]);
        }
        assert!(entries[199] - entries[0] <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_rate_still_lets_one_in_at_once() {
        let entries = entries(&gate(0.5), Lane::Batch, 3).await;
        assert_eq!((entries[2] - entries[0]).as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_pays_for_each_of_its_items() {
        let gate = gate(10.0);
        let started = Instant::now();
        gate.admit(Lane::Tickets, 4).await.unwrap();
        gate.admit(Lane::Tickets, 1).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(290));
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_go_before_batches() {
        let gate = gate(10.0);
        gate.asked(Some(Duration::from_secs(5)));
        let (batch, tickets) = tokio::join!(entries(&gate, Lane::Batch, 20), entries(&gate, Lane::Tickets, 20));
        assert!(tickets.last() < batch.first());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_enters_during_a_hold_and_no_stampede_follows_it() {
        let gate = gate(10.0);
        let started = Instant::now();
        gate.asked(Some(Duration::from_secs(20)));
        gate.asked(Some(Duration::from_secs(3)));
        let entries = entries(&gate, Lane::Tickets, 30).await;
        assert!(entries[0] - started >= Duration::from_secs(20) && entries[0] - started < Duration::from_secs(23));
        assert!(entries.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(99)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_hold_is_told_at_once_and_to_those_who_wait_already_at_the_end_of_theirs() {
        let gate = gate(10.0);
        gate.asked(Some(Duration::from_secs(20)));
        let waiting = gate.admit(Lane::Tickets, 1);
        let longer = async { gate.asked(Some(Duration::from_secs(300))) };
        let (waited, ()) = tokio::join!(waiting, longer);
        assert!(matches!(waited, Err(Fault::Throttled { after }) if after >= Duration::from_secs(277)));
        let started = Instant::now();
        assert!(gate.admit(Lane::Batch, 1).await.is_err());
        assert!(started.elapsed().is_zero() && gate.held_until().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_graph_does_not_name_doubles_until_a_call_goes_well() {
        let gate = gate(10.0);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            gate.asked(None);
            // Others that were under way do not make it longer.
            gate.asked(None);
            let wait = gate.remaining().as_secs_f64();
            assert!((f64::from(seconds)..f64::from(seconds) * 1.4 + 0.1).contains(&wait), "{seconds}: {wait}");
            tokio::time::advance(gate.remaining()).await;
        }
        gate.went_well();
        gate.asked(Some(Duration::ZERO));
        assert!((1.0..1.5).contains(&gate.remaining().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_learned_from_others_is_kept_as_it_is() {
        let gate = gate(10.0);
        let until = Timestamp::now() + Duration::from_secs(600);
        gate.hold_until(until);
        assert_eq!(gate.held_until(), Some(until));
        gate.hold_until(until - Duration::from_secs(60));
        assert_eq!(gate.held_until(), Some(until));
        assert!(gate.remaining() > Duration::from_secs(598));
    }
}
