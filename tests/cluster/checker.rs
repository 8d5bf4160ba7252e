//! The history checker: a pure function over the record of a run. Each promise that it knows has a rule; each rule has a
//! test at the foot of this file that shows it failing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::record::{Held, Kind, Record};
use crate::requests::allowed;
use crate::simulator::Method;

/// What a history may violate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A confirmed request has no result.
    Lost,
    /// A result for something that nobody asked.
    Unexpected,
    /// Two result ids for a request, two requests with one, or a repeat that says something else.
    TwoAnswers,
    /// An outcome that this request cannot have had.
    WrongOutcome,
    /// A queue that should be empty is not.
    LeftOver,
    /// A dead letter that should not be, or one that should and is not.
    DeadLetter,
    /// Something that was registered after the plan was made, and had gone once, is gone again.
    RemovedAnew,
    /// Two removals of one user at the same time.
    Overlap,
    /// The same method was removed twice.
    RemovedTwice,
    /// Something is gone and no result says so.
    NotOwnedUp,
    /// A result says that something was removed that never was, or that something is gone that is there.
    NeverRemoved,
    /// Something is gone that no request called for.
    NotCalledFor,
    /// The log shows a panic, or what no log may show.
    Output,
    /// The bench saw it.
    Remark,
}

/// One violation, and what it is about.
pub type Violation = (Rule, String);

/// The words of a result for a method that is gone.
const GONE: [&str; 2] = ["removed", "already_absent"];
/// After a crash a removal may also be told like this: another number was there by then, or the same could not be told apart.
const IN_DOUBT: [&str; 2] = ["replaced_since", "ambiguous"];
/// Why a reset that did something may have left something: the rest of Graph was there all the time.
const LEFT_FOR: [&str; 6] =
    ["unsupported_method", "blocked_default", "blocked_dependency", "graph_refused", "ambiguous", "synced_passkey"];
/// Queues that may hold something at the end.
const KEPT: [&str; 3] = ["results", "audit", "dead-letters"];

/// Everything that is wrong with a history.
pub fn violations(record: &Record) -> Vec<Violation> {
    let rules = [answers, outcomes, queues, letters, registered, removals, results_against_effects, output];
    let remarks = record.remarks.iter().map(|remark| (Rule::Remark, remark.clone()));
    rules.iter().flat_map(|rule| rule(record)).chain(remarks).collect()
}

fn answers(record: &Record) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut first: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for told in &record.told {
        let (request, id) = (told.request.as_str(), &told.event["data"]["request_id"]);
        let named = id.is_null() || id == request;
        if !record.asked.contains_key(request) || !named {
            found.push((Rule::Unexpected, format!("{request}: {}", told.event["type"])));
        }
    }
    for (request, event) in record.results() {
        let known = *first.entry(request).or_insert(event);
        if known["id"] != event["id"] || says(record, request, known) != says(record, request, event) {
            found.push((Rule::TwoAnswers, format!("{request}: {} and {}", known["id"], event["id"])));
        }
        let owner = *owners.entry(event["id"].to_string()).or_insert(request);
        if owner != request {
            found.push((Rule::TwoAnswers, format!("{owner} and {request} share {}", event["id"])));
        }
    }
    let lost = record.asked.iter().filter(|(id, asked)| asked.confirmed && !first.contains_key(id.as_str()));
    found.extend(lost.map(|(id, asked)| (Rule::Lost, format!("{id}: {:?}", asked.kind))));
    found
}

/// What an event says. Who is turned away at the door leaves no trace in the ledger: only the times of a repeat differ.
fn says(record: &Record, request: &str, event: &Value) -> Value {
    let mut data = event["data"].clone();
    if record.asked.get(request).is_some_and(|asked| !matches!(asked.kind, Kind::Reset(_))) {
        data["started_at"] = Value::Null;
        data["finished_at"] = Value::Null;
    }
    data
}

fn outcomes(record: &Record) -> Vec<Violation> {
    let wrong = |(request, event): &(&str, &Value)| {
        let data = &event["data"];
        let (outcome, reason) = (data["outcome"].as_str()?, data["reason_code"].as_str()?);
        let right = match record.asked.get(*request)?.kind {
            Kind::Malformed => outcome == "rejected",
            Kind::Stranger => (outcome, reason) == ("denied", "producer_not_allowed"),
            Kind::Reset(_) => match outcome {
                "succeeded" | "nothing_to_do" => true,
                "partial" => LEFT_FOR.contains(&reason),
                "denied" => reason == "protected_target",
                "failed" => {
                    matches!(reason, "user_not_found" | "blocked_default" | "graph_refused" | "unsupported_method")
                }
                _ => false,
            },
        };
        (!right).then(|| (Rule::WrongOutcome, format!("{request}: {outcome}, {reason}, {}", data["methods"])))
    };
    record.results().filter_map(|told| wrong(&told)).collect()
}

