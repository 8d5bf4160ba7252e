//! A collector of our own: takes what is sent to it by OTLP over HTTP, and reads the protobuf by hand, by the numbers of
//! `opentelemetry/proto/trace/v1/trace.proto`, so that it shares no code with what is tested.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A span, as it was sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: u64,
    pub took: u64,
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
}

pub struct Collector {
    pub root: String,
    taken: Arc<Mutex<Vec<Bytes>>>,
    _server: JoinSet<()>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let taken: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let kept = taken.clone();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            kept.lock().unwrap().push(body);
            StatusCode::OK
        };
        let mut server = JoinSet::new();
        let router = axum::Router::new().route("/v1/traces", post(take));
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { root, taken, _server: server }
    }

    /// All bytes that came.
    pub fn bytes(&self) -> Vec<u8> {
        self.taken.lock().unwrap().concat()
    }

    /// The spans of one trace.
    pub fn spans(&self, trace: &str) -> Vec<Sent> {
        self.all().into_iter().filter(|span| span.trace == trace).collect()
    }

    pub fn all(&self) -> Vec<Sent> {
        let taken = self.taken.lock().unwrap();
        let resources = taken.iter().flat_map(|body| below(body, 1));
        resources.flat_map(|resource| below(resource, 2)).flat_map(|scope| below(scope, 2)).map(span).collect()
    }

    /// What the senders say of themselves.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let taken = self.taken.lock().unwrap();
        let resource = taken.iter().flat_map(|body| below(body, 1)).flat_map(|resource| below(resource, 1));
        resource.flat_map(|resource| below(resource, 1)).map(attribute).collect()
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()))),
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// Every message at this number.
fn below(bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
    let found = fields(bytes).into_iter().filter_map(|(number, field)| match field {
        Field::Bytes(bytes) if number == wanted => Some(bytes),
        Field::Bytes(_) | Field::Number(_) => None,
    });
    found.collect()
}

fn span(bytes: &[u8]) -> Sent {
    let mut span = Sent::default();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for field in fields(bytes) {
        match field {
            (1, Field::Bytes(bytes)) => span.trace = hex(bytes),
            (2, Field::Bytes(bytes)) => span.id = hex(bytes),
            (4, Field::Bytes(bytes)) => span.parent = hex(bytes),
            (5, Field::Bytes(bytes)) => span.name = String::from_utf8(bytes.to_vec()).unwrap(),
            (6, Field::Number(kind)) => span.kind = kind,
            (7, Field::Number(began)) => span.took = began,
            (8, Field::Number(ended)) => span.took = ended - span.took,
            (9, Field::Bytes(bytes)) => span.attributes.extend([attribute(bytes)]),
            (15, Field::Bytes(bytes)) => {
                span.failed = fields(bytes).iter().any(|field| matches!(field, (3, Field::Number(2))));
            }
            _ => {}
        }
    }
    span
}

/// A key and its value, as text.
fn attribute(bytes: &[u8]) -> (String, String) {
    let key = String::from_utf8(below(bytes, 1)[0].to_vec()).unwrap();
    let value = match fields(below(bytes, 2)[0]).remove(0) {
        (1, Field::Bytes(text)) => String::from_utf8(text.to_vec()).unwrap(),
        (3, Field::Number(number)) => number.to_string(),
        (number, _) => panic!("{key} has a value of kind {number}"),
    };
    (key, value)
}
