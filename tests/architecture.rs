//! The house keeps its shape: who may import whom, how large files may grow, and a README that says what the code does.
//!
//! `UPDATE_README=1 cargo test --test architecture` writes the README's tables anew.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mfa_reset::domain::reason;
use mfa_reset::metrics::Metrics;

/// A room, and which other rooms it may name.
const ROOMS: [(&str, &[&str]); 20] = [
    ("domain", &[]),
    ("ports.rs", &["domain"]),
    ("reset.rs", &["domain", "ports"]),
    ("reset", &["domain", "ports"]),
    ("adapters/amqp", &["domain", "ports", "trace"]),
    ("adapters/graph", &["domain", "ports", "trace"]),
    ("adapters/ledger", &["domain", "ports"]),
    ("adapters/mod.rs", &["domain", "ports", "trace"]),
    ("adapters/outlet.rs", &["domain"]),
    ("adapters/upkeep.rs", &["domain", "metrics", "admin"]),
    ("drive.rs", &["domain", "ports", "reset", "adapters", "metrics", "trace"]),
    ("worker.rs", &["domain", "ports", "reset", "drive", "adapters", "metrics", "admin"]),
    ("worker", &["domain", "ports", "reset", "drive", "adapters", "metrics", "admin"]),
    ("local.rs", &["domain", "ports", "reset", "drive", "adapters", "metrics"]),
    ("config", &["domain"]),
    ("metrics", &["domain"]),
    ("schema", &["domain"]),
    ("trace.rs", &["domain"]),
    ("trace", &["domain"]),
    ("simulator", &[]),
];

/// What the pure room may not even name.
const IMPURE: [&str; 12] = [
    "async ",
    "tokio",
    "reqwest",
    "lapin",
    "axum",
    "prometheus",
    "sqlx",
    "tracing",
    "fastrand",
    "std::env",
    "std::fs",
    "::now(",
];

/// The code that a reader must trust, and how many lines of it there may be: without tests, comments and blank lines.
/// What only reads, the audit log afterwards or how the ledger is, is not of it.
const TRUSTED: [&str; 8] =
    ["lib.rs", "domain", "ports.rs", "reset.rs", "reset", "worker.rs", "worker", "adapters/ledger"];
const ONLY_READS: [&str; 4] = ["ledger/verify.rs", "ledger/export.rs", "ledger/key.rs", "ledger/inspect.rs"];
/// The aim was 2,500 for one kind of ledger and five profiles; what reviews found about lost answers, frozen processes and
/// people who become administrators meanwhile came to more, and so did a second kind of ledger, messages that kill their
/// workers, and steps that set something. Whoever adds here should take something away.
const MOST_TRUSTED_LINES: usize = 4_800;
/// No file is longer than this, without tests.
const MOST_LINES: usize = 300;

#[test]
fn imports_point_inward() {
    for (room, may) in ROOMS {
        for (path, text) in sources(room) {
            let statements: String = code(&text).lines().filter(|line| !is_comment(line)).collect();
            for named in rooms_named_in(&statements) {
                let own = room.split(['/', '.']).next().unwrap();
                let inside = named == own && !room.starts_with("adapters/");
                assert!(inside || named == "self" || may.contains(&named), "{} names {named}", path.display());
            }
        }
    }
}

/// Every `crate::NAME`, and for adapters `crate::adapters::NAME` as another room unless it is their own.
fn rooms_named_in(text: &str) -> Vec<&str> {
    let word = |rest: &'_ str| rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    text.split("crate::").skip(1).map(|rest| &rest[..word(rest)]).filter(|name| !name.is_empty()).collect()
}

#[test]
fn adapters_do_not_know_each_other() {
    for adapter in ["amqp", "graph", "ledger"] {
        for (path, text) in sources(&format!("adapters/{adapter}")) {
            for other in ["amqp", "graph", "ledger", "upkeep"].into_iter().filter(|other| *other != adapter) {
                let found = text.contains(&format!("adapters::{other}")) || text.contains(&format!("super::{other}::"));
                assert!(!found, "{} names {other}", path.display());
            }
        }
    }
}

