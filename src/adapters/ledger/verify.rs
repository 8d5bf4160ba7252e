//! Proves that an exported audit log is whole and unchanged.
//!
//! A line proves itself: sealed again after the line before it, it must come out byte for byte the same.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use serde_json::Value;
use uuid::Uuid;

use super::audit::UNSIGNED;
use super::key::PublicKey;
use crate::domain::audit::{self, Head};

/// What an intact log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records, checkpoints not counted.
    pub records: u64,
    /// Chains: one per process start.
    pub chains: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Resets that began and have no conclusion (yet).
    pub unfinished: u64,
    /// Records that no signature covers yet: after the last checkpoint, with no later chain that begins with one.
    pub uncovered: u64,
}

/// The first place where a log is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chain {chain}, seq {seq}, {reason}")]
pub struct Bad {
    /// The chain; `-` where none could be told.
    pub chain: String,
    /// The sequence number that was expected there.
    pub seq: u64,
    /// What is wrong.
    pub reason: String,
}

/// Verifies an exported log, one line after the other. `checkpoints` are lines that were kept elsewhere: what they
/// cover must still be there. With `keys`, every checkpoint must be signed by one of them; without, by the key that
/// it names itself.
pub fn verify(
    mut log: impl BufRead,
    checkpoints: Option<&mut dyn BufRead>,
    keys: &[PublicKey],
) -> Result<Verified, Bad> {
    let mut verifier = Verifier { keys, ..Verifier::default() };
    if let Some(checkpoints) = checkpoints {
        while let Some(line) = next_line(checkpoints).map_err(|reason| bad("-", 0, format!("checkpoints: {reason}")))? {
            verifier.pin(&line).map_err(|reason| bad("-", 0, format!("checkpoints: {reason}")))?;
        }
    }
    loop {
        let read = next_line(&mut log).and_then(|line| match line {
            Some(line) => verifier.line(&line).map(|()| true),
            None => Ok(false),
        });
        match read {
            Ok(true) => {}
            Ok(false) => return verifier.finish(),
            Err(reason) => return Err(verifier.here(reason)),
        }
    }
}

fn bad(chain: &str, seq: u64, reason: impl Into<String>) -> Bad {
    Bad { chain: chain.to_owned(), seq, reason: reason.into() }
}

/// The next line without its end; a line without an end is not whole.
fn next_line(log: &mut dyn BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    log.read_until(b'\n', &mut line).map_err(|error| format!("cannot be read: {error}"))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err("truncated last line".to_owned()),
    }
}

/// A place in a chain that something else vouches for.
struct Pin {
    head: Head,
    /// A later chain says that nothing follows; a checkpoint says no such thing.
    last: bool,
}

#[derive(Default)]
struct Verifier<'a> {
    keys: &'a [PublicKey],
    head: Option<Head>,
    /// How many checkpoints the chain at hand has, and the time of the last.
    signed: (u64, i64),
    /// Records of the chain at hand since then.
    uncovered: u64,
    /// Whether every other chain had ended when it began.
    alone: bool,
    /// The digest of every record, chain by chain.
    digests: HashMap<Uuid, Vec<String>>,
    pins: Vec<Pin>,
    begun: HashSet<String>,
    found: Verified,
}

