//! How many calls a second, as the answers teach it. Pure; the gate applies it.
//!
//! Graph does not say how much is allowed, and all replicas share it without talking to each other. What they all hear
//! is `x-ms-throttle-limit-percentage`: the share of the limit in use, told from 0.8 on. Two loops hold it just below
//! the point where calls are refused:
//!
//! - a brake at once: the more of the limit is used, the slower, from 0.8 on;
//! - a slow one: every answer moves the rate by its own part of a second, in proportion to how far the share is from
//!   the target. The target itself is learned: a refusal lowers it, since services count in different ways.
//!
//! Before anything is told the rate doubles each second, as far as it is asked for. Where only refusals tell, each cuts
//! the rate a little; it comes back quickly to just below where it was refused, and from there tries more: at first
//! hardly, and the faster the longer nothing is refused.
//!
//! Replicas do not become equal, but none starves: of two shares of the limit the larger aims lower.

use std::f64::consts::LN_2;
use std::time::Duration;

use tokio::time::Instant;

/// Where it starts, in calls a second: several replicas may start together.
const START: f64 = 10.0;
/// Where it ends at the latest.
const LEAST: f64 = 0.5;
/// The share from which on Graph tells it.
const TOLD: f64 = 0.8;
/// The share to aim at first; how far it may be moved.
const TARGET: f64 = 0.97;
const TARGETS: (f64, f64) = (0.82, 1.25);
/// What a refusal takes off the target, and what a second adds: before the first refusal, and after.
const LOWER: f64 = 0.05;
const RAISE: (f64, f64) = (0.005, 0.001);
/// How much the rate changes in a second for each unit that the share is off the target.
const GAIN: f64 = 0.25;
/// How much the brake takes off for each unit of share above [`TOLD`], and what it leaves at least.
const BRAKE: f64 = 1.0;
const BRAKED: f64 = 0.4;
/// How far the base may lie above the ceiling while the brake is on.
const HEADROOM: f64 = 1.4;
/// How much lower a replica aims that is e times as fast as another, and the rate that aims at the target itself.
const FAIRNESS: f64 = 0.02;
const NEUTRAL: f64 = 50.0;
/// What the first share that is told leaves of a rate that was doubling, and what a refusal leaves of it.
const WARNED: f64 = 0.7;
const HALVED: f64 = 0.5;
/// What a refusal leaves of a rate that was settled.
const CUT: f64 = 0.9;
/// Up to which part of the rate that was refused it comes back quickly, and by which part a second.
const NEAR: f64 = 0.93;
const QUICK: f64 = 0.03;
/// How slowly beyond: in calls a second more each second, the same for all replicas, and as a part of the rate for each
/// second since the last refusal.
const SLOW: (f64, f64) = (0.03, 0.0004);

/// The rate of one replica.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    ceiling: f64,
    /// Before the brake.
    base: f64,
    /// The share of the limit in use, as last told.
    share: Option<f64>,
    /// Whether it still doubles.
    doubling: bool,
    /// Whether a share was ever told.
    told: bool,
    target: f64,
    /// Whether a refusal has lowered the target.
    lowered: bool,
    /// The rate that was refused last.
    refused: f64,
    /// When it was cut last.
    cut: Option<Instant>,
}

impl Rate {
    /// Starts low, below a ceiling in calls a second.
    pub(super) fn new(ceiling: f64) -> Self {
        Self {
            ceiling,
            base: START.min(ceiling),
            share: None,
            doubling: true,
            told: false,
            target: TARGET,
            lowered: false,
            refused: ceiling,
            cut: None,
        }
    }

    /// Calls a second, now: never more than the ceiling.
    pub(super) fn per_second(&self) -> f64 {
        let brake = self.share.map_or(1.0, |share| (1.0 - BRAKE * (share - TOLD)).clamp(BRAKED, 1.0));
        (self.base * brake).max(LEAST).min(self.ceiling)
    }

