//! Each valid combination of labels exists from the start, at zero: a rate over a series that is born with its first event
//! would not see that event.

use super::{CHECKS, Metrics, OPERATIONS, STATUSES, decision_of};
use crate::domain::guard::Rule;
use crate::domain::method;
use crate::domain::outcome::{MethodResult, OutcomeKind};
use crate::domain::reason::{self, Reason};
use crate::domain::request::Lane;
use crate::domain::retry::Cause;

impl Metrics {
    pub(super) fn start_jobs(&self) {
        for lane in Lane::ALL.map(Lane::name) {
            self.jobs_in_flight.with_label_values(&[lane]);
            self.jobs_open.with_label_values(&[lane]);
            self.jobs_oldest.with_label_values(&[lane]);
            for kind in OutcomeKind::ALL {
                let reasons = reason::TABLE.iter().filter(|entry| entry.outcomes.contains(&kind));
                for entry in reasons {
                    self.jobs.with_label_values(&[lane, kind.name(), entry.code]);
                    self.job_duration.with_label_values(&[lane, kind.name()]);
                }
            }
        }
        for cause in Cause::ALL {
            self.deferrals.with_label_values(&[cause.name()]);
        }
        for entry in reason::TABLE.iter().filter(|entry| entry.outcomes.contains(&OutcomeKind::Rejected)) {
            self.dead_letters.with_label_values(&[entry.code]);
        }
        self.dead_letters.with_label_values(&[Reason::AttemptsExhausted.code()]);
        for entry in &method::TABLE {
            for result in MethodResult::ALL {
                self.removals.with_label_values(&[entry.name, result.name()]);
            }
        }
        for rule in Rule::ALL {
            self.guard_decisions.with_label_values(&[decision_of(rule), rule.name()]);
        }
    }

    pub(super) fn start_calls(&self) {
        self.set_checks(CHECKS.map(|check| (check, false)));
        for operation in OPERATIONS {
            self.graph_request_duration.with_label_values(&[operation]);
            for status in STATUSES {
                self.graph_requests.with_label_values(&[operation, status]);
            }
        }
        for result in ["ok", "failed"] {
            self.token_refreshes.with_label_values(&[result]);
        }
    }
}
