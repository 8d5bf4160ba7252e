//! JSON Schemas (2020-12).
/// a
pub fn request() -> serde_json::Value {
    serde_json::json!({})
}
/// a
pub fn result() -> serde_json::Value {
    serde_json::json!({})
}
/// a
pub fn delayed() -> serde_json::Value {
    serde_json::json!({})
}
/// a
pub fn audit() -> serde_json::Value {
    serde_json::json!({})
}
