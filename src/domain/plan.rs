//! Which steps, in what order; written down once and crossed off.
//!
//! A later attempt finishes the recorded plan and never makes a new one: phone ids are the same for everybody, so
//! listing again and deleting what is there would remove what the user has just registered.

mod reading;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::method::{Method, MethodType};
use super::outcome::{MethodReport, MethodResult};
use super::profile::Profile;
use super::reason::Reason;

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Revokes the user's sessions.
    RevokeSessions,
    /// Removes a method.
    Remove(Method),
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not called, or called without an effect that is known.
    Open,
    /// Called, and the answer is not known (yet).
    Sent {
        /// When.
        at: Timestamp,
    },
    /// Graph answered 404: gone, once a list no longer shows it.
    NotFound,
    /// Settled.
    Done {
        /// What became of the method; for sessions `removed` or `failed`.
        result: MethodResult,
        /// Why, where the result does not say it.
        reason: Option<Reason>,
    },
}

/// Why Graph would not remove a method for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is the default method.
    Default,
    /// Another method depends on it.
    Dependency,
    /// Another 400.
    Other,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// How far it is.
    pub state: State,
    /// The `client-request-id` of each of its calls.
    pub calls: Vec<Uuid>,
    /// When an earlier call was sent that may have taken effect: then a 404 tells of our own removal, and after Graph's
    /// lag a method whose id is the same for everybody may be another one.
    pub doubted_since: Option<Timestamp>,
    /// Put off to the next pass, and why: not written down, since a later attempt may as well try again.
    #[serde(skip)]
    pub put_off: Option<Refusal>,
}

impl Step {
    const fn open(action: Action) -> Self {
        Self { action, state: State::Open, calls: Vec::new(), doubted_since: None, put_off: None }
    }

    const fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Sent { .. })
    }
}

/// The steps for one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The target's object id.
    pub user: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Methods that are left alone, and why.
    pub left_alone: Vec<MethodReport>,
    /// Graph's clock at the survey.
    pub surveyed_at: Timestamp,
    /// Whether what is left alone leaves the reset incomplete.
    pub incomplete: bool,
    /// Steps changed since they were last written down.
    #[serde(skip)]
    changed: BTreeSet<usize>,
    /// When the list was asked for that the plan was last compared with.
    #[serde(skip)]
    listed_at: Timestamp,
    /// Whether this pass over the steps got anywhere.
    #[serde(skip)]
    progressed: bool,
}

impl Plan {
    /// Makes the plan from what a survey listed.
    pub fn make(user: &str, profile: Profile, keep: &BTreeSet<MethodType>, listed: &[Method], at: Timestamp) -> Self {
        let mut left_alone = Vec::new();
        let mut removals: Vec<Method> = Vec::new();
        let mut incomplete = false;
        for method in listed.iter().filter(|method| method.method_type != MethodType::Password) {
            let kept = keep.contains(&method.method_type);
            if profile.removes(method) && !kept {
                removals.push(method.clone());
                continue;
            }
            let report = left_alone_report(method, kept);
            incomplete |= report.result == Some(MethodResult::Unsupported) && profile.wants_everything();
            left_alone.push(report);
        }
        removals.sort_by_key(|method| method.method_type.entry().order);
        let revoke = || Step::open(Action::RevokeSessions);
        let mut steps: Vec<Step> = profile.revokes_first().then(revoke).into_iter().collect();
        steps.extend(removals.into_iter().map(|method| Step::open(Action::Remove(method))));
        // Nothing removed in between: one revocation is enough.
        if steps.is_empty() || steps.iter().any(|step| matches!(step.action, Action::Remove(_))) {
            steps.push(revoke());
        }
        Self {
            user: user.to_owned(),
            steps,
            left_alone,
            surveyed_at: at,
            incomplete,
            changed: BTreeSet::new(),
            listed_at: Timestamp::default(),
            progressed: false,
        }
    }

    /// The next step to call: the first open one. A removal that was put off comes again after the other removals and
    /// before the next revocation, as long as a pass gets anywhere; then it is settled as blocked.
    pub fn next_step(&mut self) -> Option<usize> {
        loop {
            let open = self.steps.iter().position(|step| step.is_open() && step.put_off.is_none());
            let waiting = self.steps[..open.unwrap_or(self.steps.len())].iter().any(|step| step.put_off.is_some());
            let barrier = open.is_none_or(|open| self.steps[open].action == Action::RevokeSessions);
            if !(waiting && barrier) {
                return open;
            }
            self.end_pass();
        }
    }

    /// Begins another pass with what was put off, or settles it where the last pass got nowhere.
    fn end_pass(&mut self) {
        for index in 0..self.steps.len() {
            let Some(refusal) = self.steps[index].put_off else { continue };
            if self.progressed {
                self.steps[index].put_off = None;
                continue;
            }
            match refusal {
                Refusal::Default => self.settle(index, MethodResult::BlockedDefault, None),
                Refusal::Dependency => self.settle(index, MethodResult::BlockedDependency, None),
                Refusal::Other => self.settle(index, MethodResult::Failed, Some(Reason::GraphRefused)),
            }
        }
        self.progressed = false;
    }

