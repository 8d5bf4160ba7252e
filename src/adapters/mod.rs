//! HOW: the real [`Ports`], over Graph, ledger and broker. Each effect of a job is timed and traced here, and what is
//! counted is counted by whoever uses this, so that no adapter knows of metrics, and no adapter knows of another.

pub mod amqp;
pub mod graph;
pub mod ledger;
mod outlet;
pub mod upkeep;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{trace, warn};
use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::guard::{Facts, User};
use crate::domain::method::{Method, MethodType};
use crate::domain::outcome::Fault;
use crate::domain::plan::{Plan, Reach, Step};
use crate::domain::request::Target;
use crate::ports::{Change, Conclusion, Deferral, Job, Lease, Ports, Recall, Reply, UserHold};
use crate::trace::Span;
use amqp::Outgoing;
use graph::{Graph, Trail};
use ledger::Ledger;
use outlet::pause;
pub use outlet::{Outlet, Refusals, Refused, Write, publish};

/// What all jobs of a process share.
pub struct Shared {
    /// The ledger.
    pub ledger: Ledger,
    /// Microsoft Graph.
    pub graph: Graph,
    /// `policy.max_resets_per_hour`.
    pub max_resets_per_hour: u32,
    /// Leases of attempts that are alive, to be renewed: job and fencing number.
    pub leases: Mutex<BTreeSet<(i64, i64)>>,
}

/// The effects of one job.
pub struct JobPorts {
    shared: Arc<Shared>,
    outlet: Outlet,
    job: Job,
    body: Vec<u8>,
    stop: CancellationToken,
    trail: Trail,
    lease: Mutex<Option<(i64, i64)>>,
    /// When the lease was last checked.
    checked: Mutex<Timestamp>,
}

impl Shared {
    /// The leases that are alive.
    pub fn live_leases(&self) -> Vec<(i64, i64)> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

impl JobPorts {
    /// The effects of a job that came as `body`; `stop` ends every wait.
    pub fn new(shared: Arc<Shared>, outlet: Outlet, job: Job, body: Vec<u8>, stop: CancellationToken) -> Self {
        Self {
            shared,
            outlet,
            job,
            body,
            stop,
            trail: Trail::default(),
            lease: Mutex::new(None),
            checked: Mutex::new(Timestamp::MIN),
        }
    }

    /// The queue that the job came through, if there is a broker.
    pub fn queue(&self) -> Option<String> {
        match &self.outlet {
            Outlet::Broker(publisher, _) => Some(publisher.queue(self.job.envelope.lane)),
            Outlet::Local(_) => None,
        }
    }

    /// Notes which lease this job holds, if any, for the renewal.
    fn keeps(&self, lease: Option<&Lease>) {
        let mut live = self.shared.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mine = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = mine.take() {
            live.remove(&old);
        }
        if let Some(lease) = lease {
            live.insert((lease.job, lease.fence));
            *mine = Some((lease.job, lease.fence));
        }
    }

    /// Traces an effect and how long it took.
    async fn effect<T>(&self, name: &'static str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let started = tokio::time::Instant::now();
        let result = work.await;
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let error = result.as_ref().err().map(ToString::to_string);
        trace!(effect = name, duration_ms = millis, error, request.id = %self.job.request.key, "effect");
        result
    }

    /// A reading call; it changes nothing, so that a stop need not wait for it.
    async fn reading<T>(&self, name: &'static str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::select! {
            result = self.effect(name, work) => result,
            () = self.stop.cancelled() => Err(Fault::Stopped),
        }
    }

