//! Facts about the target and policy in, a [`Decision`] out. Fails closed: what could not be read counts against it.
//!
//! Graph lets an application reset anybody, administrators included, so this is the only thing that protects them.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::method::{Method, MethodType};
use super::outcome::Unread;
use super::preference::Preference;
use super::reason::Reason;
use super::request::Request;
use super::rules::Policy;

/// Roles whose holders an Authentication Administrator may reset too (Microsoft's table of who can reset whom):
/// directory readers, guest inviters, message center readers, reports readers, usage summary reports readers.
pub const HARMLESS_ROLES: [&str; 5] = [
    "88d8e3e3-8f55-4a1e-953a-9b9898b8876b",
    "95e79109-95c0-4d8e-aee3-d01accf2d47b",
    "790c1fb9-7f7d-4f88-86a1-ef1f95c05c1b",
    "4a5d8f65-41da-4de4-8968-e035b65339cf",
    "75934031-6c7e-415a-99d7-48dbd49e875e",
];

/// Who the target is. Never printed: it holds names.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The object id.
    pub object_id: String,
    /// The user principal name, lower case.
    pub upn: Option<String>,
    /// The mail address and every proxy address without its prefix, lower case; `None` if Graph would not say.
    pub addresses: Option<Vec<String>>,
    /// Whether the user is in a restricted management administrative unit.
    pub restricted: bool,
}

impl User {
    /// Every name of the user, or `None` where Graph kept one back, so that a rule about names proves nothing.
    fn names(&self) -> Option<Vec<&str>> {
        let (upn, addresses) = (self.upn.as_deref()?, self.addresses.as_ref()?);
        Some([upn, &self.object_id].into_iter().chain(addresses.iter().map(String::as_str)).collect())
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "User({})", self.object_id)
    }
}

/// One object that the user is a member of, directly or not, as `transitiveMemberOf` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// A directory role, with its template id if Graph told it.
    Role(Option<String>),
    /// A group, and what Graph told of it. For an ordinary group `isAssignableToRole` is null, and so is everything
    /// for a group that the app may not read: `securityEnabled` is never null where the app may read.
    Group {
        /// Its object id.
        id: String,
        /// Whether roles can be assigned to it.
        assignable_to_role: Option<bool>,
        /// Whether Graph told `securityEnabled`.
        readable: bool,
    },
    /// An administrative unit: gives its members nothing.
    AdministrativeUnit,
    /// Something else, or something that Graph would not name.
    Unreadable,
}

/// What a look-up found: everything, or not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// Every page was read.
    Complete(Vec<T>),
    /// Graph says that the tenant has no licence for what was asked, so there is none.
    NotLicensed,
    /// A page or the whole answer is missing.
    Failed,
}

/// What is known about the target, read while the job holds the user.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Memberships: roles and groups.
    pub memberships: Lookup<Membership>,
    /// Ids of every group in the tenant that roles can be assigned to: the property of the group itself cannot tell no
    /// from unknown.
    pub role_assignable_groups: Lookup<String>,
    /// Role definition ids of active assignments, `None` where Graph would not name one.
    pub assignments: Lookup<Option<String>>,
    /// Role definition ids of eligible assignments, likewise.
    pub eligibilities: Lookup<Option<String>>,
    /// The authentication methods.
    pub methods: Vec<Method>,
    /// Types of methods that could not be listed, and why not.
    pub unread: Vec<(MethodType, Unread)>,
    /// What the user prefers as the second factor, where Graph tells.
    pub preference: Option<Preference>,
    /// Whether the beta API may be called.
    pub beta: bool,
    /// Graph's clock at the time of reading.
    pub read_at: Timestamp,
    /// When the user was last reset, as far as the ledger knows.
    pub last_reset: Option<Timestamp>,
}

