//! The ledger against a real SQLite file: leases and fencing, plans, limits, crashes, and the audit chain.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "ledger/plan.rs"]
mod plan;

use std::fs::OpenOptions;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mfa_reset::adapters::ledger::{Bad, KeyError, Ledger, OpenError, PublicKey, SigningKey, Verified, export, verify};
use mfa_reset::domain::audit::{self, Head};
use mfa_reset::domain::event::{self, Event, Facts};
use mfa_reset::domain::method::MethodType;
use mfa_reset::domain::outcome::{Fault, MethodReport, MethodResult, Outcome, OutcomeKind};
use mfa_reset::domain::plan::{Plan, State, Step};
use mfa_reset::domain::profile::Profiles;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::{Envelope, Lane, Request};
use mfa_reset::ports::{Conclusion, Deferral, Lease, Recall, UserHold};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

/// How long a call to Graph may take here.
const CALL: Duration = Duration::from_secs(2);
const USER: &str = "00000000-0000-4000-8000-000000000001";

fn t(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn key(dir: &TempDir) -> SigningKey {
    SigningKey::load_or_create(&dir.path().join("audit.key")).unwrap()
}

fn url(dir: &TempDir) -> String {
    format!("sqlite:{}", dir.path().join("ledger.db").display())
}

async fn open(dir: &TempDir) -> Ledger {
    Ledger::open(&url(dir), "test", key(dir), CALL, t(0)).await.unwrap()
}

fn envelope(deferral: u32, first_seen: Option<Timestamp>) -> Envelope {
    Envelope { correlation_id: Some("corr".to_owned()), first_seen, deferral, ..Envelope::bare(Lane::Tickets) }
}

fn request(id: &str, upn: &str) -> Request {
    let body = json!({
        "id": id, "ticket": {"system": "servicenow", "number": "INC1"}, "target": {"upn": upn},
        "profile": "re-register", "requested_by": "sam@contoso.com",
    });
    Request::parse(body.to_string().as_bytes(), &envelope(0, None), &Profiles::default()).unwrap()
}

fn plan() -> Plan {
    plan::plan(USER, &request("1", "ada@contoso.com"), t(0))
}

fn record(phase: &str, id: &str) -> Value {
    json!({
        "metadata": {"event_code": phase, "correlation_uid": format!("servicenow/{id}")},
        "user": {"uid": USER}, "unmapped": {"ticket": {"number": "INC1"}}, "time": 1,
    })
}

fn conclusion(request: &Request, result: MethodResult, changes: Vec<(usize, Step)>) -> Conclusion {
    let mut outcome = Outcome::untouched(OutcomeKind::Succeeded, Reason::Done, None);
    outcome.methods = vec![MethodReport {
        method_type: MethodType::Fido2,
        id: Some("f1".to_owned()),
        result: Some(result),
        reason_code: None,
        registered_at: None,
    }];
    let facts = Facts { user: Some(USER), attempts: 1, started_at: t(0), finished_at: t(1) };
    let event = event::result("result", request, &envelope(0, None), &outcome, &facts);
    Conclusion { outcome, event, audit: record("conclusion", &request.key.id), changes }
}

fn leased(recall: Recall) -> (Lease, Option<Plan>) {
    if let Recall::Leased(lease, plan) = recall { (lease, plan) } else { panic!("leased expected, not {recall:?}") }
}

async fn take(ledger: &Ledger, request: &Request, now: Timestamp) -> Lease {
    leased(ledger.recall(request, &envelope(0, None), now).await.unwrap()).0
}

fn deferral(number: u32, spends: bool) -> Deferral {
    Deferral { number, spends, told: false, changes: Vec::new() }
}

async fn exported(dir: &TempDir, about: Option<&str>) -> Vec<String> {
    let mut out = Vec::new();
    export(&url(dir), &mut out, about).await.unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn check(lines: &[String]) -> Result<Verified, Bad> {
    let log: String = lines.iter().map(|line| format!("{line}\n")).collect();
    verify(log.as_bytes(), None, &[])
}

#[tokio::test]
async fn a_lease_that_ran_out_is_not_revived() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let request = request("R1", "ada@contoso.test");
    let (lease, _) = leased(ledger.recall(&request, &envelope(0, None), t(0)).await.unwrap());
    ledger.renew(vec![(lease.job, lease.fence)], t(10)).await.unwrap();
    assert!(matches!(ledger.recall(&request, &envelope(0, None), t(20)).await.unwrap(), Recall::Busy(_)));
    // Frozen past its end; the renewal comes first when it wakes, and the attempt must not go on.
    ledger.renew(vec![(lease.job, lease.fence)], t(40)).await.unwrap();
    let next = Some((0, plan().send(0, t(40), Uuid::nil())));
    assert_eq!(ledger.advance(&lease, Vec::new(), next, t(40)).await, Err(Fault::LeaseLost));
    leased(ledger.recall(&request, &envelope(0, None), t(40)).await.unwrap());
}

#[tokio::test]
async fn a_job_that_nobody_delivers_any_more_is_found_past_its_time() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let request = request("R1", "ada@contoso.test");
    let (lease, _) = leased(ledger.recall(&request, &envelope(0, None), t(0)).await.unwrap());
    ledger.take_user(&lease, USER, t(1)).await.unwrap();
    ledger.write_plan(&lease, &plan(), json!({}), 9, t(1)).await.unwrap();
    let overdue = async |before: Timestamp, now: Timestamp| {
        let age = now.duration_since(before).try_into().unwrap_or_default();
        ledger.overdue(age, now).await.unwrap()
    };
    assert!(overdue(t(0), t(100)).await.is_none(), "not before its time");
    assert!(overdue(t(10), t(10)).await.is_none(), "a live attempt has it");
    let found = overdue(t(50), t(100)).await.unwrap();
    assert_eq!((found.lease.fence, found.user.as_deref()), (lease.fence + 1, Some(USER)));
    assert_eq!((&found.job.request.key, found.plan.is_some()), (&request.key, true));
    assert!(overdue(t(50), t(101)).await.is_none(), "it is leased now");
    let done = conclusion(&request, MethodResult::Removed, Vec::new());
    ledger.record_outcome(&found.lease, &done, t(102)).await.unwrap();
    assert!(overdue(t(50), t(500)).await.is_none(), "and concluded");
}