    fn checked(&self) -> Timestamp {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> Result<(), Fault> {
        if self.stop.is_cancelled() { Err(Fault::Stopped) } else { Ok(()) }
    }
}

impl Drop for JobPorts {
    fn drop(&mut self) {
        self.keeps(None);
    }
}

impl Ports for JobPorts {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn call_id(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn digest(&self, user: &str, kind: MethodType, value: &str) -> Option<String> {
        self.shared.graph.digest(user, kind, value)
    }

    fn calls(&self) -> Vec<Uuid> {
        self.trail.take()
    }

    async fn recall(&self, job: &Job) -> Result<Recall, Fault> {
        self.stopped()?;
        let recall = self.shared.ledger.recall(&job.request, &job.envelope, self.now());
        let recall = self.effect("recall", recall).await?;
        // Nothing held from before outlives a recall, or its renewal would keep everybody out, this job included.
        self.keeps(match &recall {
            Recall::Leased(lease, _) | Recall::LedgerLost(lease) => Some(lease),
            Recall::Busy(_) | Recall::Concluded(_) | Recall::Superseded | Recall::Reused => None,
        });
        Ok(recall)
    }

    async fn resolve(&self, target: &Target) -> Result<User, Fault> {
        let resolve = self.shared.graph.resolve(self.job.envelope.lane, target, &self.trail);
        self.reading("resolve", resolve).await
    }

    async fn take_user(&self, lease: &Lease, user: &User) -> Result<UserHold, Fault> {
        self.effect("take_user", self.shared.ledger.take_user(lease, &user.object_id, self.now())).await
    }

    async fn survey(&self, user: &User) -> Result<Facts, Fault> {
        let survey = self.shared.graph.survey(self.job.envelope.lane, &user.object_id, &self.trail);
        self.reading("survey", survey).await
    }

    async fn write_plan(&self, lease: &Lease, plan: &Plan, intent: Value) -> Result<(), Fault> {
        let most = self.shared.max_resets_per_hour;
        self.effect("write_plan", self.shared.ledger.write_plan(lease, plan, intent, most, self.now())).await
    }

    async fn admit(&self) -> Result<(), Fault> {
        self.stopped()?;
        self.effect("admit", self.shared.graph.admit(self.job.envelope.lane, &self.stop)).await
    }

    async fn advance(
        &self,
        lease: &Lease,
        crossed: Vec<(usize, Step)>,
        next: Option<(usize, Step)>,
    ) -> Result<(), Fault> {
        let now = self.now();
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let advanced = self.effect("advance", self.shared.ledger.advance(lease, crossed, next, now)).await;
        if let Err(Fault::Throttled { after }) = &advanced {
            // Another replica met it: this one keeps to it too.
            self.shared.graph.hold_until(now.saturating_add(*after).unwrap_or(Timestamp::MAX));
        }
        advanced
    }

    async fn list_methods(&self, user: &str, reach: &Reach) -> Result<Vec<Method>, Fault> {
        let list = self.shared.graph.list_methods(self.job.envelope.lane, user, reach, &self.trail);
        self.reading("list_methods", list).await
    }

    async fn remove(&self, user: &str, method: &Method, call: Uuid) -> Result<Reply, Fault> {
        self.effect("remove", self.shared.graph.remove(user, method, call, self.checked())).await
    }

    async fn change(&self, user: &str, change: Change<'_>, call: Uuid) -> Result<Reply, Fault> {
        self.effect("change", self.shared.graph.change(user, change, call, self.checked())).await
    }

    async fn revoke_sessions(&self, user: &str, call: Uuid) -> Result<(), Fault> {
        self.effect("revoke_sessions", self.shared.graph.revoke_sessions(user, call, self.checked())).await
    }

    async fn pause(&self, time: Duration) -> Result<(), Fault> {
        pause(time, &self.stop).await
    }

    async fn record_outcome(&self, lease: &Lease, conclusion: &Conclusion) -> Result<(), Fault> {
        let recorded = self.shared.ledger.record_outcome(lease, conclusion, self.now());
        self.effect("record_outcome", recorded).await?;
        self.keeps(None);
        Ok(())
    }

    async fn publish(&self, event: &Event) -> Result<(), Fault> {
        match &self.outlet {
            // Whoever reads lines waits for results.
            Outlet::Local(_) if event.outcome().is_none() => Ok(()),
            Outlet::Local(write) => write(event).map_err(|error| {
                warn!(error = %error, "the result cannot be written");
                Fault::Stopped
            }),
            Outlet::Broker(publisher, refused) => {
                let span = Span::publish(&publisher.exchange("results"), event);
                let event = Outgoing::result(event).within(span.as_ref().map(|span| span.context));
                let published = self.effect("publish", publish(publisher, &event, &self.stop, refused)).await;
                if let Some(span) = span {
                    let error = published.as_ref().err().map(ToString::to_string);
                    Span { error, ..span }.end();
                }
                published
            }
        }
    }

    async fn mark_published(&self, event: &Event) -> Result<(), Fault> {
        self.effect("mark_published", self.shared.ledger.mark_published(event.id)).await
    }

    async fn publish_copy(&self, job: &Job, lease: &Lease, deferral: u32, step: Duration) -> Result<(), Fault> {
        match &self.outlet {
            Outlet::Local(_) => self.pause(step).await,
            Outlet::Broker(publisher, refused) => {
                let copy = Outgoing::retry(&self.body, &job.envelope, step, lease.first_seen, deferral);
                self.effect("publish_copy", publish(publisher, &copy, &self.stop, refused)).await
            }
        }
    }

    async fn record_deferral(&self, lease: &Lease, deferral: &Deferral) -> Result<(), Fault> {
        self.effect("record_deferral", self.shared.ledger.record_deferral(lease, deferral)).await?;
        self.keeps(None);
        Ok(())
    }

    async fn record_refusal(&self, audit: Value) -> Result<(), Fault> {
        self.effect("record_refusal", self.shared.ledger.record_refusal(audit)).await
    }
}
