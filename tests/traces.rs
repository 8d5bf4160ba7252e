//! The trace of a request: said to Graph with every call that is made for it, and with the feature `otlp` told to a
//! collector.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "traces/stage.rs"]
mod stage;
#[cfg(feature = "otlp")]
#[path = "traces/told.rs"]
mod told;
#[cfg(feature = "otlp")]
#[path = "traces/wire.rs"]
mod wire;

use std::collections::BTreeSet;

use serde_json::Value;
use stage::Stage;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Trace, parent and flags of a call, as it said them.
fn said(entry: &Value) -> (String, String, String) {
    let text = entry["traceparent"].as_str().unwrap_or_else(|| panic!("{entry}"));
    let parts: Vec<&str> = text.split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{text}");
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

/// The one trace of all calls; each of them has a parent of its own.
fn one_trace(calls: &[Value]) -> String {
    let all: Vec<_> = calls.iter().map(said).collect();
    let traces: BTreeSet<_> = all.iter().map(|(trace, ..)| trace.clone()).collect();
    let parents: BTreeSet<_> = all.iter().map(|(_, parent, _)| parent.as_str()).collect();
    assert_eq!((traces.len(), parents.len()), (1, calls.len()), "{all:?}");
    traces.into_iter().next().unwrap()
}

fn operations(calls: &[Value]) -> BTreeSet<&str> {
    calls.iter().map(|call| call["operation"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_call_for_a_request_says_its_trace_and_a_parent_of_its_own() {
    let stage = Stage::new(2).await;
    let calls = stage.work("traced", 1, Some(&format!("00-{TRACE}-{SPAN}-01"))).await;
    assert_eq!(one_trace(&calls), TRACE);
    assert!(calls.iter().all(|call| said(call).2 == "01" && said(call).1 != SPAN));
    let made = operations(&calls);
    for operation in ["get_user", "batch", "list_role_assignments", "delete_method", "revoke_sessions", "list_methods"]
    {
        assert!(made.contains(operation), "{operation} of {made:?}");
    }
    let unsampled = stage.work("unsampled", 2, Some(&format!("00-{TRACE}-{SPAN}-00"))).await;
    assert!(unsampled.iter().all(|call| said(call).2 == "00"));
}

#[tokio::test]
async fn what_a_call_is_tried_with_again_is_another_span() {
    let stage = Stage::new(1).await;
    stage.spoil("list_methods", 503).await;
    let calls = stage.work("again", 1, Some(&format!("00-{TRACE}-{SPAN}-01"))).await;
    assert!(calls.iter().any(|call| call["status"] == 503));
    assert_eq!(one_trace(&calls), TRACE);
}

#[tokio::test]
async fn a_request_without_a_context_has_the_same_trace_on_every_worker() {
    let (one, other) = (Stage::new(2).await, Stage::new(2).await);
    let trace = one_trace(&one.work("untraced", 1, None).await);
    assert_eq!(one_trace(&other.work("untraced", 2, None).await), trace);
    assert_ne!(one_trace(&one.work("another", 2, None).await), trace);
}

#[tokio::test]
async fn what_is_asked_for_no_job_says_no_trace() {
    let stage = Stage::new(1).await;
    stage.work("traced", 1, Some(&format!("00-{TRACE}-{SPAN}-01"))).await;
    let tokens = stage.journal("token").await;
    assert!(!tokens.is_empty() && tokens.iter().all(|call| call["traceparent"].is_null()), "{tokens:?}");
}
