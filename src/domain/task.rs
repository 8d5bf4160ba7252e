//! What a request may ask for, step by step. A profile is a named list of these.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::method::{Method, MethodType};

/// One of the steps of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Ends the user's sessions.
    RevokeSessions,
    /// Removes methods.
    RemoveMethods(Selection),
    /// Sets the phones: these, and no others.
    SetPhones(Phones),
    /// Sets the address for self-service password reset.
    SetEmail(Private),
    /// Sets the per-user MFA state.
    SetPerUserMfa(MfaState),
    /// Lists the methods; changes nothing.
    ListMethods,
}

/// The names of the steps, in the order of the enum.
pub const STEPS: [&str; 6] =
    ["revoke_sessions", "remove_methods", "set_phones", "set_email", "set_per_user_mfa", "list_methods"];
/// The steps that give access, and are refused unless the policy enables them.
pub const GRANTING: [&str; 3] = ["set_phones", "set_email", "set_per_user_mfa"];

impl Task {
    /// The name in a request.
    pub const fn name(&self) -> &'static str {
        STEPS[match self {
            Self::RevokeSessions => 0,
            Self::RemoveMethods(_) => 1,
            Self::SetPhones(_) => 2,
            Self::SetEmail(_) => 3,
            Self::SetPerUserMfa(_) => 4,
            Self::ListMethods => 5,
        }]
    }

    /// Whether it removes this method.
    pub fn removes(&self, method: &Method) -> Removes {
        match self {
            Self::RemoveMethods(selection) => selection.selects(method),
            Self::SetPhones(phones) if phones.unlists(method.method_type) => Removes::Yes,
            Self::SetPhones(_)
            | Self::RevokeSessions
            | Self::SetEmail(_)
            | Self::SetPerUserMfa(_)
            | Self::ListMethods => Removes::No,
        }
    }

    /// Whether methods of this type are what it is about, whichever they are.
    pub fn is_about(&self, kind: MethodType) -> bool {
        match self {
            Self::RemoveMethods(Selection { types, .. }) => {
                kind != MethodType::Password && (types.is_empty() || types.contains(&kind))
            }
            Self::SetPhones(_) => Phones::TYPES.contains(&kind),
            Self::SetEmail(_) => kind == MethodType::Email,
            Self::RevokeSessions | Self::SetPerUserMfa(_) | Self::ListMethods => false,
        }
    }

    /// Whether it names this type for removal.
    pub fn names(&self, kind: MethodType) -> bool {
        matches!(self, Self::RemoveMethods(Selection { types, .. }) if types.contains(&kind))
    }

    /// Whether it calls for every method, so that one that cannot be removed leaves the reset incomplete.
    pub const fn wants_everything(&self) -> bool {
        matches!(self, Self::RemoveMethods(Selection { all: true, registered_after: None, .. }))
    }

    /// Whether it sets a number or address.
    pub const fn sets_value(&self) -> bool {
        matches!(self, Self::SetPhones(_) | Self::SetEmail(_))
    }

    /// The value that it sets for methods of this type.
    pub fn value(&self, kind: MethodType) -> Option<&Private> {
        match self {
            Self::SetPhones(phones) => phones.number(kind),
            Self::SetEmail(address) => Some(address).filter(|_| kind == MethodType::Email),
            Self::RevokeSessions | Self::RemoveMethods(_) | Self::SetPerUserMfa(_) | Self::ListMethods => None,
        }
    }
}

/// Whether a step removes a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removes {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It depends on when the method was registered, which Graph does not tell.
    CannotTell,
}

/// Which methods to remove: those that meet everything that is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Selection {
    /// Every method that Graph can remove.
    pub all: bool,
    /// Of one of these types.
    pub types: BTreeSet<MethodType>,
    /// With one of these ids.
    pub ids: BTreeSet<String>,
    /// For security keys: of one of these models.
    pub aaguids: BTreeSet<String>,
    /// Registered at this moment or later.
    pub registered_after: Option<Timestamp>,
}

impl Selection {
    fn selects(&self, method: &Method) -> Removes {
        let named = self.ids.is_empty() || self.ids.contains(&method.id);
        let of_type = self.types.is_empty() || self.types.contains(&method.method_type);
        let model = |aaguid: &String| self.aaguids.contains(aaguid);
        let of_model = self.aaguids.is_empty()
            || method.method_type != MethodType::Fido2
            || method.aaguid.as_ref().is_some_and(model);
        match (named && of_type && of_model, self.registered_after, method.registered_at) {
            (false, ..) => Removes::No,
            (true, Some(_), None) => Removes::CannotTell,
            (true, Some(after), Some(at)) if at < after => Removes::No,
            (true, None | Some(_), _) => Removes::Yes,
        }
    }
}

/// The phones of a user, as they shall be: one that is not named is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phones {
    /// The mobile phone.
    pub mobile: Option<Private>,
    /// The alternate mobile phone, which needs a mobile one.
    pub alternate_mobile: Option<Private>,
    /// The office phone.
    pub office: Option<Private>,
    /// Whether the mobile phone is for signing in by SMS; left as it is if not said.
    pub sms_sign_in: Option<bool>,
}

impl Phones {
    /// The types of phones, in the order in which Graph accepts them.
    pub const TYPES: [MethodType; 3] =
        [MethodType::PhoneMobile, MethodType::PhoneAlternateMobile, MethodType::PhoneOffice];

    fn number(&self, kind: MethodType) -> Option<&Private> {
        let numbers = [&self.mobile, &self.alternate_mobile, &self.office];
        Self::TYPES.iter().zip(numbers).find(|(known, _)| **known == kind).and_then(|(_, number)| number.as_ref())
    }

    fn unlists(&self, kind: MethodType) -> bool {
        Self::TYPES.contains(&kind) && self.number(kind).is_none()
    }
}

/// The per-user MFA state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MfaState {
    /// Not asked for.
    Disabled,
    /// Asked for once registered.
    Enabled,
    /// Always asked for.
    Enforced,
}

impl MfaState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Disabled, Self::Enabled, Self::Enforced];

    /// Graph's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Enforced => "enforced",
        }
    }
}

/// A phone number or address. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Private(String);

impl Private {
    /// Keeps it from being printed.
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for Graph and for digests.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Private {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

/// For the fingerprint of a request, which has to tell one number from another.
impl Serialize for Private {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
