//! Replays and discards dead letters.
//!
//! The audit record is durable before anything happens; a letter goes out of the dead letters last, after the broker
//! has confirmed its copy. Whoever stops this in between leaves a letter twice, never not at all.

use std::io::{Write, stderr};
use std::mem::take;

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::choice::{Choice, resolve};
use super::{close, open, view};
use crate::adapters::amqp::{Client, Held, Letter, PublishError};
use crate::adapters::ledger::{OpenError, SigningKey, record_beside};
use crate::cli;
use crate::commands::run::progress_bar;
use crate::commands::submit::away;
use crate::commands::{Misconfigured, Unreachable, assemble};
use crate::config::Config;
use crate::domain::audit;

/// How many letters share a commit of the audit trail.
const BATCH: usize = 100;
/// How many may be named by their ids: they are held until it is certain which are meant.
const MOST_NAMED: usize = 1000;
/// How many copies wait for their confirm at once.
const AT_ONCE: usize = 8;

/// What is done with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// It is sent to its lane again.
    Replay,
    /// It is thrown away.
    Discard,
}

/// Does it with the letters that were chosen; `false` where something could not be done.
pub(super) async fn run(
    config: &Config,
    deed: Deed,
    args: &cli::Settle,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<bool> {
    let mut work = Work::begin(config, deed, args).await?;
    let ended = work.go_through(out).await;
    work.bar.finish_and_clear();
    if ended.is_ok() || work.done > 0 {
        let (would, word) = (if args.dry_run { "would be " } else { "" }, work.deed.done());
        writeln!(out, "{would}{word}: {}", work.done)?;
    }
    ended?;
    Ok(work.failed == 0)
}

impl Deed {
    const fn done(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Discard => "discarded",
        }
    }

    const fn event_code(self) -> &'static str {
        match self {
            Self::Replay => "dead_letter_replayed",
            Self::Discard => "dead_letter_discarded",
        }
    }
}

/// How a letter was left.
enum Left {
    /// The broker did not take its copy; it stays.
    Kept(String, PublishError),
    /// The broker is gone: the letter may be there twice.
    Unknown(String),
}

struct Work<'a> {
    config: &'a Config,
    args: &'a cli::Settle,
    deed: Deed,
    client: Option<Client>,
    now: Timestamp,
    bar: ProgressBar,
    done: u32,
    failed: u32,
}

impl<'a> Work<'a> {
    async fn begin(config: &'a Config, deed: Deed, args: &'a cli::Settle) -> anyhow::Result<Self> {
        if !args.dry_run && !config.signing_key_file.exists() {
            let path = config.signing_key_file.display();
            let why = format!("audit.signing_key_file: there is no {path}: use the configuration of the worker");
            return Err(Misconfigured(why).into());
        }
        let client = if deed == Deed::Replay && !args.dry_run {
            Some(Client::to_replay(&assemble::broker(config)).await.map_err(away)?)
        } else {
            None
        };
        let bar = if args.dry_run { ProgressBar::hidden() } else { progress_bar() };
        Ok(Self { config, args, deed, client, now: Timestamp::now(), bar, done: 0, failed: 0 })
    }

