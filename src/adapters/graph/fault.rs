//! What an answer means: the whole table of status, body and broken connection. Pure.
//!
//! Messages are matched by the few fragments that are known to be stable, since Graph gives no better code; a 400
//! that matches none is still only put off.

use std::time::Duration;

use serde_json::Value;

use super::answer::{Answer, Broken, Ending};
use crate::domain::outcome::Fault;
use crate::domain::outcome::Unread;
use crate::domain::plan::Refusal;
use crate::domain::reason::Reason;
use crate::ports::Reply;

/// What an answer means, whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is done.
    Good,
    /// Too many calls; no effect.
    Throttled,
    /// The token does not work; no effect.
    TokenRefused,
    /// Not allowed.
    Forbidden,
    /// Not there.
    NotFound,
    /// Not now.
    Refused(Refusal),
    /// Never.
    Impossible,
    /// Something else was under way; no effect.
    Conflict,
    /// Graph failed, before or after the effect.
    Failed,
}

const THROTTLED: [&str; 3] = ["toomanyrequests", "activitylimitreached", "throttledrequest"];
const DEFAULT: [&str; 2] = ["default method", "default authentication method"];
const DEPENDENCY: [&str; 1] = ["without first deleting alternate mobile"];
const ORPHAN: [&str; 2] = ["invalid value for keyid", "not a valid base-64"];
const NO_SEGMENT: &str = "resource not found for the segment";
const NO_LICENCE: &str = "the tenant needs to have microsoft entra id p2 or microsoft entra id governance license";

/// What an answer means.
pub(super) fn meaning(answer: &Answer) -> Meaning {
    let complaint = Complaint::of(answer);
    match answer.status {
        200..=299 => Meaning::Good,
        401 => Meaning::TokenRefused,
        404 | 410 => Meaning::NotFound,
        429 | 509 => Meaning::Throttled,
        400..=499 if complaint.has_code(&THROTTLED) => Meaning::Throttled,
        400..=499 if complaint.mentions(&DEFAULT) => Meaning::Refused(Refusal::Default),
        400..=499 if complaint.mentions(&DEPENDENCY) => Meaning::Refused(Refusal::Dependency),
        400..=499 if complaint.mentions(&ORPHAN) => Meaning::Impossible,
        400 | 422 => Meaning::Refused(Refusal::Other),
        403 => Meaning::Forbidden,
        409 | 412 | 423 => Meaning::Conflict,
        408 | 424 | 425 => Meaning::Failed,
        501 | 505 => Meaning::Impossible,
        500..=599 => Meaning::Failed,
        _ => Meaning::Impossible,
    }
}

/// Whether the answer asks everybody to wait, and for how long if it says so.
pub(super) fn asks_to_wait(answer: &Answer) -> Option<Option<Duration>> {
    let heavy = answer.status == 503 || meaning(answer) == Meaning::Throttled;
    (heavy || (answer.status >= 400 && answer.retry_after.is_some())).then_some(answer.retry_after)
}

/// A reading call: an answer to go by, good or final, or the fault. `held` is how long Graph asked to wait.
pub(super) fn reading(ending: Ending, held: Duration) -> Result<Answer, Fault> {
    const AWAY: Fault = Fault::Transient { reason: Reason::GraphUnavailable };
    let answer = ending.map_err(|_| AWAY)?;
    match meaning(&answer) {
        Meaning::Good if !answer.body.as_ref().is_some_and(Value::is_object) => Err(AWAY),
        Meaning::Throttled => Err(Fault::Throttled { after: held }),
        Meaning::TokenRefused => Err(Fault::Unavailable { reason: Reason::TokenRefused }),
        Meaning::Conflict | Meaning::Failed => Err(AWAY),
        Meaning::Good | Meaning::Forbidden | Meaning::NotFound | Meaning::Refused(_) | Meaning::Impossible => {
            Ok(answer)
        }
    }
}

/// What a final answer to a reading call about a user means for the job.
pub(super) fn permanent(answer: &Answer) -> Fault {
    let reason = match meaning(answer) {
        Meaning::Forbidden => Reason::Forbidden,
        Meaning::NotFound => Reason::UserNotFound,
        Meaning::Good
        | Meaning::Throttled
        | Meaning::TokenRefused
        | Meaning::Refused(_)
        | Meaning::Impossible
        | Meaning::Conflict
        | Meaning::Failed => Reason::GraphRefused,
    };
    Fault::Permanent { reason }
}

/// The removal of a method. Whatever may have taken effect is unknown.
pub(super) fn removal(ending: &Ending, held: Duration) -> Result<Reply, Fault> {
    match changing(ending, held)? {
        Meaning::Good => Ok(Reply::Done),
        Meaning::NotFound => Ok(Reply::NotFound),
        Meaning::Refused(refusal) => Ok(Reply::Refused(refusal)),
        Meaning::Forbidden => Ok(Reply::Forbidden),
        Meaning::Throttled | Meaning::TokenRefused | Meaning::Impossible | Meaning::Conflict | Meaning::Failed => {
            Ok(Reply::Impossible)
        }
    }
}