#[tokio::test]
async fn recall_tells_what_is_known() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let first = request("R1", "ada@contoso.test");
    let recall = async |request: &Request, deferral, seen, now| {
        ledger.recall(request, &envelope(deferral, seen), now).await.unwrap()
    };
    let (lease, plan) = leased(recall(&first, 0, None, t(1)).await);
    assert_eq!((lease.fence, lease.first_seen, lease.attempts, lease.deferrals), (1, t(1), 0, 0));
    assert!(plan.is_none());
    assert!(matches!(recall(&first, 0, None, t(2)).await, Recall::Busy(busy) if busy.fence == -1));
    assert!(matches!(recall(&request("R1", "eve@contoso.test"), 9, None, t(2)).await, Recall::Reused));
    // The reuse has not spoilt the number: the first is deferred once, and an older copy is superseded.
    ledger.record_deferral(&lease, &deferral(1, true)).await.unwrap();
    assert!(matches!(recall(&first, 0, Some(t(1)), t(3)).await, Recall::Superseded));
    let (lease, _) = leased(recall(&first, 1, Some(t(1)), t(3)).await);
    assert_eq!((lease.fence, lease.first_seen, lease.attempts, lease.deferrals), (2, t(1), 1, 1));
    // A copy whose number was not recorded proves its number.
    assert!(matches!(recall(&first, 2, Some(t(1)), t(4)).await, Recall::Busy(busy) if busy.deferrals == 2));
    assert!(matches!(recall(&first, 1, Some(t(1)), t(4)).await, Recall::Superseded));
    // What the producer sends again always counts, and what a person replays: the copy that waited may be gone.
    assert!(matches!(recall(&first, 0, None, t(4)).await, Recall::Busy(_)));
    let replayed = Envelope { replayed: true, ..envelope(0, Some(t(1))) };
    assert!(matches!(ledger.recall(&first, &replayed, t(4)).await.unwrap(), Recall::Busy(busy) if busy.deferrals == 2));
    let (again, _) = leased(ledger.recall(&first, &replayed, t(30)).await.unwrap());
    assert_eq!((again.first_seen, again.deferrals), (t(1), 2), "it goes on with the job as it stands");
    // Concluded wins over superseded.
    let done = conclusion(&first, MethodResult::Removed, Vec::new());
    ledger.record_outcome(&again, &done, t(31)).await.unwrap();
    assert!(matches!(recall(&first, 0, None, t(32)).await, Recall::Concluded(event) if *event == done.event));
    // Seen before this ledger was born, or after.
    let lost = request("R2", "ada@contoso.test");
    assert!(matches!(recall(&lost, 3, Some(t(-5)), t(7)).await, Recall::LedgerLost(lease) if lease.fence == 1));
    assert!(matches!(recall(&lost, 3, Some(t(-5)), t(30)).await, Recall::LedgerLost(lease) if lease.fence == 2));
    let (lease, _) = leased(recall(&request("R3", "a@b.test"), 3, Some(t(5)), t(7)).await);
    assert_eq!((lease.first_seen, lease.deferrals), (t(5), 3));
    // The clock stepped back: still not older than the ledger.
    assert_eq!(leased(recall(&request("R4", "a@b.test"), 0, None, t(-9)).await).0.first_seen, t(0));
}

