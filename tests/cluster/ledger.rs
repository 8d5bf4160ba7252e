//! The ledger in a real PostgreSQL, shared by several processes: turns, leases by the database's clock, users, holds, the
//! outbox, and a database that is killed in the middle of a commit. This one calls the library.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use mfa_reset::adapters::ledger::{Ledger, OpenError, SigningKey, Verified, export, record_beside, verify};
use mfa_reset::domain::event::{self, Facts};
use mfa_reset::domain::outcome::{Fault, Outcome, OutcomeKind};
use mfa_reset::domain::plan::Plan;
use mfa_reset::domain::profile::Profiles;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::{Envelope, Lane, Request};
use mfa_reset::ports::{Conclusion, Lease, Recall, UserHold};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::postgres::Postgres;
use crate::stage::until;

const USER: &str = "00000000-0000-4000-8000-000000000001";
const CALL: Duration = Duration::from_secs(2);

/// A database of its own, and a key.
struct Room {
    postgres: Postgres,
    url: String,
    directory: TempDir,
}

impl Room {
    async fn new() -> Self {
        let postgres = Postgres::start().await;
        let url = postgres.url(&postgres.address());
        Self { postgres, url, directory: TempDir::new().unwrap() }
    }

    fn key(&self) -> SigningKey {
        SigningKey::load_or_create(&self.directory.path().join("key")).unwrap()
    }

    async fn open(&self, instance: &str) -> Ledger {
        Ledger::open(&self.url, instance, self.key(), CALL, Timestamp::now()).await.unwrap()
    }

    /// Lets this much time pass for whatever the statement names.
    async fn change(&self, statement: &'static str) -> u64 {
        let mut conn = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query(statement).execute(&mut conn).await.unwrap().rows_affected()
    }

    async fn verify(&self) -> (Verified, Vec<Value>) {
        let mut log = Vec::new();
        export(&self.url, &mut log, None).await.unwrap();
        let lines = String::from_utf8(log.clone()).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (verify(&log[..], None, &[]).unwrap(), lines)
    }
}

fn hours(count: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(count)
}

fn request(id: &str) -> Request {
    let body = json!({
        "id": id, "ticket": {"system": "servicenow", "number": "INC1"}, "target": {"object_id": USER},
        "profile": "re-register", "requested_by": "sam@contoso.test",
    });
    Request::parse(body.to_string().as_bytes(), &Envelope::bare(Lane::Tickets), &Profiles::default()).unwrap()
}

fn plan() -> Plan {
    crate::plan::plan(USER, &request("1"), Timestamp::now())
}

fn record(phase: &str, id: &str) -> Value {
    let time = Timestamp::now().as_millisecond();
    json!({"metadata": {"event_code": phase, "correlation_uid": format!("servicenow/{id}")}, "time": time})
}

fn conclusion(request: &Request) -> Conclusion {
    let (now, outcome) =
        (Timestamp::now(), Outcome::untouched(OutcomeKind::NothingToDo, Reason::NothingToRemove, None));
    let facts = Facts { user: Some(USER), attempts: 1, started_at: now, finished_at: now };
    let event = event::result("result", request, &Envelope::bare(Lane::Tickets), &outcome, &facts);
    Conclusion { outcome, event, audit: record("conclusion", &request.key.id), changes: Vec::new() }
}

async fn take(ledger: &Ledger, request: &Request, now: Timestamp) -> Lease {
    let recall = ledger.recall(request, &Envelope::bare(Lane::Tickets), now).await.unwrap();
    if let Recall::Leased(lease, _) = recall { lease } else { panic!("leased expected, not {recall:?}") }
}

#[tokio::test]
async fn replicas_that_start_together_make_one_ledger_with_a_chain_each() {
    let room = Room::new().await;
    let names = ["a", "b", "c", "d", "e"];
    let ledgers = join_all(names.map(|name| room.open(name))).await;
    let births: BTreeSet<_> = ledgers.iter().map(Ledger::birth).collect();
    let keys: BTreeSet<_> = ledgers.iter().map(Ledger::digest_key).collect();
    assert_eq!((births.len(), keys.len()), (1, 1), "they agree on the ledger's age and key");
    let late = ledgers.first().unwrap();
    late.record_refusal(record("refusal", "R1")).await.unwrap();
    record_beside(&room.url, "operator", room.key(), vec![record("replay", "R2"); 3], Timestamp::now()).await.unwrap();
    late.record_refusal(record("refusal", "R3")).await.unwrap();
    let (found, _) = room.verify().await;
    assert_eq!((found.records, found.chains), (5 + 2 + 1 + 3, 6), "chains go on after others have begun");
}

