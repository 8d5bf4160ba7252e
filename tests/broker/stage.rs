//! One test's world: names of its own on a broker, a simulator, a ledger, and a worker that can be killed.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::process::{Process, appended, free_port};
use crate::queues::Queues;
use crate::secrets::{CANARIES, CLIENT_SECRET};
use crate::simulator::{Simulator, http};

/// Everything that one test needs. The worker goes first when it is dropped, the names on the broker follow.
pub struct Stage {
    pub worker: Option<Process>,
    pub simulator: Simulator,
    pub queues: Queues,
    pub directory: tempfile::TempDir,
    program: PathBuf,
    settings: Vec<(String, String)>,
    pub admin_port: u16,
}

impl Stage {
    /// A stage on this broker with the program that was built for the tests.
    pub async fn new(url: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_mfa-reset"));
        Self::with(url, program, &["--latency", "0ms"]).await
    }

    /// The same with a Graph that takes its time, so that there is a middle of the work.
    pub async fn slow(url: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_mfa-reset"));
        Self::with(url, program, &["--latency", "100ms"]).await
    }

    /// A stage with any build of the program, and these options for the simulator.
    pub async fn with(url: &str, program: &Path, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("simulator.log");
        Self {
            worker: None,
            simulator: Simulator::start(program, options, &log).await,
            queues: Queues::new(url),
            directory,
            program: program.to_owned(),
            settings: Vec::new(),
            admin_port: free_port(),
        }
    }

    /// Settles a key of the worker's configuration, such as `POLICY__PRODUCERS`, from its next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Forgets what was settled for a key.
    pub fn unset(&mut self, key: &str) {
        self.settings.retain(|(known, _)| known != key);
    }

    /// Points the worker, from its next start on, at another way to the same broker.
    pub fn through(&mut self, address: SocketAddr) {
        let uri = self.queues.uri();
        let (user, vhost) = (uri.authority.userinfo, uri.vhost.replace('/', "%2f"));
        let url = format!("amqp://{}:{}@{address}/{vhost}", user.username, user.password);
        self.set("BROKER__URL", &url);
    }

    /// The settings of the worker, as its environment.
    pub fn settings(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.directory.path().join(name).to_str().unwrap().to_owned();
        let common = [
            ("BROKER__URL", self.queues.url.clone()),
            ("BROKER__PREFIX", self.queues.prefix.clone()),
            ("GRAPH__ENDPOINT", self.simulator.root()),
            ("GRAPH__AUTHORITY", self.simulator.root()),
            ("GRAPH__TENANT_ID", "7b6c1f0e-6a0b-4a8e-9d53-0d8f1c5e2a11".into()),
            ("GRAPH__CLIENT_ID", "2f0f7a34-8f5e-4d0c-a0b1-5f1f2f8f9c22".into()),
            ("GRAPH__CLIENT_SECRET", CLIENT_SECRET.into()),
            ("GRAPH__REQUESTS_PER_SECOND", "1000".into()),
            ("LEDGER__URL", format!("sqlite:{}", path("ledger.db"))),
            ("POLICY__PRODUCERS", self.queues.user()),
            ("POLICY__COOL_DOWN", "0s".into()),
            ("POLICY__MAX_RESETS_PER_HOUR", "100000".into()),
            ("AUDIT__SIGNING_KEY_FILE", path("audit.key")),
            ("ADMIN__LISTEN", format!("127.0.0.1:{}", self.admin_port)),
            ("LOG__FORMAT", "json".into()),
        ];
        let common = common.map(|(key, value)| (key.to_owned(), value));
        let all = common.into_iter().chain(self.settings.iter().cloned());
        all.map(|(key, value)| (format!("MFA_RESET_{key}"), value)).collect()
    }

