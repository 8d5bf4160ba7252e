//! The AMQP room against a real RabbitMQ: what the library and the broker do, beyond what their documentation says.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the rules of the library; a test stops at the first surprise"
)]

#[allow(dead_code, reason = "shared with the black-box tests")]
#[path = "broker/broker.rs"]
mod broker;
#[allow(dead_code, reason = "shared with the black-box tests")]
#[path = "broker/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the black-box tests")]
#[path = "broker/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "shared with the black-box tests")]
#[path = "broker/queues.rs"]
mod queues;
#[allow(dead_code, reason = "shared with the black-box tests")]
#[path = "broker/secrets.rs"]
mod secrets;

use std::time::Duration;

use jiff::Timestamp;
use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use mfa_reset::adapters::amqp::{
    Client, Delivery, Inbox, Incoming, Outgoing, PublishError, Session, SessionError, Settings, Submission,
};
use mfa_reset::domain::request::{Envelope, Lane};
use queues::Queues;
use secrets::BROKER_PASSWORD;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

fn settings(queues: &Queues) -> Settings {
    Settings {
        url: queues.url.clone().into(),
        prefix: queues.prefix.clone(),
        declare: true,
        ca_file: None,
        client_cert_file: None,
        client_key_file: None,
        prefetch_tickets: 4,
        prefetch_batch: 4,
    }
}

async fn open(queues: &Queues) -> (Session, Inbox) {
    Session::open(&settings(queues), CancellationToken::new()).await.unwrap()
}

async fn delivery(inbox: &mut UnboundedReceiver<Incoming>) -> Delivery {
    match timeout(SOON, inbox.recv()).await.expect("something arrives").unwrap() {
        Incoming::Delivery(delivery) => *delivery,
        Incoming::Ended(why) => panic!("the session ended: {why}"),
    }
}

async fn ended(inbox: &mut UnboundedReceiver<Incoming>) -> String {
    loop {
        if let Incoming::Ended(why) = timeout(SOON, inbox.recv()).await.expect("the lane ends").unwrap() {
            return why;
        }
    }
}

/// Declares a queue before the session does, with arguments of the test's own.
async fn queue(queues: &mut Queues, exchange: &str, name: &str, key: &str, arguments: &[(&str, AMQPValue)]) {
    let channel = queues.channel().await;
    let (exchange, name) = (queues.name(exchange), queues.name(name));
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, none()).await.unwrap();
    let mut table = none();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for (key, value) in arguments {
        table.insert((*key).into(), value.clone());
    }
    channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), table).await.unwrap();
    let bind = QueueBindOptions::default();
    channel.queue_bind(name.as_str().into(), exchange.as_str().into(), key.into(), bind, none()).await.unwrap();
}

async fn delete(channel: &Channel, name: String) {
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
}

fn audit() -> Outgoing {
    Outgoing::audit(&json!({"metadata": {"uid": "7"}}))
}

