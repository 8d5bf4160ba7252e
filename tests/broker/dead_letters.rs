//! Dead letters: looked at, replayed, discarded.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation};
use serde_json::{Value, json};

use crate::broker;
use crate::history::History;
use crate::requests::{bodies, ids, mixed, request, upn};
use crate::stage::{Stage, until};

/// After so many deliveries the broker gives a request up.
const DELIVERIES: usize = 21;
const SOON: Duration = Duration::from_secs(30);
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A stage whose exchanges and queues are there, and whose worker is not.
async fn stage() -> Stage {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    stage.stop_worker();
    stage
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Runs a command on dead letters, and expects this exit code.
#[track_caller]
fn command(stage: &Stage, code: i32, arguments: &[&str]) -> Output {
    let done = stage.command(&[&["dead-letters"], arguments].concat());
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}{}", text(&done.stdout), text(&done.stderr));
    done
}

/// The letters that `list` shows.
#[track_caller]
fn list(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    let shown = command(stage, 0, &[&["list", "--json"], arguments].concat());
    text(&shown.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect()
}

fn headers(headers: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Publishes to an exchange with any properties, and waits until the broker has stored it all.
async fn put(stage: &mut Stage, exchange: &str, key: &str, messages: Vec<(BasicProperties, Vec<u8>)>) {
    let channel = stage.queues.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let (exchange, options) =
        (stage.queues.name(exchange), BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() });
    let mut confirms = Vec::new();
    for (properties, body) in messages {
        let properties = properties.with_delivery_mode(2);
        let sent = channel.basic_publish(exchange.as_str().into(), key.into(), options, &body, properties);
        confirms.push(sent.await.unwrap());
    }
    for confirm in confirms {
        assert!(matches!(confirm.await.unwrap(), Confirmation::Ack(None)), "not routed");
    }
}

/// Lets the broker give up what waits in the tickets lane.
async fn give_up(stage: &mut Stage) {
    let (channel, lane) = (stage.queues.channel().await, stage.queues.name("requests.tickets"));
    for _ in 0..DELIVERIES {
        let mut last = None;
        while let Some(message) = channel.basic_get(lane.as_str().into(), BasicGetOptions::default()).await.unwrap() {
            last = Some(message.delivery);
        }
        if let Some(last) = last {
            last.nack(BasicNackOptions { multiple: true, requeue: true }).await.unwrap();
        }
    }
    until(SOON, "the broker gives up", async || stage.queues.waiting("requests.tickets").await == 0).await;
}

/// Looks without the program, and gives back what was seen: routing key, properties and body of each, in their order.
async fn look(stage: &mut Stage) -> Vec<(ShortString, BasicProperties, Vec<u8>)> {
    let (channel, queue) = (stage.queues.channel().await, stage.queues.name("dead-letters"));
    let mut seen: Vec<Delivery> = Vec::new();
    while let Some(message) = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap() {
        seen.push(message.delivery);
    }
    if let Some(last) = seen.last() {
        last.nack(BasicNackOptions { multiple: true, requeue: true }).await.unwrap();
    }
    let all = seen.len() as u32;
    until(SOON, "letters are back", async || stage.queues.waiting("dead-letters").await == all).await;
    let bare = |delivery: Delivery| {
        let mut kept = delivery.properties.headers().clone().unwrap_or_default().inner().clone();
        kept.remove("x-delivery-count");
        (delivery.routing_key, delivery.properties.with_headers(kept.into()), delivery.data)
    };
    seen.into_iter().map(bare).collect()
}

/// The first message of the tickets lane, taken away.
async fn copy(stage: &mut Stage) -> Delivery {
    let mut copies = stage.queues.take("requests.tickets").await;
    assert_eq!(copies.len(), 1, "copies in the lane");
    copies.remove(0)
}

fn header(delivery: &Delivery, name: &str) -> Option<String> {
    delivery.properties.headers().as_ref()?.inner().get(name)?.as_long_string().map(ToString::to_string)
}

#[tokio::test]
async fn looking_a_hundred_times_changes_nothing() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let user = stage.queues.user();
    stage.queues.publish("reset", &[b"{".to_vec(), b"[]".to_vec(), b"{".to_vec()], Some(&user)).await;
    until(SOON, "they are rejected", async || stage.queues.waiting("dead-letters").await == 3).await;
    stage.stop_worker();
    let odd = BasicProperties::default().with_expiration("3600000".into()).with_reply_to("x".into());
    let odd = odd.with_headers(headers(&[("a", AMQPValue::LongString(vec![0xff].into()))]));
    put(&mut stage, "dead-letters", "odd.key", vec![(odd, b"odd".to_vec())]).await;
    stage.queues.publish("reset.deep", &bodies(&[request("dead", 1, "re-register")]), None).await;
    give_up(&mut stage).await;
    until(SOON, "five letters", async || stage.queues.waiting("dead-letters").await == 5).await;

    let before = look(&mut stage).await;
    let listed = list(&stage, &[]);
    let reasons: Vec<_> = listed.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["malformed", "malformed", "malformed", "unroutable", "delivery_limit"]);
    for round in 0..50 {
        assert_eq!(list(&stage, &[]), listed, "round {round}");
        let id = listed[round % 5]["id"].as_str().unwrap();
        let shown = text(&command(&stage, 0, &["show", &id[..16]]).stdout);
        assert!(shown.contains(id) && !shown.contains("\u{1b}"), "{shown}");
    }
    assert_eq!(look(&mut stage).await, before, "every letter, its place, its properties and its body");
}

