//! `/_simulator`: what a test may see and change. It goes past every rule of Graph, and into no journal.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::choices::Choices;
use super::edge::Shared;
use super::fault::Fault;
use super::rules;
use super::tenant::{Method, User};
use super::tenant_file::{complete_methods, id_for};
use super::world::Settings;

type Answer = (StatusCode, Json<Value>);

/// Builds the routes below `/_simulator`.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/journal", get(journal))
        .route("/stats", get(stats))
        .route("/users/{key}", get(show_user).patch(change_user))
        .route("/users/{key}/methods", post(register))
        .route("/faults", get(show_faults).post(set_fault).delete(clear_faults))
        .route("/settings", get(show_settings).patch(change_settings))
        .route("/tokens", delete(void_tokens))
}

fn refuse(status: StatusCode, message: impl std::fmt::Display) -> Answer {
    (status, Json(json!({"error": {"code": "simulator", "message": message.to_string()}})))
}

fn nobody() -> Answer {
    refuse(StatusCode::NOT_FOUND, "there is no such user")
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn journal(State(shared): State<Shared>, Query(Since { since }): Query<Since>) -> Json<Value> {
    Json(json!(shared.world().journal.since(since)))
}

async fn stats(State(shared): State<Shared>) -> Json<Value> {
    Json(shared.world().journal.stats())
}

fn state(user: &User) -> Value {
    let (live, gone): (Vec<&Method>, Vec<&Method>) = user.methods.iter().partition(|m| m.removed_at.is_none());
    let default = rules::default_method(user).map(|method| &method.id);
    let show = |method: &&Method| {
        let mut shown = json!(method);
        shown["value_hash"] = json!(method.value_hash());
        shown["default"] = json!(Some(&method.id) == default);
        shown
    };
    let mut state = json!(user);
    state["methods"] = live.iter().map(show).collect();
    state["removed"] = gone.iter().map(show).collect();
    state
}

async fn show_user(State(shared): State<Shared>, Path(key): Path<String>) -> Answer {
    shared.world().tenant.find_any(&key).map_or_else(nobody, |user| (StatusCode::OK, Json(state(user))))
}

async fn change_user(
    State(shared): State<Shared>,
    Path(key): Path<String>,
    Json(changes): Json<Map<String, Value>>,
) -> Answer {
    let mut world = shared.world();
    let Some(old) = world.tenant.find_any(&key).cloned() else { return nobody() };
    let mut merged = json!(old);
    let all_methods = changes.contains_key("methods");
    for (name, value) in changes {
        merged[name] = value;
    }
    match User::deserialize(&merged) {
        Ok(user) if user.id != old.id => refuse(StatusCode::BAD_REQUEST, "an id never changes"),
        Ok(mut user) => {
            if !all_methods {
                user.methods = old.methods;
            }
            complete_methods(&mut user);
            let shown = state(&user);
            world.tenant.replace(&old.id, user);
            (StatusCode::OK, Json(shown))
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

async fn register(State(shared): State<Shared>, Path(key): Path<String>, Json(body): Json<Value>) -> Answer {
    let mut method = match Method::deserialize(&body) {
        Ok(method) => method,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let mut world = shared.world();
    if method.created.is_none() && method.kind.shows_creation() {
        method.created = Some(world.date("%Y-%m-%dT%H:%M:%SZ"));
    }
    if method.id.is_empty() {
        method.id = id_for(method.kind, Uuid::from_u128(world.rng.u128(..)));
    }
    let Some(user) = world.tenant.find_mut(&key) else { return nobody() };
    if user.live().any(|other| other.id == method.id) {
        return refuse(StatusCode::CONFLICT, "the user has such a method already");
    }
    let mut shown = method.mark();
    shown["value"] = json!(method.value);
    user.register(method);
    (StatusCode::CREATED, Json(shown))
}

async fn show_faults(State(shared): State<Shared>) -> Json<Value> {
    Json(shared.world().faults.list())
}

async fn set_fault(State(shared): State<Shared>, Json(body): Json<Value>) -> Answer {
    match Fault::deserialize(&body) {
        Ok(fault) => {
            let mut world = shared.world();
            world.faults.set(fault);
            (StatusCode::CREATED, Json(world.faults.list()))
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

async fn clear_faults(State(shared): State<Shared>) -> StatusCode {
    shared.world().faults.clear();
    StatusCode::NO_CONTENT
}

async fn void_tokens(State(shared): State<Shared>) -> StatusCode {
    shared.world().tokens.clear();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    latency_ms: Option<u64>,
    /// 0 is without limit.
    rate: Option<f64>,
    /// 0 is without limit.
    tenant_rate: Option<f64>,
    lag_ms: Option<u64>,
    omit_retry_after: Option<bool>,
    omit_percentage: Option<bool>,
    token_lifetime_s: Option<u64>,
    page_size: Option<usize>,
    clock_ahead_s: Option<i64>,
}

fn shown(settings: &Settings) -> Json<Value> {
    let limits = &settings.limits;
    let mut shown = json!({
        "latency_ms": settings.latency.as_millis(), "rate": limits.app.unwrap_or(0.0),
        "tenant_rate": limits.tenant.unwrap_or(0.0), "omit_percentage": limits.omit_percentage,
        "lag_ms": settings.lag.as_millis(), "omit_retry_after": limits.omit_retry_after,
        "token_lifetime_s": settings.token_lifetime.as_secs(), "page_size": settings.page_size,
        "clock_ahead_s": settings.clock_ahead,
    });
    if let (Value::Object(shown), Value::Object(choices)) = (&mut shown, json!(settings.choices)) {
        shown.extend(choices);
    }
    Json(shown)
}

async fn show_settings(State(shared): State<Shared>) -> Json<Value> {
    shown(&shared.world().settings)
}

/// Takes what the tenant chooses out of what is to change.
fn choose(now: &Choices, changes: &mut Map<String, Value>) -> Result<Choices, serde_json::Error> {
    let mut merged = json!(now);
    for (name, value) in merged.as_object_mut().into_iter().flatten() {
        *value = changes.remove(name).unwrap_or_else(|| value.take());
    }
    Choices::deserialize(&merged)
}

async fn change_settings(State(shared): State<Shared>, Json(mut body): Json<Map<String, Value>>) -> Answer {
    let mut world = shared.world();
    let now = &mut world.settings;
    let read = choose(&now.choices, &mut body).and_then(|choices| Ok((choices, Changes::deserialize(&json!(body))?)));
    let (choices, changes) = match read {
        Ok(read) => read,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    now.choices = choices;
    now.latency = changes.latency_ms.map_or(now.latency, Duration::from_millis);
    let limit = |rate: f64| (rate > 0.0).then_some(rate);
    now.limits.app = changes.rate.map_or(now.limits.app, limit);
    now.limits.tenant = changes.tenant_rate.map_or(now.limits.tenant, limit);
    now.limits.omit_percentage = changes.omit_percentage.unwrap_or(now.limits.omit_percentage);
    now.lag = changes.lag_ms.map_or(now.lag, Duration::from_millis);
    now.limits.omit_retry_after = changes.omit_retry_after.unwrap_or(now.limits.omit_retry_after);
    now.token_lifetime = changes.token_lifetime_s.map_or(now.token_lifetime, Duration::from_secs);
    now.page_size = changes.page_size.map_or(now.page_size, |size| size.clamp(1, 999));
    now.clock_ahead = changes.clock_ahead_s.unwrap_or(now.clock_ahead);
    (StatusCode::OK, shown(now))
}
