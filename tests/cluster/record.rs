//! What happened, as each side saw it: the producers, the reader of results, Graph, the users, the broker, the logs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::simulator::Method;

/// What a producer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A good request of a producer that may ask, with this profile.
    Reset(&'static str),
    /// A good request of a producer that may not ask.
    Stranger,
    /// A body that is no request.
    Malformed,
}

/// One request, by its id in [`Record::asked`].
#[derive(Debug, Clone)]
pub struct Asked {
    /// What it was.
    pub kind: Kind,
    /// Whether the broker confirmed it at least once; if not, it may or may not have happened.
    pub confirmed: bool,
}

/// One event from the results queue.
#[derive(Debug, Clone)]
pub struct Told {
    /// The correlation id: the id of the request.
    pub request: String,
    /// The event.
    pub event: Value,
}

/// One call to remove a method, from the journal of the simulator.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Whose and which.
    pub method: Method,
    /// When the call came in, in milliseconds.
    pub from: i64,
    /// When it had been carried out.
    pub to: i64,
    /// The digest of the number or address that went; none where nothing went.
    pub went: Option<String>,
}

/// A method that a user has, or has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whose and which.
    pub method: Method,
    /// The digest of its number or address.
    pub value: String,
}

/// One dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The correlation id.
    pub request: String,
    /// Why it is dead.
    pub reason: String,
}

/// The history of one run.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// What was asked, by request id.
    pub asked: BTreeMap<String, Asked>,
    /// What the results queue held, in order.
    pub told: Vec<Told>,
    /// What the dead letters held at the end.
    pub letters: Vec<Letter>,
    /// Every call to remove a method, in order.
    pub removals: Vec<Reply>,
    /// What users registered after their planned method had gone, and are to keep.
    pub registered: Vec<Held>,
    /// What every user who was asked for has at the end.
    pub standing: Vec<Held>,
    /// How many messages each queue holds at the end.
    pub left: BTreeMap<String, u64>,
    /// Every line that the workers printed.
    pub output: Vec<String>,
    /// What no line may show: what it is, and how it is known.
    pub secrets: Vec<(&'static str, &'static str)>,
    /// What the bench itself saw go wrong: a worker that ended unasked, a log that does not verify.
    pub remarks: Vec<String>,
}

impl Record {
    /// The results, without the events that tell of a delay.
    pub fn results(&self) -> impl Iterator<Item = (&str, &Value)> {
        let results = self.told.iter().filter(|told| told.event["type"] != "mfa-reset.delayed.v1");
        results.map(|told| (told.request.as_str(), &told.event))
    }

    /// The removals that took effect.
    pub fn effects(&self) -> impl Iterator<Item = Held> {
        let went = |removal: &Reply| Some(Held { method: removal.method.clone(), value: removal.went.clone()? });
        self.removals.iter().filter_map(went)
    }

    /// One line about the run.
    pub fn summary(&self) -> String {
        let confirmed = self.asked.values().filter(|asked| asked.confirmed).count();
        let (asked, results, effects) = (self.asked.len(), self.results().count(), self.effects().count());
        let (delayed, registered) = (self.told.len() - results, self.registered.len());
        let answered = self.results().map(|(request, _)| request).collect::<std::collections::BTreeSet<_>>().len();
        format!(
            "{asked} requests, {confirmed} confirmed, {answered} answered, {} repeats, {delayed} told of a delay, \
             {effects} removals, {registered} phones registered anew",
            results - answered
        )
    }
}