fn queues(record: &Record) -> Vec<Violation> {
    let may = |name: &str| KEPT.iter().any(|kept| name.ends_with(kept));
    let left = record.left.iter().filter(|(name, count)| **count > 0 && !may(name));
    left.map(|(name, count)| (Rule::LeftOver, format!("{name}: {count}"))).collect()
}

fn letters(record: &Record) -> Vec<Violation> {
    let malformed = |request: &str| record.asked.get(request).is_some_and(|asked| asked.kind == Kind::Malformed);
    let innocent = record.letters.iter().filter(|letter| !malformed(&letter.request) || letter.reason != "malformed");
    let mut found: Vec<_> =
        innocent.map(|letter| (Rule::DeadLetter, format!("{}: {}", letter.request, letter.reason))).collect();
    let dead: BTreeSet<&str> = record.letters.iter().map(|letter| letter.request.as_str()).collect();
    let missing = record.results().filter(|(request, _)| malformed(request) && !dead.contains(request));
    found.extend(missing.map(|(request, _)| (Rule::DeadLetter, format!("{request}: none"))));
    found
}

fn registered(record: &Record) -> Vec<Violation> {
    let anew: Vec<Held> = record.effects().filter(|effect| record.registered.contains(effect)).collect();
    let missing = record.registered.iter().filter(|held| !record.standing.contains(held) && !anew.contains(held));
    anew.iter().chain(missing).map(|held| (Rule::RemovedAnew, format!("{held:?}"))).collect()
}

fn removals(record: &Record) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut busy: BTreeMap<&str, i64> = BTreeMap::new();
    let mut calls: Vec<_> = record.removals.iter().collect();
    calls.sort_by_key(|removal| (removal.from, removal.to));
    for removal in calls {
        let until = busy.entry(&removal.method.0).or_insert(i64::MIN);
        if removal.from < *until {
            found.push((Rule::Overlap, format!("{:?} at {}, busy until {until}", removal.method, removal.from)));
        }
        *until = removal.to.max(*until);
    }
    let (mut seen, effects) = (BTreeSet::new(), record.effects());
    let twice = effects.filter(|held| !seen.insert((held.method.clone(), held.value.clone())));
    found.extend(twice.map(|held| (Rule::RemovedTwice, format!("{held:?}"))));
    found
}

/// The methods that results list with one of these words.
fn told(record: &Record, words: &[&str]) -> BTreeSet<Method> {
    let mut found = BTreeSet::new();
    for (_, event) in record.results() {
        let user = event["data"]["target_object_id"].as_str().unwrap_or_default();
        for method in event["data"]["methods"].as_array().into_iter().flatten() {
            if words.iter().any(|word| method["result"] == **word) {
                let part = |name: &str| method[name].as_str().unwrap_or_default().to_owned();
                found.insert((user.to_owned(), part("type"), part("id")));
            }
        }
    }
    found
}

fn results_against_effects(record: &Record) -> Vec<Violation> {
    let effects: BTreeSet<Method> = record.effects().map(|effect| effect.method).collect();
    let owned_up = told(record, &[GONE, IN_DOUBT].concat());
    let mut found: Vec<Violation> =
        effects.difference(&owned_up).map(|method| (Rule::NotOwnedUp, format!("{method:?}"))).collect();
    let never = told(record, &["removed"]);
    found.extend(never.difference(&effects).map(|method| (Rule::NeverRemoved, format!("{method:?} never was"))));
    let gone = told(record, &GONE);
    let there = record.standing.iter().filter(|held| gone.contains(&held.method) && !record.registered.contains(held));
    found.extend(there.map(|held| (Rule::NeverRemoved, format!("{:?} is there", held.method))));
    found.extend(
        effects
            .iter()
            .filter(|method| !called_for(record, method))
            .map(|method| (Rule::NotCalledFor, format!("{method:?}"))),
    );
    found
}

/// Whether a request that was carried out called for this removal.
fn called_for(record: &Record, (user, kind, _): &Method) -> bool {
    record.results().any(|(request, event)| {
        let data = &event["data"];
        let done = data["outcome"] == "succeeded" || data["outcome"] == "partial";
        let profile = record.asked.get(request).map(|asked| asked.kind);
        data["target_object_id"] == **user && done && matches!(profile, Some(Kind::Reset(name)) if allowed(name, kind))
    })
}

