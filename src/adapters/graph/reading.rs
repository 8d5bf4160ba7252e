//! Reading calls: admitted, tried a few times, followed page by page.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use reqwest::{Method, Url};
use serde_json::Value;
use tokio::time::sleep;
use tracing::warn;
use uuid::Uuid;

use super::Graph;
use super::answer::Answer;
use super::client::Call;
use super::fault;
use super::observe::{Operation, Trail};
use crate::domain::outcome::Fault;
use crate::domain::request::Lane;

/// The most pages of one list.
const PAGES: usize = 50;

/// The waits between the tries of one call: four tries in all.
pub(super) struct Tries(ExponentialBackoff);

impl Tries {
    pub(super) fn new() -> Self {
        let delays = ExponentialBuilder::default().with_min_delay(Duration::from_millis(250)).with_max_times(3);
        Self(delays.with_jitter().build())
    }

    /// Waits before the next try, or says that there is none. What Graph asked to wait is waited at the gate.
    pub(super) async fn again(&mut self, fault: Fault) -> Result<(), Fault> {
        let passing = matches!(fault, Fault::Throttled { .. } | Fault::Transient { .. });
        let Some(delay) = self.0.next().filter(|_| passing) else { return Err(fault) };
        sleep(delay).await;
        Ok(())
    }
}

impl Graph {
    /// Waits for a token, then for the gate: whoever is let in sends at once.
    pub(super) async fn admitted(&self, lane: Lane, cost: u32) -> Result<(), Fault> {
        self.tokens.current().await?;
        self.gate.admit(lane, cost).await
    }

    /// Reads one thing; the answer is good or final.
    pub(super) async fn get(&self, lane: Lane, operation: Operation, url: Url, trail: &Trail) -> Result<Answer, Fault> {
        let mut tries = Tries::new();
        loop {
            self.admitted(lane, 1).await?;
            let id = Uuid::new_v4();
            trail.push(id);
            let call = Call { operation, method: Method::GET, url: url.clone(), id, body: None, checked: None };
            let ending = self.send(&call).await?;
            match fault::reading(ending, self.gate.remaining()) {
                Ok(answer) => return Ok(answer),
                Err(fault) => tries.again(fault).await?,
            }
        }
    }

    /// The rows of a list whose first page is there; `None` where any of it is missing for good.
    pub(super) async fn pages(
        &self,
        lane: Lane,
        operation: Operation,
        first: Answer,
        trail: &Trail,
    ) -> Result<Option<Vec<Value>>, Fault> {
        let mut rows = Vec::new();
        let mut answer = first;
        for _ in 0..PAGES {
            let Some((page, next)) = page(answer) else { return Ok(None) };
            rows.extend(page);
            let Some(next) = next else { return Ok(Some(rows)) };
            let Some(url) = next.as_str().and_then(|link| self.own_link(link)) else {
                warn!(operation = operation.name(), "graph's next page lies elsewhere, so it is not read");
                return Ok(None);
            };
            answer = self.get(lane, operation, url, trail).await?;
        }
        warn!(operation = operation.name(), pages = PAGES, "the list does not end");
        Ok(None)
    }
}

/// The rows of a page and the link to the next.
fn page(answer: Answer) -> Option<(Vec<Value>, Option<Value>)> {
    if !answer.is_good() {
        return None;
    }
    let mut body = answer.body?;
    let next = body.get_mut("@odata.nextLink").map(Value::take).filter(|link| !link.is_null());
    let Value::Array(rows) = body.get_mut("value")?.take() else { return None };
    rows.iter().all(Value::is_object).then_some((rows, next))
}
