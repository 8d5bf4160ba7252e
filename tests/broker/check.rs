//! `mfa-reset check` against a set-up that is well, beside a running worker and without one, and against set-ups that are
//! each broken in one way: that line fails and says how to mend it, the others stay, and nothing is changed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::broker::{self, Broker};
use crate::process::free_port;
use crate::requests::{bodies, mixed};
use crate::secrets::{BROKER_PASSWORD, CANARIES, CLIENT_SECRET};
use crate::stage::{Stage, until};

const TENANT: &str = "7b6c1f0e-6a0b-4a8e-9d53-0d8f1c5e2a11";
const APP: &str = "2f0f7a34-8f5e-4d0c-a0b1-5f1f2f8f9c22";
const ROLES: [&str; 5] = [
    "UserAuthenticationMethod.ReadWrite.All",
    "User.RevokeSessions.All",
    "User.Read.All",
    "RoleManagement.Read.Directory",
    "GroupMember.Read.All",
];

/// The lines of a set-up that is well, in the order in which they are told.
const LINES: [&str; 26] = [
    "config",
    "policy.producers",
    "policy.protected",
    "audit.signing_key",
    "ledger.reach",
    "ledger.schema",
    "ledger.write",
    "ledger.disk",
    "broker.reach",
    "broker.encryption",
    "broker.version",
    "broker.topology",
    "broker.permissions",
    "broker.message_size",
    "broker.management",
    "broker.arguments",
    "broker.bindings",
    "broker.policies",
    "graph.reach",
    "graph.clock",
    "graph.token",
    "graph.permissions",
    "graph.excess",
    "graph.user",
    "graph.methods",
    "graph.guard",
];

/// The whole of a set-up: a broker of its own, a simulated tenant with some applications, a worker's settings.
struct SetUp {
    stage: Stage,
    broker: Broker,
    _tenant: tempfile::TempDir,
}

impl SetUp {
    async fn new() -> Self {
        let (broker, directory) = (broker::own(), tempfile::tempdir().unwrap());
        let tenant = directory.path().join("tenant.json");
        std::fs::write(&tenant, tenant_file().to_string()).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_mfa-reset"));
        let options = ["--latency", "0ms", "--users", "50", "--tenant", tenant.to_str().unwrap()];
        let mut stage = Stage::with(&broker.url, program, &options).await;
        longest_message(&broker, 131_072);
        // The management API hears of queues sooner, of those that are declared from now on.
        broker.control(&["eval", "application:set_env(rabbit, quorum_tick_interval, 500)."]);
        stage.set("BROKER__MANAGEMENT_URL", &management_url(&broker, "guest", BROKER_PASSWORD));
        stage.set("POLICY__PROTECTED_USERS", "breakglass@contoso.test");
        let mut set_up = Self { stage, broker, _tenant: directory };
        set_up.administer(Method::PUT, "users/worker", json!({"password": BROKER_PASSWORD, "tags": ""})).await;
        set_up.permit(".*", ".*", ".*").await;
        let url = set_up.url("worker", BROKER_PASSWORD, "%2f");
        set_up.stage.set("BROKER__URL", &url);
        set_up
    }

    fn url(&self, user: &str, password: &str, vhost: &str) -> String {
        let port = self.stage.queues.uri().authority.port;
        format!("amqp://{user}:{password}@127.0.0.1:{port}/{vhost}")
    }

