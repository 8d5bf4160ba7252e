//! Sends spans to a collector: OTLP over HTTP, in protobuf, batched by the SDK on a thread of its own.
//!
//! No job ever waits for it. What does not fit into its queue, or what the collector does not take, is dropped, and a
//! collector that is away is told once a minute. What a collector answers is not repeated: it may quote what it was sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::warn;

use super::{Role, Span, span};

/// How long one batch may take to be handed over, all tries included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often spans leave.
const OFTEN: Duration = Duration::from_secs(1);
/// How many spans may wait; the next ones are dropped.
const MOST: usize = 8192;
/// How often trouble is told.
const TOLD: Duration = Duration::from_secs(60);

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be made.
    #[error("no client for the collector")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be made.
    #[error("no exporter for the collector")]
    Exporter(#[from] ExporterBuildError),
}

/// What sends spans.
pub struct Exporter(Arc<BatchSpanProcessor>);

impl Exporter {
    /// Begins to send the spans of this process to the collector with this root address. Needs a runtime around it.
    pub fn start(collector: &str, instance: String) -> Result<Self, Error> {
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let http = Http { client: client.build()?, runtime: Handle::current(), told: Mutex::new(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(http)
            .with_endpoint(format!("{collector}/v1/traces"))
            .with_timeout(PATIENCE)
            .build()?;
        let batches = BatchConfigBuilder::default().with_scheduled_delay(OFTEN).with_max_queue_size(MOST);
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
        let version = env!("CARGO_PKG_VERSION");
        let service = [KeyValue::new("service.version", version), KeyValue::new("service.instance.id", instance)];
        let resource = Resource::builder_empty().with_service_name("mfa-reset").with_attributes(service);
        processor.set_resource(&resource.build());
        let processor = Arc::new(processor);
        let sender = processor.clone();
        let scope = InstrumentationScope::builder("mfa-reset").with_version(version).build();
        span::export_to(Box::new(move |span| sender.on_end(data(span, scope.clone()))));
        Ok(Self(processor))
    }

    /// Sends what waits, for no longer than this.
    pub async fn stop(self, within: Duration) {
        let flushed = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(within));
        // What could not be sent by now is dropped, and told where it was tried.
        let _ = flushed.await;
    }
}

/// The reqwest client that the rest of the program uses. The SDK's thread has no runtime, so calls go to ours.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: Handle,
    told: Mutex<Option<Instant>>,
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, request) = (self.client.clone(), reqwest::Request::try_from(request)?);
        let answered = self.runtime.spawn(async move {
            let answer = client.execute(request).await?;
            let (status, body) = (answer.status(), answer.bytes().await?);
            let mut response = Response::new(body);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        let answer = answered.await?;
        match &answer {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => self.tell(&format!("it answers {}", response.status().as_u16())),
            Err(error) if error.is_timeout() => self.tell("it does not answer in time"),
            Err(error) if error.is_connect() => self.tell("there is no connection"),
            Err(_) => self.tell("the connection broke"),
        }
        Ok(answer.map_err(reqwest::Error::without_url)?)
    }
}

impl Http {
    fn tell(&self, error: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD) {
            *told = Some(Instant::now());
            warn!(error, "the collector takes no traces: spans are dropped");
        }
    }
}

fn data(span: Span, scope: InstrumentationScope) -> SpanData {
    let super::Context { trace, span: id, flags } = span.context;
    let state = TraceState::default();
    let context = SpanContext::new(trace.into(), id.into(), TraceFlags::new(flags), false, state);
    let mut attributes: Vec<KeyValue> =
        span.attributes.into_iter().map(|(name, value)| attribute(name, value)).collect();
    let status = match span.error {
        Some(error) => {
            attributes.push(KeyValue::new("error.type", error));
            Status::error("")
        }
        None => Status::Unset,
    };
    SpanData {
        span_context: context,
        parent_span_id: span.parent.into(),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: match span.role {
            Role::Consumer => SpanKind::Consumer,
            Role::Internal => SpanKind::Internal,
            Role::Client => SpanKind::Client,
            Role::Producer => SpanKind::Producer,
        },
        name: span.name.into(),
        start_time: span.began.into(),
        end_time: jiff::Timestamp::now().into(),
        attributes,
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status,
        instrumentation_scope: scope,
    }
}

fn attribute(name: &'static str, value: Value) -> KeyValue {
    match (value.as_i64(), value) {
        (Some(number), _) => KeyValue::new(name, number),
        (None, Value::String(text)) => KeyValue::new(name, text),
        (None, other) => KeyValue::new(name, other.to_string()),
    }
}