#[tokio::test]
async fn leases_go_by_the_clock_of_the_database() {
    let room = Room::new().await;
    let (ours, theirs, request) = (room.open("a").await, room.open("b").await, request("R1"));
    let lease = take(&ours, &request, Timestamp::now()).await;
    for clock in [hours(-5), Timestamp::now(), hours(5)] {
        let recall = theirs.recall(&request, &Envelope::bare(Lane::Tickets), clock).await.unwrap();
        assert!(matches!(recall, Recall::Busy(_)), "a clock that is wrong takes no lease: {recall:?}");
    }
    ours.write_plan(&lease, &plan(), record("intent", "R1"), 9, hours(-3)).await.unwrap();
    let next = || Some((0, plan().send(0, Timestamp::now(), Uuid::nil())));
    assert_eq!(ours.advance(&lease, Vec::new(), next(), hours(3)).await, Ok(()));

    // It ran out a second ago: nothing more is sent under it, and a call under way may still end.
    let run_out = "UPDATE jobs SET lease_until = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT - 1000";
    assert_eq!(room.change(run_out).await, 1);
    ours.renew(vec![(lease.job, lease.fence)], hours(-3)).await.unwrap();
    assert_eq!(ours.advance(&lease, Vec::new(), next(), hours(-3)).await, Err(Fault::LeaseLost));
    let recall = theirs.recall(&request, &Envelope::bare(Lane::Tickets), hours(5)).await.unwrap();
    assert!(matches!(recall, Recall::Busy(_)), "its longest call is not over: {recall:?}");
    room.change("UPDATE jobs SET lease_until = lease_until - 2000").await;
    let newer = take(&theirs, &request, hours(-5)).await;
    assert_eq!(newer.fence, lease.fence + 1);
    assert_eq!(ours.advance(&lease, Vec::new(), None, Timestamp::now()).await, Err(Fault::LeaseLost));
    assert_eq!(ours.record_outcome(&lease, &conclusion(&request), Timestamp::now()).await, Err(Fault::LeaseLost));
    theirs.record_outcome(&newer, &conclusion(&request), Timestamp::now()).await.unwrap();
    let recall = ours.recall(&request, &Envelope::bare(Lane::Tickets), Timestamp::now()).await.unwrap();
    assert!(matches!(recall, Recall::Concluded(_)), "{recall:?}");
    let phases = |lines: Vec<Value>| {
        let phase = |line: &Value| line.pointer("/metadata/event_code").and_then(Value::as_str).map(str::to_owned);
        lines.iter().filter_map(phase).filter(|phase| phase == "conclusion").count()
    };
    assert_eq!(phases(room.verify().await.1), 1, "a late outcome leaves no record");
}

#[tokio::test]
async fn users_holds_and_the_outbox_are_shared() {
    let room = Room::new().await;
    let (ours, theirs, now) = (room.open("a").await, room.open("b").await, Timestamp::now());
    let (one, two) = (request("R1"), request("R2"));
    let (first, second) = (take(&ours, &one, now).await, take(&theirs, &two, now).await);
    let (left, right) = tokio::join!(ours.take_user(&first, USER, now), theirs.take_user(&second, USER, now));
    let taken = [left.unwrap(), right.unwrap()];
    assert_eq!(taken.iter().filter(|hold| **hold == UserHold::Busy).count(), 1, "one of them has the user: {taken:?}");

    // A worker whose clock is an hour slow hears of a hold of 40 seconds; the other keeps to it by its own clock.
    ours.hold(hours(-1) + SignedDuration::from_secs(40), hours(-1)).await.unwrap();
    let until = theirs.held_until(hours(2)).await.unwrap().expect("a hold").duration_since(hours(2));
    assert!((SignedDuration::from_secs(35)..SignedDuration::from_secs(41)).contains(&until), "{until}");

    let open = async || {
        (theirs.open_jobs(Lane::Tickets, now).await.unwrap(), theirs.open_jobs(Lane::Batch, now).await.unwrap())
    };
    let ((tickets, age), batch) = open().await;
    assert!(
        tickets == 2 && age < Duration::from_secs(60) && batch == (0, Duration::ZERO),
        "{tickets} {age:?} {batch:?}"
    );
    let done = conclusion(&one);
    ours.record_outcome(&first, &done, now).await.unwrap();
    assert_eq!(open().await.0.0, 1, "the other one is open still");
    let (left, right) =
        tokio::join!(ours.pending_events(Duration::ZERO, 9, now), theirs.pending_events(Duration::ZERO, 9, now));
    assert_eq!([left.unwrap(), right.unwrap()].concat(), vec![done.event.clone()], "one of them posts it");
    room.change("UPDATE outbox SET claimed_until = claimed_until - 60000").await;
    assert_eq!(theirs.pending_events(Duration::ZERO, 9, now).await.unwrap().len(), 1, "a claim ends");
}

