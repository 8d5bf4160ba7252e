//! What a list of the user's methods says about a plan: what is gone, replaced, left over, or not to be told.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Plan, State, Step};
use crate::domain::method::Method;
use crate::domain::outcome::MethodResult;
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
        let Action::Remove(method) = &self.steps[index].action else { return false };
        method.method_type.entry().shared_id && now.duration_since(self.listed_at) > FRESH
    }

    /// Settles what a fresh list can settle among the open removals: gone, replaced, or not to be told apart.
    pub fn reconcile(&mut self, listed: &[Method], now: Timestamp) {
        self.listed_at = now;
        for index in 0..self.steps.len() {
            let step = &self.steps[index];
            let (Action::Remove(planned), true) = (&step.action, step.is_open()) else {
                // Revoking twice does no harm.
                if step.is_open() {
                    self.steps[index].state = State::Open;
                }
                continue;
            };
            let place = listed.iter().find(|method| planned.same_place(method));
            let shared = planned.method_type.entry().shared_id;
            let sent = step.doubted_since.or(match step.state {
                State::Sent { at } => Some(at),
                State::Open | State::NotFound | State::Done { .. } => None,
            });
            match (place, &step.state) {
                (None, _) if sent.is_some() => self.settle(index, MethodResult::Removed, None),
                (None, _) => self.settle(index, MethodResult::AlreadyAbsent, None),
                (Some(method), _) if !planned.is(method) => self.settle(index, MethodResult::ReplacedSince, None),
                // The id proves nothing and there is no value to compare.
                (Some(_), _) if shared && planned.digest.is_none() => self.settle(index, MethodResult::Ambiguous, None),
                (Some(_), _) if shared && sent.is_some_and(|at| now.duration_since(at) > GRAPH_LAG) => {
                    self.settle(index, MethodResult::Ambiguous, None);
                }
                // Unique ids may always be removed again; a shared one while nobody can have registered it anew.
                (Some(_), State::Sent { .. }) => {
                    self.unsend(index);
                    self.steps[index].doubted_since = sent;
                }
                (Some(_), _) => {}
            }
        }
    }

    /// The crossed-off methods that a list still shows: residue of removals, or of a 404.
    pub fn residue(&self, listed: &[Method]) -> Vec<usize> {
        let still = |step: &Step| match (&step.action, &step.state) {
            (Action::Remove(planned), State::NotFound | State::Done { result: MethodResult::Removed, .. }) => {
                listed.iter().any(|method| planned.is(method))
            }
            _ => false,
        };
        (0..self.steps.len()).filter(|index| still(&self.steps[*index])).collect()
    }

    /// Ends the verification: what is left over counts as failed, what answered 404 and is not listed as absent.
    pub fn verified(&mut self, residue: &[usize]) {
        for index in 0..self.steps.len() {
            let left = residue.contains(&index);
            match self.steps[index].state {
                State::NotFound if left => self.settle(index, MethodResult::Failed, Some(Reason::NotFoundButListed)),
                State::NotFound if self.steps[index].doubted_since.is_some() => {
                    self.settle(index, MethodResult::Removed, None)
                }
                State::NotFound => self.settle(index, MethodResult::AlreadyAbsent, None),
                State::Done { .. } if left => self.settle(index, MethodResult::Failed, Some(Reason::Residual)),
                State::Open | State::Sent { .. } | State::Done { .. } => {}
            }
        }
    }
}
