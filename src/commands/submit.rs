//! `mfa-reset submit [FILE|-] [--wait]`: publishes requests as any ticketing system would.

use std::io::{Read, Write, stdin};
use std::path::PathBuf;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::run::is_bad;
use super::{Misconfigured, Unreachable, assemble};
use crate::adapters::amqp::{Client, SessionError, Submission};
use crate::cli;
use crate::config::Config;

/// Publishes, and with `--wait` prints each result. `false` if a request ended failed, partial or rejected.
pub async fn run(config: &Config, args: &cli::Submit, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    let mut waiting: Vec<Submission> = bodies(args.input.path())?
        .into_iter()
        .map(|body| Submission {
            lane: args.lane.into(),
            body,
            message_id: None,
            correlation_id: Some(Uuid::new_v4().to_string()),
        })
        .collect();
    let client = timeout(args.timeout, Client::open(&assemble::broker(config))).await;
    let client = client.map_err(|_| late("no answer in time"))?.map_err(away)?;
    let mut results = if args.wait { Some(client.results().await.map_err(away)?) } else { None };
    for (number, submission) in waiting.iter().enumerate() {
        if number > 0 {
            sleep(args.pause).await;
        }
        let submitted = timeout(args.timeout, client.submit(submission)).await;
        let submitted = submitted.map_err(|_| late("no confirm in time"))?;
        submitted.map_err(|error| Unreachable { what: "the broker", why: error.to_string() })?;
    }
    let deadline = Instant::now() + args.timeout;
    let mut good = true;
    while let (Some(results), false) = (&mut results, waiting.is_empty()) {
        let answer = timeout_at(deadline, results.next()).await;
        let answer = answer.map_err(|_| late("no result in time; the request goes on"))?;
        let answer = answer.map_err(|lost| Unreachable { what: "the broker", why: lost.to_string() })?;
        let Some(place) = waiting.iter().position(|asked| answer.is_final() && answer.is_for(asked)) else { continue };
        waiting.swap_remove(place);
        let outcome = serde_json::from_value(answer.event["data"]["outcome"].clone()).ok();
        good &= !is_bad(outcome);
        writeln!(out, "{}", answer.event)?;
    }
    client.close().await;
    Ok(good)
}

/// One JSON document, or one a line.
fn bodies(file: Option<&PathBuf>) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut text = Vec::new();
    match file {
        None => stdin().read_to_end(&mut text).context("stdin cannot be read")?,
        Some(path) => {
            text = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
            text.len()
        }
    };
    let one: Result<serde_json::Value, _> = serde_json::from_slice(&text);
    let bodies: Vec<Vec<u8>> = match one {
        Ok(_) => vec![text.trim_ascii().to_vec()],
        Err(_) => text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec()).collect(),
    };
    let bodies: Vec<Vec<u8>> = bodies.into_iter().filter(|body| !body.is_empty()).collect();
    if bodies.is_empty() {
        bail!("there is nothing to submit");
    }
    Ok(bodies)
}

fn late(why: &str) -> Unreachable {
    Unreachable { what: "the broker", why: why.to_owned() }
}

pub(super) fn away(error: SessionError) -> anyhow::Error {
    match error {
        SessionError::Passing(why) => Unreachable { what: "the broker", why }.into(),
        SessionError::Configuration(why) => Misconfigured(why).into(),
    }
}
