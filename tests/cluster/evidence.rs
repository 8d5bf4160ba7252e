//! What a run leaves behind: gathered from every side, judged, and kept where something is wrong.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, WORKERS};
use crate::checker;
use crate::crew::Member;
use crate::people::{Client, read_letters};
use crate::rabbit;
use crate::record::{Held, Record, Reply};
use crate::secrets::CANARIES;
use crate::simulator::removal;

impl Bench {
    /// Gathers what Graph, the broker, the ledger and the logs say.
    pub async fn collect(&mut self) {
        let client = Client::new(rabbit::PRODUCER, self.clients.address);
        read_letters(client, &self.notes).await;
        let journal = self.simulator.get("journal?since=0").await.expect("the journal");
        let entries = journal.as_array().unwrap().iter();
        let removals: Vec<Reply> = entries.filter(|entry| entry["method"] == "DELETE").map(call).collect();
        let mut standing = Vec::new();
        let users: BTreeSet<String> = {
            let record = self.notes.lock();
            let user = |event: &Value| event["data"]["target_object_id"].as_str().map(str::to_owned);
            record
                .results()
                .filter_map(|(_, event)| user(event))
                .chain(removals.iter().map(|one| one.method.0.clone()))
                .collect()
        };
        for user in users {
            let state = self.simulator.get(&format!("users/{user}")).await.expect("a user");
            standing.extend(state["methods"].as_array().unwrap().iter().map(|method| held(&user, method)));
        }
        self.audit();
        let mut record = self.notes.lock();
        record.removals = removals;
        record.standing = standing;
        record.left = self.rabbit.queues();
        record.output = self.crew.iter().flat_map(Member::output).collect();
        record.secrets = CANARIES.into();
    }

    /// Notes what is wrong with the audit log.
    fn audit(&self) {
        let (directory, file) = (self.directory.path(), self.directory.path().join("audit.jsonl"));
        let export = self.crew[0].command(&["audit", "export"], directory);
        if !export.status.success() {
            return self.remark(format!("audit export: {}", String::from_utf8_lossy(&export.stderr)));
        }
        std::fs::write(&file, export.stdout).unwrap();
        let keys = (1..=WORKERS).map(|number| directory.join(format!("worker-{number}.key.pub")));
        let keys: Vec<String> = keys.map(|key| format!("--public-key={}", key.display())).collect();
        let mut arguments = vec!["audit", "verify", file.to_str().unwrap()];
        arguments.extend(keys.iter().map(String::as_str));
        let verify = self.crew[0].command(&arguments, directory);
        let said = String::from_utf8_lossy(&verify.stdout).into_owned();
        println!("{}: audit {}", self.plan.name, said.trim());
        if !verify.status.success() {
            self.remark(format!("audit verify: {said}"));
        }
    }

    /// Asks the checker; on a violation leaves the evidence behind.
    pub fn judge(&self, troubled: Duration, whole: Duration) {
        let (record, name) = (self.notes.lock().clone(), self.plan.name);
        let summary = record.summary();
        println!("{name}: {summary}; {:.0} s of trouble, {:.0} s in all", troubled.as_secs_f64(), whole.as_secs_f64());
        let found = checker::violations(&record);
        if !found.is_empty() {
            let kept = self.keep(&record);
            let shown: Vec<_> = found.iter().take(40).map(|(rule, what)| format!("{rule:?}: {what}")).collect();
            let seed = self.seed;
            panic!(
                "{name}, seed {seed}: {} violations, evidence in {}\n{}",
                found.len(),
                kept.display(),
                shown.join("\n")
            );
        }
    }

    /// Keeps logs and record for a person to read.
    fn keep(&self, record: &Record) -> PathBuf {
        let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{}-{}", self.plan.name, self.seed));
        std::fs::create_dir_all(&kept).unwrap();
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let entry = entry.unwrap();
            let secret = entry.path().extension().is_some_and(|extension| extension == "key");
            if entry.path().is_file() && !secret {
                std::fs::copy(entry.path(), kept.join(entry.file_name())).unwrap();
            }
        }
        std::fs::write(kept.join("record"), format!("{record:#?}")).unwrap();
        std::fs::write(kept.join("rabbitmq.log"), self.rabbit.tail()).unwrap();
        std::fs::write(kept.join("postgresql.log"), self.postgres.tail()).unwrap();
        kept
    }
}

/// A call to remove a method, as the journal tells it.
pub fn call(entry: &Value) -> Reply {
    let time = |name: &str| entry[name].as_i64().expect("a time");
    let went = &entry["effect"]["removed"];
    let value = || went["value_hash"].as_str().unwrap_or_default().to_owned();
    let went = went.is_object().then(value);
    Reply { method: removal(entry), from: time("at_ms"), to: time("done_ms"), went }
}

/// A method that a user has, as the simulator shows it.
pub fn held(user: &str, method: &Value) -> Held {
    let part = |name: &str| method[name].as_str().unwrap_or_default().to_owned();
    Held { method: (user.to_owned(), part("type"), part("id")), value: part("value_hash") }
}
