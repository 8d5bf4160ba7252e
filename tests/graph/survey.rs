//! The survey: one batch, every page, and nothing that is missing is taken for nothing.

use std::collections::HashMap;
use std::time::Duration;

use mfa_reset::adapters::graph::{Operation, Status, Trail};
use mfa_reset::domain::guard::{Facts, Lookup, Membership};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::Lane;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::Instant;
use wiremock::{Request, ResponseTemplate};

use crate::bench::{Bench, USER, error};

const QUESTIONS: [&str; 5] =
    ["methods", "transitiveMemberOf", "roleAssignments", "roleEligibilityScheduleInstances", "groups"];
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Answers the items of a batch backwards: the special answer where there is one, else an empty list.
fn batch(special: HashMap<&'static str, Value>) -> impl Fn(usize, &Request) -> ResponseTemplate + Send + Sync {
    move |_, request| {
        let body: Value = request.body_json().unwrap();
        let requests = body["requests"].as_array().unwrap().iter().rev();
        let responses: Vec<Value> = requests
            .filter_map(|item| {
                let path = item["url"].as_str().unwrap().split('?').next().unwrap();
                let name = QUESTIONS.into_iter().find(|name| path.ends_with(name)).unwrap_or(QUESTIONS[0]);
                let empty = json!({"status": 200, "headers": {}, "body": {"value": []}});
                let mut answer = special.get(name).cloned().unwrap_or(empty);
                answer.as_object_mut()?.insert("id".to_owned(), item["id"].clone());
                Some(answer)
            })
            .collect();
        ResponseTemplate::new(200).set_body_json(json!({"responses": responses})).insert_header("Date", DATE)
    }
}

async fn survey(bench: &Bench) -> Result<Facts, Fault> {
    bench.graph.survey(Lane::Tickets, USER, &Trail::default()).await
}

async fn survey_with(name: &'static str, answer: Value) -> (Bench, Result<Facts, Fault>) {
    let bench = Bench::new().await;
    bench.answer("/v1.0/$batch", batch(HashMap::from([(name, answer)]))).await;
    let facts = survey(&bench).await;
    (bench, facts)
}

#[tokio::test]
async fn five_questions_are_asked_in_one_batch_and_read_to_the_last_page() {
    let bench = Bench::new().await;
    let group = json!({"@odata.type": "#microsoft.graph.group", "id": "G1", "isAssignableToRole": null, "securityEnabled": true});
    let more = format!("{}/v1.0/more", bench.server.uri());
    let memberships = json!({"status": 200, "body": {"value": [group], "@odata.nextLink": more}});
    let groups = json!({"status": 200, "body": {"value": [{"id": "G2"}]}});
    let assignments = json!({"status": 200, "body": {"value": [{"roleDefinitionId": "R1"}, {"id": "x"}]}});
    let special =
        HashMap::from([("transitiveMemberOf", memberships), ("groups", groups), ("roleAssignments", assignments)]);
    bench.answer("/v1.0/$batch", batch(special)).await;
    let role = json!({"@odata.type": "#microsoft.graph.directoryRole", "id": "r", "roleTemplateId": "T1"});
    bench.answer("/v1.0/more", move |_, _| ResponseTemplate::new(200).set_body_json(json!({"value": [role]}))).await;
    let trail = Trail::default();
    let facts = bench.graph.survey(Lane::Batch, USER, &trail).await.unwrap();
    let group = Membership::Group { id: "g1".to_owned(), assignable_to_role: None, readable: true };
    assert_eq!(facts.memberships, Lookup::Complete(vec![group, Membership::Role(Some("t1".to_owned()))]));
    assert_eq!(facts.role_assignable_groups, Lookup::Complete(vec!["g2".to_owned()]));
    assert_eq!(facts.assignments, Lookup::Complete(vec![Some("r1".to_owned()), None]));
    assert_eq!(facts.eligibilities, Lookup::Complete(vec![]));
    assert_eq!((facts.methods.len(), facts.last_reset), (0, None));
    assert_eq!(facts.read_at, "1994-11-06T08:49:37Z".parse().unwrap());
    assert_eq!(trail.take().len(), 7, "the batch, its five items and the second page");
    let body: Value = bench.requests("/v1.0/$batch").await[0].body_json().unwrap();
    let urls: Vec<&str> =
        body["requests"].as_array().unwrap().iter().map(|item| item["url"].as_str().unwrap()).collect();
    assert!(urls[1].contains("$top=999") && !urls[1].contains("microsoft.graph"), "{}", urls[1]);
    assert!(urls[2].starts_with("/groups?$filter=isAssignableToRole%20eq%20true&"), "{}", urls[2]);
    assert!(urls[4].ends_with(&format!("?$filter=principalId%20eq%20'{USER}'")), "{}", urls[4]);
    assert_eq!(bench.statuses(Operation::ListRoleEligibilities), [Status::Code(200)]);
    assert_eq!(bench.statuses(Operation::Batch), [Status::Code(200)]);
}