    /// Marks a step as called; it is to be written down before the call.
    pub fn send(&mut self, index: usize, at: Timestamp, call: Uuid) -> Step {
        self.steps[index].state = State::Sent { at };
        self.steps[index].calls.push(call);
        self.steps[index].clone()
    }

    /// Takes the mark back.
    pub fn unsend(&mut self, index: usize) {
        self.steps[index].state = State::Open;
        self.changed.insert(index);
    }

    /// Defers a removal that Graph refused with a 400, which proves that no earlier call took effect.
    pub fn put_off(&mut self, index: usize, refusal: Refusal) {
        self.unsend(index);
        self.steps[index].doubted_since = None;
        self.steps[index].put_off = Some(refusal);
    }

    /// Notes a 404.
    pub fn not_found(&mut self, index: usize) {
        self.steps[index].state = State::NotFound;
        self.changed.insert(index);
        self.progressed = true;
    }

    /// Crosses a step off.
    pub fn settle(&mut self, index: usize, result: MethodResult, reason: Option<Reason>) {
        self.steps[index].state = State::Done { result, reason };
        self.steps[index].put_off = None;
        self.changed.insert(index);
        self.progressed |= result.is_gone();
    }

    /// The steps that changed since they were last written down.
    pub fn changes(&self) -> Vec<(usize, Step)> {
        self.changed.iter().map(|index| (*index, self.steps[*index].clone())).collect()
    }

    /// Notes that every change is written down.
    pub fn written(&mut self) {
        self.changed.clear();
    }

    /// Whether some call's answer is not known, so that a list has to be read before anything else.
    pub fn is_in_doubt(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.state, State::Sent { .. }))
    }

    /// Whether there is anything left to call.
    pub fn has_open_steps(&self) -> bool {
        self.steps.iter().any(Step::is_open)
    }

    /// Whether any call may have changed something.
    pub fn has_begun(&self) -> bool {
        self.steps.iter().any(|step| step.state != State::Open || step.doubted_since.is_some())
    }
}

