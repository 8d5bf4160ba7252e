//! What `deploy/itsm` tells ticketing systems: schemas, examples, the AsyncAPI document and the tables of its README are
//! made from the code. `UPDATE_README=1 cargo test --test contract` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use mfa_reset::domain::audit::{self, Head};
use mfa_reset::domain::outcome::OutcomeKind;
use mfa_reset::domain::profile::Profiles;
use mfa_reset::domain::reason;
use mfa_reset::domain::request::Request;
use mfa_reset::domain::retry::Cause;
use mfa_reset::domain::summary::user_text;
use mfa_reset::schema;
use serde_json::Value;
use uuid::Uuid;

use super::samples::{FULL, conclusion, delayed, envelope, outcome, result_event};
use super::{assert_valid, asyncapi, validator};

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/itsm").join(name)
}

/// Holds a file against what it should be, or writes it.
#[track_caller]
fn check(name: &str, wanted: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test asks whether to write")]
    if std::env::var("UPDATE_README").is_ok() {
        fs::write(place(name), wanted).unwrap();
    }
    let written = fs::read_to_string(place(name)).unwrap_or_default();
    assert!(written == wanted, "deploy/itsm/{name}: run UPDATE_README=1 cargo test --test contract");
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[test]
fn the_schemas_are_those_of_the_program() {
    for (name, schema) in [
        ("request", schema::request()),
        ("result", schema::result()),
        ("delayed", schema::delayed()),
        ("audit", schema::audit()),
    ] {
        check(&format!("schemas/{name}.json"), &pretty(&schema));
    }
}

#[test]
fn the_examples_are_what_the_program_sends_and_takes() {
    let mut head = Head { chain: Uuid::from_u128(7), seq: 0, digest: String::new() };
    let record = audit::seal(&mut head, conclusion(&outcome())).unwrap();
    for (name, message, schema) in [
        ("result", result_event(&outcome()).body, schema::result()),
        ("delayed", delayed(Cause::UserBusy).body, schema::delayed()),
        ("audit", record, schema::audit()),
    ] {
        assert_valid(&validator(schema), &message);
        check(&format!("examples/{name}.json"), &pretty(&message));
    }
    check("examples/request.json", FULL);
    Request::parse(FULL.as_bytes(), &envelope(), &Profiles::default()).unwrap();
}

#[test]
fn the_asyncapi_document_is_made_from_the_topology_and_whole() {
    let document = asyncapi::document();
    check("asyncapi.yaml", &asyncapi::yaml(&document));
    asyncapi::assert_whole(&document, &place(""));
}

#[test]
fn the_tables_of_the_readme_say_what_the_program_does() {
    let mut readme = fs::read_to_string(place("README.md")).unwrap();
    for (name, table) in [("outcomes", outcomes()), ("fields", fields())] {
        let (begin, end) = (format!("<!-- {name}:"), format!("<!-- /{name} -->"));
        let from = readme.find(&begin).expect(name);
        let from = from + readme[from..].find('\n').unwrap() + 1;
        let to = readme.find(&end).expect(name);
        readme.replace_range(from..to, &table);
    }
    check("README.md", &readme);
}

/// Each outcome, with what the example consumer makes of it.
fn outcomes() -> String {
    let states: Value = serde_json::from_str(&fs::read_to_string(place("consumer/states.json")).unwrap()).unwrap();
    let states = states["outcomes"].as_object().unwrap();
    assert_eq!(states.len(), OutcomeKind::ALL.len(), "an outcome for each that there is, and no other");
    let mut table = "| outcome | when | the ticket | reason codes |\n|---|---|---|---|\n".to_owned();
    for kind in OutcomeKind::ALL {
        let state = states.get(kind.name()).unwrap_or_else(|| panic!("{} has no state", kind.name()));
        let reasons = reason::TABLE.iter().filter(|entry| entry.outcomes.contains(&kind));
        let reasons: Vec<String> = reasons.map(|entry| format!("`{}`", entry.code)).collect();
        let reasons = if reasons.is_empty() { "none yet".to_owned() } else { reasons.join(" ") };
        let (when, state) = (state["when"].as_str().unwrap(), state["state"].as_str().unwrap());
        table += &format!("| `{}` | {when} | {state} | {reasons} |\n", kind.name());
        let (kind, text) = (kind, user_text(&mfa_reset::domain::outcome::Outcome { kind, ..outcome() }));
        assert!(!text.is_empty(), "{kind:?}");
    }
    table
}

/// The fields of `data` of both events.
fn fields() -> String {
    let [result, delayed] = [schema::result(), schema::delayed()].map(|schema| schema["properties"]["data"].clone());
    let mut table = "| field | type | in |\n|---|---|---|\n".to_owned();
    let properties = |data: &Value| data["properties"].as_object().unwrap().clone();
    let mut all = properties(&delayed);
    all.extend(properties(&result));
    for (name, field) in &all {
        let kind = match &field["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            Value::Null if field["enum"].is_array() => "string".to_owned(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => panic!("{name} has no type"),
        };
        let kind = if field["format"] == "date-time" { "time".to_owned() } else { kind };
        let [in_result, in_delayed] = [&result, &delayed].map(|data| data["properties"].get(name).is_some());
        let place = match (in_result, in_delayed) {
            (true, true) => "both",
            (true, false) => "results",
            (false, _) => "delays",
        };
        table += &format!("| `{name}` | {kind} | {place} |\n");
    }
    table
}
