//! What the result says as a whole: outcome, reason, `verified`, sessions and counts.

use serde_json::Value;

use crate::answer::Tongue;
use crate::oracle::{Case, Fate};

const GONE: [&str; 2] = ["removed", "already_absent"];

impl Case<'_> {
    /// Whether the attempts ran out, which only an answer can do that never gets better.
    pub fn is_stopped(&self) -> bool {
        let tongue = self.cell.answer.tongue;
        let endless = self.cell.always && matches!(tongue, Tongue::Passing | Tongue::Waits | Tongue::Unknown);
        endless && self.told.result["reason_code"] == "attempts_exhausted"
    }

    pub fn sums_up(&mut self, fates: &[Fate<'_>]) {
        let result = &self.told.result;
        let text = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
        let (outcome, reason) = (text("outcome"), text("reason_code"));
        let wanted: Vec<&Fate<'_>> = fates.iter().filter(|fate| fate.wanted).collect();
        let gone = wanted.iter().all(|fate| !fate.live);
        let verified = gone && !self.is_stopped();
        self.expect(result["verified"] == verified, || format!("verified is not {verified}"));
        let expected = self.reasons(&wanted, gone);
        self.expect(expected.contains(&reason), || format!("reason is not one of {expected:?}"));
        let effects = self.journal.iter().any(|call| !call["effect"].is_null());
        let doubted = wanted.iter().any(|fate| self.report(fate)["result"] == "ambiguous");
        let word = match reason.as_str() {
            "done" => "succeeded",
            "nothing_to_remove" => "nothing_to_do",
            _ if effects || doubted => "partial",
            _ => "failed",
        };
        self.expect(outcome == word, || format!("outcome is not {word}"));
        self.counts();
        self.sessions();
    }

    /// The reasons that agree with what is told of the methods; what is blocked may be so because of something else.
    fn reasons(&self, wanted: &[&Fate<'_>], gone: bool) -> Vec<String> {
        let unsupported = !self.cell.beta && ["all", "compromised"].contains(&self.cell.profile);
        let unsupported = unsupported
            && self.told.result["methods"].as_array().unwrap().iter().any(|report| report["result"] == "unsupported");
        if self.is_stopped() {
            return vec!["attempts_exhausted".to_owned()];
        }
        if gone {
            let word = match (unsupported, wanted.is_empty()) {
                (true, _) => "unsupported_method",
                (false, true) => "nothing_to_remove",
                (false, false) => "done",
            };
            return vec![word.to_owned()];
        }
        let causes = wanted.iter().map(|fate| self.report(fate)).filter_map(|report| {
            let result = report["result"].as_str().filter(|result| !GONE.contains(result))?;
            Some(report["reason_code"].as_str().unwrap_or(result).to_owned())
        });
        let (blocked, other): (Vec<String>, Vec<String>) = causes.partition(|cause| cause.starts_with("blocked_"));
        if other.is_empty() { blocked } else { other }
    }

    fn counts(&mut self) {
        let methods = self.told.result["methods"].as_array().unwrap();
        let is = |words: &[&str]| {
            methods.iter().filter(|report| report["result"].as_str().is_some_and(|word| words.contains(&word))).count()
        };
        let (removed, left) = (is(&["removed"]), methods.len() - is(&GONE));
        let right = self.told.result["methods_removed"] == removed && self.told.result["methods_left"] == left;
        self.expect(right, || "the counts are wrong".to_owned());
    }

    /// Sessions are revoked after the last removal, or it is not said that they are.
    fn sessions(&mut self) {
        let last = |name: &str| {
            let effects = self.journal.iter().filter(|call| !call["effect"][name].is_null());
            effects.filter_map(|call| call["n"].as_u64()).next_back()
        };
        let told = self.told.result["sessions_revoked"] == true;
        let revoked = last("revoked").is_some() && last("revoked") > last("removed");
        // After the first revocation of two the job may have been stopped.
        let stopped = self.is_stopped() && last("removed").is_none();
        self.expect(told == revoked || (stopped && !told), || format!("sessions are not revoked: {told}"));
        let steps = self.told.result["steps"].as_array().unwrap();
        let done = |name: &str| steps.iter().any(|step| step["step"] == name && step["result"] == "done");
        for (step, effect) in [("revoke_sessions", "revoked"), ("change_default", "default")] {
            let right = !done(step) || last(effect).is_some();
            self.expect(right, || format!("{step} is not done"));
        }
    }

    /// All there is to know about a cell that went wrong.
    pub fn told_at_length(&self) -> String {
        let call =
            |call: &Value| format!("  {} {} {} {}", call["method"], call["path"], call["status"], call["effect"]);
        let calls = self.journal.iter().filter(|call| call["method"] != "GET" || call["path"] != "");
        format!("{}\n{}", self.told.result, calls.map(call).collect::<Vec<_>>().join("\n"))
    }
}
