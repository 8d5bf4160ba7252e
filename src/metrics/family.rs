//! Makes and registers one family of metrics each. Names, labels and help texts are the caller's.

use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};
use prometheus::{Opts, Registry, Result};

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    add(registry, IntCounter::with_opts(opts(name, help))?)
}

pub(super) fn seconds(registry: &Registry, name: &str, help: &str) -> Result<Counter> {
    add(registry, Counter::with_opts(opts(name, help))?)
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    add(registry, IntCounterVec::new(opts(name, help), labels)?)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge> {
    add(registry, Gauge::with_opts(opts(name, help))?)
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    add(registry, GaugeVec::new(opts(name, help), labels)?)
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
    add(registry, Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec()))?)
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec> {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    add(registry, HistogramVec::new(opts, labels)?)
}

/// A doc comment begins with a space; a help text does not.
fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help.trim())
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// A family as a row of the reference.
pub(super) fn row(family: &MetricFamily) -> String {
    let labels = family.get_metric().first().map(|metric| metric.get_label()).unwrap_or_default();
    let labels: Vec<String> = labels.iter().map(|label| format!("`{}`", label.name())).collect();
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    };
    format!("| `{}` | {kind} | {} | {} |\n", family.name(), labels.join(", "), family.help())
}
