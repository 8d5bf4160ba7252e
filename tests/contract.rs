//! What others rely on: requests that are accepted and refused, and the shape of everything that is sent.
//!
//! A snapshot that changes is a change of contract: look twice before accepting it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "contract/asyncapi.rs"]
mod asyncapi;
#[path = "contract/itsm.rs"]
mod itsm;
#[path = "contract/samples.rs"]
mod samples;

use jsonschema::Validator;
use mfa_reset::domain::audit::{self, Head, Subject};
use mfa_reset::domain::guard::{Decision, Rule};
use mfa_reset::domain::method;
use mfa_reset::domain::outcome::{Outcome, OutcomeKind};
use mfa_reset::domain::profile::{BUILT_IN, Profiles};
use mfa_reset::domain::reason::{self, Reason};
use mfa_reset::domain::request::Request;
use mfa_reset::domain::retry::Cause;
use mfa_reset::domain::task::STEPS;
use mfa_reset::schema;
use samples::{FULL, MINIMAL, NULLS, changed, conclusion, delayed, envelope, full, intent, now, of_any_version};
use samples::{outcome, policy, rejection, result_event, settled, subject};
use serde_json::{Value, json};
use uuid::Uuid;

// Requests.

#[test]
fn golden_requests_are_accepted_by_parser_and_schema() {
    let schema = validator(schema::request());
    for body in [FULL, MINIMAL, NULLS] {
        Request::parse(body.as_bytes(), &envelope(), &Profiles::default()).unwrap();
        assert_valid(&schema, &serde_json::from_str(body).unwrap());
    }
}

/// Puts `value` at `pointer` of the full request (null takes the field away) and expects a flaw at `flaw`.
#[track_caller]
fn check_refused(pointer: &str, value: Value, flaw: &str) -> Value {
    let body = changed(pointer, value);
    let malformed = Request::parse(body.to_string().as_bytes(), &envelope(), &Profiles::default()).expect_err(pointer);
    assert_eq!(malformed.flaw.pointer, flaw, "{}", malformed.flaw.reason);
    body
}

#[test]
fn what_the_parser_refuses_the_schema_refuses_too() {
    let schema = validator(schema::request());
    for (pointer, value, flaw) in refused() {
        let body = check_refused(pointer, value, flaw);
        assert!(!schema.is_valid(&body), "the schema accepts what the parser refuses: {pointer}");
    }
}

