//! What Graph asked one replica, all of them keep to: holds go through the ledger.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mfa_reset::adapters::graph::{Graph, Trail};
use mfa_reset::adapters::ledger::{Ledger, SigningKey};
use mfa_reset::adapters::upkeep::share_holds;
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::request::{Lane, Target};
use mfa_reset::simulator::Options;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::settings;
use crate::simulated::Tenant;

async fn ledger(dir: &TempDir) -> Arc<Ledger> {
    let key = SigningKey::load_or_create(&dir.path().join("key")).unwrap();
    let url = format!("sqlite:{}", dir.path().join("ledger.db").display());
    Arc::new(Ledger::open(&url, "test", key, Duration::ZERO, Timestamp::now()).await.unwrap())
}

fn replica(tenant: &Tenant, ledger: &Arc<Ledger>, beside: &mut JoinSet<()>) -> Arc<Graph> {
    let graph = Arc::new(Graph::new(settings(&tenant.root, &tenant.root, &Arc::default())).unwrap());
    let (shared, ledger) = (Arc::clone(&graph), Arc::clone(ledger));
    beside.spawn(async move { share_holds(&shared, &ledger, &CancellationToken::new()).await });
    graph
}

async fn resolve(graph: &Graph) -> Result<(), Fault> {
    let target = Target { object_id: None, upn: Some("user00001@contoso.test".to_owned()), mail: None };
    graph.resolve(Lane::Tickets, &target, &Trail::default()).await.map(|_| ())
}

async fn learned(graph: &Graph) {
    while graph.held_until().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_hold_of_one_replica_is_a_hold_of_all_and_of_those_to_come() {
    let tenant = Tenant::new(Options { users: 5, ..Options::default() }).await;
    let (dir, mut beside) = (tempfile::tempdir().unwrap(), JoinSet::new());
    let ledger = ledger(&dir).await;
    let (one, two) = (replica(&tenant, &ledger, &mut beside), replica(&tenant, &ledger, &mut beside));
    resolve(&two).await.unwrap();
    tenant.fault(json!({"operation": "get_user", "status": 429, "retry_after": "4"})).await;
    let others = async {
        learned(&two).await;
        let three = replica(&tenant, &ledger, &mut beside);
        learned(&three).await;
        let (second, third) = tokio::join!(resolve(&two), resolve(&three));
        second.and(third)
    };
    let (first, others) = tokio::join!(resolve(&one), others);
    assert_eq!((first, others), (Ok(()), Ok(())));
    let journal = tenant.journal().await;
    let calls: Vec<&Value> = journal.iter().filter(|call| call["operation"] == "get_user").collect();
    let refused = calls.iter().position(|call| call["status"] == 429).unwrap();
    let since = |call: &Value| call["at_ms"].as_i64().unwrap() - calls[refused]["done_ms"].as_i64().unwrap();
    assert_eq!(calls.len() - refused, 4);
    assert!(calls[refused + 1..].iter().all(|call| since(call) >= 4000), "{calls:#?}");
}

#[tokio::test]
async fn a_hold_is_in_the_ledger_before_the_next_look_at_it() {
    let tenant = Tenant::new(Options { users: 5, ..Options::default() }).await;
    let (dir, mut beside) = (tempfile::tempdir().unwrap(), JoinSet::new());
    let ledger = ledger(&dir).await;
    let graph = replica(&tenant, &ledger, &mut beside);
    resolve(&graph).await.unwrap();
    tenant.fault(json!({"operation": "get_user", "status": 429, "retry_after": "60"})).await;
    assert!(matches!(resolve(&graph).await, Err(Fault::Throttled { .. })));
    // It is written the moment it is known: yielding to the writer is all that this takes.
    let held = async {
        loop {
            if let Some(until) = ledger.held_until(Timestamp::now()).await.unwrap() {
                return until;
            }
            tokio::task::yield_now().await;
        }
    };
    let until = tokio::time::timeout(Duration::from_secs(30), held).await.unwrap();
    assert!(until > Timestamp::now() + Duration::from_secs(20));
}