#[tokio::test]
async fn thousands_of_letters_keep_their_order_and_are_gone_through_once() {
    let mut stage = stage().await;
    let user = stage.queues.user();
    let letter = |number: usize| {
        let reason = ["malformed", "id_reused"][number % 2];
        let ours = BasicProperties::default().with_user_id(user.as_str().into());
        let marks = headers(&[("x-mfa-reason", long(reason)), ("x-mfa-producer", long("itsm"))]);
        (ours.with_headers(marks), format!("body {number}").into_bytes())
    };
    put(&mut stage, "dead-letters", "batch", (0..2500).map(letter).collect()).await;
    let first = list(&stage, &[]);
    assert_eq!(first.len(), 2500);
    assert_eq!(first.iter().map(|letter| letter["id"].as_str().unwrap()).collect::<BTreeSet<_>>().len(), 2500);
    let again = list(&stage, &[]);
    let moved = again.iter().zip(&first).position(|(again, first)| again != first);
    assert_eq!((again.len(), moved), (2500, None), "in their order");

    let done = command(&stage, 0, &["replay", "--reason", "id_reused", "--by", "sam"]);
    assert_eq!(text(&done.stdout), "replayed: 1250\n");
    let sent = stage.queues.take("requests.batch").await;
    let sent: BTreeSet<String> = sent.iter().map(|copy| text(&copy.data)).collect();
    let expected =
        |rest: usize| (0..2500).filter(move |number| number % 2 == rest).map(|number| format!("body {number}"));
    assert_eq!(sent, expected(1).collect());
    let left = look(&mut stage).await.into_iter().map(|(_, _, body)| text(&body));
    assert_eq!(left.collect::<BTreeSet<_>>(), expected(0).collect(), "the others stay");
    let done = command(&stage, 0, &["discard", "--all", "--by", "sam"]);
    assert_eq!(text(&done.stdout), "discarded: 1250\n");
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
    assert_eq!(stage.queues.requests_waiting().await, 0, "nothing more is sent");
}

