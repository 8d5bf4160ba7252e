//! The users that are drawn: the seed shows every rule on somebody.

use mfa_reset::simulator::Options;
use reqwest::Method;
use serde_json::Value;

use crate::{Graph, contains};

async fn state(graph: &Graph, number: usize) -> Value {
    graph.get(&format!("/_simulator/users/user{number:05}@contoso.test")).await.1
}

fn types(state: &Value) -> Vec<&str> {
    state["methods"].as_array().unwrap().iter().map(|method| method["type"].as_str().unwrap()).collect()
}

async fn refusal(graph: &Graph, number: usize, kind: &str, collection: &str) -> (u16, Value) {
    let state = state(graph, number).await;
    let method = state["methods"].as_array().unwrap().iter().rfind(|method| method["type"] == kind).unwrap();
    let user = state["id"].as_str().unwrap();
    let path = format!("/beta/users/{user}/authentication/{collection}/{}", method["id"].as_str().unwrap());
    graph.call(Method::DELETE, &path, None).await
}

#[tokio::test]
async fn a_few_of_every_five_hundred_are_hard_to_reset() {
    for (seed, base) in [(1, 0), (7, 500)] {
        let graph = Graph::start(Options { users: 1000, seed, ..Options::default() }).await;
        let orphan = refusal(&graph, base + 401, "windows_hello", "windowsHelloForBusinessMethods").await;
        contains(&orphan, "Invalid value for KeyId");
        contains(&refusal(&graph, base + 402, "phone_alternate_mobile", "phoneMethods").await, "current default");
        contains(&refusal(&graph, base + 402, "phone_mobile", "phoneMethods").await, "alternate mobile number");
        let everything = state(&graph, base + 403).await;
        let kinds: std::collections::BTreeSet<&str> = types(&everything).into_iter().collect();
        assert!(kinds.len() >= 16, "{kinds:?}");
        assert!(types(&state(&graph, base + 404).await).contains(&"resource_account_key"));
        let restricted = state(&graph, base + 405).await;
        assert_eq!(restricted["isManagementRestricted"], true);
        let kept = refusal(&graph, base + 406, "microsoft_authenticator", "microsoftAuthenticatorMethods").await;
        contains(&kept, "matches the user's current default");
        assert_eq!(state(&graph, base + 407).await["defaultMethod"], "voiceOffice");
    }
}

#[tokio::test]
async fn settings_of_all_sorts_are_about() {
    let graph = Graph::start(Options { users: 39, ..Options::default() }).await;
    let mut seen = std::collections::BTreeSet::new();
    for number in 1..=39 {
        let state = state(&graph, number).await;
        let mfa = state["perUserMfaState"].as_str().unwrap().to_owned();
        let factor =
            |kind: &&str| kind.starts_with("phone_") || kind.ends_with("_authenticator") || kind.ends_with("_oath");
        assert!(mfa != "enabled" || !types(&state).iter().any(factor), "{number} has a factor: {mfa}");
        seen.insert(mfa);
        seen.insert(format!("system {}", state["systemPreferred"]));
        seen.insert(format!("default {}", !state["defaultMethod"].is_null()));
    }
    for wanted in ["disabled", "enforced", "system true", "system false", "default true"] {
        assert!(seen.contains(wanted), "{wanted} of {seen:?}");
    }
}

#[tokio::test]
async fn a_seed_draws_what_it_always_drew() {
    let graph = Graph::start(Options { users: 7, ..Options::default() }).await;
    for (number, default, methods) in DRAWN {
        let state = state(&graph, number).await;
        let hash = |method: &Value| method["value_hash"].as_str().map_or("-", |hash| &hash[..4]).to_owned();
        let show = |method: &Value| format!("{} {}", method["type"].as_str().unwrap(), hash(method));
        let shown: Vec<String> = state["methods"].as_array().unwrap().iter().skip(1).map(show).collect();
        assert_eq!((state["defaultMethod"].as_str(), shown.join(", ").as_str()), (default, methods), "{number}");
    }
}

/// User, default, and each method with the start of its digest: tests, demo and benchmarks count on them.
const DRAWN: [(usize, Option<&str>, &str); 7] = [
    (1, None, "fido2 911e"),
    (2, Some("push"), "microsoft_authenticator 1246, fido2 911e"),
    (3, Some("push"), "microsoft_authenticator 1246, microsoft_authenticator 1246"),
    (4, Some("push"), "microsoft_authenticator 1246, phone_mobile 10c3, email cf4b, hardware_oath 0a2d"),
    (
        5,
        Some("push"),
        "microsoft_authenticator e712, phone_mobile 82e5, windows_hello 9e27, external ac3f, phone_alternate_mobile f455",
    ),
    (
        6,
        Some("oath"),
        "microsoft_authenticator 1246, phone_mobile 549d, software_oath -, email c8d6, phone_alternate_mobile 1eaf",
    ),
    (
        7,
        Some("sms"),
        "microsoft_authenticator e712, microsoft_authenticator 1246, phone_mobile 7df7, temporary_access_pass -",
    ),
];