#[test]
fn the_domain_decides_and_cannot_act() {
    for (path, text) in sources("domain") {
        for word in IMPURE {
            let found = code(&text).lines().any(|line| !is_comment(line) && line.contains(word));
            assert!(!found, "{} names {word}", path.display());
        }
    }
}

#[test]
fn only_config_reads_the_environment_and_only_the_command_line_knows_anyhow() {
    for (path, text) in sources("") {
        let name = path.display().to_string();
        assert!(!text.contains("std::env::var") || name.contains("/config/"), "{name} reads the environment");
        let may = name.contains("/commands/") || name.ends_with("main.rs");
        assert!(!code(&text).contains("anyhow") || may, "{name} uses anyhow");
    }
}

#[test]
fn files_are_short_and_what_must_be_trusted_is_little() {
    for (path, text) in sources("") {
        let lines = code(&text).lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
    let count = |(path, text): &(PathBuf, String)| {
        if ONLY_READS.iter().any(|file| path.ends_with(file)) {
            return 0;
        }
        code(text).lines().filter(|line| !line.trim().is_empty() && !is_comment(line)).count()
    };
    let rooms = TRUSTED.map(|room| (room, sources(room).iter().map(count).sum::<usize>()));
    let total: usize = rooms.iter().map(|(_, lines)| lines).sum();
    assert!(total <= MOST_TRUSTED_LINES, "{total} lines have to be trusted: {rooms:?}");
}

#[test]
fn the_top_level_holds_what_it_should() {
    let allowed =
        ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "src", "tests", "benches", "deploy", "dashboards"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name.starts_with('.') || name == "target" || allowed.contains(&name.as_str());
        assert!(known, "{name} does not belong here");
    }
}

#[test]
fn the_readme_says_what_the_code_does() {
    let path = root().join("README.md");
    let mut readme = fs::read_to_string(&path).unwrap();
    let written = readme.clone();
    for (name, table) in [
        ("reasons", reasons()),
        ("settings", mfa_reset::config::reference_table()),
        ("metrics", Metrics::new().unwrap().reference_table()),
        ("records", records()),
        ("rooms", rooms()),
    ] {
        let (begin, end) = (format!("<!-- {name}:"), format!("<!-- /{name} -->"));
        let from = readme.find(&begin).expect(name);
        let from = from + readme[from..].find('\n').unwrap() + 1;
        let to = readme.find(&end).expect(name);
        readme.replace_range(from..to, &table);
    }
    #[expect(clippy::disallowed_methods, reason = "a test asks whether to write")]
    if std::env::var("UPDATE_README").is_ok() {
        fs::write(&path, &readme).unwrap();
    } else {
        assert!(readme == written, "run UPDATE_README=1 cargo test --test architecture");
    }
}

fn reasons() -> String {
    let mut table = "| code | outcomes | meaning | again? | what to do |\n|---|---|---|---|---|\n".to_owned();
    for entry in &reason::TABLE {
        let outcomes: Vec<&str> = entry.outcomes.iter().map(|outcome| outcome.name()).collect();
        let again = if entry.retryable { "yes" } else { "no" };
        let (code, outcomes, meaning) = (entry.code, outcomes.join(", "), entry.meaning);
        table += &format!("| `{code}` | {outcomes} | {meaning} | {again} | {} |\n", entry.action);
    }
    table
}

/// Every kind of audit record, and what it tells beside its time, its place in the chain, the actor and the user.
fn records() -> String {
    let schema = mfa_reset::schema::audit();
    let kinds = schema["properties"]["metadata"]["properties"]["event_code"]["enum"].as_array().unwrap();
    let mut table = "| record | written | actor, user | tells besides |\n|---|---|---|---|\n".to_owned();
    for kind in kinds {
        let (written, people) = match kind.as_str().unwrap() {
            "chain_start" => ("when a process opens the ledger to write", "the program, its instance"),
            "intent" => ("before the first call that changes anything", "who asked, the person to be reset"),
            "conclusion" => ("when a job ends", "who asked, the person to be reset"),
            "dead_letter_replayed" => ("before a person sends a dead letter again", "that person, nobody"),
            "dead_letter_discarded" => ("before a person throws a dead letter away", "that person, nobody"),
            other => panic!("say when {other} is written"),
        };
        let cases = schema["allOf"].as_array().unwrap().iter();
        let cases =
            cases.filter(|case| case.pointer("/if/properties/metadata/properties/event_code/const") == Some(kind));
        let told = cases.filter_map(|case| case.pointer("/then/properties/unmapped/properties")?.as_object());
        let told: Vec<String> = told.flat_map(|fields| fields.keys()).map(|field| format!("`{field}`")).collect();
        assert!(!told.is_empty(), "{kind} tells nothing");
        table += &format!("| `{}` | {written} | {people} | {} |\n", kind.as_str().unwrap(), told.join(" "));
    }
    table
}

