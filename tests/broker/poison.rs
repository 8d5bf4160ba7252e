//! What kills its worker becomes a dead letter, alone; what was merely there when workers died does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker;
use crate::history::History;
use crate::requests::{bodies, mixed, request, upn};
use crate::stage::Stage;

#[tokio::test]
async fn a_worker_killed_25_times_in_a_row_sends_nothing_to_the_dead_letters() {
    let seed = fastrand::u64(..);
    println!("seed of the kills: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // Each call takes so long that no worker lives to see the end of a job.
    let options = ["--latency", "1s"];
    let mut stage = Stage::with(&broker::shared().url, env!("CARGO_BIN_EXE_mfa-reset").as_ref(), &options).await;
    stage.set("BROKER__PREFETCH_TICKETS", "64");
    stage.start_worker().await;
    let (requests, user) = (mixed(601..=650), stage.queues.user());
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(random.u64(200..1500))).await;
        stage.kill_worker();
        stage.start_worker().await;
    }
    stage.quiet(Duration::from_secs(240)).await;
    History::settle(&mut stage, &requests, Duration::from_secs(60)).await;
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
    println!("{} deliveries were taken for suspicious", stage.told("goes round until"));
}

const OFTEN: u64 = 1_000_000;

#[tokio::test]
async fn what_kills_every_worker_becomes_a_dead_letter_and_its_neighbours_do_not() {
    let mut stage = Stage::slow(&broker::shared().url).await;
    // Whoever asks Graph for this user is killed.
    for operation in ["get_user", "find_user"] {
        let fault = json!({"operation": operation, "user": upn(999), "mode": "stall", "times": OFTEN});
        stage.simulator.spoil(&fault).await;
    }
    stage.start_worker().await;
    let (poison, mut requests, user) = (request("poison", 999, "lost-phone"), mixed(651..=690), stage.queues.user());
    let mut all = requests.clone();
    all.insert(20, poison.clone());
    stage.queues.publish("reset", &bodies(&all), Some(&user)).await;
    let (mut kills, start) = (0, Instant::now());
    while stage.queues.waiting("dead-letters").await == 0 {
        assert!(start.elapsed() < Duration::from_secs(600), "no dead letter after {kills} kills");
        if stage.simulator.struck(OFTEN).await > kills {
            stage.kill_worker();
            kills = stage.simulator.struck(OFTEN).await;
            stage.start_worker().await;
            // Its neighbours are served all the while.
            let user = 691 + usize::try_from(kills).unwrap();
            let later = mixed(user..=user);
            let publisher = stage.queues.user();
            stage.queues.publish("reset", &bodies(&later), Some(&publisher)).await;
            requests.extend(later);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("a dead letter after {kills} kills and {:?}", start.elapsed());
    assert!((5..=12).contains(&kills), "{kills} kills");
    it_alone_is_dead(&mut stage, &poison).await;
    stage.quiet(Duration::from_secs(120)).await;
    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(10)).await;
    stage.finish().await;
    history.assert_complete(&requests);
    history.assert_deletes(&stage.simulator.deleted().await, true);
    assert_eq!(stage.queues.waiting("dead-letters").await, 0, "nobody else");
}

async fn it_alone_is_dead(stage: &mut Stage, poison: &Value) {
    let letters = stage.queues.take("dead-letters").await;
    let dead: Vec<Value> = letters.iter().map(|letter| serde_json::from_slice(&letter.data).unwrap()).collect();
    assert_eq!(dead, std::slice::from_ref(poison));
    let headers = letters[0].properties.headers().as_ref().unwrap();
    let reason = headers.inner()["x-mfa-reason"].as_long_string().unwrap().to_string();
    assert_eq!(reason, "attempts_exhausted");
    assert_eq!(stage.metric("mfa_reset_dead_letters_total", "attempts_exhausted").await, 1.0);
}