#[tokio::test]
async fn a_late_write_is_refused() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let request = request("R1", "ada@contoso.test");
    let late = take(&ledger, &request, t(0)).await;
    ledger.renew(vec![(late.job, late.fence)], t(10)).await.unwrap();
    assert!(matches!(ledger.recall(&request, &envelope(0, None), t(26)).await, Ok(Recall::Busy(_))));
    let newer = take(&ledger, &request, t(27)).await;
    let (plan, lost) = (plan(), Err(Fault::LeaseLost));
    let crossed = vec![(0, plan.steps[0].clone())];
    assert_eq!(ledger.take_user(&late, USER, t(28)).await, Err(Fault::LeaseLost));
    assert_eq!(ledger.write_plan(&late, &plan, record("intent", "R1"), 9, t(28)).await, lost);
    ledger.write_plan(&newer, &plan, record("intent", "R1"), 9, t(28)).await.unwrap();
    assert_eq!(ledger.write_plan(&newer, &plan, record("intent", "R1"), 9, t(28)).await, lost, "a second plan");
    assert_eq!(ledger.advance(&late, crossed.clone(), None, t(28)).await, lost);
    let done = conclusion(&request, MethodResult::Removed, Vec::new());
    assert_eq!(ledger.record_outcome(&late, &done, t(28)).await, lost);
    ledger.record_deferral(&late, &deferral(0, true)).await.unwrap();
    ledger.renew(vec![(late.job, late.fence)], t(90)).await.unwrap();
    // Out of time, but nobody took over: nothing more is sent, what was done is crossed off, and it may conclude.
    let next = Some((1, plan.steps[1].clone()));
    let mut open = plan.clone();
    open.settle(0, MethodResult::Removed, None);
    assert_eq!(ledger.advance(&newer, open.changes(), next, t(60)).await, lost);
    ledger.record_deferral(&newer, &deferral(0, false)).await.unwrap();
    ledger.renew(vec![(newer.job, newer.fence)], t(61)).await.unwrap();
    let (last, found) = leased(ledger.recall(&request, &envelope(0, None), t(62)).await.unwrap());
    assert_eq!((last.fence, last.attempts), (3, 0), "an ended lease is not renewed, a late attempt spends nothing");
    let found = found.unwrap();
    assert!(matches!(found.steps[0].state, State::Done { .. }) && found.steps[1].state == State::Open);
    ledger.record_outcome(&last, &done, t(99)).await.unwrap();
    assert_eq!(ledger.record_outcome(&last, &done, t(99)).await, lost, "a second outcome");
    ledger.close().await;
    assert_eq!(check(&exported(&dir, None).await).unwrap().records, 3, "birth, intent, conclusion");
}

