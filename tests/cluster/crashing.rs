//! A victim: a process that handles one delivery with the worker's own effects and dies before or after one of them, as a
//! `kill -9` would have it. It calls the library; the rest of the worker is not there to help it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use mfa_reset::adapters::amqp::{Delivery, Incoming, Session};
use mfa_reset::adapters::{JobPorts, Outlet};
use mfa_reset::admin::Health;
use mfa_reset::commands::assemble::{self, Process};
use mfa_reset::config::{Config, LogFormat, Needs, Sources};
use mfa_reset::domain::event::Event;
use mfa_reset::domain::guard::{Facts, User};
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::{Plan, Reach, Step};
use mfa_reset::domain::profile::Profiles;
use mfa_reset::domain::request::{Lane, Request, Target};
use mfa_reset::ports::{Change, Conclusion, Deferral, Job, Lease, Ports, Recall, Reply, UserHold};
use mfa_reset::reset::{Concluded, Reset, Settlement};
use mfa_reset::telemetry;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Names the request that the victim is to handle.
pub const REQUEST: &str = "MFA_TEST_VICTIM_REQUEST";
/// Says where it dies, as [`Point::written`]; unset, it lives.
pub const POINT: &str = "MFA_TEST_VICTIM_POINT";
/// Names the file for the effects that it met, a line each.
pub const TRACE: &str = "MFA_TEST_VICTIM_TRACE";

/// Whether an effect has happened when the victim dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Before,
    After,
}

/// Where a victim dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Which of the effects that it meets, from 0.
    pub at: usize,
    /// Before or after.
    pub side: Side,
}

impl Point {
    /// As it stands in the environment.
    pub fn written(self) -> String {
        format!("{:?} {}", self.side, self.at)
    }

    fn read(text: &str) -> Self {
        let (side, at) = text.split_once(' ').unwrap();
        Self { at: at.parse().unwrap(), side: if side == "Before" { Side::Before } else { Side::After } }
    }
}

/// Handles the delivery that the environment names, to its end or to the victim's.
pub async fn handle_one() {
    let read = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by crash_points alone"));
    let (wanted, trace) = (read(REQUEST), PathBuf::from(read(TRACE)));
    let point = std::env::var(POINT).ok().map(|text| Point::read(&text));
    let config = Config::load(&Sources::of_process(None, Vec::new()), Needs::WORKER).unwrap();
    telemetry::init(Some(LogFormat::Json), "info").unwrap();
    let process = Process::open(&config, assemble::metrics().unwrap(), Health::new()).await.unwrap();
    let (session, mut inbox) = Session::open(&assemble::broker(&config), CancellationToken::new()).await.unwrap();
    session.consume(Lane::Tickets).await.unwrap();
    loop {
        let Some(Incoming::Delivery(delivery)) = inbox.tickets.recv().await else { panic!("the session is over") };
        let request = Request::parse(&delivery.body, &delivery.envelope, &Profiles::default()).unwrap();
        // Copies of earlier victims' requests go back where they came from.
        if request.key.id == wanted {
            handle(&process, &session, *delivery, request, point, &trace).await;
            break;
        }
    }
    session.close().await;
    process.close().await;
}

/// What the worker does with a delivery.
async fn handle(
    process: &Process,
    session: &Session,
    delivery: Delivery,
    request: Request,
    point: Option<Point>,
    trace: &Path,
) {
    let job = Job { request, envelope: delivery.envelope.clone() };
    let outlet = Outlet::Broker(session.publisher(), Arc::new(|_| false));
    let (shared, stop) = (process.shared.clone(), session.token().child_token());
    let ports = JobPorts::new(shared, outlet, job.clone(), delivery.body.clone(), stop);
    let crashing = Crashing { ports: &ports, point, trace, met: AtomicUsize::new(0) };
    let reset = Reset { ports: &crashing, job: &job, rules: &process.rules };
    match reset.run(0.0).await {
        Ok(
            Settlement::Concluded(Concluded { told: true, .. })
            | Settlement::Repeated
            | Settlement::Refused(..)
            | Settlement::Deferred(_),
        ) => delivery.ack().await.unwrap(),
        other => panic!("the delivery cannot be settled: {other:?}"),
    }
}

/// The real effects, one of which is the last.
struct Crashing<'a> {
    ports: &'a JobPorts,
    point: Option<Point>,
    trace: &'a Path,
    met: AtomicUsize,
}

