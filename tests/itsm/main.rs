//! What `deploy/itsm` gives to ticketing systems, at work: its ways to publish against a real RabbitMQ and a real worker, and
//! its consumer against a stub of ServiceNow's Table API.
//!
//! As in `tests/broker`, whose bench this shares, nothing here calls the library.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the rules of the library; a test stops at the first surprise, and reads its settings from the environment"
)]

#[path = "../broker/broker.rs"]
#[allow(dead_code, reason = "shared with tests/broker")]
mod broker;
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

mod audit;
mod desk;
mod document;
mod publishing;
mod reading;
mod table;
mod trust;
mod writing;
