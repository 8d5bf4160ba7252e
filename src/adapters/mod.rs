//! HOW: the rooms that know a protocol. None imports another.

pub mod amqp;
