//! Which steps, in what order; written down once and crossed off.
//!
//! A later attempt finishes the recorded plan and never makes a new one: phone ids are the same for everybody, so
//! listing again and deleting what is there would remove what the user has just registered.

mod default;
mod making;
mod reading;
mod step;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::method::{Api, MethodType, PASSWORDLESS};
use super::outcome::{MethodReport, MethodResult};
use super::reason::Reason;
pub use step::{Action, Next, Reach, Refusal, Setting, State, Step};

/// The waits before a pass over what Graph refused is tried again although nothing else went, in seconds.
const RETRIES: [u64; 2] = [1, 4];

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
    /// Why what is left alone leaves the reset incomplete, if it does.
    #[serde(default, rename = "incomplete_because")]
    pub incomplete: Option<Reason>,
    /// Whether the request asks for removals at all.
    #[serde(default)]
    pub removes: bool,
    /// Steps changed since they were last written down.
    #[serde(skip)]
    changed: BTreeSet<usize>,
    /// When the list was asked for that the plan was last compared with.
    #[serde(skip)]
    listed_at: Timestamp,
    /// Whether this pass over the steps got anywhere.
    #[serde(skip)]
    progressed: bool,
    /// Whether this attempt changed anything, and how often it waited for Graph to know of it.
    #[serde(skip)]
    moved: bool,
    #[serde(skip)]
    waited: usize,
}

impl Plan {
    /// What comes next: the first open step. A removal that was put off comes again after the other removals and before
    /// anything else, as long as a pass gets anywhere, and a little longer; then it is settled as blocked.
    pub fn next_step(&mut self) -> Next {
        loop {
            self.follow_mobile();
            let open = self.steps.iter().position(|step| step.is_open() && step.put_off.is_none());
            let waiting = self.steps[..open.unwrap_or(self.steps.len())].iter().any(|step| step.put_off.is_some());
            let barrier = open.is_none_or(|open| !self.steps[open].action.is_removing());
            if !(waiting && barrier) {
                return open.map_or(Next::Nothing, Next::Call);
            }
            if let Some(wait) = self.end_pass() {
                return Next::Wait(wait);
            }
        }
    }

    /// Signing in by SMS belongs to the number that was asked for: where that is not set, neither is this.
    fn follow_mobile(&mut self) {
        let unset = |step: &Step| match (&step.action, &step.state) {
            (Action::SetValue(set), State::Done { result, .. }) => {
                set.method_type == MethodType::PhoneMobile && !result.is_set()
            }
            _ => false,
        };
        if !self.steps.iter().any(unset) {
            return;
        }
        for index in 0..self.steps.len() {
            if self.steps[index].is_open() && matches!(self.steps[index].action, Action::SetSmsSignIn { .. }) {
                self.settle(index, MethodResult::Failed, Some(Reason::NotApplied));
            }
        }
    }

