//! Resets the sign-in methods of Microsoft Entra ID users: takes requests from RabbitMQ, acts through Microsoft Graph,
//! proves what it did, and answers every ticket exactly once.
//!
//! ```text
//!                 main, commands, cli, config, telemetry, admin        the life of a process
//!                          │
//!   requests ──▶ worker ───┤───▶ drive ──▶ reset ──▶ ports ──▶ domain
//!   lines    ──▶ local  ───┘       │      does      may do    decides
//!                                  ▼
//!                    adapters: amqp, graph, ledger            how; the real ports
//! ```
//!
//! # One job
//!
//! [`worker`] receives a delivery and [`domain::request`] reads it; [`reset`] recalls what the ledger knows, resolves
//! and takes the user, surveys, lets [`domain::guard`] decide, makes a [`domain::plan`] and writes it down, carries it
//! out step by step, verifies by reading, concludes: records, publishes, and leaves the acknowledgement to the worker.
//! What stops it is a [`domain::outcome::Fault`], and [`domain::retry`] says what follows.
//!
//! # Invariants
//!
//! - The plan is made once. A later attempt finishes it; a method that is not in it is never touched.
//! - Plan and audit intent are durable before the first change; a change is written down as sent before it is sent.
//! - An answer that was lost is settled by a list, never guessed.
//! - What the guard could not read counts against the reset.
//! - Recorded, then published and confirmed, then acknowledged. Never the other way round.
//! - One user, one job; one job, one live attempt; every write of an attempt carries its fencing number.
//! - [`domain`] is pure: no clock, randomness, environment, network or log; `now` and jitter are arguments.
//! - Adapters know neither each other nor metrics: only the files beside them in [`adapters`] know them all.
//! - [`simulator`] imports nothing of ours, so that it can disagree with us.
//! - No name, number, address or secret in logs and metrics; bodies are never logged.
//!
//! `tests/architecture.rs` keeps the imports, `tests/simulation.rs` the order of effects.

pub mod domain;
pub mod ports;
pub mod reset;
pub mod drive;
pub mod worker;
pub mod local;
pub mod adapters;
pub mod config;
pub mod metrics;
pub mod telemetry;
pub mod trace;
pub mod admin;
pub mod cli;
pub mod commands;
pub mod schema;
pub mod simulator;
