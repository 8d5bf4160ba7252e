//! Requests as a ticketing system writes them, and a producer that shares no code with the worker.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::queues::Queues;

/// The profiles that the tests ask for, one after the other.
pub const PROFILES: [&str; 5] = ["lost-phone", "re-register", "authenticator", "all", "compromised"];

/// Whether a profile may remove this type: written by hand, so that it can disagree with the program.
pub fn allowed(profile: &str, kind: &str) -> bool {
    match profile {
        "authenticator" => kind == "microsoft_authenticator",
        "re-register" => {
            kind.starts_with("phone_") || matches!(kind, "microsoft_authenticator" | "software_oath" | "hardware_oath")
        }
        "lost-phone" => {
            !matches!(kind, "phone_office" | "hardware_oath") && (kind == "fido2" || allowed("re-register", kind))
        }
        "all" | "compromised" => kind != "password",
        _ => false,
    }
}

/// The name of the simulator's user with this number.
pub fn upn(user: usize) -> String {
    format!("user{user:05}@contoso.test")
}

/// A good request with this id for this user.
pub fn request(id: &str, user: usize, profile: &str) -> Value {
    json!({
        "id": id,
        "ticket": {"system": "servicenow", "number": format!("INC{user:07}")},
        "target": {"upn": upn(user)},
        "profile": profile,
        "requested_by": "sam@contoso.test",
        "requested_at": jiff::Timestamp::now().to_string(),
    })
}

/// Requests for these users, one each, with all profiles in turn; the id names user and profile.
pub fn mixed(users: std::ops::RangeInclusive<usize>) -> Vec<Value> {
    let profiles = PROFILES.iter().cycle();
    users.zip(profiles).map(|(user, profile)| request(&format!("INC{user:07}:{profile}"), user, profile)).collect()
}

/// The ids of these requests.
pub fn ids(requests: &[Value]) -> Vec<String> {
    requests.iter().map(|request| request["id"].as_str().unwrap().to_owned()).collect()
}

/// The bodies of these requests.
pub fn bodies(requests: &[Value]) -> Vec<Vec<u8>> {
    requests.iter().map(|request| request.to_string().into_bytes()).collect()
}

/// Publishes with the foreign client: confirms, `mandatory`, `user_id`.
pub fn publish_foreign(queues: &Queues, requests: &[Value]) {
    let python = std::env::var("MFA_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/publish.py");
    let mut client = Command::new(python)
        .args([script, &queues.url, &queues.name("requests"), "reset"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = requests.iter().map(|request| format!("{request}\n")).collect();
    client.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let done = client.wait_with_output().unwrap();
    assert!(done.status.success(), "the foreign client failed: does MFA_TEST_PYTHON name a Python that has pika?");
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), requests.len().to_string(), "requests published");
}
