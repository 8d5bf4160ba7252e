//! The real effects of a job, with two differences: its pauses pass twenty times as fast, and a fault is set for each
//! removal that the cell is about, just before it. Everything else goes to Graph, ledger and result as it is.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mfa_reset::adapters::JobPorts;
use mfa_reset::domain::event::Event;
use mfa_reset::domain::guard::{Facts, User};
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::{Plan, Reach, Step};
use mfa_reset::domain::request::Target;
use mfa_reset::ports::{Change, Conclusion, Deferral, Job, Lease, Ports, Recall, Reply, UserHold};
use serde_json::Value;
use uuid::Uuid;

use crate::answer::Answer;
use crate::tenant::Tenant;

/// How much faster pauses pass.
const FASTER: u32 = 20;
/// What goes by where an answer is lost for long: more than Graph's lag.
const LEAP: SignedDuration = SignedDuration::from_secs(70);

/// Which removal is to be answered how.
pub struct Aim<'a> {
    pub tenant: &'a Tenant,
    /// How; none where Graph answers so of its own accord.
    pub answer: Option<&'static Answer>,
    pub always: bool,
    pub user: &'a str,
    pub method: &'a str,
}

/// The effects.
pub struct Hurried<'a> {
    pub ports: JobPorts,
    pub aim: Aim<'a>,
    /// How many faults were set, whether one is set now, and how far the clock has leapt.
    pub state: Mutex<(usize, bool, SignedDuration)>,
    /// When the outcome of a removal of a method was first unknown.
    pub doubts: Mutex<HashMap<String, Timestamp>>,
}

impl Hurried<'_> {
    /// The methods whose removal has been in doubt for more than a minute: a slow machine makes some too.
    pub fn long_in_doubt(&self) -> Vec<String> {
        let long = |since: &Timestamp| self.now().duration_since(*since) > SignedDuration::from_secs(60);
        let doubts = self.doubts.lock().unwrap();
        doubts.iter().filter(|(_, since)| long(since)).map(|(id, _)| id.clone()).collect()
    }

    /// Sets a fault for the next removal of the user, if it is the one that the cell is about.
    async fn aim(&self, id: &str) {
        let Aim { tenant, answer, always, user, method } = &self.aim;
        let (set, waiting, _) = *self.state.lock().unwrap();
        let Some(answer) = answer.filter(|answer| set < answer.most(*always)) else { return };
        if id == *method && !waiting {
            tenant.post("faults", &answer.fault(user)).await;
            let mut state = self.state.lock().unwrap();
            (state.0, state.1) = (set + 1, true);
        }
    }

    /// Notes whether the fault has struck: a call that was held back at the door has not met it.
    async fn aimed(&self, ended: &Result<Reply, Fault>) {
        let mine = |fault: &Value| fault["user"] == self.aim.user;
        let unsure = matches!(ended, Err(fault) if !matches!(fault, Fault::Unknown { .. }));
        let waiting = unsure && self.aim.tenant.get("faults").await.as_array().unwrap().iter().any(mine);
        let mut state = self.state.lock().unwrap();
        state.1 = state.1 && waiting;
        if self.aim.answer.is_some_and(|answer| answer.leap) && matches!(ended, Err(Fault::Unknown { .. })) {
            state.2 = LEAP;
        }
    }
}

impl Ports for Hurried<'_> {
    fn now(&self) -> Timestamp {
        self.ports.now() + self.state.lock().unwrap().2
    }

    fn call_id(&self) -> Uuid {
        self.ports.call_id()
    }

    fn digest(&self, user: &str, kind: MethodType, value: &str) -> Option<String> {
        self.ports.digest(user, kind, value)
    }

    fn calls(&self) -> Vec<Uuid> {
        self.ports.calls()
    }

    async fn recall(&self, job: &Job) -> Result<Recall, Fault> {
        self.ports.recall(job).await
    }

    async fn resolve(&self, target: &Target) -> Result<User, Fault> {
        self.ports.resolve(target).await
    }

    async fn take_user(&self, lease: &Lease, user: &User) -> Result<UserHold, Fault> {
        self.ports.take_user(lease, user).await
    }

    async fn survey(&self, user: &User) -> Result<Facts, Fault> {
        self.ports.survey(user).await
    }

    async fn write_plan(&self, lease: &Lease, plan: &Plan, intent: Value) -> Result<(), Fault> {
        self.ports.write_plan(lease, plan, intent).await
    }

    async fn admit(&self) -> Result<(), Fault> {
        self.ports.admit().await
    }

    async fn advance(
        &self,
        lease: &Lease,
        crossed: Vec<(usize, Step)>,
        next: Option<(usize, Step)>,
    ) -> Result<(), Fault> {
        self.ports.advance(lease, crossed, next).await
    }

    async fn list_methods(&self, user: &str, reach: &Reach) -> Result<Vec<Method>, Fault> {
        self.ports.list_methods(user, reach).await
    }

    async fn remove(&self, user: &str, method: &Method, call: Uuid) -> Result<Reply, Fault> {
        self.aim(&method.id).await;
        let sent = self.now();
        let ended = self.ports.remove(user, method, call).await;
        if matches!(ended, Err(Fault::Unknown { .. })) {
            self.doubts.lock().unwrap().entry(method.id.clone()).or_insert(sent);
        }
        self.aimed(&ended).await;
        ended
    }

    async fn change(&self, user: &str, change: Change<'_>, call: Uuid) -> Result<Reply, Fault> {
        self.ports.change(user, change, call).await
    }

    async fn revoke_sessions(&self, user: &str, call: Uuid) -> Result<(), Fault> {
        self.ports.revoke_sessions(user, call).await
    }

    async fn pause(&self, time: Duration) -> Result<(), Fault> {
        self.ports.pause(time / FASTER).await
    }

    async fn record_outcome(&self, lease: &Lease, conclusion: &Conclusion) -> Result<(), Fault> {
        self.ports.record_outcome(lease, conclusion).await
    }

    async fn publish(&self, event: &Event) -> Result<(), Fault> {
        self.ports.publish(event).await
    }

    async fn mark_published(&self, event: &Event) -> Result<(), Fault> {
        self.ports.mark_published(event).await
    }

    async fn publish_copy(&self, _: &Job, _: &Lease, _: u32, step: Duration) -> Result<(), Fault> {
        // What it does without a broker.
        self.pause(step).await
    }

    async fn record_deferral(&self, lease: &Lease, deferral: &Deferral) -> Result<(), Fault> {
        self.ports.record_deferral(lease, deferral).await
    }

    async fn record_refusal(&self, audit: Value) -> Result<(), Fault> {
        self.ports.record_refusal(audit).await
    }
}
