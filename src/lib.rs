//! Resets the sign-in methods of Microsoft Entra ID users: pulls requests from RabbitMQ, acts through Microsoft
//! Graph, and leaves a result event, metrics and an audit record behind.

pub mod adapters;
pub mod admin;
pub mod cli;
pub mod commands;
pub mod config;
pub mod domain;
pub mod drive;
pub mod local;
pub mod metrics;
pub mod ports;
pub mod reset;
pub mod schema;
pub mod simulator;
pub mod telemetry;
pub mod worker;