#[rstest]
#[case::forbidden(json!({"status": 403, "body": error("Authorization_RequestDenied", "Insufficient privileges")}))]
#[case::bad_request(json!({"status": 400, "body": error("BadRequest", "no")}))]
#[case::not_found(json!({"status": 404, "body": null}))]
#[case::no_list(json!({"status": 200, "body": {}}))]
#[case::not_rows(json!({"status": 200, "body": {"value": [1]}}))]
#[case::elsewhere(json!({"status": 200, "body": {"value": [], "@odata.nextLink": "https://evil.example/x"}}))]
#[case::strange_link(json!({"status": 200, "body": {"value": [], "@odata.nextLink": 7}}))]
#[tokio::test]
async fn a_look_up_that_fails_is_said_to_have_failed(
    #[case] answer: Value,
    #[values("transitiveMemberOf", "roleAssignments", "roleEligibilityScheduleInstances", "groups")] name: &'static str,
) {
    let (_bench, facts) = survey_with(name, answer).await;
    let facts = facts.unwrap();
    let failed = [
        facts.memberships == Lookup::Failed,
        facts.assignments == Lookup::Failed,
        facts.eligibilities == Lookup::Failed,
        facts.role_assignable_groups == Lookup::Failed,
    ];
    assert_eq!(failed, [1, 2, 3, 4].map(|place| name == QUESTIONS[place]));
}

#[tokio::test]
async fn only_eligibilities_may_lack_a_licence_and_only_in_so_many_words() {
    let words = "The tenant needs to have Microsoft Entra ID P2 or Microsoft Entra ID Governance license.";
    for (status, body) in [(400, error("AadPremiumLicenseRequired", "")), (403, error("Forbidden", words))] {
        let (_bench, facts) =
            survey_with("roleEligibilityScheduleInstances", json!({"status": status, "body": body})).await;
        assert_eq!(facts.unwrap().eligibilities, Lookup::NotLicensed);
        let (_bench, facts) = survey_with("roleAssignments", json!({"status": status, "body": body})).await;
        assert_eq!(facts.unwrap().assignments, Lookup::Failed);
    }
    let (_bench, facts) =
        survey_with("roleEligibilityScheduleInstances", json!({"status": 400, "body": error("x", "a license")})).await;
    assert_eq!(facts.unwrap().eligibilities, Lookup::Failed);
}

#[rstest]
#[case(403, Reason::Forbidden)]
#[case(404, Reason::UserNotFound)]
#[case(400, Reason::GraphRefused)]
#[tokio::test]
async fn without_methods_there_is_no_survey(#[case] status: u16, #[case] reason: Reason) {
    let (_bench, facts) = survey_with(QUESTIONS[0], json!({"status": status, "body": error("x", "y")})).await;
    assert_eq!(facts.err(), Some(Fault::Permanent { reason }));
}

#[rstest]
#[case::number(json!(1))]
#[case::text(json!("1"))]
#[tokio::test]
async fn a_throttled_item_is_asked_for_again_alone_and_not_too_early(#[case] wait: Value) {
    let bench = Bench::new().await;
    let throttled = json!({"status": 429, "headers": {"retry-after": wait}, "body": error("TooManyRequests", "")});
    let first = batch(HashMap::from([("roleAssignments", throttled)]));
    let then = batch(HashMap::new());
    bench.answer("/v1.0/$batch", move |n, request| if n == 1 { first(n, request) } else { then(n, request) }).await;
    let started = Instant::now();
    let facts = survey(&bench).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(facts.assignments, Lookup::Complete(vec![]));
    let batches = bench.requests("/v1.0/$batch").await;
    let again: Value = batches[1].body_json().unwrap();
    let again = again["requests"].as_array().unwrap();
    assert_eq!((batches.len(), again.len()), (2, 1));
    assert!(again[0]["url"].as_str().unwrap().contains("roleAssignments"));
}

#[rstest]
#[case::gateway(json!({"status": 502, "body": null}))]
#[case::garbled(json!({"status": 200, "body": "{\"value\":["}))]
#[case::no_body(json!({"status": 200}))]
#[case::no_status(json!({"body": {"value": []}}))]
#[tokio::test]
async fn an_item_that_stays_away_defers_the_job_and_denies_nobody(#[case] answer: Value) {
    let (bench, facts) = survey_with(QUESTIONS[1], answer).await;
    assert_eq!(facts.err(), Some(Fault::Transient { reason: Reason::GraphUnavailable }));
    assert_eq!(bench.requests("/v1.0/$batch").await.len(), 4);
}

#[tokio::test]
async fn an_item_throttled_for_long_defers_the_job() {
    let throttled = json!({"status": 429, "headers": {"Retry-After": "300"}, "body": null});
    let (bench, facts) = survey_with(QUESTIONS[0], throttled).await;
    assert!(matches!(facts, Err(Fault::Throttled { after }) if after > Duration::from_secs(298)));
    assert_eq!(bench.requests("/v1.0/$batch").await.len(), 1);
}

#[tokio::test]
async fn an_item_without_an_answer_is_asked_for_again() {
    let bench = Bench::new().await;
    let then = batch(HashMap::new());
    bench
        .answer("/v1.0/$batch", move |n, request| match n {
            1 => ResponseTemplate::new(200).set_body_json(json!({"responses": []})),
            _ => then(n, request),
        })
        .await;
    assert!(survey(&bench).await.is_ok());
}

#[tokio::test]
async fn an_item_whose_token_is_refused_is_asked_for_with_another() {
    let bench = Bench::new().await;
    let first = batch(HashMap::from([("methods", json!({"status": 401, "body": null}))]));
    let then = batch(HashMap::new());
    bench.answer("/v1.0/$batch", move |n, request| if n == 1 { first(n, request) } else { then(n, request) }).await;
    assert!(survey(&bench).await.is_ok());
    assert_eq!(bench.requests("/v1.0/$batch").await[1].headers["authorization"], "Bearer token-2");
}