impl Verifier<'_> {
    /// The place where the next record belongs, with what is wrong about it.
    fn here(&self, reason: String) -> Bad {
        match &self.head {
            Some(head) => bad(&head.chain.to_string(), head.seq + 1, reason),
            None => bad("-", 1, reason),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let value = parse(line)?;
        if value["type"] == "checkpoint" { self.checkpoint(&value) } else { self.record(value) }
    }

    fn record(&mut self, record: Value) -> Result<(), String> {
        let chain = id(&record, "/attestation/chain_uid").ok_or("no chain_uid")?;
        let seq = record.pointer("/metadata/sequence").and_then(Value::as_u64).ok_or("no sequence number")?;
        self.head.as_ref().map_or(Ok(()), |_| self.is_signed())?;
        if self.head.as_ref().is_none_or(|head| head.chain != chain) {
            self.begin(chain, seq, &record)?;
        }
        let time = record["time"].as_i64().ok_or("no time")?;
        if self.signed.0 > 0 && time.saturating_sub(self.signed.1) > UNSIGNED {
            return Err("is more than an hour later than the checkpoint before it".to_owned());
        }
        let Some(head) = &mut self.head else { return Err("no chain".to_owned()) };
        if seq != head.seq + 1 {
            return Err(format!("record {seq} stands in its place"));
        }
        let previous = record.pointer("/attestation/prev_event/fingerprint/value").and_then(Value::as_str);
        if previous != Some(&head.digest) {
            return Err("does not follow the record before it".to_owned());
        }
        let mut next = head.clone();
        if audit::seal(&mut next, record.clone()).map_err(|error| error.to_string())? != record {
            return Err("was altered".to_owned());
        }
        *head = next;
        self.digests.entry(chain).or_default().push(head.digest.clone());
        self.found.records += 1;
        self.found.uncovered += 1;
        self.uncovered += 1;
        self.note_phase(&record);
        Ok(())
    }

    /// A chain is signed from its first record on.
    fn is_signed(&self) -> Result<(), String> {
        match &self.head {
            None => Err("no record".to_owned()),
            Some(_) if self.signed.0 == 0 => Err("no checkpoint follows the start of the chain".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// A new chain: it must begin at its beginning and name the chain before it, as well as others that have grown since
    /// that one began; where those ended is checked at the end.
    fn begin(&mut self, chain: Uuid, seq: u64, record: &Value) -> Result<(), String> {
        if self.digests.contains_key(&chain) {
            return Err(format!("record {seq} of chain {chain} stands apart from its chain"));
        }
        if seq != 1 || record.pointer("/metadata/event_code") != Some(&"chain_start".into()) {
            return Err(format!("chain {chain} does not begin with its start, but with record {seq}"));
        }
        let heads = record.pointer("/unmapped/heads").and_then(Value::as_array).ok_or("no heads of other chains")?;
        let heads: Option<Vec<_>> = heads.iter().map(place_of).collect();
        let heads = heads.ok_or("unreadable heads of other chains")?;
        let before = self.head.as_ref().map(|head| head.chain);
        if let Some(missed) = before.filter(|known| heads.iter().all(|head| head.chain != *known)) {
            return Err(format!("chain {chain} does not know chain {missed} before it"));
        }
        self.alone = record.pointer("/unmapped/alone") != Some(&false.into());
        self.pins.extend(heads.into_iter().map(|head| Pin { head, last: self.alone }));
        self.head = Some(Head { chain, seq: 0, digest: String::new() });
        (self.signed, self.uncovered) = ((0, 0), 0);
        self.found.chains += 1;
        Ok(())
    }

    fn note_phase(&mut self, record: &Value) {
        let Some(request) = record.pointer("/metadata/correlation_uid").and_then(Value::as_str) else { return };
        match record.pointer("/metadata/event_code").and_then(Value::as_str) {
            Some("intent") => drop(self.begun.insert(request.to_owned())),
            Some("conclusion") => drop(self.begun.remove(request)),
            _ => {}
        }
    }

    /// A checkpoint in the log: it must tell of the very record before it, and none may be missing.
    fn checkpoint(&mut self, checkpoint: &Value) -> Result<(), String> {
        let place = self.signed_place(checkpoint)?;
        let Some(head) = &self.head else { return Err("a checkpoint before any record".to_owned()) };
        if place.chain != head.chain {
            return Err(format!("a checkpoint of chain {} stands in its place", place.chain));
        }
        if place.seq != head.seq {
            return Err(format!("a checkpoint of record {} stands in its place", place.seq));
        }
        if place.digest != head.digest {
            return Err("the checkpoint has another digest".to_owned());
        }
        let (number, time) = (self.signed.0 + 1, checkpoint["time"].as_i64().ok_or("a checkpoint without time")?);
        if checkpoint["number"] != number {
            return Err(format!("checkpoint {} stands where checkpoint {number} belongs", checkpoint["number"]));
        }
        self.signed = (number, time);
        self.found.uncovered -= std::mem::take(&mut self.uncovered);
        if place.seq == 1 && self.alone {
            // Chain by chain, first records name the ends of all chains before, so a signature covers them too.
            self.found.uncovered = 0;
        }
        self.found.checkpoints += 1;
        Ok(())
    }

    /// A line that was kept elsewhere; only checkpoints count.
    fn pin(&mut self, line: &[u8]) -> Result<(), String> {
        let value = parse(line)?;
        if value["type"] == "checkpoint" {
            let head = self.signed_place(&value)?;
            self.pins.push(Pin { head, last: false });
        }
        Ok(())
    }

    /// The place that a checkpoint tells of, if its signature is good.
    fn signed_place(&self, checkpoint: &Value) -> Result<Head, String> {
        let text = |name: &str| checkpoint[name].as_str().ok_or_else(|| format!("a checkpoint without {name}"));
        let key = PublicKey::parse(text("public_key")?).ok_or("a checkpoint with an unreadable key")?;
        if !self.keys.is_empty() && !self.keys.contains(&key) {
            return Err(format!("a checkpoint of the unknown key {}", key.id()));
        }
        let mut unsigned = checkpoint.clone();
        unsigned.as_object_mut().map(|fields| fields.remove("signature"));
        let unsigned = serde_json_canonicalizer::to_vec(&unsigned).map_err(|error| error.to_string())?;
        if !key.verifies(&unsigned, text("signature")?) {
            return Err("a checkpoint with a bad signature".to_owned());
        }
        place_of(checkpoint).ok_or_else(|| "a checkpoint without a place".to_owned())
    }

    /// Checks what was vouched for from outside each chain.
    fn finish(mut self) -> Result<Verified, Bad> {
        for Pin { head, last } in &self.pins {
            let (chain, by) = (head.chain.to_string(), if *last { "a later chain" } else { "a checkpoint" });
            let Some(digests) = self.digests.get(&head.chain) else {
                return Err(bad(&chain, 1, format!("the chain is missing; {by} knows it")));
            };
            let index = usize::try_from(head.seq).unwrap_or(usize::MAX).wrapping_sub(1);
            match digests.get(index) {
                Some(digest) if *digest != head.digest => {
                    return Err(bad(&chain, head.seq, format!("{by} knows another digest")));
                }
                Some(_) if *last && head.seq < digests.len() as u64 => {
                    return Err(bad(&chain, head.seq + 1, format!("stands after the end that {by} knows")));
                }
                Some(_) => {}
                None => {
                    let reason = format!("missing; {by} knows records up to {}", head.seq);
                    return Err(bad(&chain, digests.len() as u64 + 1, reason));
                }
            }
        }
        self.is_signed().map_err(|reason| self.here(reason))?;
        self.found.unfinished = self.begun.len() as u64;
        Ok(self.found)
    }
}

/// Reads a line that can have only one form.
fn parse(line: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(line).map_err(|_| "is not JSON")?;
    let canonical = serde_json_canonicalizer::to_vec(&value).map_err(|error| error.to_string())?;
    if canonical == line { Ok(value) } else { Err("is not in canonical form".to_owned()) }
}

fn id(value: &Value, pointer: &str) -> Option<Uuid> {
    value.pointer(pointer)?.as_str()?.parse().ok()
}

fn place_of(value: &Value) -> Option<Head> {
    let digest = value["digest"].as_str()?.to_owned();
    Some(Head { chain: id(value, "/chain")?, seq: value["seq"].as_u64()?, digest })
}
