//! Calls that set something: exactly the documented request, or none at all.

use jiff::Timestamp;
use mfa_reset::domain::method::MethodType;
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::Refusal;
use mfa_reset::domain::preference::Preference;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::task::{MfaState, Private};
use mfa_reset::ports::{Change, Reply};
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::{Request, ResponseTemplate};

use crate::bench::{Bench, TOKEN_PATH, USER, error};

const NUMBER: &str = "+1 5555550100";
const ADDRESS: &str = "ada@home.test";
const MOBILE: &str = "phoneMethods/3179e48a-750b-4051-897c-87b9720928f7";
const ALTERNATE: &str = "phoneMethods/b6332ec1-7057-4abe-9331-3d72feddfe41";
const OFFICE: &str = "phoneMethods/e37fc753-ff3b-4958-9484-eaa9425c82bc";
const EMAIL: &str = "emailMethods/3ddfcfc8-9383-446f-83cc-3ab9be4be18f";

/// A change, and the request that Graph's documents ask for.
struct Case {
    change: Change<'static>,
    verb: &'static str,
    version: &'static str,
    path: &'static str,
    body: Value,
}

/// The value lives as long as the test does.
fn value(method_type: MethodType, replaces: bool) -> Change<'static> {
    let text = if method_type == MethodType::Email { ADDRESS } else { NUMBER };
    Change::Value { method_type, value: Box::leak(Box::new(Private::new(text.to_owned()))), replaces }
}

fn phone(method_type: MethodType, replaces: bool, path: &'static str, phone_type: &str) -> Case {
    let body = json!({"phoneNumber": NUMBER, "phoneType": phone_type});
    let (verb, path) = if replaces { ("PATCH", path) } else { ("POST", "phoneMethods") };
    Case { change: value(method_type, replaces), verb, version: "v1.0", path, body }
}

fn email(replaces: bool) -> Case {
    let (verb, path) = if replaces { ("PATCH", EMAIL) } else { ("POST", "emailMethods") };
    let change = value(MethodType::Email, replaces);
    Case { change, verb, version: "v1.0", path, body: json!({"emailAddress": ADDRESS}) }
}

fn sms_sign_in(on: bool) -> Case {
    let path = if on {
        "phoneMethods/3179e48a-750b-4051-897c-87b9720928f7/enableSmsSignIn"
    } else {
        "phoneMethods/3179e48a-750b-4051-897c-87b9720928f7/disableSmsSignIn"
    };
    Case { change: Change::SmsSignIn(on), verb: "POST", version: "v1.0", path, body: Value::Null }
}

fn default(preference: Preference, name: &str) -> Case {
    let body = json!({"userPreferredMethodForSecondaryAuthentication": name});
    Case { change: Change::Default(preference), verb: "PATCH", version: "beta", path: "signInPreferences", body }
}

fn per_user_mfa(state: MfaState, name: &str) -> Case {
    let body = json!({"perUserMfaState": name});
    Case { change: Change::PerUserMfa(state), verb: "PATCH", version: "beta", path: "requirements", body }
}

/// Every change there is.
fn cases() -> Vec<Case> {
    let phones = [false, true].into_iter().flat_map(|replaces| {
        [
            phone(MethodType::PhoneMobile, replaces, MOBILE, "mobile"),
            phone(MethodType::PhoneAlternateMobile, replaces, ALTERNATE, "alternateMobile"),
            phone(MethodType::PhoneOffice, replaces, OFFICE, "office"),
            email(replaces),
            sms_sign_in(replaces),
        ]
    });
    let defaults = [
        default(Preference::Push, "push"),
        default(Preference::Oath, "oath"),
        default(Preference::Sms, "sms"),
        default(Preference::VoiceMobile, "voiceMobile"),
        default(Preference::VoiceAlternateMobile, "voiceAlternateMobile"),
        default(Preference::VoiceOffice, "voiceOffice"),
    ];
    let states = [
        per_user_mfa(MfaState::Disabled, "disabled"),
        per_user_mfa(MfaState::Enabled, "enabled"),
        per_user_mfa(MfaState::Enforced, "enforced"),
    ];
    phones.chain(defaults).chain(states).collect()
}

async fn bench(beta: bool, status: u16, body: Value) -> Bench {
    let bench = Bench::without_tokens(|settings| settings.beta = beta).await;
    bench.grant(|_| json!({"access_token": "token", "expires_in": 3599})).await;
    let answer = move |_: &Request| ResponseTemplate::new(status).set_body_json(&body);
    let below = wiremock::matchers::path_regex("^/(v1.0|beta)/users/");
    wiremock::Mock::given(below).respond_with(answer).mount(&bench.server).await;
    bench
}

