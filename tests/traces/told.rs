//! What a collector is told.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mfa_reset::domain::event;
use mfa_reset::domain::request::{Envelope, Lane, Request};
use mfa_reset::trace::otlp::Exporter;
use mfa_reset::trace::{Context, Span};
use tokio::time::Instant;

use crate::stage::{NUMBER, SECRET, Stage, request, settings};
use crate::wire::{Collector, Sent};
use crate::{SPAN, TRACE};

/// Kinds of spans, by their numbers in OTLP.
const INTERNAL: u64 = 1;
const CLIENT: u64 = 3;
const PRODUCER: u64 = 4;
const CONSUMER: u64 = 5;

/// What must not be in anything that is sent: whom it concerns, and what opens doors.
fn assert_tells_nothing_private(collector: &Collector) {
    let bytes = collector.bytes();
    let text = String::from_utf8_lossy(&bytes);
    let (number, bare) = (NUMBER, NUMBER.replace(' ', ""));
    for private in ["contoso.test", "traced1", SECRET, number, &bare, "Bearer", "access_token", "sam@", "lost-phone"] {
        assert!(!text.contains(private), "{private} was sent");
    }
    assert!(text.contains("mfa-reset"), "it is the right text that was searched");
}

/// One process, one exporter: so all that needs one of this process is one test.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_message_down_to_the_calls() {
    let (collector, stage) = (Collector::start().await, Stage::new(3).await);
    let exporter = Exporter::start(&collector.root, "here:1".into()).unwrap();
    stage.spoil("delete_method", 429).await;
    let (traced, unsampled) = (TRACE.replace('f', "e"), TRACE.replace('0', "1"));
    let calls = stage.work("exported", 1, Some(&format!("00-{traced}-{SPAN}-01"))).await;
    stage.work("unsampled", 2, Some(&format!("00-{unsampled}-{SPAN}-00"))).await;
    let own = stage.work("untraced", 3, None).await;
    let (consumed, published) = consumes_and_publishes();
    exporter.stop(Duration::from_secs(20)).await;

    let spans = collector.spans(&traced);
    let process = spans.iter().find(|span| span.name == "process").unwrap();
    assert_eq!((process.parent.as_str(), process.kind), (SPAN, INTERNAL));
    let about = |name: &str| process.attributes[name].as_str();
    assert_eq!(about("mfa_reset.request.id"), "servicenow/exported");
    assert_eq!((about("mfa_reset.outcome"), about("mfa_reset.settlement")), ("succeeded", "concluded"));
    let graph: Vec<&Sent> = spans.iter().filter(|span| span.name.starts_with("graph ")).collect();
    assert_eq!(graph.len(), calls.len(), "one span for each call that Graph has seen");
    for call in &calls {
        let (_, parent, _) = crate::said(call);
        let span = graph.iter().find(|span| span.id == parent).unwrap_or_else(|| panic!("no span for {call}"));
        assert_eq!((span.parent.as_str(), span.kind), (process.id.as_str(), CLIENT));
        assert_eq!(span.attributes["http.response.status_code"], call["status"].to_string());
        assert_eq!(span.attributes["mfa_reset.graph.client_request_id"], call["client_request_id"].as_str().unwrap());
        assert!(span.took <= process.took);
    }
    let refused: Vec<_> = graph.iter().filter(|span| span.failed).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].name.as_str(), refused[0].attributes["error.type"].as_str()),
        ("graph delete_method", "429")
    );

    assert!(collector.spans(&unsampled).is_empty(), "who did not sample it keeps nothing of it");
    let (trace, _, flags) = crate::said(&own[0]);
    let spans = collector.spans(&trace);
    assert!(flags == "01" && spans.len() == own.len() + 1);
    assert!(spans.iter().any(|span| span.name == "process" && span.parent.is_empty()));
    assert_broker_spans(&collector, &consumed, &published);
    let resource = collector.resource();
    assert_eq!((resource["service.name"].as_str(), resource["service.instance.id"].as_str()), ("mfa-reset", "here:1"));
    assert_tells_nothing_private(&collector);
}