/// Another change. What is there already is refused like anything else that Graph may accept later.
pub(super) fn change(ending: &Ending, held: Duration) -> Result<Reply, Fault> {
    match ending {
        Ok(answer) if meaning(answer) == Meaning::Conflict => Ok(Reply::Refused(Refusal::Other)),
        _ => removal(ending, held),
    }
}

/// Whether the methods may be listed type by type where they cannot be listed together: this cloud has no such list, or
/// the application may not read it.
pub(super) fn lists_elsewhere(answer: &Answer) -> bool {
    meaning(answer) == Meaning::Forbidden || lacks_segment(answer)
}

/// Why a collection could not be read; none where there is nothing in it. Anything else may pass.
pub(super) fn unread(answer: &Answer, single: bool) -> Result<Option<Unread>, Fault> {
    match meaning(answer) {
        Meaning::Forbidden => Ok(Some(Unread::Forbidden)),
        _ if lacks_segment(answer) => Ok(Some(Unread::Missing)),
        Meaning::NotFound if single => Ok(None),
        Meaning::Good
        | Meaning::Throttled
        | Meaning::TokenRefused
        | Meaning::NotFound
        | Meaning::Refused(_)
        | Meaning::Impossible
        | Meaning::Conflict
        | Meaning::Failed => Err(Fault::Transient { reason: Reason::GraphUnavailable }),
    }
}

/// Whether this cloud does not have the place at all.
fn lacks_segment(answer: &Answer) -> bool {
    answer.status == 501 || Complaint::of(answer).mentions(&[NO_SEGMENT])
}

/// The revocation of sessions.
pub(super) fn revocation(ending: &Ending, held: Duration) -> Result<(), Fault> {
    let reason = match changing(ending, held)? {
        Meaning::Good => return Ok(()),
        Meaning::NotFound => Reason::UserNotFound,
        Meaning::Forbidden => Reason::Forbidden,
        Meaning::Throttled
        | Meaning::TokenRefused
        | Meaning::Refused(_)
        | Meaning::Impossible
        | Meaning::Conflict
        | Meaning::Failed => Reason::GraphRefused,
    };
    Err(Fault::Permanent { reason })
}

/// The faults that every changing call shares.
fn changing(ending: &Ending, held: Duration) -> Result<Meaning, Fault> {
    let reason = Reason::GraphUnavailable;
    let answer = match ending {
        Ok(answer) => answer,
        Err(Broken::Connect) => return Err(Fault::Transient { reason }),
        Err(Broken::Timeout | Broken::Cut) => return Err(Fault::Unknown { reason }),
    };
    match meaning(answer) {
        Meaning::Throttled => Err(Fault::Throttled { after: held }),
        Meaning::TokenRefused => Err(Fault::Unavailable { reason: Reason::TokenRefused }),
        Meaning::Conflict => Err(Fault::Transient { reason }),
        Meaning::Failed => Err(Fault::Unknown { reason }),
        clear
        @ (Meaning::Good | Meaning::Forbidden | Meaning::NotFound | Meaning::Refused(_) | Meaning::Impossible) => {
            Ok(clear)
        }
    }
}

/// Whether Graph says that the tenant lacks the licence for what was asked, in the documented words only.
pub(super) fn is_not_licensed(answer: &Answer) -> bool {
    let complaint = Complaint::of(answer);
    matches!(answer.status, 400 | 403)
        && (complaint.has_code(&["aadpremiumlicenserequired"]) || complaint.mentions(&[NO_LICENCE]))
}

/// What an error body says, in lower case: Graph's envelope, the bare `Message` of the service behind it, or nothing.
#[derive(Debug, Default)]
struct Complaint {
    codes: Vec<String>,
    text: String,
}

impl Complaint {
    fn of(answer: &Answer) -> Self {
        let mut complaint = Self::default();
        if let Some(body) = answer.body.as_ref().filter(|_| !answer.is_good()) {
            complaint.gather(body, 0);
        }
        complaint
    }

    fn gather(&mut self, value: &Value, depth: u8) {
        for (key, value) in value.as_object().into_iter().flatten() {
            match (key.to_ascii_lowercase().as_str(), value) {
                ("code" | "error", Value::String(code)) => self.codes.push(code.to_lowercase()),
                ("message" | "messagedetail" | "value", Value::String(text)) => {
                    self.text.push_str(&text.to_lowercase());
                    self.text.push('\n');
                }
                ("error" | "innererror" | "odata.error" | "message", Value::Object(_)) if depth < 6 => {
                    self.gather(value, depth + 1);
                }
                _ => {}
            }
        }
    }

    fn has_code(&self, known: &[&str]) -> bool {
        self.codes.iter().any(|code| known.contains(&code.as_str()))
    }

    fn mentions(&self, fragments: &[&str]) -> bool {
        fragments.iter().any(|fragment| self.text.contains(fragment))
    }
}