#[tokio::test]
async fn another_replica_posts_the_records_of_one_that_died() {
    let room = Room::new().await;
    let (dead, alive, now) = (room.open("a").await, room.open("b").await, Timestamp::now());
    dead.record_refusal(record("refusal", "R1")).await.unwrap();
    assert_eq!(alive.pending_audit(9, now).await.unwrap().len(), 2, "its own birth and checkpoint");
    drop(dead);
    room.change("UPDATE audit SET claimed_until = claimed_until - 60000").await;
    let lines = alive.pending_audit(9, now).await.unwrap();
    assert_eq!(lines.len(), 5, "and three of the other");
    let rows: Vec<i64> = lines.into_iter().map(|(row, _)| row).collect();
    alive.mark_audit_published(&rows).await.unwrap();
    assert_eq!(alive.pending_audit(9, now).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_killed_in_the_middle_of_commits_breaks_no_chain_and_loses_no_record() {
    let room = Arc::new(Room::new().await);
    let ledgers = [Arc::new(room.open("a").await), Arc::new(room.open("b").await)];
    let mut writers = JoinSet::new();
    for number in 0..40 {
        let ledger = ledgers[number % 2].clone();
        writers.spawn(async move {
            let (mut stored, mut failed) = (Vec::new(), 0);
            for turn in 0..25 {
                let id = format!("W{number}-{turn}");
                match ledger.record_refusal(record("refusal", &id)).await {
                    Ok(()) => stored.push(id),
                    Err(_) => failed += 1,
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            (stored, failed)
        });
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        room.postgres.kill();
        room.postgres.again();
        room.postgres.wait(Duration::from_secs(60)).await;
    }
    let (mut stored, mut failed) = (BTreeSet::new(), 0);
    for (some, more) in writers.join_all().await {
        stored.extend(some);
        failed += more;
    }
    assert!(failed > 0 && !stored.is_empty(), "{failed} writes failed, {} were stored", stored.len());
    for ledger in &ledgers {
        let heals = async || ledger.record_refusal(record("refusal", "last")).await.is_ok();
        until(Duration::from_secs(60), "the ledger heals", heals).await;
    }
    let (found, lines) = room.verify().await;
    let id = |line: &Value| Some(line.pointer("/metadata/correlation_uid")?.as_str()?.split_once('/')?.1.to_owned());
    let kept: BTreeSet<_> = lines.iter().filter_map(id).collect();
    assert_eq!(stored.difference(&kept).count(), 0, "a record that was stored is there");
    assert_eq!(found.chains, 2);
}

#[tokio::test]
async fn a_chain_that_somebody_else_changed_is_neither_continued_nor_signed() {
    let room = Room::new().await;
    let ledger = room.open("a").await;
    ledger.record_refusal(record("refusal", "R1")).await.unwrap();
    let hang_up =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'mfa'";
    room.change(hang_up).await;
    let heals = async || ledger.record_refusal(record("refusal", "R2")).await.is_ok();
    until(Duration::from_secs(30), "a line that was cut is no matter", heals).await;
    let before = room.verify().await.0.records;

    assert_eq!(room.change("DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)").await, 1);
    room.change(hang_up).await;
    for _ in 0..3 {
        assert!(ledger.record_refusal(record("refusal", "R3")).await.is_err());
        assert!(ledger.checkpoint(Timestamp::now()).await.is_err());
    }
    let mut log = Vec::new();
    export(&room.url, &mut log, None).await.unwrap();
    let lines = String::from_utf8(log).unwrap().lines().filter(|line| line.contains("event_code")).count() as u64;
    assert_eq!(lines, before - 1, "nothing was added");
}

#[tokio::test]
async fn a_letter_with_a_zero_in_it_can_be_settled() {
    let room = Room::new().await;
    drop(room.open("a").await);
    let mut letter = record("dead_letter_discarded", "R1");
    letter["unmapped"] = json!({"ticket": {"number": "x\u{0}"}});
    record_beside(&room.url, "operator", room.key(), vec![letter], Timestamp::now()).await.unwrap();
    assert_eq!(room.verify().await.0.chains, 2);
}

#[tokio::test]
async fn a_database_that_is_away_can_be_waited_for_and_a_newer_one_cannot() {
    let room = Room::new().await;
    drop(room.open("a").await);
    let wrong = room.url.replace("canary-", "wrong-");
    let refused = Ledger::open(&wrong, "b", room.key(), CALL, Timestamp::now()).await;
    assert!(matches!(refused, Err(OpenError::Unreachable(_))));
    room.change("INSERT INTO _sqlx_migrations VALUES (9999, 'of a later version', now(), TRUE, '', 0)").await;
    let newer = Ledger::open(&room.url, "b", room.key(), CALL, Timestamp::now()).await;
    assert!(matches!(newer, Err(OpenError::Sql(_))));
}
