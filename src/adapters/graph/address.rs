//! Addresses of calls: everything that comes from outside is percent-encoded, and a link is only followed home.

use reqwest::Url;

use super::Graph;
use crate::domain::method::Api;

/// Percent-encodes a path segment or a value of a query. A bare `#` would cut the address short.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The text as an `OData` string literal, percent-encoded.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", encode(&text.replace('\'', "''")))
}

impl Graph {
    /// The address of a v1.0 call; `path` and `query` are encoded already.
    pub(super) fn url(&self, path: &str, query: Option<&str>) -> Url {
        self.url_of(Api::V1, path, query)
    }

    /// The address of a call of this version.
    pub(super) fn url_of(&self, api: Api, path: &str, query: Option<&str>) -> Url {
        let version = match api {
            Api::V1 => "v1.0",
            Api::Beta => "beta",
        };
        let mut url = self.endpoint.clone();
        url.set_path(&format!("/{version}/{path}"));
        url.set_query(query);
        url
    }

    /// A link that Graph gave, if it leads to Graph: the token must not go anywhere else.
    pub(super) fn own_link(&self, link: &str) -> Option<Url> {
        let url = Url::parse(link).ok()?;
        let plain = url.username().is_empty() && url.password().is_none();
        (plain && url.origin() == self.endpoint.origin()).then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_ends_a_segment_or_a_literal() {
        assert_eq!(encode("ada_home.org#EXT#@contoso.com"), "ada_home.org%23EXT%23@contoso.com");
        assert_eq!(encode("a/../b?c&d%e"), "a%2F..%2Fb%3Fc%26d%25e");
        assert_eq!(encode("zoë+1@x.y"), "zo%C3%AB%2B1@x.y");
        assert_eq!(literal("o'brien@x.y"), "'o%27%27brien@x.y'");
    }
}
