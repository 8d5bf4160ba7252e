//! How much of a tenant's quota is used, and how many calls are refused: the governor, one replica and four, beside a
//! plain client that retries as Microsoft's SDKs do. Counted by the simulator, after the first ten seconds.
//!
//! `cargo bench --bench throttle [-- --seconds 60]`: under four minutes. It judges nothing: it prints `met` or `missed`.
#![expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use mfa_reset::adapters::graph::{Graph, Proof, Settings, Trail};
use mfa_reset::adapters::ledger::{Ledger, SigningKey};
use mfa_reset::adapters::upkeep::share_holds;
use mfa_reset::domain::plan::Reach;
use mfa_reset::domain::request::{Lane, Target};
use mfa_reset::simulator::{self, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// What is counted begins after this.
const WARM_UP: Duration = Duration::from_secs(10);
/// How many jobs are in hand, over all replicas.
const JOBS: usize = 64;
const USERS: usize = 1000;
/// What is asked for, in calls a second, and how long each answer takes.
const LIMITS: [f64; 3] = [20.0, 50.0, 200.0];
const LATENCY: Duration = Duration::from_millis(50);
/// `graph.requests_per_second`: far more than most of these tenants allow.
const CEILING: f64 = 200.0;
/// How long a job is put off in which a call was refused for too long or too often, whoever calls.
const PUT_OFF: Duration = Duration::from_secs(1);
/// The retry handler of the SDKs: tries after the first, and the wait where none is asked for.
const RETRIES: u32 = 3;
const DELAY: Duration = Duration::from_secs(3);

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Client {
    Governed { replicas: usize },
    Plain,
}

/// One measurement: a client against a tenant with a limit.
#[derive(Debug, Clone, Copy)]
struct Cell {
    limit: f64,
    client: Client,
    /// Whether Graph tells how much of the limit is used.
    tells: bool,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--seconds").skip(1);
    let seconds = arguments.next().map_or(60, |text| text.parse().unwrap());
    let duration = Duration::from_secs(seconds).max(WARM_UP + Duration::from_secs(1));
    println!(
        "Each tenant for {seconds} s, {} ms latency, {JOBS} jobs in hand, counted after 10 s.",
        LATENCY.as_millis()
    );
    println!("A job: get the user, five lookups in one batch, and four lists.\n");
    println!("| client | limit, calls/s | quota used | calls refused | served/s | bounds (95 %, 1 %) |");
    println!("|---|---|---|---|---|---|");
    let cell = |client, tells| LIMITS.map(|limit| Cell { limit, client, tells });
    let (one, four) = (Client::Governed { replicas: 1 }, Client::Governed { replicas: 4 });
    let groups = [
        [cell(Client::Plain, true), cell(one, true)].concat(),
        cell(four, true).to_vec(),
        [cell(one, false), cell(four, false)].concat(),
    ];
    for group in groups {
        let lines = join_all(group.into_iter().map(|cell| measure(cell, duration))).await;
        lines.iter().for_each(|line| println!("{line}"));
    }
}

/// Runs a cell and makes its line.
async fn measure(cell: Cell, duration: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let (latency, rate) = (LATENCY, Some(cell.limit));
    let options = Options { users: USERS, latency, rate, omit_percentage: !cell.tells, ..Options::default() };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { simulator::serve(listener, options, std::future::pending()).await.unwrap() });
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    match cell.client {
        Client::Governed { replicas } => govern(&root, replicas, dir.path(), &mut tasks).await,
        Client::Plain => plain(&root, &mut tasks).await,
    }
    sleep_until(began + WARM_UP).await;
    let (before, from) = (stats(&root).await, Instant::now());
    sleep_until(began + duration).await;
    let (after, span) = (stats(&root).await, from.elapsed().as_secs_f64());
    let (requests, refused) = (after.0 - before.0, after.1 - before.1);
    let (served, share) = ((requests - refused) / span, refused / requests.max(1.0));
    let used = served / cell.limit;
    let bounds = if used >= 0.95 && share <= 0.01 { "met" } else { "missed" };
    let client = match cell.client {
        Client::Plain => "plain, as the SDKs".to_owned(),
        Client::Governed { replicas } => format!("governed, {replicas} replica{}", if replicas > 1 { "s" } else { "" }),
    };
    let told = if cell.tells { "" } else { ", Graph tells no percentage" };
    let (used, share) = (used * 100.0, share * 100.0);
    format!("| {client}{told} | {} | {used:.1} % | {share:.2} % | {served:.1} | {bounds} |", cell.limit)
}

/// Requests and refusals so far, as the simulator counts them.
async fn stats(root: &str) -> (f64, f64) {
    let stats: Value = http().get(format!("{root}/_simulator/stats")).send().await.unwrap().json().await.unwrap();
    (stats["requests"].as_f64().unwrap(), stats["throttled"].as_f64().unwrap())
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap()
}

fn users(job: usize) -> impl Iterator<Item = String> {
    (job..).step_by(JOBS).map(|number| format!("user{:05}@contoso.test", number % USERS + 1))
}