    /// Starts the worker and gives the time that it took to be ready.
    pub async fn start_worker(&mut self) -> Duration {
        let start = Instant::now();
        self.launch_worker();
        let worker = self.worker.as_mut().expect("a worker");
        let ready = format!("http://127.0.0.1:{}/readyz", self.admin_port);
        let limit = Duration::from_secs(30);
        while http(&ready).await.is_none_or(|(status, _)| status != 200) {
            let running = worker.is_running();
            assert!(running && start.elapsed() < limit, "not ready:\n{}", worker.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }

    /// Starts the worker and waits for nothing.
    pub fn launch_worker(&mut self) {
        let worker = Process::spawn(&self.program, &["worker"], self.settings(), &self.log());
        self.worker = Some(worker);
    }

    /// Kills the worker without a warning.
    pub fn kill_worker(&mut self) {
        self.worker.take().expect("a worker").kill();
    }

    /// Asks the worker to stop, and expects that it does so in time and content.
    pub fn stop_worker(&mut self) {
        let mut worker = self.worker.take().expect("a worker");
        worker.terminate();
        let code = worker.exit_code(Duration::from_secs(35));
        assert_eq!(code, Some(0), "exit code after SIGTERM:\n{}", worker.output());
    }

    /// Runs another command of the program with the worker's configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.command_by(&[], arguments)
    }

    /// The same by way of a wrapper such as `unshare`, which gets program and arguments at its end.
    pub fn command_by(&self, wrapper: &[&str], arguments: &[&str]) -> Output {
        let line = [wrapper, &[self.program.to_str().unwrap()], arguments].concat();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).env_clear().envs(self.settings());
        let done = command.current_dir(self.directory.path()).output().unwrap();
        self.keep("command.log", &done.stderr);
        done
    }

    /// Starts another command of the program with the worker's configuration.
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        let log = self.directory.path().join("command.log");
        Process::spawn(&self.program, arguments, self.settings(), &log)
    }

    /// Whether `/readyz` says yes.
    pub async fn is_ready(&self) -> bool {
        self.admin("readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// Waits until nothing is in hand and nothing goes round: after trouble, copies may outlive their requests.
    pub async fn quiet(&mut self, within: Duration) {
        let mut quiet_for = 0;
        until(within, "nothing is in hand, and nothing goes round", async || {
            // A message on its way from a retry queue to its lane is in neither for a moment.
            let in_hand = self.metric("mfa_reset_jobs_in_flight", "").await;
            quiet_for = if in_hand == 0.0 && self.queues.requests_waiting().await == 0 { quiet_for + 1 } else { 0 };
            quiet_for > 20
        })
        .await;
    }

    /// Waits until Graph has not been called for some seconds.
    pub async fn graph_is_left_alone(&self) {
        let mut before = 0;
        until(Duration::from_secs(60), "Graph is left alone", async || {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let calls = self.simulator.graph_calls().await;
            std::mem::replace(&mut before, calls) == calls
        })
        .await;
    }

    /// Whether `/livez` says yes.
    pub async fn is_alive(&self) -> bool {
        self.admin("livez").await.is_some_and(|(status, _)| status == 200)
    }

    /// Whether this check of `/readyz` is well; the same must be told by the metric.
    pub async fn is_well(&self, check: &str) -> bool {
        let (_, text) = self.admin("readyz").await.expect("/readyz");
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        body["checks"][check].as_bool().expect("a check")
    }

    /// How many lines of the worker's log hold these words.
    pub fn told(&self, words: &str) -> usize {
        let printed = std::fs::read_to_string(self.log()).unwrap_or_default();
        printed.lines().filter(|line| line.contains(words)).count()
    }

    /// The sum over all series of a metric whose labels contain `label`.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, text) = self.admin("metrics").await.expect("/metrics");
        let series = text.lines().filter_map(|line| line.strip_prefix(name));
        let chosen = series.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
        chosen.map(|rest| rest.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// Stops the worker and looks over what it leaves: no request anywhere, no panic, no secret, no name of a person.
    pub async fn finish(&mut self) {
        let (_, metrics) = self.admin("metrics").await.expect("/metrics");
        self.stop_worker();
        let empty = async || self.queues.requests_waiting().await == 0;
        until(Duration::from_secs(10), "every queue of requests is empty", empty).await;
        self.keep("metrics", metrics.as_bytes());
        let printed = std::fs::read_to_string(self.log()).unwrap();
        for (number, line) in printed.lines().chain(metrics.lines()).enumerate() {
            let shown = CANARIES.iter().find(|(_, words)| line.contains(words)).map(|(what, _)| what);
            assert_eq!(shown, None, "line {} of log and metrics", number + 1);
        }
    }

    async fn admin(&self, path: &str) -> Option<(u16, String)> {
        http(&format!("http://127.0.0.1:{}/{path}", self.admin_port)).await
    }

    /// Leaves something where output is kept.
    fn keep(&self, name: &str, text: &[u8]) {
        appended(&self.directory.path().join(name)).write_all(text).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("worker.log")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let printed = std::fs::read_to_string(self.log()).unwrap_or_default();
            let last: Vec<_> = printed.lines().rev().take(40).collect();
            println!("the last lines of the worker:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Polls until the condition holds; panics with `what` when it does not in time.
pub async fn until(within: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
