//! The consumer of `deploy/itsm` at a desk of its own: a broker with the worker's topology, and a stub of ServiceNow.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::Value;

use crate::broker;
use crate::process::Process;
use crate::stage::{Stage, until};
use crate::table::{PASSWORD, Table};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a test of the consumer needs.
pub struct Desk {
    pub stage: Stage,
    pub table: Table,
}

impl Desk {
    /// A desk whose worker runs.
    pub async fn open() -> Self {
        Self::with(|_| ()).await
    }

    /// The same, with the worker set up in this way.
    pub async fn with(set_up: impl FnOnce(&mut Stage)) -> Self {
        let mut stage = Stage::new(&broker::shared().url).await;
        set_up(&mut stage);
        stage.start_worker().await;
        let desk = Self { stage, table: Table::start().await };
        std::fs::write(desk.path("broker-url"), &desk.stage.queues.url).unwrap();
        std::fs::write(desk.path("password"), format!("{PASSWORD}\n")).unwrap();
        desk
    }

    /// A file of this desk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.stage.directory.path().join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let script = file("consumer/write_back.py").to_str().unwrap().to_owned();
        let (url, password, parked) = (path("broker-url"), path("password"), path("parked"));
        let queue = self.stage.queues.name("results");
        let fixed = [
            [script.as_str(), "--user"],
            ["write-back", "--broker-url-file"],
            [&url, "--password-file"],
            [&password, "--instance"],
            [&self.table.root, "--parked"],
            [&parked, "--queue"],
        ];
        let queue = [queue.as_str()];
        let all = fixed.as_flattened().iter().chain(&queue).chain(more);
        all.map(|word| (*word).to_owned()).collect()
    }

    /// Starts the consumer; it prints to the file `name`.
    pub fn consumer(&self, name: &str, more: &[&str]) -> Process {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::spawn(Path::new(&python()), &arguments, [("PYTHONDONTWRITEBYTECODE", "1")], &self.path(name))
    }

    /// Lets a program of `deploy/itsm` run to its end.
    pub fn program(&self, script: &str, arguments: &[&str]) -> std::process::Output {
        let mut program = std::process::Command::new(python());
        program.arg(file(script)).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
        program.current_dir(self.stage.directory.path()).output().unwrap()
    }

    /// Lets the consumer take parked events again.
    pub async fn again(&self, parked: &Path, more: &[&str]) {
        let mut again = self.consumer("again.log", &[&["--again", parked.to_str().unwrap()], more].concat());
        // The stub answers on this very thread.
        until(PATIENCE, "everything is taken again", async || !again.is_running()).await;
        assert_eq!(again.exit_code(PATIENCE), Some(0), "{}", again.output());
    }

    /// Lets the real worker carry out a request for this ticket, and takes its result away from the queue.
    pub async fn result(&mut self, number: &str, sys_id: &str, user: usize) -> Vec<u8> {
        let mut request = crate::requests::request(&format!("{number}:1"), user, "lost-phone");
        request["ticket"]["number"] = number.into();
        request["ticket"]["id"] = sys_id.into();
        let publisher = self.stage.queues.user();
        self.stage.queues.publish("reset", &[request.to_string().into_bytes()], Some(&publisher)).await;
        self.take().await
    }

    /// The next event in the queue.
    pub async fn take(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        until(PATIENCE, "there is a result", async || {
            taken.extend(self.stage.queues.take("results").await);
            !taken.is_empty()
        })
        .await;
        assert_eq!(taken.len(), 1);
        taken.remove(0).data
    }

    /// Publishes events as the worker does.
    pub async fn deliver(&mut self, events: &[&[u8]]) {
        self.deliver_as("result.x.y", events).await;
    }

    /// The same with this routing key.
    pub async fn deliver_as(&mut self, key: &str, events: &[&[u8]]) {
        let (channel, exchange) = (self.stage.queues.channel().await, self.stage.queues.name("results"));
        for event in events {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent = channel.basic_publish(exchange.as_str().into(), key.into(), options, event, properties);
            sent.await.unwrap().await.unwrap();
        }
    }

    /// Waits until the consumer has told this so many times.
    pub async fn told(&self, consumer: &Process, words: &str, times: usize) {
        let what = format!("the consumer says {words} {times} times");
        until(PATIENCE, &what, async || consumer.output().matches(words).count() >= times).await;
    }

    /// Stops the consumer, the worker and everything, and finds nothing left in the queue.
    pub async fn close(mut self, mut consumer: Process) {
        consumer.terminate();
        assert_eq!(consumer.exit_code(Duration::from_secs(20)), Some(0), "{}", consumer.output());
        assert_eq!(self.stage.queues.waiting("results").await, 0, "everything is acknowledged");
        self.stage.finish().await;
    }
}

/// A file of `deploy/itsm`.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/itsm").join(name)
}

/// The text of one.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// An example message.
pub fn example(name: &str) -> Value {
    serde_json::from_str(&text(&format!("examples/{name}.json"))).unwrap()
}

/// A Python that has pika.
pub fn python() -> String {
    std::env::var("MFA_TEST_PYTHON").unwrap_or_else(|_| "python3".into())
}
