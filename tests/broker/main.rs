//! The worker as a black box: the built binary, a real RabbitMQ, and the simulator in the place of Graph.
//!
//! Nothing here calls the library: what a test knows, it knows from queues, from the admin port, from the journal of the
//! simulator or from the audit export, as an operator would. Whatever a test needs and cannot get makes it fail.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the rules of the library; a test stops at the first surprise, reads its settings from the environment and prints its seed"
)]

mod broker;
mod history;
mod process;
mod proxy;
mod queues;
mod requests;
mod secrets;
mod simulator;
mod stage;

mod check;
mod crashes;
mod dead_letters;
mod definitions;
mod disk;
mod deferrals;
mod flow;
mod footprint;
mod harness;
mod hold;
mod malformed;
mod outages;
mod poison;
mod producers;
mod traces;
mod trouble;