/// What a rule looks at: the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// No rule objected.
    None,
    /// `policy.producers`.
    Producer,
    /// The requester is the target.
    Requester,
    /// `policy.protected_users`.
    ProtectedUser,
    /// `policy.protected_groups`.
    ProtectedGroup,
    /// Membership of a restricted management administrative unit, where administrators put whom others may not touch.
    RestrictedUnit,
    /// A role held or to be had.
    Role,
    /// Membership of a group that roles can be assigned to.
    RoleAssignableGroup,
    /// Graph would not name something that matters.
    Unreadable,
    /// A look-up failed.
    LookupFailed,
    /// `policy.cool_down`.
    CoolDown,
    /// `policy.enabled_steps`.
    Step,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 12] = [
        Self::None,
        Self::Producer,
        Self::Requester,
        Self::ProtectedUser,
        Self::ProtectedGroup,
        Self::RestrictedUnit,
        Self::Role,
        Self::RoleAssignableGroup,
        Self::Unreadable,
        Self::LookupFailed,
        Self::CoolDown,
        Self::Step,
    ];

    /// The word in metrics and results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Producer => "producer",
            Self::Requester => "requester",
            Self::ProtectedUser => "protected_user",
            Self::ProtectedGroup => "protected_group",
            Self::RestrictedUnit => "restricted_unit",
            Self::Role => "role",
            Self::RoleAssignableGroup => "role_assignable_group",
            Self::Unreadable => "unreadable",
            Self::LookupFailed => "lookup_failed",
            Self::CoolDown => "cool_down",
            Self::Step => "step",
        }
    }

    /// The reason code of a denial by this rule.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Producer => Reason::ProducerNotAllowed,
            Self::Requester => Reason::RequesterIsTarget,
            Self::CoolDown => Reason::RecentlyReset,
            Self::Step => Reason::StepNotEnabled,
            Self::None
            | Self::ProtectedUser
            | Self::ProtectedGroup
            | Self::RestrictedUnit
            | Self::Role
            | Self::RoleAssignableGroup
            | Self::Unreadable
            | Self::LookupFailed => Reason::ProtectedTarget,
        }
    }
}

/// Whether the reset may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not, and this rule says so.
    Deny(Rule),
}

/// Whether this producer may ask at all, and for this; the broker has checked who it is.
pub fn may_ask(request: &Request, producer: Option<&str>, policy: &Policy) -> Decision {
    let known = |allowed: &BTreeSet<String>| producer.is_some_and(|user| allowed.contains(user));
    if !policy.producers.as_ref().is_none_or(known) {
        return Decision::Deny(Rule::Producer);
    }
    not_enabled(request, policy).map_or(Decision::Allow, Decision::Deny)
}

fn not_enabled(request: &Request, policy: &Policy) -> Option<Rule> {
    request.not_enabled(&policy.enabled_steps).map(|_| Rule::Step)
}

/// Whether this user may be reset by this request.
pub fn decide(request: &Request, user: &User, facts: &Facts, policy: &Policy, now: Timestamp) -> Decision {
    let objection = not_enabled(request, policy)
        .or_else(|| names(request, user, policy))
        .or_else(|| user.restricted.then_some(Rule::RestrictedUnit))
        .or_else(|| memberships(facts, policy))
        .or_else(|| roles(&facts.assignments, policy, false))
        .or_else(|| roles(&facts.eligibilities, policy, true))
        .or_else(|| recently_reset(facts, policy, now).filter(|_| !request.only_lists()));
    objection.map_or(Decision::Allow, Decision::Deny)
}

fn names(request: &Request, user: &User, policy: &Policy) -> Option<Rule> {
    let Some(names) = user.names() else { return Some(Rule::Unreadable) };
    if spellings(&request.requested_by).any(|spelling| names.contains(&spelling.as_str())) {
        return Some(Rule::Requester);
    }
    names.into_iter().any(|name| policy.protected_users.contains(name)).then_some(Rule::ProtectedUser)
}

/// Everything in a requester's name that may be an address or an id: `Ada <ada@x>`, `smtp:ada@x`, an id without dashes.
fn spellings(requester: &str) -> impl Iterator<Item = String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "@.-_+'#!$%&*/=?^`{|}~".contains(letter);
    let lower = requester.to_lowercase();
    let words: Vec<String> = lower.split(|letter: char| !plain(letter)).map(str::to_owned).collect();
    let ids =
        words.iter().map(|word| word.trim_matches(['{', '}'])).filter_map(|word| uuid::Uuid::try_parse(word).ok());
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    words.into_iter().chain(ids).filter(|word| !word.is_empty())
}

fn memberships(facts: &Facts, policy: &Policy) -> Option<Rule> {
    let (Lookup::Complete(memberships), Lookup::Complete(assignable)) =
        (&facts.memberships, &facts.role_assignable_groups)
    else {
        return Some(Rule::LookupFailed);
    };
    memberships.iter().find_map(|membership| match membership {
        Membership::Role(Some(template)) => (!policy.harmless_roles.contains(template)).then_some(Rule::Role),
        Membership::Group { id, .. } if policy.protected_groups.contains(id) => Some(Rule::ProtectedGroup),
        Membership::Group { id, .. } if assignable.contains(id) => Some(Rule::RoleAssignableGroup),
        Membership::Group { assignable_to_role: Some(true), .. } => Some(Rule::RoleAssignableGroup),
        Membership::Role(None) | Membership::Unreadable | Membership::Group { readable: false, .. } => {
            Some(Rule::Unreadable)
        }
        Membership::Group { assignable_to_role: Some(false) | None, readable: true, .. }
        | Membership::AdministrativeUnit => None,
    })
}

