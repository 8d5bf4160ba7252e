//! What the release binary costs: size, start, memory. `MFA_TEST_RELEASE_BINARY` names it; `tests/run footprint` builds it.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker;
use crate::history::History;
use crate::requests::{bodies, mixed};
use crate::stage::Stage;

const MIB: u64 = 1024 * 1024;

fn release_binary() -> PathBuf {
    let named = std::env::var("MFA_TEST_RELEASE_BINARY").map(PathBuf::from);
    let built =
        PathBuf::from(env!("CARGO_BIN_EXE_mfa-reset")).parent().unwrap().with_file_name("release").join("mfa-reset");
    let binary = named.unwrap_or(built);
    assert!(binary.exists(), "no release binary: cargo build --release, or name one in MFA_TEST_RELEASE_BINARY");
    binary
}

#[test]
fn footprint_the_release_binary_is_under_25_mb() {
    let size = std::fs::metadata(release_binary()).unwrap().len();
    println!("release binary: {:.1} MB", size as f64 / 1e6);
    assert!(size < 25_000_000, "{size} bytes");
}

#[tokio::test]
async fn footprint_the_worker_is_ready_within_300_ms() {
    let mut stage = Stage::with(&broker::shared().url, &release_binary(), &["--latency", "0ms"]).await;
    // The first start makes the ledger, the key and the topology; of the later ones the best tells of the program, the others of the machine.
    stage.start_worker().await;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        stage.stop_worker();
        best = best.min(stage.start_worker().await);
    }
    println!("ready after {best:?}");
    assert!(best < Duration::from_millis(300), "{best:?}");
    stage.finish().await;
}

#[tokio::test]
async fn footprint_memory_stays_under_64_mib_over_ten_thousand_requests() {
    let options = ["--latency", "0ms", "--users", "10000"];
    let mut stage = Stage::with(&broker::shared().url, &release_binary(), &options).await;
    stage.start_worker().await;
    let (requests, user) = (mixed(1..=10_000), stage.queues.user());
    stage.queues.publish("batch", &bodies(&requests), Some(&user)).await;
    let mut history = History::default();
    history.collect(&mut stage, &requests, Duration::from_secs(300)).await;
    let memory = resident(stage.worker.as_ref().unwrap().id());
    println!("resident after {} requests: {:.1} MiB", history.len(), memory as f64 / MIB as f64);
    assert!(memory < 64 * MIB, "{memory} bytes");
    history.assert_complete(&requests);
    stage.finish().await;
}

/// The resident memory of a process.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