fn output(record: &Record) -> Vec<Violation> {
    let shown = |line: &String| record.secrets.iter().find(|(_, words)| line.contains(words));
    // Never the line itself: the checker's own words are output too.
    let bad = record.output.iter().enumerate().filter_map(|(at, line)| Some((at + 1, shown(line)?.0)));
    bad.map(|(number, what)| (Rule::Output, format!("line {number} of all logs: {what}"))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{Asked, Letter, Reply, Told};

    const PHONE: [&str; 3] = ["u1", "phone_mobile", "m"];

    fn method([user, kind, id]: [&str; 3]) -> Method {
        (user.into(), kind.into(), id.into())
    }

    fn held(method_of: [&str; 3], value: &str) -> Held {
        Held { method: method(method_of), value: value.into() }
    }

    fn told(request: &str, id: &str, outcome: &str, reason: &str, methods: &[([&str; 3], &str)]) -> Told {
        let user = methods.first().map(|([user, ..], _)| *user);
        let listed: Vec<_> =
            methods.iter().map(|([_, kind, id], word)| json!({"type": kind, "id": id, "result": word})).collect();
        let data = json!({"request_id": request, "outcome": outcome, "reason_code": reason, "target_object_id": user,
            "methods": listed});
        let kind = format!("mfa-reset.{outcome}.v1");
        Told { request: request.into(), event: json!({"id": id, "type": kind, "data": data}) }
    }

    fn removal(of: [&str; 3], [from, to]: [i64; 2], went: &str) -> Reply {
        Reply { method: method(of), from, to, went: Some(went.into()) }
    }

    fn asked(kind: Kind, confirmed: bool) -> Asked {
        Asked { kind, confirmed }
    }

    /// One request of each kind and one that was never confirmed, all as it should be, with what may happen besides:
    /// a repeat, a delay, a phone registered anew, a request that was not confirmed and not answered.
    fn good() -> Record {
        let done = told("a", "1", "succeeded", "done", &[(PHONE, "removed"), (["u1", "fido2", "f"], "already_absent")]);
        let mut delayed = told("a", "9", "delayed", "job_leased", &[]);
        delayed.event["type"] = json!("mfa-reset.delayed.v1");
        Record {
            asked: [
                ("a", asked(Kind::Reset("all"), true)),
                ("b", asked(Kind::Stranger, true)),
                ("c", asked(Kind::Malformed, true)),
                ("d", asked(Kind::Reset("all"), false)),
            ]
            .map(|(id, asked)| (id.to_owned(), asked))
            .into(),
            told: vec![
                delayed,
                done.clone(),
                told("b", "2", "denied", "producer_not_allowed", &[]),
                told("c", "3", "rejected", "malformed", &[]),
                done,
            ],
            letters: vec![Letter { request: "c".into(), reason: "malformed".into() }],
            removals: vec![removal(["u1", "fido2", "f"], [10, 20], ""), removal(PHONE, [20, 30], "old")],
            registered: vec![held(PHONE, "new")],
            standing: vec![held(PHONE, "new"), held(["u1", "password", "p"], "")],
            left: [("mfa.results".to_owned(), 2), ("mfa.requests.batch".to_owned(), 0)].into(),
            output: vec!["job concluded".into()],
            secrets: vec![("a secret", "canary"), ("a panic", "panicked at")],
            remarks: Vec::new(),
        }
    }

    #[test]
    fn a_good_history_passes() {
        assert_eq!(violations(&good()), []);
    }

    /// Spoils a good history and expects that these rules notice, and no others.
    #[track_caller]
    fn check(spoil: impl FnOnce(&mut Record), expected: &[Rule]) {
        let mut record = good();
        spoil(&mut record);
        let found = violations(&record);
        let rules: BTreeSet<Rule> = found.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(rules, expected.iter().copied().collect(), "{found:?}");
    }

    #[test]
    fn a_lost_request_is_noticed() {
        check(|record| record.asked.get_mut("d").unwrap().confirmed = true, &[Rule::Lost]);
        check(|record| record.told.retain(|told| told.request != "b"), &[Rule::Lost]);
        check(|record| record.told.retain(|told| told.request != "c"), &[Rule::Lost]);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_noticed() {
        check(|record| record.told.push(told("x", "7", "nothing_to_do", "", &[])), &[Rule::Unexpected]);
        check(|record| record.told[2].event["data"]["request_id"] = json!("a"), &[Rule::Unexpected]);
    }

    #[test]
    fn a_second_answer_is_noticed() {
        let again = |id, outcome| move |record: &mut Record| record.told.push(told("d", id, outcome, "done", &[]));
        check(again("4", "succeeded"), &[]);
        check(again("1", "succeeded"), &[Rule::TwoAnswers]);
        check(|record| record.told[4].event["id"] = json!("5"), &[Rule::TwoAnswers]);
        check(|record| record.told[4].event["data"]["attempts"] = json!(2), &[Rule::TwoAnswers]);
        check(|record| record.told[4].event["data"]["finished_at"] = json!("later"), &[Rule::TwoAnswers]);
        let turned_away = |name: &'static str| {
            move |record: &mut Record| {
                let mut again = record.told[2].clone();
                again.event["data"][name] = json!("other");
                record.told.push(again);
            }
        };
        check(turned_away("finished_at"), &[]);
        check(turned_away("summary"), &[Rule::TwoAnswers]);
    }

    #[test]
    fn an_outcome_that_cannot_be_is_noticed() {
        let tell = |outcome, reason| move |record: &mut Record| record.told.push(told("d", "4", outcome, reason, &[]));
        check(tell("partial", "unsupported_method"), &[]);
        check(tell("partial", "attempts_exhausted"), &[Rule::WrongOutcome]);
        check(tell("failed", "ledger_lost"), &[Rule::WrongOutcome]);
        check(tell("rejected", "id_reused"), &[Rule::WrongOutcome]);
        check(tell("denied", "recently_reset"), &[Rule::WrongOutcome]);
        check(|record| record.told[2] = told("b", "2", "succeeded", "done", &[]), &[Rule::WrongOutcome]);
        check(|record| record.told[3] = told("c", "3", "succeeded", "done", &[]), &[Rule::WrongOutcome]);
    }

    #[test]
    fn what_is_left_in_a_queue_is_noticed() {
        for queue in ["mfa.requests.tickets", "mfa.retry.batch.60", "mfa.wait.1"] {
            check(|record| record.left.extend([(queue.to_owned(), 1)]), &[Rule::LeftOver]);
        }
    }

    #[test]
    fn an_innocent_and_a_missing_dead_letter_are_noticed() {
        let letter = |request: &str, reason: &str| Letter { request: request.into(), reason: reason.into() };
        check(|record| record.letters.push(letter("a", "delivery_limit")), &[Rule::DeadLetter]);
        check(|record| record.letters.push(letter("c", "delivery_limit")), &[Rule::DeadLetter]);
        check(|record| record.letters.clear(), &[Rule::DeadLetter]);
    }

    #[test]
    fn the_removal_of_a_phone_registered_anew_is_noticed() {
        check(|record| record.removals.push(removal(PHONE, [50, 60], "new")), &[Rule::RemovedAnew]);
        check(|record| drop(record.standing.remove(0)), &[Rule::RemovedAnew]);
    }

    #[test]
    fn removals_that_overlap_are_noticed() {
        check(|record| record.removals[1].from = 19, &[Rule::Overlap]);
        check(|record| record.removals[0].to = 21, &[Rule::Overlap]);
        let other = || Reply { method: method(["u1", "email", "e"]), from: 12, to: 13, went: None };
        check(|record| record.removals.push(other()), &[Rule::Overlap]);
    }

    #[test]
    fn a_removal_that_comes_twice_is_noticed() {
        check(|record| record.removals.push(removal(["u1", "fido2", "f"], [50, 60], "")), &[Rule::RemovedTwice]);
    }

    #[test]
    fn a_removal_that_no_result_owns_up_to_is_noticed() {
        let say = |word: &'static str| {
            move |record: &mut Record| {
                for at in [1, 4] {
                    record.told[at].event["data"]["methods"][0]["result"] = json!(word);
                }
            }
        };
        check(say("already_absent"), &[]);
        check(say("replaced_since"), &[]);
        check(say("ambiguous"), &[]);
        check(say("kept"), &[Rule::NotOwnedUp]);
        check(say("failed"), &[Rule::NotOwnedUp]);
    }

    #[test]
    fn a_claim_that_is_not_true_is_noticed() {
        check(|record| drop(record.removals.remove(1)), &[Rule::NeverRemoved]);
        check(|record| record.standing.push(held(["u1", "fido2", "f"], "")), &[Rule::NeverRemoved]);
        check(|record| record.standing.push(held(PHONE, "old")), &[Rule::NeverRemoved]);
    }

    #[test]
    fn a_removal_that_nobody_called_for_is_noticed() {
        let kind = |name| move |record: &mut Record| record.asked.get_mut("a").unwrap().kind = Kind::Reset(name);
        check(kind("compromised"), &[]);
        check(kind("authenticator"), &[Rule::NotCalledFor]);
        let someone = |record: &mut Record| record.removals.push(removal(["u2", "email", "e"], [50, 60], ""));
        check(someone, &[Rule::NotOwnedUp, Rule::NotCalledFor]);
    }

    #[test]
    fn a_panic_a_secret_and_a_remark_are_noticed() {
        check(|record| record.output.push("thread panicked at src/x.rs".into()), &[Rule::Output]);
        check(|record| record.output.push("a canary".into()), &[Rule::Output]);
        check(|record| record.remarks.push("worker 1 ended unasked".into()), &[Rule::Remark]);
    }
}