    /// Asks the management API, as the administrator.
    async fn administer(&self, method: Method, path: &str, body: Value) {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let url = format!("{}/api/{path}", self.broker.management());
        until(Duration::from_secs(30), "the management API does as it is told", async || {
            let asked = client.request(method.clone(), &url).basic_auth("guest", Some(BROKER_PASSWORD)).json(&body);
            asked.send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Gives the worker's user these permissions, and no others.
    async fn permit(&self, configure: &str, write: &str, read: &str) {
        let permissions = json!({"configure": configure, "write": write, "read": read});
        self.administer(Method::PUT, "permissions/%2f/worker", permissions).await;
    }

    async fn simulator_settings(&self, settings: Value) {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let url = format!("{}/_simulator/settings", self.stage.simulator.root());
        assert!(client.patch(url).json(&settings).send().await.unwrap().status().is_success());
    }

    /// Deletes the queue of audit records.
    async fn delete_audit(&mut self) {
        let (channel, name) = (self.stage.queues.channel().await, self.stage.queues.name("audit"));
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Declares it, bound, with this limit.
    async fn declare_audit(&mut self, limit: i64) {
        let (channel, name) = (self.stage.queues.channel().await, self.stage.queues.name("audit"));
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        let (queue, exchange) = (|| name.as_str().into(), || name.as_str().into());
        channel.queue_declare(queue(), QueueDeclareOptions::durable(), arguments).await.unwrap();
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue(), exchange(), "#".into(), bind, none).await.unwrap();
    }

    /// The file of the ledger, or of the key.
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.stage.directory.path().join(name)
    }

    async fn change_ledger(&self, statement: &str) {
        let url = format!("sqlite:{}", self.path("ledger.db").display());
        let mut conn = SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }

    /// How many messages wait in every queue.
    async fn counts(&mut self) -> Vec<(String, u32)> {
        let mut counts = Vec::new();
        for name in ["requests.tickets", "requests.batch", "retry.tickets.10", "results", "audit", "dead-letters"] {
            counts.push((name.to_owned(), self.stage.queues.waiting(name).await));
        }
        counts
    }

    /// The files of ledger and key, byte for byte.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.stage.directory.path()).unwrap().map(Result::unwrap);
        let file = |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), entry.path());
        let kept = |(name, _): &(String, _)| name.starts_with("ledger") || name.starts_with("audit");
        entries.map(file).filter(kept).map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
    }
}

/// The management API as a user reaches it.
fn management_url(broker: &Broker, user: &str, password: &str) -> String {
    broker.management().replacen("http://", &format!("http://{user}:{password}@"), 1)
}

/// Sets what a start of the broker reads from its configuration.
fn longest_message(broker: &Broker, bytes: u32) {
    broker.control(&["eval", &format!("persistent_term:put(max_message_size, {bytes}).")]);
}

fn tenant_file() -> Value {
    let app = |id: &str, roles: &[&str]| json!({"clientId": id, "secret": CLIENT_SECRET, "roles": roles});
    let without = |left: &str| -> Vec<&str> { ROLES.into_iter().filter(|role| *role != left).collect() };
    let mut expired = app("expired", &ROLES);
    expired["secretExpired"] = json!(true);
    json!({"tenantId": TENANT, "apps": [
        app(APP, &ROLES),
        expired,
        app("no-revoking", &without("User.RevokeSessions.All")),
        app("no-roles", &without("RoleManagement.Read.Directory")),
        app("too-much", &[&ROLES[..], &["Directory.ReadWrite.All"]].concat()),
    ]})
}

/// What was told: each line's status and mend, by its name.
struct Told {
    code: Option<i32>,
    lines: Vec<(String, String, Option<String>)>,
    status: String,
    text: String,
}

impl Told {
    fn read(done: &Output) -> Self {
        let text = String::from_utf8(done.stdout.clone()).unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        for (what, words) in CANARIES {
            assert!(!text.contains(words) && !errors.contains(words), "check shows {what}");
        }
        let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
        assert_eq!(document["version"], 1);
        let line = |line: &Value| {
            let word = |name: &str| line[name].as_str().map(str::to_owned);
            assert!(word("detail").is_some_and(|detail| !detail.is_empty()), "{line}");
            (word("check").unwrap(), word("status").unwrap(), word("mend"))
        };
        let lines = document["checks"].as_array().unwrap().iter().map(line).collect();
        Self { code: done.status.code(), lines, status: document["status"].as_str().unwrap().to_owned(), text }
    }

    fn names_with(&self, status: &str) -> Vec<&str> {
        self.lines.iter().filter(|(_, found, _)| found == status).map(|(name, _, _)| name.as_str()).collect()
    }