impl Crashing<'_> {
    async fn effect<T>(&self, name: &str, work: impl Future<Output = T> + Send) -> T {
        let at = self.met.fetch_add(1, Ordering::SeqCst);
        self.note(name);
        self.die_at(at, Side::Before, name);
        let result = work.await;
        self.die_at(at, Side::After, name);
        result
    }

    fn die_at(&self, at: usize, side: Side, name: &str) {
        if self.point == Some(Point { at, side }) {
            self.note(&format!("died {side:?} {name}"));
            std::process::abort();
        }
    }

    fn note(&self, line: &str) {
        let file = std::fs::File::options().create(true).append(true).open(self.trace);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}

impl Ports for Crashing<'_> {
    fn now(&self) -> Timestamp {
        self.ports.now()
    }

    fn call_id(&self) -> Uuid {
        self.ports.call_id()
    }

    fn calls(&self) -> Vec<Uuid> {
        self.ports.calls()
    }

    async fn recall(&self, job: &Job) -> Result<Recall, Fault> {
        self.effect("recall", self.ports.recall(job)).await
    }

    async fn resolve(&self, target: &Target) -> Result<User, Fault> {
        self.effect("resolve", self.ports.resolve(target)).await
    }

    async fn take_user(&self, lease: &Lease, user: &User) -> Result<UserHold, Fault> {
        self.effect("take_user", self.ports.take_user(lease, user)).await
    }

    async fn survey(&self, user: &User) -> Result<Facts, Fault> {
        self.effect("survey", self.ports.survey(user)).await
    }

    async fn write_plan(&self, lease: &Lease, plan: &Plan, intent: Value) -> Result<(), Fault> {
        self.effect("write_plan", self.ports.write_plan(lease, plan, intent)).await
    }

    async fn admit(&self) -> Result<(), Fault> {
        self.effect("admit", self.ports.admit()).await
    }

    async fn advance(
        &self,
        lease: &Lease,
        crossed: Vec<(usize, Step)>,
        next: Option<(usize, Step)>,
    ) -> Result<(), Fault> {
        self.effect("advance", self.ports.advance(lease, crossed, next)).await
    }

    fn digest(&self, user: &str, kind: MethodType, value: &str) -> Option<String> {
        self.ports.digest(user, kind, value)
    }

    async fn change(&self, user: &str, change: Change<'_>, call: Uuid) -> Result<Reply, Fault> {
        self.effect("change", self.ports.change(user, change, call)).await
    }

    async fn list_methods(&self, user: &str, reach: &Reach) -> Result<Vec<Method>, Fault> {
        self.effect("list_methods", self.ports.list_methods(user, reach)).await
    }

    async fn remove(&self, user: &str, method: &Method, call: Uuid) -> Result<Reply, Fault> {
        self.effect("remove", self.ports.remove(user, method, call)).await
    }

    async fn revoke_sessions(&self, user: &str, call: Uuid) -> Result<(), Fault> {
        self.effect("revoke_sessions", self.ports.revoke_sessions(user, call)).await
    }

    async fn pause(&self, time: Duration) -> Result<(), Fault> {
        self.effect("pause", self.ports.pause(time)).await
    }

    async fn record_outcome(&self, lease: &Lease, conclusion: &Conclusion) -> Result<(), Fault> {
        self.effect("record_outcome", self.ports.record_outcome(lease, conclusion)).await
    }

    async fn publish(&self, event: &Event) -> Result<(), Fault> {
        self.effect("publish", self.ports.publish(event)).await
    }

    async fn mark_published(&self, event: &Event) -> Result<(), Fault> {
        self.effect("mark_published", self.ports.mark_published(event)).await
    }

    async fn publish_copy(&self, job: &Job, lease: &Lease, deferral: u32, step: Duration) -> Result<(), Fault> {
        self.effect("publish_copy", self.ports.publish_copy(job, lease, deferral, step)).await
    }

    async fn record_deferral(&self, lease: &Lease, deferral: &Deferral) -> Result<(), Fault> {
        self.effect("record_deferral", self.ports.record_deferral(lease, deferral)).await
    }

    async fn record_refusal(&self, audit: Value) -> Result<(), Fault> {
        self.effect("record_refusal", self.ports.record_refusal(audit)).await
    }
}
