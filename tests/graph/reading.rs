//! Reading calls: tried a few times, read to the last page, within bounds, and never led astray.

use std::time::Duration;

use jiff::Timestamp;
use mfa_reset::adapters::graph::{Graph, Operation, SetUpError, Status, Trail};
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::Reach;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::{Lane, Target};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::Instant;
use wiremock::{MockServer, ResponseTemplate};

use crate::bench::{Bench, METHODS_PATH, PHONE_ID, USER, error, settings};

const AWAY: Fault = Fault::Transient { reason: Reason::GraphUnavailable };

async fn list(bench: &Bench) -> Result<Vec<Method>, Fault> {
    bench.graph.list_methods(Lane::Tickets, USER, &Reach::default(), &Trail::default()).await
}

fn reply(status: u16, body: Value) -> impl Fn(usize, &wiremock::Request) -> ResponseTemplate + Send + Sync {
    move |_, _| ResponseTemplate::new(status).set_body_json(&body).insert_header("Location", "/x")
}

#[rstest]
#[case(403, Reason::Forbidden)]
#[case(404, Reason::UserNotFound)]
#[case(400, Reason::GraphRefused)]
#[case(405, Reason::GraphRefused)]
#[case(302, Reason::GraphRefused)]
#[tokio::test]
async fn a_final_answer_is_not_asked_for_again(#[case] status: u16, #[case] reason: Reason) {
    let bench = Bench::new().await;
    bench.answer(METHODS_PATH, reply(status, error("x", "y"))).await;
    assert_eq!(list(&bench).await, Err(Fault::Permanent { reason }));
    assert_eq!(bench.requests(METHODS_PATH).await.len(), 1);
    assert_eq!(bench.requests("/x").await.len(), 0);
}

#[rstest]
#[case::server_error(500, json!({}))]
#[case::conflict(409, json!({}))]
#[case::not_an_object(200, json!("<html>"))]
#[tokio::test]
async fn what_may_pass_is_tried_four_times(#[case] status: u16, #[case] body: Value) {
    let bench = Bench::new().await;
    bench.answer(METHODS_PATH, reply(status, body)).await;
    let trail = Trail::default();
    assert_eq!(bench.graph.list_methods(Lane::Batch, USER, &Reach::default(), &trail).await, Err(AWAY));
    let sent = bench.requests(METHODS_PATH).await;
    let sent: Vec<_> = sent.iter().map(|request| request.headers["client-request-id"].to_str().unwrap()).collect();
    let noted: Vec<String> = trail.take().iter().map(ToString::to_string).collect();
    assert_eq!((sent.len(), sent), (4, noted.iter().map(String::as_str).collect()));
    assert!(trail.take().is_empty());
}

#[tokio::test]
async fn an_answer_beyond_bounds_is_not_read() {
    let bench = Bench::new().await;
    bench
        .answer(METHODS_PATH, |n, _| match n {
            1 => ResponseTemplate::new(200).set_body_bytes(vec![b' '; 5 * 1024 * 1024]),
            _ => ResponseTemplate::new(200).set_body_json(json!({"value": []})),
        })
        .await;
    assert_eq!(list(&bench).await, Ok(vec![]));
    assert_eq!(bench.statuses(Operation::ListMethods), [Status::Body, Status::Code(200)]);
}

#[tokio::test]
async fn a_short_hold_is_waited_for_and_never_cut_short() {
    let bench = Bench::new().await;
    bench
        .answer(METHODS_PATH, |n, _| match n {
            1 => ResponseTemplate::new(429).insert_header("Retry-After", "1.2"),
            _ => ResponseTemplate::new(200).set_body_json(json!({"value": []})),
        })
        .await;
    let started = Instant::now();
    assert_eq!(list(&bench).await, Ok(vec![]));
    assert!(started.elapsed() >= Duration::from_millis(1200));
}

#[tokio::test]
async fn a_long_hold_is_left_to_the_caller() {
    let bench = Bench::new().await;
    bench.answer(METHODS_PATH, |_, _| ResponseTemplate::new(429).insert_header("Retry-After", "120")).await;
    let Err(Fault::Throttled { after }) = list(&bench).await else { panic!("throttled is expected") };
    assert!(after > Duration::from_secs(119));
    assert_eq!(bench.requests(METHODS_PATH).await.len(), 1);
    let held = bench.graph.held_until().unwrap().duration_since(Timestamp::now());
    assert!(held.as_secs() >= 118);
}

