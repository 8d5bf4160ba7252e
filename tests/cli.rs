//! The command line as a person uses it: demo, run, settings, schemas, exit codes. Needs nothing but the binary.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &str = "canary-client-secret";

fn program(directory: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfa-reset"));
    command.args(arguments).current_dir(directory).env_clear().env("TMPDIR", directory.path()).stdin(Stdio::null());
    command
}

fn run(directory: &TempDir, arguments: &[&str]) -> Output {
    program(directory, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A simulator on a port of its own, killed by its number at the end.
struct Simulator(Child, String);

impl Simulator {
    fn start(directory: &TempDir) -> Self {
        Self::with(directory, &[])
    }

    fn with(directory: &TempDir, arguments: &[&str]) -> Self {
        let mut command = program(directory, &[&["simulator", "--listen", "127.0.0.1:0"][..], arguments].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        Self(child, format!("http://{}", said["address"].as_str().unwrap()))
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn settings(graph: &str) -> Vec<(&'static str, String)> {
    vec![
        ("MFA_RESET_GRAPH__ENDPOINT", graph.to_owned()),
        ("MFA_RESET_GRAPH__AUTHORITY", graph.to_owned()),
        ("MFA_RESET_GRAPH__TENANT_ID", "tenant".to_owned()),
        ("MFA_RESET_GRAPH__CLIENT_ID", "client".to_owned()),
        ("MFA_RESET_GRAPH__CLIENT_SECRET", SECRET.to_owned()),
    ]
}

#[test]
fn the_demo_needs_nothing_and_tells_what_happened_to_whom() {
    let directory = TempDir::new().unwrap();
    let shown = run(&directory, &["demo"]);
    let table = text(&shown.stdout);
    assert!(shown.status.success(), "{table}{}", text(&shown.stderr));
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("INC")).collect();
    assert_eq!(rows.len(), 40);
    let row = |about: &str| rows.iter().find(|row| row.contains(about)).copied().unwrap_or_else(|| panic!("{about}"));
    for (about, outcome, reason) in [
        ("lost phone", "succeeded", "done"),
        ("stubborn default method", "succeeded", "done"),
        ("two phones", "succeeded", "done"),
        ("default is the alternate phone", "succeeded", "done"),
        ("unknown user", "failed", "user_not_found"),
        ("administrator", "denied", "protected_target"),
        ("only eligible for a role", "denied", "protected_target"),
        ("role-assignable group", "denied", "protected_target"),
        ("a type nobody knows", "partial", "unsupported_method"),
        ("malformed", "rejected", "malformed"),
        ("throttled stretch", "succeeded", "done"),
        ("the same ticket again", "succeeded", "done"),
        ("an id used twice", "rejected", "id_reused"),
        ("second reset within the hour", "denied", "recently_reset"),
    ] {
        assert!(row(about).contains(outcome) && row(about).contains(reason), "{}", row(about));
    }
    let (mark, place) = ("ledger   ", table.lines().find(|line| line.starts_with("ledger")).unwrap());
    let url = format!("MFA_RESET_LEDGER__URL=sqlite:{}", place.strip_prefix(mark).unwrap());
    let (name, url) = url.split_once('=').unwrap();
    let verified = program(&directory, &["audit", "verify"]).env(name, url).output().unwrap();
    assert!(text(&verified.stdout).starts_with("ok: "), "{}", text(&verified.stdout));
}

#[test]
fn a_file_is_worked_through_and_the_same_file_again_does_nothing_twice() {
    let directory = TempDir::new().unwrap();
    let simulator = Simulator::start(&directory);
    let line = |id: &str, upn: &str| {
        json!({"id": id, "ticket": {"system": "jira", "number": id}, "target": {"upn": upn}, "profile": "lost-phone",
               "requested_by": "sam@contoso.test"})
    };
    let lines = [line("A-1", "user00001@contoso.test"), line("A-2", "user00002@contoso.test"), json!({"id": "A-3"})];
    std::fs::write(directory.path().join("in"), lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let work = || {
        let mut command = program(&directory, &["run", "in"]);
        let done = command.envs(settings(&simulator.1)).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "a rejected line: {}", text(&done.stderr));
        assert!(!text(&done.stderr).contains(SECRET) && !text(&done.stderr).contains("@contoso.test"));
        let key = |event: Value| (event["id"].to_string(), event["data"]["outcome"].to_string());
        text(&done.stdout).lines().map(|line| key(serde_json::from_str(line).unwrap())).collect::<BTreeSet<_>>()
    };
    let first = work();
    assert_eq!(first.len(), 3);
    assert_eq!(work(), first, "the same results under the same ids");
}

#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    let directory = TempDir::new().unwrap();
    let simulator = Simulator::start(&directory);
    let mut command = program(&directory, &["run", "-"]);
    command.envs(settings(&simulator.1)).stdin(Stdio::piped()).stderr(Stdio::piped());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = command.stdout(full).spawn().unwrap();
    let body = json!({"id": "A-1", "ticket": {"system": "jira", "number": "1"}, "target": {"upn": "user00001@contoso.test"},
                      "profile": "authenticator", "requested_by": "sam"});
    writeln!(child.stdin.take().unwrap(), "{body}").unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("1 or more requests have no result yet"), "{}", text(&done.stderr));
}

#[test]
fn exit_codes_tell_usage_configuration_and_reach_apart() {
    let directory = TempDir::new().unwrap();
    assert_eq!(run(&directory, &["fly"]).status.code(), Some(2));
    let bad = run(&directory, &["worker", "--set", "graph.timeout=soon"]);
    assert_eq!(bad.status.code(), Some(64));
    for key in ["broker.url", "graph.tenant_id", "graph.client_secret", "graph.timeout", "policy.producers"] {
        assert!(text(&bad.stderr).contains(key), "{key} is told at once: {}", text(&bad.stderr));
    }
    // Nobody listens on the discard port of loopback.
    let away = program(&directory, &["run", "in"]).envs(settings("http://127.0.0.1:9")).output();
    std::fs::write(directory.path().join("in"), "").unwrap();
    let away_with_file = program(&directory, &["run", "in"]).envs(settings("http://127.0.0.1:9")).output().unwrap();
    assert_eq!(away.unwrap().status.code(), Some(1), "the file is missing");
    assert_eq!(away_with_file.status.code(), Some(69), "{}", text(&away_with_file.stderr));
    let broker = ["submit", "in", "--set", "broker.url=amqp://u:p@127.0.0.1:9"];
    std::fs::write(directory.path().join("in"), "{}").unwrap();
    assert_eq!(run(&directory, &broker).status.code(), Some(69));
}

#[test]
fn each_credential_signs_in_and_a_refusal_is_told_in_words() {
    let directory = TempDir::new().unwrap();
    let pem = include_str!("graph/keys/pkcs8.pem");
    let certificate = &pem[pem.find("-----BEGIN CERTIFICATE").unwrap()..];
    let tenant = json!({"tenantId": "tenant", "apps": [
        {"clientId": "client", "secret": "right", "certificate": certificate},
        {"clientId": "own", "managedIdentity": "system"}]});
    for (name, text) in [("tenant.json", tenant.to_string()), ("app.pem", pem.to_owned()), ("in", String::new())] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let simulator = Simulator::with(&directory, &["--tenant", "tenant.json"]);
    let signed_in = |more: &[(&str, &str)], flags: &[&str]| {
        let flags = flags.iter().flat_map(|flag| ["--set", flag]);
        let mut command = program(&directory, &["run", "in"]);
        let done = command.envs(settings(&simulator.1)).envs(more.iter().copied()).args(flags).output().unwrap();
        (done.status.code(), text(&done.stderr))
    };
    let (code, told) = signed_in(&[], &[]);
    assert!(code == Some(64) && told.contains("the client secret is wrong") && !told.contains(SECRET), "{told}");
    let by_certificate = ["graph.credential=certificate", "graph.certificate_file=app.pem"];
    let machine = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", simulator.1.as_str());
    let endpoint = format!("{}/msi/token", simulator.1);
    let service = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "h")];
    for (more, flags) in [
        (&[][..], &["graph.client_secret=right"][..]),
        (&[], &by_certificate),
        (&[machine], &["graph.credential=managed-identity", "graph.client_id=own"]),
        (&service, &["graph.credential=managed-identity", "graph.client_id=own"]),
    ] {
        let (code, told) = signed_in(more, flags);
        assert_eq!(code, Some(0), "{flags:?}: {told}");
    }
    let (code, told) = signed_in(&[("AZURE_FEDERATED_TOKEN_FILE", "app.pem")], &["graph.credential=federated"]);
    assert!(code == Some(64) && told.contains("holds no signed token"), "{told}");
    let (code, told) = signed_in(&[machine], &["graph.credential=managed-identity"]);
    assert!(code == Some(64) && told.contains("no such managed identity here"), "{told}");
}

