//! Against the simulator: what only the beta API tells, what an application or a cloud keeps back, and what is set.

use std::collections::BTreeSet;

use jiff::Timestamp;
use mfa_reset::adapters::graph::Trail;
use mfa_reset::domain::guard::Facts;
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::outcome::{Fault, Unread};
use mfa_reset::domain::plan::{Reach, Refusal};
use mfa_reset::domain::preference::Preference;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::Lane;
use mfa_reset::domain::task::{MfaState, Private};
use mfa_reset::ports::{Change, Reply};
use mfa_reset::simulator::{Cloud, Options};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulated::Tenant;

const ADA: &str = "ada@contoso.test";
const AWAY: Fault = Fault::Transient { reason: Reason::GraphUnavailable };
const BETA_ONLY: [MethodType; 2] = [MethodType::HardwareOath, MethodType::QrCodePin];

fn options(methods: &[&str], rest: &Value) -> Options {
    let methods: Vec<Value> = methods.iter().map(|kind| json!({"type": kind, "value": "+1 5550100"})).collect();
    let mut tenant = json!({"users": [{"userPrincipalName": ADA, "defaultMethod": "sms", "methods": methods}]});
    tenant.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    Options { tenant: Some(tenant), ..Options::default() }
}

fn rare() -> Options {
    let kinds = ["phone_mobile", "hardware_oath", "qr_code_pin", "passwordless_microsoft_authenticator", "fido2"];
    options(&kinds, &json!({}))
}

/// An application that may look people up, and may do this with methods.
fn app(permissions: &[&str]) -> Value {
    let basic = ["User.Read.All", "GroupMember.Read.All", "RoleManagement.Read.Directory"];
    let roles = [&basic[..], permissions].concat();
    json!({"apps": [{"clientId": "client", "secret": "canary-secret", "roles": roles}]})
}

async fn survey(tenant: &Tenant) -> Result<Facts, Fault> {
    let id = tenant.id(ADA).await;
    tenant.graph.survey(Lane::Tickets, &id, &Trail::default()).await
}

fn types(methods: &[Method]) -> BTreeSet<(MethodType, bool)> {
    methods.iter().map(|method| (method.method_type, method.passwordless)).collect()
}

fn of(methods: &[Method], kind: MethodType) -> &Method {
    methods.iter().find(|method| method.method_type == kind).unwrap()
}

async fn remove(tenant: &Tenant, method: &Method) -> Result<Reply, Fault> {
    let id = tenant.id(ADA).await;
    tenant.graph.remove(&id, method, Uuid::new_v4(), Timestamp::now()).await
}

async fn list(tenant: &Tenant, types: &[MethodType], beta: bool) -> Result<Vec<Method>, Fault> {
    let id = tenant.id(ADA).await;
    let reach = Reach { types: types.iter().copied().collect(), beta, passwordless: false };
    tenant.graph.list_methods(Lane::Tickets, &id, &reach, &Trail::default()).await
}

/// Whether anything was asked of the beta API.
async fn asked_beta(tenant: &Tenant) -> bool {
    tenant.journal().await.iter().any(|call| call["path"].as_str().unwrap().starts_with("/beta"))
}

#[tokio::test]
async fn the_survey_finds_what_only_beta_lists_and_the_preference() {
    let tenant = Tenant::with(rare(), true).await;
    let facts = survey(&tenant).await.unwrap();
    let known = [MethodType::Password, MethodType::PhoneMobile, MethodType::Fido2].into_iter().chain(BETA_ONLY);
    let expected: BTreeSet<_> =
        known.map(|kind| (kind, false)).chain([(MethodType::MicrosoftAuthenticator, true)]).collect();
    assert_eq!((types(&facts.methods), facts.methods.len()), (expected, 6), "each once");
    assert_eq!((facts.preference, facts.beta, facts.unread), (Some(Preference::Sms), true, vec![]));
    for method in facts.methods.iter().filter(|method| BETA_ONLY.contains(&method.method_type) || method.passwordless) {
        assert_eq!(remove(&tenant, method).await, Ok(Reply::Done), "{method:?}");
    }
    let left = list(&tenant, &BETA_ONLY, true).await.unwrap();
    assert_eq!(left.len(), 3);
}

