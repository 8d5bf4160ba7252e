//! Settings checked against each other: each may be fine alone.

use reqwest::Url;

use super::value::is_loopback;
use super::{Config, Mistake, Needs};

/// Everything that does not go together.
pub fn all(config: &Config, needs: Needs) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (key, root) in [("graph.endpoint", &config.graph.endpoint), ("graph.authority", &config.graph.authority)] {
        mistakes.extend(in_the_clear(config, root).then(|| {
            Mistake::new(key, "`https://` is expected off loopback; only graph.allow_http = true accepts `http://`")
        }));
    }
    if config.broker.client_cert_file.is_some() != config.broker.client_key_file.is_some() {
        mistakes.push(Mistake::new("broker.client_cert_file", "it goes together with broker.client_key_file"));
    }
    if needs.broker && needs.graph {
        mistakes.extend(producers(config));
    }
    if needs.graph && config.grace_period < config.graph.timeout {
        mistakes.push(Mistake::new(
            "shutdown.grace_period",
            "a call in flight may take graph.timeout, so at least that is expected",
        ));
    }
    if config.otlp_endpoint.is_some() && !cfg!(feature = "otlp") {
        mistakes.push(Mistake::new(
            "log.otlp_endpoint",
            "this build sends no traces: build it with `--features otlp`, or leave the setting out",
        ));
    }
    mistakes
}

fn in_the_clear(config: &Config, root: &str) -> bool {
    let far = Url::parse(root).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url));
    far && !config.graph.allow_http
}

fn producers(config: &Config) -> Option<Mistake> {
    let named = config.policy.producers.as_ref().is_some_and(|producers| !producers.is_empty());
    match (named, config.allow_any_producer) {
        (true, true) => Some(Mistake::new("policy.producers", "it contradicts policy.allow_any_producer = true")),
        (false, false) => Some(Mistake::new(
            "policy.producers",
            "required: the broker users that may ask; policy.allow_any_producer = true lets every one of them",
        )),
        (true, false) | (false, true) => None,
    }
}
