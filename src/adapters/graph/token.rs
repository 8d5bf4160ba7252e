//! The app's token: fetched once for all who wait, renewed before it ends, kept while it works, dropped when Graph
//! refuses it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::Settings;
use super::credential::{Credential, Grant};
use super::observe::{Observed, Observer};
use super::refusal::Refusal;
use crate::domain::outcome::Fault;

/// How long a token that replaced a refused one is believed, whatever Graph says: else two services would be asked
/// in turn for ever.
const TRUST: Duration = Duration::from_secs(30);
/// The longest time between two attempts to get a token.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A token. It has no `Debug`.
pub(super) struct Token {
    pub(super) secret: SecretString,
    renew_at: Instant,
    ends_at: Instant,
    ends_by_the_clock: Timestamp,
}

/// The app's token, and the task that renews it.
pub(super) struct Tokens {
    source: Arc<Source>,
    keeper: Mutex<JoinSet<()>>,
}

struct Source {
    credential: Credential,
    observer: Observer,
    /// Whoever has it may fetch; the others wait and find a fresh token.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// What went wrong at the last try, if it did.
    trouble: Option<Refusal>,
    failed: Option<Failed>,
    rejected_at: Option<Instant>,
}

/// The last attempt to get a token failed; everybody is told so until it is time for another.
struct Failed {
    refusal: Refusal,
    times: u32,
    again_at: Instant,
}

impl Tokens {
    pub(super) fn new(http: reqwest::Client, settings: &Settings) -> Self {
        let credential = Credential::new(http, settings);
        let (observer, turn) = (settings.observer.clone(), tokio::sync::Mutex::default());
        let source = Source { credential, observer, turn, state: Mutex::default() };
        Self { source: Arc::new(source), keeper: Mutex::default() }
    }

    /// A token that works, as far as is known.
    pub(super) async fn current(&self) -> Result<Arc<Token>, Fault> {
        self.keep();
        match self.source.live() {
            Some(token) => Ok(token),
            None => self.source.renew().await,
        }
    }

    /// Drops a token that Graph refused. Answers whether it is worth asking for another.
    pub(super) fn reject(&self, token: &Arc<Token>) -> bool {
        let mut state = self.source.state();
        if !state.token.as_ref().is_some_and(|current| Arc::ptr_eq(current, token)) {
            return true;
        }
        if state.rejected_at.is_some_and(|at| at.elapsed() < TRUST) {
            return false;
        }
        state.rejected_at = Some(Instant::now());
        state.token = None;
        true
    }

    /// When the token expires, if there is one that works.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.source.live().map(|token| token.ends_by_the_clock)
    }

    /// Why the last try to get a token failed, if it did. An older token may still work.
    pub(super) fn trouble(&self) -> Option<String> {
        self.source.state().trouble.as_ref().map(Refusal::to_string)
    }

    /// Starts the task that renews the token, at the first use. It ends with `self`.
    fn keep(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_empty() {
            let source = Arc::clone(&self.source);
            keeper.spawn(async move {
                loop {
                    sleep_until(source.next_renewal()).await;
                    // A failure is noted where it happens; the next renewal waits for it.
                    drop(source.renew().await);
                }
            });
        }
    }
}

impl Source {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<Arc<Token>> {
        self.state().token.clone().filter(|token| token.ends_at > Instant::now())
    }

    fn next_renewal(&self) -> Instant {
        let state = self.state();
        let soon = Instant::now() + Duration::from_secs(1);
        let due = state.token.as_ref().map_or(soon, |token| token.renew_at.max(soon));
        state.failed.as_ref().map_or(due, |failed| failed.again_at.max(due))
    }

    /// Fetches a token, unless somebody just did, or just failed.
    async fn renew(&self) -> Result<Arc<Token>, Fault> {
        let _turn = self.turn.lock().await;
        if let Some(token) = self.live().filter(|token| token.renew_at > Instant::now()) {
            return Ok(token);
        }
        if let Some(failed) = self.state().failed.as_ref().filter(|failed| failed.again_at > Instant::now()) {
            return Err(failed.refusal.fault());
        }
        let mut delays = self.credential.delays().into_iter();
        loop {
            let refusal = match self.credential.ask(&self.observer).await {
                Ok(grant) => return Ok(self.granted(grant)),
                Err(refusal) => refusal,
            };
            self.state().trouble = Some(refusal.clone());
            match delays.next().filter(|_| refusal.may_be_over()) {
                Some(delay) => sleep(delay).await,
                None => return Err(self.refused(refusal)),
            }
        }
    }

    fn granted(&self, grant: Grant) -> Arc<Token> {
        let now = Instant::now();
        let token = Arc::new(Token {
            secret: grant.token,
            renew_at: now + renew_after(grant.life),
            ends_at: now + grant.life,
            ends_by_the_clock: Timestamp::now().saturating_add(grant.life).unwrap_or(Timestamp::MAX),
        });
        let mut state = self.state();
        state.token = Some(Arc::clone(&token));
        state.trouble = None;
        let recovered = state.failed.take().is_some();
        drop(state);
        if recovered {
            info!("the identity service grants tokens again");
        }
        (self.observer)(Observed::TokenRefresh { ok: true, expires_at: Some(token.ends_by_the_clock) });
        token
    }

    fn refused(&self, refusal: Refusal) -> Fault {
        let fault = refusal.fault();
        let mut state = self.state();
        let (times, news) = match &state.failed {
            Some(failed) => (failed.times.saturating_add(1), !failed.refusal.is_like(&refusal)),
            None => (1, true),
        };
        let backoff = Duration::from_secs(1 << times.min(6)).min(LONGEST_BACKOFF);
        let wait = refusal.after.unwrap_or_default().max(backoff);
        if news {
            warn!(error = %refusal, "no token for graph");
        }
        state.failed = Some(Failed { refusal, times, again_at: Instant::now() + wait });
        drop(state);
        let expires_at = self.live().map(|token| token.ends_by_the_clock);
        (self.observer)(Observed::TokenRefresh { ok: false, expires_at });
        fault
    }
}

/// When to renew: after four fifths of a token's life or five minutes before its end, whichever is earlier, but never
/// in its first half.
fn renew_after(life: Duration) -> Duration {
    let early = life.saturating_sub(Duration::from_secs(300)).min(life * 4 / 5);
    early.max(life / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        for (life, after) in [(3599, 2879), (86_400, 69_120), (1000, 700), (300, 150), (2, 1)] {
            assert_eq!(renew_after(Duration::from_secs(life)).as_secs(), after, "{life}");
        }
    }
}