fn roles(lookup: &Lookup<Option<String>>, policy: &Policy, licence_may_miss: bool) -> Option<Rule> {
    let granted = match lookup {
        Lookup::Complete(granted) => granted,
        Lookup::NotLicensed if licence_may_miss => return None,
        Lookup::NotLicensed | Lookup::Failed => return Some(Rule::LookupFailed),
    };
    granted.iter().find_map(|role| match role {
        Some(id) if policy.harmless_roles.contains(id) => None,
        Some(_) => Some(Rule::Role),
        None => Some(Rule::Unreadable),
    })
}

fn recently_reset(facts: &Facts, policy: &Policy, now: Timestamp) -> Option<Rule> {
    let last = facts.last_reset?;
    let since = now.duration_since(last);
    let within = since.unsigned_abs() < policy.cool_down || since.is_negative();
    (!policy.cool_down.is_zero() && within).then_some(Rule::CoolDown)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::domain::profile::Profiles;
    use crate::domain::request::{Envelope, Lane};

    impl Facts {
        /// Facts that speak against nothing, of a user with these methods.
        pub fn of(methods: &[Method]) -> Self {
            Self {
                memberships: Lookup::Complete(Vec::new()),
                role_assignable_groups: Lookup::Complete(Vec::new()),
                assignments: Lookup::Complete(Vec::new()),
                eligibilities: Lookup::NotLicensed,
                methods: methods.to_vec(),
                unread: Vec::new(),
                preference: None,
                beta: true,
                read_at: Timestamp::UNIX_EPOCH,
                last_reset: None,
            }
        }
    }

    const ADA: &str = "0a000000-0000-4000-8000-000000000000";

    fn request(requested_by: &str) -> Request {
        let body = json!({
            "id": "1", "ticket": {"system": "jira", "number": "A-1"}, "target": {"upn": "ada@contoso.test"},
            "profile": "all", "requested_by": requested_by,
        });
        let envelope = Envelope::bare(Lane::Tickets);
        Request::parse(body.to_string().as_bytes(), &envelope, &Profiles::default()).unwrap()
    }

    fn user() -> User {
        let addresses = Some(vec!["ada.l@contoso.test".to_owned(), "countess@contoso.test".to_owned()]);
        User { object_id: ADA.into(), upn: Some("ada@contoso.test".into()), addresses, restricted: false }
    }

    fn policy() -> Policy {
        Policy {
            producers: Some(["itsm".to_owned()].into()),
            protected_users: ["glass@contoso.test".to_owned(), "countess@contoso.test".to_owned()].into(),
            protected_groups: ["vip".to_owned()].into(),
            harmless_roles: HARMLESS_ROLES.map(str::to_owned).into(),
            cool_down: Duration::from_secs(3600),
            max_resets_per_hour: 1,
            enabled_steps: BTreeSet::new(),
        }
    }

    fn facts() -> Facts {
        Facts {
            role_assignable_groups: Lookup::Complete(vec!["assignable".to_owned()]),
            eligibilities: Lookup::Complete(Vec::new()),
            ..Facts::of(&[])
        }
    }

    fn check(change: impl FnOnce(&mut Facts), expected: Option<Rule>) {
        let mut facts = facts();
        change(&mut facts);
        let user = User { addresses: Some(vec!["ada.l@contoso.test".into()]), ..user() };
        let decision = decide(&request("sam@contoso.test"), &user, &facts, &policy(), Timestamp::UNIX_EPOCH);
        assert_eq!(decision, expected.map_or(Decision::Allow, Decision::Deny));
    }

    fn group(id: &str, assignable_to_role: Option<bool>, readable: bool) -> Membership {
        Membership::Group { id: id.into(), assignable_to_role, readable }
    }

    #[test]
    fn memberships_protect_and_what_graph_will_not_name_protects_too() {
        let admin = || Some("62e90394-69f5-4237-9190-012177145e10".to_owned());
        let harmless = || Some(HARMLESS_ROLES[0].to_owned());
        for (membership, expected) in [
            (Membership::Role(admin()), Some(Rule::Role)),
            (Membership::Role(harmless()), None),
            (Membership::Role(None), Some(Rule::Unreadable)),
            (group("team", Some(false), true), None),
            (group("team", None, true), None),
            (group("team", Some(true), true), Some(Rule::RoleAssignableGroup)),
            (group("team", Some(false), false), Some(Rule::Unreadable)),
            (group("team", None, false), Some(Rule::Unreadable)),
            (group("assignable", None, true), Some(Rule::RoleAssignableGroup)),
            (group("vip", None, false), Some(Rule::ProtectedGroup)),
            (Membership::AdministrativeUnit, None),
            (Membership::Unreadable, Some(Rule::Unreadable)),
        ] {
            check(|facts| facts.memberships = Lookup::Complete(vec![group("a", None, true), membership]), expected);
        }
    }

    #[test]
    fn every_look_up_that_fails_denies_and_only_eligibility_may_lack_a_licence() {
        check(|facts| facts.memberships = Lookup::Failed, Some(Rule::LookupFailed));
        check(|facts| facts.memberships = Lookup::NotLicensed, Some(Rule::LookupFailed));
        check(|facts| facts.role_assignable_groups = Lookup::Failed, Some(Rule::LookupFailed));
        check(|facts| facts.role_assignable_groups = Lookup::NotLicensed, Some(Rule::LookupFailed));
        check(|facts| facts.assignments = Lookup::Failed, Some(Rule::LookupFailed));
        check(|facts| facts.assignments = Lookup::NotLicensed, Some(Rule::LookupFailed));
        check(|facts| facts.eligibilities = Lookup::Failed, Some(Rule::LookupFailed));
        check(|facts| facts.eligibilities = Lookup::NotLicensed, None);
    }

    #[test]
    fn a_user_whose_names_are_kept_back_or_whose_unit_is_restricted_is_protected() {
        let decide = |user: &User| decide(&request("sam"), user, &facts(), &policy(), Timestamp::UNIX_EPOCH);
        let nobody = User { addresses: Some(Vec::new()), ..user() };
        assert_eq!(decide(&nobody), Decision::Allow);
        let nameless = User { upn: None, ..nobody.clone() };
        assert_eq!(decide(&nameless), Decision::Deny(Rule::Unreadable));
        assert_eq!(decide(&User { addresses: None, ..nobody.clone() }), Decision::Deny(Rule::Unreadable));
        assert_eq!(decide(&User { restricted: true, ..nobody }), Decision::Deny(Rule::RestrictedUnit));
    }

    #[test]
    fn a_role_held_or_to_be_had_protects() {
        let some = |id: &str| Lookup::Complete(vec![Some(id.to_owned())]);
        check(|facts| facts.assignments = some("custom role"), Some(Rule::Role));
        check(|facts| facts.eligibilities = some("custom role"), Some(Rule::Role));
        check(|facts| facts.eligibilities = some(HARMLESS_ROLES[1]), None);
        check(|facts| facts.assignments = Lookup::Complete(vec![None]), Some(Rule::Unreadable));
    }

    #[test]
    fn a_second_reset_within_the_cool_down_is_denied_even_if_clocks_disagree() {
        let ago = |seconds| Some(Timestamp::UNIX_EPOCH - SignedDuration::from_secs(seconds));
        check(|facts| facts.last_reset = ago(3599), Some(Rule::CoolDown));
        check(|facts| facts.last_reset = ago(-5000), Some(Rule::CoolDown));
        check(|facts| facts.last_reset = ago(3600), None);
    }

    #[test]
    fn nobody_resets_themselves_by_any_of_their_names_and_protected_users_stay() {
        for name in [
            ADA,
            "{0A000000-0000-4000-8000-000000000000}",
            "0a000000000040008000000000000000",
            "Ada@Contoso.test",
            "ada.l@contoso.test ",
            "COUNTESS@contoso.test",
            "Ada Lovelace <ada@contoso.test>",
            "smtp:ada@contoso.test",
            "mailto:ada@contoso.test",
            "ada@contoso.test\u{200b}",
        ] {
            let decision = decide(&request(name), &user(), &facts(), &policy(), Timestamp::UNIX_EPOCH);
            assert_eq!(decision, Decision::Deny(Rule::Requester), "{name}");
        }
        let decision = decide(&request("sam"), &user(), &facts(), &policy(), Timestamp::UNIX_EPOCH);
        assert_eq!(decision, Decision::Deny(Rule::ProtectedUser));
    }

    #[test]
    fn a_producer_must_be_known_and_named() {
        assert_eq!(may_ask(&request("sam"), Some("itsm"), &policy()), Decision::Allow);
        assert_eq!(may_ask(&request("sam"), Some("other"), &policy()), Decision::Deny(Rule::Producer));
        assert_eq!(may_ask(&request("sam"), None, &policy()), Decision::Deny(Rule::Producer));
        assert_eq!(may_ask(&request("sam"), None, &Policy { producers: None, ..policy() }), Decision::Allow);
    }

    #[test]
    fn a_user_never_prints_their_names() {
        assert_eq!(format!("{:?}", user()), format!("User({ADA})"));
    }
}
