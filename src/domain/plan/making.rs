//! From what is asked and what a survey found to a plan.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::default::arrange;
use super::{Action, Plan, Setting, Step};
use crate::domain::guard::Facts;
use crate::domain::method::{Api, Collection, Method, MethodType, TABLE};
use crate::domain::outcome::{MethodReport, MethodResult, Unread};
use crate::domain::profile::BUILT_IN;
use crate::domain::reason::Reason;
use crate::domain::request::Request;
use crate::domain::task::{Phones, Removes, Task};

/// The keyed digest of a phone number or address, as methods carry it.
pub type Digest<'a> = &'a dyn Fn(MethodType, &str) -> Option<String>;

impl Plan {
    /// Makes the plan. All removals come together, where the first step stands that removes anything.
    pub fn make(user: &str, request: &Request, facts: &Facts, digest: Digest<'_>) -> Self {
        let tasks = &request.tasks;
        let mut plan = Self::empty(user, request, facts);
        let (mut removals, mut kept) = (Vec::new(), Vec::new());
        for method in facts.methods.iter().filter(|method| method.method_type != MethodType::Password) {
            match plan.sort(method, request, facts.beta, digest) {
                true => removals.push(method.clone()),
                false => kept.push(method),
            }
        }
        plan.name_unread(request, facts);
        let successor = arrange(&mut removals, &kept, facts.preference).map(Action::SetDefault);
        let removed: BTreeSet<MethodType> = removals.iter().map(|method| method.method_type).collect();
        let mut removing: Vec<Action> = successor.into_iter().chain(removals.into_iter().map(Action::Remove)).collect();
        for task in tasks {
            if matches!(task, Task::RemoveMethods(_) | Task::SetPhones(_)) {
                plan.steps.extend(removing.drain(..).map(Step::open));
            }
            plan.add(task, request, facts, &removed, digest);
        }
        plan
    }

    /// The plan before anything is in it.
    fn empty(user: &str, request: &Request, facts: &Facts) -> Self {
        Self {
            user: user.to_owned(),
            steps: Vec::new(),
            left_alone: Vec::new(),
            surveyed_at: facts.read_at,
            incomplete: None,
            removes: request.tasks.iter().any(|task| matches!(task, Task::RemoveMethods(_))),
            changed: BTreeSet::new(),
            listed_at: Timestamp::default(),
            progressed: false,
            moved: false,
            waited: 0,
        }
    }

    /// Names what could not be listed, or lies in a part of Graph that may not be called.
    fn name_unread(&mut self, request: &Request, facts: &Facts) {
        facts.unread.iter().for_each(|(kind, why)| self.leave_unread(*kind, *why, request));
        let hidden = |place: Collection| place.api == Api::Beta && !facts.beta;
        let named = |kind: MethodType| request.profile.is_none() && request.tasks.iter().any(|task| task.names(kind));
        for entry in TABLE.iter().filter(|entry| entry.collection.is_some_and(hidden) && named(entry.method_type)) {
            self.leave_unread(entry.method_type, Unread::Missing, request);
        }
    }

    /// What a step does beside removals.
    fn add(
        &mut self,
        task: &Task,
        request: &Request,
        facts: &Facts,
        removed: &BTreeSet<MethodType>,
        digest: Digest<'_>,
    ) {
        match task {
            // Nothing is done in between: one revocation is enough.
            Task::RevokeSessions if self.steps.last().is_some_and(|last| last.action == Action::RevokeSessions) => {}
            Task::RevokeSessions => self.steps.push(Step::open(Action::RevokeSessions)),
            Task::SetPhones(phones) => {
                self.set_values(task, request, facts, removed, digest);
                self.set_sms_sign_in(phones, facts, digest);
            }
            Task::SetEmail(_) => self.set_values(task, request, facts, removed, digest),
            Task::SetPerUserMfa(state) => self.steps.push(Step::open(Action::SetPerUserMfa(*state))),
            Task::RemoveMethods(_) | Task::ListMethods => {}
        }
    }