/// Every room, and which others it may name.
fn rooms() -> String {
    let mut table = "| in `src` | may name |\n|---|---|\n".to_owned();
    for (room, may) in ROOMS {
        let may: Vec<String> = may.iter().map(|room| format!("`{room}`")).collect();
        table +=
            &format!("| `{room}` | {} |\n", if may.is_empty() { "nothing of ours".to_owned() } else { may.join(" ") });
    }
    table
}

/// What every line has, whoever writes it, and what `src/telemetry.rs` adds.
const EVERY_LINE: [&str; 5] = ["timestamp", "level", "target", "message", "trace_id"];

#[test]
fn the_readme_lists_the_fields_that_log_lines_have() {
    let mut used: BTreeSet<String> = EVERY_LINE.map(str::to_owned).into();
    for (path, text) in sources("") {
        for line in logged(code(&text)) {
            for field in line.split(',').map(str::trim).filter(|field| !field.is_empty()) {
                let name = field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']);
                let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
                assert!(name.chars().all(plain), "{}: what field is {field}?", path.display());
                used.insert(name.to_owned());
            }
        }
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split("<!-- fields -->").nth(1).unwrap().split("<!-- /fields -->").next().unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(used, listed);
}

/// Of each line that is logged, the fields as they are written, up to the message. Values lose what stands in brackets,
/// and with it their commas and quotes.
fn logged(text: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let macros = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
    let found = macros.iter().flat_map(|name| text.match_indices(name));
    let found = found.filter(|(at, _)| !text[..*at].ends_with(word));
    let fields = found.map(|(at, name)| {
        let (mut depth, mut fields) = (0, String::new());
        for letter in text[at + name.len()..].chars() {
            match letter {
                '(' | '{' | '[' => depth += 1,
                ')' | '}' | ']' => depth -= 1,
                '"' if depth == 0 => return fields,
                _ if depth == 0 => fields.push(letter),
                _ => {}
            }
        }
        panic!("a line without a message: {fields}");
    });
    fields.collect()
}

#[test]
fn a_field_is_found_however_it_is_written() {
    let text =
        r#"my_warn!(no = 1, ""); warn!(one = %f(a, "b"), ?two, three.four, "five = {}", six); tracing::info!("x")"#;
    assert_eq!(logged(text), ["", "one = %f, ?two, three.four, "]);
}

#[test]
fn the_calls_that_are_counted_are_those_that_are_made() {
    let made = mfa_reset::adapters::graph::Operation::ALL.map(|operation| operation.name());
    assert_eq!(made, mfa_reset::metrics::OPERATIONS);
}

#[test]
fn every_promise_names_tests_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let promises: Vec<&str> = readme.lines().filter(|line| line.starts_with("| G")).collect();
    assert_eq!(promises.len(), 13);
    for promise in promises {
        let shown_by = promise.rsplit('|').nth(1).unwrap();
        let files: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!files.is_empty(), "{promise}");
        for file in files {
            assert!(root().join(file).exists(), "{file} is promised and missing");
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file of a room, with its text.
fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let place = root().join("src").join(room);
    let mut files = Vec::new();
    collect(&place, &mut files);
    assert!(!files.is_empty(), "{} is empty", place.display());
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn collect(place: &Path, files: &mut Vec<PathBuf>) {
    if place.is_dir() {
        fs::read_dir(place).unwrap().for_each(|entry| collect(&entry.unwrap().path(), files));
    } else if place.extension().is_some_and(|extension| extension == "rs") {
        files.push(place.to_owned());
    }
}

/// A file without the tests at its foot.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}