#[tokio::test]
async fn filters_choose_and_a_dry_run_only_says_so() {
    let mut stage = stage().await;
    let (user, hour) = (stage.queues.user(), jiff::SignedDuration::from_secs(3600));
    let mut messages = Vec::new();
    for (number, reason, hours) in [(1, "malformed", 1), (2, "malformed", 5), (3, "id_reused", 5)] {
        let seen = (Timestamp::now() - hour * hours).to_string();
        let marks = headers(&[("x-mfa-reason", long(reason)), ("x-mfa-first-seen", long(&seen))]);
        let ours = BasicProperties::default().with_user_id(user.as_str().into()).with_headers(marks);
        messages.push((ours, request("same", number, "re-register").to_string().into_bytes()));
    }
    messages.push((BasicProperties::default(), b"of unknown age".to_vec()));
    put(&mut stage, "dead-letters", "reset", messages).await;
    let tickets = |stage: &Stage, filter: &[&str]| {
        let number = |letter: Value| letter["ticket_number"].as_str().map_or(0, |number| number[3..].parse().unwrap());
        list(stage, filter).into_iter().map(number).collect::<Vec<u32>>()
    };
    assert_eq!(tickets(&stage, &[]), [1, 2, 3, 0]);
    assert_eq!(tickets(&stage, &["--reason", "malformed"]), [1, 2]);
    assert_eq!(tickets(&stage, &["--reason", "unroutable"]), [0]);
    assert_eq!(tickets(&stage, &["--older-than", "2h"]), [2, 3]);
    assert_eq!(tickets(&stage, &["--newer-than", "2h"]), [1]);
    assert_eq!(tickets(&stage, &["--ticket", "INC0000003"]), [3]);
    assert_eq!(tickets(&stage, &["--ticket", "INC0000003", "--reason", "malformed"]), [0; 0]);

    let before = look(&mut stage).await;
    for deed in ["replay", "discard"] {
        let dry = text(&command(&stage, 0, &[deed, "--older-than", "2h", "--dry-run"]).stdout);
        let rows: Vec<&str> = dry.lines().collect();
        assert!(rows.len() == 3 && rows[0].contains("INC0000002") && rows[1].contains("INC0000003"), "{dry}");
        assert!(rows[2].starts_with("would be ") && rows[2].ends_with("ed: 2"), "{dry}");
    }
    assert_eq!(look(&mut stage).await, before);
    assert_eq!(stage.queues.requests_waiting().await, 0);
    let table = text(&command(&stage, 0, &["list"]).stdout);
    assert!(table.lines().count() == 5 && table.starts_with("ID "), "{table}");
    assert!(!table.contains(&upn(1)) && !table.contains("of unknown age"), "no names, no bodies: {table}");

    let id = list(&stage, &["--ticket", "INC0000001"])[0]["id"].as_str().unwrap().to_owned();
    let done = command(&stage, 1, &["discard", &id[..16], "00000000", "--by", "sam"]);
    assert_eq!(text(&done.stdout), "discarded: 1\n");
    assert!(text(&done.stderr).contains("no dead letter has the id 00000000"));
    assert_eq!(tickets(&stage, &[]), [2, 3, 0]);
}

#[tokio::test]
async fn nothing_but_what_is_allowed_travels_and_times_are_kept() {
    let mut stage = stage().await;
    let user = stage.queues.user();
    let marks = headers(&[
        ("x-mfa-reason", long("id_reused")),
        ("x-mfa-detail", long("in words")),
        ("x-mfa-first-seen", long("2026-11-20T09:15:07.123456789Z")),
        ("x-mfa-attempt", AMQPValue::LongInt(3)),
        ("x-mfa-producer", long("itsm")),
        ("traceparent", long(TRACE)),
        ("CC", AMQPValue::FieldArray(vec![long("batch")].into())),
        ("other", long("y")),
    ]);
    let ours = BasicProperties::default().with_user_id(user.as_str().into()).with_headers(marks);
    let ours = ours.with_message_id("m-1".into()).with_correlation_id("c-1".into());
    let ours = ours.with_content_type("application/json".into()).with_content_encoding("gzip".into());
    let ours = ours.with_reply_to("r".into()).with_expiration("3600000".into()).with_priority(9);
    let ours = ours.with_timestamp(7).with_type("t".into()).with_app_id("a".into());
    put(&mut stage, "dead-letters", "reset.some.key", vec![(ours, b"the body \xff".to_vec())]).await;
    // The broker has sent what has a CC there too, and there is one queue.
    until(SOON, "the letter", async || stage.queues.waiting("dead-letters").await == 1).await;
    command(&stage, 0, &["replay", "--all", "--by", "sam"]);

    let copy = copy(&mut stage).await;
    assert_eq!((copy.routing_key.as_str(), copy.data.as_slice()), ("reset", &b"the body \xff"[..]));
    let expected = headers(&[
        ("traceparent", long(TRACE)),
        ("x-mfa-attempt", AMQPValue::LongLongInt(3)),
        ("x-mfa-first-seen", long("2026-11-20T09:15:07.123456789Z")),
        ("x-mfa-producer", long("itsm")),
        ("x-mfa-replayed", AMQPValue::Boolean(true)),
    ]);
    let expected = BasicProperties::default().with_headers(expected).with_user_id(user.as_str().into());
    let expected = expected.with_message_id("m-1".into()).with_correlation_id("c-1".into());
    let expected = expected.with_content_type("application/json".into()).with_delivery_mode(2);
    assert_eq!(copy.properties, expected.with_app_id("mfa-reset".into()));
    assert_eq!(stage.queues.requests_waiting().await + stage.queues.waiting("dead-letters").await, 0);
}

