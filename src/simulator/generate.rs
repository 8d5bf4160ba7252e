//! Draws a tenant from a seed: the same seed gives the same people with the same methods, however many are asked for.

use fastrand::Rng;
use uuid::Uuid;

use super::choices::Wording;
use super::kind::Kind;
use super::tenant::{Grant, Group, Method, MfaState, Named, Tenant, User};
use super::tenant_file::{complete_methods, id_for};

const DOMAIN: &str = "contoso.test";
const GUEST_DOMAIN: &str = "fabrikam.test";
const USER: u64 = 0;
const TEAM: u64 = 1;
const TIER: u64 = 2;
const UNIT: u64 = 3;
const ODDITY: u64 = 4;

const PLAIN_GROUPS: u64 = 25;
const UNITS: u64 = 5;

const ADMIN_ROLES: [&str; 5] = [
    "62e90394-69f5-4237-9190-012177145e10",
    "729827e3-9c14-49f7-bb1b-9608f156bbb8",
    "fe930be7-5e62-47db-91af-98c3a49a38b1",
    "194ae4cb-b126-40b2-bd5b-6091b380977d",
    "e8611ab8-c189-46e8-94e1-60213ab1f814",
];

/// Adds groups, units and `count` users to a tenant.
pub fn populate(tenant: &mut Tenant, count: usize, seed: u64) {
    for number in 0..PLAIN_GROUPS {
        let group =
            Group { id: object_id(TEAM, number, seed), display_name: format!("Team {number:02}"), ..Group::default() };
        tenant.groups.insert(group.id.clone(), group);
    }
    for (number, roles) in [(0, vec![]), (1, vec![Grant::Everywhere(ADMIN_ROLES[1].into())])] {
        let id = object_id(TIER, number, seed);
        let display_name = format!("Tier {number} operators");
        let group = Group { id: id.clone(), display_name, is_assignable_to_role: true, roles, ..Group::default() };
        tenant.groups.insert(id, group);
    }
    for number in 0..UNITS {
        let unit = Named { id: object_id(UNIT, number, seed), display_name: format!("Region {number}"), hidden: false };
        tenant.units.insert(unit.id.clone(), unit);
    }
    for number in 1..=count as u64 {
        tenant.add(user(number, seed));
    }
}

fn rng(what: u64, number: u64, seed: u64) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (what << 48) ^ number)
}

fn object_id(what: u64, number: u64, seed: u64) -> String {
    uuid::Builder::from_random_bytes(rng(what, number, seed).u128(..).to_be_bytes()).into_uuid().to_string()
}

fn user(number: u64, seed: u64) -> User {
    let mut rng = rng(USER, number, seed);
    let name = format!("user{number:05}");
    let guest = number.is_multiple_of(40);
    let mail = format!("{name}@{}", if guest { GUEST_DOMAIN } else { DOMAIN });
    let upn = if guest { format!("{name}_{GUEST_DOMAIN}#EXT#@{DOMAIN}") } else { mail.clone() };
    let admin = ADMIN_ROLES[(number / 50) as usize % ADMIN_ROLES.len()];
    let mut user = User {
        id: object_id(USER, number, seed),
        user_principal_name: upn,
        proxy_addresses: vec![format!("SMTP:{mail}"), format!("smtp:{number}.alias@{DOMAIN}")],
        mail: Some(mail),
        display_name: format!("User {number:05}"),
        user_type: if guest { "Guest" } else { "Member" }.into(),
        account_enabled: !number.is_multiple_of(101),
        on_premises_sync_enabled: (number % 3 == 1).then_some(true),
        ..User::default()
    };
    if number.is_multiple_of(50) {
        user.roles.push(Grant::Everywhere(admin.into()));
    }
    if number % 125 == 7 {
        user.eligible_roles.push(Grant::Everywhere(admin.into()));
    }
    if number % 160 == 9 {
        user.groups.push(object_id(TIER, number / 160 % 2, seed));
    }
    let first = rng.u64(..PLAIN_GROUPS);
    user.groups.extend((first..first + rng.u64(..4)).map(|group| object_id(TEAM, group % PLAIN_GROUPS, seed)));
    if number % 30 == 11 {
        user.administrative_units.push(object_id(UNIT, number / 30 % UNITS, seed));
    }
    add_methods(&mut user, number, &mut rng);
    add_oddities(&mut user, number, seed);
    add_settings(&mut user, number);
    user
}

fn add_settings(user: &mut User, number: u64) {
    user.system_preferred = number % 4 == 2;
    let registered = user.methods.iter().any(|method| method.kind.is_second_factor());
    user.per_user_mfa_state = match number % 10 {
        7 if !registered => MfaState::Enabled,
        7..=9 => MfaState::Enforced,
        _ => MfaState::Disabled,
    };
}

