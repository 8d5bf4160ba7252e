//! Acknowledgements on their way to a quorum queue.
//!
//! The broker's channel passes on some thirty of them at a time and forgets the others when it is closed (measured on
//! RabbitMQ 4.0.5). A new consumer is a question that the queue itself answers, after all that was sent before.

use lapin::Channel;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::SessionError;
use super::connect::answer;

/// The tag sorts behind those of other consumers, in whose order the broker takes messages back.
const TAG: &str = "mfa-reset-z-last";

/// Waits until what this channel acknowledged has reached the queue. Where nobody else consumes, one message may be
/// handed out to us; it goes back when the channel is closed.
pub(super) async fn arrive(channel: &Channel, queue: &ShortString) -> Result<(), SessionError> {
    answer("setting the prefetch", channel.basic_qos(1, BasicQosOptions::default())).await?;
    let mut arguments = FieldTable::default();
    // Others go first.
    arguments.insert("x-priority".into(), AMQPValue::LongInt(-10));
    let consuming = channel.basic_consume(queue.clone(), TAG.into(), BasicConsumeOptions::default(), arguments);
    answer("consuming a last time", consuming).await?;
    answer("cancelling a consumer", channel.basic_cancel(TAG.into(), BasicCancelOptions::default())).await
}
