//! What is counted: one struct, whose field comments are the help texts of the metrics.
//!
//! Labels come from enums and constants, never from a request; each valid combination exists from the start, at zero.

mod family;
mod labels;
mod start;

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{Counter, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec};
use prometheus::{Registry, Result, TextEncoder};

pub use labels::{CHECKS, OPERATIONS, STATUSES};

use crate::domain::guard::{Decision, Rule};
use crate::domain::method::MethodType;
use crate::domain::outcome::{MethodResult, OutcomeKind};
use crate::domain::reason::Reason;
use crate::domain::request::Lane;
use crate::domain::retry::Cause;
use family::{counter, counters, gauge, gauges, histogram, histograms, seconds};

/// For one call, in seconds.
const CALL: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// For a job and for a ticket, in seconds: up to the deadline.
const JOB: [f64; 13] = [1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0];

/// Writes each help text once, as the field's comment and as the metric's help.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $make:ident($name:literal $(, $more:expr)*);)+) => {
        /// Every metric of the worker.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ $field: $kind,)+
        }

        impl Metrics {
            fn register() -> Result<Self> {
                let registry = Registry::new();
                Ok(Self {
                    $($field: $make(&registry, concat!("mfa_reset_", $name), concat!($($help),+) $(, $more)*)?,)+
                    registry,
                })
            }
        }
    };
}

metrics! {
    /// Jobs that ended; a result that is published again does not count.
    jobs: IntCounterVec = counters("jobs_total", &["lane", "outcome", "reason"]);
    /// Time from when a worker first saw the request to its result.
    job_duration: HistogramVec = histograms("job_duration_seconds", &["lane", "outcome"], &JOB);
    /// Time from requested_at of a request to its confirmed result.
    ticket_age: Histogram = histogram("ticket_age_seconds", &JOB);
    /// Jobs in hand.
    jobs_in_flight: GaugeVec = gauges("jobs_in_flight", &["lane"]);
    /// Jobs that a worker has seen and that are not concluded: the same from every worker on one ledger.
    jobs_open: GaugeVec = gauges("jobs_open", &["lane"]);
    /// Time since a worker first saw the oldest of them.
    jobs_oldest: GaugeVec = gauges("jobs_oldest_seconds", &["lane"]);
    /// How many resets may start in an hour: policy.max_resets_per_hour.
    resets_per_hour: Gauge = gauge("resets_per_hour_limit");
    /// Deliveries put off, by why.
    deferrals: IntCounterVec = counters("deferrals_total", &["reason"]);
    /// Deliveries that the broker had made before.
    redeliveries: IntCounter = counter("redeliveries_total");
    /// Messages sent to the dead letters.
    dead_letters: IntCounterVec = counters("dead_letters_total", &["reason"]);
    /// What became of each method of the jobs that ended.
    removals: IntCounterVec = counters("removals_total", &["method", "result"]);
    /// Calls to Graph and to the token endpoint, by HTTP status, timeout or connect.
    graph_requests: IntCounterVec = counters("graph_requests_total", &["operation", "status"]);
    /// Time that a call took to be answered or given up.
    graph_request_duration: HistogramVec = histograms("graph_request_duration_seconds", &["operation"], &CALL);
    /// Time for which Graph asked not to be called.
    graph_hold: Counter = seconds("graph_hold_seconds_total");
    /// Until when Graph asked not to be called, in seconds since 1970: past once that is over, 0 where it never asked.
    graph_hold_until: Gauge = gauge("graph_hold_until_timestamp_seconds");
    /// The most calls a second that the worker allows itself.
    graph_rate_limit: Gauge = gauge("graph_rate_limit");
    /// Tokens asked for, by whether one was given.
    token_refreshes: IntCounterVec = counters("token_refreshes_total", &["result"]);
    /// When the token in use expires, in seconds since 1970.
    token_expiry: Gauge = gauge("token_expiry_timestamp_seconds");
    /// What the guard decided, and by which rule.
    guard_decisions: IntCounterVec = counters("guard_decisions_total", &["decision", "rule"]);
    /// Audit records stored.
    audit_records: IntCounter = counter("audit_records_total");
    /// When the last audit checkpoint was signed, in seconds since 1970.
    audit_last_checkpoint: Gauge = gauge("audit_last_checkpoint_timestamp_seconds");
    /// Audit records and checkpoints that the broker did not take; they are sent again.
    audit_publish_failures: IntCounter = counter("audit_publish_failures_total");
    /// Events stored and not yet confirmed by the broker.
    outbox_pending: Gauge = gauge("outbox_pending");
    /// Age of the oldest event not yet confirmed.
    outbox_oldest: Gauge = gauge("outbox_oldest_seconds");
    /// Whether the connection to the broker stands.
    broker_connected: Gauge = gauge("broker_connected");
    /// Each check of /readyz, 1 where it is well.
    checks: GaugeVec = gauges("ready", &["check"]);
    /// The version that runs; always 1.
    build_info: GaugeVec = gauges("build_info", &["version"]);
}