/// Replicas that share a ledger and nothing else, each with its part of the jobs.
async fn govern(root: &str, replicas: usize, dir: &std::path::Path, tasks: &mut JoinSet<()>) {
    let key = SigningKey::load_or_create(&dir.join("key")).unwrap();
    let url = format!("sqlite:{}", dir.join("ledger.db").display());
    let ledger = Arc::new(Ledger::open(&url, "bench", key, Duration::ZERO, Timestamp::now()).await.unwrap());
    let replicas: Vec<Arc<Graph>> = (0..replicas).map(|_| Arc::new(Graph::new(settings(root)).unwrap())).collect();
    for graph in &replicas {
        let (graph, ledger) = (Arc::clone(graph), Arc::clone(&ledger));
        tasks.spawn(async move { share_holds(&graph, &ledger, &CancellationToken::new()).await });
    }
    for (job, graph) in (0..JOBS).zip(replicas.iter().cycle()) {
        let graph = Arc::clone(graph);
        tasks.spawn(async move {
            for upn in users(job) {
                if governed_job(&graph, upn).await.is_none() {
                    sleep(PUT_OFF).await;
                }
            }
        });
    }
}

fn settings(root: &str) -> Settings {
    Settings {
        endpoint: root.parse().unwrap(),
        authority: root.parse().unwrap(),
        tenant_id: "tenant".to_owned(),
        client_id: "bench".to_owned(),
        proof: Proof::Secret("secret".to_owned().into()),
        beta: false,
        requests_per_second: CEILING,
        timeout: Duration::from_secs(30),
        allow_http: false,
        digest_key: [0; 32],
        observer: Arc::new(|_| {}),
    }
}

async fn governed_job(graph: &Graph, upn: String) -> Option<()> {
    let (lane, trail) = (Lane::Batch, Trail::default());
    let target = Target { object_id: None, upn: Some(upn), mail: None };
    let user = graph.resolve(lane, &target, &trail).await.ok()?.object_id;
    graph.survey(lane, &user, &trail).await.ok()?;
    for _ in 0..4 {
        graph.list_methods(lane, &user, &Reach::default(), &trail).await.ok()?;
    }
    Some(())
}

/// A client without a governor: every call retries for itself.
async fn plain(root: &str, tasks: &mut JoinSet<()>) {
    let form = [("grant_type", "client_credentials"), ("client_id", "bench"), ("client_secret", "secret")];
    let form = form.into_iter().chain([("scope", "https://graph.microsoft.com/.default")]).collect::<Vec<_>>();
    let token = http().post(format!("{root}/tenant/oauth2/v2.0/token")).form(&form).send().await.unwrap();
    let token: Value = token.json().await.unwrap();
    let plain =
        Plain { root: root.to_owned(), http: http(), token: token["access_token"].as_str().unwrap().to_owned() };
    for job in 0..JOBS {
        let plain = plain.clone();
        tasks.spawn(async move {
            for user in users(job) {
                if plain.job(&user).await.is_none() {
                    sleep(PUT_OFF).await;
                }
            }
        });
    }
}

#[derive(Clone)]
struct Plain {
    root: String,
    http: reqwest::Client,
    token: String,
}

impl Plain {
    async fn job(&self, user: &str) -> Option<()> {
        self.get(&format!("/users/{user}")).await?;
        self.batch(user).await?;
        for _ in 0..4 {
            self.get(&format!("/users/{user}/authentication/methods")).await?;
        }
        Some(())
    }

    async fn get(&self, path: &str) -> Option<()> {
        for retry in 0..=RETRIES {
            let request = self.http.get(format!("{}/v1.0{path}", self.root)).bearer_auth(&self.token);
            let answer = request.send().await.unwrap();
            if answer.status() != 429 {
                return Some(());
            }
            let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            sleep_before(retry, asked).await?;
        }
        None
    }

    /// The SDKs leave the items of a batch to the caller, who is told to send those that were refused again.
    async fn batch(&self, user: &str) -> Option<()> {
        let paths = ["authentication/methods", "transitiveMemberOf", "authentication/methods", "transitiveMemberOf"];
        let mut urls: Vec<String> = paths.iter().map(|path| format!("/users/{user}/{path}")).collect();
        urls.push("/groups?$filter=isAssignableToRole%20eq%20true".to_owned());
        for retry in 0..=RETRIES {
            let item = |(id, url): (usize, &String)| json!({"id": id.to_string(), "method": "GET", "url": url});
            let body = json!({"requests": urls.iter().enumerate().map(item).collect::<Vec<_>>()});
            let request = self.http.post(format!("{}/v1.0/$batch", self.root)).bearer_auth(&self.token).json(&body);
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            let refused: Vec<&Value> =
                answer["responses"].as_array().unwrap().iter().filter(|item| item["status"] == 429).collect();
            if refused.is_empty() {
                return Some(());
            }
            let asked = refused.iter().filter_map(|item| item["headers"]["Retry-After"].as_str()?.parse::<f64>().ok());
            let longest = asked.reduce(f64::max);
            let again = refused.iter().map(|item| item["id"].as_str().unwrap().parse::<usize>().unwrap());
            urls = again.map(|index| urls[index].clone()).collect();
            sleep_before(retry, longest).await?;
        }
        None
    }
}

/// Waits before this retry, counted from 0, for as long as was asked; `None` when there is none.
async fn sleep_before(retry: u32, asked: Option<f64>) -> Option<()> {
    if retry == RETRIES {
        return None;
    }
    sleep(asked.map_or(DELAY * 2_u32.pow(retry), Duration::from_secs_f64)).await;
    Some(())
}
