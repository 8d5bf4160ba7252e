//! Every way to publish that `deploy/itsm` shows, as it stands there, until the worker has answered.

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::broker;
use crate::desk::{file, python, text};
use crate::document;
use crate::queues::Queues;
use crate::secrets::BROKER_PASSWORD;
use crate::stage::{Stage, until};

pub const PASSWORD: &str = "canary-secret-of-a-publisher";

/// A call of the management API: the status, and the answer as text.
pub async fn api(method: Method, user: (&str, &str), path: &str, body: String) -> (u16, String) {
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    let url = format!("{}/api/{path}", broker::shared().management());
    let call = client.request(method, url).basic_auth(user.0, Some(user.1));
    let answer = call.header("Content-Type", "application/json").body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A worker, and a broker user that may do what the document says that a publisher needs, and nothing else.
async fn stage_with(publisher: &str) -> Stage {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.set("POLICY__PRODUCERS", publisher);
    stage.start_worker().await;
    let (admin, user) = (stage.queues.user(), publisher.to_owned());
    let admin = (admin.as_str(), BROKER_PASSWORD);
    let tags = document::control(&stage.queues, "set_user_tags servicenow ", ("servicenow", publisher));
    let identity = json!({"password": PASSWORD, "tags": tags.last()});
    let (status, said) = api(Method::PUT, admin, &format!("users/{user}"), identity.to_string()).await;
    assert!(status < 300, "{status} {said}");
    document::permit(&stage.queues, "set_permissions -p mfa servicenow ", ("servicenow", publisher)).await;
    stage
}

/// Takes the one result that there is, and looks that the request was carried out as it was meant.
async fn result(queues: &mut Queues, id: &str) -> Value {
    let mut taken = Vec::new();
    until(std::time::Duration::from_secs(60), "there is a result", async || {
        taken.extend(queues.take("results").await);
        !taken.is_empty()
    })
    .await;
    let event: Value = serde_json::from_slice(&taken[0].data).unwrap();
    assert_eq!((taken.len(), &event["data"]["request_id"]), (1, &id.into()), "{event}");
    let outcome = event["data"]["outcome"].as_str().unwrap();
    assert!(["succeeded", "nothing_to_do", "partial"].contains(&outcome), "{event}");
    event
}

/// The text with the smart values of Jira filled in, as its documents describe them.
fn rendered(template: &str, values: &[(&str, &str)]) -> String {
    let filled = values.iter().fold(template.to_owned(), |text, (name, value)| {
        let quoted = Value::from(*value).to_string();
        text.replace(&format!("{{{{{name}}}}}"), value).replace(&format!("{{{{{name}.asJsonString}}}}"), &quoted)
    });
    assert!(!filled.contains("{{"), "a smart value is left: {filled}");
    filled
}

#[tokio::test]
async fn jira_publishes_over_http() {
    let mut stage = stage_with("jira").await;
    let request = rendered(
        &text("publish/jira-request.txt"),
        &[
            ("issue.key", "DESK-7"),
            ("issue.id", "10042"),
            ("issue.url", "https://contoso.atlassian.net/browse/DESK-7"),
            ("issue.reporter.emailAddress", "user00001@contoso.test"),
            ("issue.assignee.emailAddress", "sam@contoso.test"),
            ("issue.summary", "she says \"it's gone\" \\ {and} so\non"),
        ],
    );
    let body = rendered(&text("publish/jira-body.txt"), &[("issue.key", "DESK-7"), ("request", &request)]);
    let path = format!("exchanges/%2F/{}/publish", stage.queues.name("requests"));
    let publish = async |body: String| api(Method::POST, ("jira", PASSWORD), &path, body).await;

    assert_eq!(publish(body.clone()).await, (200, json!({"routed": true}).to_string()));
    let first = result(&mut stage.queues, "DESK-7:1").await;
    // Who did not see the answer asks again, and hears the same result under the same id.
    assert_eq!(publish(body.clone()).await.1, json!({"routed": true}).to_string());
    assert_eq!(result(&mut stage.queues, "DESK-7:1").await, first);

    let lost = body.replace("\"routing_key\": \"reset\"", "\"routing_key\": \"rest\"");
    assert_eq!(publish(lost).await, (200, json!({"routed": false}).to_string()), "nobody has it, and 200 all the same");
    let (status, said) = publish(body.replace("\"user_id\": \"jira\"", "\"user_id\": \"guest\"")).await;
    assert!(status == 400 && said.contains("user_id"), "nobody speaks for others: {status} {said}");
    stage.finish().await;
}

/// What the stub of ServiceNow is to be, with one thing changed.
fn settings(prefix: &str, summary: &str, lane: Option<&str>, changed: (&str, &str)) -> String {
    const API: &str = "https://rabbitmq.contoso.com:15671";
    let mut all = json!({
        "prefix": prefix, "lane": lane, "api": [API, broker::shared().management()],
        "properties": {
            "mfa_reset.api": API, "mfa_reset.vhost": "/",
            "mfa_reset.user": "servicenow", "mfa_reset.auth_profile": "5e1f",
        },
        "profiles": {"5e1f": format!("servicenow:{PASSWORD}")},
        "ticket": {
            "number": "INC0012345", "sys_id": "9d385017c611228701d22104cc95c371", "short_description": summary,
            "caller": "user00002@contoso.test", "assignee": "sam@contoso.test",
        },
    });
    *all.pointer_mut(changed.0).unwrap() = changed.1.into();
    all.to_string()
}

/// Lets the script ask, and gives whether it was content and what it complained of.
fn asks(settings: String) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/itsm/servicenow.js");
    let node = Command::new("node").arg(script).arg(file("publish/servicenow.js")).arg(settings).output();
    let done = node.expect("the script of ServiceNow needs node to run");
    (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[tokio::test]
async fn servicenow_publishes_over_http() {
    let mut stage = stage_with("servicenow").await;
    let prefix = stage.queues.prefix.clone();
    let asked_by = ("/ticket/assignee", "sam@contoso.test");
    let good = asks(settings(&prefix, "phone \"lost\" for ${good}", None, asked_by));
    assert!(good.0, "{}", good.1);
    for (lane, changed, complaint) in [
        (Some("rest"), asked_by, "was not taken: 200 {\"routed\":false}"),
        (None, ("/ticket/assignee", ""), "assigned to nobody"),
        (None, ("/properties/mfa_reset.api", "http://rabbitmq.contoso.com:15672"), "has to be https://"),
    ] {
        let (content, said) = asks(settings(&prefix, "phone lost", lane, changed));
        assert!(!content && said.contains(complaint), "{said}");
    }

    let event = result(&mut stage.queues, "INC0012345:1").await;
    assert_eq!(event["data"]["ticket_id"], "9d385017c611228701d22104cc95c371");
    let audit = stage.command(&["audit", "export", "--ticket", "INC0012345"]);
    assert!(
        String::from_utf8_lossy(&audit.stdout).contains(r#"phone \"lost\" for ${good}"#),
        "the text came as it was"
    );
    stage.finish().await;
}

#[tokio::test]
async fn anybody_publishes_over_amqp() {
    let mut stage = stage_with("anybody").await;
    let address = stage.queues.url.replacen("guest:", "anybody:", 1).replacen(BROKER_PASSWORD, PASSWORD, 1);
    std::fs::write(stage.directory.path().join("url"), address).unwrap();
    let publish = |lane: &str, exchange: &str| {
        let request = crate::requests::request("OPS-1", 3, "lost-phone").to_string();
        let mut script = Command::new(python());
        script.arg(file("publish/publish.py")).arg(stage.directory.path().join("url")).args([lane, exchange]);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // What refuses at once may not have read it.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), request.as_bytes());
        child.wait_with_output().unwrap()
    };
    let stored = publish("tickets", &stage.queues.name("requests"));
    assert_eq!(String::from_utf8_lossy(&stored.stdout), "stored: OPS-1\n");
    assert!(!publish("tickets", "mfa.nowhere").status.success(), "what is not stored is an error");
    std::fs::write(stage.directory.path().join("url"), "amqp://anybody:x@rabbitmq.contoso.test/mfa").unwrap();
    let refused = publish("tickets", "mfa.requests");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("has to be amqps://"),
        "no password without TLS: {refused:?}"
    );
    result(&mut stage.queues, "OPS-1").await;
    stage.finish().await;
}
