//! `deploy/rabbitmq/definitions.json` on a real broker: the same topology as the worker declares, and users that may do
//! what they need and nothing else.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;

use crate::broker::{self, Broker};
use crate::requests::{bodies, request, upn};
use crate::secrets::BROKER_PASSWORD;
use crate::stage::{Stage, until};

const USERS: [&str; 6] = ["submitter", "worker", "reader", "archive", "operator", "scaler"];
const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rabbitmq/definitions.json");

/// One broker for all of it: starting one costs more than everything that is asked of it.
#[tokio::test]
async fn the_definitions_bring_all_that_is_needed_and_allow_nothing_else() {
    let broker = broker::own();
    as_they_stand_in_the_repository_nobody_can_log_in(&broker).await;
    give_passwords(&broker);
    what_is_imported_is_what_a_worker_declares(&broker).await;
    a_request_goes_its_way_with_nobody_permitted_to_declare(&broker).await;
    each_user_may_do_what_it_needs_and_nothing_else(&broker).await;
}

/// Imports the definitions again, in which each user has the password of the tests.
fn give_passwords(broker: &Broker) {
    let folder = tempfile::tempdir().unwrap();
    for user in USERS {
        std::fs::write(folder.path().join(user), BROKER_PASSWORD).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rabbitmq/users");
    let filled = Command::new(script).arg(folder.path()).output().unwrap();
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    let filled = String::from_utf8(filled.stdout).unwrap();
    assert!(!filled.contains(BROKER_PASSWORD), "a password in clear");
    let file = folder.path().join("definitions.json");
    std::fs::write(&file, filled).unwrap();
    broker.import(&file);
}

/// The broker's address for a user of the definitions.
fn url(broker: &Broker, user: &str) -> String {
    broker.url.replace("guest", user).replace("/%2f", "/mfa")
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

async fn what_is_imported_is_what_a_worker_declares(broker: &Broker) {
    let mut declaring = Stage::new(&broker.url).await;
    declaring.queues.prefix = "mfa".into();
    declaring.start_worker().await;
    let exported: Value = serde_json::from_str(&broker.control(&["--quiet", "export_definitions", "-"])).unwrap();
    let on = |vhost: &str, kind: &str| {
        let all = exported[kind].as_array().unwrap().iter().filter(|one| one["vhost"] == vhost);
        let mut found: Vec<String> = all.map(|one| without_vhost(one).to_string()).collect();
        found.sort();
        found
    };
    for (kind, number) in [("exchanges", 5), ("queues", 15), ("bindings", 15)] {
        assert_eq!(on("mfa", kind).len(), number, "{kind}");
        assert_eq!(on("mfa", kind), on("/", kind), "{kind}");
    }
    declaring.finish().await;
}

fn without_vhost(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("vhost");
    object
}

async fn a_request_goes_its_way_with_nobody_permitted_to_declare(broker: &Broker) {
    let mut stage = Stage::new(&url(broker, "worker")).await;
    stage.queues.prefix = "mfa".into();
    stage.set("BROKER__DECLARE", "false");
    stage.set("POLICY__PRODUCERS", "submitter,waiter");
    stage.simulator.with_only_mobile(&upn(1), "+1 2065550147").await;
    stage.start_worker().await;

    let file = stage.directory.path().join("requests");
    let requests = [request("asked", 1, "lost-phone"), serde_json::json!({"id": "wrong"})];
    std::fs::write(&file, bodies(&requests).join(&b'\n')).unwrap();
    let asks = format!("broker.url={}", url(broker, "submitter"));
    let submitted = stage.command(&["submit", file.to_str().unwrap(), "--set", &asks]);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));

    let reader = connect(&url(broker, "reader")).await.unwrap();
    let (channel, mut outcomes) = (reader.create_channel().await.unwrap(), Vec::new());
    until(Duration::from_secs(30), "both results are there", async || {
        if let Some(result) = channel.basic_get("mfa.results".into(), taken()).await.unwrap() {
            let event: Value = serde_json::from_slice(&result.delivery.data).unwrap();
            outcomes.push(event["data"]["outcome"].as_str().unwrap().to_owned());
        }
        outcomes.len() == 2
    })
    .await;
    outcomes.sort();
    assert_eq!(outcomes, ["rejected", "succeeded"]);
    let archive = connect(&url(broker, "archive")).await.unwrap();
    let channel = archive.create_channel().await.unwrap();
    assert!(channel.basic_get("mfa.audit".into(), taken()).await.unwrap().is_some(), "the trail");

    who_waits_for_results_needs_more(broker, &stage);
    an_operator_looks_and_discards(broker, &mut stage).await;
    stage.finish().await;
}

