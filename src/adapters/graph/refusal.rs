//! Why there is no token: the table of the identity service's errors, and what a person is told about them.
//!
//! Errors go by `error` and `error_codes`. Their description is never read nor shown: it may name people.

use std::time::Duration;

use serde_json::Value;

use super::answer::Answer;
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;

use Class::{Lasting, Passing};

/// Whether time heals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Somebody has to act.
    Lasting,
    /// The other side is away or busy.
    Passing,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) class: Class,
    /// What is wrong, in words of our own.
    pub(super) words: &'static str,
    /// `AADSTS` and a number, an error of OAuth, an HTTP status, or the setting at fault.
    pub(super) code: String,
    /// How long the other side asked to wait.
    pub(super) after: Option<Duration>,
}

const AWAY: &str = "the identity service is away or busy";
const REFUSED: &str = "the identity service refuses the credential";
const CLOCK: &str = "the assertion is out of time: set this machine's clock right";
const SCOPE: &str = "graph.endpoint is not accepted as a scope: is it Graph's root?";
const CLOUD: &str = "the app or the tenant belongs to another cloud: see graph.cloud";
const POLICY: &str = "a Conditional Access policy of the tenant blocks the app";
const BUG: &str = "the request for a token is not well formed: a fault of this program, or of a proxy";

/// What each code of Entra means for an application that asks for itself, from Microsoft's list of error codes
/// (`reference-error-codes`) and, for 7000214, 70002x and 70021x, from reports of those who met them.
pub(super) const CODES: [(u64, Class, &str); 42] = [
    (7_000_215, Lasting, "the client secret is wrong: its value is wanted, not its id"),
    (7_000_222, Lasting, "the client secret has expired: make a new one"),
    (7_000_218, Lasting, "neither secret nor assertion arrived: a proxy may have cut the request"),
    (7_000_214, Lasting, "the certificate has been revoked"),
    (700_027, Lasting, "the certificate is not registered with the app, has expired there, or its signature is bad"),
    (900_384, Lasting, "the assertion's signature is bad"),
    (700_030, Lasting, "the subject of the certificate is not authorised"),
    (700_021, Lasting, "the assertion is not that of graph.client_id"),
    (700_023, Lasting, "the assertion is made out to another tenant or cloud: see graph.authority and graph.tenant_id"),
    (700_024, Lasting, CLOCK),
    (500_133, Lasting, CLOCK),
    (50_012, Lasting, "the assertion is not accepted"),
    (50_013, Lasting, "the assertion is not accepted, or out of time: look at this machine's clock"),
    (50_027, Lasting, "the assertion is no valid JWT"),
    (50_048, Lasting, "the subject of the assertion does not match its issuer"),
    (700_211, Lasting, "no federated credential of the app has the issuer of the token"),
    (700_212, Lasting, "no federated credential of the app has the audience of the token"),
    (700_213, Lasting, "no federated credential of the app has the subject of the token"),
    (700_229, Lasting, "the federated token is of the wrong kind"),
    (700_016, Lasting, "the app is not in this tenant: graph.client_id or graph.tenant_id is wrong"),
    (7_000_112, Lasting, "the app is disabled"),
    (90_002, Lasting, "the tenant is not found, or is in another cloud: see graph.tenant_id and graph.cloud"),
    (90_038, Lasting, CLOUD),
    (900_382, Lasting, CLOUD),
    (900_432, Lasting, CLOUD),
    (500_011, Lasting, "Graph is not known in this tenant: see graph.endpoint and graph.cloud"),
    (70_011, Lasting, SCOPE),
    (28_002, Lasting, SCOPE),
    (53_003, Lasting, POLICY),
    (530_032, Lasting, POLICY),
    (50_196, Lasting, "tokens are asked for in a loop: do other programs use this app?"),
    (9_002_313, Lasting, BUG),
    (900_144, Lasting, BUG),
    (90_014, Lasting, BUG),
    (50_033, Passing, AWAY),
    (50_087, Passing, AWAY),
    (90_006, Passing, AWAY),
    (90_012, Passing, AWAY),
    (90_024, Passing, AWAY),
    (90_033, Passing, AWAY),
    (90_055, Passing, "the identity service throttles the tenant"),
    (90_090, Passing, AWAY),
];

/// The errors of OAuth, for answers whose codes are not known.
pub(super) const ERRORS: [(&str, Class, &str); 7] = [
    ("invalid_client", Lasting, REFUSED),
    ("unauthorized_client", Lasting, "the app may not ask for tokens this way"),
    ("invalid_request", Lasting, BUG),
    ("unsupported_grant_type", Lasting, BUG),
    ("invalid_scope", Lasting, SCOPE),
    ("invalid_resource", Lasting, "Graph is not known in this tenant: see graph.endpoint and graph.cloud"),
    ("temporarily_unavailable", Passing, AWAY),
];

impl Refusal {
    /// Something that only a person can put right.
    pub(super) fn lasting(words: &'static str, code: impl Into<String>) -> Self {
        Self { class: Lasting, words, code: code.into(), after: None }
    }

    /// Something that passes.
    pub(super) fn passing(words: &'static str, code: impl Into<String>) -> Self {
        Self { class: Passing, words, code: code.into(), after: None }
    }

    /// The token endpoint cannot be reached, or breaks off.
    pub(super) fn away(code: impl Into<String>) -> Self {
        Self::passing(AWAY, code)
    }