    /// Everything is well.
    fn assert_well(&self) {
        let names: Vec<&str> = self.lines.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, LINES);
        assert_eq!((self.code, self.status.as_str()), (Some(0), "ok"), "{}", self.text);
        assert!(self.lines.iter().all(|(_, status, mend)| status == "ok" && mend.is_none()), "{}", self.text);
    }

    /// These lines alone have this status, and the first of them says this of how to mend it. What is behind a line that
    /// fails may have none of its own: that is for the same part of the world alone.
    fn assert_broken(&self, case: &str, status: &str, names: &[&str], mend: &str) {
        assert_eq!(self.names_with(status), names, "{case}: {}", self.text);
        let other = if status == "fail" { "warn" } else { "fail" };
        assert_eq!(self.names_with(other), [""; 0], "{case}: {}", self.text);
        let (code, overall) = (i32::from(status == "fail"), status);
        assert_eq!((self.code, self.status.as_str()), (Some(code), overall), "{case}");
        let told = self.lines.iter().find(|(name, _, _)| name == names[0]).and_then(|line| line.2.clone()).unwrap();
        assert!(told.contains(mend), "{case}: {told}");
        let part = names[0].split('.').next().unwrap();
        for name in LINES.iter().filter(|name| !name.starts_with(part)) {
            assert!(self.lines.iter().any(|(found, _, _)| found == name), "{case}: no line {name}");
        }
    }
}

/// Runs check with these settings on top.
fn check(set_up: &SetUp, settings: &[String]) -> Told {
    let flags = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
    Told::read(&set_up.stage.command(&["check", "--json"].into_iter().chain(flags).collect::<Vec<_>>()))
}

/// What check tells once the management API has heard of what is new, which takes it some seconds: then this line has
/// this status.
async fn told_in_time(set_up: &SetUp, name: &str, status: &str) -> Told {
    let mut told = None;
    until(Duration::from_secs(60), "the management API knows", async || {
        told = Some(check(set_up, &[])).filter(|told| told.names_with(status).contains(&name));
        told.is_some()
    })
    .await;
    told.unwrap()
}

/// Runs check where a shell has first changed what is mounted where, for this process alone.
fn check_mounted(set_up: &SetUp, script: &str, settings: &[String]) -> Told {
    let script = format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin; {script} && exec \"$@\"");
    let wrapper = ["/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-ec", &script, "sh"];
    let flags = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
    let arguments: Vec<&str> = ["check", "--json"].into_iter().chain(flags).collect();
    Told::read(&set_up.stage.command_by(&wrapper, &arguments))
}

fn set(key: &str, value: impl std::fmt::Display) -> Vec<String> {
    vec![format!("{key}={value}")]
}

#[tokio::test]
async fn a_set_up_that_is_well_stays_as_it_is_and_each_that_is_broken_is_named() {
    let mut set_up = SetUp::new().await;
    set_up.stage.start_worker().await;
    let user = set_up.stage.queues.user();
    set_up.stage.queues.publish("reset", &bodies(&mixed(1..=5)), Some(&user)).await;
    until(Duration::from_secs(30), "results", async || set_up.stage.queues.waiting("results").await == 5).await;
    beside_a_worker(&mut set_up).await;
    set_up.stage.stop_worker();
    alone(&mut set_up).await;
    settings_and_key(&set_up);
    ledger(&set_up).await;
    graph(&set_up).await;
    broker_away(&set_up);
    permissions(&set_up).await;
    topology(&mut set_up).await;
    management(&mut set_up).await;
    check(&set_up, &[]).assert_well();
    no_management(&mut set_up).await;
}

