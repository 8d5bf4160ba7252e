//! MFA reset worker.

pub mod simulator;
