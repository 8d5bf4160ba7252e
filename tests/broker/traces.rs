//! The trace context of a message, by a real broker.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::broker;
use crate::requests::{bodies, request};
use crate::stage::{Stage, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traceparent(properties: &BasicProperties) -> Option<String> {
    let value = properties.headers().as_ref()?.inner().get("traceparent")?;
    Some(value.as_long_string()?.to_string())
}

#[tokio::test]
async fn a_trace_goes_on_to_graph_and_to_the_result_and_a_bad_one_turns_nobody_away() {
    let mut stage = Stage::new(&broker::shared().url).await;
    stage.start_worker().await;
    let user = stage.queues.user();
    for (id, number, said) in [("traced", 5, HEADER), ("mistraced", 6, "00-nonsense")] {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(said.into()));
        let properties = BasicProperties::default().with_user_id(user.as_str().into()).with_headers(headers);
        let bodies = bodies(&[request(id, number, "re-register")]);
        stage.queues.publish_as("reset", &bodies, properties).await;
    }
    until(Duration::from_secs(180), "both results", async || stage.queues.waiting("results").await == 2).await;
    let results = stage.queues.take("results").await;
    let of = |id: &str| results.iter().find(|result| String::from_utf8_lossy(&result.data).contains(id)).unwrap();
    for (id, said) in [("\"traced\"", Some(HEADER)), ("\"mistraced\"", None)] {
        let result = of(id);
        assert!(!result.routing_key.as_str().contains("rejected"), "{id}: {}", result.routing_key);
        assert_eq!(traceparent(&result.properties).as_deref(), said, "{id}");
    }
    let said = stage.simulator.traceparents().await;
    let traces: BTreeSet<&str> = said.iter().map(|said| said.split('-').nth(1).unwrap()).collect();
    let spans: BTreeSet<&str> = said.iter().map(|said| said.split('-').nth(2).unwrap()).collect();
    assert!(traces.len() == 2 && traces.contains(TRACE), "{traces:?}");
    assert_eq!(spans.len(), said.len(), "each call is a span of its own");
    stage.finish().await;
}
