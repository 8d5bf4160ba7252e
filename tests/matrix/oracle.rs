//! What must hold of every cell, computed from the simulator's state and journal and from nothing else.

use serde_json::{Value, json};

use crate::answer::{PLAIN, Tongue};
use crate::cell::Cell;
use crate::desk::Told;
use crate::kind::{AUTHENTICATOR_AAGUID, KINDS, Kind};
use crate::tenant::Tenant;

/// A cell that has ended, with the calls about its user.
pub struct Case<'a> {
    pub cell: &'a Cell,
    pub told: &'a Told,
    pub journal: &'a [Value],
    pub wrong: Vec<String>,
}

/// What happened to one method.
pub struct Fate<'a> {
    pub kind: &'static Kind,
    pub method: &'a Value,
    /// Whether it is there at the end.
    pub live: bool,
    /// Whether the profile calls for its removal, and it can be seen and removed.
    pub wanted: bool,
    /// The calls that tried to remove it.
    pub calls: Vec<&'a Value>,
    /// Whether the last of them met the cell's fault.
    pub struck: bool,
}

/// The methods of a user, without the password.
pub fn methods(user: &Value) -> impl Iterator<Item = (&'static Kind, &Value)> {
    let methods = user["methods"].as_array().unwrap().iter().filter(|method| method["type"] != "password");
    methods.map(|method| {
        let passkey = method["properties"]["aaGuid"] == AUTHENTICATOR_AAGUID;
        let is = |kind: &&Kind| method["type"] == kind.simulated && passkey == (kind.name == "authenticator_passkey");
        (KINDS.iter().find(is).unwrap(), method)
    })
}

/// Whether nobody can tell from the answer what happened.
pub fn is_unsure(call: &Value) -> bool {
    matches!(call["status"].as_u64(), Some(0 | 408 | 500..))
}

