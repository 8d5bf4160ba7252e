//! A Graph call and its reply, free of HTTP, so that a direct request and an item of a `$batch` go the same way.

use axum::http::Method;
use serde_json::{Value, json};

use super::odata;

/// Tells the two versions of the API apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    Beta,
}

impl Version {
    /// Names the version as in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1.0",
            Self::Beta => "beta",
        }
    }
}

/// Holds one call, decoded.
#[derive(Clone, Debug)]
pub struct Call {
    pub version: Version,
    pub method: Method,
    /// As sent, below the version, without the query.
    pub path: String,
    pub segments: Vec<String>,
    pub query: Vec<(String, String)>,
    pub body: Value,
    /// Scheme and host under which the caller reached us; links must lead back there.
    pub base: String,
    pub client_request_id: Option<String>,
    pub traceparent: Option<String>,
    /// The application that calls; empty without a valid token.
    pub app: String,
    /// Whether `ConsistencyLevel: eventual` was sent.
    pub eventual: bool,
    pub at_ms: i64,
    /// The number of the `$batch` it came in.
    pub batch: Option<u64>,
}

impl Call {
    /// Takes path and query apart.
    pub fn aim(&mut self, target: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.path = format!("/{}", path.trim_matches('/'));
        self.segments = odata::segments(path);
        self.query = odata::pairs(query);
    }

    /// Finds a query option, `$select` and the like.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Gives the path as the journal shows it.
    pub fn full_path(&self) -> String {
        format!("/{}{}", self.version.as_str(), self.path)
    }

    /// Starts an `@odata.context`.
    pub fn context(&self, rest: &str) -> String {
        format!("{}/{}/$metadata#{rest}", self.base, self.version.as_str())
    }
}

/// Tells what becomes of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The reply is sent.
    #[default]
    Answer,
    /// The connection is closed instead.
    Close,
    /// Nothing ever comes.
    Stall,
}

/// Holds what a call leads to.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    /// Sent in place of the body.
    pub raw: Option<String>,
    /// What changed, for the journal.
    pub effect: Value,
    pub ending: Ending,
}

impl Reply {
    /// Answers 200 with a body.
    pub fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body), ..Self::default() }
    }

    /// Answers 204.
    pub fn no_content(effect: Value) -> Self {
        Self { status: 204, effect, ..Self::default() }
    }

    /// Answers with Graph's error envelope; its inner part is filled in last.
    pub fn error(status: u16, code: &str, message: impl Into<String>) -> Self {
        let error = json!({"code": code, "message": message.into(), "innerError": {}});
        Self { status, body: Some(json!({ "error": error })), ..Self::default() }
    }

    /// Answers that a directory object is not there.
    pub fn no_object(key: &str) -> Self {
        let message = format!(
            "Resource '{key}' does not exist or one of its queried reference-property objects are not present."
        );
        Self::error(404, "Request_ResourceNotFound", message)
    }

    /// Answers that the path means nothing in this version.
    pub fn no_segment(segment: &str) -> Self {
        Self::error(400, "BadRequest", format!("Resource not found for the segment '{segment}'."))
    }

    /// Answers as the directory does when a permission is missing.
    pub fn denied_by_directory() -> Self {
        Self::error(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
    }

    /// Answers as the authentication service does when a permission is missing.
    pub fn denied_by_authentication() -> Self {
        Self::error(403, "accessDenied", "Request Authorization failed")
    }

    /// Answers that too much was asked.
    pub fn throttled(retry_after: Option<String>) -> Self {
        let inner = json!({"code": "429", "status": "429", "message": "Please retry after"});
        let error = json!({"code": "TooManyRequests", "message": "Please retry again later.", "innerError": inner});
        let headers = retry_after.map(|wait| ("Retry-After", wait)).into_iter().collect();
        Self { status: 429, headers, body: Some(json!({ "error": error })), ..Self::default() }
    }

    /// Finds a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}
