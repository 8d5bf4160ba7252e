//! MFA reset worker.