#[tokio::test]
async fn without_beta_v1_alone_is_asked_and_what_it_cannot_remove_stays() {
    let tenant = Tenant::with(rare(), false).await;
    let facts = survey(&tenant).await.unwrap();
    let kinds = types(&facts.methods);
    assert!(kinds.contains(&(MethodType::QrCodePin, false)), "v1.0 lists what it cannot remove: {kinds:?}");
    assert!(!kinds.contains(&(MethodType::HardwareOath, false)) && facts.methods.iter().all(|one| !one.passwordless));
    assert_eq!((facts.preference, facts.beta), (None, false));
    let code = of(&facts.methods, MethodType::QrCodePin);
    let token = Method { passwordless: true, ..Method::new(MethodType::MicrosoftAuthenticator, "x") };
    for method in [code, &token, &Method::new(MethodType::HardwareOath, "x")] {
        assert_eq!(remove(&tenant, method).await, Ok(Reply::Impossible), "{method:?}");
    }
    assert!(!asked_beta(&tenant).await);
}

#[tokio::test]
async fn a_preference_that_is_kept_back_is_unknown_and_no_fault() {
    for (status, body) in [(403, Value::Null), (404, Value::Null), (200, json!({"x": 1}))] {
        let tenant = Tenant::with(rare(), true).await;
        let fault = json!({"operation": "get_sign_in_preferences", "status": status, "times": 0, "body": body});
        tenant.fault(fault).await;
        let facts = survey(&tenant).await.unwrap();
        assert_eq!((facts.preference, facts.methods.len()), (None, 6), "{status}");
    }
}

#[tokio::test]
async fn granular_permissions_open_their_own_collections_and_the_rest_is_named() {
    let allowed = ["UserAuthMethod-Phone.ReadWrite.All", "UserAuthMethod-HardwareOATH.ReadWrite.All"];
    let kinds = ["phone_mobile", "hardware_oath", "fido2"];
    let tenant = Tenant::with(options(&kinds, &app(&allowed)), true).await;
    let facts = survey(&tenant).await.unwrap();
    let expected = [MethodType::PhoneMobile, MethodType::HardwareOath].map(|kind| (kind, false));
    assert_eq!(types(&facts.methods), BTreeSet::from(expected));
    assert!(facts.unread.iter().all(|(_, why)| *why == Unread::Forbidden), "{:?}", facts.unread);
    let unread: BTreeSet<MethodType> = facts.unread.iter().map(|(kind, _)| *kind).collect();
    assert!(unread.contains(&MethodType::Fido2) && unread.contains(&MethodType::QrCodePin) && unread.len() == 9);
    assert!(expected.iter().all(|(kind, _)| !unread.contains(kind)));
    assert_eq!(list(&tenant, &[MethodType::PhoneMobile], false).await.map(|all| all.len()), Ok(1));
    assert_eq!(list(&tenant, &[MethodType::HardwareOath], true).await.map(|all| all.len()), Ok(2));
    // What cannot be read proves nothing.
    assert_eq!(list(&tenant, &[MethodType::PhoneMobile, MethodType::Fido2], false).await, Err(AWAY));
    assert_eq!(list(&tenant, &[MethodType::QrCodePin], true).await, Err(AWAY));
    assert_eq!(remove(&tenant, &Method::new(MethodType::Fido2, "x")).await, Ok(Reply::Forbidden));
    // The phone is the default and goes last.
    for kind in [MethodType::HardwareOath, MethodType::PhoneMobile] {
        assert_eq!(remove(&tenant, of(&facts.methods, kind)).await, Ok(Reply::Done), "{kind:?}");
    }
}

#[tokio::test]
async fn an_application_that_may_read_no_method_at_all_is_told_so() {
    let tenant = Tenant::with(options(&["phone_mobile"], &app(&[])), true).await;
    assert_eq!(survey(&tenant).await.err(), Some(Fault::Permanent { reason: Reason::Forbidden }));
    let listed = list(&tenant, &[MethodType::PhoneMobile], false).await;
    assert_eq!(listed, Err(Fault::Permanent { reason: Reason::Forbidden }));
}

