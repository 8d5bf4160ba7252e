//! Dead letters as people and programs read them. Everything in them comes from strangers: nothing of it reaches a
//! terminal but letters, digits and signs.

use serde_json::{Value, json};

use crate::adapters::amqp::Letter;
use crate::commands::audit::plain;

/// How much of an id the table shows.
const SHORT: usize = 16;

/// What stands over the columns of [`row`].
pub(super) const HEAD: &str =
    "ID                SINCE                 REASON              LANE     TICKET                    DEFERRED  DETAIL";

/// A line of the table.
pub(super) fn row(letter: &Letter) -> String {
    let word = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), plain);
    let ticket = match (&letter.ticket_system, &letter.ticket_number) {
        (None, None) => "-".to_owned(),
        (system, number) => format!("{} {}", word(system), word(number)),
    };
    let since = letter.since().map_or("-".to_owned(), |since| format!("{since:.0}"));
    format!(
        "{:SHORT$}  {since:20}  {:18}  {:7}  {ticket:24}  {:8}  {}",
        &letter.id[..SHORT.min(letter.id.len())],
        plain(&letter.reason),
        letter.envelope.lane.name(),
        letter.envelope.deferral,
        word(&letter.detail),
    )
}

/// The same for programs, in one line.
pub(super) fn line(letter: &Letter) -> String {
    ascii(&summary(letter).to_string())
}

/// All of it.
pub(super) fn all(letter: &Letter, copies: usize) -> String {
    let mut shown = summary(letter);
    shown["copies"] = copies.into();
    shown["cannot_be_replayed"] = letter.obstacle.into();
    shown["message"] = letter.message.clone();
    let mut text = format!("{}\n\nbody, {} bytes:\n", ascii(&format!("{shown:#}")), letter.body.len());
    for line in letter.body.split(|byte| *byte == b'\n') {
        for chunk in line.utf8_chunks() {
            text += &plain(chunk.valid());
            text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        text.push('\n');
    }
    text
}

fn summary(letter: &Letter) -> Value {
    let envelope = &letter.envelope;
    json!({
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "died_at": letter.died_at,
        "first_seen": envelope.first_seen,
        "lane": envelope.lane,
        "deferrals": envelope.deferral,
        "ticket_system": letter.ticket_system,
        "ticket_number": letter.ticket_number,
        "request_id": letter.request_id,
        "message_id": envelope.message_id,
        "producer": envelope.producer,
        "bytes": letter.body.len(),
    })
}

/// JSON that says the same in plain ASCII: what moves a cursor or turns a text round is written as a number.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '\n' | ' '..='~' => text.push(letter),
            _ => text.extend(letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::request::{Envelope, Lane};

    const EVIL: &str = "\u{1b}[2J\u{9b}1A\u{7f}\u{202e}\r\n\t\u{1f600}é";

    fn evil() -> Letter {
        let evil = || Some(EVIL.to_owned());
        Letter {
            id: "abcdef0123456789abcdef".into(),
            reason: EVIL.into(),
            detail: evil(),
            died_at: None,
            envelope: Envelope { message_id: evil(), producer: evil(), ..Envelope::bare(Lane::Batch) },
            request_id: evil(),
            ticket_system: evil(),
            ticket_number: evil(),
            body: [EVIL.as_bytes(), b"\xff\"a\\"].concat(),
            message: json!({"headers": {EVIL: EVIL}}),
            obstacle: None,
        }
    }

    #[track_caller]
    fn check(text: &str, lines: usize) {
        let bad = |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202e}');
        assert_eq!(text.chars().find(bad), None, "{text:?}");
        assert_eq!(text.lines().count(), lines, "{text}");
    }

    #[test]
    fn nothing_in_a_letter_attacks_the_terminal() {
        check(&row(&evil()), 1);
        check(&line(&evil()), 1);
        assert_eq!(serde_json::from_str::<Value>(&line(&evil())).unwrap()["detail"], EVIL);
        let all = all(&evil(), 2);
        check(&all, all.lines().count());
        assert!(all.ends_with("\\r\n\\t\u{1f600}é\\xff\"a\\\\\n"), "{all}");
    }

    #[test]
    fn a_row_keeps_its_columns() {
        let plain = Letter {
            reason: "id_reused".into(),
            detail: None,
            ticket_system: Some("jira".into()),
            ticket_number: None,
            died_at: Some("2026-11-21T09:15:07Z".parse().unwrap()),
            ..evil()
        };
        let (row, at) = (row(&plain), |word: &str| HEAD.find(word).unwrap());
        assert!(row[at("REASON")..].starts_with("id_reused ") && row[at("SINCE")..].starts_with("2026-11-21T"));
        assert!(row[at("TICKET")..].starts_with("jira - ") && row[at("DETAIL")..].starts_with('-'), "{row}");
    }
}
