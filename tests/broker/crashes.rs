//! The worker ends in the middle of the work, asked or not, and another goes on.

use std::time::Duration;

use crate::broker;
use crate::history::History;
use crate::requests::{bodies, ids, mixed, request, upn};
use crate::simulator::MOBILE;
use crate::stage::{Stage, until};

/// Waits until the worker has concluded some more requests than were known.
async fn some_progress(stage: &mut Stage, results: u32) {
    let before = stage.queues.waiting("results").await;
    until(Duration::from_secs(30), "the work goes on", async || {
        stage.queues.waiting("results").await >= before + results
    })
    .await;
}

#[tokio::test]
async fn a_worker_killed_twice_loses_nothing_and_removes_nothing_twice() {
    let mut stage = Stage::slow(&broker::shared().url).await;
    stage.start_worker().await;
    let (requests, user) = (mixed(201..=400), stage.queues.user());
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    for _ in 0..2 {
        some_progress(&mut stage, 20).await;
        stage.kill_worker();
        stage.start_worker().await;
    }
    History::settle(&mut stage, &requests, Duration::from_secs(60)).await;
}

#[tokio::test]
async fn sigterm_in_the_middle_of_the_work_loses_and_doubles_nothing() {
    let mut stage = Stage::slow(&broker::shared().url).await;
    stage.start_worker().await;
    let (requests, user) = (mixed(401..=500), stage.queues.user());
    stage.queues.publish("batch", &bodies(&requests), Some(&user)).await;
    let mut history = History::default();
    for _ in 0..2 {
        some_progress(&mut stage, 10).await;
        stage.stop_worker();
        stage.start_worker().await;
    }
    history.collect(&mut stage, &requests, Duration::from_secs(60)).await;
    stage.finish().await;
    history.take(&mut stage).await;
    history.assert_complete(&requests);
    assert_eq!(history.len(), requests.len(), "a worker that stops in peace repeats nothing");
    history.assert_deletes(&stage.simulator.deleted().await, false);
}

#[tokio::test]
async fn a_request_delivered_again_leaves_alone_what_was_registered_since() {
    let mut stage = Stage::new(&broker::shared().url).await;
    let (owner, user) = (upn(8), stage.queues.user());
    stage.simulator.with_only_mobile(&owner, "+1 2065550107").await;
    stage.start_worker().await;
    let requests = [request("INC0000008:re-register", 8, "re-register")];
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(30)).await;
    assert!(
        stage.simulator.deleted().await.iter().any(|(_, _, id)| id == MOBILE),
        "the old phone went: {}",
        history.result(&ids(&requests)[0])
    );

    stage.simulator.register_mobile(&owner, "+1 2065550199").await;
    let before = stage.simulator.deleted().await;
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    until(Duration::from_secs(30), "the result comes again", async || {
        history.take(&mut stage).await;
        history.len() == 2
    })
    .await;
    history.assert_complete(&requests);
    assert_eq!(stage.simulator.deleted().await, before, "nothing more is deleted");
    let state = stage.simulator.get(&format!("users/{owner}")).await.unwrap().to_string();
    assert!(state.contains("+1 2065550199"), "the new phone stays");
    assert_eq!(stage.metric("mfa_reset_jobs_total", "").await, 1.0, "a result told again is no second job");
    stage.finish().await;
}
