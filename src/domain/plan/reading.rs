//! What a list of the user's methods says about a plan: what is gone, replaced, left over, or not to be told.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Plan, Setting, State, Step};
use crate::domain::method::{Method, MethodType};
use crate::domain::outcome::{MethodResult, Unread};
use crate::domain::reason::Reason;

/// How long Graph may go on listing a method that it has deleted. Microsoft promises no figure.
const GRAPH_LAG: SignedDuration = SignedDuration::from_secs(60);

/// How old a list may be when a method goes whose id is the same for everybody.
const FRESH: SignedDuration = SignedDuration::from_secs(10);

impl Plan {
    /// Notes when the list was asked for that the plan is made of, or was compared with.
    pub fn listed(&mut self, at: Timestamp) {
        self.listed_at = at;
    }

    /// Whether a list has to be read before this step: the id proves nothing, and the value may be another by now.
    pub fn is_stale(&self, index: usize, now: Timestamp) -> bool {
        let shared = match &self.steps[index].action {
            Action::Remove(method) => method.method_type.entry().shared_id,
            Action::SetValue(_) | Action::SetSmsSignIn { .. } => true,
            Action::RevokeSessions | Action::SetDefault(_) | Action::SetPerUserMfa(_) => false,
        };
        shared && now.duration_since(self.listed_at) > FRESH
    }

    /// Settles open steps about what cannot be listed now: absence of evidence is no evidence.
    pub fn spare_unread(&mut self, unread: &[(MethodType, Unread)], beta: bool) {
        for index in 0..self.steps.len() {
            let step = &self.steps[index];
            let hidden = matches!(&step.action, Action::Remove(method) if !method.is_removable(beta));
            let kind = step.action.method_type();
            let named = unread.iter().find(|(known, _)| Some(*known) == kind).map(|(_, why)| *why);
            let why = if hidden { Some(Unread::Missing) } else { named };
            let Some(why) = why.filter(|_| step.is_open()) else { continue };
            match step.in_doubt_since() {
                Some(_) => self.settle(index, MethodResult::Ambiguous, None),
                None => self.settle(index, why.result(), Some(why.reason())),
            }
        }
    }

    /// Settles what a fresh list can settle among the open removals: gone, replaced, or not to be told apart.
    pub fn reconcile(&mut self, listed: &[Method], now: Timestamp) {
        self.listed_at = now;
        for index in 0..self.steps.len() {
            let step = &self.steps[index];
            let planned = match (&step.action, step.is_open()) {
                (_, false) => continue,
                (Action::Remove(planned), true) => planned,
                (Action::SetValue(setting), true) => {
                    self.reconcile_setting(index, &setting.clone(), listed, now);
                    continue;
                }
                // Doing it twice does no harm.
                (Action::RevokeSessions, true) => {
                    self.steps[index].state = State::Open;
                    continue;
                }
                (Action::SetDefault(_) | Action::SetSmsSignIn { .. } | Action::SetPerUserMfa(_), true) => {
                    self.reconcile_switch(index, now);
                    continue;
                }
            };
            let place = listed.iter().find(|method| planned.same_place(method));
            let shared = planned.method_type.entry().shared_id;
            let sent = step.in_doubt_since();
            match (place, &step.state) {
                (None, _) if sent.is_some() => self.settle(index, MethodResult::Removed, None),
                (None, _) => self.settle(index, MethodResult::AlreadyAbsent, None),
                // The id proves nothing and there is no value to compare.
                (Some(method), _) if shared && planned.may_be(method) && !planned.is_proved(method) => {
                    self.settle(index, MethodResult::Ambiguous, None);
                }
                (Some(method), _) if !planned.is(method) => self.settle(index, MethodResult::ReplacedSince, None),
                (Some(_), _) if shared && sent.is_some_and(|at| now.duration_since(at) > GRAPH_LAG) => {
                    self.settle(index, MethodResult::Ambiguous, None);
                }
                // Unique ids may always be removed again; a shared one while nobody can have registered it anew.
                (Some(_), State::Sent { .. }) => self.reopen(index),
                (Some(_), _) => {}
            }
        }
        self.spare_others(listed);
    }

