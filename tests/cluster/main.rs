//! Nothing lost, nothing twice: several workers, broker, database and network under attack, and a checker that holds the
//! history of each run against the promises.
//!
//! As in `tests/broker`, whose bench this shares, nothing here calls the library, but for the tests of the ledger itself and
//! for the victims of `crash_points`. `MFA_TEST_SEED` draws a run again, as far as processes and networks can be drawn;
//! `MFA_TEST_CLUSTER_REQUESTS` says how many requests all scenarios have together.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the rules of the library; a test stops at the first surprise, reads its settings from the environment and prints its seed"
)]

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
#[path = "../ledger/plan.rs"]
mod plan;

mod bench;
mod check;
mod checker;
mod container;
mod crash_points;
mod crashing;
mod crew;
mod demand;
mod evidence;
mod gate;
mod ledger;
mod people;
mod postgres;
mod proxy;
mod rabbit;
mod record;
mod scenarios;
mod scene;
mod trouble;
mod zombie;
