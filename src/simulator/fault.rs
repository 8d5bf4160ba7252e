//! Faults on demand: a test names a call and what shall go wrong with it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Ending, Reply};
use super::operation::Operation;

/// Names the way in which a call goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Answer,
    DropAfterApply,
    Close,
    Stall,
    Malformed,
}

/// Holds one fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub operation: Operation,
    /// An id or UPN; every user when left out.
    pub user: Option<String>,
    /// 429 with `retry_after`, else 503, when left out.
    pub status: Option<u16>,
    /// Sent as it stands.
    pub retry_after: Option<String>,
    #[serde(default)]
    pub mode: Mode,
    /// How often it strikes; 0 is until it is cleared.
    #[serde(default = "once")]
    pub times: u32,
    /// Whether the call takes effect all the same; by default it does under `drop_after_apply` and `malformed`.
    pub apply: Option<bool>,
    /// Answered in place of the usual error.
    pub body: Option<Value>,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// Tells whether the call takes effect.
    pub fn applies(&self) -> bool {
        self.apply.unwrap_or(matches!(self.mode, Mode::DropAfterApply | Mode::Malformed))
    }

    /// Turns what the call led to into what the caller sees.
    pub fn spoil(&self, applied: Option<Reply>) -> Reply {
        let effect = applied.as_ref().map(|reply| reply.effect.clone()).unwrap_or_default();
        match self.mode {
            Mode::Answer => Reply { effect, ..self.answer() },
            Mode::Close | Mode::DropAfterApply => Reply { effect, ending: Ending::Close, ..Reply::default() },
            Mode::Stall => Reply { effect, ending: Ending::Stall, ..Reply::default() },
            Mode::Malformed => {
                let status = self.status.or(applied.map(|reply| reply.status)).filter(|status| *status != 204);
                Reply {
                    status: status.unwrap_or(200),
                    effect,
                    raw: Some(r#"{"value":[{"id":"#.into()),
                    ..Reply::default()
                }
            }
        }
    }

    fn answer(&self) -> Reply {
        let status = self.status.unwrap_or(if self.retry_after.is_some() { 429 } else { 503 });
        let mut reply = match (self.operation, status) {
            (Operation::Token, _) => token_error(status),
            (_, 429) => Reply::throttled(None),
            (_, 401) => Reply::error(401, "InvalidAuthenticationToken", "Access token validation failure."),
            (_, 403) => Reply::denied_by_directory(),
            (_, 404) => Reply::error(404, "itemNotFound", "The requested item was not found."),
            (_, 400..=499) => Reply::error(status, "badRequest", "The request could not be carried out."),
            (_, 503) => Reply::error(503, "serviceNotAvailable", "The service is temporarily unavailable."),
            (_, 504) => Reply::error(504, "generalException", "The backend did not answer in time."),
            (_, 500..) => Reply::error(status, "internalServerError", "An internal error has occurred."),
            _ => Reply { status, ..Reply::default() },
        };
        reply.headers.extend(self.retry_after.clone().map(|wait| ("Retry-After", wait)));
        reply.body = self.body.clone().or(reply.body);
        reply
    }
}

fn token_error(status: u16) -> Reply {
    match status {
        401 => super::token::refusal(401, "invalid_client", 7_000_215, "Invalid client secret provided."),
        429 => super::token::refusal(429, "temporarily_unavailable", 90_055, "The tenant is throttled."),
        _ => super::token::refusal(status, "temporarily_unavailable", 90_033, "A transient error has occurred."),
    }
}

/// Holds the faults that are set.
#[derive(Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Sets a fault.
    pub fn set(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Clears all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Shows what is left.
    pub fn list(&self) -> Value {
        json!(self.0)
    }

    /// Takes the first fault that fits; `is_user` tells whether a name means the user at hand.
    pub fn take(&mut self, operation: Operation, is_user: impl Fn(&str) -> bool) -> Option<Fault> {
        let fits = |fault: &Fault| fault.operation == operation && fault.user.as_deref().is_none_or(&is_user);
        let at = self.0.iter().position(fits)?;
        let fault = self.0[at].clone();
        if fault.times == 1 {
            self.0.remove(at);
        } else {
            self.0[at].times = fault.times.saturating_sub(1);
        }
        Some(fault)
    }
}
