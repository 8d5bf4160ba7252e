//! The ledger's disk is full, read-only, or hangs: no audit, no reset; the worker is unready, keeps what it has, and
//! goes on when the disk does. Needs root, or sudo without a password, for a file system of its own.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker;
use crate::history::History;
use crate::process::Watchdog;
use crate::requests::{bodies, mixed};
use crate::simulator::Method;
use crate::stage::{Stage, until};

/// A small disk. It is gone when the test process is gone, frozen or not. To be dropped before the worker, which cannot
/// be killed while its disk hangs.
struct Disk {
    // Goes first: nothing on the disk is to be tidied up by whoever removes the directory.
    _watchdog: Watchdog,
    mount: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (image, mount) = (directory.path().join("image"), directory.path().join("mount"));
        std::fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        std::fs::create_dir(&mount).unwrap();
        let owner = std::fs::metadata(&mount).unwrap().uid();
        let script = "fsfreeze --unfreeze \"$0\"; umount --lazy \"$0\"";
        let script = if owner == 0 { script.to_owned() } else { format!("sudo -n sh -c '{script}' \"$0\"") };
        let disk = Self { _watchdog: Watchdog::new(&script, mount.to_str().unwrap()), mount, _directory: directory };
        disk.root(
            "mkfs.ext4",
            &["-q", "-m", "0", "-E", &format!("root_owner={owner}:{owner}"), image.to_str().unwrap()],
        );
        disk.root("mount", &["-o", "loop", image.to_str().unwrap(), disk.mount.to_str().unwrap()]);
        disk
    }

    fn root(&self, program: &str, arguments: &[&str]) {
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let mut command = if is_root { Command::new(program) } else { Command::new("sudo") };
        if !is_root {
            command.args(["-n", program]);
        }
        let done = command.args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self, name: &str) -> String {
        self.mount.join(name).to_str().unwrap().to_owned()
    }

    /// Another file takes all the space that is left.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.path("filler")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn clear(&self) {
        std::fs::remove_file(self.path("filler")).unwrap();
    }

    /// Lets no file of the ledger be written, as on a disk that has become read-only, but so that there is a way back.
    fn protect(&self, sign: &str) {
        let files: Vec<String> = ["", "-wal"].map(|suffix| self.path(&format!("ledger.db{suffix}"))).into();
        let arguments: Vec<&str> = [sign].into_iter().chain(files.iter().map(String::as_str)).collect();
        self.root("chattr", &arguments);
    }
}

/// Trouble comes in the middle of the work, lasts, and goes.
async fn trouble(begin: fn(&Disk), end: fn(&Disk)) {
    let mut stage = Stage::slow(&broker::shared().url).await;
    let disk = Disk::new();
    stage.set("LEDGER__URL", &format!("sqlite:{}", disk.path("ledger.db")));
    stage.start_worker().await;
    let (requests, user) = (mixed(1..=150), stage.queues.user());
    stage.queues.publish("reset", &bodies(&requests), Some(&user)).await;
    until(Duration::from_secs(30), "some results", async || stage.queues.waiting("results").await >= 10).await;
    let stopped = stage.told("nothing is consumed");
    begin(&disk);
    let began = Instant::now();
    until(Duration::from_secs(20), "the worker notices", async || !stage.is_well("ledger").await).await;
    println!("noticed after {:?}", began.elapsed());
    until(Duration::from_secs(20), "it stops to consume", async || !stage.is_well("consuming").await).await;
    let mut before = Vec::new();
    until(Duration::from_secs(60), "nothing is removed any more", async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = stage.simulator.deleted().await;
        std::mem::replace(&mut before, now).len() == before.len()
    })
    .await;
    let (lines, start) = (stage.told(""), Instant::now());
    while start.elapsed() < Duration::from_secs(20) {
        assert!(stage.is_alive().await && !stage.is_ready().await, "alive and unready");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let lines = stage.told("") - lines;
    assert!(lines < 10, "{lines} lines in {:?}", start.elapsed());
    assert_eq!(stage.simulator.deleted().await, before, "no audit, no reset");
    // A small write may still find a place just after a large one has not.
    let stops = stage.told("nothing is consumed") - stopped;
    assert!((1..=3).contains(&stops) && stage.told("broker session ended") == 0, "{stops} stops");
    assert!(stage.queues.waiting("requests.tickets").await > 50, "the rest stays in its queue");
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
    end(&disk);
    until(Duration::from_secs(60), "the worker is ready again", async || stage.is_ready().await).await;
    stage.quiet(Duration::from_secs(180)).await;
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
    assert_eq!(stage.queues.waiting("dead-letters").await, 0);
    every_removal_was_announced(&stage, &stage.simulator.deleted().await);
}

/// Asserts that the audit log verifies, and holds the intent of every removal.
fn every_removal_was_announced(stage: &Stage, deleted: &[Method]) {
    let export = stage.command(&["audit", "export"]);
    let file = stage.directory.path().join("audit.jsonl");
    std::fs::write(&file, &export.stdout).unwrap();
    let verified = stage.command(&["audit", "verify", file.to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let mut announced = BTreeSet::new();
    for line in String::from_utf8(export.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if record["metadata"]["event_code"] == "intent" {
            for method in record["unmapped"]["methods"].as_array().unwrap() {
                let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                announced.insert((part(&record["user"]["uid"]), part(&method["type"]), part(&method["id"])));
            }
        }
    }
    let silent: Vec<_> = deleted.iter().filter(|method| !announced.contains(*method)).collect();
    assert!(silent.is_empty() && !deleted.is_empty(), "removed without an intent: {silent:?}");
}

#[tokio::test]
async fn a_full_disk_stops_resets_until_there_is_room() {
    trouble(Disk::fill, Disk::clear).await;
}

#[tokio::test]
async fn a_read_only_ledger_stops_resets_until_it_can_be_written() {
    trouble(|disk| disk.protect("+i"), |disk| disk.protect("-i")).await;
}

#[tokio::test]
async fn a_disk_that_hangs_stops_resets_until_it_answers() {
    let freeze = |disk: &Disk| disk.root("fsfreeze", &["--freeze", disk.mount.to_str().unwrap()]);
    let thaw = |disk: &Disk| disk.root("fsfreeze", &["--unfreeze", disk.mount.to_str().unwrap()]);
    trouble(freeze, thaw).await;
}

#[tokio::test]
async fn a_worker_on_a_full_disk_ends_in_peace_and_the_next_one_finishes_the_work() {
    let mut stage = Stage::slow(&broker::shared().url).await;
    let disk = Disk::new();
    stage.set("LEDGER__URL", &format!("sqlite:{}", disk.path("ledger.db")));
    stage.start_worker().await;
    let (requests, user) = (mixed(151..=250), stage.queues.user());
    stage.queues.publish("batch", &bodies(&requests), Some(&user)).await;
    until(Duration::from_secs(30), "some results", async || stage.queues.waiting("results").await >= 10).await;
    disk.fill();
    until(Duration::from_secs(20), "the worker notices", async || !stage.is_well("ledger").await).await;
    stage.stop_worker();
    disk.clear();
    stage.start_worker().await;
    stage.quiet(Duration::from_secs(180)).await;
    History::settle(&mut stage, &requests, Duration::from_secs(120)).await;
    every_removal_was_announced(&stage, &stage.simulator.deleted().await);
}
