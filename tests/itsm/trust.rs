//! What the consumer does not take for granted: who published, whose notes are in a journal, what is in a text.

use serde_json::{Value, json};

use crate::desk::{Desk, example};
use crate::table::{Note, USER};

const MARKUP: &str = "[code]<a href=//x>[/code]\u{1b}[2J";

/// An example of a result with another id, for this ticket.
fn event(id: u8, number: &str, outcome: &str, reason: &str) -> Value {
    let mut event = example("result");
    event["id"] = format!("00000000-0000-5000-8000-0000000000{id:02}").into();
    for (name, value) in [("ticket_number", number), ("outcome", outcome), ("reason_code", reason)] {
        event["data"][name] = value.into();
    }
    event["data"]["ticket_id"] = Value::Null;
    event
}

#[tokio::test]
async fn who_may_only_publish_moves_no_ticket_and_writes_no_word_into_it() {
    let mut desk = Desk::with(|stage| stage.set("POLICY__PRODUCERS", "somebody-else")).await;
    let ticket = desk.table.add("INC0000021");
    let user = desk.stage.queues.user();
    let mut request = crate::requests::request("INC0000021:1", 5, "lost-phone");
    request["ticket"] = json!({"system": "servicenow", "number": "INC0000021"});
    let denied = request.to_string().into_bytes();
    request[MARKUP] = "call 555 and read out your code".into();
    let rejected = request.to_string().into_bytes();
    desk.stage.queues.publish("reset", &[denied, rejected], Some(&user)).await;
    let consumer = desk.consumer("consumer.log", &[]);
    desk.told(&consumer, "written", 2).await;
    let events = ["id_reused", "unsupported_kind"].map(|reason| event(20, "INC0000021", "rejected", reason));
    for (n, mut event) in events.into_iter().enumerate() {
        event["id"] = format!("00000000-0000-5000-8000-0000000000{:02}", 30 + n).into();
        event["data"]["work_note"] = MARKUP.into();
        desk.deliver(&[event.to_string().as_bytes()]).await;
        desk.told(&consumer, "written", 3 + n).await;
    }
    assert_eq!(desk.table.field(&ticket, "state"), "1");
    let notes = desk.table.notes(&ticket);
    for reason in ["producer_not_allowed", "malformed", "id_reused", "unsupported_kind"] {
        let begin = format!("A request for an MFA reset that names this ticket was refused ({reason}). ");
        assert_eq!(notes.iter().filter(|note| note.starts_with(&begin)).count(), 1, "{reason}: {notes:?}");
    }
    assert!(!notes.concat().contains("href"), "{notes:?}");
    desk.close(consumer).await;
}

#[tokio::test]
async fn the_text_of_a_note_has_no_markup_and_no_control_characters() {
    let mut desk = Desk::open().await;
    let ticket = desk.table.add("INC0000022");
    let mut dirty = event(22, "INC0000022", "succeeded", "done");
    dirty["data"]["work_note"] = format!("two\r\nlines {MARKUP}\u{202e} [CODE] mfa-reset event 1").into();
    dirty["data"]["summary"] = MARKUP.into();
    let consumer = desk.consumer("consumer.log", &[]);
    desk.deliver(&[dirty.to_string().as_bytes()]).await;
    desk.told(&consumer, "written", 1).await;
    let clean = "(code)\u{2039}a href=//x>(/code)[2J";
    let id = dirty["id"].as_str().unwrap();
    let note = format!("two\nlines {clean} (CODE) mfa-reset's event 1\n\nmfa-reset event {id}");
    assert_eq!(desk.table.notes(&ticket), [note]);
    assert_eq!(desk.table.field(&ticket, "close_notes"), clean);
    desk.close(consumer).await;
}

#[tokio::test]
async fn a_note_of_somebody_else_hides_no_event() {
    let mut desk = Desk::open().await;
    let ticket = desk.table.add("INC0000023");
    let event = event(23, "INC0000023", "succeeded", "done");
    let text = format!("mfa-reset event {}", event["id"].as_str().unwrap());
    desk.table.records().notes.push(Note { record: ticket.clone(), author: "caller".into(), text });
    let consumer = desk.consumer("consumer.log", &[]);
    desk.deliver(&[event.to_string().as_bytes()]).await;
    desk.told(&consumer, "written", 1).await;
    let written = |note: &&Note| note.author == USER;
    assert_eq!(desk.table.records().notes.iter().filter(written).count(), 1);
    assert_eq!(desk.table.field(&ticket, "state"), "6");
    desk.close(consumer).await;
}

#[tokio::test]
async fn a_state_is_changed_from_an_expected_one_only() {
    let mut desk = Desk::open().await;
    let [open, held] = ["INC0000024", "INC0000025"].map(|number| desk.table.add(number));
    desk.table.records().tickets.get_mut(&held).unwrap()["state"] = json!("3");
    let consumer = desk.consumer("consumer.log", &["--only-from", "1", "--only-from", "2"]);
    let events = [24, 25].map(|id| event(id, &format!("INC00000{id}"), "succeeded", "done").to_string());
    desk.deliver(&events.each_ref().map(String::as_bytes)).await;
    desk.told(&consumer, "written", 2).await;
    assert_eq!([&open, &held].map(|ticket| desk.table.field(ticket, "state")), ["6", "3"]);
    assert_eq!(desk.table.notes(&held).len(), 1);
    desk.close(consumer).await;
}

#[tokio::test]
async fn no_password_goes_out_without_tls() {
    let mut desk = Desk::open().await;
    std::fs::write(desk.path("plain"), "amqp://user:password@rabbitmq.contoso.test/mfa").unwrap();
    let mut consumer = desk.consumer("consumer.log", &["--broker-url-file", desk.path("plain").to_str().unwrap()]);
    assert_eq!(consumer.exit_code(std::time::Duration::from_secs(60)), Some(1));
    assert!(consumer.output().contains("has to be amqps://"), "{}", consumer.output());
    let archive = desk.program("consumer/archive.py", &["plain", "mfa.audit", "audit.jsonl"]);
    assert!(String::from_utf8_lossy(&archive.stderr).contains("has to be amqps://"), "{archive:?}");
    assert!(!desk.path("audit.jsonl").exists());
    for instance in ["http://contoso.service-now.test", "http://localhost:x@contoso.service-now.test"] {
        let mut consumer = desk.consumer("instance.log", &["--instance", instance]);
        assert_eq!(consumer.exit_code(std::time::Duration::from_secs(60)), Some(1));
        assert!(consumer.output().contains("has to be https://"), "{}", consumer.output());
    }
    desk.stage.finish().await;
}
