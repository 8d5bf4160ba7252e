//! Keyed digests of phone numbers and addresses: enough to tell one from another, useless to read.

use aws_lc_rs::hmac;

use crate::domain::method::MethodType;
use crate::domain::request::hex;

/// The key of the digests. Never printed.
pub(super) struct DigestKey(hmac::Key);

impl DigestKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The digest of a user's value of this type, however it is spelt; `None` where Graph does not tell the value.
    pub(super) fn digest(&self, method_type: MethodType, user_id: &str, value: Option<&str>) -> Option<String> {
        let value = normalise(value?);
        let text = format!("{}\n{user_id}\n{value}", method_type.name());
        (!value.is_empty()).then(|| hex(hmac::sign(&self.0, text.as_bytes()).as_ref()))
    }
}

/// `+1 (555) 555-0100` and `+1 5555550100` are one number; an address keeps its dots and dashes.
fn normalise(value: &str) -> String {
    let value = value.trim().to_lowercase();
    if value.contains('@') {
        return value;
    }
    value.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '+' | '*')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn a_value_is_the_same_however_it_is_spelt_and_only_for_its_type_and_user() {
        let key = DigestKey::new(&[7; 32]);
        let mobile = |user, value| key.digest(MethodType::PhoneMobile, user, Some(value));
        assert_eq!(mobile(USER, "+1 5555550100"), mobile(USER, "+1 (555) 555-0100"));
        assert_ne!(mobile(USER, "+1 5555550100"), mobile(USER, "+1 5555550101"));
        assert_ne!(mobile(USER, "+1 5555550100"), mobile("another", "+1 5555550100"));
        assert_ne!(mobile(USER, "+1 5"), key.digest(MethodType::PhoneOffice, USER, Some("+1 5")));
        let email = |value| key.digest(MethodType::Email, USER, Some(value));
        assert_eq!(email("Ada@Example.org "), email("ada@example.org"));
        assert_ne!(email("a.da@example.org"), email("ada@example.org"));
        assert_eq!(mobile(USER, "+1 5555550100").unwrap().len(), 64);
    }

    #[test]
    fn what_graph_does_not_tell_has_no_digest() {
        let key = DigestKey::new(&[7; 32]);
        assert_eq!(key.digest(MethodType::PhoneMobile, USER, None), None);
        assert_eq!(key.digest(MethodType::PhoneMobile, USER, Some(" ")), None);
    }
}
