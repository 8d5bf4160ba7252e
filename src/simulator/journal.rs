//! The journal: every call in the order in which it was carried out. It never holds a query, a token or a phone number.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::operation::Operation;

/// Records one call.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    pub n: u64,
    /// When the call came in, in milliseconds since 1970 by the real clock.
    pub at_ms: i64,
    /// When it had been carried out, by the same clock.
    pub done_ms: i64,
    pub method: String,
    pub path: String,
    /// 0 when nothing was answered.
    pub status: u16,
    pub client_request_id: Option<String>,
    /// The trace context, as it came.
    pub traceparent: Option<String>,
    /// The object id.
    pub user: Option<String>,
    pub effect: Value,
    pub operation: Operation,
    pub retry_after: Option<String>,
    /// Items of one `$batch` share a number, with the batch itself.
    pub batch: Option<u64>,
}

/// Holds the entries.
#[derive(Default)]
pub struct Journal(Vec<Entry>);

impl Journal {
    /// Writes an entry; its number is given here.
    pub fn write(&mut self, mut entry: Entry) {
        entry.n = self.0.len() as u64 + 1;
        self.0.push(entry);
    }

    /// Reads the entries after number `n`.
    pub fn since(&self, n: u64) -> &[Entry] {
        let start = usize::try_from(n).map_or(self.0.len(), |n| n.min(self.0.len()));
        &self.0[start..]
    }

    /// Counts: `requests` and `throttled` are Graph calls, an item of a `$batch` being one and the batch itself none.
    pub fn stats(&self) -> Value {
        let mut operations: BTreeMap<Operation, (u64, u64)> = BTreeMap::new();
        for entry in &self.0 {
            let (requests, throttled) = operations.entry(entry.operation).or_default();
            *requests += 1;
            *throttled += u64::from(entry.status == 429);
        }
        let calls = || operations.iter().filter(|(name, _)| !matches!(name, Operation::Token | Operation::Batch));
        let per_operation: Vec<(Value, Value)> = operations
            .iter()
            .map(|(name, (requests, throttled))| (json!(name), json!({"requests": requests, "throttled": throttled})))
            .collect();
        let named = per_operation.into_iter().filter_map(|(name, counts)| Some((name.as_str()?.to_owned(), counts)));
        json!({
            "requests": calls().map(|(_, (requests, _))| requests).sum::<u64>(),
            "throttled": calls().map(|(_, (_, throttled))| throttled).sum::<u64>(),
            "operations": named.collect::<serde_json::Map<_, _>>(),
        })
    }
}
