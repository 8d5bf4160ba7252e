//! What no producer should send, through the real queue.

use std::time::Duration;

use serde_json::{Value, json};

use crate::broker;
use crate::requests::request;
use crate::stage::{Stage, until};

const BODIES: usize = 10_000;

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
    let mut sent: Vec<_> = bodies.iter().collect();
    let mut dead: Vec<_> = letters.iter().map(|letter| &letter.data).collect();
    sent.sort_unstable();
    dead.sort_unstable();
    assert!(sent == dead, "the dead letters are the bodies, byte for byte");
    assert_eq!(stage.metric("mfa_reset_dead_letters_total", "").await, BODIES as f64);
    assert_eq!(stage.metric("mfa_reset_jobs_total", "outcome=\"rejected\"").await, BODIES as f64);
    assert_eq!(stage.simulator.graph_calls().await, before, "calls to Graph");
    stage.finish().await;
}

fn reason(letter: &lapin::message::Delivery) -> Option<String> {
    let headers = letter.properties.headers().as_ref()?;
    headers.inner().get("x-mfa-reason")?.as_long_string().map(ToString::to_string)
}

/// A body that is wrong in one of many ways, and for certain.
fn bad_body(random: &mut fastrand::Rng, number: usize) -> Vec<u8> {
    let mut good = request(&format!("bad-{number}"), 1 + number % 1000, "re-register");
    match random.u8(..12) {
        0 => std::iter::repeat_with(|| random.u8(..)).take(8 + number % 300).collect(),
        1 => {
            let whole = good.to_string().into_bytes();
            whole[..random.usize(20..whole.len())].to_vec()
        }
        2 => {
            let field = *random.choice(["id", "ticket", "target", "profile", "requested_by"].iter()).unwrap();
            good.as_object_mut().unwrap().remove(field);
            good.to_string().into_bytes()
        }
        3 => {
            let field = *random
                .choice(["id", "ticket", "target", "profile", "requested_by", "requested_at", "keep", "dry_run"].iter())
                .unwrap();
            good[field] = random.choice([json!(17), json!([[]]), json!({"a": null})].iter()).unwrap().clone();
            good.to_string().into_bytes()
        }
        4 => {
            good[format!("unknown{number}")] = json!(true);
            good.to_string().into_bytes()
        }
        5 => good.to_string().replacen('{', "{\"profile\":\"lost-phone\",", 1).into_bytes(),
        6 => {
            good["requested_at"] =
                json!(random.choice(["yesterday", "2026-13-01T00:00:00Z", "2026-11-21", ""].iter()).unwrap());
            good.to_string().into_bytes()
        }
        7 => {
            good["ticket"]["system"] =
                json!(random.choice(["Service Now", "", "x".repeat(33).as_str(), "a.b", "ä"].iter()).unwrap());
            good.to_string().into_bytes()
        }
        8 => "[".repeat(1 + number).into_bytes(),
        9 => {
            good["reason"] = json!("x".repeat(70_000 + number));
            good.to_string().into_bytes()
        }
        10 => {
            good["kind"] = json!(format!("kind{number}"));
            good.to_string().into_bytes()
        }
        _ => {
            good["profile"] = json!(format!("no-such-profile-{number}"));
            good.to_string().into_bytes()
        }
    }
}
