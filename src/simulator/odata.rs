//! The little OData that the calls need: decoding, `$select`, `$filter` with `eq`, pages.
//!
//! What it does not know it refuses, so that a caller's mistake shows.

use serde_json::{Map, Value, json};

use super::call::{Call, Reply};

/// Undoes percent-encoding; in a query `+` is a blank.
pub fn decode(text: &str, plus_is_blank: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], pair) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if plus_is_blank => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes everything but unreserved characters.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Splits a path; `users('key')` is another way to write `users/key`.
pub fn segments(path: &str) -> Vec<String> {
    let mut out = Vec::new();
    for segment in path.trim_matches('/').split('/').map(|raw| decode(raw, false)) {
        match segment.strip_suffix("')").and_then(|open| open.split_once("('")) {
            Some((name, key)) => out.extend([name.to_owned(), key.replace("''", "'")]),
            None => out.push(segment),
        }
    }
    out
}

/// Splits a query string or a form.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let split = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, true), decode(value, true))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

/// Reads `property eq 'value'` and `property/any(x:x eq 'value')`.
pub fn equals(filter: &str) -> Option<(String, String)> {
    let (left, right) = filter.trim().split_once(" eq ")?;
    let (property, right) = match left.split_once("/any(") {
        Some((property, variable)) => {
            let (one, other) = variable.split_once(':')?;
            (one.trim() == other.trim()).then_some((property, right.trim().strip_suffix(')')?))?
        }
        None => (left, right),
    };
    let quoted = right.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    let bare = quoted.replace("''", "");
    (!bare.contains('\'')).then(|| (property.trim().to_owned(), quoted.replace("''", "'")))
}

/// Answers a filter that is not understood.
pub fn unsupported_filter() -> Reply {
    Reply::error(
        400,
        "Request_UnsupportedQuery",
        "Unsupported or invalid query filter clause specified for the resource.",
    )
}

/// Lists the names in `$select`; nothing when all is wanted.
pub fn selected(call: &Call) -> Option<Vec<&str>> {
    call.option("$select").map(|names| names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
}

/// Keeps the annotations and what was asked for.
pub fn select(object: &Value, names: Option<&[&str]>) -> Value {
    let Some(names) = names else { return object.clone() };
    let keep = |key: &str| key.starts_with('@') || names.iter().any(|name| name.eq_ignore_ascii_case(key));
    let fields = object.as_object().into_iter().flatten();
    Value::Object(fields.filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Answers one page of a list, with a link to the next.
pub fn page(call: &Call, items: &[Value], context: &str, default_size: usize) -> Reply {
    let size = match call.option("$top").map(str::parse::<usize>) {
        None => default_size,
        Some(Ok(size)) if (1..=999).contains(&size) => size,
        Some(_) => {
            return Reply::error(
                400,
                "Request_BadRequest",
                "Invalid page size specified. Must be between 1 and 999 inclusive.",
            );
        }
    };
    let start = match call.option("$skiptoken").map(unmask) {
        None => 0,
        Some(Some(start)) if start <= items.len() => start,
        Some(_) => {
            return Reply::error(
                400,
                "Directory_ExpiredPageToken",
                "The specified page token value has expired and can no longer be included in your request.",
            );
        }
    };
    let end = items.len().min(start + size);
    let mut body = Map::new();
    body.insert("@odata.context".into(), json!(call.context(context)));
    if start == 0 && call.eventual && call.option("$count") == Some("true") {
        body.insert("@odata.count".into(), json!(items.len()));
    }
    if end < items.len() {
        body.insert("@odata.nextLink".into(), json!(next_link(call, end)));
    }
    body.insert("value".into(), json!(items[start..end]));
    Reply::ok(Value::Object(body))
}

fn next_link(call: &Call, start: usize) -> String {
    let kept = call.query.iter().filter(|(key, _)| key != "$skiptoken");
    let mut query: Vec<String> = kept.map(|(key, value)| format!("{key}={}", encode(value))).collect();
    query.push(format!("$skiptoken=RFNwdA-{:08x}", start ^ MASK));
    format!("{}{}?{}", call.base, call.full_path(), query.join("&"))
}

// Keeps a caller from counting in page tokens.
const MASK: usize = 0x5eed_cafe;

fn unmask(token: &str) -> Option<usize> {
    usize::from_str_radix(token.strip_prefix("RFNwdA-")?, 16).ok().map(|masked| masked ^ MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_filters() {
        let pair = |left: &str, right: &str| Some((left.to_owned(), right.to_owned()));
        for (filter, expected) in [
            ("mail eq 'a@b'", pair("mail", "a@b")),
            ("mail eq 'o''neil@b'", pair("mail", "o'neil@b")),
            ("proxyAddresses/any(p:p eq 'smtp:a@b')", pair("proxyAddresses", "smtp:a@b")),
            ("proxyAddresses/any(p:q eq 'smtp:a@b')", None),
            ("mail eq 'o'neil@b'", None),
            ("mail eq a@b", None),
            ("startswith(mail,'a')", None),
        ] {
            assert_eq!(equals(filter), expected, "{filter}");
        }
    }

    #[test]
    fn splits_paths() {
        assert_eq!(segments("/users/a%23EXT%23%40b/x"), ["users", "a#EXT#@b", "x"]);
        assert_eq!(segments("/users('o''neil@b')/x"), ["users", "o'neil@b", "x"]);
        assert_eq!(pairs("$a=1+2&b=%2B"), [("$a".into(), "1 2".into()), ("b".into(), "+".into())]);
        assert_eq!(decode("100%", false), "100%");
    }
}