#[tokio::test]
async fn what_the_broker_gave_up_is_carried_out_and_was_seen_before_it_died() {
    let mut stage = stage().await;
    let (user, requests) = (stage.queues.user(), [request("given-up", 8, "re-register")]);
    stage.queues.publish("reset.deep", &bodies(&requests), Some(&user)).await;
    let sent = Timestamp::now();
    give_up(&mut stage).await;
    let letter = list(&stage, &["--reason", "delivery_limit"]).remove(0);
    assert_eq!((&letter["first_seen"], &letter["producer"]), (&Value::Null, &user.as_str().into()));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    command(&stage, 0, &["replay", "--all", "--by", "sam"]);
    let given_up = copy(&mut stage).await;
    assert_eq!(header(&given_up, "x-mfa-producer"), Some(user.clone()));
    let seen: Timestamp = header(&given_up, "x-mfa-first-seen").expect("a time").parse().unwrap();
    let late = seen.duration_since(sent).as_secs_f64();
    assert!((-1.0..2.0).contains(&late), "seen {late} s after it was sent, and replayed after more than 2 s");

    // Again, to the end.
    stage.queues.publish("reset.deep", &bodies(&requests), Some(&user)).await;
    give_up(&mut stage).await;
    command(&stage, 0, &["replay", "--all", "--by", "sam"]);
    stage.start_worker().await;
    let mut history = History::default();
    history.collect(&mut stage, &requests, SOON).await;
    assert_ne!(history.result("given-up")["outcome"], "denied");
    assert!(stage.metric("mfa_reset_jobs_total", "outcome=\"succeeded\"").await >= 1.0);

    // A request that is concluded is told its result again.
    let told = history.len();
    stage.stop_worker();
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    give_up(&mut stage).await;
    command(&stage, 0, &["replay", "--ticket", "INC0000008", "--by", "sam"]);
    stage.start_worker().await;
    until(SOON, "the result comes again", async || {
        history.take(&mut stage).await;
        history.len() > told
    })
    .await;
    history.assert_complete(&requests);
    stage.finish().await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn every_check_is_made_again() {
    let mut stage = stage().await;
    stage.set("POLICY__PRODUCERS", "servicenow");
    let user = stage.queues.user();
    let forged = headers(&[
        ("x-mfa-producer", long("servicenow")),
        ("x-mfa-first-seen", long(&Timestamp::now().to_string())),
        ("x-mfa-attempt", AMQPValue::LongInt(7)),
        ("x-mfa-replayed", AMQPValue::Boolean(false)),
    ]);
    let requests = [
        request("of-the-worker-itself", 1, "re-register"),
        request("of-nobody", 2, "re-register"),
        request("forged", 3, "re-register"),
        request("seen-by-a-worker", 4, "re-register"),
        request("expired", 5, "re-register"),
    ];
    let [own, nobody, forger, seen, expired] = <[Vec<u8>; 5]>::try_from(bodies(&requests)).unwrap();
    let ours = || BasicProperties::default().with_user_id(user.as_str().into());
    let publish = vec![
        (ours(), own),
        (BasicProperties::default(), nobody),
        (BasicProperties::default().with_headers(forged), forger),
    ];
    put(&mut stage, "requests", "reset", publish).await;
    give_up(&mut stage).await;
    // As a worker leaves them: a body that was malformed when it came, before anybody asked who sent it; and an old one.
    let of = |producer: &str, hours: i64| {
        let seen = Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        let marks = [("x-mfa-first-seen", long(&seen.to_string())), ("x-mfa-producer", long(producer))];
        ours().with_headers(headers(&marks))
    };
    let mut undated: Value = serde_json::from_slice(&expired).unwrap();
    undated.as_object_mut().unwrap().remove("requested_at");
    let left = vec![(of("eve", 0), seen), (of("servicenow", 25), undated.to_string().into_bytes())];
    put(&mut stage, "dead-letters", "reset", left).await;

    command(&stage, 0, &["replay", "--all", "--by", "sam"]);
    stage.start_worker().await;
    let before = stage.simulator.deleted().await.len();
    let mut history = History::default();
    history.collect(&mut stage, &requests, SOON).await;
    for id in &ids(&requests)[..4] {
        assert_eq!(history.result(id)["reason_code"], "producer_not_allowed", "{id}");
    }
    // Before this ledger was born: what an earlier one knew of it is lost, and it is not carried out either.
    let outcome = &history.result("expired")["reason_code"];
    assert!(["expired", "ledger_lost"].map(Value::from).contains(outcome), "{outcome}");
    assert_eq!(stage.simulator.deleted().await.len(), before, "nothing was removed");
    stage.finish().await;
}

#[tokio::test]
async fn what_is_rejected_again_comes_back_once_with_its_times() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let user = stage.queues.user();
    let good = request("one-id", 1, "re-register");
    let mut reused = good.clone();
    reused["target"]["upn"] = json!(upn(2));
    stage.queues.publish("reset", &bodies(std::slice::from_ref(&good)), Some(&user)).await;
    until(SOON, "the first is done", async || stage.queues.waiting("results").await >= 1).await;
    stage.queues.publish("batch", &[reused.to_string().into_bytes(), b"{".to_vec()], Some(&user)).await;
    until(SOON, "two letters", async || stage.queues.waiting("dead-letters").await == 2).await;
    until(SOON, "three results", async || stage.queues.waiting("results").await >= 3).await;
    let event_ids = |messages: Vec<Delivery>| {
        let id = |message: &Delivery| serde_json::from_slice::<Value>(&message.data).unwrap()["id"].to_string();
        messages.iter().map(id).collect::<BTreeSet<_>>()
    };
    let told = event_ids(stage.queues.take("results").await);
    let by_id = |letters: Vec<Value>| {
        letters.into_iter().map(|letter| (letter["id"].to_string(), letter)).collect::<BTreeMap<_, _>>()
    };
    let before = by_id(list(&stage, &[]));
    for round in 0..2 {
        let done = command(&stage, 0, &["replay", "--all", "--by", "sam"]);
        assert_eq!(text(&done.stdout), "replayed: 2\n", "round {round}: each once, although they come back");
        until(SOON, "two letters again", async || stage.queues.waiting("dead-letters").await == 2).await;
        until(SOON, "their results again", async || stage.queues.waiting("results").await == 2).await;
        assert_eq!(by_id(list(&stage, &[])), before, "the same letters with the same times");
        assert!(event_ids(stage.queues.take("results").await).is_subset(&told), "and the same results");
    }
    stage.finish().await;
}

