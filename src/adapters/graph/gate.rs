//! The one door that every planned call goes through: the hold that Graph asked for, the rate that its answers teach,
//! and tickets before batches.
//!
//! The head of each lane waits for all behind it, so callers leave in order and one at a time: after a hold one call
//! tries, and the others go out as evenly as ever once it was served. The door never opens before the time that Graph
//! named, and it never fails a caller who could have waited half a minute.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::observe::{Observed, Observer};
use super::rate::Rate;
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
/// How long the call that tries after a hold keeps the others out: it may have been let in and never sent.
const TRIAL: Duration = Duration::from_secs(5);
/// How long a rate counts as wanted after somebody waited for it.
const WANTED: Duration = Duration::from_secs(1);
/// The part of a second whose calls may go at once, in one batch.
const AT_ONCE: f64 = 0.5;

/// The door.
pub(super) struct Gate {
    state: Mutex<State>,
    turns: [tokio::sync::Mutex<()>; 2],
    tickets: AtomicUsize,
    /// The call that tries has ended.
    tried: Notify,
    /// Graph asked to wait longer than it had before.
    asked: Notify,
    observer: Observer,
}

struct State {
    rate: Rate,
    /// Not before then, as Graph asked, by both clocks.
    held: Option<(Instant, Timestamp)>,
    /// The hold and a little more: when the door opens.
    opens: Instant,
    /// When everybody let in so far is paid for at the steady rate.
    paid: Instant,
    /// When somebody last had to wait for the rate.
    wanted: Option<Instant>,
    trial: Trial,
    /// How many times in a row Graph asked to wait without saying how long.
    unsaid: u32,
}

/// Whether one call tries for all, after a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    Over,
    /// The next one to be let in tries.
    Due,
    /// It was let in then.
    Since(Instant),
}

enum Entry {
    Open,
    At(Instant),
    TooLong(Duration),
}

impl Gate {
    pub(super) fn new(requests_per_second: f64, observer: Observer) -> Self {
        let now = Instant::now();
        let rate = Rate::new(requests_per_second);
        let state = State { rate, held: None, opens: now, paid: now, wanted: None, trial: Trial::Over, unsaid: 0 };
        Self {
            state: Mutex::new(state),
            turns: [tokio::sync::Mutex::default(), tokio::sync::Mutex::default()],
            tickets: AtomicUsize::new(0),
            tried: Notify::new(),
            asked: Notify::new(),
            observer,
        }
    }