/// The worker has the ledger's lock, consumes both lanes, and goes on.
async fn beside_a_worker(set_up: &mut SetUp) {
    let told = told_in_time(set_up, "broker.policies", "ok").await;
    told.assert_well();
    assert!(told.text.contains("held by a running worker"), "{}", told.text);
    let shown = String::from_utf8(set_up.stage.command(&["check"]).stdout).unwrap();
    assert_eq!(shown.lines().count(), LINES.len(), "a line each: {shown}");
    assert!(shown.lines().all(|line| line.starts_with("ok    ")), "{shown}");
    assert!(shown.contains("ok    broker.version       RabbitMQ "), "{shown}");
    assert!(set_up.stage.is_ready().await, "the worker is as ready as before");
    assert_eq!(set_up.stage.told("broker session ended"), 0);
}

/// Nothing on the broker, in the ledger or at Graph is different afterwards.
async fn alone(set_up: &mut SetUp) {
    let (counts, files) = (set_up.counts().await, set_up.files());
    let calls = set_up.stage.simulator.get("journal?since=0").await.unwrap().as_array().unwrap().len();
    check(set_up, &[]).assert_well();
    assert_eq!((set_up.counts().await, set_up.files()), (counts, files));
    let journal = set_up.stage.simulator.get(&format!("journal?since={calls}")).await.unwrap();
    let changes = journal.as_array().unwrap().iter().filter(|call| !call["effect"].is_null()).count();
    assert!(!journal.as_array().unwrap().is_empty() && changes == 0, "{journal}");
}

fn settings_and_key(set_up: &SetUp) {
    let nobody = check(set_up, &set("policy.protected_users", ""));
    nobody.assert_broken("nobody protected", "warn", &["policy.protected"], "policy.protected_users");
    let anybody = [set("policy.producers", ""), set("policy.allow_any_producer", "true")].concat();
    check(set_up, &anybody).assert_broken("any producer", "warn", &["policy.producers"], "policy.allow_any_producer");
    let bad = set_up.stage.command(&["check", "--json", "--set", "graph.timeout=x", "--set", "log.format=y"]);
    let told = String::from_utf8_lossy(&bad.stderr);
    assert_eq!((bad.status.code(), bad.stdout.len()), (Some(64), 0), "{told}");
    assert!(told.contains("graph.timeout") && told.contains("log.format"), "{told}");
    let key = set_up.path("audit.key");
    let mode = |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    check(set_up, &[]).assert_broken("open key", "fail", &["audit.signing_key"], "chmod 600");
    mode(0o600);
    let damaged = set_up.path("damaged");
    std::fs::write(&damaged, "no key").unwrap();
    std::fs::set_permissions(&damaged, PermissionsExt::from_mode(0o600)).unwrap();
    let damaged = check(set_up, &set("audit.signing_key_file", damaged.display()));
    damaged.assert_broken("damaged key", "fail", &["audit.signing_key"], "bring the key back");
    let absent = set_up.path("absent");
    check(set_up, &set("audit.signing_key_file", absent.display())).assert_well();
    assert!(!absent.exists(), "check makes no key");
}

async fn ledger(set_up: &SetUp) {
    let directory = set_up.stage.directory.path().display().to_string();
    let mount = format!("mount --bind {directory} {directory} && mount -o remount,bind,ro {directory}");
    let read_only = check_mounted(set_up, &mount, &[]);
    read_only.assert_broken("read-only ledger", "fail", &["ledger.write"], "mount it for writing");
    let small = set_up.path("small");
    std::fs::create_dir(&small).unwrap();
    let files = ["ledger.db"].map(|name| format!("cp {directory}/{name} {}/", small.display())).join(" && ");
    let mount = format!("mount -t tmpfs -o size=8m none {} && {files}", small.display());
    let settings = set("ledger.url", format!("sqlite:{}/ledger.db", small.display()));
    let full = check_mounted(set_up, &mount, &settings);
    full.assert_broken("disk nearly full", "fail", &["ledger.disk"], "make room");
    let insert = "INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time \
                  FROM _sqlx_migrations LIMIT 1";
    set_up.change_ledger(insert).await;
    check(set_up, &[]).assert_broken("newer ledger", "fail", &["ledger.schema"], "install the program");
    set_up.change_ledger("DELETE FROM _sqlx_migrations WHERE version = 99").await;
    let no_ledger = set_up.path("no-ledger");
    std::fs::write(&no_ledger, "this is no SQLite file, and long enough to be taken for one".repeat(100)).unwrap();
    let settings = set("ledger.url", format!("sqlite:{}", no_ledger.display()));
    check(set_up, &settings).assert_broken("no ledger", "fail", &["ledger.reach"], "names a ledger");
}

