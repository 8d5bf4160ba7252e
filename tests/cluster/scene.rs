//! The scene of one story: names of its own on a broker, a Graph and a ledger of its own, workers; and at the end what they
//! left, held against the promises.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::checker;
use crate::crew::Member;
use crate::evidence::{call, held};
use crate::postgres::Postgres;
use crate::queues::Queues;
use crate::rabbit::{self, Rabbit};
use crate::record::{Asked, Held, Kind, Letter, Record, Told};
use crate::requests::{request, upn};
use crate::secrets::{BROKER_PASSWORD, CANARIES};
use crate::simulator::{MOBILE, Simulator};
use crate::stage::until;

/// The id that every office phone has.
const OFFICE: &str = "e37fc753-ff3b-4958-9484-eaa9425c82bc";
/// The operations of Graph that change something about a user.
const CHANGING: [&str; 4] = ["delete_method", "revoke_sessions", "change_method", "add_method"];

/// Held while a simulator starts.
static STARTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Everything that one story needs.
pub struct Scene<'a> {
    pub name: String,
    pub crew: Vec<Member>,
    pub directory: tempfile::TempDir,
    pub queues: Queues,
    simulator: Simulator,
    rabbit: &'a Rabbit,
    record: Record,
    bodies: BTreeMap<String, Vec<u8>>,
    /// The object id of the user of each request that is a reset.
    owners: BTreeMap<String, String>,
}

impl<'a> Scene<'a> {
    /// A scene with so many workers, none of which runs yet. The database has the scene's name.
    pub async fn new(name: &str, rabbit: &'a Rabbit, postgres: Option<&Postgres>, workers: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_mfa-reset"));
        let log = directory.path().join("simulator.log");
        // One after the other: they all want the processor, and ports that are free.
        let turn = STARTS.lock().await;
        let simulator = Simulator::start(program, &["--latency", "0ms", "--users", "250"], &log).await;
        drop(turn);
        let address = rabbit.addresses().swap_remove(0);
        let queues = Queues::new(&format!("amqp://{}:{}@{address}/%2f", rabbit::WORKER, BROKER_PASSWORD));
        let mut crew = Vec::new();
        for number in 1..=workers {
            let mut member = Member::new(number, rabbit, postgres, &simulator.root(), directory.path()).await;
            member.set("BROKER__PREFIX", &queues.prefix);
            member.set("POLICY__PRODUCERS", rabbit::WORKER);
            if let Some(postgres) = postgres {
                let way = member.ledger.address.to_string();
                member.set("LEDGER__URL", &postgres.url_of(name, &way));
            }
            crew.push(member);
        }
        let (record, bodies, owners) = (Record::default(), BTreeMap::new(), BTreeMap::new());
        Self { name: name.to_owned(), crew, directory, queues, simulator, rabbit, record, bodies, owners }
    }

    /// Where its Graph listens.
    pub fn graph(&self) -> String {
        self.simulator.root().trim_start_matches("http://").to_owned()
    }

    /// Starts a worker and waits until it takes work.
    pub async fn start(&mut self, worker: usize) {
        self.crew[worker].start();
        until(Duration::from_secs(60), "the worker is ready", async || self.crew[worker].is_ready().await).await;
    }

    /// Stops a worker, which has to go in peace.
    pub async fn stop(&mut self, worker: usize) {
        assert_eq!(self.crew[worker].stop().await, None, "{}: worker {}", self.name, worker + 1);
    }

    /// Leaves a user with a password and one mobile phone.
    pub async fn with_only_mobile(&self, user: usize) {
        self.simulator.with_only_mobile(&upn(user), &format!("+1 206555{user:04}")).await;
    }

    /// Publishes the very same request once more.
    pub async fn ask_again(&mut self, id: &str) {
        let body = self.bodies[id].clone();
        self.queues.publish("reset", &[body], Some(rabbit::WORKER)).await;
    }

    /// Publishes a request for a reset.
    pub async fn ask(&mut self, id: &str, user: usize, profile: &'static str) {
        let owner = self.user(user).await["id"].as_str().unwrap().to_owned();
        self.owners.insert(id.to_owned(), owner);
        self.publish(id, user, Kind::Reset(profile)).await;
    }

    /// Publishes a request to set these phones, which the user is to have at the end.
    pub async fn ask_for_phones(&mut self, id: &str, user: usize) {
        let owner = self.user(user).await["id"].as_str().unwrap().to_owned();
        let (mobile, office) = (format!("+1 206888{user:04}"), format!("+1 206999{user:04}"));
        for (kind, id, number) in [("phone_mobile", MOBILE, &mobile), ("phone_office", OFFICE, &office)] {
            // As the simulator shows it.
            let value = Uuid::new_v5(&Uuid::NAMESPACE_OID, number.as_bytes()).to_string();
            self.record.registered.push(Held { method: (owner.clone(), kind.into(), id.into()), value });
        }
        let mut body = request(id, user, "");
        body.as_object_mut().unwrap().remove("profile");
        body["steps"] = json!([{"set_phones": {"mobile": mobile, "office": office}}]);
        self.owners.insert(id.to_owned(), owner);
        self.send(id, body, Kind::Reset("set-phones")).await;
    }

