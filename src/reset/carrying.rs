//! How a plan is carried out: each step written down, called and noted; at the end all of it proved by reading.

use std::time::Duration;

use uuid::Uuid;

use super::Reset;
use crate::domain::outcome::{Fault, MethodResult};
use crate::domain::plan::{Action, Next, Plan, Setting};
use crate::domain::reason::Reason;
use crate::domain::task::Private;
use crate::ports::{Change, Lease, Ports, Reply};

/// The waits before each list that is to prove a change, in seconds: Graph lags.
const LOOKS: [u64; 7] = [0, 1, 2, 4, 8, 15, 30];
/// How many calls of one attempt may be throttled or end unknown.
const PATIENCE: u32 = 5;
/// The wait of a job whose lists grow old faster than its turn comes.
const WAIT: Duration = Duration::from_secs(10);

impl<P: Ports> Reset<'_, P> {
    /// Calls the open steps, never two at once. A lost answer is settled by a list.
    pub(super) async fn carry_out(&self, lease: &Lease, plan: &mut Plan) -> Result<(), Fault> {
        let (mut trouble, mut stale) = (0, false);
        loop {
            if stale || plan.is_in_doubt() {
                let asked = self.ports.now();
                plan.reconcile(&self.ports.list_methods(&plan.user, &plan.reach()).await?, asked);
            }
            let index = match plan.next_step() {
                Next::Call(index) => index,
                Next::Wait(time) => {
                    self.ports.pause(time).await?;
                    continue;
                }
                Next::Nothing => break,
            };
            self.ports.admit().await?;
            // The wait may have been long enough for another phone to take the place of the planned one.
            stale = plan.is_stale(index, self.ports.now());
            if stale && trouble >= PATIENCE {
                return Err(Fault::Throttled { after: WAIT });
            }
            match if stale { Ok(()) } else { self.call(lease, plan, index).await } {
                Ok(()) => trouble += u32::from(stale),
                Err(Fault::Throttled { .. } | Fault::Unknown { .. }) if trouble < PATIENCE => trouble += 1,
                Err(fault) => return Err(fault),
            }
        }
        self.ports.advance(lease, plan.changes(), None).await?;
        plan.written();
        Ok(())
    }

    /// One step: writes down that it is sent, calls, and notes the answer.
    async fn call(&self, lease: &Lease, plan: &mut Plan, index: usize) -> Result<(), Fault> {
        let (id, crossed) = (self.ports.call_id(), plan.changes());
        let sent = plan.send(index, self.ports.now(), id);
        let advanced = self.ports.advance(lease, crossed, Some((index, sent))).await.map(|()| plan.written());
        let answer = match advanced {
            Ok(()) => self.act(&plan.user, &plan.steps[index].action, id).await,
            Err(fault) => Err(fault),
        };
        let removes = matches!(plan.steps[index].action, Action::Remove(_));
        match answer {
            Ok(Reply::Done) if removes => plan.settle(index, MethodResult::Removed, None),
            Ok(Reply::Done) => plan.settle(index, MethodResult::Done, None),
            Ok(Reply::NotFound) => plan.not_found(index),
            Ok(Reply::Refused(refusal)) => plan.put_off(index, refusal),
            Ok(Reply::Forbidden) => plan.settle(index, MethodResult::Forbidden, Some(Reason::Forbidden)),
            Ok(Reply::Impossible) => plan.settle(index, MethodResult::Failed, Some(Reason::GraphRefused)),
            Err(fault) => {
                // Every other fault than an unknown outcome had no effect.
                if !matches!(fault, Fault::Unknown { .. }) {
                    plan.unsend(index);
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The call of a step. A value comes from the request; a plan keeps its digest only.
    async fn act(&self, user: &str, action: &Action, id: Uuid) -> Result<Reply, Fault> {
        let change = match action {
            Action::RevokeSessions => return self.ports.revoke_sessions(user, id).await.map(|()| Reply::Done),
            Action::Remove(method) => return self.ports.remove(user, method, id).await,
            Action::SetDefault(preference) => Change::Default(*preference),
            Action::SetSmsSignIn { on, .. } => Change::SmsSignIn(*on),
            Action::SetPerUserMfa(state) => Change::PerUserMfa(*state),
            Action::SetValue(Setting { method_type, digest, replaces, .. }) => {
                let mut values = self.job.request.tasks.iter().filter_map(|task| task.value(*method_type));
                let same = |value: &&Private| self.ports.digest(user, *method_type, value.expose()) == *digest;
                let Some(value) = values.find(same) else { return Ok(Reply::Impossible) };
                Change::Value { method_type: *method_type, value, replaces: *replaces }
            }
        };
        self.ports.change(user, change, id).await
    }

    /// Proves by reading that every planned method is gone, and every value set. A method registered since is no residue.
    pub(super) async fn verify(&self, plan: &mut Plan) -> Result<(), Fault> {
        let (mut residue, mut listed) = (Vec::new(), Vec::new());
        if !plan.reach().types.is_empty() {
            for wait in LOOKS {
                self.ports.pause(Duration::from_secs(wait)).await?;
                listed = self.ports.list_methods(&plan.user, &plan.reach()).await?;
                residue = plan.residue(&listed);
                if residue.is_empty() {
                    break;
                }
            }
        }
        plan.verified(&residue, &listed);
        Ok(())
    }
}
