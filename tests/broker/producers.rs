//! Who may ask.

use std::time::Duration;

use crate::broker;
use crate::history::History;
use crate::requests::{bodies, request};
use crate::stage::Stage;

#[tokio::test]
async fn a_producer_that_may_not_ask_is_denied_before_graph_is_called() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.set("POLICY__PRODUCERS", "servicenow,jira");
    stage.start_worker().await;
    let before = stage.simulator.graph_calls().await;
    let requests = [request("known-user", 1, "re-register"), request("no-user", 2, "re-register")];
    let user = stage.queues.user();
    stage.queues.publish("reset", &bodies(&requests[..1]), Some(&user)).await;
    stage.queues.publish("reset", &bodies(&requests[1..]), None).await;
    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(30)).await;
    history.assert_complete(&requests);
    for id in ["known-user", "no-user"] {
        let result = history.result(id);
        assert_eq!(
            (&result["outcome"], &result["reason_code"]),
            (&"denied".into(), &"producer_not_allowed".into()),
            "{id}"
        );
    }
    assert_eq!(stage.simulator.graph_calls().await, before, "calls to Graph");
    stage.finish().await;
}

#[tokio::test]
async fn a_producer_on_the_list_is_told_apart_from_one_that_names_nobody() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let requests = [request("listed", 3, "re-register"), request("unnamed", 4, "re-register")];
    let user = stage.queues.user();
    stage.queues.publish("batch.wave1", &bodies(&requests[..1]), Some(&user)).await;
    stage.queues.publish("batch.wave1", &bodies(&requests[1..]), None).await;
    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(30)).await;
    assert_ne!(history.result("listed")["outcome"], "denied");
    assert_eq!(history.result("unnamed")["reason_code"], "producer_not_allowed");
    stage.finish().await;
}