    /// The time that one call is worth.
    pub(super) fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.per_second()).unwrap_or(Duration::MAX).min(Duration::from_secs(3600))
    }

    /// A call was served. `percentage` is the share that the answer tells, if it does; `wanted` says whether calls
    /// wait for this rate: one that nobody needs does not grow.
    pub(super) fn on_success(&mut self, percentage: Option<f64>, wanted: bool, now: Instant) {
        let seconds = (1.0 / self.per_second()).min(0.25);
        self.share = percentage;
        let growth = match percentage {
            Some(share) => self.steer(share, seconds),
            None if self.doubling => LN_2,
            None if self.told => GAIN * (self.target - TOLD) * seconds * self.base,
            None if self.base < NEAR * self.refused => QUICK * seconds * self.base,
            None => (SLOW.0 + self.base * self.patience(now)) * seconds,
        };
        if growth < 0.0 || wanted {
            self.base += growth;
        }
        if self.told {
            let raise = if self.lowered { RAISE.1 } else { RAISE.0 };
            self.target = (self.target + raise * seconds).min(TARGETS.1);
        }
        self.keep_bounds();
    }

    /// By which part of it the rate may grow in a second, so long after the last refusal.
    fn patience(&self, now: Instant) -> f64 {
        let since = self.cut.map_or(0.0, |cut| now.saturating_duration_since(cut).as_secs_f64());
        (SLOW.1 * since).min(LN_2)
    }

    /// How much the share that was told changes the rate.
    fn steer(&mut self, share: f64, seconds: f64) -> f64 {
        if self.doubling {
            self.base *= WARNED;
            self.doubling = false;
        }
        self.told = true;
        let fair = share + FAIRNESS * (self.base / NEUTRAL).ln();
        GAIN * (self.target - fair.max(TOLD)) * seconds * self.base
    }

    /// A call was refused that had been sent then. Calls that were under way together count as one.
    pub(super) fn on_throttled(&mut self, sent: Instant, now: Instant) {
        if self.cut.is_some_and(|cut| sent < cut) {
            return;
        }
        self.cut = Some(now);
        self.refused = self.base;
        self.base *= if self.doubling { HALVED } else { CUT };
        self.doubling = false;
        if self.told {
            self.target = (self.target - LOWER).max(TARGETS.0);
            self.lowered = true;
        }
        self.keep_bounds();
    }

    /// Another replica was refused: there is no room to double into.
    pub(super) fn on_learned(&mut self) {
        self.doubling = false;
    }

    fn keep_bounds(&mut self) {
        // The ceiling is one of what the brake leaves.
        let room = if self.told { self.ceiling * HEADROOM } else { self.ceiling };
        self.base = self.base.min(room).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the rate is after this many answers that tell this share.
    fn after(rate: &mut Rate, answers: usize, percentage: Option<f64>) -> f64 {
        for _ in 0..answers {
            rate.on_success(percentage, true, Instant::now());
        }
        rate.per_second()
    }

    #[test]
    fn it_doubles_each_second_up_to_the_ceiling() {
        let mut rate = Rate::new(200.0);
        let mut seconds = 0.0;
        while rate.per_second() < 160.0 {
            seconds += rate.interval().as_secs_f64();
            rate.on_success(None, true, Instant::now());
        }
        assert!((3.5..4.5).contains(&seconds), "{seconds}");
        assert!((after(&mut rate, 1000, None) - 200.0).abs() < 1e-9);
        assert!((Rate::new(3.0).per_second() - 3.0).abs() < 1e-9, "a low ceiling is where it starts");
    }

    #[test]
    fn what_nobody_waits_for_does_not_grow_but_shrinks_all_the_same() {
        let mut rate = Rate::new(200.0);
        for _ in 0..1000 {
            rate.on_success(None, false, Instant::now());
        }
        assert!((rate.per_second() - START).abs() < 1e-9);
        rate.on_success(Some(1.5), false, Instant::now());
        assert!(rate.per_second() < START);
    }

    #[test]
    fn it_slows_before_anything_is_refused() {
        let mut rate = Rate::new(200.0);
        let fast = after(&mut rate, 100, None);
        let warned = after(&mut rate, 1, Some(0.85));
        assert!(warned < fast, "{warned} {fast}");
        let braked = after(&mut rate, 1, Some(1.2));
        assert!(braked < warned * 0.7, "{braked} {warned}");
        assert!(after(&mut rate, 100, Some(1.2)) < braked, "and goes on to, while too much is used");
    }

    #[test]
    fn it_settles_where_the_share_is_just_below_one_for_any_number_of_replicas() {
        for (limit, replicas) in [(20.0, 1), (20.0, 4), (200.0, 1), (200.0, 10)] {
            let mut rates = vec![Rate::new(200.0); replicas];
            let total = |rates: &[Rate]| rates.iter().map(Rate::per_second).sum::<f64>();
            let (mut seconds, mut turn, mut share) = (0.0, 0, 0.0);
            while seconds < 20.0 {
                share += (total(&rates) / limit - share) / limit;
                turn = (turn + 1) % replicas;
                rates[turn].on_success((share > TOLD).then_some(share), true, Instant::now());
                seconds += 1.0 / total(&rates);
            }
            let share = total(&rates) / limit;
            assert!((0.95..1.1).contains(&share), "{limit} {replicas}: {share}");
        }
    }

    #[test]
    fn refusals_of_calls_that_were_under_way_together_cut_once() {
        let mut rate = Rate::new(50.0);
        after(&mut rate, 200, None);
        let (sent, now) = (Instant::now(), Instant::now() + Duration::from_millis(50));
        rate.on_throttled(sent, now);
        let cut = rate.per_second();
        assert!((cut - 50.0 * HALVED).abs() < 1e-9, "{cut}");
        rate.on_throttled(sent, now + Duration::from_millis(1));
        assert!((rate.per_second() - cut).abs() < 1e-9);
        rate.on_throttled(now, now + Duration::from_millis(50));
        assert!((rate.per_second() - cut * CUT).abs() < 1e-9);
    }

    #[test]
    fn without_shares_it_comes_back_to_just_below_the_refused_rate_and_then_takes_its_time() {
        let mut rate = Rate::new(200.0);
        rate.on_learned();
        rate.base = 100.0;
        let cut = Instant::now();
        rate.on_throttled(cut, cut);
        let mut at = |until: f64, seconds: &mut f64| {
            while *seconds < until {
                *seconds += rate.interval().as_secs_f64();
                rate.on_success(None, true, cut + Duration::from_secs_f64(*seconds));
            }
            rate.per_second()
        };
        let mut seconds = 0.0;
        for (until, least, most) in [(0.0, 90.0, 90.0), (2.0, 93.0, 94.0), (10.0, 94.0, 97.0), (30.0, 110.0, 125.0)] {
            let rate = at(until, &mut seconds);
            assert!((least..=most).contains(&rate), "{rate} after {until} s");
        }
        assert!((at(90.0, &mut seconds) - 200.0).abs() < 1e-9, "a refusal of long ago does not count for ever");
    }

    #[test]
    fn however_often_it_is_refused_it_never_stops() {
        let mut rate = Rate::new(50.0);
        let start = Instant::now();
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            rate.on_throttled(now, now);
        }
        assert!((rate.per_second() - LEAST).abs() < 1e-9);
        assert!(after(&mut rate, 1000, None) > 5.0);
    }
}