impl<'a> Case<'a> {
    /// Holds the cell against every rule.
    pub async fn judge(mut self, tenant: &Tenant, token: &str) -> Vec<String> {
        let told = self.told;
        let fates: Vec<Fate<'a>> = methods(&told.before).map(|(kind, method)| self.fate(kind, method)).collect();
        self.nothing_else_happened(&fates);
        self.every_method_is_told_once(&fates);
        for fate in &fates {
            match (fate.wanted, fate.live) {
                (false, _) => self.is_left_alone(fate),
                (true, false) => self.is_gone(fate),
                (true, true) => {
                    self.stays(fate, tenant, token).await;
                    self.is_not_kept_by_the_default_alone(fate, &fates);
                }
            }
        }
        self.sums_up(&fates);
        self.wrong
    }

    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    fn fate(&self, kind: &'static Kind, method: &'a Value) -> Fate<'a> {
        let cell = self.cell;
        let path = path(kind, method, &self.told.before);
        let calls: Vec<&Value> =
            self.journal.iter().filter(|call| call["method"] == "DELETE" && call["path"] == path.as_str()).collect();
        let wanted = kind.is_called_for(cell.profile) && kind.is_seen(cell.beta) && kind.can_be_removed(cell.beta);
        let live = methods(&self.told.after).any(|(_, left)| left["id"] == method["id"]);
        let subject = kind.name == cell.subject.name && cell.answer.name != PLAIN;
        let struck = subject && !calls.is_empty() && calls.len() <= cell.answer.most(cell.always);
        Fate { kind, method, live, wanted, calls, struck }
    }

    /// What the result says of a method.
    pub fn report(&self, fate: &Fate<'_>) -> &'a Value {
        let same = |report: &&Value| report["id"] == fate.method["id"] && report["type"] == fate.kind.reported;
        self.told.result["methods"].as_array().unwrap().iter().find(same).unwrap_or(&Value::Null)
    }

    /// No call removes what the profile does not call for, nothing else changes, and what stays is as it was.
    fn nothing_else_happened(&mut self, fates: &[Fate<'_>]) {
        let (before, after) = (&self.told.before, &self.told.after);
        let wanted =
            |call: &Value| fates.iter().any(|fate| fate.wanted && path(fate.kind, fate.method, before) == call["path"]);
        for call in self.journal {
            let removal = call["method"] == "DELETE";
            self.expect(!removal || wanted(call), || format!("a removal that is not called for: {call}"));
            for name in call["effect"].as_object().into_iter().flat_map(|effect| effect.keys()) {
                let may = match name.as_str() {
                    "removed" => removal && call["effect"]["removed"]["id"] == *call_id(call, fates, before),
                    "revoked" => true,
                    "default" => self.may_be_default(&call["effect"]["default"], fates),
                    _ => false,
                };
                self.expect(may, || format!("an effect that nobody asked for: {call}"));
            }
        }
        for (_, left) in methods(after) {
            let plain = |method: &Value| json!([method["id"], method["type"], method["value"], method["properties"]]);
            let same = methods(before).any(|(_, method)| plain(method) == plain(left));
            self.expect(same, || format!("a method is not what it was: {left}"));
        }
        for (name, value) in before.as_object().unwrap() {
            let may =
                ["methods", "removed", "defaultMethod", "signInSessionsValidFromDateTime"].contains(&name.as_str());
            self.expect(may || after[name] == *value, || format!("{name} changed"));
        }
    }

    /// The default changes only where it has to go, to something that is there.
    fn may_be_default(&self, to: &Value, fates: &[Fate<'_>]) -> bool {
        let bears = |fate: &Fate<'_>, preference: &Value| may_mean(preference.as_str().unwrap_or_default(), fate.kind);
        let from = &self.told.before["defaultMethod"];
        self.cell.beta
            && fates.iter().any(|fate| bears(fate, to))
            && fates.iter().any(|fate| bears(fate, from) && fate.wanted)
    }

    /// The result names every method that can be seen, and no other.
    fn every_method_is_told_once(&mut self, fates: &[Fate<'_>]) {
        let name = |id: &Value, kind: &Value| json!([id, kind]).to_string();
        let seen = fates.iter().filter(|fate| fate.kind.is_seen(self.cell.beta));
        let mut seen: Vec<String> = seen.map(|fate| name(&fate.method["id"], &fate.kind.reported.into())).collect();
        let told = self.told.result["methods"].as_array().unwrap();
        let mut told: Vec<String> = told.iter().map(|report| name(&report["id"], &report["type"])).collect();
        seen.sort();
        told.sort();
        self.expect(seen == told, || format!("the result names {told:?}, the user had {seen:?}"));
    }

    fn is_left_alone(&mut self, fate: &Fate<'_>) {
        self.expect(fate.live && fate.calls.is_empty(), || format!("{} was not left alone", fate.kind.name));
        if fate.kind.is_seen(self.cell.beta) {
            let word = if fate.kind.can_be_removed(self.cell.beta) { "kept" } else { "unsupported" };
            let said = self.report(fate);
            self.expect(said["result"] == word, || format!("{}: {word} is expected, not {said}", fate.kind.name));
        }
    }

    /// What is gone was removed by a call, and is not said to be there.
    fn is_gone(&mut self, fate: &Fate<'_>) {
        let Some(removal) = fate.calls.iter().find(|call| call["effect"]["removed"]["id"] == fate.method["id"]) else {
            self.wrong.push(format!("{} went without a call", fate.kind.name));
            return;
        };
        let said = self.report(fate);
        let denied = |call: &&&Value| matches!(call["status"].as_u64(), Some(400..=499));
        let expected: &[&str] = if fate.calls.iter().filter(denied).count() == fate.calls.len() {
            &["already_absent"]
        } else if is_unsure(removal) && self.is_stopped() && fate.calls.last().is_some_and(|call| is_unsure(call)) {
            &["removed", "ambiguous"]
        } else {
            &["removed"]
        };
        let right = expected.iter().any(|word| said["result"] == *word);
        self.expect(right, || format!("{} is gone: {expected:?} is expected, not {said}", fate.kind.name));
        let silent = said["result"] == "ambiguous" || said["reason_code"].is_null();
        self.expect(silent, || format!("{} is gone for no reason: {said}", fate.kind.name));
    }

    /// What stays stays for a reason, which is told.
    async fn stays(&mut self, fate: &Fate<'_>, tenant: &Tenant, token: &str) {
        let said = self.report(fate);
        let (result, reason) = (said["result"].as_str().unwrap_or_default(), said["reason_code"].as_str());
        let stopped = self.is_stopped() && reason == self.told.result["reason_code"].as_str();
        let in_doubt = self.told.long_in_doubt.iter().any(|id| fate.method["id"] == *id.as_str());
        let right = match (fate.calls.last(), fate.struck) {
            // The same phone may have been registered again meanwhile.
            (Some(_), _) if in_doubt && fate.kind.shares_its_id() => {
                result == "ambiguous" || (stopped && result == "failed")
            }
            (None, _) => stopped && result == "failed",
            // Refused before, and not tried again before the attempts ran out over another one.
            (Some(last), false) if stopped && result == "failed" => last["status"] == 400,
            (Some(_), true) => match self.cell.answer.tongue {
                // Graph refused it, and the answer was spoilt.
                Tongue::True => result == "failed" && reason == Some("graph_refused"),
                Tongue::Lies => result == "failed" && reason == Some("residual"),
                Tongue::NotFound => result == "failed" && reason == Some("not_found_but_listed"),
                Tongue::Refuses(word, why) => result == word && reason == why,
                Tongue::Passing | Tongue::Waits | Tongue::Unsaid | Tongue::Unknown => {
                    stopped && ["failed", "ambiguous"].contains(&result)
                }
            },
            (Some(last), false) => {
                let (status, words) = tenant.probe(&path(fate.kind, fate.method, &self.told.before), token).await;
                let expected =
                    if words.contains("alternate mobile") { "blocked_dependency" } else { "blocked_default" };
                last["status"] == 400 && status == 400 && result == expected && reason.is_none()
            }
        };
        self.expect(right, || format!("{} stays and is said to be {said}", fate.kind.name));
    }
}

impl Case<'_> {
    /// With the beta API, where a method that is kept can be the default, none stays for being it. What is said of a
    /// preference that goes and stays alike, nobody can tell.
    fn is_not_kept_by_the_default_alone(&mut self, fate: &Fate<'_>, fates: &[Fate<'_>]) {
        let blocked = !fate.struck && self.report(fate)["result"] == "blocked_default";
        let bears = |wanted: bool, preference: &str| {
            fates.iter().any(|other| other.wanted == wanted && may_mean(preference, other.kind))
        };
        let unclear = bears(false, self.told.before["defaultMethod"].as_str().unwrap_or_default());
        let clear = |preference: &&&str| bears(false, preference) && !bears(true, preference);
        let heir = fates.iter().flat_map(|other| other.kind.preferences).find(clear);
        if let (true, true, false, Some(heir)) = (blocked, self.cell.beta, unclear, heir) {
            self.wrong.push(format!("{} stays although {heir} can be the default", fate.kind.name));
        }
    }
}

/// Whether a preference may mean a method of this kind.
fn may_mean(preference: &str, kind: &Kind) -> bool {
    let code = preference == "oath" && kind.name == "microsoft_authenticator";
    code || kind.preferences.contains(&preference)
}

/// The one address that removes a method.
fn path(kind: &Kind, method: &Value, user: &Value) -> String {
    let ((version, collection), user) = (kind.place, user["id"].as_str().unwrap());
    let id = if kind.name == "qr_code_pin" { String::new() } else { format!("/{}", method["id"].as_str().unwrap()) };
    format!("/{version}/users/{user}/authentication/{collection}{id}")
}

/// The id of the method that a call is about.
fn call_id<'a>(call: &Value, fates: &[Fate<'a>], user: &Value) -> &'a Value {
    let about = |fate: &&Fate<'_>| call["path"] == path(fate.kind, fate.method, user);
    fates.iter().find(about).map_or(&Value::Null, |fate| &fate.method["id"])
}
