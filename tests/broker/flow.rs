//! The plain case, front to back, and what the audit shows of it.

use std::time::Duration;

use crate::broker;
use crate::history::History;
use crate::requests::{ids, mixed, publish_foreign};
use crate::stage::Stage;

#[tokio::test]
async fn two_hundred_requests_give_two_hundred_results_and_an_audit_that_verifies() {
    let broker = broker::shared();
    let mut stage = Stage::new(&broker.url).await;
    stage.start_worker().await;
    let requests = mixed(1..=200);
    publish_foreign(&stage.queues, &requests);

    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(90)).await;
    assert_eq!(history.len(), requests.len(), "one result each");
    history.assert_complete(&requests);
    history.assert_deletes(&stage.simulator.deleted().await, false);
    assert!(!history.methods(&["removed"]).is_empty(), "something was removed");
    let role_holder = history.result(&ids(&requests)[49]);
    assert_eq!((&role_holder["outcome"], &role_holder["reason_code"]), (&"denied".into(), &"protected_target".into()));
    assert_eq!(stage.metric("mfa_reset_jobs_total", "").await, 200.0);
    assert_eq!(stage.metric("mfa_reset_jobs_in_flight", "").await, 0.0);
    stage.finish().await;
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
    audit_verifies_and_notices_every_change(&stage);
}

fn audit_verifies_and_notices_every_change(stage: &Stage) {
    let export = stage.command(&["audit", "export"]);
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
    let original = export.stdout;
    let verify = |bytes: &[u8]| {
        let file = stage.directory.path().join("audit.jsonl");
        std::fs::write(&file, bytes).unwrap();
        let answer = stage.command(&["audit", "verify", file.to_str().unwrap()]);
        (answer.status.code(), String::from_utf8_lossy(&answer.stdout).into_owned())
    };
    let (code, said) = verify(&original);
    assert!(code == Some(0) && said.starts_with("ok: "), "{code:?} {said}");
    let records: usize = said["ok: ".len()..].split(' ').next().unwrap().parse().unwrap();
    assert!(records >= 200, "a record for each request: {said}");

    let seed = fastrand::u64(..);
    println!("seed of the changes: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20 {
        let mut changed = original.clone();
        let at = loop {
            let at = random.usize(..changed.len());
            if changed[at].is_ascii_alphanumeric() {
                break at;
            }
        };
        // Another letter or digit of the same kind: the line stays JSON, and says something else.
        changed[at] = if changed[at].is_ascii_digit() { b'0' + (changed[at] - b'0' + 1) % 10 } else { changed[at] ^ 1 };
        if !changed[at].is_ascii_alphanumeric() {
            changed[at] = b'x';
        }
        let (code, said) = verify(&changed);
        assert!(code == Some(1) && said.starts_with("first bad record: "), "byte {at}: {code:?} {said}");
    }
}