#[tokio::test]
async fn plans_are_limited_by_the_hour() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let write = async |id: &str, now| {
        let lease = take(&ledger, &request(id, "ada@contoso.test"), now).await;
        ledger.write_plan(&lease, &plan(), record("intent", id), 2, now).await
    };
    let reached = |seconds| Err(Fault::QuotaReached { after: Duration::from_secs(seconds) });
    assert_eq!(write("R1", t(0)).await, Ok(()));
    assert_eq!(write("R2", t(100)).await, Ok(()));
    assert_eq!(write("R3", t(200)).await, reached(3400));
    assert_eq!(write("R3", t(3600) - Duration::from_millis(1)).await, reached(1));
    assert_eq!(write("R4", t(3600)).await, Ok(()));
    assert_eq!(write("R5", t(3601)).await, reached(99));
    assert_eq!(ledger.counts().records(), 4, "a plan refused leaves no intent");
}

#[tokio::test]
async fn a_hold_stops_the_next_step_but_not_the_crossing_off() {
    let ledger = Ledger::open("sqlite::memory:", "test", key(&TempDir::new().unwrap()), CALL, t(0)).await.unwrap();
    let request = request("R1", "ada@contoso.test");
    let lease = take(&ledger, &request, t(0)).await;
    let mut plan = plan();
    ledger.write_plan(&lease, &plan, record("intent", "R1"), 9, t(0)).await.unwrap();
    ledger.hold(t(9), t(0)).await.unwrap();
    ledger.hold(t(5), t(0)).await.unwrap();
    assert_eq!(ledger.held_until(t(1)).await.unwrap(), Some(t(9)));
    plan.settle(0, MethodResult::Removed, None);
    let sent = plan.send(1, t(1), Uuid::nil());
    let advanced = ledger.advance(&lease, plan.changes(), Some((1, sent.clone())), t(1)).await;
    let Err(Fault::Throttled { after }) = advanced else { panic!("throttled expected, not {advanced:?}") };
    assert!((Duration::from_secs(7)..=Duration::from_secs(8)).contains(&after), "{after:?}");
    assert_eq!(ledger.held_until(t(9)).await.unwrap(), None);
    let found = leased(ledger.recall(&request, &envelope(0, None), t(20)).await.unwrap());
    assert_eq!(found.1.unwrap().steps[1].state, State::Open);
    ledger.advance(&found.0, Vec::new(), Some((1, sent)), t(20)).await.unwrap();
    let found = leased(ledger.recall(&request, &envelope(0, None), t(40)).await.unwrap()).1.unwrap();
    assert!(matches!(found.steps[0].state, State::Done { .. }) && matches!(found.steps[1].state, State::Sent { .. }));
}

#[tokio::test]
async fn a_user_is_held_by_one_job_from_plan_to_conclusion() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let (one, two) = (request("R1", "ada@contoso.test"), request("R2", "ada@contoso.test"));
    let (first, second) = (take(&ledger, &one, t(0)).await, take(&ledger, &two, t(0)).await);
    assert_eq!(ledger.take_user(&first, USER, t(1)).await, Ok(UserHold::Taken(None)));
    assert_eq!(ledger.take_user(&first, USER, t(1)).await, Ok(UserHold::Taken(None)));
    assert_eq!(ledger.take_user(&second, USER, t(1)).await, Ok(UserHold::Busy));
    ledger.record_deferral(&second, &deferral(0, false)).await.unwrap();
    let second = take(&ledger, &two, t(1)).await;
    assert_eq!(
        ledger.take_user(&second, USER, t(1)).await,
        Ok(UserHold::Busy),
        "a job frees nobody's user but its own"
    );
    ledger.record_deferral(&first, &deferral(0, false)).await.unwrap();
    assert_eq!(ledger.take_user(&second, USER, t(1)).await, Ok(UserHold::Taken(None)), "there was no plan");
    ledger.record_deferral(&second, &deferral(0, false)).await.unwrap();
    let late = Lease { fence: 1, ..take(&ledger, &one, t(2)).await };
    let first = Lease { fence: 2, ..late.clone() };
    assert_eq!(ledger.take_user(&first, USER, t(2)).await, Ok(UserHold::Taken(None)));
    let second = take(&ledger, &two, t(2)).await;
    ledger.record_deferral(&late, &deferral(0, false)).await.unwrap();
    assert_eq!(ledger.take_user(&second, USER, t(2)).await, Ok(UserHold::Busy), "a late attempt frees nobody");
    ledger.write_plan(&first, &plan(), record("intent", "R1"), 9, t(2)).await.unwrap();
    ledger.record_deferral(&first, &deferral(0, false)).await.unwrap();
    assert_eq!(
        ledger.take_user(&second, USER, t(2)).await,
        Ok(UserHold::Busy),
        "a deferred job with a plan keeps its user"
    );
    let first = take(&ledger, &one, t(2)).await;
    ledger.record_outcome(&first, &conclusion(&one, MethodResult::Removed, Vec::new()), t(2)).await.unwrap();
    assert_eq!(ledger.take_user(&second, USER, t(3)).await, Ok(UserHold::Taken(Some(t(2)))));
    ledger.record_outcome(&second, &conclusion(&two, MethodResult::Kept, Vec::new()), t(4)).await.unwrap();
    let third = take(&ledger, &request("R3", "ada@contoso.test"), t(5)).await;
    assert_eq!(ledger.take_user(&third, USER, t(5)).await, Ok(UserHold::Taken(Some(t(2)))), "nothing was removed at 4");
}