#[tokio::test]
async fn a_replay_killed_at_any_moment_loses_nothing() {
    let seed = fastrand::u64(..);
    println!("seed of the kills: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stage = stage().await;
    let (user, requests) = (stage.queues.user(), mixed(601..=900));
    let ours = BasicProperties::default().with_user_id(user.as_str().into());
    let letters = bodies(&requests).into_iter().map(|body| (ours.clone(), body)).collect();
    put(&mut stage, "dead-letters", "reset", letters).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut kills = 0;
    for goal in [20, 90, 150, 200] {
        let wanted = goal + random.u32(..30);
        let mut replay = stage.spawn(&["dead-letters", "replay", "--all", "--by", "sam"]);
        while stage.queues.waiting("requests.tickets").await < wanted && replay.is_running() {
            assert!(Instant::now() < deadline, "the replay does not come on: {}", replay.output());
        }
        kills += u32::from(replay.is_running());
        replay.kill();
    }
    assert!(kills > 0, "no replay was killed in the middle");
    until(SOON, "the last replay", async || {
        command(&stage, 0, &["replay", "--all", "--by", "sam"]);
        stage.queues.waiting("dead-letters").await == 0 && stage.queues.waiting("requests.tickets").await >= 300
    })
    .await;
    println!("{kills} kills; {} copies of 300", stage.queues.waiting("requests.tickets").await);
    stage.start_worker().await;
    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(90)).await;
    // A copy that met the other one at work waits.
    until(SOON, "no copy waits", async || stage.queues.requests_waiting().await == 0).await;
    stage.finish().await;
    history.take(&mut stage).await;
    history.assert_complete(&requests);
    history.assert_deletes(&stage.simulator.deleted().await, false);
}

