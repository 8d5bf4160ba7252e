//! Decides, and cannot act: pure functions over values.
//!
//! No async, clock, randomness, environment, network or log in this room; `now` and jitter are arguments. It imports
//! no other room.

pub mod request;
pub mod fields;
pub mod json;
pub mod method;
pub mod preference;
pub mod task;
pub mod steps;
pub mod profile;
pub mod guard;
pub mod plan;
pub mod outcome;
pub mod reason;
pub mod summary;
pub mod retry;
pub mod rules;
pub mod event;
pub mod audit;
