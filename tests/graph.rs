//! The Graph adapter against servers that answer what Graph is known, or feared, to answer.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "graph/bench.rs"]
mod bench;
#[path = "graph/changing.rs"]
mod changing;
#[path = "graph/holds.rs"]
mod holds;
#[path = "graph/reading.rs"]
mod reading;
#[path = "graph/retry_after.rs"]
mod retry_after;
#[path = "graph/simulated.rs"]
mod simulated;
#[path = "graph/survey.rs"]
mod survey;
#[path = "graph/tokens.rs"]
mod tokens;