    /// Waits until `cost` requests may be sent.
    pub(super) async fn admit(&self, lane: Lane, cost: u32) -> Result<(), Fault> {
        let entered = Instant::now();
        let _waiting = (lane == Lane::Tickets).then(|| Waiting::new(&self.tickets));
        let _turn = self.turns[lane as usize].lock().await;
        loop {
            let tried = self.tried.notified();
            match self.enter(lane, cost, entered) {
                Entry::Open => return Ok(()),
                Entry::At(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = tried => {}
                },
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
        if let Trial::Since(since) = state.trial
            && now < since + TRIAL
        {
            return Entry::At(since + TRIAL);
        }
        // The items of a batch reach Graph together, so all but one are paid for before.
        let interval = state.rate.interval();
        let before = interval.saturating_mul(cost.saturating_sub(1));
        let early = (state.paid + before).saturating_duration_since(now).saturating_sub(BURST.saturating_sub(interval));
        if !early.is_zero() {
            state.wanted = Some(now + early);
            return Entry::At(now + early);
        }
        if lane == Lane::Batch && self.tickets.load(Ordering::Relaxed) > 0 {
            return Entry::At(now + interval);
        }
        state.paid = (state.paid + before).max(now) + interval;
        if state.trial != Trial::Over {
            state.trial = Trial::Since(now);
        }
        Entry::Open
    }

    /// A call that was sent then was served; `percentage` is the share of the limit that the answer tells.
    pub(super) fn served(&self, sent: Instant, percentage: Option<f64>) {
        let mut state = self.state();
        let now = Instant::now();
        let wanted = state.wanted.is_some_and(|wanted| now < wanted + WANTED.max(2 * state.rate.interval()));
        state.rate.on_success(percentage, wanted, now);
        if state.held.is_none_or(|(until, _)| until <= now) {
            state.unsaid = 0;
        }
        self.tried(state, sent, Trial::Over);
    }

    /// A call that was sent then came to nothing, for reasons other than the rate.
    pub(super) fn failed(&self, sent: Instant) {
        self.tried(self.state(), sent, Trial::Due);
    }

    /// Ends the trial, if this was the call that tried.
    fn tried(&self, mut state: MutexGuard<'_, State>, sent: Instant, then: Trial) {
        if matches!(state.trial, Trial::Since(since) if since <= sent) {
            state.trial = then;
            drop(state);
            self.tried.notify_waiters();
        }
    }

    /// To a call that was sent then, Graph answered to wait, perhaps without saying how long: then it is our own guess,
    /// doubled while it goes on.
    pub(super) fn asked(&self, sent: Instant, wait: Option<Duration>) {
        let mut state = self.state();
        let now = Instant::now();
        state.rate.on_throttled(sent, now);
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
        self.asked.notify_one();
        let seconds = (now + wait).duration_since(before).as_secs_f64();
        // Calls that were under way together lengthen a hold by little, one after the other.
        if seconds >= 0.5 {
            info!(retry_after_seconds = wait.as_secs_f64(), "graph asks to wait");
        }
        (self.observer)(Observed::Hold { seconds, until });
    }

    /// Waits until Graph asks to wait longer than it had before; others should hear of it.
    pub(super) async fn hold_asked(&self) {
        self.asked.notified().await;
    }

    /// Lengthens the hold to what another replica learned. Nobody is told: whoever learned it has.
    pub(super) fn hold_until(&self, until: Timestamp) {
        let wait = until.duration_since(Timestamp::now());
        let (mut state, now) = (self.state(), Instant::now());
        if wait.is_positive() && state.held.is_none_or(|(end, held)| until > held || end <= now) {
            state.rate.on_learned();
            self.hold(&mut state, now + wait.unsigned_abs().min(super::retry_after::LONGEST), until);
        }
    }

    fn hold(&self, state: &mut State, until: Instant, by_the_clock: Timestamp) {
        let wait = until.saturating_duration_since(Instant::now());
        let spread = (wait / 10).min(SPREAD).mul_f64(fastrand::f64());
        state.held = Some((until, by_the_clock));
        state.opens = state.opens.max(until + spread + Duration::from_millis(1));
        // What was not used during the hold is not made up for.
        state.paid = state.paid.max(state.opens + BURST.saturating_sub(state.rate.interval()));
        state.trial = Trial::Due;
        // Whoever waits for a trial waits for the hold now.
        self.tried.notify_waiters();
    }

    /// Until when Graph asked to wait, if that is still to come.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        self.state().held.filter(|(until, _)| *until > Instant::now()).map(|(_, by_the_clock)| by_the_clock)
    }

    /// How long the door stays shut.
    pub(super) fn remaining(&self) -> Duration {
        self.state().opens.saturating_duration_since(Instant::now())
    }

    /// The rate now, in requests a second.
    pub(super) fn per_second(&self) -> f64 {
        self.state().rate.per_second()
    }

    /// How many requests may go at once: a larger batch at a low rate fills what is left of the limit in one go.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    pub(super) fn at_once(&self) -> usize {
        (self.per_second() * AT_ONCE).max(1.0) as usize
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
        let gate = Gate::new(requests_per_second, Arc::new(|_| {}));
        for _ in 0..1000 {
            gate.state().rate.on_success(None, true, Instant::now());
        }
        Arc::new(gate)
    }

