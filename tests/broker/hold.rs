//! Graph asks for a minute of silence while thousands wait: they wait in their lane.

use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;

use crate::broker;
use crate::history::History;
use crate::requests::{bodies, mixed};
use crate::stage::{Stage, until};

const REQUESTS: usize = 10_000;
/// How many may pass through the retry queues: those in hand when Graph first asked, and some to spare.
const FEW: u32 = 200;
/// How long after the first answer a call may still come in that was sent before it, in milliseconds.
const UNDER_WAY: i64 = 3_000;
/// How many must be done after the hold to show that the work goes on.
const RESUMED: f64 = 300.0;

#[tokio::test]
async fn a_hold_of_a_minute_leaves_ten_thousand_requests_in_their_lane() {
    let users = REQUESTS.to_string();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mfa-reset"));
    let mut stage = Stage::with(&broker::shared().url, program, &["--latency", "0ms", "--users", &users]).await;
    stage.start_worker().await;
    tap(&mut stage).await;
    stage.simulator.throttle(&["get_user", "find_user", "batch"], 60).await;
    let (requests, user) = (mixed(1..=REQUESTS), stage.queues.user());
    stage.queues.publish("batch", &bodies(&requests), Some(&user)).await;

    until(Duration::from_secs(60), "consumption stops", async || !stage.is_ready().await).await;
    stage.simulator.clear_faults().await;
    let held = std::time::Instant::now();
    let mut fewest = u32::MAX;
    while held.elapsed() < Duration::from_secs(50) {
        fewest = fewest.min(stage.queues.waiting("requests.batch").await);
        assert!(fewest as usize >= REQUESTS - FEW as usize, "only {fewest} wait in their lane");
        let early = early_calls(&stage).await;
        assert!(early.is_empty(), "calls to Graph during the hold, by milliseconds since it began: {early:?}");
        assert_eq!(stage.metric("mfa_reset_jobs_total", "").await, 0.0, "results during the hold");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let resumed = async || stage.metric("mfa_reset_jobs_total", "").await >= RESUMED;
    until(Duration::from_secs(120), "the work goes on after the hold", resumed).await;
    let (lane, channel) = (stage.queues.name("requests.batch"), stage.queues.channel().await);
    channel.queue_purge(lane.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    // A message on its way from a retry queue to its lane is in neither for a moment.
    let mut quiet_for = 0;
    let quiet = async || {
        let in_hand = stage.metric("mfa_reset_jobs_in_flight", "").await;
        quiet_for = if in_hand == 0.0 && stage.queues.requests_waiting().await == 0 { quiet_for + 1 } else { 0 };
        quiet_for > 100
    };
    until(Duration::from_secs(120), "what was left is done", quiet).await;

    let (retried, counted) = (stage.queues.waiting("tap").await, stage.metric("mfa_reset_deferrals_total", "").await);
    println!(
        "{retried} messages passed through the retry queues; {counted} deferrals; at least {fewest} waited in their lane"
    );
    assert!(retried < FEW && counted < f64::from(FEW), "{retried} messages, {counted} deferrals");
    stage.finish().await;
    let mut history = History::default();
    history.take(&mut stage).await;
    history.assert_deletes(&stage.simulator.deleted().await, false);
}

/// When calls to Graph came in after it had asked for silence, and before the end of it. Those that were under way when the
/// first answer arrived do not count.
async fn early_calls(stage: &Stage) -> Vec<i64> {
    let journal = stage.simulator.get("journal?since=0").await.expect("the journal");
    let entries = journal.as_array().unwrap();
    let time = |entry: &serde_json::Value, name: &str| entry[name].as_i64().unwrap();
    let Some(first) = entries.iter().find(|entry| entry["status"] == 429) else { return Vec::new() };
    let graph = entries.iter().filter(|entry| !entry["path"].as_str().unwrap().contains("/oauth2/"));
    let since = graph.map(|entry| time(entry, "at_ms") - time(first, "done_ms"));
    since.filter(|since| (UNDER_WAY..60_000).contains(since)).collect()
}

/// Lets a queue of the test have a copy of whatever is sent to a retry queue.
async fn tap(stage: &mut Stage) {
    let (queue, exchange, channel) =
        (stage.queues.name("tap"), stage.queues.name("retry"), stage.queues.channel().await);
    // Gone with the connection. Durable, since looking asks for a durable one.
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::durable() };
    let name = || queue.as_str().into();
    channel.queue_declare(name(), options, FieldTable::default()).await.unwrap();
    let bind = QueueBindOptions::default();
    channel.queue_bind(name(), exchange.as_str().into(), "#".into(), bind, FieldTable::default()).await.unwrap();
}
