//! What no producer should send, through the real queue.

use std::time::Duration;

use serde_json::{Value, json};

use crate::broker;
use crate::requests::request;
use crate::stage::{Stage, until};

const BODIES: usize = 10_000;
/// What a request may have at most; of a longer body no more is kept.
const LONGEST: usize = 65_536;

#[tokio::test]
async fn ten_thousand_bad_bodies_are_each_rejected_and_never_reach_graph() {
    let seed = fastrand::u64(..);
    println!("seed of the bodies: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let bodies: Vec<_> = (0..BODIES).map(|number| bad_body(&mut random, number)).collect();
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let (before, user) = (stage.simulator.graph_calls().await, stage.queues.user());
    for (half, lane) in bodies.chunks(BODIES / 2).zip(["reset", "batch"]) {
        stage.queues.publish(lane, half, Some(&user)).await;
    }
    let enough = BODIES as u32;
    until(Duration::from_secs(240), "a dead letter for each body", async || {
        stage.queues.waiting("dead-letters").await >= enough
    })
    .await;
    until(Duration::from_secs(30), "a result for each body", async || stage.queues.waiting("results").await >= enough)
        .await;

    let results = stage.queues.take("results").await;
    assert_eq!(results.len(), BODIES);
    for message in results {
        let event: Value = serde_json::from_slice(&message.data).unwrap();
        assert_eq!(event["data"]["outcome"], "rejected", "{event}");
    }
    let letters = stage.queues.take("dead-letters").await;
    assert_eq!(letters.len(), BODIES);
    assert!(letters.iter().all(|letter| reason(letter).is_some()), "each dead letter says why");
    let mut sent: Vec<_> = bodies.iter().map(|body| &body[..body.len().min(LONGEST)]).collect();
    let mut dead: Vec<_> = letters.iter().map(|letter| letter.data.as_slice()).collect();
    sent.sort_unstable();
    dead.sort_unstable();
    let differ = sent.iter().zip(&dead).find(|(sent, dead)| sent != dead);
    assert!(differ.is_none(), "the dead letters are the bodies, as far as the limit: {:?}", differ.map(shown));
    assert_eq!(stage.metric("mfa_reset_dead_letters_total", "").await, BODIES as f64);
    assert_eq!(stage.metric("mfa_reset_jobs_total", "outcome=\"rejected\"").await, BODIES as f64);
    assert_eq!(stage.simulator.graph_calls().await, before, "calls to Graph");
    stage.finish().await;
}

fn reason(letter: &lapin::message::Delivery) -> Option<String> {
    let headers = letter.properties.headers().as_ref()?;
    headers.inner().get("x-mfa-reason")?.as_long_string().map(ToString::to_string)
}

fn shown((sent, dead): (&&[u8], &&[u8])) -> [String; 2] {
    [sent, dead].map(|body| format!("{} bytes: {}", body.len(), body[..body.len().min(400)].escape_ascii()))
}

/// A body that is wrong in one of many ways, and for certain; no two are the same.
fn bad_body(random: &mut fastrand::Rng, number: usize) -> Vec<u8> {
    let good = request(&format!("bad-{number}"), 1 + number % 1000, "re-register");
    if random.u8(..3) > 0 { bad_field(random, number, good) } else { bad_bytes(random, number, &good.to_string()) }
}

fn bad_bytes(random: &mut fastrand::Rng, number: usize, good: &str) -> Vec<u8> {
    match random.u8(..4) {
        0 => std::iter::repeat_with(|| random.u8(..)).take(8 + number % 300).collect(),
        1 => good.as_bytes()[..random.usize(20..good.len())].to_vec(),
        2 => "[".repeat(1 + number).into_bytes(),
        _ => good.replacen('{', "{\"profile\":\"lost-phone\",", 1).into_bytes(),
    }
}

fn bad_field(random: &mut fastrand::Rng, number: usize, mut good: Value) -> Vec<u8> {
    const REQUIRED: [&str; 5] = ["id", "ticket", "target", "profile", "requested_by"];
    const TYPED: [&str; 8] = ["id", "ticket", "target", "profile", "requested_by", "requested_at", "keep", "dry_run"];
    const TIMES: [&str; 4] = ["yesterday", "2026-13-01T00:00:00Z", "2026-11-21", ""];
    const SYSTEMS: [&str; 5] = ["Service Now", "", "a.b", "\u{e4}", "a-name-of-more-than-thirty-two-characters"];
    let mut pick = |from: &[&'static str]| from[random.usize(..from.len())];
    match number % 8 {
        0 => drop(good.as_object_mut().unwrap().remove(pick(&REQUIRED))),
        1 => good[pick(&TYPED)] = json!([[number]]),
        2 => good[pick(&TYPED)] = json!({"a": null}),
        3 => good["requested_at"] = json!(pick(&TIMES)),
        4 => good["ticket"]["system"] = json!(pick(&SYSTEMS)),
        5 => good[format!("unknown{number}")] = json!(true),
        6 => good["reason"] = json!("x".repeat(LONGEST)),
        _ => good[pick(&["kind", "profile"])] = json!(format!("no-such-{number}")),
    }
    good.to_string().into_bytes()
}