    /// Begins another pass with what was put off, or settles it where the last pass got nowhere.
    fn end_pass(&mut self) -> Option<Duration> {
        let wait = RETRIES.get(self.waited).filter(|_| self.moved && !self.progressed);
        self.waited += usize::from(wait.is_some());
        for index in 0..self.steps.len() {
            let Some(refusal) = self.steps[index].put_off else { continue };
            if self.progressed || wait.is_some() {
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
        wait.copied().map(Duration::from_secs)
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

    /// Notes a 404. What was to take the place of something is to be added then.
    pub fn not_found(&mut self, index: usize) {
        match &mut self.steps[index].action {
            Action::Remove(_) => self.steps[index].state = State::NotFound,
            Action::SetValue(setting) if setting.replaces => {
                setting.replaces = false;
                self.steps[index].state = State::Open;
            }
            // A new phone may not be known everywhere yet.
            Action::SetSmsSignIn { .. } => return self.put_off(index, Refusal::Other),
            Action::SetValue(_) | Action::RevokeSessions | Action::SetDefault(_) | Action::SetPerUserMfa(_) => {
                return self.settle(index, MethodResult::Failed, Some(Reason::GraphRefused));
            }
        }
        self.changed.insert(index);
        self.progressed = true;
    }

    /// Crosses a step off.
    pub fn settle(&mut self, index: usize, result: MethodResult, reason: Option<Reason>) {
        self.steps[index].state = State::Done { result, reason };
        self.steps[index].put_off = None;
        self.changed.insert(index);
        self.progressed |= result.is_gone() || result.is_set();
        self.moved |= matches!(result, MethodResult::Removed | MethodResult::Done);
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

    /// Which methods a list has to tell of: those of steps that it has to settle or to prove.
    pub fn reach(&self) -> Reach {
        let mut reach = Reach::default();
        for step in self.steps.iter().filter(|step| step.needs_list()) {
            let Some(kind) = step.action.method_type() else { continue };
            let passwordless = matches!(&step.action, Action::Remove(method) if method.passwordless);
            let collection = if passwordless { Some(PASSWORDLESS) } else { kind.entry().collection };
            reach.types.insert(kind);
            reach.beta |= collection.is_some_and(|collection| collection.api == Api::Beta);
            reach.passwordless |= passwordless;
        }
        reach
    }

    /// Whether any call may have changed something.
    pub fn has_begun(&self) -> bool {
        self.steps.iter().any(Step::has_begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::guard::Facts;
    use crate::domain::method::Method;
    use crate::domain::preference::Preference;
    use crate::domain::profile::{AUTHENTICATOR_AAGUIDS, BUILT_IN, Profiles};
    use crate::domain::request::{Envelope, Lane, Request};

    fn method(method_type: MethodType) -> Method {
        let digest = method_type.entry().shared_id.then(|| "value".to_owned());
        Method { digest, ..Method::new(method_type, method_type.name()) }
    }

    /// One method of every type, and a passkey in Microsoft Authenticator.
    fn everything() -> Vec<Method> {
        let types = crate::domain::method::TABLE.iter().map(|entry| method(entry.method_type));
        let passkey =
            Method { id: "passkey".into(), aaguid: Some(AUTHENTICATOR_AAGUIDS[0].into()), ..method(MethodType::Fido2) };
        types.chain([passkey]).collect()
    }

    /// A request for a profile, or for steps.
    fn request(profile: Option<&str>, steps: &serde_json::Value, keep: &[MethodType]) -> Request {
        let body = serde_json::json!({
            "id": "1", "ticket": {"system": "jira", "number": "A-1"}, "target": {"upn": "ada@contoso.test"},
            "profile": profile, "steps": steps, "keep": keep, "requested_by": "sam",
        });
        Request::parse(body.to_string().as_bytes(), &Envelope::bare(Lane::Tickets), &Profiles::default()).unwrap()
    }

    fn make(profile: &str, keep: &[MethodType], listed: &[Method]) -> Plan {
        let request = request(Some(profile), &serde_json::Value::Null, keep);
        Plan::make("user", &request, &Facts::of(listed), &|_, value| Some(value.to_owned()))
    }

    fn steps(plan: &Plan) -> Vec<&str> {
        let name = |step: &Step| match &step.action {
            Action::RevokeSessions => "sessions",
            Action::SetDefault(preference) => preference.name(),
            Action::SetValue(setting) if setting.replaces => "replace",
            Action::SetValue(_) => "add",
            Action::SetSmsSignIn { .. } => "sms sign-in",
            Action::SetPerUserMfa(_) => "per-user mfa",
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
            "hardware_oath",
            "external",
            "qr_code_pin",
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
        let re_register = [
            "hardware_oath",
            "phone_office",
            "phone_alternate_mobile",
            "software_oath",
            "microsoft_authenticator",
            "phone_mobile",
        ];
        let lost = ["phone_alternate_mobile", "passkey", "software_oath", "microsoft_authenticator", "phone_mobile"];
        let check = |profile, before: &[&str], removals: &[&str]| {
            let plan = make(profile, &[], &everything());
            assert_eq!(steps(&plan), [before, removals, &["sessions"]].concat(), "{profile}");
        };
        check("authenticator", &[], &["microsoft_authenticator"]);
        check("re-register", &[], &re_register);
        check("lost-phone", &["sessions"], &lost);
        check("all", &[], &all);
        check("compromised", &["sessions"], &all);
    }

    #[test]
    fn what_is_left_alone_is_named_and_only_a_full_profile_is_incomplete_for_it() {
        let plan = make("all", &[MethodType::Fido2], &everything());
        let left: Vec<_> =
            plan.left_alone.iter().map(|report| (report.id.as_deref().unwrap(), report.result.unwrap())).collect();
        let unsupported = MethodResult::Unsupported;
        let expected = [("fido2", MethodResult::Kept), ("unknown", unsupported), ("passkey", MethodResult::Kept)];
        assert_eq!(left, expected);
        assert_eq!(plan.incomplete, Some(Reason::UnsupportedMethod));
        assert_eq!(make("lost-phone", &[], &everything()).incomplete, None);
        let kept = [MethodType::Unknown];
        assert_eq!(make("all", &kept, &everything()).incomplete, None, "what is to be kept is not missing");
    }

    #[test]
    fn one_revocation_is_enough_where_nothing_is_removed() {
        for (profile, _) in BUILT_IN {
            assert_eq!(steps(&make(profile, &[], &[method(MethodType::Password)])), ["sessions"]);
        }
    }

    #[test]
    fn a_refused_removal_comes_again_after_the_others_until_a_pass_gets_nowhere() {
        let listed = [method(MethodType::MicrosoftAuthenticator), method(MethodType::PhoneMobile)];
        let mut plan = make("re-register", &[], &listed);
        assert_eq!(plan.next_step(), Next::Call(0));
        plan.put_off(0, Refusal::Default);
        assert_eq!(plan.next_step(), Next::Call(1));
        plan.put_off(1, Refusal::Other);
        // The pass got nowhere: both are settled, each with its own reason, and the revocation still comes.
        assert_eq!(plan.next_step(), Next::Call(2));
        let result = |plan: &Plan, index: usize| plan.steps[index].state.clone();
        let blocked = State::Done { result: MethodResult::BlockedDefault, reason: None };
        assert_eq!(result(&plan, 0), blocked);
        let refused = State::Done { result: MethodResult::Failed, reason: Some(Reason::GraphRefused) };
        assert_eq!(result(&plan, 1), refused);

        let mut plan = make("re-register", &[], &listed);
        plan.put_off(0, Refusal::Default);
        plan.settle(1, MethodResult::Removed, None);
        assert_eq!(plan.next_step(), Next::Call(0), "the other one went, so the default is tried again");
    }

    fn reconciled(state: State, listed: &[Method], method_type: MethodType, seconds: i64) -> State {
        let mut plan = make("all", &[], &[method(method_type)]);
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
        check(State::Open, &[hidden], phone, 9, done(MethodResult::Ambiguous));
        check(State::Open, &[method(phone)], phone, 9999, State::Open);
        check(sent(), &[method(phone)], phone, 59, State::Open);
        check(sent(), &[method(phone)], phone, 61, done(MethodResult::Ambiguous));
        check(sent(), &[method(key)], key, 9999, State::Open);
    }

    #[test]
    fn a_doubt_is_remembered_past_the_next_list() {
        let phone = || method(MethodType::PhoneMobile);
        let mut plan = make("all", &[], &[phone()]);
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

    fn arranged(profile: &str, keep: &[MethodType], preference: Preference, types: &[MethodType]) -> Vec<String> {
        let listed: Vec<Method> = types.iter().map(|kind| method(*kind)).collect();
        let facts = Facts { preference: Some(preference), ..Facts::of(&listed) };
        let request = request(Some(profile), &serde_json::Value::Null, keep);
        let plan = Plan::make("user", &request, &facts, &|_, value| Some(value.to_owned()));
        let mut steps: Vec<String> = steps(&plan).into_iter().map(str::to_owned).collect();
        steps.retain(|step| step != "sessions");
        steps
    }

    #[test]
    fn the_default_goes_last_or_another_takes_its_place() {
        use MethodType::{
            Fido2, MicrosoftAuthenticator as App, PhoneAlternateMobile as Alternate, PhoneMobile as Mobile,
        };
        use MethodType::{PhoneOffice as Office, SoftwareOath as Token};
        let check = |profile, preference, types: &[MethodType], expected: &[&str]| {
            assert_eq!(arranged(profile, &[], preference, types), expected, "{profile} {preference:?} {types:?}");
        };
        let (app, alternate, mobile) = ("microsoft_authenticator", "phone_alternate_mobile", "phone_mobile");
        check("re-register", Preference::Push, &[App, Mobile, Alternate], &[alternate, mobile, app]);
        check("re-register", Preference::Sms, &[App, Mobile, Alternate], &[alternate, app, mobile]);
        check("re-register", Preference::Oath, &[Token, Mobile], &[mobile, "software_oath"]);
        // Something stays that can be the default.
        check("authenticator", Preference::Push, &[App, Mobile], &["sms", app]);
        check("lost-phone", Preference::Push, &[App, Office], &["voiceOffice", app]);
        check("authenticator", Preference::Oath, &[App, Token, Mobile], &["sms", app]);
        // A token that goes would be the default by the code of the one that stays.
        let tokens = [Token, MethodType::HardwareOath, App, Office];
        check("lost-phone", Preference::Push, &tokens, &["voiceOffice", "software_oath", app]);
        // What stays bears it, or nothing can.
        check("authenticator", Preference::Sms, &[App, Mobile], &[app]);
        check("authenticator", Preference::Push, &[App, Fido2], &[app]);
        // The alternate phone is the default: neither phone could go.
        check(
            "re-register",
            Preference::VoiceAlternateMobile,
            &[Alternate, Mobile, App],
            &["sms", alternate, app, mobile],
        );
        assert_eq!(arranged("re-register", &[App], Preference::Sms, &[App, Mobile]), ["push", mobile]);
    }

    #[test]
    fn phones_are_set_as_listed_in_an_order_that_graph_accepts() {
        let request = request(
            None,
            &serde_json::json!([
                {"set_phones": {"mobile": "+1 5550100", "alternate_mobile": "+1 5550101", "sms_sign_in": true}},
                {"set_email": {"address": "a@b.test"}}, {"set_per_user_mfa": {"state": "enforced"}},
            ]),
            &[],
        );
        let plan =
            |listed: &[Method]| Plan::make("user", &request, &Facts::of(listed), &|_, value| Some(value.to_owned()));
        let with = |kind, value: &str| Method { digest: Some(value.to_owned()), ..method(kind) };
        let fresh = plan(&[]);
        assert_eq!(steps(&fresh), ["add", "add", "sms sign-in", "add", "per-user mfa"]);
        let listed = [
            with(MethodType::PhoneOffice, "+1 5550102"),
            with(MethodType::PhoneMobile, "+1 5550100"),
            with(MethodType::PhoneAlternateMobile, "+1 5550199"),
            with(MethodType::Email, "a@b.test"),
        ];
        let changed = plan(&listed);
        assert_eq!(steps(&changed), ["phone_office", "replace", "replace", "sms sign-in", "replace", "per-user mfa"]);
        let unchanged = State::Done { result: MethodResult::Unchanged, reason: None };
        assert_eq!([1, 4].map(|index| changed.steps[index].state.clone()), [unchanged.clone(), unchanged]);
        let recorded = serde_json::to_string(&fresh).unwrap();
        assert!(recorded.contains("5550100"), "the pretended digest is the value itself");
    }

    #[test]
    fn a_value_is_settled_by_what_a_list_shows() {
        let request = request(None, &serde_json::json!([{"set_email": {"address": "new@b.test"}}]), &[]);
        let with = |value: &str| Method { digest: Some(value.to_owned()), ..method(MethodType::Email) };
        let plan = || Plan::make("user", &request, &Facts::of(&[with("old")]), &|_, value| Some(value.to_owned()));
        let check = |sent: bool, listed: &[Method], expected: State| {
            let mut plan = plan();
            if sent {
                plan.send(0, Timestamp::UNIX_EPOCH, Uuid::nil());
            }
            plan.reconcile(listed, Timestamp::UNIX_EPOCH);
            assert_eq!(plan.steps[0].state, expected, "{sent} {listed:?}");
        };
        let done = |result| State::Done { result, reason: None };
        check(true, &[with("new@b.test")], done(MethodResult::Done));
        check(false, &[with("new@b.test")], done(MethodResult::Unchanged));
        check(true, &[with("old")], State::Open);
        check(false, &[], State::Open);
        check(false, &[with("another")], done(MethodResult::ReplacedSince));
        let mut unproved = plan();
        unproved.settle(0, MethodResult::Done, None);
        let residue = unproved.residue(&[with("old")]);
        unproved.verified(&residue, &[with("old")]);
        assert_eq!(
            unproved.steps[0].state,
            State::Done { result: MethodResult::Failed, reason: Some(Reason::NotApplied) }
        );
        let mut refused = plan();
        refused.settle(0, MethodResult::Failed, Some(Reason::GraphRefused));
        refused.verified(&[], &[with("new@b.test")]);
        assert_eq!(refused.steps[0].state, done(MethodResult::Done), "it is there, whatever Graph answered");
    }

    #[test]
    fn a_switch_sent_long_ago_is_not_turned_again_and_a_default_is_spared_once_nothing_goes() {
        let asked = serde_json::json!([{"set_per_user_mfa": {"state": "enforced"}}]);
        let request = request(None, &asked, &[]);
        let check = |seconds, expected| {
            let mut plan = Plan::make("user", &request, &Facts::of(&[]), &|_, _| None);
            plan.send(0, Timestamp::UNIX_EPOCH, Uuid::nil());
            plan.reconcile(&[], Timestamp::from_second(seconds).unwrap());
            assert_eq!(plan.steps[0].state, expected);
        };
        check(9, State::Open);
        check(3600, State::Done { result: MethodResult::Ambiguous, reason: None });

        let listed = [method(MethodType::MicrosoftAuthenticator), method(MethodType::PhoneMobile)];
        let facts = Facts { preference: Some(Preference::Push), ..Facts::of(&listed) };
        let request = super::tests::request(Some("authenticator"), &serde_json::Value::Null, &[]);
        let mut plan = Plan::make("user", &request, &facts, &|_, _| None);
        plan.reconcile(&listed, Timestamp::UNIX_EPOCH);
        assert_eq!(plan.steps[0].state, State::Open);
        plan.reconcile(&listed[1..], Timestamp::UNIX_EPOCH);
        assert_eq!(plan.steps[0].state, State::Done { result: MethodResult::Unchanged, reason: None });
    }

    #[test]
    fn signing_in_by_sms_belongs_to_the_number_that_was_asked_for() {
        let asked = serde_json::json!([{"set_phones": {"mobile": "+1 5550100", "sms_sign_in": true}}]);
        let request = request(None, &asked, &[]);
        let plan = || Plan::make("user", &request, &Facts::of(&[]), &|_, value| Some(value.to_owned()));
        let mut refused = plan();
        refused.settle(0, MethodResult::Failed, Some(Reason::GraphRefused));
        assert_eq!(refused.next_step(), Next::Nothing);
        assert_eq!(
            refused.steps[1].state,
            State::Done { result: MethodResult::Failed, reason: Some(Reason::NotApplied) }
        );

        let other = Method { digest: Some("+1 5550199".into()), ..method(MethodType::PhoneMobile) };
        let mut replaced = plan();
        replaced.settle(0, MethodResult::Done, None);
        replaced.reconcile(&[other], Timestamp::UNIX_EPOCH);
        assert_eq!(replaced.steps[1].state, State::Done { result: MethodResult::ReplacedSince, reason: None });

        let mut early = plan();
        early.settle(0, MethodResult::Done, None);
        let mut calls = 0;
        loop {
            match early.next_step() {
                Next::Nothing => break,
                Next::Wait(_) => {}
                Next::Call(index) => {
                    calls += 1;
                    early.not_found(index);
                }
            }
            assert!(calls < 9, "it comes again, and not for ever");
        }
        assert!(calls > 1);
    }

    #[test]
    fn what_was_registered_after_a_moment_goes_and_what_has_no_time_is_kept_and_named() {
        let steps_asked =
            serde_json::json!([{"remove_methods": {"all": true, "registered_after": "2026-11-20T00:00:00Z"}}]);
        let at = |kind, time: &str| Method { registered_at: Some(time.parse().unwrap()), ..method(kind) };
        let listed = [
            at(MethodType::Fido2, "2026-11-21T00:00:00Z"),
            at(MethodType::WindowsHello, "2026-11-19T00:00:00Z"),
            method(MethodType::PhoneMobile),
        ];
        let request = request(None, &steps_asked, &[]);
        let plan = Plan::make("user", &request, &Facts::of(&listed), &|_, value| Some(value.to_owned()));
        assert_eq!(steps(&plan), ["fido2"]);
        let left: Vec<_> = plan.left_alone.iter().map(|report| (report.method_type, report.reason_code)).collect();
        let unknown = (MethodType::PhoneMobile, Some(Reason::NoRegistrationTime));
        assert_eq!(left, [(MethodType::WindowsHello, None), unknown]);
        assert_eq!(plan.incomplete, Some(Reason::NoRegistrationTime));
    }

    #[test]
    fn a_type_that_could_not_be_listed_is_named_where_it_matters() {
        use crate::domain::outcome::Unread;
        let plan = |profile| {
            let unread = vec![(MethodType::Fido2, Unread::Missing), (MethodType::PhoneMobile, Unread::Forbidden)];
            let facts = Facts { unread, ..Facts::of(&[]) };
            let request = request(Some(profile), &serde_json::Value::Null, &[]);
            Plan::make("user", &request, &facts, &|_, _| None)
        };
        let named = |plan: &Plan| plan.left_alone.iter().map(|report| report.result.unwrap()).collect::<Vec<_>>();
        let (app, re_register, all) = (plan("authenticator"), plan("re-register"), plan("all"));
        assert_eq!((named(&app), app.incomplete), (vec![], None));
        assert_eq!(
            (named(&re_register), re_register.incomplete),
            (vec![MethodResult::Forbidden], Some(Reason::Forbidden))
        );
        assert_eq!(named(&all), [MethodResult::Unsupported, MethodResult::Forbidden]);
        assert!(all.incomplete.is_some());
    }
}