/// As much as deploy/README.md says.
fn who_waits_for_results_needs_more(broker: &Broker, stage: &Stage) {
    let waits = ["^mfa\\.wait\\.", "^mfa\\.(requests|wait\\..*)$", "^mfa\\.(results|wait\\..*)$"];
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md")).unwrap();
    assert!(waits.iter().all(|words| readme.contains(&format!("`{words}`"))));
    broker.control(&["add_user", "waiter", BROKER_PASSWORD]);
    broker.control(&[&["set_permissions", "--vhost", "mfa", "waiter"], &waits[..]].concat());
    let file = stage.directory.path().join("waited");
    std::fs::write(&file, request("waited", 2, "all").to_string()).unwrap();
    let wait = |user: &str| {
        let asks = format!("broker.url={}", url(broker, user));
        stage.command(&["submit", "--wait", file.to_str().unwrap(), "--set", &asks])
    };
    assert_eq!(wait("submitter").status.code(), Some(69), "the submitter may declare no queue to wait at");
    let waited = wait("waiter");
    assert!(String::from_utf8_lossy(&waited.stdout).contains("\"request_id\":\"waited\""), "{waited:?}");
}

async fn an_operator_looks_and_discards(broker: &Broker, stage: &mut Stage) {
    one_dead_letter(stage).await;
    let looks = format!("broker.url={}", url(broker, "operator"));
    let listed = stage.command(&["dead-letters", "list", "--json", "--set", &looks]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("malformed"), "{listed:?}");
    // The worker's marks count for the worker's user alone, so replaying is for that one.
    let replay = ["dead-letters", "replay", "--all", "--by", "sam", "--set"];
    let replayed = stage.command(&[&replay[..], &[&looks]].concat());
    assert!(!replayed.status.success(), "{replayed:?}");
    let replayed = stage.command(&replay[..5]);
    assert!(String::from_utf8_lossy(&replayed.stdout).contains("replayed: 1"), "{replayed:?}");
    one_dead_letter(stage).await;
    let discarded = stage.command(&["dead-letters", "discard", "--all", "--by", "sam", "--set", &looks]);
    assert!(String::from_utf8_lossy(&discarded.stdout).contains("discarded: 1"), "{discarded:?}");
}

async fn one_dead_letter(stage: &mut Stage) {
    until(Duration::from_secs(30), "it is a dead letter", async || stage.queues.waiting("dead-letters").await == 1)
        .await;
}

fn taken() -> BasicGetOptions {
    BasicGetOptions { no_ack: true }
}