#[tokio::test]
async fn the_topology_is_declared_once_and_what_is_missing_is_named() {
    let mut queues = Queues::new(&broker::shared().url);
    let only_looks = Settings { declare: false, ..settings(&queues) };
    let Err(SessionError::Configuration(message)) = Session::open(&only_looks, CancellationToken::new()).await else {
        panic!("there is nothing yet");
    };
    assert!(message.contains(&queues.name("retry.batch.3600")) && message.contains("exchange"), "{message}");

    open(&queues).await.0.close().await;
    open(&queues).await.0.close().await;
    let looked = Session::open(&only_looks, CancellationToken::new()).await;
    looked.expect("all is there").0.close().await;

    delete(&queues.channel().await, queues.name("audit")).await;
    let Err(SessionError::Configuration(message)) = Session::open(&only_looks, CancellationToken::new()).await else {
        panic!("a queue is missing");
    };
    assert!(message.contains(&queues.name("audit")) && !message.contains("retry"), "{message}");
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_unroutable_and_one_that_a_full_queue_refuses_is_refused() {
    let mut queues = Queues::new(&broker::shared().url);
    let full =
        [("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    queue(&mut queues, "audit", "audit", "#", &full).await;
    let (session, _inbox) = open(&queues).await;
    let publisher = session.publisher();
    let mut answer = Ok(());
    for _ in 0..50 {
        answer = publisher.publish(&audit()).await;
        if answer.is_err() {
            break;
        }
    }
    assert_eq!(answer, Err(PublishError::Refused));

    let lost_way = Outgoing::retry(b"x", &envelope(), Duration::from_secs(7), Timestamp::UNIX_EPOCH, 1);
    let sent = (0..40).map(|_| publisher.publish(&lost_way));
    for answer in futures_util::future::join_all(sent).await {
        assert_eq!(answer, Err(PublishError::Unroutable));
    }
    delete(&queues.channel().await, queues.name("audit")).await;
    assert_eq!(publisher.publish(&audit()).await, Err(PublishError::Unroutable));
    assert!(!session.token().is_cancelled(), "{:?}", session.why());
    session.close().await;
}

fn envelope() -> Envelope {
    Envelope {
        lane: Lane::Batch,
        message_id: Some("m".into()),
        correlation_id: Some("c".into()),
        content_type: Some("application/json".into()),
        producer: Some("servicenow".into()),
        first_seen: None,
        deferral: 0,
        replayed: false,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}

#[tokio::test]
async fn a_deferred_copy_comes_back_through_its_lane_with_all_it_carries() {
    let mut queues = Queues::new(&broker::shared().url);
    let brief = [
        ("x-message-ttl", AMQPValue::LongInt(300)),
        ("x-dead-letter-exchange", AMQPValue::LongString(queues.name("requests").into())),
        ("x-dead-letter-strategy", AMQPValue::LongString("at-least-once".into())),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    queue(&mut queues, "retry", "retry.batch.10", "batch.10", &brief).await;
    let (session, mut inbox) = open(&queues).await;
    session.consume(Lane::Tickets).await.unwrap();
    session.consume(Lane::Batch).await.unwrap();
    let first_seen: Timestamp = "2026-11-21T09:15:07.25Z".parse().unwrap();
    let mut current = envelope();
    for deferral in 1..=3 {
        let copy = Outgoing::retry(b"{}", &current, Duration::from_secs(10), first_seen, deferral);
        session.publisher().publish(&copy).await.unwrap();
        let delivery = delivery(&mut inbox.batch).await;
        assert_eq!(delivery.body, b"{}");
        assert_eq!(delivery.envelope, Envelope { first_seen: Some(first_seen), deferral, ..envelope() });
        assert!(inbox.tickets.try_recv().is_err());
        current = delivery.envelope.clone();
        delivery.ack().await.unwrap();
    }
    session.close().await;
}

#[tokio::test]
async fn a_copy_carries_nothing_but_what_is_allowed() {
    let mut queues = Queues::new(&broker::shared().url);
    let (session, mut inbox) = open(&queues).await;
    session.consume(Lane::Tickets).await.unwrap();
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut headers = FieldTable::default();
    for (name, value) in [("x-death", "forged"), ("x-mfa-first-seen", "2020-01-01T00:00:00Z"), ("theirs", "word")] {
        headers.insert(name.into(), text(value));
    }
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![text("batch")].into()));
    let (user, channel) = (queues.user(), queues.channel().await);
    let original = BasicProperties::default()
        .with_user_id(user.as_str().into())
        .with_message_id("m".into())
        .with_expiration("60000".into())
        .with_priority(9)
        .with_reply_to("elsewhere".into())
        .with_headers(headers);
    let (exchange, key, options) = (queues.name("requests"), "reset.more", BasicPublishOptions::default());
    channel.basic_publish(exchange.as_str().into(), key.into(), options, b"{}", original).await.unwrap();
    let delivery = delivery(&mut inbox.tickets).await;
    let copy = Outgoing::retry(&delivery.body, &delivery.envelope, Duration::from_secs(3600), Timestamp::UNIX_EPOCH, 1);
    session.publisher().publish(&copy).await.unwrap();
    delivery.ack().await.unwrap();
    let taken = queues.take("retry.tickets.3600").await;
    let properties = &taken[0].properties;
    let names: Vec<_> =
        properties.headers().iter().flat_map(FieldTable::inner).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-mfa-attempt", "x-mfa-first-seen", "x-mfa-producer"]);
    let first_seen = properties.headers().as_ref().unwrap().inner().get("x-mfa-first-seen").unwrap();
    assert_eq!(*first_seen, text("1970-01-01T00:00:00Z"));
    assert_eq!(properties.message_id().as_ref().map(ToString::to_string).as_deref(), Some("m"));
    let left_out = (properties.expiration(), properties.reply_to(), properties.priority());
    assert_eq!((left_out, taken[0].routing_key.as_str()), ((&None, &None, &None), "reset.3600"));
    session.close().await;
}

#[tokio::test]
async fn a_cancelled_lane_brings_nothing_more_and_what_is_in_hand_can_be_settled() {
    let mut queues = Queues::new(&broker::shared().url);
    let (session, mut inbox) = open(&queues).await;
    let bodies: Vec<Vec<u8>> = (0..6_u8).map(|number| vec![number]).collect();
    queues.publish("reset.new", &bodies, None).await;
    session.consume(Lane::Tickets).await.unwrap();
    session.consume(Lane::Tickets).await.unwrap();
    let first = delivery(&mut inbox.tickets).await;
    session.cancel(Lane::Tickets).await.unwrap();
    let mut held = vec![first];
    while let Ok(Incoming::Delivery(delivery)) = inbox.tickets.try_recv() {
        held.push(*delivery);
    }
    assert!(held.len() <= 4, "the prefetch holds");
    let count = held.len();
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    session.consume(Lane::Tickets).await.unwrap();
    for _ in count..6 {
        delivery(&mut inbox.tickets).await.ack().await.unwrap();
    }
    assert!(!session.token().is_cancelled(), "{:?}", session.why());
    session.close().await;
}

#[tokio::test]
async fn a_poisonous_message_ends_as_a_dead_letter() {
    let mut queues = Queues::new(&broker::shared().url);
    open(&queues).await.0.close().await;
    queues.publish("reset", &[b"poison".to_vec()], None).await;
    for count in 0..=20 {
        let (session, mut inbox) = open(&queues).await;
        session.consume(Lane::Tickets).await.unwrap();
        assert_eq!(delivery(&mut inbox.tickets).await.delivery_count, count);
        session.close().await;
    }
    let mut dead = Vec::new();
    for _ in 0..100 {
        dead.extend(queues.take("dead-letters").await);
        if !dead.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((dead[0].data.as_slice(), dead[0].routing_key.as_str()), (b"poison".as_slice(), "reset"));
}

#[tokio::test]
async fn headers_that_would_bring_the_worker_down_do_not_reach_it() {
    let mut queues = Queues::new(&broker::shared().url);
    let (session, mut inbox) = open(&queues).await;
    session.consume(Lane::Tickets).await.unwrap();
    let channel = queues.channel().await;
    for depth in [3, 60] {
        let mut headers = FieldTable::default();
        for _ in 1..depth {
            let mut outer = FieldTable::default();
            outer.insert("k".into(), AMQPValue::FieldTable(headers));
            headers = outer;
        }
        let properties = BasicProperties::default().with_headers(headers).with_message_id("m".into());
        let (exchange, options) = (queues.name("requests"), BasicPublishOptions::default());
        channel.basic_publish(exchange.as_str().into(), "reset".into(), options, b"{}", properties).await.unwrap();
        let delivery = delivery(&mut inbox.tickets).await;
        assert_eq!((delivery.body.as_slice(), delivery.envelope.message_id.is_some()), (b"{}".as_slice(), depth == 3));
        delivery.ack().await.unwrap();
    }
    session.close().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_hung_up_on() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        url: format!("amqp://{}", listener.local_addr().unwrap()).into(),
        ..settings(&Queues::new(&broker::shared().url))
    };
    let (token, mut buffer) = (CancellationToken::new(), Vec::new());
    let opening = Session::open(&settings, token.clone());
    let silent = async {
        let mut socket = listener.accept().await.unwrap().0;
        token.cancel();
        timeout(SOON, socket.read_to_end(&mut buffer)).await.expect("the socket is closed").unwrap();
    };
    assert!(tokio::join!(opening, silent).0.is_err());
}

#[tokio::test]
async fn a_cut_connection_ends_the_session_at_once() {
    let mut queues = Queues::new(&broker::shared().url);
    let uri = queues.uri();
    let proxy = proxy::Proxy::start(format!("{}:{}", uri.authority.host, uri.authority.port)).await;
    let through = format!("amqp://guest:{BROKER_PASSWORD}@{}/%2f", proxy.address);
    let through = Settings { url: through.into(), ..settings(&queues) };
    let (session, mut inbox) = Session::open(&through, CancellationToken::new()).await.unwrap();
    session.consume(Lane::Tickets).await.unwrap();
    queues.publish("reset", &[b"1".to_vec()], None).await;
    let held = delivery(&mut inbox.tickets).await;
    proxy.set(proxy::Line::Cut);
    let (why, publisher) = (ended(&mut inbox.tickets).await, session.publisher());
    timeout(SOON, session.token().cancelled()).await.expect("the token is cancelled");
    assert!(session.why().is_some(), "{why}");
    assert!(held.ack().await.is_err());
    assert_eq!(publisher.publish(&audit()).await, Err(PublishError::Lost));
    timeout(SOON, session.close()).await.expect("closing ends");
    let failed = Session::open(&through, CancellationToken::new()).await.map(|_| ());
    assert!(matches!(failed, Err(SessionError::Passing(_))), "{failed:?}");
}

#[tokio::test]
async fn a_deleted_queue_ends_the_session() {
    let mut queues = Queues::new(&broker::shared().url);
    let (session, mut inbox) = open(&queues).await;
    session.consume(Lane::Batch).await.unwrap();
    delete(&queues.channel().await, queues.name("requests.batch")).await;
    assert!(ended(&mut inbox.batch).await.contains("batch"));
    timeout(SOON, session.token().cancelled()).await.expect("the token is cancelled");
    session.close().await;
    open(&queues).await.0.close().await;
}

#[tokio::test]
async fn whoever_submits_a_request_hears_its_result_and_no_other() {
    let queues = Queues::new(&broker::shared().url);
    let (session, mut inbox) = open(&queues).await;
    let client = Client::open(&settings(&queues)).await.unwrap();
    let mut results = client.results().await.unwrap();
    let asked = |id: &str| Submission {
        lane: Lane::Tickets,
        body: json!({"id": id, "ticket": {"system": "jira"}}).to_string().into_bytes(),
        message_id: Some(format!("message {id}")),
        correlation_id: None,
    };
    for id in ["a", "b"] {
        client.submit(&asked(id)).await.unwrap();
    }
    session.consume(Lane::Tickets).await.unwrap();
    for _ in 0..2 {
        let delivery = delivery(&mut inbox.tickets).await;
        assert_eq!(delivery.envelope.producer.as_deref(), Some("guest"));
        let mut event: mfa_reset::domain::event::Event = serde_json::from_value(json!({
            "id": "6d5d8a0e-93b1-4f7c-a0c2-51c60c5e7d13", "event_type": "t", "routing_key": "result.failed.jira",
            "correlation_id": delivery.envelope.message_id, "traceparent": null, "body": {},
        }))
        .unwrap();
        session.publisher().publish(&Outgoing::result(&event)).await.unwrap();
        event.body = json!({"data": {"outcome": "failed", "of": event.correlation_id}});
        session.publisher().publish(&Outgoing::result(&event)).await.unwrap();
        delivery.ack().await.unwrap();
    }
    let answer = loop {
        let answer = timeout(SOON, results.next()).await.expect("a result comes").unwrap();
        if answer.is_final() && answer.is_for(&asked("b")) {
            break answer;
        }
    };
    assert_eq!(answer.event["data"]["of"], "message b");
    client.close().await;
    session.close().await;
}

#[tokio::test]
async fn a_refusal_says_what_to_mend_and_keeps_the_password() {
    let queues = Queues::new(&broker::shared().url);
    let uri = queues.uri();
    let place = format!("{}:{}", uri.authority.host, uri.authority.port);
    for (url, word) in [
        (format!("amqp://guest:wrong-{BROKER_PASSWORD}@{place}/%2f"), "password"),
        (format!("amqp://guest:{BROKER_PASSWORD}@{place}/elsewhere"), "virtual host"),
    ] {
        let settings = Settings { url: url.into(), ..settings(&queues) };
        let refused = Session::open(&settings, CancellationToken::new()).await.map(|_| ());
        let Err(SessionError::Configuration(message)) = refused else { panic!("{refused:?}") };
        assert!(message.contains(word), "{message}");
        assert!(!message.contains(BROKER_PASSWORD), "the refusal over the {word} repeats the password");
    }
}
