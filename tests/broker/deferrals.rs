//! A request that has to wait comes back through a retry queue: as itself, once, and with its own times.

use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::broker;
use crate::history::History;
use crate::requests::request;
use crate::stage::{Stage, until};

/// What a producer may write beside a request, and what would do harm on a copy: one that expires at once, goes to several
/// queues, or cannot be published at all.
fn properties(user: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![text("reset.60")].into()));
    headers.insert("their-own".into(), text("word"));
    let plain = BasicProperties::default().with_delivery_mode(2).with_user_id(user.into());
    plain.with_expiration("60000".into()).with_reply_to("nowhere".into()).with_headers(headers)
}

#[tokio::test]
async fn a_request_whose_user_is_busy_waits_in_a_retry_queue_and_keeps_its_times() {
    let mut stage = Stage::slow(&broker::shared().url).await;
    stage.start_worker().await;
    let requests = [request("busy-1:lost-phone", 16, "lost-phone"), request("busy-2:all", 16, "all")];
    let (user, exchange, channel) = (stage.queues.user(), stage.queues.name("requests"), stage.queues.channel().await);
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let sent = Timestamp::now();
    for request in &requests {
        let (body, options) = (request.to_string().into_bytes(), BasicPublishOptions::default());
        let published =
            channel.basic_publish(exchange.as_str().into(), "reset".into(), options, &body, properties(&user));
        published.await.unwrap().await.unwrap();
    }
    until(Duration::from_secs(20), "one of them waits", async || stage.queues.waiting("retry.tickets.10").await == 1)
        .await;
    assert_eq!(
        stage.queues.waiting("retry.tickets.60").await,
        0,
        "a copy goes where the worker sends it and nowhere else"
    );

    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(60)).await;
    history.assert_complete(&requests);
    let deleted = stage.simulator.deleted().await;
    assert_eq!(history.methods(&["removed"]), deleted.iter().cloned().collect(), "removals told and done");
    for request in &requests {
        let result = history.result(request["id"].as_str().unwrap());
        let started: Timestamp = result["started_at"].as_str().unwrap().parse().unwrap();
        assert!((0..5).contains(&started.duration_since(sent).as_secs()), "first seen at {started}, sent at {sent}");
        assert_eq!(result["attempts"], 1, "waiting for a user costs no attempt");
    }
    assert_eq!(stage.metric("mfa_reset_deferrals_total", "user_busy").await, 1.0);
    stage.finish().await;
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
}