    /// Publishes a request of somebody who may not ask.
    pub async fn ask_as_a_stranger(&mut self, id: &str, user: usize) {
        self.publish(id, user, Kind::Stranger).await;
    }

    async fn publish(&mut self, id: &str, user: usize, kind: Kind) {
        let profile = if let Kind::Reset(profile) = kind { profile } else { "all" };
        self.send(id, request(id, user, profile), kind).await;
    }

    async fn send(&mut self, id: &str, body: Value, kind: Kind) {
        let body = body.to_string().into_bytes();
        self.bodies.insert(id.to_owned(), body.clone());
        let producer = (kind != Kind::Stranger).then_some(rabbit::WORKER);
        self.queues.publish("reset", &[body], producer).await;
        self.record.asked.insert(id.to_owned(), Asked { kind, confirmed: true });
    }

    /// What the simulator knows of a user.
    pub async fn user(&self, user: usize) -> Value {
        self.simulator.get(&format!("users/{}", upn(user))).await.expect("a user")
    }

    /// Lets a user register another mobile phone where the old one has gone; whether it had.
    pub async fn register_anew(&mut self, user: usize) -> bool {
        let state = self.user(user).await;
        let gone = state["methods"].as_array().unwrap().iter().all(|method| method["id"] != MOBILE);
        if gone {
            let shown = self.simulator.register_mobile(&upn(user), &format!("+1 206777{user:04}")).await;
            self.keeps(&state, &shown);
        }
        gone
    }

    /// Gives a user another mobile phone in the place of the one that is there.
    pub async fn replace_mobile(&mut self, user: usize) {
        self.simulator.with_only_mobile(&upn(user), &format!("+1 206777{user:04}")).await;
        let state = self.user(user).await;
        let shown = state["methods"].as_array().unwrap().iter().find(|method| method["id"] == MOBILE).unwrap();
        self.keeps(&state, shown);
    }

    /// Notes a phone that is the user's to keep.
    fn keeps(&mut self, user: &Value, shown: &Value) {
        let owner = user["id"].as_str().unwrap().to_owned();
        let value = shown["value_hash"].as_str().expect("a digest").to_owned();
        self.record.registered.push(Held { method: (owner, "phone_mobile".into(), MOBILE.into()), value });
    }

    /// Sets what shall go wrong with the next call of this kind for this user.
    pub async fn fault(&self, user: usize, mut fault: Value) {
        fault["user"] = upn(user).into();
        self.control("POST", "faults", &fault).await;
    }

    /// Clears what has not gone wrong yet.
    pub async fn clear_faults(&self) {
        self.control("DELETE", "faults", &Value::Null).await;
    }

    /// Changes a setting of the simulator.
    pub async fn simulate(&self, settings: Value) {
        self.control("PATCH", "settings", &settings).await;
    }

    async fn control(&self, verb: &str, path: &str, body: &Value) {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let url = format!("{}/_simulator/{path}", self.simulator.root());
        let answer = client.request(verb.parse().unwrap(), url).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{verb} {path}: {}", answer.status());
    }

    /// The calls about a user that Graph has seen, items of a batch aside.
    pub async fn calls(&self, user: usize, operation: &str) -> Vec<Value> {
        let owner = self.user(user).await["id"].clone();
        let journal = self.simulator.get("journal?since=0").await.expect("the journal");
        let about =
            |entry: &&Value| entry["user"] == owner && entry["operation"] == operation && entry["batch"].is_null();
        journal.as_array().unwrap().iter().filter(about).cloned().collect()
    }

    /// How many calls have been made to change something about a user, whatever became of them.
    pub async fn changes(&self, user: usize) -> usize {
        self.calls(user, "delete_method").await.len() + self.calls(user, "revoke_sessions").await.len()
    }

    /// Waits until Graph has seen so many of these calls.
    pub async fn until_called(&self, user: usize, operation: &str, count: usize) {
        let what = format!("{}: {count} times {operation}", self.name);
        until(Duration::from_secs(30), &what, async || self.calls(user, operation).await.len() >= count).await;
    }

    /// Takes the results that are there.
    async fn take_results(&mut self) {
        for message in self.queues.take("results").await {
            let event: Value = serde_json::from_slice(&message.data).expect("a result event is JSON");
            let request = event["data"]["request_id"].as_str().expect("a request id").to_owned();
            self.record.told.push(Told { request, event });
        }
    }

    /// Waits until every request has a result.
    pub async fn answered(&mut self, within: Duration) {
        let what = format!("{}: every request has a result", self.name);
        until(within, &what, async || self.is_answered().await).await;
    }

    /// Whether every request has a result.
    pub async fn is_answered(&mut self) -> bool {
        self.take_results().await;
        let told: BTreeSet<&str> = self.record.results().map(|(request, _)| request).collect();
        self.record.asked.keys().all(|id| told.contains(id.as_str()))
    }

