//! A queue of one's own, and the archive: what `deploy/itsm` says about reading results, done as it stands there.

use lapin::options::QueueDeleteOptions;
use reqwest::Method;
use serde_json::{Value, json};

use crate::desk::{Desk, example};
use crate::document::{command, permit, shell};
use crate::publishing::{PASSWORD, api};
use crate::secrets::BROKER_PASSWORD;

const READER: &str = "servicenow-results";
const SAME: (&str, &str) = ("", "");

/// Makes the queue, its binding and its reader as the document says, and gives the name of the queue.
async fn queue_of_ones_own(desk: &Desk) -> String {
    let queues = &desk.stage.queues;
    let own = queues.name("results.servicenow");
    let curl = format!("user = \"{}:{BROKER_PASSWORD}\"\nheader = \"Content-Type: application/json\"\n", queues.user());
    std::fs::write(desk.path("admin.curl"), curl).unwrap();
    for begin in ["curl -fsS -K admin.curl -X PUT", "curl -fsS -K admin.curl -X POST"] {
        shell(&command(queues, begin, SAME), desk.stage.directory.path());
    }
    let admin = queues.user();
    let identity = json!({"password": PASSWORD, "tags": ""}).to_string();
    let (status, said) = api(Method::PUT, (&admin, BROKER_PASSWORD), &format!("users/{READER}"), identity).await;
    assert!(status < 300, "{status} {said}");
    permit(queues, "set_permissions -p mfa servicenow-results ", SAME).await;
    let address = queues.url.replacen("guest:", &format!("{READER}:"), 1).replacen(BROKER_PASSWORD, PASSWORD, 1);
    std::fs::write(desk.path("reader-url"), address).unwrap();
    own
}

#[tokio::test]
async fn a_queue_of_ones_own_gets_what_is_its_own_and_its_reader_reads_nothing_else() {
    let mut desk = Desk::open().await;
    let own = queue_of_ones_own(&desk).await;
    let admin = desk.stage.queues.user();
    let (_, told) = api(Method::GET, (&admin, BROKER_PASSWORD), &format!("queues/%2F/{own}"), String::new()).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["arguments"], json!({"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}));

    let delayed = example("delayed");
    desk.table.add(delayed["data"]["ticket_number"].as_str().unwrap());
    for (key, event) in [
        ("result.rejected.unknown", "result"),
        ("result.succeeded.jira", "result"),
        ("result.delayed.servicenow", "delayed"),
    ] {
        desk.deliver_as(key, &[example(event).to_string().as_bytes()]).await;
    }
    let reader = desk.path("reader-url").to_str().unwrap().to_owned();
    let consumer = desk.consumer("consumer.log", &["--broker-url-file", &reader, "--queue", &own]);
    desk.told(&consumer, "written", 1).await;
    // And what the real worker answers to a real request.
    let mut request = crate::requests::request("INC0000009:1", 4, "lost-phone");
    request["ticket"] = json!({"system": "servicenow", "number": "INC0000009", "id": desk.table.add("INC0000009")});
    desk.stage.queues.publish("reset", &[request.to_string().into_bytes()], Some(&admin)).await;
    desk.told(&consumer, "written", 2).await;
    assert_eq!(desk.stage.queues.waiting("results.servicenow").await, 0, "no other event came");

    the_rest_is_archived(&desk);
    let queue = own.as_str().into();
    desk.stage.queues.channel().await.queue_delete(queue, QueueDeleteOptions::default()).await.unwrap();
    desk.close(consumer).await;
}

/// Everything is in the archive, a line each, and a line that a crash has torn is not; the reader gets none of it.
fn the_rest_is_archived(desk: &Desk) {
    let (all, file) = (desk.stage.queues.name("results"), desk.path("results.jsonl"));
    std::fs::write(&file, "{\"whole\": 1}\n{\"torn").unwrap();
    let archive = |url: &str| desk.program("consumer/archive.py", &[url, &all, "results.jsonl"]);
    let refused = archive("reader-url");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ACCESS_REFUSED"), "{refused:?}");
    for _ in 0..2 {
        let done = archive("broker-url");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let kept = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 5, "{kept}");
        assert_eq!((&lines[0]["whole"], &lines[4]["data"]["ticket_number"]), (&json!(1), &json!("INC0000009")));
    }
}
