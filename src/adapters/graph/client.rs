//! One request: authorised, timed, counted, and heard when it asks everybody to wait.

use std::sync::Arc;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_LENGTH};
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use uuid::Uuid;

use super::Graph;
use super::answer::{self, Answer, Broken, Ending, PERCENTAGE};
use super::fault::{self, Meaning};
use super::observe::{Observed, Operation, Status};
use super::token::Token;
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;
use crate::ports::CHECK_HOLDS;
use crate::trace::{self, Context};

/// A request to Graph.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) method: Method,
    pub(super) url: Url,
    /// Its `client-request-id`.
    pub(super) id: Uuid,
    pub(super) body: Option<&'a Value>,
    /// When the lease was checked that it rests on, if it changes anything.
    pub(super) checked: Option<Timestamp>,
}

/// A request, or an item of a batch, on its way.
pub(super) struct Sent {
    /// Its `client-request-id`.
    pub(super) id: Uuid,
    at: Instant,
    /// What it says of its trace: its own span there.
    pub(super) context: Option<Context>,
}

impl Sent {
    pub(super) fn now(id: Uuid) -> Self {
        Self { id, at: Instant::now(), context: trace::current().map(Context::child) }
    }
}

impl Call<'_> {
    /// Stops a call at the last moment whose check is old: the process was frozen, or waited long for a token.
    fn may_go(&self) -> Result<(), Fault> {
        let fresh = |checked: Timestamp| {
            (checked..checked.saturating_add(CHECK_HOLDS).unwrap_or(checked)).contains(&Timestamp::now())
        };
        if self.checked.is_none_or(fresh) { Ok(()) } else { Err(Fault::LeaseLost) }
    }
}

impl Graph {
    /// Sends a request, and once more with a fresh token where the first did not work, all within one time-out. A
    /// fault means that there is no token, or that the lease has to be checked again; either way nothing happened.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Ending, Fault> {
        let deadline = Instant::now() + self.timeout;
        let token = self.token_by(deadline).await?;
        call.may_go()?;
        let ending = self.exchange(call, &token, deadline).await;
        let refused = ending.as_ref().is_ok_and(|answer| fault::meaning(answer) == Meaning::TokenRefused);
        if !refused || !self.tokens.reject(&token) {
            return Ok(ending);
        }
        let token = self.token_by(deadline).await?;
        // Meanwhile another call may have been told to wait.
        if !self.gate.remaining().is_zero() {
            return Ok(ending);
        }
        call.may_go()?;
        Ok(self.exchange(call, &token, deadline).await)
    }

    /// Sends a changing call at once, or not at all: while Graph asks to wait, nothing is sent.
    pub(super) async fn send_now(&self, call: &Call<'_>) -> Result<Ending, Fault> {
        let after = self.gate.remaining();
        if after.is_zero() { self.send(call).await } else { Err(Fault::Throttled { after }) }
    }

    async fn token_by(&self, deadline: Instant) -> Result<Arc<Token>, Fault> {
        let token = timeout_at(deadline, self.tokens.current()).await;
        token.map_err(|_| Fault::Unavailable { reason: Reason::GraphUnavailable })?
    }

    async fn exchange(&self, call: &Call<'_>, token: &Token, deadline: Instant) -> Ending {
        let sent = Sent::now(call.id);
        let mut request = self
            .http
            .request(call.method.clone(), call.url.clone())
            .timeout(deadline.saturating_duration_since(sent.at))
            .header("client-request-id", call.id.to_string())
            .header(ACCEPT, "application/json")
            .bearer_auth(token.secret.expose_secret());
        if let Some(context) = sent.context {
            request = request.header("traceparent", context.to_string());
        }
        request = match call.body {
            Some(body) => request.json(body),
            None if call.method == Method::POST => request.header(CONTENT_LENGTH, 0),
            None => request,
        };
        let mut percentage = None;
        let (ending, status) = match request.send().await {
            Ok(response) => {
                let told = response.headers().get(PERCENTAGE).and_then(|value| value.to_str().ok());
                percentage = told.and_then(answer::percentage);
                let (answer, status) = Answer::read(response).await;
                (Ok(answer), status)
            }
            Err(error) => {
                let broken = Broken::of(&error);
                (Err(broken), broken.status())
            }
        };
        self.note(call.operation, &sent, &ending, status, percentage);
        ending
    }

    /// Counts a request or an item of a batch, keeps the wait that it asks for, and learns from the
    /// share of the limit that it tells.
    pub(super) fn note(
        &self,
        operation: Operation,
        sent: &Sent,
        ending: &Ending,
        status: Status,
        percentage: Option<f64>,
    ) {
        let Sent { id, at, context } = *sent;
        let seconds = at.elapsed().as_secs_f64();
        (self.observer)(Observed::Call { operation, status, seconds, id: Some(id), context });
        match ending.as_ref().map(|answer| (answer, fault::asks_to_wait(answer))) {
            Ok((_, Some(wait))) => self.gate.asked(at, wait),
            Ok((answer, None)) if answer.status < 500 => self.gate.served(at, percentage),
            Ok(_) | Err(_) => self.gate.failed(at),
        }
        if !matches!(ending, Ok(answer) if answer.is_good()) {
            debug!(operation = operation.name(), %status, client_request_id = %id, "graph call failed");
        }
    }

    /// Graph's clock, or ours where it does not tell.
    pub(super) fn clock(answer_date: Option<Timestamp>) -> Timestamp {
        answer_date.unwrap_or_else(Timestamp::now)
    }
}
