//! One answer of Graph, whole or item of a batch, read within bounds and without faith in its body.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Response;
use serde_json::Value;

use super::observe::Status;
use super::retry_after;

/// The longest body of a good answer.
const LONGEST: usize = 4 * 1024 * 1024;
/// The longest body of any other.
const LONGEST_ERROR: usize = 64 * 1024;

/// The header of the identity service that says how much of the limit is in use: 0.8 to 1.8, and absent below.
pub(super) const PERCENTAGE: &str = "x-ms-throttle-limit-percentage";

/// A share of the limit; what cannot be one is not believed.
pub(super) fn percentage(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|share| (0.0..=10.0).contains(share))
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// Graph's clock.
    pub(super) date: Option<Timestamp>,
    /// `None` where it is empty, not JSON, too long or cut short.
    pub(super) body: Option<Value>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// No connection came about, so nothing was sent.
    Connect,
    /// Not in time, after something may have been sent.
    Timeout,
    /// The connection broke after something may have been sent.
    Cut,
}

/// How a request ended.
pub(super) type Ending = Result<Answer, Broken>;

impl Answer {
    pub(super) const fn is_good(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// Reads an answer, and how it is to be counted.
    pub(super) async fn read(mut response: Response) -> (Self, Status) {
        let status = response.status().as_u16();
        let mut answer = Self {
            status,
            retry_after: retry_after::parse(response.headers(), Timestamp::now()),
            date: retry_after::date(response.headers()),
            body: None,
        };
        let bound = if answer.is_good() { LONGEST } else { LONGEST_ERROR };
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= bound => bytes.extend_from_slice(&chunk),
                Ok(Some(_)) => return (answer, Status::Body),
                Ok(None) => break,
                Err(error) if error.is_timeout() => return (answer, Status::Timeout),
                Err(_) => return (answer, Status::Body),
            }
        }
        answer.body = serde_json::from_slice(&bytes).ok();
        let malformed = answer.is_good() && answer.body.is_none() && !bytes.is_empty();
        (answer, if malformed { Status::Body } else { Status::Code(status) })
    }
}

impl Broken {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if error.is_connect() || error.is_builder() {
            Self::Connect
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Cut
        }
    }

    pub(super) const fn status(self) -> Status {
        match self {
            Self::Connect => Status::Connect,
            Self::Timeout => Status::Timeout,
            Self::Cut => Status::Body,
        }
    }
}