async fn graph(set_up: &SetUp) {
    let broken = |case, settings: &[String], names: &[&str], mend| {
        check(set_up, settings).assert_broken(case, "fail", names, mend);
    };
    let app = |id: &str| set("graph.client_id", id);
    let wrong = set("graph.client_secret", "canary-of-another-kind");
    broken("wrong secret", &wrong, &["graph.token"], "not its id, into graph.client_secret");
    broken("expired secret", &app("expired"), &["graph.token"], "make a new client secret");
    broken("unknown app", &app("unknown"), &["graph.token"], "take graph.client_id");
    broken("missing permission", &app("no-revoking"), &["graph.permissions"], "grant User.RevokeSessions.All");
    let no_roles = ["graph.permissions", "graph.guard"];
    broken("the guard's permission", &app("no-roles"), &no_roles, "grant RoleManagement.Read.Directory");
    let step = set("policy.enabled_steps", "set_per_user_mfa");
    broken("a step's permission", &step, &["graph.permissions"], "Policy.ReadWrite.AuthenticationMethod");
    let nowhere = set("graph.endpoint", format!("http://127.0.0.1:{}", free_port()));
    broken("Graph away", &nowhere, &["graph.reach"], "open the way to");
    let much = check(set_up, &app("too-much"));
    much.assert_broken("too much", "warn", &["graph.excess"], "take Directory.ReadWrite.All away");
    for ahead in [600, -600] {
        set_up.simulator_settings(json!({"clock_ahead_s": ahead})).await;
        broken("clock off by 10 minutes", &[], &["graph.clock"], "set this machine's clock right");
    }
    set_up.simulator_settings(json!({"clock_ahead_s": 60})).await;
    check(set_up, &[]).assert_broken("clock off by a minute", "warn", &["graph.clock"], "clock right");
    set_up.simulator_settings(json!({"clock_ahead_s": 0})).await;
    let fault = json!({"operation": "list_role_eligibilities", "status": 403, "times": 0});
    set_up.stage.simulator.spoil(&fault).await;
    broken("guard look-up", &[], &["graph.guard"], "grant the permissions");
    set_up.stage.simulator.clear_faults().await;
}

fn broker_away(set_up: &SetUp) {
    let broken = |case, url: String, mend| {
        check(set_up, &set("broker.url", url)).assert_broken(case, "fail", &["broker.reach"], mend);
    };
    broken("wrong password", set_up.url("worker", "canary-of-another-kind", "%2f"), "user, password and virtual host");
    broken("no such virtual host", set_up.url("worker", BROKER_PASSWORD, "nowhere"), "virtual host");
    broken("no broker", format!("amqp://worker:x@127.0.0.1:{}/", free_port()), "see that the broker runs");
}

async fn permissions(set_up: &SetUp) {
    let prefix = &set_up.stage.queues.prefix;
    let all = format!("^{prefix}[.].*");
    set_up.permit(&all, &format!("^{prefix}[.](retry|audit|dead-letters)"), &all).await;
    let told = check(set_up, &[]);
    told.assert_broken("no write permission", "fail", &["broker.permissions"], "set_permissions");
    assert!(told.text.contains(&format!("lacks write on {prefix}.results\"")), "{}", told.text);
    set_up.permit(&all, &all, &format!("^{prefix}[.]requests[.]batch")).await;
    let told = check(set_up, &[]);
    told.assert_broken("no read permission", "fail", &["broker.permissions"], "set_permissions");
    assert!(told.text.contains(&format!("lacks read on {prefix}.requests.tickets\"")), "{}", told.text);
    // Without permission to configure everything is as well: the management API tells the arguments.
    set_up.permit("^$", &all, &all).await;
    check(set_up, &[]).assert_well();
    set_up.permit(".*", ".*", ".*").await;
}

