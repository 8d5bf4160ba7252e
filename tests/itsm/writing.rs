//! The example consumer: one event makes one note, whatever happens in between.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::desk::{Desk, example};
use crate::stage::until;
use crate::table::Fault;

#[tokio::test]
async fn the_same_event_three_times_makes_one_note_and_one_state() {
    let mut desk = Desk::open().await;
    let ticket = desk.table.add("INC0000001");
    let event = desk.result("INC0000001", &ticket, 2).await;
    let consumer = desk.consumer("consumer.log", &[]);
    desk.deliver(&[&event, &event, &event]).await;
    desk.told(&consumer, "was there", 2).await;
    let notes = desk.table.notes(&ticket);
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(event["data"]["outcome"], "succeeded", "{event}");
    let expected = format!(
        "{}\n\nmfa-reset event {}",
        event["data"]["work_note"].as_str().unwrap(),
        event["id"].as_str().unwrap()
    );
    assert_eq!(notes, [expected]);
    assert_eq!(
        (desk.table.field(&ticket, "state"), desk.table.field(&ticket, "close_notes")),
        ("6".into(), event["data"]["summary"].as_str().unwrap().into())
    );
    desk.close(consumer).await;
}

#[tokio::test]
async fn a_consumer_that_is_killed_between_write_and_acknowledgement_makes_one_note() {
    let mut desk = Desk::open().await;
    let ticket = desk.table.add("INC0000002");
    let event = desk.result("INC0000002", &ticket, 2).await;
    desk.table.records().faults.push_back(Fault::AppliedAndStalled);
    let mut first = desk.consumer("first.log", &[]);
    desk.deliver(&[&event]).await;
    until(Duration::from_secs(60), "the note is written", async || desk.table.notes(&ticket).len() == 1).await;
    let second = desk.consumer("second.log", &[]);
    desk.told(&second, "standing by", 1).await;
    first.kill();
    desk.told(&second, "was there", 1).await;
    assert_eq!(desk.table.notes(&ticket).len(), 1);
    desk.close(second).await;
}

#[tokio::test]
async fn a_lost_answer_and_a_throttled_write_make_one_note() {
    let mut desk = Desk::open().await;
    let ticket = desk.table.add("INC0000003");
    let event = desk.result("INC0000003", &ticket, 3).await;
    desk.table.records().faults.extend([Fault::Throttled, Fault::Failed, Fault::AppliedAnd500]);
    let (consumer, start) = (desk.consumer("consumer.log", &[]), Instant::now());
    desk.deliver(&[&event]).await;
    desk.told(&consumer, "was there", 1).await;
    assert_eq!(desk.table.notes(&ticket).len(), 1);
    assert!(start.elapsed() > Duration::from_secs(3), "not before Retry-After");
    assert!(consumer.output().contains("answers 429: again in 3 s"), "{}", consumer.output());
    desk.close(consumer).await;
}

#[tokio::test]
async fn what_cannot_be_written_is_parked_and_the_rest_goes_on() {
    let mut desk = Desk::open().await;
    let ticket = desk.table.add("INC0000005");
    let event = |id: u8, number: &str, system: &str| {
        let mut event = example("result");
        event["id"] = format!("00000000-0000-5000-8000-0000000000{id:02}").into();
        event["data"]["ticket_number"] = number.into();
        event["data"]["ticket_id"] = Value::Null;
        event["data"]["ticket_system"] = system.into();
        event.to_string().into_bytes()
    };
    let consumer = desk.consumer("consumer.log", &["--give-up-after", "2"]);
    let garbage = b"\xff{".to_vec();
    let injected = event(3, "INC1^ORnumber!=x", "servicenow");
    let events = [
        event(1, "INC0404404", "servicenow"),
        garbage,
        event(2, "DESK-1", "jira"),
        injected,
        event(4, "INC0000005", "servicenow"),
    ];
    desk.deliver(&events.each_ref().map(Vec::as_slice)).await;
    desk.told(&consumer, "parked: ", 4).await;
    desk.told(&consumer, "written", 1).await;
    assert_eq!(desk.table.notes(&ticket).len(), 1);
    assert_eq!(desk.table.field(&ticket, "state"), "2", "partial: a person goes on");

    // A ticket on which every write fails, while all else works.
    desk.table.records().faults.extend([Fault::Failed, Fault::Failed]);
    desk.deliver(&[&event(5, "INC0000005", "servicenow")]).await;
    desk.told(&consumer, "parked: PATCH incident answers 500", 1).await;
    desk.close_with_parked(consumer, 5).await;
}

impl Desk {
    /// Sees what is parked, lets it be taken again once the ticket is there, and closes.
    async fn close_with_parked(self, consumer: crate::process::Process, count: usize) {
        let parked = self.path("parked");
        assert_eq!(std::fs::metadata(&parked).unwrap().permissions().mode() & 0o777, 0o600, "events are about people");
        assert_eq!(std::fs::read_to_string(&parked).unwrap().lines().count(), count);
        let ticket = self.table.add("INC0404404");
        let still = self.path("still-parked");
        self.again(&parked, &["--parked", still.to_str().unwrap()]).await;
        assert_eq!(self.table.notes(&ticket).len(), 1);
        assert_eq!(std::fs::read_to_string(still).unwrap().lines().count(), count - 2);
        self.close(consumer).await;
    }
}

#[tokio::test]
async fn a_delay_is_a_note_and_no_state_and_a_closed_ticket_stays_closed() {
    let mut desk = Desk::open().await;
    let number = example("delayed")["data"]["ticket_number"].as_str().unwrap().to_owned();
    let ticket = desk.table.add(&number);
    let consumer = desk.consumer("consumer.log", &[]);
    desk.deliver(&[example("delayed").to_string().as_bytes()]).await;
    desk.told(&consumer, "written", 1).await;
    assert_eq!((desk.table.notes(&ticket).len(), desk.table.field(&ticket, "state")), (1, "1".to_owned()));
    desk.table.records().tickets.get_mut(&ticket).unwrap()["state"] = json!("7");
    desk.deliver(&[example("result").to_string().as_bytes()]).await;
    desk.told(&consumer, "written", 2).await;
    assert_eq!((desk.table.notes(&ticket).len(), desk.table.field(&ticket, "state")), (2, "7".to_owned()));
    desk.close(consumer).await;
}

#[tokio::test]
async fn a_refused_password_parks_nothing() {
    let mut desk = Desk::open().await;
    desk.table.add(example("result")["data"]["ticket_number"].as_str().unwrap());
    std::fs::write(desk.path("password"), "wrong").unwrap();
    let mut consumer = desk.consumer("consumer.log", &[]);
    desk.deliver(&[example("result").to_string().as_bytes()]).await;
    desk.told(&consumer, "answers 401: again in", 1).await;
    consumer.terminate();
    assert_eq!(consumer.exit_code(Duration::from_secs(20)), Some(0), "it stops while it waits");
    assert!(!desk.path("parked").exists());
    std::fs::write(desk.path("password"), crate::table::PASSWORD).unwrap();
    let consumer = desk.consumer("again.log", &[]);
    desk.told(&consumer, "written", 1).await;
    desk.close(consumer).await;
}