    /// The default is changed only for the sake of a removal, and signing in by SMS only for the number that was asked for.
    fn spare_others(&mut self, listed: &[Method]) {
        let removing = self.steps.iter().any(|step| step.is_open() && matches!(step.action, Action::Remove(_)));
        let mobile = listed.iter().find(|method| method.method_type == MethodType::PhoneMobile);
        let coming =
            self.steps.iter().any(|step| step.is_open() && step.action.method_type() == Some(MethodType::PhoneMobile));
        for index in 0..self.steps.len() {
            let step = &self.steps[index];
            if !step.is_open() {
                continue;
            }
            let asked_for =
                |digest: &Option<String>| mobile.is_some_and(|mobile| digest.is_some() && mobile.digest == *digest);
            match &step.action {
                Action::SetDefault(_) if !removing => self.settle(index, MethodResult::Unchanged, None),
                Action::SetSmsSignIn { digest, .. } if !coming && !asked_for(digest) => {
                    self.settle(index, MethodResult::ReplacedSince, None);
                }
                Action::SetDefault(_)
                | Action::SetSmsSignIn { .. }
                | Action::RevokeSessions
                | Action::Remove(_)
                | Action::SetValue(_)
                | Action::SetPerUserMfa(_) => {}
            }
        }
    }

    /// A switch that was sent long ago may have been turned by somebody else since, and no list tells.
    fn reconcile_switch(&mut self, index: usize, now: Timestamp) {
        let sent = self.steps[index].in_doubt_since();
        if sent.is_some_and(|at| now.duration_since(at) > GRAPH_LAG) {
            return self.settle(index, MethodResult::Ambiguous, None);
        }
        self.reopen(index);
    }

    /// Opens a step whose answer is not known, and remembers the doubt past the next list.
    fn reopen(&mut self, index: usize) {
        let sent = self.steps[index].in_doubt_since();
        self.unsend(index);
        self.steps[index].doubted_since = sent;
    }

    /// A value that is set is done; one that is neither the new nor the old one was set by somebody else since.
    fn reconcile_setting(&mut self, index: usize, setting: &Setting, listed: &[Method], now: Timestamp) {
        let sent = self.steps[index].in_doubt_since();
        let there = listed.iter().find(|method| method.method_type == setting.method_type);
        match there {
            Some(method) if setting.is(method) && sent.is_some() => self.settle(index, MethodResult::Done, None),
            Some(method) if setting.is(method) => self.settle(index, MethodResult::Unchanged, None),
            Some(method) if method.digest != setting.before => self.settle(index, MethodResult::ReplacedSince, None),
            // It was there, and somebody took it away or changed it back.
            _ if sent.is_some_and(|at| now.duration_since(at) > GRAPH_LAG) => {
                self.settle(index, MethodResult::Ambiguous, None);
            }
            Some(_) | None => self.reopen(index),
        }
    }

    /// What a list does not prove: crossed-off methods that it still shows, and values set that it does not show.
    pub fn residue(&self, listed: &[Method]) -> Vec<usize> {
        let still = |step: &Step| match (&step.action, &step.state) {
            (Action::SetValue(setting), State::Done { result: MethodResult::Done | MethodResult::Unchanged, .. }) => {
                !listed.iter().any(|method| setting.is(method))
            }
            (Action::Remove(planned), State::NotFound) => listed.iter().any(|method| planned.may_be(method)),
            (
                Action::Remove(planned),
                State::Done { result: MethodResult::Removed | MethodResult::AlreadyAbsent, .. },
            ) => listed.iter().any(|method| planned.may_be(method)),
            _ => false,
        };
        (0..self.steps.len()).filter(|index| still(&self.steps[*index])).collect()
    }

    /// Ends the verification by the last list: what is left over counts as failed, what answered 404 and is not listed as
    /// absent, and a value that is there as set, whatever Graph answered.
    pub fn verified(&mut self, residue: &[usize], listed: &[Method]) {
        for index in 0..self.steps.len() {
            let left = residue.contains(&index);
            let shown = |setting: &Setting| listed.iter().any(|method| setting.is(method));
            let set = matches!(&self.steps[index].action, Action::SetValue(setting) if shown(setting));
            match self.steps[index].state {
                State::Done { result: MethodResult::Failed, .. } if set => self.settle(index, MethodResult::Done, None),
                State::NotFound if left => self.settle(index, MethodResult::Failed, Some(Reason::NotFoundButListed)),
                State::NotFound if self.steps[index].doubted_since.is_some() => {
                    self.settle(index, MethodResult::Removed, None)
                }
                State::NotFound => self.settle(index, MethodResult::AlreadyAbsent, None),
                State::Done { result: MethodResult::Done | MethodResult::Unchanged, .. } if left => {
                    self.settle(index, MethodResult::Failed, Some(Reason::NotApplied));
                }
                State::Done { .. } if left => self.settle(index, MethodResult::Failed, Some(Reason::Residual)),
                State::Open | State::Sent { .. } | State::Done { .. } => {}
            }
        }
    }
}

impl Setting {
    /// Whether `listed` is what is to be set.
    fn is(&self, listed: &Method) -> bool {
        self.method_type == listed.method_type && self.digest.is_some() && self.digest == listed.digest
    }
}