    /// Whether a method is to be removed; what is left alone is named, and why.
    fn sort(&mut self, method: &Method, request: &Request, beta: bool, digest: Digest<'_>) -> bool {
        let kind = method.method_type;
        let stays = |task: &Task| {
            let wanted = task.value(kind).and_then(|value| digest(kind, value.expose()));
            wanted.is_some() && wanted == method.digest
        };
        let kept = request.keep.contains(&kind) || request.tasks.iter().any(stays);
        let said: Vec<Removes> = request.tasks.iter().map(|task| task.removes(method)).collect();
        let (chosen, removable) = (said.contains(&Removes::Yes) && !kept, method.is_removable(beta));
        if chosen && removable {
            return true;
        }
        let (result, reason_code) = if !removable && !kept {
            (MethodResult::Unsupported, Some(Reason::UnsupportedMethod))
        } else if said.contains(&Removes::CannotTell) && !kept {
            (MethodResult::Kept, Some(Reason::NoRegistrationTime))
        } else {
            // It may live on the lost phone too: only a person can tell.
            (MethodResult::Kept, method.synced.then_some(Reason::SyncedPasskey))
        };
        if chosen {
            self.incomplete = Some(Reason::UnsupportedMethod);
        } else if reason_code == Some(Reason::NoRegistrationTime) {
            self.incomplete = reason_code;
        }
        self.left_alone.push(MethodReport {
            method_type: kind,
            id: Some(method.id.clone()),
            result: Some(result),
            reason_code,
            registered_at: method.registered_at,
        });
        false
    }

    /// Names a type that the request is about and that could not be listed.
    fn leave_unread(&mut self, kind: MethodType, why: Unread, request: &Request) {
        let tasks = &request.tasks;
        let about = |task: &&Task| task.is_about(kind);
        let listing = tasks.contains(&Task::ListMethods);
        if !listing && !tasks.iter().any(|task| about(&task)) {
            return;
        }
        let (result, reason) = (why.result(), why.reason());
        // A built-in profile removes what there can be in this cloud; who names a type wants to know.
        let built_in = BUILT_IN.iter().any(|(name, _)| request.profile.as_deref() == Some(*name));
        let matters = |task: &Task| why == Unread::Forbidden || !built_in || task.wants_everything();
        if tasks.iter().filter(about).any(matters) {
            self.incomplete = Some(reason);
        }
        let unknown = MethodReport {
            method_type: kind,
            id: None,
            result: Some(result),
            reason_code: Some(reason),
            registered_at: None,
        };
        self.left_alone.push(unknown);
    }

    /// The phones or the address that a step sets.
    fn set_values(
        &mut self,
        task: &Task,
        request: &Request,
        facts: &Facts,
        removed: &BTreeSet<MethodType>,
        digest: Digest<'_>,
    ) {
        for kind in Phones::TYPES.into_iter().chain([MethodType::Email]) {
            let Some(value) = task.value(kind).filter(|_| !request.keep.contains(&kind)) else { continue };
            let digest = digest(kind, value.expose());
            let there = facts.methods.iter().find(|method| method.method_type == kind);
            let before = there.and_then(|method| method.digest.clone());
            let (same, replaces) = (before.is_some() && before == digest, there.is_some() && !removed.contains(&kind));
            let action = Action::SetValue(Setting { method_type: kind, digest, before, replaces });
            let unread = facts.unread.iter().find(|(unread, _)| *unread == kind);
            self.steps.push(match unread {
                // What cannot be listed cannot be proved either.
                Some((_, why)) => Step::settled(action, why.result()),
                None if same => Step::settled(action, MethodResult::Unchanged),
                None => Step::open(action),
            });
        }
    }

    /// Signing in by SMS belongs to the number, so a new one has to be told again.
    fn set_sms_sign_in(&mut self, phones: &Phones, facts: &Facts, digest: Digest<'_>) {
        let (Some(wanted), Some(number)) = (phones.sms_sign_in, &phones.mobile) else { return };
        let mobile = facts.methods.iter().find(|method| method.method_type == MethodType::PhoneMobile);
        let new = self.steps.iter().any(|step| {
            step.is_open()
                && matches!(&step.action, Action::SetValue(set) if set.method_type == MethodType::PhoneMobile)
        });
        let so = !new && mobile.is_some_and(|mobile| mobile.sms_sign_in == wanted);
        let digest = digest(MethodType::PhoneMobile, number.expose());
        let action = Action::SetSmsSignIn { on: wanted, digest };
        self.steps.push(if so { Step::settled(action, MethodResult::Unchanged) } else { Step::open(action) });
    }
}
