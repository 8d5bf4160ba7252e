//! `mfa-reset audit verify|export|search`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write, stderr, stdin};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::adapters::ledger::{PublicKey, Verified, export, verify};
use crate::cli;
use crate::config::Config;

/// Carries it out; `false` where a record is bad.
pub async fn run(config: &Config, command: &cli::Audit, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    match command {
        cli::Audit::Verify { file, checkpoints, public_key } => {
            let log: Box<dyn BufRead + Send> = match file {
                None => Box::new(std::io::Cursor::new(lines(config, None).await?)),
                Some(path) if path.as_os_str() == "-" => Box::new(BufReader::new(stdin())),
                Some(path) => Box::new(open(path)?),
            };
            let mut pinned = checkpoints.as_deref().map(open).transpose()?;
            let pinned = pinned.as_mut().map(|file| file as &mut dyn BufRead);
            let keys = keys(config, public_key)?;
            let (words, good) = match verify(log, pinned, &keys) {
                Ok(found) => {
                    stderr().lock().write_all(notes(&found, &keys).as_bytes())?;
                    (format!("ok: {} records, {} chains", found.records, found.chains), true)
                }
                Err(bad) => (format!("first bad record: {bad}"), false),
            };
            writeln!(out, "{words}")?;
            Ok(good)
        }
        cli::Audit::Export { ticket } => {
            export(config.ledger_url.expose_secret(), out, ticket.as_deref()).await?;
            Ok(true)
        }
        cli::Audit::Search(search) => {
            let about = search.ticket.as_deref().or(search.user.as_deref());
            let found = lines(config, about).await?;
            for line in found.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let record: Value = serde_json::from_slice(line).context("the ledger holds a line that is not JSON")?;
                if matches(&record, search) {
                    writeln!(out, "{}", in_words(&record))?;
                }
            }
            Ok(true)
        }
    }
}

async fn lines(config: &Config, about: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let mut lines = Vec::new();
    export(config.ledger_url.expose_secret(), &mut lines, about).await?;
    Ok(lines)
}

fn open(path: impl AsRef<Path>) -> anyhow::Result<BufReader<File>> {
    let path = path.as_ref();
    Ok(BufReader::new(File::open(path).with_context(|| format!("{} cannot be read", path.display()))?))
}

/// The keys that were named, else the one beside the signing key; without any, a checkpoint proves itself only by the key
/// that it names.
fn keys(config: &Config, named: &[PathBuf]) -> anyhow::Result<Vec<PublicKey>> {
    let mut beside = config.signing_key_file.clone().into_os_string();
    beside.push(".pub");
    let beside = PathBuf::from(beside);
    if named.is_empty() && beside.exists() {
        return Ok(vec![PublicKey::load(&beside).context("audit.signing_key_file")?]);
    }
    named.iter().map(|path| PublicKey::load(path).context("--public-key")).collect()
}

/// What a good log leaves unproved, a line each.
fn notes(found: &Verified, keys: &[PublicKey]) -> String {
    let mut notes = String::new();
    if found.uncovered > 0 {
        notes += &format!("note: no checkpoint covers the last {} records yet\n", found.uncovered);
    }
    if keys.is_empty() {
        notes += "note: the checkpoints were verified against the key they name themselves: \
                  name one with --public-key\n";
    }
    notes
}

fn matches(record: &Value, search: &cli::Search) -> bool {
    let is = |pointer: &str, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| record.pointer(pointer).and_then(Value::as_str) == Some(wanted))
    };
    let time = time_of(record);
    record.get("class_uid").is_some()
        && is("/unmapped/ticket/number", &search.ticket)
        && is("/user/uid", &search.user)
        && is("/actor/user/uid", &search.requested_by)
        && is("/unmapped/outcome", &search.outcome)
        && search.since.is_none_or(|since| time >= since)
        && search.until.is_none_or(|until| time < until)
}

fn time_of(record: &Value) -> Timestamp {
    record["time"].as_i64().and_then(|time| Timestamp::from_millisecond(time).ok()).unwrap_or_default()
}

fn in_words(record: &Value) -> String {
    let word = |pointer: &str| plain(record.pointer(pointer).and_then(Value::as_str).unwrap_or("-"));
    [
        time_of(record).to_string(),
        word("/metadata/event_code"),
        word("/unmapped/ticket/system"),
        word("/unmapped/ticket/number"),
        word("/actor/user/uid"),
        word("/user/uid"),
        word("/unmapped/outcome"),
        word("/status_code"),
    ]
    .join("\t")
}

/// A value that stays in its column: nothing in it ends the line, moves the cursor or turns the text round.
pub(super) fn plain(value: &str) -> String {
    value.chars().map(|c| if matches!(c, '\'' | '"') { c.to_string() } else { c.escape_debug().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_proved_is_noted() {
        let key = PublicKey::parse(&"0".repeat(64)).unwrap();
        let found = Verified { uncovered: 2, ..Verified::default() };
        assert_eq!(notes(&Verified::default(), std::slice::from_ref(&key)), "");
        assert_eq!(notes(&found, &[key]), "note: no checkpoint covers the last 2 records yet\n");
        let unpinned = "the checkpoints were verified against the key they name themselves: name one with --public-key";
        assert_eq!(notes(&Verified::default(), &[]), format!("note: {unpinned}\n"));
    }

    #[test]
    fn a_value_cannot_forge_a_row() {
        let record = serde_json::json!({
            "time": 0, "metadata": {"event_code": "conclusion"}, "user": {"uid": "Zoë O'Neil\u{202e}\\"},
            "unmapped": {"ticket": {"system": "a\tb", "number": "INC1\n2026\tconclusion\u{1b}[1A\u{85}"}},
        });
        let row = "1970-01-01T00:00:00Z\tconclusion\ta\\tb\tINC1\\n2026\\tconclusion\\u{1b}[1A\\u{85}\t-\t\
                   Zoë O'Neil\\u{202e}\\\\\t-\t-";
        assert_eq!(in_words(&record), row);
    }
}
