//! The answers to the removal of a subject, as faults of the simulator, and what they may honestly be taken for.

use serde_json::{Value, json};

/// The answer without a fault.
pub const PLAIN: &str = "plain";

/// What an answer tells the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    /// The plain truth.
    True,
    /// Done, although it is not.
    Lies,
    /// Not there.
    NotFound,
    /// Refused: this result and reason is expected where it stays at that.
    Refuses(&'static str, Option<&'static str>),
    /// Nothing happened; try again.
    Passing,
    /// Wait a little; nothing happened, or one cannot tell.
    Waits,
    /// Wait, without a word of how long.
    Unsaid,
    /// One cannot tell whether anything happened.
    Unknown,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub name: &'static str,
    pub tongue: Tongue,
    status: u16,
    mode: &'static str,
    apply: bool,
    message: &'static str,
    retry_after: Option<&'static str>,
    /// Whether more than a minute goes by before anybody looks again.
    pub leap: bool,
}

const fn answer(name: &'static str, tongue: Tongue, status: u16, message: &'static str) -> Answer {
    Answer { name, tongue, status, mode: "answer", apply: false, message, retry_after: None, leap: false }
}

const fn lost(name: &'static str, mode: &'static str, apply: bool) -> Answer {
    Answer { mode, apply, ..answer(name, Tongue::Unknown, 0, "") }
}

const fn refused(name: &'static str, result: &'static str, message: &'static str) -> Answer {
    answer(name, Tongue::Refuses(result, None), 400, message)
}

const REFUSED: Tongue = Tongue::Refuses("failed", Some("graph_refused"));
const FORBIDDEN: Tongue = Tongue::Refuses("forbidden", Some("forbidden"));
const SHORTLY: Option<&str> = Some("0.05");

/// Every answer; the plain one first.
pub const ANSWERS: [Answer; 29] = [
    answer(PLAIN, Tongue::True, 0, ""),
    answer("not_found", Tongue::NotFound, 404, ""),
    Answer { apply: true, ..answer("not_found_but_applied", Tongue::NotFound, 404, "") },
    refused("default", "blocked_default", "Cannot delete default method with other methods configured."),
    refused(
        "matches_default",
        "blocked_default",
        "The requested authentication method id of [x] matches the user's current default authentication method, and \
         cannot be deleted until the default authentication method is changed",
    ),
    refused(
        "dependency",
        "blocked_dependency",
        "Mobile number cannot be deleted without first deleting alternate mobile number.",
    ),
    answer("other_400", REFUSED, 400, "Something else."),
    answer("orphan_key", REFUSED, 400, "Invalid value for KeyId"),
    answer("orphan_base64", REFUSED, 400, "The input is not a valid Base-64 string"),
    answer("wrong_verb", REFUSED, 405, ""),
    answer("forbidden", FORBIDDEN, 403, "Request Authorization failed"),
    answer("forbidden_by_directory", FORBIDDEN, 403, ""),
    answer("unauthorized", Tongue::Passing, 401, ""),
    answer("conflict", Tongue::Passing, 409, ""),
    Answer { retry_after: SHORTLY, ..answer("throttled", Tongue::Waits, 429, "") },
    Answer { retry_after: SHORTLY, ..answer("away", Tongue::Waits, 503, "") },
    Answer { retry_after: SHORTLY, apply: true, ..answer("away_but_applied", Tongue::Waits, 503, "") },
    answer("throttled_unsaid", Tongue::Unsaid, 429, ""),
    answer("away_unsaid", Tongue::Unsaid, 503, ""),
    answer("error", Tongue::Unknown, 500, ""),
    Answer { apply: true, ..answer("gateway_but_applied", Tongue::Unknown, 504, "") },
    lost("timed_out", "stall", false),
    Answer { leap: true, ..lost("timed_out_and_a_minute", "stall", false) },
    lost("timed_out_but_applied", "stall", true),
    lost("closed", "close", false),
    lost("dropped_after_apply", "drop_after_apply", true),
    Answer { tongue: Tongue::True, ..lost("malformed", "malformed", true) },
    Answer { tongue: Tongue::Lies, ..lost("malformed_and_not_applied", "malformed", false) },
    answer("lies", Tongue::Lies, 204, ""),
];

impl Answer {
    /// Whether there is a cell in which it never ends; the others are no different then, or hold everybody up.
    pub fn may_last(&self) -> bool {
        !matches!(self.tongue, Tongue::True | Tongue::Lies | Tongue::Unsaid) && self.name != "unauthorized"
    }

    /// The fault, for one removal of this user.
    pub fn fault(&self, user: &str) -> Value {
        let mut fault = json!({"operation": "delete_method", "user": user, "mode": self.mode, "apply": self.apply});
        if self.status != 0 {
            fault["status"] = json!(self.status);
        }
        if let Some(wait) = self.retry_after {
            fault["retry_after"] = json!(wait);
        }
        if !self.message.is_empty() {
            fault["body"] = json!({"error": {"code": "badRequest", "message": self.message, "innerError": {}}});
        }
        fault
    }

    /// How often it strikes where it lasts.
    pub const fn most(&self, always: bool) -> usize {
        match (always, self.tongue) {
            _ if !always => 1,
            // Who is asked to wait for ever slows down to a call in two seconds.
            (_, Tongue::Waits) if self.status == 429 => 7,
            (_, Tongue::Waits) => 3,
            _ => usize::MAX,
        }
    }
}
