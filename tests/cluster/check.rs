//! `mfa-reset check` against ledgers in PostgreSQL: what it says of the database, whatever else is away.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::postgres::Postgres;
use crate::process::free_port;
use crate::secrets::{CANARIES, DATABASE_PASSWORD};

const WELL: [(&str, &str); 5] = [
    ("ledger.reach", "ok"),
    ("ledger.schema", "ok"),
    ("ledger.write", "ok"),
    ("ledger.durable", "ok"),
    ("ledger.clock", "ok"),
];

/// Runs the program on this ledger, with neither broker nor Graph.
fn run(directory: &Path, ledger: &str, arguments: &[&str]) -> Output {
    let nobody = || format!("127.0.0.1:{}", free_port());
    let graph = format!("http://{}", nobody());
    let settings = [
        ("BROKER__URL", format!("amqp://{}/", nobody())),
        ("GRAPH__ENDPOINT", graph.clone()),
        ("GRAPH__AUTHORITY", graph),
        ("GRAPH__TENANT_ID", "tenant".into()),
        ("GRAPH__CLIENT_ID", "app".into()),
        ("GRAPH__CLIENT_SECRET", "none".into()),
        ("POLICY__PRODUCERS", "itsm".into()),
        ("LEDGER__URL", ledger.to_owned()),
    ];
    let settings = settings.map(|(key, value)| (format!("MFA_RESET_{key}"), value));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfa-reset"));
    command.args(arguments).env_clear().envs(settings).current_dir(directory).stdin(Stdio::null());
    command.output().unwrap()
}

/// Every line of the ledger is well but this one, which fails and says this of how to mend it.
fn assert_ledger(directory: &Path, ledger: &str, broken: Option<(&str, &str)>) {
    let done = run(directory, ledger, &["check", "--json"]);
    let text = String::from_utf8(done.stdout).unwrap();
    for (what, words) in CANARIES {
        assert!(!text.contains(words), "check shows {what}");
    }
    let document: Value = serde_json::from_str(&text).unwrap();
    let lines: Vec<&Value> = document["checks"].as_array().unwrap().iter().collect();
    let of_ledger = |line: &&&Value| line["check"].as_str().unwrap().starts_with("ledger.");
    let found = lines.iter().filter(of_ledger).map(|line| (&line["check"], &line["status"]));
    let found: Vec<(&str, &str)> =
        found.map(|(name, status)| (name.as_str().unwrap(), status.as_str().unwrap())).collect();
    let status = |name| if broken.is_some_and(|(broken, _)| broken == name) { "fail" } else { "ok" };
    let expected = match broken {
        Some(("ledger.reach", _)) => vec![("ledger.reach", "fail")],
        _ => WELL.iter().map(|(name, _)| (*name, status(*name))).collect(),
    };
    assert_eq!(found, expected, "{text}");
    if let Some((name, mend)) = broken {
        let line = lines.iter().find(|line| line["check"] == name).unwrap();
        assert!(line["mend"].as_str().unwrap().contains(mend), "{line}");
    }
}

#[tokio::test]
async fn check_names_what_is_wrong_with_a_database() {
    let (postgres, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
    let (address, here) = (postgres.address(), directory.path());
    let url = postgres.url(&address);
    let as_weak = url.replace("//mfa:", "//weak:");
    postgres.change("postgres", "CREATE ROLE weak LOGIN PASSWORD 'canary-database-password-5d20'").await;
    assert!(as_weak.contains(DATABASE_PASSWORD));
    // Before there is anything.
    assert_ledger(here, &url, None);
    assert_ledger(here, &as_weak, Some(("ledger.write", "CREATE on its schema")));
    // It makes the tables before it finds that nobody signs it in.
    assert!(!run(here, &url, &["run", "-"]).status.success());
    assert_ledger(here, &url, None);
    assert_ledger(here, &as_weak, Some(("ledger.write", "UPDATE on jobs")));
    assert_ledger(here, &url.replace(DATABASE_PASSWORD, "wrong"), Some(("ledger.reach", "user and password")));
    let nowhere = postgres.url(&format!("127.0.0.1:{}", free_port()));
    assert_ledger(here, &nowhere, Some(("ledger.reach", "see that the database runs")));
    let newer = "INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time \
                 FROM _sqlx_migrations LIMIT 1";
    postgres.change("postgres", newer).await;
    assert_ledger(here, &url, Some(("ledger.schema", "install the program")));
    postgres.change("postgres", "DELETE FROM _sqlx_migrations WHERE version = 99").await;
    postgres.change("postgres", "ALTER ROLE mfa SET default_transaction_read_only = on").await;
    assert_ledger(here, &url, Some(("ledger.write", "name the primary")));
}