#[tokio::test]
async fn open_jobs_are_counted_by_lane_until_they_conclude() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let (one, two, bulk) = (request("R1", "a@b.test"), request("e,\"batch\",", "c@b.test"), request("R3", "d@b.test"));
    let first = take(&ledger, &one, t(0)).await;
    take(&ledger, &two, t(4)).await;
    ledger.recall(&bulk, &Envelope::bare(Lane::Batch), t(6)).await.unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(ledger.open_jobs(Lane::Tickets, t(10)).await.unwrap(), (2, seconds(10)));
    assert_eq!(ledger.open_jobs(Lane::Batch, t(10)).await.unwrap(), (1, seconds(4)));
    ledger.record_outcome(&first, &conclusion(&one, MethodResult::Removed, Vec::new()), t(10)).await.unwrap();
    assert_eq!(ledger.open_jobs(Lane::Tickets, t(10)).await.unwrap(), (1, seconds(6)));
    ledger.close().await;
}

#[tokio::test]
async fn results_and_audit_wait_until_they_are_published() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let request = request("R1", "ada@contoso.test");
    let lease = take(&ledger, &request, t(0)).await;
    let done = conclusion(&request, MethodResult::Removed, Vec::new());
    ledger.record_outcome(&lease, &done, t(10)).await.unwrap();
    assert_eq!(ledger.pending_events(Duration::from_secs(1), 5, t(10)).await.unwrap(), Vec::<Event>::new());
    assert_eq!(ledger.pending_events(Duration::ZERO, 5, t(10)).await.unwrap(), vec![done.event.clone()]);
    assert_eq!(ledger.pending_events(Duration::ZERO, 5, t(69)).await.unwrap(), Vec::<Event>::new(), "it is claimed");
    assert_eq!(ledger.pending_events(Duration::ZERO, 5, t(70)).await.unwrap(), vec![done.event.clone()]);
    assert_eq!(ledger.outbox(t(15)).await.unwrap(), (1, Duration::from_secs(5)));
    ledger.mark_published(done.event.id).await.unwrap();
    assert_eq!(ledger.outbox(t(15)).await.unwrap(), (0, Duration::ZERO));
    ledger.checkpoint(t(11)).await.unwrap();
    let pending = ledger.pending_audit(9, t(12)).await.unwrap();
    let types: Vec<_> = pending.iter().map(|(_, line)| line["type"].as_str()).collect();
    assert_eq!(types, [None, Some("checkpoint"), None, Some("checkpoint")]);
    ledger.mark_audit_published(&[pending[0].0]).await.unwrap();
    assert_eq!(ledger.pending_audit(9, t(12)).await.unwrap(), pending[1..]);
    assert!(ledger.is_writable().await);
    ledger.close().await;
    assert!(!ledger.is_writable().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_commits_and_leave_one_chain() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(open(&dir).await);
    let mut writers = JoinSet::new();
    for number in 0..200 {
        let ledger = ledger.clone();
        writers.spawn(async move {
            let id = format!("R{number}");
            let request = request(&id, "ada@contoso.test");
            let lease = take(&ledger, &request, t(0)).await;
            ledger.write_plan(&lease, &plan(), record("intent", &id), 900, t(0)).await.unwrap();
            let done = conclusion(&request, MethodResult::Removed, Vec::new());
            ledger.record_outcome(&lease, &done, t(1)).await.unwrap();
        });
    }
    writers.join_all().await;
    ledger.checkpoint(t(2)).await.unwrap();
    let commits = ledger.counts().commits();
    assert!(commits < 150, "{commits} commits for 600 writes");
    // While the worker has it open.
    let found = check(&exported(&dir, None).await).unwrap();
    assert_eq!(found, Verified { records: 401, chains: 1, checkpoints: 2, unfinished: 0, uncovered: 0 });
    assert_eq!(ledger.counts().records(), 401);
    assert_eq!(exported(&dir, Some("R7")).await.len(), 2);
    assert_eq!(exported(&dir, Some("INC1")).await.len(), 400);
    assert_eq!(exported(&dir, Some("nobody")).await.len(), 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_whole_write() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    for round in 0..20 {
        let writing = ledger.record_refusal(record("conclusion", "R1"));
        let gone = tokio::time::timeout(Duration::from_micros(round * 50), writing);
        let _ = gone.await;
    }
    ledger.checkpoint(t(1)).await.unwrap();
    ledger.close().await;
    check(&exported(&dir, None).await).unwrap();
}

#[tokio::test]
async fn a_crash_voids_leases_and_keeps_plans() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let digest_key = ledger.digest_key();
    let request = request("R1", "ada@contoso.test");
    let lease = take(&ledger, &request, t(0)).await;
    ledger.write_plan(&lease, &plan(), record("intent", "R1"), 9, t(0)).await.unwrap();
    let refused = Ledger::open(&url(&dir), "second", key(&dir), CALL, t(1)).await;
    assert!(matches!(&refused, Err(error @ OpenError::Locked(_)) if error.to_string().contains("another worker")));
    drop(ledger);
    let ledger = reopen(&dir, t(2)).await;
    let (lease, found) = leased(ledger.recall(&request, &envelope(0, None), t(2)).await.unwrap());
    assert_eq!((lease.fence, found), (2, Some(plan())));
    assert_eq!((ledger.birth(), ledger.digest_key()), (t(0), digest_key));
    ledger.close().await;
    let found = check(&exported(&dir, None).await).unwrap();
    assert_eq!(found, Verified { records: 3, chains: 2, checkpoints: 2, unfinished: 1, uncovered: 0 });
}