fn methods_page(server: &str) -> Value {
    let kind = |name: &str| format!("#microsoft.graph.{name}AuthenticationMethod");
    json!({"value": [
        {"@odata.type": kind("phone"), "id": PHONE_ID, "phoneType": "mobile", "phoneNumber": "+1 5555550100"},
        {"@odata.type": kind("phone"), "id": PHONE_ID, "phoneType": "mobile", "phoneNumber": null},
        {"@odata.type": kind("fido2"), "id": "k", "aaGuid": "2FC0579F-8113-47EA-B116-555A8DB9202A", "passkeyType": "synced"},
        {"@odata.type": kind("brandNew"), "id": "n", "surprise": {"x": [1]}},
    ], "@odata.nextLink": format!("{server}/v1.0/more?$skiptoken=a%20b")})
}

#[tokio::test]
async fn every_page_is_read_and_no_number_leaves() {
    let bench = Bench::new().await;
    bench.answer(METHODS_PATH, reply(200, methods_page(&bench.server.uri()))).await;
    bench.answer("/v1.0/more", reply(200, json!({"value": [{"id": "untyped"}], "@odata.nextLink": null}))).await;
    let listed = list(&bench).await.unwrap();
    let types: Vec<_> = listed.iter().map(|method| method.method_type).collect();
    use MethodType::{Fido2, PhoneMobile, Unknown};
    assert_eq!(types, [PhoneMobile, PhoneMobile, Fido2, Unknown, Unknown]);
    assert!(listed[0].digest.as_ref().is_some_and(|digest| digest.len() == 64));
    assert_eq!(listed[1].digest, None);
    assert_eq!(listed[2].aaguid.as_deref(), Some("2fc0579f-8113-47ea-b116-555a8db9202a"));
    assert!(listed[2].synced && !format!("{listed:?}").contains("5555550100"));
    let more = bench.requests("/v1.0/more").await;
    assert_eq!(more[0].url.query(), Some("$skiptoken=a%20b"), "a link is followed as it is");
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_not_followed() {
    let bench = Bench::new().await;
    let other = MockServer::start().await;
    for link in
        [format!("{}/v1.0/more", other.uri()), format!("http://x@{}/more", bench.server.address()), "/more".to_owned()]
    {
        bench.server.reset().await;
        bench.grant(|_| json!({"access_token": "token", "expires_in": 3599})).await;
        bench.answer(METHODS_PATH, reply(200, json!({"value": [], "@odata.nextLink": link}))).await;
        assert_eq!(list(&bench).await, Err(AWAY), "{link}");
        assert_eq!(bench.requests("/more").await.len(), 0);
    }
    assert!(other.received_requests().await.unwrap().is_empty(), "no token is sent elsewhere");
}

#[tokio::test]
async fn a_list_without_end_is_given_up() {
    let bench = Bench::new().await;
    let link = format!("{}{METHODS_PATH}", bench.server.uri());
    bench.answer(METHODS_PATH, reply(200, json!({"value": [], "@odata.nextLink": link}))).await;
    assert_eq!(list(&bench).await, Err(AWAY));
    assert_eq!(bench.requests(METHODS_PATH).await.len(), 51);
}

fn target(object_id: Option<&str>, upn: Option<&str>, mail: Option<&str>) -> Target {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Target { object_id: owned(object_id), upn: owned(upn), mail: owned(mail) }
}

fn ada(id: &str) -> Value {
    json!({"id": id, "userPrincipalName": "Ada@Contoso.com", "mail": "Ada.L@Contoso.com",
        "proxyAddresses": ["SMTP:Ada.L@contoso.com", "smtp:countess@contoso.com", "sip:ada@sip.example"]})
}

#[rstest]
#[case::id(target(Some(USER), None, None), USER, true)]
#[case::all(target(Some(USER), Some("ada@contoso.com"), Some("countess@contoso.com")), USER, true)]
#[case::upn(target(None, Some("ada@contoso.com"), Some("ada.l@contoso.com")), "ada@contoso.com", true)]
#[case::guest(target(None, Some("a_b.org#ext#@contoso.com"), None), "a_b.org%23ext%23@contoso.com", false)]
#[case::other_upn(target(Some(USER), Some("bob@contoso.com"), None), USER, false)]
#[case::other_mail(target(Some(USER), None, Some("bob@contoso.com")), USER, false)]
#[case::not_a_mail(target(Some(USER), None, Some("ada@sip.example")), USER, false)]
#[tokio::test]
async fn every_identifier_of_the_target_must_agree(
    #[case] target: Target,
    #[case] segment: &str,
    #[case] agrees: bool,
) {
    let bench = Bench::new().await;
    bench.answer(&format!("/v1.0/users/{segment}"), reply(200, ada(USER))).await;
    let resolved = bench.graph.resolve(Lane::Tickets, &target, &Trail::default()).await;
    if agrees {
        let user = resolved.unwrap();
        assert_eq!((user.object_id.as_str(), user.upn.as_deref()), (USER, Some("ada@contoso.com")));
        assert_eq!(user.addresses.unwrap(), ["ada.l@contoso.com", "countess@contoso.com", "ada@sip.example"]);
    } else {
        assert_eq!(resolved, Err(Fault::Permanent { reason: Reason::TargetMismatch }));
    }
}

#[tokio::test]
async fn a_name_that_begins_with_a_dollar_is_quoted() {
    let bench = Bench::new().await;
    bench.answer("/v1.0/users('%24o%27%27x@contoso.com')", reply(404, json!({}))).await;
    let target = target(None, Some("$o'x@contoso.com"), None);
    let fault = bench.graph.resolve(Lane::Tickets, &target, &Trail::default()).await;
    assert_eq!(fault, Err(Fault::Permanent { reason: Reason::UserNotFound }));
    assert_eq!(bench.server.received_requests().await.unwrap().len(), 2);
    assert_eq!(bench.statuses(Operation::GetUser), [Status::Code(404)]);
}

const OTHER: &str = "00000000-0000-0000-0000-000000000002";

#[rstest]
#[case::nobody(json!([]), json!([]), Err(Reason::UserNotFound))]
#[case::by_main(json!([ada(USER)]), json!([]), Ok(()))]
#[case::by_proxy(json!([]), json!([ada(USER)]), Ok(()))]
#[case::by_both(json!([ada(USER)]), json!([ada(USER)]), Ok(()))]
#[case::two(json!([ada(USER), ada(OTHER)]), json!([]), Err(Reason::AmbiguousTarget))]
#[case::two_places(json!([ada(USER)]), json!([ada(OTHER)]), Err(Reason::AmbiguousTarget))]
#[tokio::test]
async fn a_mail_address_must_mean_one_user(
    #[case] main: Value,
    #[case] proxy: Value,
    #[case] found: Result<(), Reason>,
) {
    let bench = Bench::new().await;
    bench
        .answer("/v1.0/users", move |_, request| {
            let filter = request.url.query_pairs().find(|(name, _)| name == "$filter").unwrap().1.into_owned();
            let rows = match filter.as_str() {
                "mail eq 'countess@contoso.com'" => &main,
                "proxyAddresses/any(p:p eq 'smtp:countess@contoso.com')" => &proxy,
                other => panic!("{other}"),
            };
            ResponseTemplate::new(200).set_body_json(json!({"value": rows}))
        })
        .await;
    let target = target(None, None, Some("countess@contoso.com"));
    let resolved = bench.graph.resolve(Lane::Batch, &target, &Trail::default()).await;
    assert_eq!(resolved.map(|_| ()), found.map_err(|reason| Fault::Permanent { reason }));
}

#[rstest]
#[case::plain("http://graph.example.com", "https://login.example.com", 50.0)]
#[case::plain_authority("https://graph.example.com", "http://login.example.com", 50.0)]
#[case::version("https://graph.example.com/v1.0", "https://login.example.com", 50.0)]
#[case::password("https://a:b@graph.example.com", "https://login.example.com", 50.0)]
#[case::scheme("ftp://graph.example.com", "https://login.example.com", 50.0)]
#[case::no_rate("http://127.0.0.1:1", "http://[::1]:1", 0.0)]
#[case::no_number("http://localhost:1", "http://127.0.0.1:1", f64::NAN)]
fn settings_that_will_not_do_are_refused(#[case] endpoint: &str, #[case] authority: &str, #[case] rate: f64) {
    let mut settings = settings(endpoint, authority, &std::sync::Arc::default());
    settings.requests_per_second = rate;
    let refused = Graph::new(settings).err();
    assert!(matches!(refused, Some(SetUpError::Address { .. } | SetUpError::NotPositive { .. })), "{refused:?}");
}
