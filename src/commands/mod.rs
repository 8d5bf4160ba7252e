//! One file a subcommand that is not the worker. Here, and in `main`, errors end as words for people.

pub mod config;
pub mod schema;
