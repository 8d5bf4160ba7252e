//! What Graph refuses to delete, and in which words. It decides; it changes nothing.
//!
//! Which methods stand in the way of the default is not documented. Here second factors do; with
//! [`User::strict_default`], or the setting of that name, every method but the password does.

use uuid::Uuid;

use super::call::Reply;
use super::kind::Kind;
use super::tenant::{Method, User};

/// Says why a method stays.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    NotThere,
    NotDeletable,
    /// The user is in a restricted unit, where the app's permissions do not count.
    Restricted,
    IsDefault,
    AlternateFirst,
    /// A key whose id the service cannot read; nobody can remove it.
    BadKey,
}

/// Decides whether the method of one of the kinds, with this id, may go.
pub fn refuse(user: &User, kinds: &[Kind], id: Option<&str>, strict: bool) -> Result<usize, Refusal> {
    let meant = |method: &Method| {
        method.removed_at.is_none() && kinds.contains(&method.kind) && id.is_none_or(|id| method.id == id)
    };
    let at = user.methods.iter().position(meant).ok_or(Refusal::NotThere)?;
    let method = &user.methods[at];
    if method.kind == Kind::Password {
        return Err(Refusal::NotDeletable);
    }
    if user.is_management_restricted {
        return Err(Refusal::Restricted);
    }
    if method.kind == Kind::WindowsHello && Uuid::parse_str(&method.id).is_ok() {
        return Err(Refusal::BadKey);
    }
    if method.kind == Kind::PhoneMobile && user.live().any(|other| other.kind == Kind::PhoneAlternateMobile) {
        return Err(Refusal::AlternateFirst);
    }
    let is_default = default_method(user).is_some_and(|default| default.id == method.id);
    let counts = |other: &Method| {
        let strict = (strict || user.strict_default) && other.kind != Kind::Password;
        other.id != method.id && (strict || other.kind.is_second_factor())
    };
    if is_default && user.live().any(counts) {
        return Err(Refusal::IsDefault);
    }
    Ok(at)
}

/// Finds the method that the preferred second factor means.
pub fn default_method(user: &User) -> Option<&Method> {
    let kinds: &[Kind] = serving(user.default_method.as_deref()?)?;
    kinds.iter().find_map(|kind| user.live().find(|method| method.kind == *kind))
}

/// Lists the types that can serve a preference, best first; nothing when there is no such preference.
pub fn serving(preference: &str) -> Option<&'static [Kind]> {
    Some(match preference {
        "push" => &[Kind::MicrosoftAuthenticator],
        "oath" => &[Kind::SoftwareOath, Kind::HardwareOath, Kind::MicrosoftAuthenticator],
        "sms" | "voiceMobile" => &[Kind::PhoneMobile],
        "voiceAlternateMobile" => &[Kind::PhoneAlternateMobile],
        "voiceOffice" => &[Kind::PhoneOffice],
        _ => return None,
    })
}

impl Refusal {
    /// Puts the refusal in Graph's words. The default is refused in two wordings: phones have a backend of their own.
    pub fn reply(&self, kinds: &[Kind], id: &str) -> Reply {
        match self {
            Self::NotThere => Reply::error(404, "itemNotFound", "The requested authentication method was not found."),
            Self::NotDeletable => Reply::error(405, "methodNotAllowed", "The authentication method cannot be deleted."),
            Self::Restricted => Reply::denied_by_authentication(),
            Self::BadKey => Reply::error(400, "badRequest", "Invalid value for KeyId"),
            Self::AlternateFirst => Reply::error(
                400,
                "badRequest",
                "Mobile number cannot be deleted without first deleting alternate mobile number.",
            ),
            Self::IsDefault if kinds.contains(&Kind::PhoneMobile) => Reply::error(
                400,
                "badRequest",
                format!(
                    "The requested authentication method id of [{id}] matches the user's current default authentication method, \
                     and cannot be deleted until the default authentication method is changed"
                ),
            ),
            Self::IsDefault => Reply::error(
                400,
                "badRequest",
                "Cannot delete default method with other methods configured. Please change default method before deletion.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(default: &str, kinds: &[Kind]) -> User {
        let method = |kind: &Kind| {
            let id = kind.facts().fixed_id.map_or_else(|| format!("{kind:?}"), Into::into);
            Method { kind: *kind, id, ..Method::default() }
        };
        User { default_method: Some(default.into()), methods: kinds.iter().map(method).collect(), ..User::default() }
    }

    fn check(user: &User, kind: Kind, expected: Result<usize, Refusal>) {
        assert_eq!(refuse(user, &[kind], None, false), expected, "{kind:?} of {:?}", user.methods);
    }

    #[test]
    fn the_default_goes_last() {
        let two = user("push", &[Kind::Password, Kind::MicrosoftAuthenticator, Kind::PhoneMobile]);
        check(&two, Kind::MicrosoftAuthenticator, Err(Refusal::IsDefault));
        check(&two, Kind::PhoneMobile, Ok(2));
        let last = user("push", &[Kind::Password, Kind::MicrosoftAuthenticator]);
        check(&last, Kind::MicrosoftAuthenticator, Ok(1));
    }

    #[test]
    fn what_stands_in_the_way_of_the_default_depends() {
        let mut kept = user("push", &[Kind::Password, Kind::MicrosoftAuthenticator, Kind::Fido2]);
        check(&kept, Kind::MicrosoftAuthenticator, Ok(1));
        kept.strict_default = true;
        check(&kept, Kind::MicrosoftAuthenticator, Err(Refusal::IsDefault));
    }

    #[test]
    fn phones_have_an_order() {
        let phones = user("voiceOffice", &[Kind::PhoneMobile, Kind::PhoneAlternateMobile]);
        check(&phones, Kind::PhoneMobile, Err(Refusal::AlternateFirst));
        check(&phones, Kind::PhoneAlternateMobile, Ok(1));
    }

    #[test]
    fn some_never_go() {
        let mut odd = user("push", &[Kind::Password, Kind::WindowsHello, Kind::Email]);
        check(&odd, Kind::Password, Err(Refusal::NotDeletable));
        check(&odd, Kind::Fido2, Err(Refusal::NotThere));
        odd.methods[1].id = "5d2c4f0e-3f52-4a0e-9d5e-0c8b6f1f7a11".into();
        check(&odd, Kind::WindowsHello, Err(Refusal::BadKey));
        odd.is_management_restricted = true;
        check(&odd, Kind::Email, Err(Refusal::Restricted));
    }
}
