//! A plan to keep in a ledger: to remove the mobile phone.

use jiff::Timestamp;
use mfa_reset::domain::guard::{Facts, Lookup};
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::plan::Plan;
use mfa_reset::domain::request::Request;

/// What a request for `re-register` makes of a user with a mobile phone and a security key.
pub fn plan(user: &str, request: &Request, read_at: Timestamp) -> Plan {
    let with = |id: &str, kind| Method { digest: Some("d1".to_owned()), ..Method::new(kind, id) };
    let facts = Facts {
        memberships: Lookup::NotLicensed,
        role_assignable_groups: Lookup::NotLicensed,
        assignments: Lookup::NotLicensed,
        eligibilities: Lookup::NotLicensed,
        methods: [with("3179e48a", MethodType::PhoneMobile), with("f1", MethodType::Fido2)].into(),
        unread: Vec::new(),
        preference: None,
        beta: false,
        read_at,
        last_reset: None,
    };
    Plan::make(user, request, &facts, &|_, _| None)
}
