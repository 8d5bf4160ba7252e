//! A world without clocks, networks or disks, that counts every effect and can crash before or after each.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mfa_reset::domain::event::Event;
use mfa_reset::domain::guard::{Facts, Lookup, User};
use mfa_reset::domain::method::{Method, MethodType};
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::{Plan, Reach, Refusal, State as StepState, Step};
use mfa_reset::domain::preference::Preference;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::Target;
use mfa_reset::ports::{Change, Conclusion, Deferral, Job, Lease, Ports, Recall, Reply, UserHold};
use serde_json::Value;
use uuid::Uuid;

/// Every effect of `Ports` that can crash or fail, by name: `tests/simulation.rs` checks that none is missing.
pub const EFFECTS: [&str; 18] = [
    "recall",
    "resolve",
    "take_user",
    "survey",
    "write_plan",
    "admit",
    "advance",
    "list_methods",
    "remove",
    "change",
    "revoke_sessions",
    "pause",
    "record_outcome",
    "publish",
    "mark_published",
    "publish_copy",
    "record_deferral",
    "record_refusal",
];

/// What to do to one effect of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The process dies before it.
    CrashBefore,
    /// The process dies after it.
    CrashAfter,
    /// It happens twice.
    Repeat,
    /// It does not happen and answers a fault.
    Fail,
    /// It happens and answers a fault: the answer is lost.
    Lose,
}

/// One row of the pretended ledger.
#[derive(Debug, Clone)]
pub struct Row {
    pub fingerprint: String,
    pub lease: Lease,
    pub leased: bool,
    pub plan: Option<Plan>,
    pub concluded: Option<Event>,
}

#[derive(Debug, Default)]
pub struct State {
    pub now: i64,
    pub rows: BTreeMap<String, Row>,
    pub held: BTreeMap<String, i64>,
    pub last_reset: Option<Timestamp>,
    pub methods: Vec<Method>,
    pub default_method: Option<String>,
    /// What Graph tells of the default, where it does.
    pub preference: Option<Preference>,
    pub tells_preference: bool,
    /// What was set, in order.
    pub set: Vec<String>,
    /// Everything that happened outside, in order.
    pub journal: Vec<String>,
    pub removed: Vec<Method>,
    pub revoked: usize,
    pub removing: bool,
    pub published: Vec<Event>,
    pub audit: Vec<Value>,
    pub copies: Vec<u32>,
    /// The effects of this run, by name.
    pub effects: Vec<&'static str>,
    pub strike: Option<(usize, Strike)>,
    pub dead: bool,
    pub not_found: bool,
    pub throttle: u32,
    /// This admission takes half a minute, in which the user registers another mobile phone.
    pub slow_admission: Option<usize>,
    pub admissions: usize,
    pub memberships: Option<Lookup<mfa_reset::domain::guard::Membership>>,
}

#[derive(Debug, Default)]
pub struct World {
    pub state: Mutex<State>,
}

pub fn method(method_type: MethodType, id: &str, digest: Option<&str>) -> Method {
    Method { digest: digest.map(Into::into), ..Method::new(method_type, id) }
}

impl World {
    /// A user with a mobile phone, an alternate one, Authenticator as the default, and a security key.
    pub fn new() -> Self {
        let world = Self::default();
        world.with(|state| {
            state.now = 1_000_000;
            state.default_method = Some("app".into());
            state.methods = vec![
                method(MethodType::Password, "pw", None),
                method(MethodType::MicrosoftAuthenticator, "app", None),
                method(MethodType::PhoneMobile, "mobile", Some("old number")),
                method(MethodType::PhoneAlternateMobile, "alternate", Some("other number")),
                method(MethodType::Fido2, "key", None),
            ];
        });
        world
    }

    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    /// The process starts again: its leases are void, time has passed.
    pub fn restart(&self, later: i64) {
        self.with(|state| {
            state.dead = false;
            state.strike = None;
            state.removing = false;
            state.now += later;
            state.rows.values_mut().for_each(|row| row.leased = false);
        });
    }