    /// Goes through all letters that there are now, once: what is rejected again comes in behind them.
    async fn go_through(&mut self, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let choice = Choice { ids: &self.args.ids, filter: &self.args.filter };
        let (mut letters, mut batch) = (open(self.config).await?, Vec::new());
        let by_id = !choice.ids.is_empty();
        let mut going = true;
        while going && let Some(held) = letters.next().await.map_err(away)? {
            if choice.takes(&held.letter, self.now) {
                batch.push(held);
            }
            if by_id && batch.len() > MOST_NAMED {
                bail!("the ids name more than {MOST_NAMED} letters: nothing was done; choose them by reason or ticket");
            }
            if !by_id && batch.len() == BATCH {
                going = self.settle(take(&mut batch), out).await?;
            }
        }
        if by_id {
            batch = self.certain(batch)?;
        }
        while going && !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            going = self.settle(std::mem::replace(&mut batch, rest), out).await?;
        }
        close(letters, if self.args.dry_run { 0 } else { self.done }).await?;
        if let Some(client) = self.client.take() {
            client.close().await;
        }
        Ok(())
    }

    /// The letters that the ids name for certain.
    fn certain(&mut self, mut found: Vec<Held>) -> anyhow::Result<Vec<Held>> {
        let (named, complaints) = resolve(&self.args.ids, found.iter().map(|held| held.letter.id.as_str()));
        complaints.iter().try_for_each(|complaint| self.complain(complaint))?;
        found.retain(|held| named.contains(&held.letter.id));
        Ok(found)
    }

    /// Settles letters that share an audit commit. `false` where the broker refuses copies: then the rest stays.
    async fn settle(&mut self, batch: Vec<Held>, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
        let mut fit = Vec::new();
        for held in batch {
            match held.letter.obstacle.filter(|_| self.deed == Deed::Replay) {
                Some(why) => self.complain(&format!("{} stays: {why}", held.letter.id))?,
                None => fit.push(held),
            }
        }
        if self.args.dry_run {
            for held in &fit {
                self.done += 1;
                writeln!(out, "{}", view::row(&held.letter))?;
            }
            return Ok(true);
        }
        self.record(&fit).await?;
        let (client, now) = (self.client.as_ref(), self.now);
        let settling = stream::iter(fit).map(|held| settle_one(client, held, now)).buffer_unordered(AT_ONCE);
        let left: Vec<Result<(), Left>> = settling.collect().await;
        let (mut going, mut unknown) = (true, None);
        for left in left {
            match left {
                Ok(()) => {
                    self.done += 1;
                    self.bar.inc(1);
                }
                Err(Left::Kept(id, error)) => {
                    going = false;
                    self.complain(&format!("{id} stays: {error}"))?;
                }
                Err(Left::Unknown(why)) => unknown = Some(Unreachable { what: "the broker", why }),
            }
        }
        unknown.map_or(Ok(going), |lost| Err(lost.into()))
    }

    /// Writes down what is about to be done: without it nothing is.
    async fn record(&self, letters: &[Held]) -> anyhow::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let key = SigningKey::load_or_create(&self.config.signing_key_file).context("audit.signing_key_file")?;
        let records = letters.iter().map(|held| self.audit_record(&held.letter)).collect();
        let (url, instance) = (self.config.ledger_url.expose_secret(), assemble::instance());
        let recorded = record_beside(url, &instance, key, records, Timestamp::now()).await;
        match recorded {
            Err(OpenError::Unreachable(error)) => {
                Err(Unreachable { what: "the ledger's database", why: error.to_string() }.into())
            }
            recorded => recorded.context("the audit trail cannot be written, so nothing more was done"),
        }
    }

    fn audit_record(&self, letter: &Letter) -> Value {
        let settled = audit::Settled {
            event_code: self.deed.event_code(),
            by: self.args.by.as_deref().unwrap_or_default(),
            note: self.args.note.as_deref(),
            reason: &letter.reason,
            envelope: &letter.envelope,
            request: [&letter.request_id, &letter.ticket_system, &letter.ticket_number].map(Option::as_deref),
            body: &letter.body,
        };
        audit::settled(&settled, Timestamp::now())
    }

    fn complain(&mut self, what: &str) -> anyhow::Result<()> {
        self.failed += 1;
        self.bar.suspend(|| writeln!(stderr(), "{what}")).context("stderr cannot be written")
    }
}

/// Confirmed first, then out of the dead letters.
async fn settle_one(client: Option<&Client>, held: Held, now: Timestamp) -> Result<(), Left> {
    let id = held.letter.id.clone();
    if let Some(client) = client {
        client.replay(&held.letter, now).await.map_err(|error| match error {
            PublishError::Lost => Left::Unknown(format!("whether the copy of {id} was stored is unknown")),
            PublishError::Unroutable | PublishError::Refused | PublishError::Invalid(_) => {
                Left::Kept(id.clone(), error)
            }
        })?;
    }
    held.settle().await.map_err(|_| Left::Unknown(format!("{id} may still be among the dead letters")))
}
