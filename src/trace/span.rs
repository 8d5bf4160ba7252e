//! What is told of a piece of work when it has ended. No attribute says whom it concerns, nor what a producer could choose
//! freely: beyond the request's key there is nothing here that a log line would not show.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{Context, current};
use crate::domain::event::Event;
use crate::domain::request::{Envelope, Key};

/// Takes every span that has ended. It is called in passing and must not block.
pub type Sink = Box<dyn Fn(Span) + Send + Sync>;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Where spans go. A build without the feature knows that there is none, and holds nothing that would be for it.
fn sink() -> Option<&'static Sink> {
    if cfg!(feature = "otlp") { SINK.get() } else { None }
}

/// Whether spans leave this process.
pub(super) fn exports() -> bool {
    sink().is_some()
}

/// Lets spans leave this process from now on; the first sink counts.
pub fn export_to(sink: Sink) {
    let _ = SINK.set(sink);
}

/// What a span is, as seen from this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Works on a message of a queue.
    Consumer,
    /// Works on a request that came otherwise.
    Internal,
    /// Calls somebody.
    Client,
    /// Sends a message.
    Producer,
}

/// A piece of work.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its trace, and its own id.
    pub context: Context,
    /// The span it belongs to; 0 where there is none.
    pub parent: u64,
    /// Whether that one is another process's.
    pub parent_is_remote: bool,
    /// What it is.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// When it began.
    pub began: Timestamp,
    /// What there is to tell of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Which kind of trouble it ended in, if it did.
    pub error: Option<String>,
}

impl Span {
    /// One attempt at a request. Its parent is the context that its message came with.
    pub fn process(key: &Key, envelope: &Envelope, queue: Option<&str>) -> Self {
        let parent = envelope.traceparent.as_deref().and_then(Context::parse);
        let parent = parent.unwrap_or_else(|| Context::of_request(key));
        let (role, name) = match queue {
            Some(queue) => (Role::Consumer, format!("process {queue}")),
            None => (Role::Internal, "process".to_owned()),
        };
        let mut span = Self::begin(parent.child(), parent, true, role, name);
        span.note("mfa_reset.request.id", key.to_string());
        if let Some(queue) = queue {
            span.messaging("process", "process", queue);
        }
        span
    }

    /// A call that ended just now and took so long, where spans are kept; `context` is what the call said of its trace.
    pub fn call(context: Context, operation: &str, took: Duration) -> Option<Self> {
        sink()?;
        let mut span = Self::begin(context, current()?, false, Role::Client, format!("graph {operation}"));
        span.began = span.began.saturating_sub(took).unwrap_or(span.began);
        span.note("mfa_reset.graph.operation", operation);
        Some(span)
    }

    /// The publication of a result, where a job is at hand whose spans are kept.
    pub fn publish(exchange: &str, event: &Event) -> Option<Self> {
        let (key, parent) = (event.routing_key.as_str(), current().filter(|context| context.is_sampled())?);
        sink()?;
        let destination = format!("{exchange}:{key}");
        let mut span = Self::begin(parent.child(), parent, false, Role::Producer, format!("publish {destination}"));
        span.messaging("publish", "send", &destination);
        span.note("messaging.rabbitmq.destination.routing_key", key);
        span.note("messaging.message.id", event.id.to_string());
        Some(span)
    }

    fn begin(context: Context, parent: Context, parent_is_remote: bool, role: Role, name: String) -> Self {
        let (attributes, began) = (Vec::new(), Timestamp::now());
        Self { context, parent: parent.span, parent_is_remote, role, name, began, attributes, error: None }
    }

    fn messaging(&mut self, name: &str, kind: &str, destination: &str) {
        self.note("messaging.system", "rabbitmq");
        self.note("messaging.operation.name", name);
        self.note("messaging.operation.type", kind);
        self.note("messaging.destination.name", destination);
    }

    /// Adds an attribute.
    pub fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// Lets it go, if anybody keeps it.
    pub fn end(self) {
        if let Some(sink) = sink().filter(|_| self.context.is_sampled()) {
            sink(self);
        }
    }
}
