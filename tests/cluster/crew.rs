//! The workers of one run: separate processes on one ledger, each behind proxies of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use crate::postgres::Postgres;
use crate::process::{Process, appended, free_port};
use crate::proxy::Proxy;
use crate::rabbit::{self, Rabbit};
use crate::secrets::{BROKER_PASSWORD, CLIENT_SECRET};
use crate::simulator::http;

/// How long a worker may take to stop, as its setting says, and for its last words on top.
const GRACE: &str = "10s";
const GRACE_AT_MOST: Duration = Duration::from_secs(13);

/// One worker, running or not.
pub struct Member {
    pub broker: Arc<Proxy>,
    pub ledger: Arc<Proxy>,
    process: Option<Process>,
    settings: Vec<(String, String)>,
    log: PathBuf,
    admin: u16,
}

impl Member {
    /// A worker that does not run yet, with its ledger in a database, or in a file where there is none.
    pub async fn new(
        number: usize,
        rabbit: &Rabbit,
        postgres: Option<&Postgres>,
        graph: &str,
        directory: &Path,
    ) -> Self {
        let broker = Arc::new(Proxy::start(rabbit.addresses()).await);
        let ledger = Arc::new(Proxy::start(postgres.iter().map(|postgres| postgres.address()).collect()).await);
        let file = || format!("sqlite:{}", directory.join("ledger.db").display());
        let ledger_url = postgres.map_or_else(file, |postgres| postgres.url(&ledger.address.to_string()));
        let admin = free_port();
        let (user, password) = (rabbit::WORKER, BROKER_PASSWORD);
        let settings = [
            ("BROKER__URL", format!("amqp://{user}:{password}@{}/%2f?heartbeat=5", broker.address)),
            // With few in hand more is left to the others, and to be delivered again.
            ("BROKER__PREFETCH_TICKETS", "8".into()),
            ("BROKER__PREFETCH_BATCH", "8".into()),
            ("GRAPH__ENDPOINT", graph.into()),
            ("GRAPH__AUTHORITY", graph.into()),
            ("GRAPH__TENANT_ID", "7b6c1f0e-6a0b-4a8e-9d53-0d8f1c5e2a11".into()),
            ("GRAPH__CLIENT_ID", "2f0f7a34-8f5e-4d0c-a0b1-5f1f2f8f9c22".into()),
            ("GRAPH__CLIENT_SECRET", CLIENT_SECRET.into()),
            ("GRAPH__REQUESTS_PER_SECOND", "1000".into()),
            ("GRAPH__TIMEOUT", "3s".into()),
            ("LEDGER__URL", ledger_url),
            ("POLICY__PRODUCERS", rabbit::PRODUCER.into()),
            ("POLICY__COOL_DOWN", "0s".into()),
            ("POLICY__MAX_RESETS_PER_HOUR", "1000000".into()),
            ("AUDIT__SIGNING_KEY_FILE", directory.join(format!("worker-{number}.key")).display().to_string()),
            ("AUDIT__CHECKPOINT_INTERVAL", "5s".into()),
            ("ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
            ("SHUTDOWN__GRACE_PERIOD", GRACE.into()),
            ("LOG__FORMAT", "json".into()),
            ("LOG__FILTER", "info,mfa_reset=debug".into()),
        ];
        let settings = settings.map(|(key, value)| (format!("MFA_RESET_{key}"), value)).into();
        let log = directory.join(format!("worker-{number}.log"));
        Self { broker, ledger, process: None, settings, log, admin }
    }

    /// Settles a key, such as `GRAPH__TIMEOUT`, from its next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((format!("MFA_RESET_{key}"), value.to_owned()));
    }

    /// Its environment; of two settings of a key the later counts.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Starts it, if it does not run.
    pub fn start(&mut self) {
        let program = Path::new(env!("CARGO_BIN_EXE_mfa-reset"));
        let start = || Process::spawn(program, &["worker"], self.settings.clone(), &self.log);
        self.process.get_or_insert_with(start);
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Freezes it: it does nothing more, and its connections stay open.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s $0 -- -$1", name, &id]).status();
        assert!(sent.unwrap().success(), "SIG{name}");
    }

    /// Asks it to stop; what is wrong with how it did.
    pub async fn stop(&mut self) -> Option<String> {
        let mut process = self.process.take()?;
        process.terminate();
        let start = tokio::time::Instant::now();
        while process.is_running() {
            if start.elapsed() > GRACE_AT_MOST {
                return Some(format!("still there {GRACE_AT_MOST:?} after SIGTERM"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let code = process.exit_code(Duration::from_secs(1));
        (code != Some(0)).then(|| format!("exit code {code:?} after SIGTERM"))
    }

    /// Whether it runs, as far as it was started.
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_none_or(Process::is_running)
    }

    /// Whether it takes work.
    pub async fn is_ready(&self) -> bool {
        http(&format!("http://127.0.0.1:{}/readyz", self.admin)).await.is_some_and(|(status, _)| status == 200)
    }

    /// How many jobs it has in hand.
    pub async fn in_flight(&self) -> Option<f64> {
        let (_, text) = http(&format!("http://127.0.0.1:{}/metrics", self.admin)).await?;
        let series = text.lines().filter(|line| line.starts_with("mfa_reset_jobs_in_flight{"));
        Some(series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum())
    }

    /// Every line that it has printed, in all its lives.
    pub fn output(&self) -> Vec<String> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Runs another command of the program with its settings.
    pub fn command(&self, arguments: &[&str], directory: &Path) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mfa-reset"));
        command.args(arguments).env_clear().envs(self.settings.clone());
        let done = command.current_dir(directory).output().unwrap();
        appended(&directory.join("command.log")).write_all(&done.stderr).unwrap();
        done
    }
}
