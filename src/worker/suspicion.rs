//! Which deliveries are worked on: one that kills its worker must become a dead letter, alone, and one that was merely
//! there when workers died must not.
//!
//! The broker cannot tell them apart: whatever is in hand when a worker dies counts as returned, and past 20 returns the
//! queue throws it to the dead letters. So a delivery that came back more than [`MOST_RETURNS`] times is not worked on,
//! but handed on as a copy, which the broker counts anew and on which we note our own count:
//!
//! - A copy waits until its worker has lived for [`PROBATION`]; until then it goes round, uncounted. Workers that die
//!   young for reasons of their own, however many, thus bring nothing closer to the dead letters.
//! - When its turn comes it goes round once more, with the try counted beforehand, and is worked on as it arrives. The more
//!   tries a copy has had, the longer the others keep away from it: see [`APART`].
//! - One that comes back from such a try has survived its worker. After [`MOST_DEATHS`] of them it is a dead letter. A try
//!   that ended with the connection alone does not count.
//!
//! A panic is caught, so its delivery is known, and its neighbours hear nothing of it: it goes the same way at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::amqp::Suspicion;

/// After more returns than this, a delivery may be what kills workers.
const MOST_RETURNS: u64 = 3;
/// How long a worker has to live before it tries one.
const PROBATION: Duration = Duration::from_secs(10);
/// How far a copy that was tried once is kept apart from those before and after it; each try more doubles it.
const APART: Duration = Duration::from_secs(1);
/// The longest wait for a turn; a longer one goes round meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How many tries a delivery gets.
const MOST_DEATHS: u32 = 5;

/// What to do with a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Work on it.
    Work,
    /// Hand it on, so noted, after this time.
    HandOn(Suspicion, Duration),
    /// Send it to the dead letters.
    Bury,
}

/// What a session knows of its own process.
pub(super) struct Judge {
    /// Since when the process works, in its first session: what comes back now lost its worker, and not a connection.
    trial: Option<Instant>,
    /// When those who had their turn are out of the way.
    free: Mutex<Option<Instant>>,
}

impl Judge {
    /// Of the first session of a process, or of a later one.
    pub(super) fn new(first: bool) -> Self {
        Self { trial: first.then(Instant::now), free: Mutex::default() }
    }

    /// Judges a delivery by what was noted on it and by how often it came back.
    pub(super) fn judge(&self, noted: Option<Suspicion>, returns: u64) -> Judgement {
        let (deaths, tried) = match noted {
            None if returns <= MOST_RETURNS => return Judgement::Work,
            Some(Suspicion { turn: true, .. }) if returns == 0 => return Judgement::Work,
            None => (0, false),
            Some(Suspicion { deaths, turn }) => (deaths, turn),
        };
        let deaths = deaths.saturating_sub(u32::from(tried && self.trial.is_none()));
        if deaths >= MOST_DEATHS {
            Judgement::Bury
        } else if let Some(wait) = self.turn(deaths) {
            Judgement::HandOn(Suspicion { deaths: deaths + 1, turn: true }, wait)
        } else {
            Judgement::HandOn(Suspicion { deaths, turn: false }, Duration::ZERO)
        }
    }

    /// How long it is until the turn of a copy that was tried so often, if that comes soon.
    fn turn(&self, deaths: u32) -> Option<Duration> {
        let now = Instant::now();
        let is_young = self.trial.is_some_and(|since| now < since + PROBATION);
        if is_young || deaths == 0 {
            return (!is_young).then_some(Duration::ZERO);
        }
        let apart = APART * 2_u32.pow(deaths.min(MOST_DEATHS) - 1);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = free.map_or(now, |free| now.max(free + apart));
        if turn > now + LONGEST_WAIT {
            return None;
        }
        *free = Some(turn + apart);
        Some(turn - now)
    }
}

/// The note on a delivery whose job panicked.
pub(super) fn after_panic(noted: Option<Suspicion>) -> Suspicion {
    Suspicion { deaths: noted.map_or(1, |noted| noted.deaths.max(1)), turn: false }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const fn waits(deaths: u32) -> Judgement {
        Judgement::HandOn(Suspicion { deaths, turn: false }, Duration::ZERO)
    }

    const fn goes(deaths: u32, seconds: u64) -> Judgement {
        Judgement::HandOn(Suspicion { deaths, turn: true }, Duration::from_secs(seconds))
    }

    const fn noted(deaths: u32, turn: bool) -> Option<Suspicion> {
        Some(Suspicion { deaths, turn })
    }

    async fn grown_up() -> Judge {
        let judge = Judge::new(true);
        advance(PROBATION).await;
        judge
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_back_a_few_times_is_worked_on_and_what_came_back_often_goes_round() {
        let judge = Judge::new(true);
        assert_eq!(judge.judge(None, 0), Judgement::Work);
        assert_eq!(judge.judge(None, MOST_RETURNS), Judgement::Work);
        assert_eq!(judge.judge(None, MOST_RETURNS + 1), waits(0));
        assert_eq!(grown_up().await.judge(None, MOST_RETURNS + 1), goes(1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_die_young_bring_nothing_closer_to_the_dead_letters() {
        for _ in 0..1000 {
            assert_eq!(Judge::new(true).judge(noted(0, false), 1), waits(0));
            assert_eq!(Judge::new(true).judge(noted(4, false), 1), waits(4));
            assert_eq!(Judge::new(true).judge(noted(4, true), 1), waits(4));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_tries_the_further_apart() {
        let judge = grown_up().await;
        assert_eq!(judge.judge(noted(0, false), 0), goes(1, 0));
        assert_eq!(judge.judge(noted(1, false), 0), goes(2, 0));
        assert_eq!(judge.judge(noted(1, false), 0), goes(2, 2));
        assert_eq!(judge.judge(noted(3, false), 0), goes(4, 7));
        assert_eq!(judge.judge(noted(1, false), 0), waits(1));
        advance(Duration::from_secs(10)).await;
        assert_eq!(judge.judge(noted(1, false), 0), goes(2, 2));
        assert_eq!(judge.judge(noted(2, true), 0), Judgement::Work);
    }

    #[tokio::test(start_paused = true)]
    async fn what_kills_every_worker_is_buried_and_what_loses_its_connection_is_not() {
        let mut deaths = 0;
        while deaths < MOST_DEATHS {
            assert_eq!(Judge::new(true).judge(noted(deaths, deaths > 0), 1), waits(deaths));
            assert_eq!(grown_up().await.judge(noted(deaths, false), 0), goes(deaths + 1, 0));
            deaths += 1;
            assert_eq!(Judge::new(true).judge(noted(deaths, true), 0), Judgement::Work);
        }
        assert_eq!(Judge::new(false).judge(noted(deaths, true), 1), goes(deaths, 0));
        assert_eq!(Judge::new(true).judge(noted(deaths, true), 1), Judgement::Bury);
    }

    #[test]
    fn each_panic_counts_once() {
        assert_eq!(after_panic(None), Suspicion { deaths: 1, turn: false });
        assert_eq!(after_panic(noted(1, true)), Suspicion { deaths: 1, turn: false });
        assert_eq!(after_panic(noted(2, true)), Suspicion { deaths: 2, turn: false });
    }
}
