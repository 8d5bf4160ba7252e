//! Text in, a value or `None` out. What is accepted stands in the table beside the key, so that no parser has to
//! explain itself, and none can quote what it was given.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::profile::Profiles;
use crate::domain::task::{GRANTING, Task};
use crate::domain::{json, steps};

/// A number and a unit: `250ms`, `10s`, `5m`, `1h`, `2d`; or `0`.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// A duration of so many seconds.
pub fn seconds(text: &str, range: RangeInclusive<u64>) -> Option<Duration> {
    let (least, most) = (Duration::from_secs(*range.start()), Duration::from_secs(*range.end()));
    duration(text).filter(|time| (least..=most).contains(time))
}

/// `true` or `false`.
pub fn switch(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// A whole number in a range.
pub fn number(text: &str, range: RangeInclusive<u32>) -> Option<u32> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// How many deliveries are in hand at once: 1 to 1000. The broker takes 0 for no limit.
pub fn prefetch(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number| (1..=1000).contains(number))
}

/// A file, which need not exist yet.
pub fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// A secret of at least one character.
pub fn secret(text: &str) -> Option<SecretString> {
    (!text.is_empty()).then(|| text.into())
}

/// One to 64 letters, digits and some of `.`, `-`, `_`: safe in the name of a queue and in an address.
pub fn word(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// Items between commas; blank ones do not count.
pub fn list(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Names of steps that give access.
pub fn granting(text: &str) -> Option<BTreeSet<String>> {
    let steps = list(text);
    steps.iter().all(|step| GRANTING.contains(&step.as_str())).then_some(steps)
}

/// Profiles beside the built-in ones, as JSON: a list of steps for each name.
pub fn profiles(text: &str) -> Option<Profiles> {
    let mut profiles = Profiles::default();
    let given = if text.is_empty() { Value::Object(Map::new()) } else { json::parse(text.as_bytes()).ok()? };
    for (name, items) in given.as_object()? {
        let items = items.as_array().filter(|items| items.len() <= steps::MOST)?;
        let items = items.iter().map(|item| (item, String::new())).collect();
        // One number for everybody is nobody's wish.
        let tasks = steps::read(items, "").ok().filter(|tasks| !tasks.iter().any(Task::sets_value))?;
        profiles.add(&word(name)?, tasks)?;
    }
    Some(profiles)
}

/// Ids between commas, in lower case.
pub fn ids(text: &str) -> Option<BTreeSet<String>> {
    let items = list(&text.to_lowercase());
    items.iter().all(|item| is_id(item)).then_some(items)
}

/// Ids and bare addresses between commas, in lower case; anything else would protect nobody.
pub fn people(text: &str) -> Option<BTreeSet<String>> {
    let items = list(&text.to_lowercase());
    let address = |item: &str| {
        let bare = !item.contains(|letter: char| letter.is_whitespace() || "<>:,;\"".contains(letter));
        bare && item
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'))
    };
    items.iter().all(|item| is_id(item) || address(item)).then_some(items)
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// An address with one of these schemes and a host.
pub fn address(text: &str, schemes: &[&str]) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (schemes.contains(&url.scheme()) && url.has_host()).then_some(url)
}

/// The root of a web server: no path, query, fragment or user. The closing slash is dropped.
pub fn root(text: &str) -> Option<String> {
    let url = address(text, &["https", "http"])?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    (bare && anonymous).then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// Where a ledger may be: a SQLite file, or a PostgreSQL database whose url says all that matters, so that nothing can
/// point it elsewhere. Off loopback its certificate must be checked.
pub fn ledger(text: &str) -> Option<SecretString> {
    if let Some(file) = text.strip_prefix("sqlite:") {
        return secret(file).and_then(|_| secret(text));
    }
    let url = address(text, &["postgres", "postgresql"])?;
    let known = ["sslmode", "sslrootcert", "sslcert", "sslkey"];
    let modes: Vec<_> = url.query_pairs().filter(|(key, _)| key == "sslmode").map(|(_, mode)| mode).collect();
    let only_known = url.query_pairs().all(|(key, _)| known.contains(&key.as_ref()));
    let safe = is_loopback(&url) || modes == ["verify-full"];
    (only_known && modes.len() <= 1 && url.path().len() > 1 && safe).then(|| text.into())
}

/// Whether an address stays on this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an address is one of a local network: private, or of this link only.
pub fn is_nearby(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_private() || address.is_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let cases = [("0", 0), ("0s", 0), ("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        for text in ["", "10", "s", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "18446744073709551615d", "ten"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_root_has_no_path_and_no_user() {
        assert_eq!(root("https://graph.microsoft.com").as_deref(), Some("https://graph.microsoft.com"));
        assert_eq!(root("http://127.0.0.1:8088/").as_deref(), Some("http://127.0.0.1:8088"));
        for text in
            ["https://graph.microsoft.com/v1.0", "https://x/?a", "https://x/#a", "https://u:p@x", "ftp://x", "x"]
        {
            assert_eq!(root(text), None, "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (text, expected) in [
            ("http://127.8.0.1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("http://127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_ledger_off_loopback_checks_the_certificate() {
        for (text, accepted) in [
            ("sqlite:a.db", true),
            ("sqlite:", false),
            ("postgres://u:p@127.0.0.1:5432/mfa", true),
            ("postgresql://u:p@localhost/mfa?sslmode=disable", true),
            ("postgres://u:p@db.contoso.com/mfa?sslmode=verify-full&sslrootcert=/etc/ca.pem", true),
            ("postgres://u:p@db.contoso.com/mfa", false),
            ("postgres://u:p@db.contoso.com/mfa?sslmode=require", false),
            ("postgres://u:p@db.contoso.com/mfa?sslmode=verify-full&sslmode=disable", false),
            ("postgres://u:p@127.0.0.1/mfa?host=db.contoso.com", false),
            ("postgres:///mfa", false),
            ("postgres://u:p@127.0.0.1", false),
            ("mysql://u:p@127.0.0.1/mfa", false),
        ] {
            assert_eq!(ledger(text).is_some(), accepted, "{text}");
        }
    }

    #[test]
    fn ids_are_object_ids() {
        assert!(
            ids("88D8E3E3-8f55-4a1e-953a-9b9898b8876b, ").unwrap().contains("88d8e3e3-8f55-4a1e-953a-9b9898b8876b")
        );
        assert_eq!(ids("Global Administrator"), None);
        assert!(ids("").unwrap().is_empty());
    }
}