/// A delivery and its result, as spans: their ids.
fn consumes_and_publishes() -> (String, String) {
    let traceparent = Some(format!("00-{}-{SPAN}-01", TRACE.replace('a', "b")));
    let envelope = Envelope { traceparent, ..Envelope::bare(Lane::Tickets) };
    let body = request("broker", 1).to_string().into_bytes();
    let asked = Request::parse(&body, &envelope, &Default::default()).unwrap();
    let consumed = Span::process(&asked.key, &envelope, Some("mfa.requests.tickets"));
    let malformed = Request::parse(b"{}", &envelope, &Default::default()).unwrap_err();
    let event = event::rejection(&malformed, b"{}", &envelope, jiff::Timestamp::now());
    let id = |context: Context| context.to_string()[36..52].to_owned();
    let published = consumed.context.within(|| Span::publish("mfa.results", &event)).unwrap();
    assert!(Span::publish("mfa.results", &event).is_none(), "outside a job");
    let ids = (id(consumed.context), id(published.context));
    published.end();
    consumed.end();
    ids
}

fn assert_broker_spans(collector: &Collector, consumed: &str, published: &str) {
    let spans = collector.spans(&TRACE.replace('a', "b"));
    let find = |id: &str| spans.iter().find(|span| span.id == id).unwrap_or_else(|| panic!("{spans:?}"));
    let (consumed, published) = (find(consumed), find(published));
    assert_eq!((consumed.name.as_str(), consumed.kind), ("process mfa.requests.tickets", CONSUMER));
    assert_eq!((consumed.parent.as_str(), published.parent.as_str()), (SPAN, consumed.id.as_str()));
    assert_eq!((published.name.as_str(), published.kind), ("publish mfa.results:result.rejected.unknown", PRODUCER));
    for (span, attribute, value) in [
        (consumed, "messaging.system", "rabbitmq"),
        (consumed, "messaging.operation.name", "process"),
        (consumed, "messaging.operation.type", "process"),
        (consumed, "messaging.destination.name", "mfa.requests.tickets"),
        (published, "messaging.operation.name", "publish"),
        (published, "messaging.operation.type", "send"),
        (published, "messaging.destination.name", "mfa.results:result.rejected.unknown"),
        (published, "messaging.rabbitmq.destination.routing_key", "result.rejected.unknown"),
    ] {
        assert_eq!(span.attributes[attribute], value, "{attribute}");
    }
}

/// Runs the program itself over one request.
fn run(stage: &Stage, collector: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfa-reset"));
    command.env_clear().current_dir(directory.path());
    for setting in settings(&stage.root, &directory).iter().chain([&format!("log.otlp_endpoint={collector}")]) {
        command.args(["--set", setting]);
    }
    let command = command.args(["run", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", request("run", 1)).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_sends_the_last_spans_before_it_ends() {
    let (collector, stage) = (Collector::start().await, Stage::new(1).await);
    let done = tokio::task::block_in_place(|| run(&stage, &collector.root));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let spans = collector.all();
    let process = spans.iter().find(|span| span.name == "process").unwrap();
    let calls: Vec<_> = spans.iter().filter(|span| span.parent == process.id).collect();
    assert!(calls.iter().any(|call| call.name == "graph delete_method"), "{calls:?}");
    assert_eq!(calls.len() + 1, spans.len());
    // The lines of the job and its spans name the same trace.
    let log = String::from_utf8(done.stderr).unwrap();
    let ended = log.lines().find(|line| line.contains("job concluded")).unwrap();
    assert!(ended.contains(&format!("\"trace_id\":\"{}\"", process.trace)), "{ended}");
    assert_tells_nothing_private(&collector);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nothing_but_the_spans() {
    let stage = Stage::new(1).await;
    // Bound and never listened to: nobody else gets the port meanwhile.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let from = Instant::now();
    let root = format!("http://{}", closed.local_addr().unwrap());
    let done = tokio::task::block_in_place(|| run(&stage, &root));
    let log = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{log}");
    assert_eq!(log.matches("the collector takes no traces").count(), 1, "{log}");
    assert!(from.elapsed() < Duration::from_secs(60), "it waits for nobody");
}