/// Makes a few of every 500 users hard to reset.
fn add_oddities(user: &mut User, number: u64, seed: u64) {
    let mut rng = rng(ODDITY, number, seed);
    let mut draw = |kind| method(kind, number, &mut rng);
    match number % 500 {
        // A key that nobody can remove.
        401 => {
            let key = draw(Kind::WindowsHello);
            user.methods.push(Method { id: object_id(ODDITY, number, seed), ..key });
        }
        // The alternate phone is the default: neither phone can go.
        402 => {
            user.methods = vec![draw(Kind::PhoneMobile), draw(Kind::PhoneAlternateMobile)];
            user.default_method = Some("voiceAlternateMobile".into());
        }
        // One of everything, as far as it is missing.
        403 => {
            let missing = Kind::WITH_COLLECTION.into_iter().filter(|kind| user.methods.iter().all(|m| m.kind != *kind));
            let missing: Vec<Method> = missing.map(draw).collect();
            user.methods.extend(missing);
            user.default_method = Some("push".into());
        }
        404 => user.methods.push(draw(Kind::ResourceAccountKey)),
        405 => user.is_management_restricted = true,
        // The default stays while a security key does, and in the words of the other backend.
        406 => {
            user.methods = vec![draw(Kind::MicrosoftAuthenticator), draw(Kind::Fido2)];
            user.default_method = Some("push".into());
            user.strict_default = true;
            user.default_wording = Some(Wording::MatchesDefault);
        }
        407 => {
            user.methods = vec![draw(Kind::PhoneOffice), draw(Kind::PasswordlessMicrosoftAuthenticator)];
            user.default_method = Some("voiceOffice".into());
        }
        _ => {}
    }
    complete_methods(user);
}

fn add_methods(user: &mut User, number: u64, rng: &mut Rng) {
    let mut kinds = Vec::new();
    let mut draw = |percent: u8, kind: Kind| {
        if rng.u8(..100) < percent {
            kinds.push(kind);
        }
    };
    draw(80, Kind::MicrosoftAuthenticator);
    draw(12, Kind::MicrosoftAuthenticator);
    draw(70, Kind::PhoneMobile);
    draw(25, Kind::SoftwareOath);
    draw(10, Kind::PhoneOffice);
    draw(30, Kind::Email);
    draw(15, Kind::Fido2);
    draw(20, Kind::WindowsHello);
    draw(4, Kind::PlatformCredential);
    draw(4, Kind::External);
    draw(3, Kind::HardwareOath);
    draw(3, Kind::TemporaryAccessPass);
    draw(1, Kind::QrCodePin);
    draw(1, Kind::PasswordlessMicrosoftAuthenticator);
    if kinds.contains(&Kind::PhoneMobile) && rng.u8(..100) < 20 {
        kinds.push(Kind::PhoneAlternateMobile);
    }
    if number % 333 == 13 {
        kinds.push(Kind::Unknown);
    }
    user.methods = kinds.into_iter().map(|kind| method(kind, number, rng)).collect();
    user.default_method = preference(&user.methods, rng);
    complete_methods(user);
}

fn method(kind: Kind, number: u64, rng: &mut Rng) -> Method {
    let value = match kind {
        Kind::PhoneMobile | Kind::PhoneAlternateMobile | Kind::PhoneOffice => {
            format!("+1 555{:07}", rng.u32(..10_000_000))
        }
        Kind::Email => format!("private{number}@example.test"),
        Kind::MicrosoftAuthenticator | Kind::PasswordlessMicrosoftAuthenticator => {
            ["iPhone", "Pixel 9", "SM-S911B"][rng.usize(..3)].into()
        }
        Kind::Fido2 => "Security key".into(),
        Kind::WindowsHello | Kind::PlatformCredential => format!("DEVICE-{:04X}", rng.u16(..)),
        Kind::External => "Second opinion".into(),
        Kind::HardwareOath => format!("GALT{:08}", rng.u32(..100_000_000)),
        Kind::Password
        | Kind::SoftwareOath
        | Kind::TemporaryAccessPass
        | Kind::QrCodePin
        | Kind::ResourceAccountKey
        | Kind::Unknown => String::new(),
    };
    let day = || format!("2025-{:02}-{:02}T{:02}:00:00Z", rng.u8(1..=12), rng.u8(1..=28), rng.u8(..24));
    let created = kind.shows_creation().then(day);
    Method { id: id_for(kind, Uuid::from_u128(rng.u128(..))), kind, value, created, ..Method::default() }
}

fn preference(methods: &[Method], rng: &mut Rng) -> Option<String> {
    let has = |kind| methods.iter().any(|method| method.kind == kind);
    let mut choices = Vec::new();
    if has(Kind::MicrosoftAuthenticator) {
        choices.extend(["push", "push", "push"]);
    }
    if has(Kind::PhoneMobile) {
        choices.extend(["sms", "voiceMobile"]);
    }
    if has(Kind::SoftwareOath) || has(Kind::HardwareOath) {
        choices.push("oath");
    }
    rng.choice(choices).map(String::from)
}
