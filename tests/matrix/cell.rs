//! The cells: which method, profile, default, company and answer, and how the product of all of them is thinned.

use std::collections::BTreeSet;
use std::fmt;

use fastrand::Rng;

use crate::answer::{ANSWERS, Answer, PLAIN, Tongue};
use crate::kind::{KINDS, Kind};

/// The built-in profiles.
pub const PROFILES: [&str; 5] = ["authenticator", "re-register", "lost-phone", "all", "compromised"];

/// What the subject has beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Company {
    /// Nothing; an alternate mobile phone comes with the mobile phone that it needs.
    Alone,
    /// Authenticator, mobile phone, security key and address.
    Few,
    /// One method of every kind.
    Everything,
}

/// Which method is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Default {
    Nothing,
    Subject,
    Other,
}

const COMPANIES: [Company; 3] = [Company::Alone, Company::Few, Company::Everything];
const DEFAULTS: [Default; 3] = [Default::Nothing, Default::Subject, Default::Other];

/// One reset of one user.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// The method that the answer is about.
    pub subject: &'static Kind,
    pub profile: &'static str,
    pub answer: &'static Answer,
    /// Whether every removal of the subject is answered so; a request to wait seven times.
    pub always: bool,
    pub default: Default,
    pub company: Company,
    /// Whether Graph goes on listing a method for a while after it has gone.
    pub lag: bool,
    /// Whether the beta API may be called.
    pub beta: bool,
    /// Whether every method but the password keeps the default from going.
    pub strict: bool,
    /// In which words the default is refused.
    pub wording: &'static str,
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, profile, answer, always, default, company, lag, beta, strict, wording } = self;
        let (subject, answer) = (subject.name, answer.name);
        write!(
            formatter,
            "{subject}/{profile}/{answer} always={always} default={default:?} company={company:?} lag={lag} beta={beta} \
             strict={strict} wording={wording}"
        )
    }
}

impl Cell {
    /// Whether it is a key that Graph itself refuses, since the service cannot read its id.
    pub fn is_orphan(&self) -> bool {
        self.subject.name == "windows_hello" && self.answer.name == "orphan_key"
    }

    fn is_possible(&self) -> bool {
        let default = match self.default {
            Default::Nothing => true,
            Default::Subject => !self.subject.preferences.is_empty(),
            Default::Other => self.company != Company::Alone,
        };
        let strikes = self.subject.is_called_for(self.profile) && self.subject.can_be_removed(self.beta);
        default && (!self.always || self.answer.may_last()) && (strikes || self.answer.name == PLAIN)
    }

    /// Each factor and its value.
    fn values(&self) -> [(u8, String); 9] {
        [
            (0, self.subject.name.to_owned()),
            (1, self.profile.to_owned()),
            (2, format!("{} {}", self.answer.name, self.always)),
            (3, format!("{:?}", self.default)),
            (4, format!("{:?}", self.company)),
            (5, self.lag.to_string()),
            (6, self.beta.to_string()),
            (7, self.strict.to_string()),
            (8, self.wording.to_owned()),
        ]
    }

    fn pairs(&self) -> impl Iterator<Item = ((u8, String), (u8, String))> {
        let values = self.values();
        let later = values.clone();
        values.into_iter().enumerate().flat_map(move |(at, one)| {
            let rest = later[at + 1..].to_vec();
            rest.into_iter().map(move |other| (one.clone(), other))
        })
    }
}

/// Draws what is left open until the cell is possible.
fn drawn(rng: &mut Rng, fix: impl Fn(&mut Cell)) -> Cell {
    loop {
        let mut cell = Cell {
            subject: &KINDS[rng.usize(..KINDS.len())],
            profile: PROFILES[rng.usize(..PROFILES.len())],
            answer: &ANSWERS[rng.usize(..ANSWERS.len())],
            always: rng.bool(),
            default: DEFAULTS[rng.usize(..DEFAULTS.len())],
            // A whole collection takes many calls.
            company: COMPANIES[rng.usize(..5) / 2],
            lag: rng.bool(),
            beta: rng.u8(..8) > 0,
            strict: rng.bool(),
            wording: ["each_backend", "other_methods", "matches_default"][rng.usize(..3)],
        };
        fix(&mut cell);
        if cell.is_possible() {
            return cell;
        }
    }
}

/// The cells, and how many pairs of values they cover. Not thinned, every kind meets every answer under every profile, and
/// every plain cell both with lag and without.
pub fn cells(seed: u64, thinned: bool) -> (Vec<Cell>, usize) {
    let mut rng = Rng::with_seed(seed);
    let mut cells = Vec::new();
    for (subject, profile) in KINDS.iter().flat_map(|kind| PROFILES.map(|profile| (kind, profile))) {
        plain(subject, profile, thinned, &mut rng, &mut cells);
        for (at, answer) in ANSWERS.iter().enumerate().skip(1).filter(|_| subject.is_called_for(profile)) {
            // These two differ in nothing but when they revoke sessions.
            let other = profile == ["all", "compromised"][(at + subject.name.len()) % 2];
            if (thinned && other) || (answer.tongue == Tongue::Unsaid && profile != "all") {
                continue;
            }
            let times: &[bool] = match (answer.may_last(), thinned, (at + profile.len()) % 2) {
                (false, ..) | (true, true, 0) => &[false],
                (true, true, _) => &[true],
                (true, false, _) => &[false, true],
            };
            let fixed = |always| {
                move |cell: &mut Cell| {
                    *cell = Cell { subject, profile, answer, always, beta: true, ..*cell };
                }
            };
            cells.extend(times.iter().map(|always| drawn(&mut rng, fixed(*always))));
        }
    }
    let mut covered: BTreeSet<_> = cells.iter().flat_map(Cell::pairs).collect();
    for _ in 0..20_000 {
        let cell = drawn(&mut rng, |_| {});
        let known = covered.len();
        covered.extend(cell.pairs());
        if covered.len() > known && cell.answer.tongue != Tongue::Unsaid {
            cells.push(cell);
        }
    }
    (cells, covered.len())
}

/// Every default and company of a subject and profile, answered plainly; and one without the beta API, or all of them.
fn plain(subject: &'static Kind, profile: &'static str, thinned: bool, rng: &mut Rng, cells: &mut Vec<Cell>) {
    let answer = &ANSWERS[0];
    let mut without = Vec::new();
    for (default, company) in DEFAULTS.into_iter().flat_map(|default| COMPANIES.map(|company| (default, company))) {
        let cell = Cell { subject, profile, answer, always: false, default, company, beta: true, ..drawn(rng, |_| {}) };
        if cell.is_possible() {
            let lags: &[bool] = if thinned { &[cell.lag] } else { &[true, false] };
            cells.extend(lags.iter().map(|lag| Cell { lag: *lag, ..cell }));
            without.push(Cell { beta: false, ..cell });
        }
    }
    rng.shuffle(&mut without);
    without.truncate(if thinned { 1 } else { usize::MAX });
    cells.extend(without);
}