    /// When each of `count` callers was let in, in order; all of them are served at once.
    async fn entries(gate: &Arc<Gate>, lane: Lane, count: usize) -> Vec<Instant> {
        let mut callers = JoinSet::new();
        for _ in 0..count {
            let gate = Arc::clone(gate);
            callers.spawn(async move {
                gate.admit(lane, 1).await.unwrap();
                gate.served(Instant::now(), None);
                Instant::now()
            });
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
        gate.asked(Instant::now(), Some(Duration::from_secs(5)));
        let (batch, tickets) = tokio::join!(entries(&gate, Lane::Batch, 20), entries(&gate, Lane::Tickets, 20));
        assert!(tickets.last() < batch.first());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_enters_during_a_hold_and_no_stampede_follows_it() {
        let gate = gate(10.0);
        let started = Instant::now();
        gate.asked(Instant::now(), Some(Duration::from_secs(20)));
        gate.asked(Instant::now(), Some(Duration::from_secs(3)));
        let entries = entries(&gate, Lane::Tickets, 30).await;
        assert!(entries[0] - started >= Duration::from_secs(20) && entries[0] - started < Duration::from_secs(23));
        assert!(entries.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(99)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_hold_one_call_tries_for_all() {
        let gate = gate(100.0);
        gate.asked(Instant::now(), Some(Duration::from_secs(2)));
        gate.admit(Lane::Tickets, 1).await.unwrap();
        let sent = Instant::now();
        let others = entries(&gate, Lane::Tickets, 5);
        let answers = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // What was under way before the hold proves nothing.
            gate.served(sent - Duration::from_secs(3), None);
            tokio::time::sleep(Duration::from_secs(1)).await;
            gate.served(sent, None);
        };
        let (entries, ()) = tokio::join!(others, answers);
        assert_eq!((entries[0] - sent).as_secs(), 2);
        assert!(entries[4] - entries[0] < Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_tries_and_fails_hands_on_to_the_next_and_one_that_is_lost_holds_nobody_for_long() {
        let gate = gate(100.0);
        gate.asked(Instant::now(), Some(Duration::from_secs(2)));
        gate.admit(Lane::Tickets, 1).await.unwrap();
        gate.failed(Instant::now());
        gate.admit(Lane::Batch, 1).await.unwrap();
        let second = Instant::now();
        gate.admit(Lane::Tickets, 1).await.unwrap();
        assert_eq!(second.elapsed(), TRIAL);
        let next = entries(&gate, Lane::Tickets, 1);
        let refused = async { gate.asked(Instant::now(), Some(Duration::from_secs(2))) };
        let (next, ()) = tokio::join!(next, refused);
        let waited = next[0] - second - TRIAL;
        assert!((2.0..2.3).contains(&waited.as_secs_f64()), "the hold counts, not the rest of the trial: {waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_keeps_nobody_waiting_and_the_rest_go_in_order() {
        let gate = gate(10.0);
        gate.admit(Lane::Tickets, 2).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut callers = JoinSet::new();
        let mut handles = Vec::new();
        for number in 0..6 {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            handles.push(callers.spawn(async move {
                gate.admit(Lane::Tickets, 1).await.unwrap();
                order.lock().unwrap().push(number);
            }));
            tokio::task::yield_now().await;
        }
        for gone in [0, 3] {
            handles[gone].abort();
        }
        while callers.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap(), [1, 2, 4, 5]);
        assert_eq!(gate.tickets.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_hold_is_told_at_once_and_to_those_who_wait_already_at_the_end_of_theirs() {
        let gate = gate(10.0);
        gate.asked(Instant::now(), Some(Duration::from_secs(20)));
        let waiting = gate.admit(Lane::Tickets, 1);
        let longer = async { gate.asked(Instant::now(), Some(Duration::from_secs(300))) };
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
            gate.asked(Instant::now(), None);
            // Others that were under way do not make it longer.
            gate.asked(Instant::now(), None);
            let wait = gate.remaining().as_secs_f64();
            assert!((f64::from(seconds)..f64::from(seconds) * 1.4 + 0.1).contains(&wait), "{seconds}: {wait}");
            tokio::time::advance(gate.remaining()).await;
        }
        gate.served(Instant::now(), None);
        gate.asked(Instant::now(), Some(Duration::ZERO));
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
