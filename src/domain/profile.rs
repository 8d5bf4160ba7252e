//! Named profiles: which methods a reset removes, and when it revokes sessions.

use serde::{Deserialize, Serialize};

use super::method::{Method, MethodType};

/// A named set of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Microsoft Authenticator only, then sessions.
    Authenticator,
    /// What the portal's "Require re-register" removes (phones, Authenticator, software OATH), then sessions.
    ReRegister,
    /// Sessions, everything that lived on the phone, sessions again.
    LostPhone,
    /// Every method that can be removed, then sessions.
    All,
    /// Sessions, every method that can be removed, sessions again.
    Compromised,
}

/// The AAGUIDs of passkeys held by Microsoft Authenticator, on iOS and on Android.
pub const AUTHENTICATOR_AAGUIDS: [&str; 2] =
    ["de1e552d-db1d-4423-a619-566b625cdc84", "90a3ccdf-635c-4729-a248-9b709135078f"];

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] = [Self::Authenticator, Self::ReRegister, Self::LostPhone, Self::All, Self::Compromised];

    /// The name in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authenticator => "authenticator",
            Self::ReRegister => "re-register",
            Self::LostPhone => "lost-phone",
            Self::All => "all",
            Self::Compromised => "compromised",
        }
    }

    /// The profile with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Whether sessions are revoked before the first removal too, so that a thief is out while the rest goes on.
    /// After the last one they always are: a session may have been opened in between.
    pub const fn revokes_first(self) -> bool {
        matches!(self, Self::LostPhone | Self::Compromised)
    }

    /// Whether the profile calls for every method, so that one it cannot remove leaves the reset incomplete.
    pub const fn wants_everything(self) -> bool {
        matches!(self, Self::All | Self::Compromised)
    }

    /// Whether the profile calls for the removal of this method.
    pub fn removes(self, method: &Method) -> bool {
        let kind = method.method_type;
        match self {
            Self::Authenticator => kind == MethodType::MicrosoftAuthenticator,
            Self::ReRegister => matches!(
                kind,
                MethodType::PhoneMobile
                    | MethodType::PhoneAlternateMobile
                    | MethodType::PhoneOffice
                    | MethodType::MicrosoftAuthenticator
                    | MethodType::SoftwareOath
            ),
            Self::LostPhone if kind == MethodType::Fido2 => {
                method.aaguid.as_deref().is_some_and(|aaguid| AUTHENTICATOR_AAGUIDS.contains(&aaguid))
            }
            Self::LostPhone => matches!(
                kind,
                MethodType::PhoneMobile
                    | MethodType::PhoneAlternateMobile
                    | MethodType::MicrosoftAuthenticator
                    | MethodType::SoftwareOath
            ),
            Self::All | Self::Compromised => kind.entry().collection.is_some(),
        }
    }
}