fn left_alone_report(method: &Method, kept: bool) -> MethodReport {
    let supported = method.method_type.entry().collection.is_some();
    let (result, reason_code) = if !supported && !kept {
        (MethodResult::Unsupported, Some(Reason::UnsupportedMethod))
    } else {
        // It may live on the lost phone too: only a person can tell.
        (MethodResult::Kept, method.synced.then_some(Reason::SyncedPasskey))
    };
    MethodReport { method_type: method.method_type, id: method.id.clone(), result: Some(result), reason_code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::profile::AUTHENTICATOR_AAGUIDS;

    fn method(method_type: MethodType) -> Method {
        let digest = method_type.entry().shared_id.then(|| "value".to_owned());
        Method { id: method_type.name().into(), method_type, digest, aaguid: None, synced: false }
    }

    /// One method of every type, and a passkey in Microsoft Authenticator.
    fn everything() -> Vec<Method> {
        let types = crate::domain::method::TABLE.iter().map(|entry| method(entry.method_type));
        let passkey =
            Method { id: "passkey".into(), aaguid: Some(AUTHENTICATOR_AAGUIDS[0].into()), ..method(MethodType::Fido2) };
        types.chain([passkey]).collect()
    }

    fn make(profile: Profile, keep: &[MethodType], listed: &[Method]) -> Plan {
        Plan::make("user", profile, &keep.iter().copied().collect(), listed, Timestamp::UNIX_EPOCH)
    }

    fn steps(plan: &Plan) -> Vec<&str> {
        let name = |step: &Step| match &step.action {
            Action::RevokeSessions => "sessions",
            Action::Remove(method) => everything()
                .iter()
                .find(|known| known.id == method.id)
                .map_or("", |_| if method.id == "passkey" { "passkey" } else { method.method_type.name() }),
        };
        plan.steps.iter().map(name).collect()
    }

    #[test]
    fn each_profile_removes_what_it_names_in_an_order_that_graph_accepts() {
        let all = [
            "external",
            "phone_office",
            "phone_alternate_mobile",
            "fido2",
            "passkey",
            "windows_hello",
            "platform_credential",
            "software_oath",
            "microsoft_authenticator",
            "email",
            "phone_mobile",
            "temporary_access_pass",
        ];
        let re_register =
            ["phone_office", "phone_alternate_mobile", "software_oath", "microsoft_authenticator", "phone_mobile"];
        let lost = ["phone_alternate_mobile", "passkey", "software_oath", "microsoft_authenticator", "phone_mobile"];
        let check = |profile, before: &[&str], removals: &[&str]| {
            let plan = make(profile, &[], &everything());
            assert_eq!(steps(&plan), [before, removals, &["sessions"]].concat(), "{profile:?}");
        };
        check(Profile::Authenticator, &[], &["microsoft_authenticator"]);
        check(Profile::ReRegister, &[], &re_register);
        check(Profile::LostPhone, &["sessions"], &lost);
        check(Profile::All, &[], &all);
        check(Profile::Compromised, &["sessions"], &all);
    }

    #[test]
    fn what_is_left_alone_is_named_and_only_a_full_profile_is_incomplete_for_it() {
        let plan = make(Profile::All, &[MethodType::Fido2], &everything());
        let left: Vec<_> = plan.left_alone.iter().map(|report| (report.id.as_str(), report.result.unwrap())).collect();
        let unsupported = MethodResult::Unsupported;
        let expected = [
            ("fido2", MethodResult::Kept),
            ("hardware_oath", unsupported),
            ("qr_code_pin", unsupported),
            ("unknown", unsupported),
            ("passkey", MethodResult::Kept),
        ];
        assert_eq!(left, expected);
        assert!(plan.incomplete);
        assert!(!make(Profile::LostPhone, &[], &everything()).incomplete);
        let kept = [MethodType::HardwareOath, MethodType::QrCodePin, MethodType::Unknown];
        assert!(!make(Profile::All, &kept, &everything()).incomplete, "what is to be kept is not missing");
    }

    #[test]
    fn one_revocation_is_enough_where_nothing_is_removed() {
        for profile in Profile::ALL {
            assert_eq!(steps(&make(profile, &[], &[method(MethodType::Password)])), ["sessions"]);
        }
    }

    #[test]
    fn a_refused_removal_comes_again_after_the_others_until_a_pass_gets_nowhere() {
        let listed = [method(MethodType::MicrosoftAuthenticator), method(MethodType::PhoneMobile)];
        let mut plan = make(Profile::ReRegister, &[], &listed);
        assert_eq!(plan.next_step(), Some(0));
        plan.put_off(0, Refusal::Default);
        assert_eq!(plan.next_step(), Some(1));
        plan.put_off(1, Refusal::Other);
        // The pass got nowhere: both are settled, each with its own reason, and the revocation still comes.
        assert_eq!(plan.next_step(), Some(2));
        let result = |plan: &Plan, index: usize| plan.steps[index].state.clone();
        let blocked = State::Done { result: MethodResult::BlockedDefault, reason: None };
        assert_eq!(result(&plan, 0), blocked);
        let refused = State::Done { result: MethodResult::Failed, reason: Some(Reason::GraphRefused) };
        assert_eq!(result(&plan, 1), refused);

        let mut plan = make(Profile::ReRegister, &[], &listed);
        plan.put_off(0, Refusal::Default);
        plan.settle(1, MethodResult::Removed, None);
        assert_eq!(plan.next_step(), Some(0), "the other one went, so the default is tried again");
    }

    fn reconciled(state: State, listed: &[Method], method_type: MethodType, seconds: i64) -> State {
        let mut plan = make(Profile::All, &[], &[method(method_type)]);
        plan.steps[0].state = state;
        plan.reconcile(listed, Timestamp::from_second(seconds).unwrap());
        plan.steps[0].state.clone()
    }

    #[test]
    fn a_fresh_list_settles_what_it_can_and_never_guesses() {
        let (phone, key) = (MethodType::PhoneMobile, MethodType::Fido2);
        let sent = || State::Sent { at: Timestamp::UNIX_EPOCH };
        let done = |result| State::Done { result, reason: None };
        let other = Method { digest: Some("another".into()), ..method(phone) };
        let hidden = Method { digest: None, ..method(phone) };
        let check = |state, listed: &[Method], kind, seconds, expected| {
            assert_eq!(reconciled(state, listed, kind, seconds), expected, "{listed:?} {seconds}");
        };
        check(sent(), &[], phone, 9, done(MethodResult::Removed));
        check(State::Open, &[], phone, 9, done(MethodResult::AlreadyAbsent));
        check(sent(), std::slice::from_ref(&other), phone, 9, done(MethodResult::ReplacedSince));
        check(State::Open, &[other], phone, 9, done(MethodResult::ReplacedSince));
        check(State::Open, &[hidden], phone, 9, done(MethodResult::ReplacedSince));
        check(State::Open, &[method(phone)], phone, 9999, State::Open);
        check(sent(), &[method(phone)], phone, 59, State::Open);
        check(sent(), &[method(phone)], phone, 61, done(MethodResult::Ambiguous));
        check(sent(), &[method(key)], key, 9999, State::Open);
    }

    #[test]
    fn a_doubt_is_remembered_past_the_next_list() {
        let phone = || method(MethodType::PhoneMobile);
        let mut plan = make(Profile::All, &[], &[phone()]);
        plan.send(0, Timestamp::UNIX_EPOCH, Uuid::nil());
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        plan.reconcile(&[phone()], at(5));
        assert_eq!(plan.steps[0].state, State::Open, "it may be removed again at once");
        let mut refused = plan.clone();
        plan.reconcile(&[phone()], at(3600));
        assert_eq!(plan.steps[0].state, State::Done { result: MethodResult::Ambiguous, reason: None });
        refused.put_off(0, Refusal::Default);
        refused.reconcile(&[phone()], at(3600));
        assert_eq!(refused.steps[0].state, State::Open, "a 400 says that it is still the old one");
    }
}