async fn sent(bench: &Bench) -> Vec<Request> {
    let all = bench.server.received_requests().await.unwrap();
    all.into_iter().filter(|request| request.url.path() != TOKEN_PATH).collect()
}

async fn change(bench: &Bench, change: Change<'_>) -> Result<Reply, Fault> {
    bench.graph.change(USER, change, Uuid::new_v4(), Timestamp::now()).await
}

#[tokio::test]
async fn each_change_is_the_documented_request_and_nothing_besides() {
    for case in cases() {
        let bench = bench(true, 204, Value::Null).await;
        let call = Uuid::new_v4();
        assert_eq!(bench.graph.change(USER, case.change, call, Timestamp::now()).await, Ok(Reply::Done));
        let sent = sent(&bench).await;
        assert_eq!(sent.len(), 1, "{:?}", case.change);
        let path = format!("/{}/users/{USER}/authentication/{}", case.version, case.path);
        assert_eq!((sent[0].method.as_str(), sent[0].url.path(), sent[0].url.query()), (case.verb, &*path, None));
        assert_eq!(sent[0].headers["client-request-id"], call.to_string());
        if case.body.is_null() {
            assert!(sent[0].body.is_empty() && sent[0].headers["content-length"] == "0", "{:?}", case.change);
        } else {
            assert_eq!(sent[0].body_json::<Value>().unwrap(), case.body);
            assert_eq!(sent[0].headers["content-type"], "application/json");
        }
    }
}

#[tokio::test]
async fn without_the_beta_api_nothing_is_sent_that_needs_it() {
    for case in cases() {
        let bench = bench(false, 204, Value::Null).await;
        let (reply, sent) = (change(&bench, case.change).await, sent(&bench).await);
        match case.version {
            "beta" => {
                assert_eq!((reply, sent.len()), (Ok(Reply::Impossible), 0), "{:?}", case.change);
                assert!(bench.server.received_requests().await.unwrap().is_empty(), "not even a token");
            }
            _ => assert_eq!((reply, sent.len()), (Ok(Reply::Done), 1), "{:?}", case.change),
        }
    }
}

#[tokio::test]
async fn a_type_that_has_no_value_is_not_set() {
    let bench = bench(true, 204, Value::Null).await;
    for kind in [MethodType::Fido2, MethodType::Password, MethodType::Unknown, MethodType::QrCodePin] {
        assert_eq!(change(&bench, value(kind, false)).await, Ok(Reply::Impossible), "{kind:?}");
    }
    assert!(sent(&bench).await.is_empty());
}

#[rstest]
#[case::done_with_a_body(201, json!({"id": "x"}), Ok(Reply::Done))]
#[case::not_there(404, error("itemNotFound", "x"), Ok(Reply::NotFound))]
#[case::refused(400, error("badRequest", "x"), Ok(Reply::Refused(Refusal::Other)))]
#[case::there_already(409, Value::Null, Ok(Reply::Refused(Refusal::Other)))]
#[case::forbidden(403, error("accessDenied", "x"), Ok(Reply::Forbidden))]
#[case::wrong_verb(405, Value::Null, Ok(Reply::Impossible))]
#[case::error(500, Value::Null, Err(Fault::Unknown { reason: Reason::GraphUnavailable }))]
#[case::gateway(504, Value::Null, Err(Fault::Unknown { reason: Reason::GraphUnavailable }))]
#[tokio::test]
async fn a_change_tells_what_happened(
    #[case] status: u16,
    #[case] body: Value,
    #[case] expected: Result<Reply, Fault>,
) {
    for case in [phone(MethodType::PhoneMobile, true, MOBILE, "mobile"), email(false), default(Preference::Sms, "sms")]
    {
        let bench = bench(true, status, body.clone()).await;
        assert_eq!(change(&bench, case.change).await, expected, "{:?}", case.change);
        assert_eq!(sent(&bench).await.len(), 1, "{:?}", case.change);
    }
}

#[tokio::test]
async fn nothing_is_set_on_a_check_of_another_time_and_nothing_private_is_printed() {
    let bench = bench(true, 204, Value::Null).await;
    let long_ago = Timestamp::now() - jiff::SignedDuration::from_secs(6);
    for case in cases() {
        let late = bench.graph.change(USER, case.change, Uuid::new_v4(), long_ago).await;
        assert_eq!(late, Err(Fault::LeaseLost), "{:?}", case.change);
        let printed = format!("{:?} {late:?}", case.change);
        assert!(!printed.contains("555") && !printed.contains("home.test"), "{printed}");
    }
    assert!(sent(&bench).await.is_empty());
}
