//! The gate against a model of Graph's limit, in simulated time: how much of the limit is used, and how many calls are
//! refused, by one replica and by four.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::gate::Gate;
use super::observe::Observed;
use crate::domain::request::Lane;

/// What counts begins after this.
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(60);
/// The calls of a job: one of them is a batch.
const JOB: [u32; 6] = [1, 5, 1, 1, 1, 1];
/// How many jobs each replica has in hand.
const JOBS: usize = 32;

/// What the limit says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tells {
    /// The part of the bucket that is empty.
    Level,
    /// The calls of the last second, as part of what may be made.
    Recent,
    Nothing,
}

/// A limit on calls: a bucket of one second's worth. A refused call counts too.
struct Limit {
    rate: f64,
    tells: Tells,
    level: f64,
    filled: Instant,
    recent: VecDeque<Instant>,
    rng: Rng,
    served: u32,
    refused: u32,
}

/// The share that is told, or how long to wait.
type Answer = Result<Option<f64>, Duration>;

impl Limit {
    fn new(rate: f64, tells: Tells, rng: Rng) -> Self {
        let (filled, recent) = (Instant::now(), VecDeque::new());
        Self { rate, tells, level: rate, filled, recent, rng, served: 0, refused: 0 }
    }

    fn take(&mut self, counts: bool) -> Answer {
        let now = Instant::now();
        self.level = (self.level + (now - self.filled).as_secs_f64() * self.rate).min(self.rate);
        self.filled = now;
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| *first + Duration::from_secs(1) <= now) {
            self.recent.pop_front();
        }
        let enough = self.level >= 1.0;
        self.level = (self.level - 1.0).max(-self.rate);
        if counts {
            *(if enough { &mut self.served } else { &mut self.refused }) += 1;
        }
        let share = match self.tells {
            Tells::Level => 1.0 - self.level / self.rate,
            Tells::Recent => self.recent.iter().map(|_| 1.0).sum::<f64>() / self.rate,
            Tells::Nothing => 0.0,
        };
        if enough { Ok((share > 0.8).then_some(share)) } else { Err(self.wait()) }
    }

    fn wait(&self) -> Duration {
        Duration::from_secs_f64((1.0 - self.level) / self.rate)
    }
}

/// One job after the other, as a worker does them: a refused call comes again.
async fn work(gate: Arc<Gate>, limit: Arc<Mutex<Limit>>, began: Instant) {
    for cost in JOB.into_iter().cycle() {
        let mut left = cost;
        while left > 0 {
            let now = left.min(u32::try_from(gate.at_once()).unwrap());
            if gate.admit(Lane::Batch, now).await.is_err() {
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            let sent = Instant::now();
            let latency = Duration::from_millis(limit.lock().unwrap().rng.u64(30..90));
            sleep(latency).await;
            let counts = began.elapsed() >= START;
            let answers: Vec<Answer> = (0..now).map(|_| limit.lock().unwrap().take(counts)).collect();
            for answer in answers {
                match answer {
                    Ok(percentage) => gate.served(sent, percentage),
                    Err(wait) => gate.asked(sent, Some(wait)),
                }
                left -= u32::from(answer.is_ok());
            }
        }
    }
}

/// What the replicas know of each other: the hold of the ledger.
type Ledger = Arc<Mutex<Instant>>;

/// Learns each second what the others were asked. Only the time of tokio is simulated.
async fn learn(gate: Arc<Gate>, ledger: Ledger, late: Duration) {
    sleep(late).await;
    loop {
        let left = ledger.lock().unwrap().saturating_duration_since(Instant::now());
        gate.hold_until(Timestamp::now() + left);
        sleep(Duration::from_secs(1)).await;
    }
}

fn replica(ledger: &Ledger) -> Arc<Gate> {
    let ledger = Arc::clone(ledger);
    let tell = move |observed| {
        if let Observed::Hold { until, .. } = observed {
            let until = Instant::now() + until.duration_since(Timestamp::now()).unsigned_abs();
            let mut held = ledger.lock().unwrap();
            *held = until.max(*held);
        }
    };
    Arc::new(Gate::new(200.0, Arc::new(tell)))
}

/// The share of the limit that was used, and the share of calls that were refused.
async fn measure(rate: f64, replicas: usize, tells: Tells, seed: u64) -> (f64, f64) {
    fastrand::seed(seed);
    let (began, mut rng) = (Instant::now(), Rng::with_seed(seed));
    let limit = Arc::new(Mutex::new(Limit::new(rate, tells, rng.fork())));
    let ledger = Arc::new(Mutex::new(began));
    let mut tasks = JoinSet::new();
    for _ in 0..replicas {
        let gate = replica(&ledger);
        tasks.spawn(learn(Arc::clone(&gate), Arc::clone(&ledger), Duration::from_millis(rng.u64(..1000))));
        for _ in 0..JOBS {
            let (gate, limit, late) = (Arc::clone(&gate), Arc::clone(&limit), rng.u64(..1000));
            tasks.spawn(async move {
                sleep(Duration::from_millis(late)).await;
                work(gate, limit, began).await;
            });
        }
    }
    let ended = timeout_at(began + END, tasks.join_next()).await;
    assert!(ended.is_err(), "{ended:?}");
    let limit = limit.lock().unwrap();
    let (served, refused) = (f64::from(limit.served), f64::from(limit.refused));
    (served / (rate * (END - START).as_secs_f64()), refused / (served + refused))
}

/// The means over a few runs.
#[expect(clippy::print_stdout, reason = "a random test prints its seed")]
async fn check(tells: Tells, rates: &[f64], least_used: f64, most_refused: f64) {
    const RUNS: u32 = 5;
    let mut missed = Vec::new();
    for &rate in rates {
        for replicas in [1, 4] {
            let seed = fastrand::u64(..);
            let mut sum = (0.0, 0.0);
            for run in 0..RUNS {
                let (used, refused) = measure(rate, replicas, tells, seed.wrapping_add(u64::from(run))).await;
                sum = (sum.0 + used / f64::from(RUNS), sum.1 + refused / f64::from(RUNS));
            }
            let line = format!(
                "{tells:?} {rate}/s x{replicas}: {:.1} % used, {:.2} % refused, seed {seed}",
                sum.0 * 100.0,
                sum.1 * 100.0
            );
            println!("{line}");
            if sum.0 < least_used || sum.1 > most_refused {
                missed.push(line);
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_used_and_hardly_anything_refused() {
    check(Tells::Level, &[20.0, 50.0, 200.0], 0.95, 0.01).await;
}

#[tokio::test(start_paused = true)]
async fn another_way_to_count_the_share_does_little_harm() {
    check(Tells::Recent, &[20.0, 50.0, 200.0], 0.85, 0.03).await;
}

#[tokio::test(start_paused = true)]
async fn without_shares_refusals_are_enough() {
    check(Tells::Nothing, &[20.0, 50.0, 200.0], 0.85, 0.05).await;
}