#[tokio::test]
async fn in_china_three_collections_are_read_and_the_other_types_are_named() {
    let kinds = ["phone_mobile", "phone_office", "microsoft_authenticator", "platform_credential", "fido2"];
    let missing_in_v1 = [
        MethodType::Email,
        MethodType::Fido2,
        MethodType::WindowsHello,
        MethodType::SoftwareOath,
        MethodType::TemporaryAccessPass,
        MethodType::External,
    ];
    for beta in [false, true] {
        let china = Options { cloud: Some(Cloud::China), ..options(&kinds, &json!({})) };
        let tenant = Tenant::with(china, beta).await;
        let facts = survey(&tenant).await.unwrap();
        let expected = [
            MethodType::PhoneMobile,
            MethodType::PhoneOffice,
            MethodType::MicrosoftAuthenticator,
            MethodType::PlatformCredential,
        ];
        assert_eq!(types(&facts.methods), expected.map(|kind| (kind, false)).into());
        let unread: BTreeSet<MethodType> = facts.unread.iter().map(|(kind, _)| *kind).collect();
        let known = missing_in_v1.into_iter().chain(BETA_ONLY.into_iter().filter(|_| beta)).collect();
        assert_eq!(unread, known);
        assert!(facts.unread.iter().all(|(_, why)| *why == Unread::Missing), "{:?}", facts.unread);
        assert_eq!(list(&tenant, &expected, false).await.map(|all| all.len()), Ok(4));
        assert_eq!(list(&tenant, &[MethodType::Fido2], false).await, Err(AWAY), "an unread list proves nothing");
        assert_eq!(remove(&tenant, of(&facts.methods, MethodType::PhoneOffice)).await, Ok(Reply::Done));
        assert_eq!(list(&tenant, &expected, false).await.map(|all| all.len()), Ok(3));
    }
}

#[tokio::test]
async fn each_change_does_what_it_says() {
    let tenant = Tenant::with(options(&["phone_mobile"], &json!({"settings": {"sms_sign_in": true}})), true).await;
    let id = tenant.id(ADA).await;
    let change = async |change| tenant.graph.change(&id, change, Uuid::new_v4(), Timestamp::now()).await;
    let (number, address) = (Private::new("+1 5550111".to_owned()), Private::new("ada@home.test".to_owned()));
    let set = |method_type, value, replaces| Change::Value { method_type, value, replaces };
    let refused = Ok(Reply::Refused(Refusal::Other));
    for (wanted, expected) in [
        (set(MethodType::PhoneOffice, &number, true), Ok(Reply::NotFound)),
        (set(MethodType::PhoneOffice, &number, false), Ok(Reply::Done)),
        (set(MethodType::PhoneOffice, &number, false), refused.clone()),
        (set(MethodType::PhoneMobile, &number, true), Ok(Reply::Done)),
        (set(MethodType::PhoneAlternateMobile, &number, false), Ok(Reply::Done)),
        (set(MethodType::Email, &address, true), Ok(Reply::NotFound)),
        (set(MethodType::Email, &address, false), Ok(Reply::Done)),
        (Change::SmsSignIn(false), Ok(Reply::Done)),
        (Change::Default(Preference::Push), refused),
        (Change::Default(Preference::VoiceOffice), Ok(Reply::Done)),
        (Change::PerUserMfa(MfaState::Enforced), Ok(Reply::Done)),
    ] {
        assert_eq!(change(wanted).await, expected, "{wanted:?}");
    }
    let facts = survey(&tenant).await.unwrap();
    for kind in [MethodType::PhoneMobile, MethodType::PhoneOffice, MethodType::PhoneAlternateMobile] {
        let digest = tenant.graph.digest(&id, kind, "+1 5550111");
        assert!(digest.is_some() && of(&facts.methods, kind).digest == digest, "{kind:?}");
    }
    let digest = tenant.graph.digest(&id, MethodType::Email, "ada@home.test");
    assert_eq!(of(&facts.methods, MethodType::Email).digest, digest);
    assert_eq!(facts.preference, Some(Preference::VoiceOffice));
    assert!(!of(&facts.methods, MethodType::PhoneMobile).sms_sign_in);
    let user = tenant.http.get(format!("{}/_simulator/users/{ADA}", tenant.root)).send().await.unwrap();
    assert_eq!(user.json::<Value>().await.unwrap()["perUserMfaState"], "enforced");
}

#[tokio::test]
async fn a_key_whose_id_the_service_cannot_read_can_never_be_removed() {
    let orphan = json!({"userPrincipalName": ADA, "methods": [
        {"type": "windows_hello", "id": "5d2c4f0e-3f52-4a0e-9d5e-0c8b6f1f7a11"}]});
    let options = Options { tenant: Some(json!({"users": [orphan]})), ..Options::default() };
    let tenant = Tenant::with(options, true).await;
    let facts = survey(&tenant).await.unwrap();
    assert_eq!(remove(&tenant, of(&facts.methods, MethodType::WindowsHello)).await, Ok(Reply::Impossible));
}