    /// Counts an effect, lets others run, and strikes it where the run says so.
    async fn effect<T>(
        &self,
        name: &'static str,
        lost: Fault,
        mut act: impl FnMut(&mut State) -> Result<T, Fault> + Send,
    ) -> Result<T, Fault> {
        tokio::task::yield_now().await;
        let result = self.with(|state| {
            if state.dead {
                return Err(Fault::Stopped);
            }
            state.effects.push(name);
            let index = state.effects.len() - 1;
            let strike = state.strike.filter(|(at, _)| *at == index).map(|(_, strike)| strike);
            match strike {
                None => act(state),
                Some(Strike::CrashBefore) => {
                    state.dead = true;
                    Err(Fault::Stopped)
                }
                Some(Strike::CrashAfter) => {
                    let _ = act(state);
                    state.dead = true;
                    Err(Fault::Stopped)
                }
                Some(Strike::Repeat) => {
                    let first = act(state);
                    if name == "recall" { first } else { act(state) }
                }
                Some(Strike::Fail) => Err(Fault::Transient { reason: Reason::GraphUnavailable }),
                Some(Strike::Lose) => act(state).and(Err(lost)),
            }
        });
        tokio::task::yield_now().await;
        result
    }
}

/// A fault for effects whose answer can be lost on the way.
const LOST: Fault = Fault::Transient { reason: Reason::LedgerUnavailable };

fn fenced<'a>(state: &'a mut State, lease: &Lease) -> Result<&'a mut Row, Fault> {
    let row = state.rows.values_mut().find(|row| row.lease.job == lease.job).ok_or(Fault::LeaseLost)?;
    if row.lease.fence == lease.fence && row.leased { Ok(row) } else { Err(Fault::LeaseLost) }
}

fn cross_off(row: &mut Row, changes: &[(usize, Step)]) {
    for (index, step) in changes {
        if let Some(plan) = &mut row.plan {
            plan.steps[*index] = step.clone();
        }
    }
}