async fn each_user_may_do_what_it_needs_and_nothing_else(broker: &Broker) {
    let definitions: Value = serde_json::from_str(&std::fs::read_to_string(DEFINITIONS).unwrap()).unwrap();
    let names = |kind: &str| {
        let all = definitions[kind].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("users"), USERS);
    for (user, publishes, reads) in [
        ("submitter", &["mfa.requests"][..], &[][..]),
        (
            "worker",
            &["mfa.requests", "mfa.retry", "mfa.results", "mfa.audit", "mfa.dead-letters"],
            &["mfa.dead-letters", "mfa.requests.tickets", "mfa.requests.batch"],
        ),
        ("reader", &[], &["mfa.results"]),
        ("archive", &[], &["mfa.audit"]),
        ("operator", &[], &["mfa.dead-letters"]),
        ("scaler", &[], &[]),
    ] {
        let connection = connect(&url(broker, user)).await.unwrap();
        let tried = Tried { connection, user };
        for exchange in names("exchanges").iter().map(String::as_str).chain(["", "amq.topic"]) {
            // Bindings of the retry queues do not take this key: whatever is let through is gone.
            let allowed = tried.publish(exchange).await;
            assert_eq!(allowed, publishes.contains(&exchange), "{user} publishes to {exchange:?}");
        }
        for queue in names("queues") {
            let allowed = tried.get(&queue).await;
            assert_eq!(allowed, reads.contains(&queue.as_str()), "{user} reads {queue}");
            // Whoever may read may also remove: RabbitMQ has no right to look only.
            assert_eq!(tried.purge(&queue).await, allowed, "{user} purges {queue}");
            assert!(!tried.delete(&queue).await, "{user} deletes {queue}");
            assert!(!tried.bind(&queue).await, "{user} binds {queue}");
        }
        // How long a queue is anybody in the virtual host may ask, as KEDA does.
        assert!(tried.ask_length("mfa.requests.tickets").await, "{user} asks how long a lane is");
        assert!(!tried.declare().await, "{user} declares");
        let elsewhere = url(broker, user).replace("/mfa", "/%2f");
        assert!(connect(&elsewhere).await.is_err(), "{user} enters another virtual host");
    }
}

async fn as_they_stand_in_the_repository_nobody_can_log_in(broker: &Broker) {
    broker.import(Path::new(DEFINITIONS));
    // The broker takes its time to refuse: all at once.
    let guesses = USERS.into_iter().flat_map(|user| [BROKER_PASSWORD, user, ""].map(|password| (user, password)));
    let urls = guesses.map(|(user, password)| url(broker, user).replace(BROKER_PASSWORD, password));
    let tried = join_all(urls.map(|url| async move { connect(&url).await.is_err() })).await;
    assert_eq!(tried, [true; 18]);
}

/// What a user tries, each on a channel of its own, since a refusal closes it. `false` where it was refused.
struct Tried {
    connection: Connection,
    user: &'static str,
}

impl Tried {
    async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    async fn publish(&self, exchange: &str) -> bool {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let properties = BasicProperties::default().with_user_id(self.user.into());
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange.into(), "nowhere".into(), options, b"{}", properties).await;
        self.judge(sent.unwrap().await.map(|_| ()))
    }

    async fn get(&self, queue: &str) -> bool {
        self.judge(self.channel().await.basic_get(queue.into(), BasicGetOptions::default()).await.map(|_| ()))
    }

    async fn purge(&self, queue: &str) -> bool {
        self.judge(self.channel().await.queue_purge(queue.into(), QueuePurgeOptions::default()).await.map(|_| ()))
    }

    async fn ask_length(&self, queue: &str) -> bool {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.judge(self.channel().await.queue_declare(queue.into(), options, FieldTable::default()).await.map(|_| ()))
    }

    async fn delete(&self, queue: &str) -> bool {
        self.judge(self.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.map(|_| ()))
    }

    async fn bind(&self, queue: &str) -> bool {
        let (channel, options) = (self.channel().await, QueueBindOptions::default());
        let bound = channel.queue_bind(queue.into(), "mfa.results".into(), "#".into(), options, FieldTable::default());
        self.judge(bound.await)
    }

    async fn declare(&self) -> bool {
        let none = FieldTable::default;
        let queue =
            self.channel().await.queue_declare("mfa.other".into(), QueueDeclareOptions::durable(), none()).await;
        let channel = self.channel().await;
        let options = ExchangeDeclareOptions::default();
        let exchange = channel.exchange_declare("mfa.other".into(), ExchangeKind::Topic, options, none()).await;
        self.judge(queue.map(|_| ())) || self.judge(exchange)
    }

    /// Whether it was done; a failure other than a refused permission is none of the answers.
    fn judge(&self, done: lapin::Result<()>) -> bool {
        match done {
            Ok(()) => true,
            Err(error) => {
                assert!(error.to_string().contains("ACCESS_REFUSED"), "{}: {error}", self.user);
                false
            }
        }
    }
}
