//! What a reset goes by.

use super::guard::Policy;
use super::retry::Limits;

/// What a reset goes by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who may ask, and who may be reset.
    pub policy: Policy,
    /// How long a job may take.
    pub limits: Limits,
    /// The application id that Graph knows the worker by.
    pub app: String,
}
