//! What Graph refuses to delete, and in which words. It decides; it changes nothing.
//!
//! Which methods stand in the way of the default, and which of two wordings it is refused in, is not documented:
//! [`Choices`] holds the answers.

use uuid::Uuid;

use super::call::Reply;
use super::choices::{Choices, Wording};
use super::kind::Kind;
use super::tenant::{Method, User};

/// Says why a method stays.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    NotThere,
    NotDeletable,
    /// The user is in a restricted unit, where the app's permissions do not count.
    Restricted,
    IsDefault(Wording),
    AlternateFirst,
    /// A key whose id the service cannot read; nobody can remove it.
    BadKey,
}

/// Decides whether the method of one of the kinds, with this id, may go.
pub fn refuse(user: &User, kinds: &[Kind], id: Option<&str>, choices: &Choices) -> Result<usize, Refusal> {
    let at = user.methods.iter().position(is_meant(kinds, id)).ok_or(Refusal::NotThere)?;
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
    let counts = |other: &Method| other.id != method.id && choices.counts(user, other.kind);
    if is_default && user.live().any(counts) {
        return Err(Refusal::IsDefault(user.default_wording.unwrap_or(choices.default_wording)));
    }
    Ok(at)
}

fn is_meant(kinds: &[Kind], id: Option<&str>) -> impl Fn(&Method) -> bool {
    move |method| method.removed_at.is_none() && kinds.contains(&method.kind) && id.is_none_or(|id| method.id == id)
}

/// Finds the method of one of the kinds with this id.
pub fn meant<'a>(user: &'a User, kinds: &[Kind], id: Option<&str>) -> Result<&'a Method, Reply> {
    let is_meant = is_meant(kinds, id);
    user.methods.iter().find(|method| is_meant(method)).ok_or_else(|| Refusal::NotThere.reply(&[], ""))
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
    /// Puts the refusal in Graph's words.
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
            Self::IsDefault(Wording::MatchesDefault) => is_default(id),
            Self::IsDefault(Wording::EachBackend) if kinds.contains(&Kind::PhoneMobile) => is_default(id),
            Self::IsDefault(_) => Reply::error(
                400,
                "badRequest",
                "Cannot delete default method with other methods configured. Please change default method before deletion.",
            ),
        }
    }
}

fn is_default(id: &str) -> Reply {
    Reply::error(
        400,
        "badRequest",
        format!(
            "The requested authentication method id of [{id}] matches the user's current default authentication method, \
             and cannot be deleted until the default authentication method is changed"
        ),
    )
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
        assert_eq!(refuse(user, &[kind], None, &Choices::default()), expected, "{kind:?} of {:?}", user.methods);
    }

    #[test]
    fn the_default_goes_last() {
        let two = user("push", &[Kind::Password, Kind::MicrosoftAuthenticator, Kind::PhoneMobile]);
        check(&two, Kind::MicrosoftAuthenticator, Err(Refusal::IsDefault(Wording::EachBackend)));
        check(&two, Kind::PhoneMobile, Ok(2));
        let last = user("push", &[Kind::Password, Kind::MicrosoftAuthenticator]);
        check(&last, Kind::MicrosoftAuthenticator, Ok(1));
    }

    #[test]
    fn what_stands_in_the_way_of_the_default_depends() {
        let mut kept = user("push", &[Kind::Password, Kind::MicrosoftAuthenticator, Kind::Fido2]);
        check(&kept, Kind::MicrosoftAuthenticator, Ok(1));
        kept.strict_default = true;
        check(&kept, Kind::MicrosoftAuthenticator, Err(Refusal::IsDefault(Wording::EachBackend)));
        kept.counted = Some(vec![Kind::Email]);
        check(&kept, Kind::MicrosoftAuthenticator, Ok(1));
        kept.counted = Some(vec![Kind::Password]);
        kept.default_wording = Some(Wording::OtherMethods);
        check(&kept, Kind::MicrosoftAuthenticator, Err(Refusal::IsDefault(Wording::OtherMethods)));
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