#[tokio::test]
async fn several_operators_at_once_are_safe() {
    let mut stage = stage().await;
    let user = stage.queues.user();
    let ours = BasicProperties::default().with_user_id(user.as_str().into());
    let letters = (0..600).map(|number| (ours.clone(), format!("body {number}").into_bytes())).collect();
    put(&mut stage, "dead-letters", "reset", letters).await;
    let mut operators: Vec<_> = [["replay"], ["replay"], ["list"]]
        .iter()
        .map(|deed| match deed {
            ["replay"] => stage.spawn(&["dead-letters", "replay", "--all", "--by", "sam"]),
            _ => stage.spawn(&["dead-letters", "list"]),
        })
        .collect();
    for operator in &mut operators {
        assert_eq!(operator.exit_code(SOON), Some(0), "{}", operator.output());
    }
    until(SOON, "all are replayed", async || {
        command(&stage, 0, &["replay", "--all", "--by", "sam"]);
        stage.queues.waiting("dead-letters").await == 0 && stage.queues.waiting("requests.tickets").await >= 600
    })
    .await;
    let copies = stage.queues.take("requests.tickets").await;
    let distinct: BTreeSet<_> = copies.iter().map(|copy| &copy.data).collect();
    assert_eq!((copies.len(), distinct.len()), (600, 600), "each letter once");
}

#[tokio::test]
async fn what_cannot_be_replayed_stays_and_is_told() {
    let mut stage = stage().await;
    let user = stage.queues.user();
    let ours = || BasicProperties::default().with_user_id(user.as_str().into());
    let cut = ours().with_headers(headers(&[("x-mfa-reason", long("malformed"))]));
    put(&mut stage, "dead-letters", "reset", vec![(cut, vec![b' '; 65_536])]).await;
    for dry in [&["--dry-run"][..], &[]] {
        let done = command(&stage, 1, &[&["replay", "--all", "--by", "sam"], dry].concat());
        assert!(text(&done.stderr).contains("its body was too long"), "{}", text(&done.stderr));
    }
    command(&stage, 0, &["discard", "--all", "--by", "sam"]);

    put(&mut stage, "dead-letters", "reset", vec![(ours(), b"a".to_vec()), (ours(), b"b".to_vec())]).await;
    let (channel, lane) = (stage.queues.channel().await, stage.queues.name("requests.tickets"));
    let requests = stage.queues.name("requests");
    let unbind = |key: &'static str| {
        channel.queue_unbind(lane.as_str().into(), requests.as_str().into(), key.into(), FieldTable::default())
    };
    unbind("reset.#").await.unwrap();
    let done = command(&stage, 1, &["replay", "--all", "--by", "sam"]);
    assert_eq!(text(&done.stdout), "replayed: 0\n");
    assert!(text(&done.stderr).contains("no queue is bound"), "{}", text(&done.stderr));
    assert_eq!(look(&mut stage).await.len(), 2, "they stay");

    stage.set("BROKER__PREFIX", "no-such-prefix");
    let done = command(&stage, 64, &["list"]);
    assert!(text(&done.stderr).contains("no queue no-such-prefix.dead-letters"), "{}", text(&done.stderr));
}

