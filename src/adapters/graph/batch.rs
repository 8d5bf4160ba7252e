//! Several reading calls in one request, or in a few while the rate is low. Each item is throttled, fails and is tried
//! again on its own.

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::RETRY_AFTER;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Graph;
use super::answer::{self, Answer};
use super::client::{Call, Sent};
use super::fault;
use super::observe::{Operation, Status, Trail};
use super::reading::Tries;
use super::retry_after;
use crate::domain::method::Api;
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;
use crate::domain::request::Lane;

/// One reading call of a batch: its address below the version, encoded.
pub(super) struct Item {
    pub(super) operation: Operation,
    pub(super) url: String,
}

/// The answers of a batch so far, in the order of its items.
struct Answers {
    items: Vec<Option<Answer>>,
    date: Option<Timestamp>,
}

impl Graph {
    /// Reads all of it from one version; each answer is good or final. The time is Graph's at the first answer.
    pub(super) async fn batch(
        &self,
        lane: Lane,
        api: Api,
        items: &[Item],
        trail: &Trail,
    ) -> Result<(Vec<Answer>, Timestamp), Fault> {
        let mut answers = Answers { items: items.iter().map(|_| None).collect(), date: None };
        let mut tries = Tries::new();
        loop {
            let mut open: Vec<usize> = (0..items.len()).filter(|index| answers.items[*index].is_none()).collect();
            open.truncate(self.gate.at_once());
            if open.is_empty() {
                return Ok((answers.items.into_iter().flatten().collect(), Self::clock(answers.date)));
            }
            self.admitted(lane, u32::try_from(open.len()).unwrap_or(u32::MAX)).await?;
            if let Err(fault) = self.batch_once(api, items, &open, &mut answers, trail).await {
                tries.again(fault).await?;
            }
        }
    }

    /// Asks for the open items once. A fault stands for every item that stays open.
    async fn batch_once(
        &self,
        api: Api,
        items: &[Item],
        open: &[usize],
        answers: &mut Answers,
        trail: &Trail,
    ) -> Result<(), Fault> {
        let token = self.tokens.current().await?;
        let sent: Vec<Sent> = items.iter().map(|_| Sent::now(Uuid::new_v4())).collect();
        let body = body(items, open, &sent);
        let id = Uuid::new_v4();
        trail.push(id);
        open.iter().for_each(|index| trail.push(sent[*index].id));
        let url = self.url_of(api, "$batch", None);
        let call =
            Call { operation: Operation::Batch, method: Method::POST, url, id, body: Some(&body), checked: None };
        let answer = fault::reading(self.send(&call).await?, self.gate.remaining())?;
        if !answer.is_good() {
            return Err(Fault::Permanent { reason: Reason::GraphRefused });
        }
        let date = *answers.date.get_or_insert(Self::clock(answer.date));
        let mut fault = None;
        for &index in open {
            let item = item(answer.body.as_ref(), index, date);
            match self.settle(items[index].operation, &sent[index], item) {
                Ok(answer) => answers.items[index] = Some(answer),
                Err(Fault::Unavailable { .. }) if self.tokens.reject(&token) => {
                    fault = Some(Fault::Transient { reason: Reason::TokenRefused });
                }
                Err(other) => fault = Some(other),
            }
        }
        fault.map_or(Ok(()), Err)
    }

    fn settle(&self, operation: Operation, sent: &Sent, item: Option<(Answer, Option<f64>)>) -> Result<Answer, Fault> {
        let Some((answer, percentage)) = item else {
            return Err(Fault::Transient { reason: Reason::GraphUnavailable });
        };
        let (status, ending) = (Status::Code(answer.status), Ok(answer));
        self.note(operation, sent, &ending, status, percentage);
        fault::reading(ending, self.gate.remaining())
    }
}

fn body(items: &[Item], open: &[usize], sent: &[Sent]) -> Value {
    let request = |index: &usize| {
        let Sent { id, context, .. } = &sent[*index];
        let mut headers = json!({"client-request-id": id, "Accept": "application/json"});
        if let Some(context) = context {
            headers["traceparent"] = context.to_string().into();
        }
        json!({"id": index.to_string(), "method": "GET", "url": items[*index].url, "headers": headers})
    };
    json!({"requests": open.iter().map(request).collect::<Vec<_>>()})
}

/// The answer to one item, with the share of the limit that it tells; they come in any order.
fn item(body: Option<&Value>, index: usize, date: Timestamp) -> Option<(Answer, Option<f64>)> {
    let id = index.to_string();
    let responses = body?.get("responses")?.as_array()?;
    let found = responses.iter().find(|item| item.get("id").and_then(Value::as_str) == Some(&id))?;
    let status = found.get("status")?;
    let status = status.as_u64().or_else(|| status.as_str()?.parse().ok())?;
    let headers = found.get("headers").and_then(Value::as_object);
    let percentage = headers.and_then(|headers| answer::percentage(&header(headers, answer::PERCENTAGE)?));
    let answer = Answer {
        status: u16::try_from(status).ok()?,
        retry_after: headers.and_then(|headers| retry_after::wait(&header(headers, RETRY_AFTER.as_str())?, date)),
        date: Some(date),
        body: found.get("body").filter(|body| !body.is_null()).cloned(),
    };
    Some((answer, percentage))
}

/// A header of an item, which may be text or a number.
fn header(headers: &Map<String, Value>, wanted: &str) -> Option<String> {
    let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
    match value {
        Value::String(text) => Some(text.clone()),
        // Without an exponent, which no header has.
        Value::Number(number) if number.is_f64() => Some(number.as_f64()?.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
