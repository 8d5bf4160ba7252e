//! What a reset goes by.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::json;

use super::profile::Profiles;
use super::request::hex;
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
    /// What the names of profiles stand for.
    pub profiles: Profiles,
}

/// Who may ask, and who may be reset. Ids and names are lower case.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Broker users that may ask; `None` lets anybody.
    pub producers: Option<BTreeSet<String>>,
    /// Object ids, user principal names or mail addresses that are never reset.
    pub protected_users: BTreeSet<String>,
    /// Groups whose members are never reset.
    pub protected_groups: BTreeSet<String>,
    /// Role template ids that do not protect their holders.
    pub harmless_roles: BTreeSet<String>,
    /// How long after a reset another one is refused; zero never refuses.
    pub cool_down: Duration,
    /// How many resets may start in an hour.
    pub max_resets_per_hour: u32,
    /// Steps that give access and may be taken nevertheless.
    pub enabled_steps: BTreeSet<String>,
}

impl Policy {
    /// A digest that names this policy in audit records.
    pub fn digest(&self) -> String {
        let policy = json!([
            self.producers,
            self.protected_users,
            self.protected_groups,
            self.harmless_roles,
            self.cool_down.as_secs(),
            self.max_resets_per_hour,
            self.enabled_steps,
        ]);
        hex(digest::digest(&digest::SHA256, policy.to_string().as_bytes()).as_ref())
    }
}