#[tokio::test]
async fn no_letter_attacks_the_terminal_of_whoever_looks() {
    const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\r\n\u{7f}";
    let mut stage = stage().await;
    let mut body = request("evil", 1, "re-register");
    body["ticket"]["number"] = json!(EVIL);
    let marks = headers(&[("x-mfa-reason", long(EVIL)), ("x-mfa-detail", long(EVIL)), (EVIL, long(EVIL))]);
    let evil = BasicProperties::default().with_headers(marks).with_message_id(EVIL.into());
    let raw = [body.to_string().as_bytes(), EVIL.as_bytes(), b"\xff\x9b"].concat();
    put(&mut stage, "dead-letters", EVIL, vec![(evil.clone(), body.to_string().into_bytes()), (evil, raw)]).await;
    let letters = list(&stage, &["--reason", EVIL]);
    assert_eq!((letters.len(), &letters[0]["detail"]), (2, &EVIL.into()));
    let mut seen = Vec::new();
    for letter in &letters {
        let id = letter["id"].as_str().unwrap();
        seen.push(command(&stage, 0, &["show", id]));
        seen.push(command(&stage, 0, &["discard", id, "--dry-run"]));
    }
    seen.push(command(&stage, 0, &["list"]));
    seen.push(command(&stage, 0, &["list", "--json"]));
    for shown in seen {
        for said in [text(&shown.stdout), text(&shown.stderr)] {
            let evil = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!said.contains(evil), "{said:?}");
        }
    }
}

#[tokio::test]
async fn each_replay_and_discard_leaves_a_record_that_verifies() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let user = stage.queues.user();
    let mut bad = request("bad", 7, "re-register");
    bad["extra"] = json!(1);
    stage.queues.publish("batch", &bodies(std::slice::from_ref(&bad)), Some(&user)).await;
    until(SOON, "it is rejected", async || stage.queues.waiting("dead-letters").await == 1).await;
    command(&stage, 0, &["replay", "--all", "--by", "sam@contoso.test", "--note", "fixed in CHG1"]);
    until(SOON, "it is rejected again", async || stage.queues.waiting("dead-letters").await == 1).await;
    command(&stage, 0, &["discard", "--all", "--by", "kim@contoso.test"]);
    command(&stage, 0, &["discard", "--all", "--by", "kim@contoso.test"]);

    let export = text(&stage.command(&["audit", "export", "--ticket", "INC0000007"]).stdout);
    let records: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<_> = records.iter().map(|record| record["metadata"]["event_code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["dead_letter_replayed", "dead_letter_discarded"]);
    let [replayed, discarded] = [&records[0], &records[1]];
    assert_eq!(replayed["actor"]["user"]["uid"], "sam@contoso.test");
    assert_eq!(discarded["actor"]["user"]["uid"], "kim@contoso.test");
    let about = &replayed["unmapped"];
    assert_eq!((&about["note"], &about["reason_code"]), (&"fixed in CHG1".into(), &"malformed".into()));
    assert_eq!((&about["lane"], &about["producer"]), (&"batch".into(), &user.as_str().into()));
    assert_eq!(about["body_sha256"].as_str().map(str::len), Some(64));
    assert!(!export.contains(&upn(7)), "no body");
    stage.finish().await;
    let verified = stage.command(&["audit", "verify"]);
    assert!(text(&verified.stdout).starts_with("ok: "), "{}", text(&verified.stdout));
}
