//! Decides, and cannot act: pure functions over values.
//!
//! No async, clock, randomness, environment, network or log in this room; `now` and jitter are arguments. It imports
//! no other room.

pub mod audit;
pub mod event;
pub mod fields;
pub mod guard;
pub mod json;
pub mod method;
pub mod outcome;
pub mod plan;
pub mod profile;
pub mod reason;
pub mod request;
pub mod retry;
pub mod summary;
