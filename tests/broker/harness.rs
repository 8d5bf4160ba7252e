//! That the harness itself works: a test bench that cannot fail proves nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::broker;
use crate::process::{Process, eventually};
use crate::queues::Queues;
use crate::requests::{bodies, mixed, publish_foreign};

async fn declare_one_lane(queues: &mut Queues) {
    let (exchange, queue) = (queues.name("requests"), queues.name("requests.tickets"));
    let channel = queues.channel().await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (nothing, mut quorum) = (FieldTable::default(), FieldTable::default());
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let kind = ExchangeKind::Topic;
    channel.exchange_declare(exchange.as_str().into(), kind, durable, nothing.clone()).await.unwrap();
    let (name, options) = (|| queue.as_str().into(), QueueDeclareOptions::durable());
    channel.queue_declare(name(), options, quorum).await.unwrap();
    let bind = QueueBindOptions::default();
    channel.queue_bind(name(), exchange.as_str().into(), "reset.#".into(), bind, nothing).await.unwrap();
}

#[tokio::test]
async fn both_producers_reach_the_queue_and_the_names_are_gone_afterwards() {
    let url = &broker::shared().url;
    let mut queues = Queues::new(url);
    declare_one_lane(&mut queues).await;
    let (requests, user) = (mixed(1..=20), queues.user());
    publish_foreign(&queues, &requests);
    queues.publish("reset.again", &bodies(&requests), Some(&user)).await;
    let taken = queues.take("requests.tickets").await;
    let expected = [bodies(&requests), bodies(&requests)].concat();
    assert_eq!(taken.iter().map(|message| message.data.clone()).collect::<Vec<_>>(), expected);
    let from = |at: usize| taken[at].properties.user_id().as_ref().map(ToString::to_string);
    assert_eq!((from(0), from(39)), (Some(user.clone()), Some(user)));

    let mut same_names = Queues::new(url);
    same_names.prefix = queues.prefix.clone();
    drop(queues);
    let channel = same_names.channel().await;
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let name = same_names.name("requests.tickets");
    let looked = channel.queue_declare(name.as_str().into(), look, FieldTable::default()).await;
    assert!(looked.is_err(), "the queue is gone");
}

#[tokio::test]
async fn a_killed_broker_comes_back_with_what_it_had_stored() {
    let mut broker = broker::own();
    let mut queues = Queues::new(&broker.url);
    declare_one_lane(&mut queues).await;
    queues.publish("reset", &bodies(&mixed(1..=10)), None).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.restart();
    let mut taken = Vec::new();
    for _ in 0..200 {
        taken.extend(queues.take("requests.tickets").await);
        if taken.len() == 10 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} of 10 messages are still there", taken.len());
}

#[test]
fn no_process_outlives_its_test() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("WORD", "kept")];
    let arguments = ["-c", "echo $WORD $HOME; sleep 600"];
    let log = directory.path().join("log");
    let mut process = Process::spawn(Path::new("/bin/sh"), &arguments, settings, &log);
    eventually(Duration::from_secs(5), "it has printed", || process.output() == "kept\n");
    assert!(process.is_running());
    let id = process.id().to_string();
    drop(process);
    let alive = Command::new("sh").args(["-c", "kill -0 $0 2>/dev/null", &id]).status().unwrap();
    assert!(!alive.success(), "the process is gone");
}
