//! The Graph adapter against servers that answer what Graph is known, or feared, to answer.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "graph/bench.rs"]
mod bench;
#[path = "graph/beta.rs"]
mod beta;
#[path = "graph/changes.rs"]
mod changes;
#[path = "graph/changing.rs"]
mod changing;
#[path = "graph/credentials.rs"]
mod credentials;
#[path = "graph/holds.rs"]
mod holds;
#[path = "graph/platforms.rs"]
mod platforms;
#[path = "graph/reading.rs"]
mod reading;
#[path = "graph/refusals.rs"]
mod refusals;
#[path = "graph/retry_after.rs"]
mod retry_after;
#[path = "graph/sign_in.rs"]
mod sign_in;
#[path = "graph/simulated.rs"]
mod simulated;
#[path = "graph/survey.rs"]
mod survey;
#[path = "graph/tokens.rs"]
mod tokens;
