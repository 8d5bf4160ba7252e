//! DRIVES without a broker: requests from lines, results to wherever the outlet writes. Resumable: the ledger knows
//! what is done, so the same lines again do nothing twice.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::adapters::{JobPorts, Outlet, Shared, Write};
use crate::domain::event;
use crate::domain::request::{Envelope, Lane, Request};
use crate::domain::rules::Rules;
use crate::drive::{count_rejection, drive};
use crate::metrics::Metrics;
use crate::ports::Job;
use crate::reset::Settlement;

/// How many lines are worked on at once; Graph's gate sets the pace.
const CONCURRENCY: usize = 16;

/// What it takes to work without a broker.
#[derive(Clone)]
pub struct Local {
    /// Graph and ledger.
    pub shared: Arc<Shared>,
    /// What to go by. Whoever runs the command may ask, so `producers` should be `None`.
    pub rules: Arc<Rules>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Is given every result.
    pub write: Write,
}

impl Local {
    /// Works through every line until the end or `stop`, in order of the lines as far as users are free. Tells how many
    /// lines that were read have no result.
    pub async fn run(&self, mut lines: impl AsyncBufRead + Unpin, stop: &CancellationToken) -> std::io::Result<usize> {
        let slots = Arc::new(Semaphore::new(CONCURRENCY));
        let mut jobs = JoinSet::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = tokio::select! {
                read = lines.read_until(b'\n', &mut line) => read?,
                () = stop.cancelled() => 0,
            };
            if read == 0 {
                break;
            }
            let body = line.trim_ascii().to_vec();
            if body.is_empty() {
                continue;
            }
            let Ok(slot) = slots.clone().acquire_owned().await else { break };
            let (this, stop) = (self.clone(), stop.clone());
            jobs.spawn(async move {
                let _slot = slot;
                this.line(body, stop).await
            });
        }
        let mut unfinished = 0;
        while let Some(ended) = jobs.join_next().await {
            if let Err(panic) = &ended {
                error!(error = %panic, "a job died");
            }
            unfinished += usize::from(!ended.unwrap_or(false));
        }
        Ok(unfinished)
    }

    /// One line; `true` once its result is written.
    async fn line(&self, body: Vec<u8>, stop: CancellationToken) -> bool {
        let envelope = Envelope::bare(Lane::Tickets);
        let started = Timestamp::now();
        let request = match Request::parse(&body, &envelope, &self.rules.profiles) {
            Ok(request) => request,
            Err(malformed) => {
                let event = event::rejection(&malformed, &body, &envelope, started);
                count_rejection(Lane::Tickets, malformed.reason, &self.metrics, started);
                let written = (self.write)(&event);
                return written.inspect_err(|error| error!(%error, "a result cannot be written")).is_ok();
            }
        };
        let job = Job { request, envelope };
        let outlet = Outlet::Local(self.write.clone());
        let ports = JobPorts::new(self.shared.clone(), outlet, job.clone(), body, stop);
        loop {
            match drive(&ports, &job, &self.rules, &self.metrics, started).await {
                // There are no copies here: the wait is over, and the line itself comes back.
                Settlement::Deferred(_) | Settlement::Again(_) => {}
                Settlement::GivenBack => return false,
                Settlement::Concluded(concluded) => return concluded.told,
                Settlement::Repeated | Settlement::Superseded | Settlement::Refused(..) => return true,
            }
        }
    }
}
