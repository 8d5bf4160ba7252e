//! A real run: a worker between RabbitMQ and the simulator, and requests of every kind of ending.

use std::time::Duration;

use serde_json::json;

use crate::container::Container;
use crate::process::free_port;
use crate::prometheus::Prometheus;
use crate::requests::{bodies, mixed, request};
use crate::secrets::BROKER_PASSWORD;
use crate::stage::{Stage, until};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// The worker leaves before the broker.
pub struct Scene {
    pub prometheus: Prometheus,
    pub stage: Stage,
    _broker: Container,
}

impl Scene {
    /// Starts everything, lets work be done, and waits until Prometheus has seen what came of it.
    pub async fn play() -> Self {
        let figures = free_port();
        let broker = broker(figures);
        until(SOON, "the broker starts", async || broker.tail().contains("completed with")).await;
        let mut stage = Stage::new(&format!("amqp://guest:{BROKER_PASSWORD}@{}/%2f", broker.address())).await;
        stage.set("AUDIT__CHECKPOINT_INTERVAL", "1s");
        stage.start_worker().await;
        let prometheus = Prometheus::start(stage.directory.path(), stage.admin_port, figures).await;
        let mut scene = Self { prometheus, stage, _broker: broker };
        // Before the first request, or what it counts would be the first that Prometheus sees.
        scene.is_scraped("mfa_reset_build_info").await;
        scene.work().await;
        scene.is_scraped("rabbitmq_detailed_queue_consumers").await;
        scene
    }

    async fn work(&mut self) {
        let stage = &mut self.stage;
        let user = stage.queues.user();
        // User 50 holds a role: denied. User 90001 does not exist: failed. The last is no request: rejected.
        let mut tickets = bodies(&mixed(1..=40));
        tickets.push(request("INC0090001:all", 90_001, "all").to_string().into_bytes());
        tickets.push(b"{".to_vec());
        let batch = bodies(&mixed(41..=120));
        stage.queues.publish("reset", &tickets, Some(&user)).await;
        stage.queues.publish("batch", &batch, Some(&user)).await;
        let all = f64::from(u32::try_from(tickets.len() + batch.len()).unwrap());
        until(SOON, "all are done", async || stage.metric("mfa_reset_jobs_total", "").await >= all).await;
        // And one that Graph asks to wait for a second: not earlier, or all would be slow.
        stage.simulator.spoil(&json!({"operation": "batch", "retry_after": "1", "times": 1})).await;
        stage.queues.publish("reset", &bodies(&mixed(121..=121)), Some(&user)).await;
        until(SOON, "one more is done", async || stage.metric("mfa_reset_jobs_total", "").await > all).await;
        let (stage, prometheus) = (&self.stage, &self.prometheus);
        for (what, labels) in [
            ("a denial", "{outcome=\"denied\"}"),
            ("a failure", "{reason=\"user_not_found\"}"),
            ("a rejection", "{reason=\"malformed\"}"),
            ("a success in each lane", "{outcome=\"succeeded\",lane=\"batch\"}"),
        ] {
            let expr = format!("sum(mfa_reset_jobs_total{labels})");
            until(SOON, what, async || prometheus.number(&expr).await.is_some_and(|count| count >= 1.0)).await;
        }
        assert!(stage.metric("mfa_reset_graph_requests_total", "status=\"429\"").await >= 1.0, "Graph asked to wait");
        let letters = "sum(rabbitmq_detailed_queue_messages{queue=~\".+dead-letters\"})";
        until(SOON, "the dead letter is seen", async || prometheus.number(letters).await == Some(1.0)).await;
    }

    /// Waits until each series of a metric has been scraped four times since this was called.
    async fn is_scraped(&self, metric: &str) {
        let count = format!("min(count_over_time({metric}[1h]))");
        let before = self.prometheus.number(&count).await.unwrap_or_default();
        let enough = async || self.prometheus.number(&count).await.unwrap_or_default() >= before + 4.0;
        until(SOON, "four scrapes", enough).await;
    }
}

/// A broker with the plugin that tells of its queues.
fn broker(figures: u16) -> Container {
    let (password, publish) =
        (format!("RABBITMQ_DEFAULT_PASS={BROKER_PASSWORD}"), format!("127.0.0.1:{figures}:15692"));
    let plugins = "RABBITMQ_ENABLED_PLUGINS_FILE=/tmp/enabled_plugins";
    let options = ["--env", &password, "--env", plugins, "--publish", &publish, "--entrypoint", "/bin/sh"];
    let start = "echo '[rabbitmq_prometheus].' >/tmp/enabled_plugins; exec rabbitmq-server";
    Container::start("rabbitmq", 5672, "/var/lib/rabbitmq", &options, &["-c", start])
}