    /// How each request ended, and why.
    pub fn outcomes(&self) -> Vec<(String, String, String)> {
        let word = |event: &Value, name: &str| event["data"][name].as_str().unwrap_or_default().to_owned();
        let ended =
            |(request, event): (&str, &Value)| (request.to_owned(), word(event, "outcome"), word(event, "reason_code"));
        self.record.results().map(ended).collect()
    }

    /// How many messages each queue of this scene holds, in hand or not.
    fn left(&self) -> BTreeMap<String, u64> {
        let mut left = self.rabbit.queues();
        left.retain(|name, _| name.starts_with(&self.queues.prefix));
        left
    }

    /// Waits until no copy of a request is left anywhere.
    pub async fn quiet(&self, within: Duration) {
        let kept = |name: &str| ["results", "audit", "dead-letters"].iter().any(|kept| name.ends_with(kept));
        let what = format!("{}: no copy of a request is left", self.name);
        until(within, &what, async || self.left().iter().all(|(name, count)| *count == 0 || kept(name))).await;
    }

    /// Gathers what Graph, the broker, the ledger and the logs say, and holds it against the promises. No worker runs.
    pub async fn judge(mut self) {
        self.take_results().await;
        for letter in self.queues.take("dead-letters").await {
            self.record.letters.push(Letter { request: "dead".into(), reason: format!("{:?}", letter.properties) });
        }
        let journal = self.simulator.get("journal?since=0").await.expect("the journal");
        let deletes = journal.as_array().unwrap().iter().filter(|entry| entry["method"] == "DELETE");
        self.record.removals = deletes.map(call).collect();
        for owner in self.owners.values().collect::<BTreeSet<_>>() {
            let state = self.simulator.get(&format!("users/{owner}")).await.expect("a user");
            let methods = state["methods"].as_array().unwrap().iter();
            self.record.standing.extend(methods.map(|method| held(owner, method)));
        }
        self.record.left = self.left();
        self.record.output = self.crew.iter().flat_map(Member::output).collect();
        self.record.secrets = CANARIES.into();
        let remarks = self.audit(journal.as_array().unwrap());
        self.record.remarks.extend(remarks);
        println!("{}: {}", self.name, self.record.summary());
        let found = checker::violations(&self.record);
        assert!(found.is_empty(), "{}: {found:#?}\n{:#?}", self.name, self.record.told);
    }

    /// What is wrong with the audit log: it has to verify, and every reset has one intent, before its first change, and
    /// one conclusion.
    fn audit(&self, journal: &[Value]) -> Vec<String> {
        let (directory, file) = (self.directory.path(), self.directory.path().join("audit.jsonl"));
        let export = self.crew[0].command(&["audit", "export"], directory);
        assert!(export.status.success(), "audit export: {}", String::from_utf8_lossy(&export.stderr));
        std::fs::write(&file, &export.stdout).unwrap();
        let keys = (1..=self.crew.len()).map(|number| directory.join(format!("worker-{number}.key.pub")));
        let mut arguments = vec!["audit".to_owned(), "verify".into(), file.display().to_string()];
        arguments
            .extend(keys.filter(|key| key.exists()).flat_map(|key| ["--public-key".into(), key.display().to_string()]));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let verify = self.crew[0].command(&arguments, directory);
        let said = String::from_utf8_lossy(&verify.stdout);
        println!("{}: audit {}", self.name, said.trim());
        let mut wrong = Vec::from_iter((!verify.status.success()).then(|| format!("audit verify: {said}")));
        let records: Vec<Value> =
            String::from_utf8_lossy(&export.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (id, owner) in &self.owners {
            let of = |phase: &str| -> Vec<i64> {
                let about = |record: &&Value| {
                    let metadata = &record["metadata"];
                    metadata["correlation_uid"] == format!("servicenow/{id}") && metadata["event_code"] == phase
                };
                records.iter().filter(about).map(|record| record["time"].as_i64().unwrap()).collect()
            };
            let changing = |entry: &&Value| {
                entry["user"] == owner.as_str() && CHANGING.iter().any(|name| entry["operation"] == *name)
            };
            let first = journal.iter().filter(changing).map(|entry| entry["at_ms"].as_i64().unwrap()).min();
            let (intents, conclusions) = (of("intent"), of("conclusion"));
            let told = first.is_none_or(|first| intents.first().is_some_and(|intent| *intent <= first));
            if !told || intents.len() > 1 || conclusions.len() != 1 {
                wrong.push(format!("{id}: intents {intents:?}, first change {first:?}, conclusions {conclusions:?}"));
            }
        }
        wrong
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, member) in self.crew.iter().enumerate() {
                let output = member.output();
                let last = output[output.len().saturating_sub(30)..].join("\n");
                println!("{}: the last lines of worker {}:\n{last}", self.name, number + 1);
            }
        }
    }
}

/// A fault of the simulator.
pub fn fault(operation: &str, mode: &str) -> Value {
    json!({"operation": operation, "mode": mode})
}
