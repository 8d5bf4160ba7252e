//! The commands of `deploy/itsm/README.md`, with the names of a test in place of those of the document.

use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::json;

use crate::broker;
use crate::desk::text;
use crate::publishing::api;
use crate::queues::Queues;
use crate::secrets::BROKER_PASSWORD;

/// The one command that begins so, with the names of this test, and one more replaced.
pub fn command(queues: &Queues, begin: &str, rename: (&str, &str)) -> String {
    let (all, begin) = (text("README.md").replace("\\\n    ", ""), format!("$ {begin}"));
    let found: Vec<&str> = all.lines().filter(|line| line.starts_with(&begin)).collect();
    assert_eq!(found.len(), 1, "{begin}: {found:?}");
    let line = found[0].trim_start_matches("$ ").split("    #").next().unwrap().to_owned();
    [
        ("https://rabbitmq.contoso.com:15671", broker::shared().management().as_str()),
        ("/mfa/", "/%2F/"),
        ("-p mfa ", "-p / "),
        ("mfa.", &queues.name("")),
        ("mfa\\.", &format!("{}\\.", queues.prefix)),
        rename,
    ]
    .iter()
    .fold(line, |line, (from, to)| line.replace(from, to))
}

/// The arguments of the one line of `rabbitmqctl` that begins so.
pub fn control(queues: &Queues, begin: &str, rename: (&str, &str)) -> Vec<String> {
    let line = command(queues, &format!("rabbitmqctl {begin}"), rename);
    let split = shell(&format!("printf '%s\\n' {}", line.trim_start_matches("rabbitmqctl ")), Path::new("."));
    split.lines().map(str::to_owned).collect()
}

/// Permits a user what such a line says. The broker may be one whose node we cannot command.
pub async fn permit(queues: &Queues, begin: &str, rename: (&str, &str)) {
    let words = control(queues, begin, rename);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["set_permissions", "-p", "/", user, configure, write, read] = words[..] else { panic!("{words:?}") };
    let may = json!({"configure": configure, "write": write, "read": read}).to_string();
    let (status, said) =
        api(Method::PUT, (&queues.user(), BROKER_PASSWORD), &format!("permissions/%2F/{user}"), may).await;
    assert!(status < 300, "{status} {said}");
}

/// What a line of the shell prints; it has to go well.
pub fn shell(line: &str, place: &Path) -> String {
    let done = Command::new("bash").args(["-c", line]).current_dir(place).output().unwrap();
    let noted = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {noted}");
    String::from_utf8(done.stdout).unwrap()
}
