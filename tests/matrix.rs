//! Every kind of method that can be removed, under every profile, with every answer that Graph is known, or feared, to
//! give: the real reset over the real Graph client and a SQLite ledger, against the simulator in this process. One
//! oracle holds each cell's end state, calls and result against each other (`matrix/oracle.rs`, `matrix/outcome.rs`).
//!
//! # What is covered
//!
//! - answered plainly, with the beta API: the full product of kind, profile, which method is the default, and company; and
//!   without the beta API one cell for each kind and profile;
//! - every kind that a profile removes x profile x answer, once or always in turn; of the two profiles that remove
//!   everything and differ in when they revoke sessions, each answer meets one, in turn;
//! - as many cells more, drawn of all, as it takes to cover every pair of values of two factors that can meet.
//!
//! The other factors are drawn: default, company, lag (whether Graph lists a method for a while after it has gone), how
//! strictly the default is kept, and in which words. `MFA_TEST_MATRIX_FULL` leaves the thinning out: every profile, once
//! and always, with lag and without, with the beta API and without.
//!
//! The pauses of the reset pass twenty times as fast (`matrix/hurry.rs`), so the lag is short too; a time-out is a second.
//! A request to wait without a word of how long is met under one profile only, since the client chooses the wait.
//!
//! The numbers and the seed are printed; `MFA_TEST_SEED` draws the same cells again, `MFA_TEST_MATRIX_ONLY` runs those
//! alone whose name has this in it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "the numbers and the seed are for whoever runs it")]

#[path = "matrix/answer.rs"]
mod answer;
#[path = "matrix/cell.rs"]
mod cell;
#[path = "matrix/desk.rs"]
mod desk;
#[path = "matrix/hurry.rs"]
mod hurry;
#[path = "matrix/kind.rs"]
mod kind;
#[path = "matrix/oracle.rs"]
mod oracle;
#[path = "matrix/outcome.rs"]
mod outcome;
#[path = "matrix/tenant.rs"]
mod tenant;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use answer::Tongue;
use cell::{Cell, cells};
use desk::{Desk, Told};
use oracle::Case;
use tenant::Tenant;

/// How long Graph goes on listing a method, where it does: six seconds of the reset's.
const LAG: Duration = Duration::from_millis(300);

/// Which cells may share a worker: whether the beta API may be called, whether Graph asks it to wait, and which of several
/// such workers it is: one that is refused often becomes slow, as it should.
type Place = (bool, u8, usize);
/// How many workers share the cells in which Graph asks to wait.
const CREWS: usize = 30;

fn place(number: usize, cell: &Cell) -> Place {
    let waits = match cell.answer.tongue {
        Tongue::Waits => 1,
        Tongue::Unsaid => 2,
        Tongue::True | Tongue::Lies | Tongue::NotFound | Tongue::Refuses(..) | Tongue::Passing | Tongue::Unknown => 0,
    };
    (cell.beta, waits, if waits == 0 { 0 } else { number % CREWS })
}

/// Runs the cells of one tenant; tells what is wrong with which.
async fn run(cells: Vec<(usize, Cell)>, lag: Duration, folder: &Path) -> Vec<String> {
    let tenant = Arc::new(Tenant::serve(&cells, lag).await);
    let mut desks: BTreeMap<Place, Arc<Desk>> = BTreeMap::new();
    for place in cells.iter().map(|(number, cell)| place(*number, cell)).collect::<BTreeSet<Place>>() {
        let (beta, waits, crew) = place;
        let folder = folder.join(format!("{beta}-{waits}-{crew}"));
        desks.insert(place, Arc::new(Desk::open(tenant.clone(), beta, &folder).await));
    }
    let mut jobs = JoinSet::new();
    for (number, cell) in cells.clone() {
        let desk = desks[&place(number, &cell)].clone();
        jobs.spawn(async move { (number, desk.run(number, &cell).await) });
    }
    let told: HashMap<usize, Told> = jobs.join_all().await.into_iter().collect();
    let wrong = judge(&cells, &told, &tenant).await;
    for desk in desks.values() {
        desk.close().await;
    }
    wrong
}

async fn judge(cells: &[(usize, Cell)], told: &HashMap<usize, Told>, tenant: &Tenant) -> Vec<String> {
    let mut journal: HashMap<String, Vec<Value>> = HashMap::new();
    for call in tenant.get("journal").await.as_array().unwrap() {
        let user = call["user"].as_str().unwrap_or_default().to_owned();
        journal.entry(user).or_default().push(call.clone());
    }
    let token = tenant.token().await;
    let mut wrong = Vec::new();
    for (number, cell) in cells {
        let told = &told[number];
        let journal = &journal[told.before["id"].as_str().unwrap()];
        let case = || Case { cell, told, journal, wrong: Vec::new() };
        let complaints = case().judge(tenant, &token).await;
        if !complaints.is_empty() {
            wrong.push(format!("{cell}\n {}\n{}", complaints.join("\n "), case().told_at_length()));
        }
    }
    wrong
}

#[expect(clippy::disallowed_methods, reason = "whoever looks into a cell draws the same ones again")]
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_ends_as_it_is_told() {
    let seed = asked("MFA_TEST_SEED").map_or_else(|| fastrand::u64(..1_000_000), |text| text.parse().unwrap());
    println!("MFA_TEST_SEED={seed}");
    let (all, pairs) = cells(seed, asked("MFA_TEST_MATRIX_FULL").is_none());
    let only = asked("MFA_TEST_MATRIX_ONLY").unwrap_or_default();
    let numbered = all.into_iter().enumerate().filter(|(_, cell)| cell.to_string().contains(&only));
    let (lagging, prompt): (Vec<_>, Vec<_>) = numbered.partition(|(_, cell)| cell.lag);
    let counts = (lagging.len(), prompt.len());
    println!("{} cells, {} of them with lag; {pairs} pairs of values are covered", counts.0 + counts.1, counts.0);
    let (started, folder) = (Instant::now(), TempDir::new().unwrap());
    let (first, second) = (folder.path().join("lag"), folder.path().join("prompt"));
    let (mut wrong, more) = tokio::join!(run(lagging, LAG, &first), run(prompt, Duration::ZERO, &second));
    wrong.extend(more);
    println!("{} cells in {:?}", counts.0 + counts.1, started.elapsed());
    let shown = wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} cells are wrong (MFA_TEST_SEED={seed}):\n\n{shown}", wrong.len());
}