/// Opens the ledger as soon as the process before has let go.
async fn reopen(dir: &TempDir, now: Timestamp) -> Ledger {
    for _ in 0..200 {
        if let Ok(ledger) = Ledger::open(&url(dir), "next", key(dir), CALL, now).await {
            return ledger;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the ledger stays locked");
}

#[tokio::test]
async fn files_are_closed_to_others() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    ledger.checkpoint(t(1)).await.unwrap();
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock", "audit.key"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    // Files that were left behind open to others, the log of a crash among them.
    ledger.close().await;
    let files = ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"];
    for name in files {
        let path = dir.path().join(name);
        OpenOptions::new().create(true).append(true).open(&path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o664)).unwrap();
    }
    let ledger = open(&dir).await;
    assert_eq!(files.map(mode), [0o600; 4]);
    ledger.close().await;
    let path = dir.path().join("audit.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SigningKey::load_or_create(&path), Err(KeyError::Open(_))));
    std::fs::write(dir.path().join("other"), "no key").unwrap();
    std::fs::set_permissions(dir.path().join("other"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(SigningKey::load_or_create(&dir.path().join("other")), Err(KeyError::Damaged(_))));
    assert!(matches!(
        Ledger::open("mysql://x", "i", key(&TempDir::new().unwrap()), CALL, t(0)).await,
        Err(OpenError::Url)
    ));
}

/// A log of two chains with records, checkpoints in between and at the end, and the public key.
fn log() -> (Vec<String>, PublicKey) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = TempDir::new().unwrap();
        for start in 0..2 {
            let ledger = reopen(&dir, t(start)).await;
            for id in ["R1", "R2"] {
                ledger.record_refusal(record("conclusion", id)).await.unwrap();
                ledger.checkpoint(t(start) + SignedDuration::from_secs(1)).await.unwrap();
                ledger.record_refusal(record("intent", id)).await.unwrap();
            }
            ledger.checkpoint(t(start) + SignedDuration::from_secs(2)).await.unwrap();
            ledger.close().await;
        }
        (exported(&dir, None).await, PublicKey::load(&dir.path().join("audit.key.pub")).unwrap())
    })
}

