//! A dashboard as its file has it.

use std::path::PathBuf;

use serde_json::Value;

/// The dashboards.
pub const FILES: [&str; 3] = ["service-desk.json", "incident.json", "worker.json"];

/// One dashboard.
pub struct Board {
    pub file: &'static str,
    pub json: Value,
}

/// A file beside the dashboards.
pub fn read(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where a file beside the dashboards is.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(name)
}

/// All of them.
pub fn all() -> Vec<Board> {
    let board = |file| Board { file, json: serde_json::from_str(&read(file)).expect(file) };
    FILES.map(board).into()
}

/// The text of a field.
pub fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list in a field; empty where there is none.
pub fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Board {
    /// Every panel that shows something: all but the headings of rows.
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json, "/panels").iter().filter(|panel| panel["type"] != "row")
    }

    /// Every query of every panel, with the panel's name and what the legend says.
    pub fn queries(&self) -> Vec<Query> {
        let queries = |panel| {
            let name = format!("{}: {}", self.file, text(panel, "/title"));
            list(panel, "/targets").iter().map(move |target| Query {
                panel: name.clone(),
                expr: text(target, "/expr").to_owned(),
                legend: text(target, "/legendFormat").to_owned(),
            })
        };
        self.panels().flat_map(queries).collect()
    }

    /// The variables.
    pub fn variables(&self) -> &[Value] {
        list(&self.json, "/templating/list")
    }
}

/// What a panel asks of Prometheus.
pub struct Query {
    pub panel: String,
    pub expr: String,
    pub legend: String,
}

/// Every metric with its matchers that an expression asks for.
pub fn selectors(expr: &str) -> Vec<&str> {
    const OURS: [&str; 4] = ["mfa_reset_", "rabbitmq_", "process_", "job:"];
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(skip) = expr[at..].find(is_word) {
        let from = at + skip;
        let word = expr[from..].find(|c| !is_word(c)).map_or(expr.len(), |end| from + end);
        let matchers = expr[word..].starts_with('{').then(|| expr[word..].find('}').expect("a closing brace") + 1);
        at = word + matchers.unwrap_or(0);
        if OURS.iter().any(|ours| expr[from..].starts_with(ours)) {
            found.push(&expr[from..at]);
        }
    }
    found
}

#[test]
fn selectors_are_found_with_their_matchers() {
    let expr = "sum by (job) (rate(mfa_reset_a{x=~\"job:b|process_c\"}[5m])) > 2 * job:mfa_reset_d offset 1h";
    assert_eq!(selectors(expr), ["mfa_reset_a{x=~\"job:b|process_c\"}", "job:mfa_reset_d"]);
}
