//! Which dead letters are meant.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::adapters::amqp::Letter;
use crate::cli::Filter;

/// Letters by their ids, or without any by what they are about.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    /// Beginnings of ids.
    pub(super) ids: &'a [String],
    /// What the letters are about.
    pub(super) filter: &'a Filter,
}

impl Choice<'_> {
    /// Whether a letter is meant. One whose age nobody knows is neither old nor new.
    pub(super) fn takes(&self, letter: &Letter, now: Timestamp) -> bool {
        if !self.ids.is_empty() {
            return self.ids.iter().any(|id| letter.id.starts_with(id.as_str()));
        }
        let Filter { reason, older_than, newer_than, ticket } = self.filter;
        let age = letter.since().map(|since| now.duration_since(since));
        let limit = |limit| SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
        reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && ticket.as_ref().is_none_or(|number| Some(number) == letter.ticket_number.as_ref())
            && older_than.is_none_or(|least| age.is_some_and(|age| age >= limit(least)))
            && newer_than.is_none_or(|most| age.is_some_and(|age| age < limit(most)))
    }
}

/// The ids of letters that these beginnings name for certain, and what is wrong with the other beginnings.
pub(super) fn resolve<'a>(
    ids: &[String],
    found: impl Iterator<Item = &'a str> + Clone,
) -> (BTreeSet<String>, Vec<String>) {
    let (mut named, mut complaints) = (BTreeSet::new(), Vec::new());
    for id in ids {
        let matching: BTreeSet<&str> = found.clone().filter(|name| name.starts_with(id.as_str())).collect();
        match matching.first() {
            None => complaints.push(format!("no dead letter has the id {id}")),
            Some(name) if matching.len() == 1 => drop(named.insert((*name).to_owned())),
            Some(_) => {
                let names: Vec<&str> = matching.into_iter().collect();
                complaints.push(format!("{id} is the beginning of several ids: {}", names.join(", ")));
            }
        }
    }
    (named, complaints)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::domain::request::{Envelope, Lane};

    fn letter(died: Option<i64>) -> Letter {
        Letter {
            id: "abcdef0123456789".into(),
            reason: "malformed".into(),
            detail: None,
            died_at: died.map(|died| Timestamp::from_second(died).unwrap()),
            envelope: Envelope::bare(Lane::Tickets),
            request_id: None,
            ticket_system: None,
            ticket_number: Some("INC1".into()),
            body: Vec::new(),
            message: Value::Null,
            obstacle: None,
        }
    }

    #[track_caller]
    fn check(filter: Filter, died: Option<i64>, taken: bool) {
        let choice = Choice { ids: &[], filter: &filter };
        assert_eq!(choice.takes(&letter(died), Timestamp::from_second(10_000).unwrap()), taken, "{filter:?}");
    }

    #[test]
    fn a_filter_takes_what_matches_all_of_it() {
        let of = |reason: &str, ticket: &str| Filter {
            reason: Some(reason.into()),
            ticket: Some(ticket.into()),
            ..Filter::default()
        };
        check(Filter::default(), None, true);
        check(of("malformed", "INC1"), None, true);
        check(of("malformed", "INC10"), None, false);
        check(of("id_reused", "INC1"), None, false);
    }

    #[test]
    fn a_letter_of_unknown_age_is_neither_old_nor_new() {
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        let older = |least| Filter { older_than: hours(least), ..Filter::default() };
        let newer = |most| Filter { newer_than: hours(most), ..Filter::default() };
        check(older(2), Some(10_000 - 7200), true);
        check(older(2), Some(10_000 - 7199), false);
        check(newer(2), Some(10_000 - 7199), true);
        check(newer(2), Some(10_000 - 7200), false);
        check(newer(2), Some(20_000), true);
        check(older(0), None, false);
        check(newer(2), None, false);
        check(Filter { older_than: Some(Duration::MAX), ..Filter::default() }, Some(0), false);
    }

    #[test]
    fn ids_are_named_by_their_beginnings_unless_several_begin_so() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let found = ["aaaaaaaa1", "aaaaaaaa2", "bbbbbbbb1", "bbbbbbbb1"];
        let (named, complaints) = resolve(&ids(&["aaaaaaaa", "bbbbbbbb", "cccccccc"]), found.into_iter());
        assert_eq!(named, ["bbbbbbbb1".to_owned()].into(), "exact copies are one letter");
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].contains("aaaaaaaa1, aaaaaaaa2") && complaints[1].contains("cccccccc"));
        let choice = Choice { ids: &ids(&["abcdef01"]), filter: &Filter::default() };
        assert!(choice.takes(&letter(None), Timestamp::UNIX_EPOCH));
    }
}
