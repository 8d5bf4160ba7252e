//! The dashboards, the alerts and the runbook, against a real Prometheus that scrapes a real run: a worker, the simulator, and
//! a RabbitMQ with its own figures. What `promtool` can tell of the alerts alone, `tests/run dashboards` asks it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the rules of the library; a test stops at the first surprise"
)]

#[path = "../cluster/container.rs"]
#[allow(dead_code, reason = "shared with tests/cluster")]
mod container;
#[path = "../broker/process.rs"]
#[allow(dead_code, reason = "shared with tests/broker")]
mod process;
#[path = "../broker/queues.rs"]
#[allow(dead_code, reason = "shared with tests/broker")]
mod queues;
#[path = "../broker/requests.rs"]
#[allow(dead_code, reason = "shared with tests/broker")]
mod requests;
#[path = "../broker/secrets.rs"]
#[allow(dead_code, reason = "shared with tests/broker")]
mod secrets;
#[path = "../broker/simulator.rs"]
#[allow(dead_code, reason = "shared with tests/broker")]
mod simulator;
#[path = "../broker/stage.rs"]
#[allow(dead_code, reason = "shared with tests/broker")]
mod stage;

mod board;
mod form;
mod prometheus;
mod runbook;
mod scene;
mod sweep;
