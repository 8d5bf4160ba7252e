//! The default method: what Graph calls a user's preference for the second factor, and which methods it may mean.
//!
//! Graph refuses to delete the default method while others stay (`signInPreferences`, beta only). It names a way of
//! proving, not a method, so more than one method may bear it.

use serde::{Deserialize, Serialize};

use super::method::MethodType;

/// `userPreferredMethodForSecondaryAuthentication`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Preference {
    /// A notification of Authenticator.
    Push,
    /// A code of Authenticator or of a token.
    Oath,
    /// A message to the mobile phone.
    Sms,
    /// A call to the mobile phone.
    VoiceMobile,
    /// A call to the alternate mobile phone.
    VoiceAlternateMobile,
    /// A call to the office phone.
    VoiceOffice,
}

impl Preference {
    /// Every preference, the one to be chosen rather first.
    pub const ALL: [Self; 6] =
        [Self::Push, Self::Oath, Self::Sms, Self::VoiceMobile, Self::VoiceAlternateMobile, Self::VoiceOffice];

    /// Graph's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Oath => "oath",
            Self::Sms => "sms",
            Self::VoiceMobile => "voiceMobile",
            Self::VoiceAlternateMobile => "voiceAlternateMobile",
            Self::VoiceOffice => "voiceOffice",
        }
    }

    /// The preference with Graph's word; `none` and words of the future are none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preference| preference.name() == name)
    }

    /// Whether a method of this type may be what it means.
    pub const fn may_be(self, kind: MethodType) -> bool {
        match self {
            Self::Push => matches!(kind, MethodType::MicrosoftAuthenticator),
            Self::Oath => {
                matches!(kind, MethodType::SoftwareOath | MethodType::HardwareOath | MethodType::MicrosoftAuthenticator)
            }
            Self::Sms | Self::VoiceMobile => matches!(kind, MethodType::PhoneMobile),
            Self::VoiceAlternateMobile => matches!(kind, MethodType::PhoneAlternateMobile),
            Self::VoiceOffice => matches!(kind, MethodType::PhoneOffice),
        }
    }
}
