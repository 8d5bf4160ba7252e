//! One run: a broker, a database, a Graph, workers, people; trouble meanwhile; and at the end the checker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::crew::Member;
use crate::demand;
use crate::people::{Client, Notes, produce, read_results, register};
use crate::postgres::Postgres;
use crate::process::Watchdog;
use crate::proxy::{Line, Proxy};
use crate::rabbit::{self, Rabbit};
use crate::simulator::Simulator;
use crate::stage::until;
use crate::trouble::{Clock, Database, Fronts, Lines, Nodes, Workers};

/// What a run is made of.
pub struct Plan {
    /// Its name in the report.
    pub name: &'static str,
    /// How many nodes the broker has.
    pub nodes: usize,
    /// How many requests there are in the short form, and for how long they keep coming.
    pub requests: usize,
    pub span: Duration,
}

/// How many workers share the ledger.
pub const WORKERS: usize = 3;
/// How many producers share the work.
const PRODUCERS: usize = 3;
/// How many requests all scenarios have together in the short form.
const SHORT_FORM: usize = 2_000;
/// How long the last result may take after trouble has ended: a job that was put off three times waits for 300 s, and may
/// find its user held then.
const PATIENCE: Duration = Duration::from_secs(900);

/// After this time without any work, deliveries in hand may be such as the broker has forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A run under way.
pub struct Bench {
    pub plan: Plan,
    pub seed: u64,
    pub rabbit: Rabbit,
    pub postgres: Postgres,
    pub simulator: Arc<Simulator>,
    pub crew: Vec<Member>,
    /// The way of producers and readers to the broker.
    pub clients: Arc<Proxy>,
    pub notes: Notes,
    pub directory: tempfile::TempDir,
    random: Rng,
    _watchdog: Watchdog,
}

/// What goes on beside the trouble.
struct Tasks {
    producers: JoinSet<()>,
    /// The reader of results, and the users.
    others: JoinSet<()>,
}