/// What waits: events in the outbox, or open jobs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// How many.
    pub pending: u64,
    /// How old the oldest is; zero if there is none.
    pub oldest: Duration,
}

impl Metrics {
    /// Registers every metric, at zero, and the process's own.
    pub fn new() -> Result<Self> {
        let metrics = Self::register()?;
        metrics.start_jobs();
        metrics.start_calls();
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// A job ended and its result is confirmed: how long it took since its first delivery, and since it was requested.
    pub fn job_concluded(
        &self,
        lane: Lane,
        (kind, reason): (OutcomeKind, Reason),
        took: Duration,
        ticket_age: Option<Duration>,
    ) {
        self.jobs.with_label_values(&[lane.name(), kind.name(), reason.code()]).inc();
        self.job_duration.with_label_values(&[lane.name(), kind.name()]).observe(took.as_secs_f64());
        if let Some(age) = ticket_age {
            self.ticket_age.observe(age.as_secs_f64());
        }
    }

    /// A job is in hand.
    pub fn job_began(&self, lane: Lane) {
        self.jobs_in_flight.with_label_values(&[lane.name()]).inc();
    }

    /// A job is out of hand, however that came.
    pub fn job_left(&self, lane: Lane) {
        self.jobs_in_flight.with_label_values(&[lane.name()]).dec();
    }

    /// What the ledger holds of a lane that is not concluded.
    pub fn set_open_jobs(&self, lane: Lane, backlog: Backlog) {
        self.jobs_open.with_label_values(&[lane.name()]).set(count_of(backlog));
        self.jobs_oldest.with_label_values(&[lane.name()]).set(backlog.oldest.as_secs_f64());
    }

    /// How many resets may start in an hour.
    pub fn set_resets_per_hour(&self, limit: u32) {
        self.resets_per_hour.set(limit.into());
    }

    /// A delivery is put off.
    pub fn deferred(&self, cause: Cause) {
        self.deferrals.with_label_values(&[cause.name()]).inc();
    }

    /// The broker says that it delivered this before.
    pub fn redelivered(&self) {
        self.redeliveries.inc();
    }

    /// A message went to the dead letters.
    pub fn dead_letter(&self, reason: Reason) {
        self.dead_letters.with_label_values(&[reason.code()]).inc();
    }

    /// What became of a method.
    pub fn removal(&self, method: MethodType, result: MethodResult) {
        self.removals.with_label_values(&[method.name(), result.name()]).inc();
    }

    /// A call to Graph was answered or given up. `status` is the HTTP code, `timeout` or `connect`.
    pub fn graph_call(&self, operation: &str, status: &str, took: Duration) {
        self.graph_requests.with_label_values(&[operation, status]).inc();
        self.graph_request_duration.with_label_values(&[operation]).observe(took.as_secs_f64());
    }

    /// Graph asked not to be called for this long, beyond what it asked before.
    pub fn graph_held(&self, longer: Duration) {
        self.graph_hold.inc_by(longer.as_secs_f64());
    }

    /// Until when Graph is not to be called.
    pub fn set_graph_hold(&self, until: Timestamp) {
        self.graph_hold_until.set(seconds_of(until));
    }

    /// How many calls a second the worker allows itself now.
    pub fn set_graph_rate(&self, per_second: f64) {
        self.graph_rate_limit.set(per_second);
    }

    /// A token was asked for; when it expires, if one was given.
    pub fn token_refreshed(&self, expires: Option<Timestamp>) {
        let result = if expires.is_some() { "ok" } else { "failed" };
        self.token_refreshes.with_label_values(&[result]).inc();
        if let Some(at) = expires {
            self.token_expiry.set(seconds_of(at));
        }
    }

    /// The guard decided.
    pub fn guard(&self, decision: Decision) {
        let rule = match decision {
            Decision::Allow => Rule::None,
            Decision::Deny(rule) => rule,
        };
        self.guard_decisions.with_label_values(&[decision_of(rule), rule.name()]).inc();
    }

    /// Audit records were stored.
    pub fn audit_stored(&self, records: u64) {
        self.audit_records.inc_by(records);
    }

    /// An audit checkpoint was signed.
    pub fn checkpoint_signed(&self, at: Timestamp) {
        self.audit_last_checkpoint.set(seconds_of(at));
    }

    /// The broker did not take an audit record or checkpoint.
    pub fn audit_publish_failed(&self) {
        self.audit_publish_failures.inc();
    }

    /// What the outbox holds now.
    pub fn set_outbox(&self, backlog: Backlog) {
        self.outbox_pending.set(count_of(backlog));
        self.outbox_oldest.set(backlog.oldest.as_secs_f64());
    }

    /// Whether the connection to the broker stands.
    pub fn set_broker_connected(&self, connected: bool) {
        self.broker_connected.set(f64::from(u8::from(connected)));
    }

    /// How each check of `/readyz` is.
    pub fn set_checks(&self, checks: [(&'static str, bool); CHECKS.len()]) {
        for (check, well) in checks {
            self.checks.with_label_values(&[check]).set(f64::from(u8::from(well)));
        }
    }

    /// Everything in Prometheus's text format 0.0.4.
    pub fn render(&self) -> Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The README's table of metrics.
    pub fn reference_table(&self) -> String {
        let own = self.registry.gather().into_iter().filter(|family| family.name().starts_with("mfa_reset_"));
        own.fold(String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n"), |table, family| {
            table + &family::row(&family)
        })
    }
}

fn decision_of(rule: Rule) -> &'static str {
    if rule == Rule::None { "allow" } else { "deny" }
}

fn count_of(backlog: Backlog) -> f64 {
    u32::try_from(backlog.pending).unwrap_or(u32::MAX).into()
}

fn seconds_of(at: Timestamp) -> f64 {
    Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metrics: &Metrics, line: &str) {
        let text = metrics.render().unwrap();
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    #[test]
    fn every_combination_is_there_at_zero() {
        let metrics = Metrics::new().unwrap();
        for line in [
            "mfa_reset_jobs_total{lane=\"tickets\",outcome=\"succeeded\",reason=\"done\"} 0",
            "mfa_reset_jobs_total{lane=\"batch\",outcome=\"partial\",reason=\"residual\"} 0",
            "mfa_reset_jobs_in_flight{lane=\"batch\"} 0",
            "mfa_reset_deferrals_total{reason=\"user_busy\"} 0",
            "mfa_reset_redeliveries_total 0",
            "mfa_reset_dead_letters_total{reason=\"malformed\"} 0",
            "mfa_reset_removals_total{method=\"qr_code_pin\",result=\"unsupported\"} 0",
            "mfa_reset_graph_requests_total{operation=\"delete_method\",status=\"timeout\"} 0",
            "mfa_reset_graph_request_duration_seconds_count{operation=\"batch\"} 0",
            "mfa_reset_token_refreshes_total{result=\"failed\"} 0",
            "mfa_reset_guard_decisions_total{decision=\"allow\",rule=\"none\"} 0",
            "mfa_reset_guard_decisions_total{decision=\"deny\",rule=\"role\"} 0",
            "mfa_reset_outbox_pending 0",
            "mfa_reset_broker_connected 0",
        ] {
            check(&metrics, line);
        }
        let text = metrics.render().unwrap();
        assert!(!text.contains("outcome=\"denied\",reason=\"done\""));
        assert!(!text.contains("decision=\"allow\",rule=\"role\""));
        assert!(text.contains("process_cpu_seconds_total"));
    }

    #[test]
    fn what_happens_is_counted() {
        let metrics = Metrics::new().unwrap();
        let second = Duration::from_secs(1);
        metrics.job_began(Lane::Tickets);
        metrics.job_concluded(Lane::Tickets, (OutcomeKind::Succeeded, Reason::Done), second, Some(second * 60));
        metrics.guard(Decision::Deny(Rule::Role));
        metrics.graph_call("list_methods", "502", second);
        metrics.token_refreshed(Some(Timestamp::from_second(1_800_000_000).unwrap()));
        metrics.set_outbox(Backlog { pending: 3, oldest: second * 9 });
        metrics.set_open_jobs(Lane::Tickets, Backlog { pending: 2, oldest: second * 7 });
        metrics.set_graph_hold(Timestamp::from_second(1_800_000_060).unwrap());
        metrics.set_resets_per_hour(600);
        for line in [
            "mfa_reset_jobs_in_flight{lane=\"tickets\"} 1",
            "mfa_reset_jobs_total{lane=\"tickets\",outcome=\"succeeded\",reason=\"done\"} 1",
            "mfa_reset_job_duration_seconds_bucket{lane=\"tickets\",outcome=\"succeeded\",le=\"1\"} 1",
            "mfa_reset_ticket_age_seconds_sum 60",
            "mfa_reset_guard_decisions_total{decision=\"deny\",rule=\"role\"} 1",
            "mfa_reset_graph_requests_total{operation=\"list_methods\",status=\"502\"} 1",
            "mfa_reset_token_expiry_timestamp_seconds 1800000000",
            "mfa_reset_jobs_open{lane=\"tickets\"} 2",
            "mfa_reset_jobs_oldest_seconds{lane=\"tickets\"} 7",
            "mfa_reset_jobs_oldest_seconds{lane=\"batch\"} 0",
            "mfa_reset_graph_hold_until_timestamp_seconds 1800000060",
            "mfa_reset_resets_per_hour_limit 600",
            "mfa_reset_outbox_pending 3",
            "mfa_reset_outbox_oldest_seconds 9",
        ] {
            check(&metrics, line);
        }
    }

    #[test]
    fn the_reference_names_every_metric_with_its_labels() {
        let table = Metrics::new().unwrap().reference_table();
        assert_eq!(table.lines().count(), 27 + 2, "{table}");
        assert!(table.contains(
            "| `mfa_reset_jobs_total` | counter | `lane`, `outcome`, `reason` | \
             Jobs that ended; a result that is published again does not count. |\n"
        ));
        assert!(table.contains("| `mfa_reset_ticket_age_seconds` | histogram |  |"));
    }
}
