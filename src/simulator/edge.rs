//! The edge: HTTP in, HTTP out. Only here are there requests, responses and waiting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use axum::routing::{get, post};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Ending, Reply, Version};
use super::operation::Operation;
use super::platform::{Service, Wanted};
use super::token::{Asked, Form};
use super::world::World;
use super::{batch, control, odata};

const BODY_LIMIT: usize = 4 << 20;

/// Shares the world among connections.
#[derive(Clone)]
pub struct Shared {
    world: Arc<Mutex<World>>,
    /// Ends what stalls.
    pub stopped: CancellationToken,
}

impl Shared {
    /// Wraps a world.
    pub fn new(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)), stopped: CancellationToken::new() }
    }

    /// Locks the world; never hold this over an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds the router over everything the simulator serves.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .nest("/_simulator", control::router())
        // Whoever looks after a worker can look after this in the same way.
        .route("/livez", get(async || "simulating"))
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/metadata/identity/oauth2/token", get(virtual_machine))
        .route("/msi/token", get(app_service))
        .fallback(graph)
        .with_state(shared)
}

async fn token(State(shared): State<Shared>, Path(tenant): Path<String>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    let form = odata::pairs(&String::from_utf8_lossy(&bytes));
    let url = format!("{}{}", incoming(&parts, Value::Null).base, parts.uri.path());
    issue(&shared, &parts, &Asked::Entra(Form { tenant, url, form })).await
}

async fn virtual_machine(State(shared): State<Shared>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    issue(&shared, &parts, &wanted(Service::VirtualMachine, "metadata", &parts)).await
}

async fn app_service(State(shared): State<Shared>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    issue(&shared, &parts, &wanted(Service::AppService, "x-identity-header", &parts)).await
}

fn wanted(service: Service, header: &str, parts: &Parts) -> Asked {
    let header = parts.headers.get(header).and_then(|value| value.to_str().ok()).map(Into::into);
    let forwarded = parts.headers.contains_key("x-forwarded-for");
    Asked::Platform(Wanted { service, header, forwarded, query: odata::pairs(parts.uri.query().unwrap_or_default()) })
}

async fn issue(shared: &Shared, parts: &Parts, asked: &Asked) -> Response<Body> {
    let latency = shared.world().settings.latency;
    let mut call = incoming(parts, Value::Null);
    call.path = parts.uri.path().into();
    tokio::time::sleep(latency).await;
    let (reply, date) = {
        let mut world = shared.world();
        let mut reply = world.token(asked);
        world.finish(&call, &mut reply);
        world.write(&call, Operation::Token, None, &reply);
        (reply, world.date(HTTP_DATE))
    };
    respond(shared, reply, date).await
}

async fn graph(State(shared): State<Shared>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut call = incoming(&parts, body);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let known = [Version::V1, Version::Beta].into_iter().find_map(|version| {
        let rest = target.strip_prefix('/')?.strip_prefix(version.as_str())?;
        rest.starts_with('/').then_some((version, rest))
    });
    let latency = shared.world().settings.latency;
    tokio::time::sleep(latency).await;
    let (reply, date) = {
        let mut world = shared.world();
        let bearer = bearer(&parts);
        let bearer = bearer.and_then(|token| world.tokens.bearer(token, tokio::time::Instant::now()));
        let (app, roles) = bearer.unzip();
        call.app = app.unwrap_or_default();
        let reply = match known {
            Some((version, rest)) => {
                call.version = version;
                call.aim(rest);
                let batch = call.method == Method::POST && call.segments == ["$batch"];
                let carry_out = if batch { batch::run } else { World::handle };
                carry_out(&mut world, &call, roles.as_deref())
            }
            None => Reply::error(400, "BadRequest", "Invalid version."),
        };
        (reply, world.date(HTTP_DATE))
    };
    respond(&shared, reply, date).await
}

const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

fn bearer(parts: &Parts) -> Option<&str> {
    parts.headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn incoming(parts: &Parts, body: Value) -> Call {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST.as_str()).unwrap_or("graph.microsoft.com");
    Call {
        version: Version::V1,
        method: parts.method.clone(),
        path: String::new(),
        segments: Vec::new(),
        query: Vec::new(),
        body,
        base: format!("http://{host}"),
        app: String::new(),
        client_request_id: header("client-request-id").map(Into::into),
        traceparent: header("traceparent").map(Into::into),
        eventual: header("consistencylevel").is_some_and(|level| level.eq_ignore_ascii_case("eventual")),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        batch: None,
    }
}

async fn respond(shared: &Shared, reply: Reply, date: String) -> Response<Body> {
    let text = reply.raw.or(reply.body.map(|body| body.to_string()));
    let body = match reply.ending {
        Ending::Answer => text.map_or_else(Body::empty, Body::from),
        Ending::Close => broken(),
        Ending::Stall => {
            shared.stopped.cancelled().await;
            broken()
        }
    };
    let mut response = Response::builder()
        .status(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK))
        .header("Date", date)
        .header("Content-Type", "application/json;odata.metadata=minimal;charset=utf-8");
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(body).unwrap_or_else(|_| Response::new(broken()))
}

/// Fails before its first byte: the connection closes and nothing was sent.
fn broken() -> Body {
    let failure: Result<&[u8], _> = Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted));
    Body::from_stream(futures_util::stream::iter([failure]))
}
