//! RabbitMQ nodes in containers on a network of their own: one, or a cluster that can be parted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::container::{Container, Network};
use crate::proxy;
use crate::secrets::BROKER_PASSWORD;
use crate::stage::until;

/// The user of the workers, who may do everything.
pub const WORKER: &str = "mfa-worker";
/// The producer that may ask; it reads the results too.
pub const PRODUCER: &str = "itsm";
/// A producer that may not.
pub const STRANGER: &str = "stranger";

/// Makes the files, then becomes the broker.
const ENTRY: &str = r#"cd; [ -e .erlang.cookie ] || (umask 077; printf %s "$COOKIE" >.erlang.cookie)
printf %s "$CONF" >test.conf; printf %s "$DEFINITIONS" >definitions.json; echo '[].' >plugins
exec rabbitmq-server"#;

/// A broker of one or three nodes. The containers go before their network.
pub struct Rabbit {
    nodes: Vec<Container>,
    _network: Network,
}

impl Rabbit {
    /// Starts so many nodes and waits until they are one cluster.
    pub async fn start(count: usize) -> Self {
        let network = Network::new();
        let (conf, cookie) = (conf(count), format!("{:016X}", fastrand::u64(..)));
        let nodes = (0..count).map(|node| {
            let (host, name) =
                (format!("--hostname={}", host_name(node)), format!("--network-alias={}", host_name(node)));
            let settings = [
                format!("COOKIE={cookie}"),
                format!("CONF={conf}"),
                format!("DEFINITIONS={}", definitions()),
                format!("RABBITMQ_NODENAME=rabbit@{}", host_name(node)),
                "RABBITMQ_CONFIG_FILE=/var/lib/rabbitmq/test.conf".into(),
                "RABBITMQ_ENABLED_PLUGINS_FILE=/var/lib/rabbitmq/plugins".into(),
                // Schedulers that spin for work take it from the other nodes of this machine.
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none".into(),
            ];
            let settings: Vec<String> = settings.into_iter().map(|setting| format!("--env={setting}")).collect();
            let mut options =
                vec!["--network", &network.name, "--cap-add=NET_ADMIN", "--entrypoint=/bin/sh", &host, &name];
            options.extend(settings.iter().map(String::as_str));
            Container::start("rabbitmq", 5672, "/var/lib/rabbitmq", &options, &["-c", ENTRY])
        });
        let rabbit = Self { nodes: nodes.collect(), _network: network };
        rabbit.wait(Duration::from_secs(180)).await;
        until(Duration::from_secs(60), "the nodes are one cluster", async || rabbit.is_whole().await).await;
        rabbit
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Container::address).collect()
    }

    /// Kills a node without a warning.
    pub fn kill(&self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a killed node on what it had on disk. Where a queue was declared less than a second before, RabbitMQ may not
    /// have written down that it exists, and brings it back empty: kill no earlier.
    pub fn again(&self, node: usize) {
        self.nodes[node].again();
    }

    /// Parts the cluster: nodes reach only those of their own side. Clients still reach every node.
    pub fn part(&self, sides: &[&[usize]]) {
        let addresses: Vec<String> = self.nodes.iter().map(Container::inner_address).collect();
        for side in sides {
            let strangers: Vec<&str> =
                (0..self.count()).filter(|node| !side.contains(node)).map(|node| addresses[node].as_str()).collect();
            let strangers = strangers.join(", ");
            let rules = format!(
                "add table ip apart; add chain ip apart in {{ type filter hook input priority 0; }}; \
                 add chain ip apart out {{ type filter hook output priority 0; }}; \
                 add rule ip apart in ip saddr {{ {strangers} }} drop; \
                 add rule ip apart out ip daddr {{ {strangers} }} drop"
            );
            for node in *side {
                self.nodes[*node].run("root", &["nft", &rules]).expect("nft parts the network");
            }
        }
    }

    /// Lets all nodes reach each other again.
    pub fn heal(&self) {
        for node in &self.nodes {
            // A node that was killed meanwhile has lost its rules.
            let _ = node.run("root", &["nft", "delete", "table", "ip", "apart"]);
        }
    }

    /// Waits until every node serves clients: one that has paused or not joined again does not.
    pub async fn wait(&self, within: Duration) {
        let start = tokio::time::Instant::now();
        for node in &self.nodes {
            let serves = async || proxy::answers(&node.address(), proxy::AMQP).await;
            until(within.saturating_sub(start.elapsed()), "every node serves", serves).await;
        }
    }

    /// Whether all nodes know each other; asking costs a second of a processor.
    async fn is_whole(&self) -> bool {
        let running = "length(rabbit_nodes:list_running()).";
        let said = self.nodes[0].run("rabbitmq", &["rabbitmqctl", "eval", running]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        said.is_ok_and(|said| said == self.count().to_string())
    }

    /// How many messages each queue holds, in hand or not; asking costs a second of a processor.
    pub fn queues(&self) -> BTreeMap<String, u64> {
        let row = |row: &Value| Some((row["name"].as_str()?.to_owned(), row["messages"].as_u64()?));
        let rows = self.list("list_queues", &["name", "messages"]);
        rows.iter().map(|one| row(one).unwrap_or_else(|| panic!("a queue without a count: {one}"))).collect()
    }

    /// Whether queues hold deliveries for channels that are no more. RabbitMQ 4.0.5 does so where a consumer was cancelled
    /// with messages in hand and the node of its channel was then cut off or died: the queue's own state goes on listing
    /// it as `cancelled` with them. Without the cancel they come back. They do so too when the queue next elects a leader,
    /// as at the next restart of a node. What a live channel has in hand is not among them.
    pub fn keeps_for_the_dead(&self) -> bool {
        let sum =
            |rows: Vec<Value>| -> u64 { rows.iter().filter_map(|row| row["messages_unacknowledged"].as_u64()).sum() };
        let in_hand = sum(self.list("list_channels", &["messages_unacknowledged"]));
        in_hand == 0 && sum(self.list("list_queues", &["messages_unacknowledged"])) > 0
    }

    /// Lets every queue elect another leader.
    pub fn elect(&self) {
        let elect = "[begin {N, L} = amqqueue:get_pid(Q), [O | _] = [X || X <- rabbit_nodes:list_running(), X =/= L], \
                     ra:transfer_leadership({N, L}, {N, O}) end || Q <- rabbit_amqqueue:list()].";
        self.nodes[0].run("rabbitmq", &["rabbitmqctl", "eval", elect]).expect("an election");
    }

    fn list(&self, what: &str, columns: &[&str]) -> Vec<Value> {
        let command = ["rabbitmqctl", "--quiet", "--formatter=json", what];
        let said = self.nodes[0].run("rabbitmq", &[&command, columns].concat()).expect("a list");
        serde_json::from_str(&said).expect("the list is JSON")
    }

    /// The last lines of every node.
    pub fn tail(&self) -> String {
        self.nodes.iter().map(Container::tail).collect::<Vec<_>>().join("\n--\n")
    }
}

fn host_name(node: usize) -> String {
    format!("n{}", node + 1)
}

fn conf(count: usize) -> String {
    let mut lines = vec![
        "loopback_users = none".to_owned(),
        "log.console = true".into(),
        "log.console.level = warning".into(),
        "load_definitions = /var/lib/rabbitmq/definitions.json".into(),
    ];
    if count > 1 {
        lines.push("cluster_partition_handling = pause_minority".into());
        lines.push("net_ticktime = 10".into());
        lines.push("cluster_formation.peer_discovery_backend = classic_config".into());
        let node = |node| format!("cluster_formation.classic_config.nodes.{} = rabbit@{}", node + 1, host_name(node));
        lines.extend((0..count).map(node));
    }
    lines.join("\n") + "\n"
}

fn definitions() -> Value {
    let user = |name: &str| json!({"name": name, "password": BROKER_PASSWORD, "tags": []});
    let may = |name: &str, configure: &str, write: &str, read: &str| json!({"user": name, "vhost": "/", "configure": configure, "write": write, "read": read});
    json!({
        "users": [user(WORKER), user(PRODUCER), user(STRANGER)],
        "vhosts": [{"name": "/"}],
        "permissions": [
            may(WORKER, ".*", ".*", ".*"),
            may(PRODUCER, "^$", "^mfa\\.requests$", "^mfa\\.(results|dead-letters)$"),
            may(STRANGER, "^$", "^mfa\\.requests$", "^$"),
        ],
    })
}