    /// What an answer of the token endpoint means that grants nothing. A code that passes outweighs the others.
    pub(super) fn of(answer: &Answer) -> Self {
        let field = |name: &str| answer.body.as_ref().and_then(|body| body.get(name));
        let error = field("error").and_then(Value::as_str).unwrap_or_default();
        let codes = field("error_codes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64);
        let codes: Vec<u64> = codes.collect();
        let known = |code: &u64| CODES.iter().find(|(known, _, _)| known == code);
        let passes = codes.iter().filter_map(known).find(|(_, class, _)| *class == Passing);
        let row = passes.or_else(|| codes.iter().find_map(known));
        let (class, words) = match (row, ERRORS.iter().find(|(known, _, _)| *known == error)) {
            (_, Some((_, Passing, words))) => (Passing, *words),
            (Some((_, class, words)), _) => (*class, *words),
            (None, Some((_, class, words))) => (*class, *words),
            (None, None) => (Lasting, REFUSED),
        };
        let busy = class == Lasting && matches!(answer.status, 200..=299 | 408 | 429 | 500..=599);
        let (class, words) = if busy { (Passing, AWAY) } else { (class, words) };
        let code = row.map(|(code, _, _)| *code).or(codes.first().copied());
        Self { class, words, code: name(code, error, answer.status), after: answer.retry_after }
    }

    /// What it means for every job.
    pub(super) const fn fault(&self) -> Fault {
        match self.class {
            Lasting => Fault::Unavailable { reason: Reason::TokenRefused },
            Passing => Fault::Unavailable { reason: Reason::GraphUnavailable },
        }
    }

    /// Whether the other is no news after this one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.class == other.class && (self.class == Passing || (self.words, &self.code) == (other.words, &other.code))
    }

    /// Whether it is worth another try at once.
    pub(super) fn may_be_over(&self) -> bool {
        self.class == Passing && self.after.is_none()
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.words, self.code)
    }
}

/// The shortest name of an error. What is not a plain word is not repeated: anybody can answer.
fn name(code: Option<u64>, error: &str, status: u16) -> String {
    let plain = (1..=40).contains(&error.len()) && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match code {
        Some(code) => format!("AADSTS{code}"),
        None if plain => error.to_owned(),
        None => format!("HTTP {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    fn refusal(status: u16, body: Value) -> Refusal {
        Refusal::of(&Answer { status, retry_after: None, date: None, body: Some(body) })
    }

    fn check(status: u16, body: Value, class: Class, code: &str) {
        let refusal = refusal(status, body.clone());
        assert_eq!((refusal.class, refusal.code.as_str()), (class, code), "{status} {body}");
    }

    #[test]
    fn every_code_has_its_class_and_its_words() {
        for (code, class, words) in CODES {
            let body = json!({"error": "invalid_client", "error_codes": [code], "error_description": "for Ada"});
            let told = refusal(if class == Passing { 400 } else { 401 }, body);
            assert_eq!((told.class, told.words), (class, words), "{code}");
            assert_eq!(told.to_string(), format!("{words} (AADSTS{code})"));
        }
        let distinct: HashSet<u64> = CODES.iter().map(|(code, _, _)| *code).collect();
        assert_eq!(distinct.len(), CODES.len());
    }

    #[test]
    fn what_passes_outweighs_the_rest() {
        check(400, json!({"error": "invalid_grant", "error_codes": [90_055]}), Passing, "AADSTS90055");
        check(400, json!({"error": "invalid_client", "error_codes": [7_000_215, 90_033]}), Passing, "AADSTS90033");
        check(400, json!({"error": "temporarily_unavailable", "error_codes": [7_000_215]}), Passing, "AADSTS7000215");
        check(503, json!({"error": "invalid_client", "error_codes": [7_000_215]}), Passing, "AADSTS7000215");
        check(429, json!({}), Passing, "HTTP 429");
        check(200, json!({"access_token": "t"}), Passing, "HTTP 200");
        check(200, json!({"access_token": "", "expires_in": 3599}), Passing, "HTTP 200");
    }

    #[test]
    fn without_a_known_code_the_error_decides_and_only_plain_words_are_repeated() {
        check(400, json!({"error": "invalid_request"}), Lasting, "invalid_request");
        check(401, json!({"error": "invalid_client", "error_codes": [1, 7_000_222]}), Lasting, "AADSTS7000222");
        check(401, json!({"error": "invalid_client", "error_codes": [123]}), Lasting, "AADSTS123");
        check(400, json!({"error": "ada@contoso.com"}), Lasting, "HTTP 400");
        check(400, json!({"error": {"code": "x"}, "error_codes": "x"}), Lasting, "HTTP 400");
        check(400, json!("<html>"), Lasting, "HTTP 400");
        check(302, json!({}), Lasting, "HTTP 302");
    }

    #[test]
    fn the_same_refusal_is_no_news() {
        let expired = refusal(401, json!({"error": "invalid_client", "error_codes": [7_000_222]}));
        assert!(expired.is_like(&expired.clone()) && Refusal::away("timeout").is_like(&Refusal::away("HTTP 503")));
        assert!(!expired.is_like(&Refusal::away("timeout")));
        assert!(!expired.is_like(&refusal(401, json!({"error": "invalid_client", "error_codes": [7_000_215]}))));
    }
}
