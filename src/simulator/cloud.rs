//! The national clouds: each has a Graph of its own, and not all of them know every method.
//!
//! Written from the schemas published for each cloud. They cover v1.0 only; what beta has there is not known, so that
//! [`Choices::full_beta`](super::choices::Choices::full_beta) decides. The documents of some calls promise more than the
//! schemas hold.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Names a cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// Everywhere else, GCC included.
    #[default]
    Global,
    /// GCC High.
    UsGov,
    /// The Department of Defense.
    UsGovDod,
    /// Operated by 21Vianet.
    China,
}

impl Cloud {
    /// Tells whether the schema has this navigation property under `authentication`.
    pub fn has(self, property: &str) -> bool {
        match self {
            Self::Global => true,
            Self::UsGov | Self::UsGovDod => property != "externalAuthenticationMethods",
            Self::China => {
                matches!(property, "microsoftAuthenticatorMethods" | "phoneMethods" | "platformCredentialMethods")
            }
        }
    }
}
