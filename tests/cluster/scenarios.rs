//! What can go wrong, one after the other and all together; what must not come of it is for the checker to tell.

use std::time::Duration;

use crate::bench::{Plan, run};
use crate::trouble::{Fronts, wait};

fn plan(name: &'static str, requests: usize, seconds: u64) -> Plan {
    Plan { name, nodes: 1, requests, span: Duration::from_secs(seconds) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_killed_at_random() {
    run(plan("kills", 300, 40), async |Fronts { mut workers, clock, .. }| {
        while clock.runs() {
            wait(&mut workers.random, 0.5..4.0).await;
            workers.kill().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_killed_and_started_again() {
    run(plan("broker", 250, 40), async |Fronts { mut nodes, clock, .. }| {
        while clock.runs() {
            wait(&mut nodes.random, 3.0..8.0).await;
            nodes.restart().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_parted_into_minority_and_majority() {
    run(Plan { nodes: 3, ..plan("partitions", 300, 75) }, async |Fronts { mut nodes, clock, .. }| {
        loop {
            nodes.minority().await;
            wait(&mut nodes.random, 2.0..5.0).await;
            nodes.majority_out_of_reach().await;
            wait(&mut nodes.random, 2.0..5.0).await;
            nodes.all_apart().await;
            if !clock.runs() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_killed_and_started_again() {
    run(plan("database", 250, 40), async |Fronts { mut database, clock, .. }| {
        while clock.runs() {
            wait(&mut database.random, 4.0..10.0).await;
            database.restart().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_that_are_cut_stall_and_crawl() {
    run(plan("lines", 300, 60), async |Fronts { mut lines, clock, .. }| {
        while clock.runs() {
            wait(&mut lines.random, 0.5..2.0).await;
            lines.disturb().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_asked_to_stop_at_random() {
    run(plan("stops", 250, 40), async |Fronts { mut workers, clock, .. }| {
        while clock.runs() {
            wait(&mut workers.random, 0.5..3.0).await;
            workers.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_at_once() {
    run(Plan { nodes: 3, ..plan("everything", 350, 90) }, async |fronts| {
        let Fronts { mut workers, mut lines, mut database, mut nodes, clock } = fronts;
        let ends = async {
            while clock.runs() {
                wait(&mut workers.random, 2.0..8.0).await;
                if workers.random.bool() { workers.kill().await } else { workers.stop().await }
            }
        };
        let cuts = async {
            while clock.runs() {
                wait(&mut lines.random, 2.0..6.0).await;
                lines.disturb().await;
            }
        };
        let outages = async {
            while clock.runs() {
                wait(&mut database.random, 15.0..25.0).await;
                database.restart().await;
            }
        };
        let partitions = async {
            while clock.runs() {
                wait(&mut nodes.random, 3.0..8.0).await;
                if nodes.random.bool() { nodes.minority().await } else { nodes.restart().await }
            }
        };
        tokio::join!(ends, cuts, outages, partitions);
    })
    .await;
}