fn checked(lines: &[String], kept: Option<&str>, keys: &[PublicKey]) -> Result<Verified, Bad> {
    let log: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut kept = kept.map(str::as_bytes);
    verify(log.as_bytes(), kept.as_mut().map(|kept| kept as &mut dyn BufRead), keys)
}

#[test]
fn every_deletion_duplicate_and_swap_is_found() {
    let (lines, key) = log();
    assert_eq!(lines.len(), 18);
    let whole = Verified { records: 10, chains: 2, checkpoints: 8, unfinished: 2, uncovered: 0 };
    assert_eq!(checked(&lines, None, &[]), Ok(whole));
    assert_eq!(checked(&lines, Some(&format!("{}\n", lines[17])), &[key]), Ok(whole));
    for index in 0..lines.len() {
        let mut changed = lines.clone();
        changed.remove(index);
        // The last checkpoint of a chain covers nothing that its successor does not; the last line needs a witness.
        let found = check(&changed).ok();
        assert_eq!(found.is_some(), index == 8 || index == 17, "deleted {index}");
        assert!(found.is_none_or(|found| found.uncovered == u64::from(index == 17)), "deleted {index}");
        let mut changed = lines.clone();
        changed.insert(index, lines[index].clone());
        assert!(check(&changed).is_err(), "duplicated {index}");
        for other in index + 1..lines.len() {
            let mut changed = lines.clone();
            changed.swap(index, other);
            assert!(check(&changed).is_err(), "swapped {index} and {other}");
        }
    }
}

#[test]
fn missing_tails_chains_and_foreign_signatures_are_found() {
    let (lines, key) = log();
    let kept = format!("{}\n", lines[17]);
    let reason =
        |lines: &[String], kept: Option<&str>, keys: &[PublicKey]| checked(lines, kept, keys).unwrap_err().reason;
    for length in 0..18 {
        let bad = checked(&lines[..length], Some(&kept), &[]);
        assert_eq!(bad.is_err(), length < 17, "{length} lines");
    }
    assert!(reason(&lines[9..], None, &[]).contains("the chain is missing"));
    assert!(reason(&lines[..7], Some(&format!("{}\n", lines[8])), &[]).contains("missing"));
    let (foreign, other_key) = log();
    assert!(reason(&lines, None, &[other_key]).contains("unknown key"));
    assert!(reason(&lines, Some(&format!("{}\n", foreign[17])), &[]).contains("the chain is missing"));
    assert!(reason(&lines, Some(&format!("{}\n", foreign[17])), &[key]).contains("unknown key"));
    let mut mixed = lines.clone();
    mixed.insert(4, foreign[4].clone());
    assert!(check(&mixed).is_err());
    let bad = checked(&[&lines[..4], &lines[5..]].concat(), None, &[]).unwrap_err();
    let chain: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(bad.chain, chain["attestation"]["chain_uid"]);
    assert_eq!(bad.seq, 3);
    let mut log = lines.join("\n");
    assert_eq!(verify(log.as_bytes(), None, &[]).unwrap_err().reason, "truncated last line");
    log.truncate(log.len() - 40);
    assert_eq!(verify(log.as_bytes(), None, &[]).unwrap_err().reason, "truncated last line");
    assert_eq!(check(&[]).unwrap_err().to_string(), "chain -, seq 1, no record");
}

/// The records of a log without its checkpoints, sealed anew after `change`: all that can be done without the key.
/// Where `keep` says so, a chain keeps its first checkpoint.
fn forged(lines: &[String], keep: bool, change: impl Fn(usize, &mut Value)) -> Vec<String> {
    let (mut heads, mut forged) = (Vec::<Head>::new(), Vec::new());
    for (index, line) in lines.iter().enumerate() {
        let mut value: Value = serde_json::from_str(line).unwrap();
        if value["type"] == "checkpoint" {
            forged.extend((keep && value["number"] == 1).then(|| line.clone()));
            continue;
        }
        let birth = value["metadata"]["event_code"] == "chain_start";
        if birth {
            let named = |head: &Head| json!({"chain": head.chain, "seq": head.seq, "digest": head.digest});
            value["unmapped"]["heads"] = heads.iter().map(named).collect();
            let chain = serde_json::from_value(value["attestation"]["chain_uid"].take()).unwrap();
            heads.push(Head { chain, seq: 0, digest: String::new() });
        }
        change(index, &mut value);
        let sealed = audit::seal(heads.last_mut().unwrap(), value).unwrap();
        forged.push(serde_json_canonicalizer::to_string(&sealed).unwrap());
    }
    forged
}

