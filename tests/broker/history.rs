//! The history checker: what was asked, what the results say, and what the simulator really deleted, held against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::requests::{allowed, ids};
use crate::simulator::Method;
use crate::stage::{Stage, until};

/// Every result event seen so far, by request id.
#[derive(Default)]
pub struct History {
    events: BTreeMap<String, Vec<Value>>,
}

impl History {
    /// Waits for all results after trouble, and holds the history against the journal.
    pub async fn settle(stage: &mut Stage, requests: &[Value], within: Duration) {
        let mut history = Self::default();
        history.collect(stage, requests, within).await;
        until(Duration::from_secs(60), "the worker is ready again", async || stage.is_ready().await).await;
        stage.finish().await;
        history.take(stage).await;
        history.assert_complete(requests);
        history.assert_deletes(&stage.simulator.deleted().await, true);
    }

    /// Takes results from the queue until each of these requests has one.
    pub async fn collect(&mut self, stage: &mut Stage, requests: &[Value], within: Duration) {
        let wanted = ids(requests);
        until(within, "every request has a result", async || {
            self.take(stage).await;
            wanted.iter().all(|id| self.events.contains_key(id))
        })
        .await;
    }

    /// Takes the results that are there.
    pub async fn take(&mut self, stage: &mut Stage) {
        for message in stage.queues.take("results").await {
            let event: Value = serde_json::from_slice(&message.data).expect("a result event is JSON");
            if event["type"] == "mfa-reset.delayed.v1" {
                continue;
            }
            let request = event["data"]["request_id"].as_str().expect("a request id").to_owned();
            self.events.entry(request).or_default().push(event);
        }
    }

    /// How many results are there, repeats included.
    pub fn len(&self) -> usize {
        self.events.values().map(Vec::len).sum()
    }

    /// The result of a request.
    pub fn result(&self, id: &str) -> &Value {
        &self.events[id][0]["data"]
    }

    /// The event id of each result of a request, in order of arrival.
    pub fn event_ids(&self, id: &str) -> Vec<&str> {
        self.events[id].iter().map(|event| event["id"].as_str().expect("an event id")).collect()
    }

    /// Asserts: a result for each request and for nothing else; repeats are the same event; no two requests share one; no
    /// name of a person in it.
    pub fn assert_complete(&self, requests: &[Value]) {
        assert_eq!(
            self.events.keys().cloned().collect::<BTreeSet<_>>(),
            ids(requests).into_iter().collect(),
            "requests with a result"
        );
        let mut seen = BTreeSet::new();
        for (id, events) in &self.events {
            for event in events {
                assert_eq!(event["id"], events[0]["id"], "repeats of {id} carry one event id");
                assert_eq!(event["data"], events[0]["data"], "repeats of {id} say the same");
            }
            assert!(seen.insert(self.event_ids(id)[0]), "two requests share an event id: {id}");
            assert!(!events[0].to_string().contains("@contoso.test"), "the result of {id} names a person");
        }
    }

    /// The methods that results list with one of these words.
    pub fn methods(&self, words: &[&str]) -> BTreeSet<Method> {
        let mut found = BTreeSet::new();
        for data in self.events.values().map(|events| &events[0]["data"]) {
            let user = data["target_object_id"].as_str().unwrap_or_default();
            for method in data["methods"].as_array().into_iter().flatten() {
                if words.iter().any(|word| method["result"] == **word) {
                    let part = |name: &str| method[name].as_str().unwrap_or_default().to_owned();
                    found.insert((user.to_owned(), part("type"), part("id")));
                }
            }
        }
        found
    }

    /// Asserts that what was deleted is what the results own up to, of the types that the profiles allow, from nobody that
    /// a guard protects. After a crash a removal that was under way may be told as `already_absent`.
    pub fn assert_deletes(&self, deleted: &[Method], crashed: bool) {
        let effects: BTreeSet<Method> = deleted.iter().cloned().collect();
        assert_eq!(effects.len(), deleted.len(), "nothing is deleted twice");
        let removed = self.methods(&["removed"]);
        if crashed {
            let owned_up = self.methods(&["removed", "already_absent"]);
            assert!(
                removed.is_subset(&effects) && effects.is_subset(&owned_up),
                "deletes and results differ:\n{effects:#?}\n{owned_up:#?}"
            );
        } else {
            assert_eq!(effects, removed, "deletes at Graph and removals in the results");
        }
        for (id, data) in self.events.iter().map(|(id, events)| (id, &events[0]["data"])) {
            let user = data["target_object_id"].as_str().unwrap_or_default();
            let outcome = data["outcome"].as_str().unwrap();
            let profile = id.rsplit_once(':').map_or("", |(_, profile)| profile);
            for (_, kind, _) in effects.iter().filter(|(whose, ..)| whose == user) {
                assert!(matches!(outcome, "succeeded" | "partial"), "{id} is {outcome}, yet a {kind} was deleted");
                assert!(allowed(profile, kind), "{profile} does not call for {kind}");
            }
        }
    }
}
