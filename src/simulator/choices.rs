//! What Graph's documents leave open: one answer is chosen, and a tenant can choose another.

use serde::{Deserialize, Serialize};

use super::call::Version;
use super::cloud::Cloud;
use super::kind::Kind;
use super::tenant::User;

/// Tells in which of two wordings the default method is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wording {
    /// Phones have a backend of their own, which says that the id matches the default; the others speak of other methods.
    #[default]
    EachBackend,
    OtherMethods,
    MatchesDefault,
}

/// Holds what the policy says of Temporary Access Passes. Graph itself allows 10 to 43200 minutes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PassPolicy {
    pub enabled: bool,
    pub minimum_minutes: u64,
    pub maximum_minutes: u64,
    pub default_minutes: u64,
    pub once_only: bool,
}

impl Default for PassPolicy {
    fn default() -> Self {
        Self { enabled: true, minimum_minutes: 60, maximum_minutes: 480, default_minutes: 60, once_only: false }
    }
}

/// Holds the answers of one tenant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choices {
    pub default_wording: Wording,
    /// The types that keep the default from going; second factors when not said.
    pub counted: Option<Vec<Kind>>,
    /// Every method but the password keeps the default from going.
    pub strict_default: bool,
    /// Whether the policy lets people sign in by SMS.
    pub sms_sign_in: bool,
    /// Whether the methods of a user in a restricted unit cannot even be read.
    pub restricted_reads: bool,
    pub pass_policy: PassPolicy,
    pub cloud: Cloud,
    /// Whether beta knows in every cloud what it knows in the global one.
    pub full_beta: bool,
}

impl Choices {
    /// Tells whether a type keeps the default method of this user from going; the user's own answer comes first.
    pub fn counts(&self, user: &User, kind: Kind) -> bool {
        match (&user.counted, &self.counted) {
            (Some(counted), _) => counted.contains(&kind),
            (None, _) if user.strict_default || self.strict_default => kind != Kind::Password,
            (None, Some(counted)) => counted.contains(&kind),
            (None, None) => kind.is_second_factor(),
        }
    }

    /// Tells whether this cloud has a navigation property under `authentication`.
    pub fn has(&self, property: &str, version: Version) -> bool {
        self.cloud.has(property) || (self.full_beta && version == Version::Beta)
    }

    /// Finds the types that share a collection; none when this version has no such collection here.
    pub fn of_collection(&self, name: &str, version: Version) -> Vec<Kind> {
        if !self.has(name, version) {
            return Vec::new();
        }
        Kind::of_collection(name, version == Version::V1)
    }

    /// Tells whether the mixed list shows a type: one without a collection is shown where the schema has its name.
    pub fn lists(&self, kind: Kind, version: Version) -> bool {
        let facts = kind.facts();
        (version == Version::Beta || facts.listed_in_v1) && self.has(facts.collection, version)
    }
}