async fn topology(set_up: &mut SetUp) {
    let only_looks = set("broker.declare", "false");
    set_up.delete_audit().await;
    let told = check(set_up, &only_looks);
    told.assert_broken("missing queue", "fail", &["broker.topology"], "import the definitions");
    assert!(told.text.contains(&set_up.stage.queues.name("audit")), "{}", told.text);
    check(set_up, &[]).assert_broken("queue to be declared", "warn", &["broker.topology"], "start the worker");
    set_up.permit("^$", ".*", ".*").await;
    check(set_up, &[]).assert_broken("queue not to be declared", "fail", &["broker.topology"], "configure permission");
    set_up.permit(".*", ".*", ".*").await;
    check(set_up, &only_looks).assert_broken("still missing", "fail", &["broker.topology"], "import");
    set_up.declare_audit(5).await;
    let told = told_in_time(set_up, "broker.policies", "ok").await;
    told.assert_broken("wrong queue arguments", "fail", &["broker.arguments"], "delete it");
    assert!(told.text.contains("x-delivery-limit"), "{}", told.text);
    set_up.permit("^$", ".*", ".*").await;
    let told = check(set_up, &[]);
    told.assert_broken("the same, not to be declared", "fail", &["broker.arguments"], "delete it");
    assert!(told.text.contains("x-delivery-limit is 5 where 1000000000 is meant"), "{}", told.text);
    set_up.permit(".*", ".*", ".*").await;
    set_up.delete_audit().await;
    set_up.declare_audit(1_000_000_000).await;
    told_in_time(set_up, "broker.policies", "ok").await.assert_well();
}

/// Without the management API, what AMQP does not tell is said not to be known.
async fn no_management(set_up: &mut SetUp) {
    set_up.stage.unset("BROKER__MANAGEMENT_URL");
    let mend = "broker.management_url";
    check(set_up, &[]).assert_broken("no management API", "warn", &["broker.policies"], mend);
    set_up.permit("^$", ".*", ".*").await;
    let untold = ["broker.arguments", "broker.policies"];
    check(set_up, &[]).assert_broken("and nothing to configure", "warn", &untold, mend);
}

async fn management(set_up: &mut SetUp) {
    let wrong = set("broker.management_url", management_url(&set_up.broker, "guest", "x"));
    check(set_up, &wrong).assert_broken("management", "fail", &["broker.management"], "broker.management_url");
    let none = set("broker.management_url", management_url(&set_up.broker, "worker", BROKER_PASSWORD));
    check(set_up, &none).assert_broken("no tag", "fail", &["broker.management"], "the tag `management`");
    let pattern = format!("^{}[.]requests[.]tickets$", set_up.stage.queues.prefix);
    let policy = json!({"pattern": pattern, "definition": {"message-ttl": 86_400_000}, "apply-to": "queues"});
    set_up.administer(Method::PUT, "policies/%2f/short", policy).await;
    told_in_time(set_up, "broker.policies", "fail").await.assert_broken(
        "policy",
        "fail",
        &["broker.policies"],
        "list_policies",
    );
    set_up.administer(Method::DELETE, "policies/%2f/short", json!({})).await;
    told_in_time(set_up, "broker.policies", "ok").await.assert_well();
    let (channel, name) = (set_up.stage.queues.channel().await, set_up.stage.queues.name("audit"));
    let (queue, exchange) = (|| name.as_str().into(), || name.as_str().into());
    channel.queue_unbind(queue(), exchange(), "#".into(), FieldTable::default()).await.unwrap();
    check(set_up, &[]).assert_broken("unbound", "fail", &["broker.bindings"], "bind it");
    let (bind, nothing) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue(), exchange(), "#".into(), bind, nothing).await.unwrap();
    longest_message(&set_up.broker, 1000);
    let told = check(set_up, &[]);
    told.assert_broken("short messages", "fail", &["broker.message_size"], "max_message_size = 131072");
    longest_message(&set_up.broker, 131_072);
}