#[test]
fn a_log_sealed_anew_without_the_key_is_found() {
    let (lines, _) = log();
    let untouched = forged(&lines, true, |_, _| {});
    assert_eq!(untouched.len(), 12);
    assert_eq!(check(&untouched).map(|found| (found.checkpoints, found.uncovered)), Ok((2, 4)));
    let reason = |lines: &[String]| check(lines).unwrap_err().reason;
    assert!(reason(&forged(&lines, false, |_, _| {})).contains("no checkpoint follows the start"));
    assert!(reason(&lines[..1]).contains("no checkpoint follows the start"));
    // The start of the second chain is signed, and with it the end of the first.
    let reworded = forged(&lines, true, |index, value| {
        if index == 7 {
            value["message"] = "never happened".into();
        }
    });
    assert!(reason(&reworded).contains("another digest"));
    assert!(reason(&[&lines[..2], &lines[9..]].concat()).contains("missing; a later chain"));
    // A record put behind the end of the first chain, and a chain put before all others.
    let first: Value = serde_json::from_str(&lines[7]).unwrap();
    let text = |pointer: &str| first.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let chain = text("/attestation/chain_uid").parse().unwrap();
    let mut head = Head { chain, seq: 5, digest: text("/attestation/fingerprint/value") };
    let added = serde_json_canonicalizer::to_string(&audit::seal(&mut head, record("intent", "R9")).unwrap()).unwrap();
    assert!(reason(&[&lines[..9], &[added], &lines[9..]].concat()).contains("after the end that a later chain knows"));
    let (foreign, _) = log();
    assert!(reason(&[&foreign[..2], &lines[..]].concat()).contains("does not know chain"));
}

#[tokio::test]
async fn a_checkpoint_taken_out_leaves_a_gap_in_time() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let at = |seconds| {
        let mut record = record("conclusion", "R1");
        record["time"] = t(seconds).as_millisecond().into();
        record
    };
    ledger.record_refusal(at(3600)).await.unwrap();
    ledger.checkpoint(t(3600)).await.unwrap();
    ledger.record_refusal(at(7200)).await.unwrap();
    // The machine slept: the ledger signs before it goes on.
    ledger.record_refusal(at(90_000)).await.unwrap();
    ledger.close().await;
    let lines = exported(&dir, None).await;
    let whole = Verified { records: 4, chains: 1, checkpoints: 3, unfinished: 0, uncovered: 1 };
    assert_eq!(check(&lines), Ok(whole));
    let without = forged(&lines, true, |_, _| {});
    let bad = check(&without).unwrap_err();
    assert_eq!((bad.seq, bad.reason.contains("more than an hour later")), (3, true));
    let timeless = forged(&lines, true, |_, value| drop(value.as_object_mut().unwrap().remove("time")));
    assert_eq!(check(&timeless).unwrap_err().reason, "no time");
}

#[test]
fn every_changed_byte_is_found() {
    let (lines, _) = log();
    let log: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
    verify(&log[..], None, &[]).unwrap();
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(offset in 0..log.len(), byte in any::<u8>())| {
        let mut changed = log.clone();
        prop_assume!(changed[offset] != byte);
        changed[offset] = byte;
        prop_assert!(verify(&changed[..], None, &[]).is_err(), "offset {offset}, byte {byte}");
    });
}

#[test]
fn a_key_is_made_once() {
    let dir = TempDir::new().unwrap();
    let path: &Path = &dir.path().join("k");
    let made = SigningKey::load_or_create(path).unwrap().public();
    assert_eq!(SigningKey::load_or_create(path).unwrap().public(), made);
    assert_eq!(PublicKey::load(&dir.path().join("k.pub")).unwrap(), made);
}