#[test]
fn dead_letters_are_never_settled_by_accident() {
    let directory = TempDir::new().unwrap();
    let code = |arguments: &[&str]| {
        let arguments = [&["dead-letters"], arguments].concat();
        let done = run(&directory, &arguments);
        assert_eq!(text(&done.stdout), "", "{arguments:?}");
        (done.status.code(), text(&done.stderr))
    };
    let by = ["--by", "sam"];
    for wrong in [&["replay"][..], &["discard"], &["replay", "--dry-run"], &["replay", "--all"], &["show"]] {
        assert_eq!(code(wrong).0, Some(2), "{wrong:?}");
    }
    assert_eq!(code(&[&["replay"][..], &by].concat()).0, Some(2), "never everything by default");
    assert_eq!(code(&["discard", "--all", "--by", "a\u{1b}[2J"]).0, Some(2), "no control characters");
    let (unset, said) = code(&["list"]);
    assert!(unset == Some(64) && said.contains("broker.url") && !said.contains("graph"), "{said}");
    let away = ["--set", "broker.url=amqp://u:p@127.0.0.1:9"];
    assert_eq!(code(&[&["list"][..], &away].concat()).0, Some(69));
    // A stray audit trail would be none.
    let (no_key, said) = code(&[&["discard", "--all"][..], &by, &away].concat());
    assert!(no_key == Some(64) && said.contains("audit.signing_key_file"), "{said}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "and nothing is made");
    assert_eq!(code(&[&["discard", "--all", "--dry-run"][..], &away].concat()).0, Some(69));
}

#[test]
fn settings_are_shown_without_their_secrets_and_schemas_are_json() {
    let directory = TempDir::new().unwrap();
    let shown = program(&directory, &["config", "show"]).envs(settings("http://127.0.0.1:9")).output().unwrap();
    let shown = text(&shown.stdout);
    assert!(shown.contains("client_secret") && shown.contains("***") && !shown.contains(SECRET), "{shown}");
    for name in ["request", "result", "delayed", "audit"] {
        let schema: Value = serde_json::from_slice(&run(&directory, &["schema", name]).stdout).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let directory = TempDir::new().unwrap();
    let first = text(&run(&directory, &["man"]).stdout);
    assert!(first.starts_with(".ie") && first.contains(".SH SYNOPSIS") && first.contains("Exit codes"), "{first}");
    assert!(run(&directory, &["man", "pages/man1"]).status.success());
    let page = |name: &str| {
        let page = std::fs::read_to_string(directory.path().join("pages/man1").join(name));
        page.unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert_eq!(page("mfa-reset.1").lines().count(), first.lines().count(), "stdout shows the first page");
    for name in commands(&directory) {
        assert!(
            first.contains(&format!("mfa\\-reset\\-{}(1)", name.replace('-', "\\-"))),
            "{name} is in the first page"
        );
        assert!(page(&format!("mfa-reset-{name}.1")).contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(page("mfa-reset-audit-verify.1").contains("public"), "commands below commands have pages too");
    std::fs::write(directory.path().join("file"), "").unwrap();
    assert_eq!(run(&directory, &["man", "file"]).status.code(), Some(1), "no directory");
}

#[test]
fn a_shell_completes_commands_options_and_words() {
    let directory = TempDir::new().unwrap();
    let script = directory.path().join("completions");
    std::fs::write(&script, run(&directory, &["completions", "bash"]).stdout).unwrap();
    let complete = |line: &[&str]| {
        let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))
                   function=$(complete -p mfa-reset | sed 's/.* -F \\([^ ]*\\).*/\\1/')
                   \"$function\" mfa-reset \"${@: -1}\" \"${@: -2:1}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let done = Command::new("bash").args(["-c", ask, "bash"]).arg(&script).args(line).output().unwrap();
        assert_eq!(text(&done.stderr), "");
        text(&done.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(Command::new("bash").arg("-n").arg(&script).status().unwrap().success(), "it parses");
    assert_eq!(complete(&["mfa-reset", "dead"]), ["dead-letters"]);
    assert_eq!(complete(&["mfa-reset", "schema", "re"]), ["request", "result"]);
    assert_eq!(complete(&["mfa-reset", "submit", "--wa"]), ["--wait"]);
    assert_eq!(complete(&["mfa-reset", "dead-letters", "rep"]), ["replay"]);
    let all = complete(&["mfa-reset", ""]);
    for name in commands(&directory) {
        assert!(all.contains(&name), "{name} is completed");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = text(&run(&directory, &["completions", shell]).stdout);
        assert!(script.contains("dead-letters"), "{shell}");
    }
}

/// The commands, as the short help lists them.
fn commands(directory: &TempDir) -> Vec<String> {
    let help = text(&run(directory, &["-h"]).stdout);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned());
    let names: Vec<String> = names.filter(|name| name != "help").collect();
    assert!(names.len() >= 11, "{names:?}");
    names
}

#[test]
fn health_says_how_the_worker_beside_it_is() {
    let directory = TempDir::new().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Listening everywhere, as in a container, and asked over loopback.
    let listen = format!("admin.listen=0.0.0.0:{port}");
    let health = |more: &[&str]| {
        let done = run(&directory, &[&["health", "--set", &listen], more].concat());
        (done.status.code(), text(&done.stdout))
    };
    let nobody = (Some(1), format!("http://127.0.0.1:{port}/livez: nobody answers\n"));
    assert_eq!(health(&[]), nobody, "and no setting is required");

    // With nothing but a broker that is away, it is alive and not ready.
    let mut command = program(&directory, &["worker", "--set", &listen, "--set", "policy.producers=itsm"]);
    let broker = ("MFA_RESET_BROKER__URL", "amqp://u:p@127.0.0.1:9");
    let worker = command.envs(settings("http://127.0.0.1:9")).envs([broker]).stderr(Stdio::null()).spawn().unwrap();
    let worker = Worker(worker);
    let alive = (Some(0), "200 {\"alive\":true}\n".to_owned());
    let asked = std::iter::repeat_with(|| health(&[])).take(600).find(|told| *told != nobody);
    assert_eq!(asked, Some(alive));
    let (code, told) = health(&["--ready"]);
    assert!(code == Some(1) && told.starts_with("503 {") && told.contains("\"publisher\":false"), "{told}");
    drop(worker);
    assert_eq!(health(&[]), nobody);
    assert_eq!(run(&directory, &["health", "--set", "admin.listen=here"]).status.code(), Some(64));
}

/// A worker, killed by its number at the end.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
