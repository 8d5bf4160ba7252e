//! Every trouble with the broker ends in a defined state that `/readyz`, a metric and one line of the log show; nothing
//! turns in a hot loop, and when it is over the work goes on by itself.

use std::time::{Duration, Instant};

use lapin::options::{ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::broker;
use crate::history::History;
use crate::requests::{bodies, mixed};
use crate::stage::{Stage, until};

const ENDED: &str = "broker session ended";
const STOPPED: &str = "nothing is consumed";

/// Waits until the worker is no longer ready; it lives on.
async fn unready(stage: &mut Stage) {
    until(Duration::from_secs(30), "the worker is not ready", async || !stage.is_ready().await).await;
    assert!(stage.is_alive().await, "an outage is no reason to replace the worker");
}

async fn ready(stage: &mut Stage, within: u64) {
    until(Duration::from_secs(within), "the worker is ready again", async || stage.is_ready().await).await;
}

/// Publishes requests for these users, and waits until some have a result.
async fn begin(stage: &mut Stage, users: std::ops::RangeInclusive<usize>, results: u32) -> Vec<Value> {
    let (requests, user) = (mixed(users), stage.queues.user());
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    let some = async || stage.queues.waiting("results").await >= results;
    until(Duration::from_secs(30), "some results", some).await;
    requests
}

/// Watches over a trouble that lasts: the worker is alive and unready all the time, and says and does next to nothing.
async fn calm(stage: &mut Stage, seconds: u64, check: &str) {
    let (lines, calls, start) = (stage.told(""), stage.simulator.graph_calls().await, Instant::now());
    while start.elapsed() < Duration::from_secs(seconds) {
        assert!(stage.is_alive().await && !stage.is_ready().await);
        assert!(!stage.is_well(check).await && !stage.is_well("consuming").await);
        assert_eq!(stage.metric("mfa_reset_ready", &format!("\"{check}\"")).await, 0.0);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (lines, calls) = (stage.told("") - lines, stage.simulator.graph_calls().await - calls);
    assert!(lines < 10, "{lines} lines in {seconds} s");
    assert!(calls == 0, "{calls} calls to Graph in {seconds} s");
}

#[tokio::test]
async fn an_alarm_of_the_broker_stops_consumption_until_it_is_over() {
    let broker = broker::own();
    let mut stage = Stage::slow(&broker.url).await;
    stage.start_worker().await;
    let requests = begin(&mut stage, 701..=850, 10).await;
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1"]);
    unready(&mut stage).await;
    // What is in hand comes to where it would publish.
    stage.graph_is_left_alone().await;
    calm(&mut stage, 15, "publisher").await;
    assert_eq!((stage.told(STOPPED), stage.told(ENDED)), (1, 0), "told once, in one session");
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    ready(&mut stage, 90).await;
    // What is on its way when a consumer is cancelled the broker takes back by itself; what is in hand stays there.
    let back = stage.metric("mfa_reset_redeliveries_total", "").await;
    assert!(back < 8.0, "{back} of 32 in hand went back");
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
    drop(stage);
}

/// Declares the queue of results before the worker can, to hold no more than this.
async fn declare_small_results(stage: &mut Stage, most: i64) {
    let (name, channel) = (stage.queues.name("results"), stage.queues.channel().await);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(most));
    channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

#[tokio::test]
async fn results_that_are_refused_stop_consumption_until_there_is_room() {
    let mut stage = Stage::new(&broker::shared().url).await;
    declare_small_results(&mut stage, 5).await;
    stage.start_worker().await;
    let requests = begin(&mut stage, 1..=150, 5).await;
    unready(&mut stage).await;
    stage.graph_is_left_alone().await;
    calm(&mut stage, 15, "publisher").await;
    assert_eq!((stage.told("the broker refuses messages:"), stage.told(ENDED)), (1, 0), "told once, in one session");
    assert!(stage.queues.waiting("requests.tickets").await > 50, "the rest stays in its queue");
    // From here on somebody reads the results, and the queue is never full for long.
    History::settle(&mut stage, &requests, Duration::from_secs(180)).await;
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
}

#[tokio::test]
async fn a_lane_that_is_deleted_is_declared_again() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let (lane, channel) = (stage.queues.name("requests.tickets"), stage.queues.channel().await);
    channel.queue_delete(lane.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let gone = async || stage.told(ENDED) == 1;
    until(Duration::from_secs(10), "the worker notices", gone).await;
    ready(&mut stage, 30).await;
    let requests = begin(&mut stage, 851..=860, 1).await;
    History::settle(&mut stage, &requests, Duration::from_secs(60)).await;
    assert_eq!(stage.told("is its queue gone?"), 1, "told once");
}

#[tokio::test]
async fn a_lane_that_the_worker_may_not_declare_is_waited_for() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    stage.stop_worker();
    stage.set("BROKER__DECLARE", "false");
    stage.start_worker().await;
    let (lane, channel) = (stage.queues.name("requests.tickets"), stage.queues.channel().await);
    channel.queue_delete(lane.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    unready(&mut stage).await;
    calm(&mut stage, 15, "publisher").await;
    let (tries, told) = (stage.told(ENDED), stage.told("import the definitions"));
    assert!((2..10).contains(&tries) && told == tries - 1, "{tries} sessions in 15 s, {told} of them say what to do");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(lane.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let (exchange, bind) = (stage.queues.name("requests"), QueueBindOptions::default());
    let key = "reset.#".into();
    channel.queue_bind(lane.as_str().into(), exchange.as_str().into(), key, bind, FieldTable::default()).await.unwrap();
    ready(&mut stage, 60).await;
    let requests = begin(&mut stage, 861..=870, 1).await;
    History::settle(&mut stage, &requests, Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_channel_closed_for_want_of_an_exchange_heals() {
    let mut stage = Stage::slow(&broker::shared().url).await;
    stage.start_worker().await;
    let requests = begin(&mut stage, 871..=970, 10).await;
    let (exchange, channel) = (stage.queues.name("results"), stage.queues.channel().await);
    channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    until(Duration::from_secs(20), "the session ends", async || stage.told(ENDED) >= 1).await;
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
    assert_eq!(stage.told("NOT_FOUND"), 1, "told once");
    assert_eq!(stage.told(ENDED), 1);
}

#[tokio::test]
async fn a_results_queue_that_is_deleted_is_declared_again_and_no_result_is_lost() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let (results, channel) = (stage.queues.name("results"), stage.queues.channel().await);
    channel.queue_delete(results.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let requests = begin(&mut stage, 971..=980, 0).await;
    unready(&mut stage).await;
    assert!(!stage.is_well("publisher").await);
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
    assert_eq!((stage.told("no queue is bound"), stage.told(ENDED)), (1, 0), "told once, in one session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_never_answers_is_asked_now_and_then() {
    let mut stage = Stage::new(&broker::shared().url).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.through(silent.local_addr().unwrap());
    stage.launch_worker();
    let alive = async || stage.is_alive().await;
    until(Duration::from_secs(20), "the worker lives", alive).await;
    let (mut held, start) = (Vec::new(), Instant::now());
    while start.elapsed() < Duration::from_secs(40) {
        if let Ok(Ok(taken)) = tokio::time::timeout(Duration::from_millis(500), silent.accept()).await {
            held.push(taken);
        }
        assert!(stage.is_alive().await && !stage.is_ready().await);
    }
    assert!((4..=8).contains(&held.len()), "{} connections in 40 s", held.len());
    assert!(stage.told("did not answer within") >= 2);
    assert_eq!(stage.metric("mfa_reset_broker_connected", "").await, 0.0);
    stage.stop_worker();
}