impl Ports for World {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.with(|state| state.now)).unwrap()
    }

    fn call_id(&self) -> Uuid {
        Uuid::nil()
    }

    fn digest(&self, _: &str, _: MethodType, value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    fn calls(&self) -> Vec<Uuid> {
        Vec::new()
    }

    async fn recall(&self, job: &Job) -> Result<Recall, Fault> {
        let now = self.now();
        self.effect("recall", LOST, |state| {
            let next = i64::try_from(state.rows.len()).unwrap() + 1;
            let row = state.rows.entry(job.request.key.to_string()).or_insert_with(|| Row {
                fingerprint: job.request.fingerprint.clone(),
                lease: Lease { job: next, fence: 0, first_seen: now, attempts: 0, deferrals: 0, told: false },
                leased: false,
                plan: None,
                concluded: None,
            });
            if row.fingerprint != job.request.fingerprint {
                return Ok(Recall::Reused);
            }
            if let Some(event) = &row.concluded {
                return Ok(Recall::Concluded(Box::new(event.clone())));
            }
            if job.envelope.is_deferred_copy() && job.envelope.deferral < row.lease.deferrals {
                return Ok(Recall::Superseded);
            }
            if row.leased {
                return Ok(Recall::Busy(Lease { fence: -1, ..row.lease.clone() }));
            }
            row.lease.fence += 1;
            row.leased = true;
            Ok(Recall::Leased(row.lease.clone(), row.plan.clone()))
        })
        .await
    }

    async fn resolve(&self, _: &Target) -> Result<User, Fault> {
        let user = User {
            object_id: "user".into(),
            upn: Some("ada@contoso.test".into()),
            addresses: Some(Vec::new()),
            restricted: false,
        };
        self.effect("resolve", LOST, |_| Ok(user.clone())).await
    }

    async fn take_user(&self, lease: &Lease, user: &User) -> Result<UserHold, Fault> {
        self.effect("take_user", LOST, |state| {
            fenced(state, lease)?;
            let holder = *state.held.entry(user.object_id.clone()).or_insert(lease.job);
            Ok(if holder == lease.job { UserHold::Taken(state.last_reset) } else { UserHold::Busy })
        })
        .await
    }

    async fn survey(&self, _: &User) -> Result<Facts, Fault> {
        let read_at = self.now();
        self.effect("survey", LOST, |state| {
            Ok(Facts {
                memberships: state.memberships.clone().unwrap_or(Lookup::Complete(Vec::new())),
                role_assignable_groups: Lookup::Complete(Vec::new()),
                assignments: Lookup::Complete(Vec::new()),
                eligibilities: Lookup::NotLicensed,
                methods: state.methods.clone(),
                unread: Vec::new(),
                preference: state.preference.filter(|_| state.tells_preference),
                beta: true,
                read_at,
                last_reset: None,
            })
        })
        .await
    }

    async fn write_plan(&self, lease: &Lease, plan: &Plan, intent: Value) -> Result<(), Fault> {
        self.effect("write_plan", LOST, |state| {
            fenced(state, lease)?.plan = Some(plan.clone());
            state.audit.push(intent.clone());
            state.journal.push("intent".into());
            Ok(())
        })
        .await
    }

    async fn admit(&self) -> Result<(), Fault> {
        self.effect("admit", LOST, |state| {
            state.admissions += 1;
            if state.slow_admission == Some(state.admissions) {
                state.now += 30;
                let phone = state.methods.iter_mut().find(|method| method.id == "mobile").unwrap();
                phone.digest = Some("new number".into());
            }
            Ok(())
        })
        .await
    }

    async fn advance(
        &self,
        lease: &Lease,
        crossed: Vec<(usize, Step)>,
        next: Option<(usize, Step)>,
    ) -> Result<(), Fault> {
        self.effect("advance", LOST, |state| {
            let row = fenced(state, lease)?;
            cross_off(row, &crossed);
            cross_off(row, next.as_slice());
            Ok(())
        })
        .await
    }

    async fn list_methods(&self, _: &str, _: &Reach) -> Result<Vec<Method>, Fault> {
        self.effect("list_methods", LOST, |state| Ok(state.methods.clone())).await
    }

    async fn remove(&self, _: &str, method: &Method, _: Uuid) -> Result<Reply, Fault> {
        self.with(|state| {
            assert!(!state.removing, "two removals of one user at once");
            state.removing = true;
        });
        let unknown = Fault::Unknown { reason: Reason::GraphUnavailable };
        let result = self.effect("remove", unknown, |state| {
            if state.throttle > 0 {
                state.throttle -= 1;
                return Err(Fault::Throttled { after: Duration::from_secs(2) });
            }
            if state.not_found && method.id == "stuck" {
                return Ok(Reply::NotFound);
            }
            let Some(place) = state.methods.iter().position(|listed| method.same_place(listed)) else {
                return Ok(Reply::NotFound);
            };
            let has = |kind| state.methods.iter().any(|listed| listed.method_type == kind);
            if method.method_type == MethodType::PhoneMobile && has(MethodType::PhoneAlternateMobile) {
                return Ok(Reply::Refused(Refusal::Dependency));
            }
            let others = state.methods.iter().filter(|other| {
                !matches!(other.method_type, MethodType::Password | MethodType::Fido2) && other.id != method.id
            });
            if state.default_method.as_ref() == Some(&method.id) && others.count() > 0 {
                return Ok(Reply::Refused(Refusal::Default));
            }
            let gone = state.methods.remove(place);
            state.journal.push(format!("removed {} {:?}", gone.id, gone.digest));
            state.removed.push(gone);
            Ok(Reply::Done)
        });
        let result = result.await;
        self.with(|state| state.removing = false);
        result
    }

    async fn change(&self, _: &str, change: Change<'_>, _: Uuid) -> Result<Reply, Fault> {
        let unknown = Fault::Unknown { reason: Reason::GraphUnavailable };
        self.effect("change", unknown, |state| {
            state.set.push(format!("{change:?}"));
            match change {
                Change::Default(preference) => {
                    let bearer = state.methods.iter().find(|method| preference.may_be(method.method_type));
                    let Some(bearer) = bearer else { return Ok(Reply::Refused(Refusal::Other)) };
                    state.default_method = Some(bearer.id.clone());
                }
                Change::Value { method_type, value, replaces } => {
                    let there = state.methods.iter().position(|method| method.method_type == method_type);
                    match there {
                        Some(_) if !replaces => return Ok(Reply::Refused(Refusal::Other)),
                        None if replaces => return Ok(Reply::NotFound),
                        Some(place) => state.methods[place].digest = Some(value.expose().to_owned()),
                        None => state.methods.push(method(method_type, method_type.name(), Some(value.expose()))),
                    }
                }
                Change::SmsSignIn(_) | Change::PerUserMfa(_) => {}
            }
            Ok(Reply::Done)
        })
        .await
    }

    async fn revoke_sessions(&self, _: &str, _: Uuid) -> Result<(), Fault> {
        let unknown = Fault::Unknown { reason: Reason::GraphUnavailable };
        self.effect("revoke_sessions", unknown, |state| {
            state.revoked += 1;
            state.journal.push("revoked".into());
            Ok(())
        })
        .await
    }

    async fn pause(&self, time: Duration) -> Result<(), Fault> {
        self.effect("pause", LOST, |state| {
            state.now += SignedDuration::try_from(time).unwrap().as_secs();
            Ok(())
        })
        .await
    }

    async fn record_outcome(&self, lease: &Lease, conclusion: &Conclusion) -> Result<(), Fault> {
        self.effect("record_outcome", LOST, |state| {
            // A repeat finds the job concluded, as the real ledger does.
            let done = state.rows.values().any(|row| row.lease.job == lease.job && row.concluded.is_some());
            if done {
                return Ok(());
            }
            let row = fenced(state, lease)?;
            cross_off(row, &conclusion.changes);
            row.concluded = Some(conclusion.event.clone());
            row.leased = false;
            state.held.retain(|_, holder| *holder != lease.job);
            state.audit.push(conclusion.audit.clone());
            state.journal.push("recorded".into());
            Ok(())
        })
        .await
    }

    async fn publish(&self, event: &Event) -> Result<(), Fault> {
        self.effect("publish", LOST, |state| {
            state.published.push(event.clone());
            state.journal.push(format!("published {}", event.event_type));
            Ok(())
        })
        .await
    }

    async fn mark_published(&self, _: &Event) -> Result<(), Fault> {
        self.effect("mark_published", LOST, |_| Ok(())).await
    }

    async fn publish_copy(&self, _: &Job, _: &Lease, deferral: u32, _: Duration) -> Result<(), Fault> {
        self.effect("publish_copy", LOST, |state| {
            state.copies.push(deferral);
            Ok(())
        })
        .await
    }

    async fn record_deferral(&self, lease: &Lease, deferral: &Deferral) -> Result<(), Fault> {
        self.effect("record_deferral", LOST, |state| {
            let Some(row) = state.rows.values_mut().find(|row| row.lease.job == lease.job) else { return Ok(()) };
            row.lease.deferrals = row.lease.deferrals.max(deferral.number);
            row.lease.told |= deferral.told;
            if row.lease.fence == lease.fence && row.leased {
                cross_off(row, &deferral.changes);
                row.lease.attempts += u32::from(deferral.spends);
                row.leased = false;
                if row.plan.is_none() {
                    state.held.retain(|_, holder| *holder != lease.job);
                }
            }
            Ok(())
        })
        .await
    }

    async fn record_refusal(&self, audit: Value) -> Result<(), Fault> {
        self.effect("record_refusal", LOST, |state| {
            state.audit.push(audit.clone());
            Ok(())
        })
        .await
    }
}

/// Whether any step of the recorded plan was written down as sent and never settled.
pub fn in_doubt(row: &Row) -> bool {
    let sent = |step: &Step| matches!(step.state, StepState::Sent { .. });
    row.plan.as_ref().is_some_and(|plan| plan.steps.iter().any(sent))
}
