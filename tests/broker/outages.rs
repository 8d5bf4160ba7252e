//! The broker goes away, or cannot route: nothing is lost, and the work goes on by itself.

use std::time::Duration;

use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use serde_json::Value;

use crate::broker;
use crate::history::History;
use crate::proxy::{Line, Proxy};
use crate::requests::{bodies, mixed, request};
use crate::stage::{Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_heals_and_every_result_arrives() {
    let broker = broker::shared();
    let mut stage = Stage::slow(&broker.url).await;
    let proxy = behind_a_proxy(&mut stage).await;
    stage.start_worker().await;
    let (requests, user) = (mixed(501..=600), stage.queues.user());
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    for known in [20, 50] {
        until(Duration::from_secs(30), "some results", async || stage.queues.waiting("results").await >= known).await;
        proxy.set(Line::Cut);
        until(Duration::from_secs(10), "the worker notices", async || !stage.is_ready().await).await;
        proxy.set(Line::Whole);
        until(Duration::from_secs(60), "the worker is ready again", async || stage.is_ready().await).await;
    }
    assert!(stage.worker.as_mut().unwrap().is_running());
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_the_broker_is_silent_ends_within_the_grace_period_and_loses_nothing() {
    told_to_stop_in_silence(mixed(701..=760), async |_| ()).await;
}

/// A hold stops the consumers, whose broker does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_a_consumer_waits_to_be_cancelled_ends_within_the_grace_period() {
    told_to_stop_in_silence(mixed(761..=820), async |stage| {
        stage.simulator.throttle(&["batch", "list_methods", "delete_method"], 40).await;
        let paused = async || stage.told("nothing is consumed") > 0;
        until(Duration::from_secs(8), "the worker pauses", paused).await;
    })
    .await;
}

async fn told_to_stop_in_silence(requests: Vec<Value>, then: impl AsyncFnOnce(&Stage)) {
    let mut stage = Stage::slow(&broker::shared().url).await;
    let proxy = behind_a_proxy(&mut stage).await;
    stage.set("GRAPH__TIMEOUT", "5s");
    stage.set("SHUTDOWN__GRACE_PERIOD", "10s");
    stage.start_worker().await;
    let user = stage.queues.user();
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    until(Duration::from_secs(30), "some results", async || stage.queues.waiting("results").await >= 10).await;
    proxy.set(Line::Stalled);
    then(&stage).await;
    let mut worker = stage.worker.take().expect("a worker");
    worker.terminate();
    // Its own tidying up comes on top: leases, the last checkpoint.
    assert_eq!(worker.exit_code(Duration::from_secs(12)), Some(0), "exit code after SIGTERM");
    stage.simulator.clear_faults().await;
    proxy.set(Line::Cut);
    proxy.set(Line::Whole);
    stage.start_worker().await;
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
}

/// Puts a proxy between the worker and the broker.
async fn behind_a_proxy(stage: &mut Stage) -> Proxy {
    let uri = stage.queues.uri();
    let proxy = Proxy::start(format!("{}:{}", uri.authority.host, uri.authority.port)).await;
    stage.through(proxy.address);
    proxy
}

#[tokio::test]
async fn a_broker_killed_and_started_again_loses_no_request() {
    let mut broker = broker::own();
    let mut stage = Stage::slow(&broker.url).await;
    stage.start_worker().await;
    let (requests, user) = (mixed(601..=700), stage.queues.user());
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    until(Duration::from_secs(30), "some results", async || stage.queues.waiting("results").await >= 20).await;
    broker.restart();
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
    drop(stage);
}

#[tokio::test]
async fn a_request_is_held_until_its_result_can_be_routed() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let (results, channel) = (stage.queues.name("results"), stage.queues.channel().await);
    let name = || results.as_str().into();
    channel.queue_unbind(name(), name(), "#".into(), FieldTable::default()).await.unwrap();
    let (requests, user) = ([request("unroutable:re-register", 12, "re-register")], stage.queues.user());
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    until(Duration::from_secs(30), "the reset is done", async || !stage.simulator.deleted().await.is_empty()).await;
    until(
        Duration::from_secs(30),
        "the result waits in the outbox, or the worker has mended the binding",
        async || {
            stage.metric("mfa_reset_outbox_pending", "").await >= 1.0 || stage.queues.waiting("results").await >= 1
        },
    )
    .await;

    stage.kill_worker();
    let mut kept = 0;
    until(Duration::from_secs(10), "the request is back, or its result is there", async || {
        kept = stage.queues.requests_waiting().await + stage.queues.waiting("results").await;
        kept >= 1
    })
    .await;
    channel.queue_bind(name(), name(), "#".into(), QueueBindOptions::default(), FieldTable::default()).await.unwrap();
    stage.start_worker().await;
    History::settle(&mut stage, &requests, Duration::from_secs(60)).await;
}