#[test]
fn what_only_the_parser_can_tell() {
    check_refused("/id", Value::Null, "/id");
    check_refused("/profile", json!("everything"), "/profile");
    check_refused("/expires_at", json!("2026-11-21T09:15:07Z"), "/expires_at");
    for (body, flaw) in [
        (r#"{"id":"1","id":"2"}"#, "/id"),
        (r#"{"ticket":{"number":"1","number":"2"}}"#, "/ticket/number"),
        (r#"{"keep":[{"a":1,"a":2}]}"#, "/keep/0/a"),
        ("{", ""),
        ("", ""),
        ("\u{feff}{}", ""),
    ] {
        assert_eq!(
            Request::parse(body.as_bytes(), &envelope(), &Profiles::default()).unwrap_err().flaw.pointer,
            flaw,
            "{body}"
        );
    }
}

fn refused() -> Vec<(&'static str, Value, &'static str)> {
    let long = |length: usize| json!("x".repeat(length));
    vec![
        ("", json!([]), ""),
        ("/surplus", json!(1), "/surplus"),
        ("/ticket/a~1b", json!(1), "/ticket/a~1b"),
        ("/kind", json!("delete"), "/kind"),
        ("/kind", json!("batch"), "/kind"),
        ("/steps", json!([{"revoke_sessions": {}}]), "/steps"),
        ("/profile", json!(7), "/profile"),
        ("/id", long(256), "/id"),
        ("/id", json!(" \t"), "/id"),
        ("/ticket", Value::Null, "/ticket"),
        ("/ticket", json!("INC1"), "/ticket"),
        ("/ticket/system", json!("ServiceNow"), "/ticket/system"),
        ("/ticket/system", long(33), "/ticket/system"),
        ("/ticket/number", Value::Null, "/ticket/number"),
        ("/ticket/url", json!("javascript:alert(1)"), "/ticket/url"),
        ("/target", Value::Null, "/target"),
        ("/target", json!({}), "/target"),
        ("/target", json!({"upn": null}), "/target"),
        ("/target/object_id", json!("2f1a9b0c00004000800000000000000a"), "/target/object_id"),
        ("/target/upn", json!("ada"), "/target/upn"),
        ("/target/upn", json!("a@b@c"), "/target/upn"),
        ("/target/mail", json!("ada l@contoso.test"), "/target/mail"),
        ("/profile", Value::Null, "/profile"),
        ("/requested_by", Value::Null, "/requested_by"),
        ("/requested_by", long(321), "/requested_by"),
        ("/requested_at", json!("2026-11-21T09:15:07"), "/requested_at"),
        ("/expires_at", json!("2026-13-21T09:15:07Z"), "/expires_at"),
        ("/verification", json!(vec![json!({"method": "push"}); 11]), "/verification"),
        ("/verification/0/method", json!("trust me"), "/verification/0/method"),
        ("/verification/0/at", json!(1), "/verification/0/at"),
        ("/approvals/0/by", Value::Null, "/approvals/0/by"),
        ("/approvals/0/role", json!("lead"), "/approvals/0/role"),
        ("/keep/0", json!("fido3"), "/keep/0"),
        ("/keep", json!(vec!["fido2"; 16]), "/keep"),
        ("/dry_run", json!("false"), "/dry_run"),
        ("/reason", json!("a\u{0}b"), "/reason"),
        ("/reason", long(4001), "/reason"),
    ]
}

#[test]
fn lengths_at_the_limit_are_accepted() {
    let schema = validator(schema::request());
    for (pointer, length) in [("/id", 255), ("/ticket/number", 255), ("/requested_by", 320), ("/reason", 4000)] {
        let body = changed(pointer, json!("é".repeat(length)));
        assert!(Request::parse(body.to_string().as_bytes(), &envelope(), &Profiles::default()).is_ok(), "{pointer}");
        assert_valid(&schema, &body);
    }
}

#[test]
fn verification_methods_profiles_and_types_are_those_of_the_code() {
    let schema = schema::request();
    let words = |pointer: &str| schema.pointer(pointer).unwrap().as_array().unwrap().len();
    assert_eq!(words("/properties/verification/items/properties/method/enum"), 6);
    assert_eq!(words("/properties/profile/examples"), BUILT_IN.len());
    assert_eq!(words("/properties/steps/items/oneOf"), STEPS.len());
    assert_eq!(words("/properties/keep/items/enum"), method::TABLE.len());
}

// Events.

#[test]
fn every_result_matches_its_schema() {
    let schema = closed(schema::result());
    for entry in &reason::TABLE {
        for kind in entry.outcomes {
            let event = result_event(&Outcome { kind: *kind, reason: entry.reason, ..outcome() });
            assert_valid(&schema, &event.body);
            assert_eq!(event.routing_key, format!("result.{}.servicenow", kind.name()));
        }
    }
}

#[test]
fn every_rejection_matches_the_schema_of_results() {
    let schema = closed(schema::result());
    for body in ["{", "[]", r#"{"ticket":{"system":"a.b.#","number":7}}"#, r#"{"id":"1","kind":"cancel"}"#] {
        let event = rejection(body);
        assert_valid(&schema, &event.body);
        assert_eq!(event.routing_key, "result.rejected.unknown");
    }
}

#[test]
fn every_delay_matches_its_schema() {
    let schema = closed(schema::delayed());
    for cause in Cause::ALL {
        assert_valid(&schema, &delayed(cause).body);
    }
}

#[test]
fn a_result_with_an_outcome_and_a_reason_that_do_not_go_together_does_not_match() {
    let event = result_event(&Outcome { kind: OutcomeKind::Succeeded, reason: Reason::Residual, ..outcome() });
    assert!(!validator(schema::result()).is_valid(&event.body));
}

#[test]
fn a_consumer_may_ignore_what_it_does_not_know() {
    let mut event = result_event(&outcome());
    event.body["data"]["later"] = 1.into();
    assert_valid(&validator(schema::result()), &event.body);
    assert!(!closed(schema::result()).is_valid(&event.body));
}

#[test]
fn the_data_of_a_result_has_exactly_the_promised_fields() {
    let promised = "request_id ticket_system ticket_number ticket_id ticket_url outcome reason_code summary work_note \
        user_text verified sessions_revoked methods_removed methods_left attempts started_at finished_at dry_run \
        target_object_id methods steps";
    let mut promised: Vec<&str> = promised.split_whitespace().collect();
    promised.sort_unstable();
    for body in [result_event(&outcome()).body, rejection("{").body] {
        let mut fields: Vec<&String> = body["data"].as_object().unwrap().keys().collect();
        fields.sort_unstable();
        assert_eq!(fields, promised);
    }
}

#[test]
fn events_look_like_this() {
    insta::assert_json_snapshot!("result", result_event(&outcome()).body);
    insta::assert_json_snapshot!("rejection", rejection(r#"{"id":"INC1","ticket":{"system":"jira"}}"#).body);
    insta::assert_json_snapshot!("delayed", delayed(Cause::UserBusy).body);
}

// Audit records.

#[test]
fn every_audit_record_matches_the_schema() {
    let schema = validator(schema::audit());
    let mut head = Head { chain: Uuid::from_u128(7), seq: 0, digest: String::new() };
    let heads = [Head { chain: Uuid::from_u128(6), seq: 9, digest: "00".repeat(32) }];
    assert_valid(&schema, &audit::seal(&mut head, audit::birth("host-1", &heads, true, now())).unwrap());
    assert_valid(&schema, &audit::seal(&mut head, intent()).unwrap());
    for entry in &reason::TABLE {
        for kind in entry.outcomes {
            let outcome = Outcome { kind: *kind, reason: entry.reason, ..outcome() };
            assert_valid(&schema, &audit::seal(&mut head, conclusion(&outcome)).unwrap());
        }
    }
    for event_code in ["dead_letter_replayed", "dead_letter_discarded"] {
        assert_valid(&schema, &audit::seal(&mut head, settled(event_code)).unwrap());
    }
    for rule in Rule::ALL {
        let (request, policy) = (full(), policy());
        let subject = Subject { decision: Some(Decision::Deny(rule)), user: None, ..subject(&request, &policy) };
        let denied = Outcome::untouched(OutcomeKind::Denied, rule.reason(), Some(rule.name().to_owned()));
        assert_valid(&schema, &audit::seal(&mut head, audit::conclusion(&subject, &denied, now())).unwrap());
    }
}

#[test]
fn an_audit_record_that_lacks_its_place_or_its_outcome_does_not_match() {
    let schema = validator(schema::audit());
    let mut head = Head { chain: Uuid::from_u128(7), seq: 0, digest: String::new() };
    assert!(!schema.is_valid(&conclusion(&outcome())), "not sealed");
    let mut sealed = audit::seal(&mut head, conclusion(&outcome())).unwrap();
    sealed["unmapped"].as_object_mut().unwrap().remove("outcome");
    assert!(!schema.is_valid(&sealed));
}

#[test]
fn audit_records_look_like_this() {
    let mut head = Head { chain: Uuid::from_u128(7), seq: 0, digest: String::new() };
    insta::assert_json_snapshot!("audit_intent", of_any_version(audit::seal(&mut head, intent()).unwrap()));
    insta::assert_json_snapshot!(
        "audit_conclusion",
        of_any_version(audit::seal(&mut head, conclusion(&outcome())).unwrap())
    );
    let settled = audit::seal(&mut head, settled("dead_letter_replayed")).unwrap();
    assert!(!settled.to_string().contains("phone stolen"), "no body");
    insta::assert_json_snapshot!("audit_dead_letter_replayed", of_any_version(settled));
}

fn validator(schema: Value) -> Validator {
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

/// The schema of what we send, with nothing allowed that it does not name.
fn closed(mut schema: Value) -> Validator {
    fn close(value: &mut Value) {
        if value["type"] == "object" {
            value["additionalProperties"] = false.into();
        }
        let parts = value.as_object_mut().into_iter().flat_map(|object| object.values_mut());
        parts.filter(|part| part.is_object()).for_each(close);
    }
    close(&mut schema);
    validator(schema)
}

#[track_caller]
fn assert_valid(schema: &Validator, value: &Value) {
    let flaws: Vec<String> =
        schema.iter_errors(value).map(|flaw| format!("{}: {flaw}", flaw.instance_path())).collect();
    assert!(flaws.is_empty(), "{flaws:#?}\n{value:#}");
}