/// Runs `trouble` while requests keep coming, then lets everything heal and holds the history against the promises.
pub async fn run(plan: Plan, trouble: impl AsyncFnOnce(Fronts<'_>)) {
    let mut bench = Bench::start(plan).await;
    let stop = CancellationToken::new();
    let mut tasks = bench.open(&stop);
    let began = Instant::now();
    trouble(bench.fronts(began)).await;
    bench.heal().await;
    let troubled = began.elapsed();
    let produced = async { while tasks.producers.join_next().await.transpose().expect("a producer").is_some() {} };
    timeout(Duration::from_secs(180), produced).await.expect("every request is confirmed or given up");
    bench.answered().await;
    bench.quiet().await;
    bench.stop().await;
    stop.cancel();
    let ended = async { while tasks.others.join_next().await.transpose().expect("reader and users").is_some() {} };
    timeout(Duration::from_secs(60), ended).await.expect("all results are read and all users are done");
    bench.collect().await;
    bench.judge(troubled, began.elapsed());
}

impl Bench {
    async fn start(mut plan: Plan) -> Self {
        let seed = setting("MFA_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
        let form = setting("MFA_TEST_CLUSTER_REQUESTS").map_or(1.0, |all| all as f64 / SHORT_FORM as f64);
        println!("{}: MFA_TEST_SEED={seed}", plan.name);
        plan.requests = (plan.requests as f64 * form) as usize;
        // Ten times the requests come in the fivefold time: longer, and denser.
        plan.span = plan.span.mul_f64((form / 2.0).max(1.0));
        let directory = tempfile::tempdir().unwrap();
        let watchdog = Watchdog::new("exec rm -rf \"$0\"", directory.path().to_str().unwrap());
        let (rabbit, postgres) = tokio::join!(Rabbit::start(plan.nodes), Postgres::start());
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_mfa-reset"));
        let users = plan.requests.to_string();
        let options = ["--latency", "20ms", "--users", &users];
        let simulator = Simulator::start(program, &options, &directory.path().join("simulator.log")).await;
        let clients = Arc::new(Proxy::start(rabbit.addresses()).await);
        let mut crew = Vec::new();
        for number in 1..=WORKERS {
            let mut member = Member::new(number, &rabbit, Some(&postgres), &simulator.root(), directory.path()).await;
            member.start();
            crew.push(member);
        }
        let (random, notes, simulator) = (Rng::with_seed(seed), Notes::default(), Arc::new(simulator));
        let bench = Self {
            plan,
            seed,
            random,
            rabbit,
            postgres,
            simulator,
            crew,
            clients,
            notes,
            directory,
            _watchdog: watchdog,
        };
        bench.ready(Duration::from_secs(120)).await;
        // What was declared a moment ago does not survive a killed broker.
        sleep(Duration::from_secs(2)).await;
        bench
    }

    /// Lets producers, the reader of results and the users begin.
    fn open(&mut self, stop: &CancellationToken) -> Tasks {
        let wishes = demand::draw(&mut self.random, self.plan.requests, self.plan.span);
        let (start, owners) = (Instant::now(), demand::asked_once(&wishes));
        let mut shares = vec![Vec::new(); PRODUCERS + 1];
        for (number, wish) in wishes.into_iter().enumerate() {
            let stranger = wish.kind == crate::record::Kind::Stranger;
            shares[if stranger { PRODUCERS } else { number % PRODUCERS }].push(wish);
        }
        let mut producers = JoinSet::new();
        for (number, share) in shares.into_iter().enumerate() {
            let user = if number == PRODUCERS { rabbit::STRANGER } else { rabbit::PRODUCER };
            producers.spawn(produce(Client::new(user, self.clients.address), share, start, self.notes.clone()));
        }
        let client = Client::new(rabbit::PRODUCER, self.clients.address);
        let mut others = JoinSet::new();
        others.spawn(read_results(client, self.notes.clone(), stop.clone()));
        let random = self.random.fork();
        others.spawn(register(self.simulator.clone(), owners, random, self.notes.clone(), stop.clone()));
        Tasks { producers, others }
    }

    /// What there is to attack.
    fn fronts(&mut self, began: Instant) -> Fronts<'_> {
        let links = self.links();
        let brokers = self.crew.iter().map(|member| member.broker.clone()).chain([self.clients.clone()]).collect();
        let [one, two, three, four] = [(); 4].map(|()| self.random.fork());
        Fronts {
            workers: Workers { random: one, crew: &mut self.crew, notes: self.notes.clone() },
            lines: Lines { random: two, links },
            database: Database { random: three, postgres: &self.postgres },
            nodes: Nodes { random: four, rabbit: &self.rabbit, links: brokers },
            clock: Clock(began + self.plan.span),
        }
    }

    /// Notes something that went wrong.
    pub fn remark(&self, what: String) {
        self.notes.lock().remarks.push(what);
    }

    async fn ready(&self, within: Duration) {
        let ready = async || {
            for member in &self.crew {
                if !member.is_ready().await {
                    return false;
                }
            }
            true
        };
        until(within, "every worker is ready", ready).await;
    }

    /// Ends all trouble.
    async fn heal(&mut self) {
        for proxy in self.links() {
            proxy.set(Line::Whole);
        }
        self.clients.reach(self.rabbit.addresses());
        self.rabbit.heal();
        self.rabbit.wait(Duration::from_secs(120)).await;
        self.postgres.wait(Duration::from_secs(60)).await;
        for number in 0..self.crew.len() {
            self.expect_alive(number);
            self.crew[number].start();
        }
    }

    /// Every proxy.
    fn links(&self) -> Vec<Arc<Proxy>> {
        let both = self.crew.iter().flat_map(|member| [member.broker.clone(), member.ledger.clone()]);
        both.chain([self.clients.clone()]).collect()
    }

    /// A worker ends when it is asked to and never else.
    fn expect_alive(&mut self, number: usize) {
        if !self.crew[number].is_alive() {
            self.remark(format!("worker {} ended unasked", number + 1));
            self.crew[number].kill();
            self.crew[number].start();
        }
    }

    /// Waits until everything that was confirmed is answered, as long as patience lasts: the checker tells what is not.
    async fn answered(&mut self) {
        let (start, mut progress, mut open) = (Instant::now(), Instant::now(), usize::MAX);
        while open > 0 && start.elapsed() < PATIENCE {
            sleep(Duration::from_millis(200)).await;
            (0..self.crew.len()).for_each(|number| self.expect_alive(number));
            let record = self.notes.lock();
            let answered: BTreeSet<&str> = record.results().map(|(request, _)| request).collect();
            let still =
                record.asked.iter().filter(|(id, asked)| asked.confirmed && !answered.contains(id.as_str())).count();
            drop(record);
            if still < open {
                (open, progress) = (still, Instant::now());
            }
            self.remind(&mut progress);
        }
        println!(
            "{}: {open} requests are open {:.0} s after the trouble",
            self.plan.name,
            start.elapsed().as_secs_f64()
        );
    }

    /// Waits until no copy of a request is left anywhere, as long as patience lasts.
    async fn quiet(&self) {
        let (start, mut progress) = (Instant::now(), Instant::now());
        let mut client = Client::new(rabbit::WORKER, self.clients.address);
        while start.elapsed() < PATIENCE {
            sleep(Duration::from_millis(300)).await;
            let mut empty = true;
            for queue in retry_queues() {
                empty = empty && client.waiting(&queue).await == Some(0);
            }
            // Those in hand are told only by the more costly question.
            if empty && !self.rabbit.queues().iter().any(holds_work) {
                break;
            }
            self.remind(&mut progress);
        }
        println!("{}: quiet after {:.0} s more", self.plan.name, start.elapsed().as_secs_f64());
    }

    /// Does what an operator has to do where the broker has forgotten whose deliveries it keeps.
    fn remind(&self, progress: &mut Instant) {
        if self.rabbit.count() == 1 || progress.elapsed() < FORGOTTEN {
            return;
        }
        *progress = Instant::now();
        if self.rabbit.keeps_for_the_dead() {
            println!("{}: the broker keeps deliveries for channels that are no more", self.plan.name);
            self.rabbit.elect();
        }
    }

    /// Stops all workers in peace.
    async fn stop(&mut self) {
        self.ready(Duration::from_secs(120)).await;
        for number in 0..self.crew.len() {
            if let Some(fault) = self.crew[number].stop().await {
                self.remark(format!("worker {}: {fault}", number + 1));
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: failed under MFA_TEST_SEED={}", self.plan.name, self.seed);
            for member in &self.crew {
                let output = member.output();
                println!("the last lines of a worker:\n{}", output[output.len().saturating_sub(15)..].join("\n"));
            }
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn retry_queues() -> impl Iterator<Item = String> {
    let lane = |lane| ["10", "60", "300"].map(|step| format!("mfa.retry.{lane}.{step}"));
    lane("tickets").into_iter().chain(lane("batch"))
}

fn holds_work((name, count): (&String, &u64)) -> bool {
    *count > 0 && !["results", "audit", "dead-letters"].iter().any(|kept| name.ends_with(kept))
}
