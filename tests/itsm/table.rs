//! A stub of ServiceNow's Table API: records of one table, their journal, and faults on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

/// The one user.
pub const USER: &str = "write-back";
/// Its password.
pub const PASSWORD: &str = "canary-secret-of-the-table";

/// What the next PATCH meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500, though it was carried out.
    AppliedAnd500,
    /// 500, and nothing happened.
    Failed,
    /// 429, to come back in a second.
    Throttled,
    /// It is carried out, and never answered.
    AppliedAndStalled,
}

/// A work note in the journal.
pub struct Note {
    pub record: String,
    pub author: String,
    pub text: String,
}

#[derive(Default)]
pub struct Records {
    pub tickets: BTreeMap<String, Map<String, Value>>,
    pub notes: Vec<Note>,
    pub faults: VecDeque<Fault>,
    /// How many calls came, whatever became of them.
    pub calls: usize,
}

/// A running stub.
#[derive(Clone)]
pub struct Table {
    records: Arc<Mutex<Records>>,
    pub root: String,
}

impl Table {
    /// Starts one without records.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let records = Arc::<Mutex<Records>>::default();
        let routes = Router::new()
            .route("/api/now/table/incident", get(tickets))
            .route("/api/now/table/sys_journal_field", get(journal))
            .route("/api/now/table/incident/{sys_id}", patch(change))
            .with_state(Arc::clone(&records));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { records, root }
    }

    pub fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap()
    }

    /// Adds an open ticket and gives its sys_id.
    pub fn add(&self, number: &str) -> String {
        let sys_id = format!("{:032x}", fastrand::u128(..));
        let record = json!({"sys_id": sys_id, "number": number, "state": "1"});
        self.records().tickets.insert(sys_id.clone(), record.as_object().unwrap().clone());
        sys_id
    }

    /// The notes of a record.
    pub fn notes(&self, sys_id: &str) -> Vec<String> {
        let records = self.records();
        records.notes.iter().filter(|note| note.record == sys_id).map(|note| note.text.clone()).collect()
    }

    /// A field of a record.
    pub fn field(&self, sys_id: &str, name: &str) -> String {
        self.records().tickets[sys_id].get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

type Shared = State<Arc<Mutex<Records>>>;
type Asked = Query<HashMap<String, String>>;

/// Who may ask: one user.
fn admitted(headers: &HeaderMap, records: &mut Records) -> bool {
    records.calls += 1;
    let basic = headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, basic).unwrap();
    decoded == format!("{USER}:{PASSWORD}").into_bytes()
}

fn result(value: Value) -> Response {
    Json(json!({"result": value})).into_response()
}

async fn tickets(State(records): Shared, Query(asked): Asked, headers: HeaderMap) -> Response {
    let mut records = records.lock().unwrap();
    if !admitted(&headers, &mut records) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (field, wanted) = asked["sysparm_query"].split_once('=').unwrap();
    assert!(!wanted.contains('^'), "one condition");
    let found = records.tickets.values().filter(|record| record[field] == wanted);
    result(found.map(|record| Value::Object(record.clone())).collect())
}

async fn journal(State(records): Shared, Query(asked): Asked, headers: HeaderMap) -> Response {
    let mut records = records.lock().unwrap();
    if !admitted(&headers, &mut records) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let conditions: Vec<&str> = asked["sysparm_query"].split('^').collect();
    let [of, "element=work_notes", author, like] = conditions[..] else { panic!("{conditions:?}") };
    let (of, like) = (of.strip_prefix("element_id=").unwrap(), like.strip_prefix("valueLIKE").unwrap());
    let author = author.strip_prefix("sys_created_by=").unwrap();
    let found =
        records.notes.iter().filter(|note| note.record == of && note.author == author && note.text.contains(like));
    result(found.map(|_| json!({"sys_id": "0"})).collect())
}

async fn change(
    State(records): Shared,
    Path(sys_id): Path<String>,
    headers: HeaderMap,
    Json(fields): Json<Map<String, Value>>,
) -> Response {
    let fault = {
        let mut records = records.lock().unwrap();
        if !admitted(&headers, &mut records) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let fault = records.faults.pop_front();
        if !matches!(fault, Some(Fault::Failed | Fault::Throttled)) {
            let Some(record) = records.tickets.get_mut(&sys_id) else { return StatusCode::NOT_FOUND.into_response() };
            record.extend(fields.iter().filter(|(name, _)| *name != "work_notes").map(|(n, v)| (n.clone(), v.clone())));
            if let Some(note) = fields.get("work_notes").and_then(Value::as_str) {
                records.notes.push(Note { record: sys_id.clone(), author: USER.to_owned(), text: note.to_owned() });
            }
        }
        fault
    };
    match fault {
        None => result(json!({"sys_id": sys_id})),
        Some(Fault::AppliedAnd500 | Fault::Failed) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Fault::Throttled) => (StatusCode::TOO_MANY_REQUESTS, [("Retry-After", "3")]).into_response(),
        Some(Fault::AppliedAndStalled) => std::future::pending().await,
    }
}
