//! A worker of its own for cells that may share one: a request to wait holds up everybody at the same desk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use mfa_reset::adapters::graph::{Graph, Proof, Settings};
use mfa_reset::adapters::ledger::{Ledger, SigningKey};
use mfa_reset::adapters::{JobPorts, Outlet, Shared};
use mfa_reset::domain::event::Event;
use mfa_reset::domain::profile::Profiles;
use mfa_reset::domain::request::{Envelope, Lane, Request};
use mfa_reset::domain::retry::Limits;
use mfa_reset::domain::rules::{Policy, Rules};
use mfa_reset::ports::Job;
use mfa_reset::reset::{Reset, Settlement};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::answer::PLAIN;
use crate::cell::Cell;
use crate::hurry::{Aim, Hurried};
use crate::tenant::{Tenant, upn};

/// How long a call to Graph may take.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How many jobs are under way at a desk, so that a slow machine answers within the time.
const AT_ONCE: usize = 12;
/// And how many of those that do little but wait for a time-out.
const SLOW_AT_ONCE: usize = 60;
/// How often a job may come back before the cell counts as stuck.
const MOST_ROUNDS: usize = 60;

/// A worker.
pub struct Desk {
    pub tenant: Arc<Tenant>,
    shared: Arc<Shared>,
    rules: Rules,
    slots: [Semaphore; 2],
}

/// What became of a cell: the user before and after, and the one result.
pub struct Told {
    pub before: Value,
    pub after: Value,
    pub result: Value,
    /// The methods whose removal had been in doubt for more than a minute when the job ended.
    pub long_in_doubt: Vec<String>,
}

impl Desk {
    /// Opens a ledger in a folder of its own.
    pub async fn open(tenant: Arc<Tenant>, beta: bool, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let key = SigningKey::load_or_create(&folder.join("key")).unwrap();
        let url = format!("sqlite:{}", folder.join("ledger.db").display());
        let ledger = Ledger::open(&url, "matrix", key, PATIENCE, Timestamp::now()).await.unwrap();
        let graph = Graph::new(Settings {
            endpoint: tenant.root.parse().unwrap(),
            authority: tenant.root.parse().unwrap(),
            tenant_id: "tenant".to_owned(),
            client_id: "client".to_owned(),
            proof: Proof::Secret("secret".to_owned().into()),
            requests_per_second: 5000.0,
            beta,
            timeout: PATIENCE,
            allow_http: false,
            digest_key: ledger.digest_key(),
            observer: Arc::new(|_| {}),
        });
        let shared = Shared {
            ledger,
            graph: graph.unwrap(),
            max_resets_per_hour: 1_000_000,
            leases: Mutex::new(BTreeSet::new()),
        };
        Self { tenant, shared: Arc::new(shared), rules: rules(), slots: [AT_ONCE, SLOW_AT_ONCE].map(Semaphore::new) }
    }

    /// Resets the user of a cell.
    pub async fn run(&self, number: usize, cell: &Cell) -> Told {
        let slow = cell.answer.name.starts_with("timed_out");
        let _slot = self.slots[usize::from(slow)].acquire().await.unwrap();
        let path = format!("users/{}", upn(number));
        let before = self.tenant.get(&path).await;
        let told: Arc<Mutex<Vec<Event>>> = Arc::default();
        let events = told.clone();
        let write = move |event: &Event| {
            events.lock().unwrap().push(event.clone());
            Ok(())
        };
        let job = job(number, cell);
        let outlet = Outlet::Local(Arc::new(write));
        let ports = JobPorts::new(self.shared.clone(), outlet, job.clone(), Vec::new(), CancellationToken::new());
        let subject = method_of(&before, cell);
        let aim = Aim {
            tenant: &self.tenant,
            answer: Some(cell.answer).filter(|answer| answer.name != PLAIN && !cell.is_orphan()),
            always: cell.always,
            user: before["id"].as_str().unwrap(),
            method: subject["id"].as_str().unwrap(),
        };
        let ports = Hurried { ports, aim, state: Mutex::default(), doubts: Mutex::default() };
        let reset = Reset { ports: &ports, job: &job, rules: &self.rules };
        let settlement = settle(&reset).await;
        assert!(matches!(settlement, Settlement::Concluded(_)), "{cell}: {settlement:?}");
        let long_in_doubt = ports.long_in_doubt();
        let mut events = told.lock().unwrap().split_off(0);
        assert_eq!(events.len(), 1, "{cell}: one result");
        Told {
            after: self.tenant.get(&path).await,
            before,
            result: events.remove(0).body["data"].take(),
            long_in_doubt,
        }
    }

    /// Closes the ledger.
    pub async fn close(&self) {
        self.shared.ledger.close().await;
    }
}

async fn settle(reset: &Reset<'_, Hurried<'_>>) -> Settlement {
    for _ in 0..MOST_ROUNDS {
        let settlement = reset.run(fastrand::f64()).await.unwrap();
        if !matches!(settlement, Settlement::Again(_) | Settlement::Deferred(_)) {
            return settlement;
        }
    }
    Settlement::GivenBack
}

/// The subject among the methods of a user.
fn method_of<'a>(user: &'a Value, cell: &Cell) -> &'a Value {
    crate::oracle::methods(user).find(|(kind, _)| kind.name == cell.subject.name).unwrap().1
}

fn job(number: usize, cell: &Cell) -> Job {
    let body = json!({"id": format!("C-{number}"), "ticket": {"system": "jira", "number": "C-1"},
                      "target": {"upn": upn(number)}, "profile": cell.profile, "requested_by": "sam"});
    let envelope = Envelope::bare(Lane::Tickets);
    let request = Request::parse(body.to_string().as_bytes(), &envelope, &Profiles::default()).unwrap();
    Job { request, envelope }
}

fn rules() -> Rules {
    let policy = Policy {
        producers: None,
        protected_users: BTreeSet::new(),
        protected_groups: BTreeSet::new(),
        harmless_roles: BTreeSet::new(),
        cool_down: Duration::from_secs(3600),
        max_resets_per_hour: 1_000_000,
        enabled_steps: BTreeSet::new(),
    };
    let limits = Limits { max_attempts: 2, deadline: Duration::from_secs(3600) };
    Rules { policy, limits, app: "client".to_owned(), profiles: Profiles::default() }
}
