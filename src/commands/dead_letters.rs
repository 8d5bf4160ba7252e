//! `mfa-reset dead-letters list|show|replay|discard`.

mod choice;
mod settle;
mod view;

use std::io::{Write, stderr};

use jiff::Timestamp;

use super::assemble;
use super::submit::away;
use crate::adapters::amqp::{DeadLetters, Letter};
use crate::cli;
use crate::config::Config;
use choice::{Choice, resolve};
use settle::Deed;

/// Carries it out; `false` where something named was not found or could not be done.
pub async fn run(config: &Config, command: &cli::DeadLetters, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    match command {
        cli::DeadLetters::List { filter, json } => list(config, filter, *json, out).await.map(|()| true),
        cli::DeadLetters::Show { id } => show(config, id, out).await,
        cli::DeadLetters::Replay(settle) => settle::run(config, Deed::Replay, settle, out).await,
        cli::DeadLetters::Discard(settle) => settle::run(config, Deed::Discard, settle, out).await,
    }
}

async fn open(config: &Config) -> anyhow::Result<DeadLetters> {
    DeadLetters::open(&assemble::broker(config)).await.map_err(away)
}

async fn list(config: &Config, filter: &cli::Filter, json: bool, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let mut letters = open(config).await?;
    let (choice, now) = (Choice { ids: &[], filter }, Timestamp::now());
    if !json {
        writeln!(out, "{}", view::HEAD)?;
    }
    while let Some(held) = letters.next().await.map_err(away)? {
        if choice.takes(&held.letter, now) {
            writeln!(out, "{}", if json { view::line(&held.letter) } else { view::row(&held.letter) })?;
        }
    }
    close(letters, 0).await
}

async fn show(config: &Config, id: &str, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    let (ids, filter) = ([id.to_owned()], cli::Filter::default());
    let (choice, mut letters) = (Choice { ids: &ids, filter: &filter }, open(config).await?);
    let (mut found, mut names, now): (Option<Letter>, _, _) = (None, Vec::new(), Timestamp::now());
    while let Some(held) = letters.next().await.map_err(away)? {
        if choice.takes(&held.letter, now) {
            names.push(held.letter.id.clone());
            found.get_or_insert(held.letter);
        }
    }
    close(letters, 0).await?;
    let (named, complaints) = resolve(&ids, names.iter().map(String::as_str));
    for complaint in &complaints {
        writeln!(stderr(), "{complaint}")?;
    }
    let Some(letter) = found.filter(|letter| named.contains(&letter.id)) else { return Ok(false) };
    write!(out, "{}", view::all(&letter, names.len()))?;
    Ok(true)
}

/// Ends a look, of which so many letters were settled.
async fn close(letters: DeadLetters, settled: u32) -> anyhow::Result<()> {
    if letters.shared() {
        writeln!(stderr(), "note: somebody else looks at the dead letters too; what they have in hand is not shown")?;
    }
    letters.close(settled).await.map_err(away)
}
