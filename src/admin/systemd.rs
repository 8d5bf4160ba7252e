//! Tells systemd how the worker is, by its protocol sd_notify: a datagram of `NAME=value` lines to the socket that it named.
//!
//! `READY=1` says that the worker answers for itself, not that all it depends on is there: it waits for those by itself,
//! and `STATUS` names them. The watchdog goes by the same sign as `/livez`.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as Socket};
use std::path::Path;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Health;
use crate::config::ServiceManager;

/// How often it is looked whether there is something new to tell.
const LOOK: Duration = Duration::from_secs(1);

/// Tells of the worker until `end`; from `stop` on, that it is stopping. The error is that there is no such socket.
pub async fn tell(
    manager: ServiceManager,
    health: Health,
    stop: CancellationToken,
    end: CancellationToken,
) -> io::Result<()> {
    let mut line = Line { to: address(&manager.socket)?, broken: false };
    // Three times as often as they have to come, so that one late beat does not kill.
    let mut beat = interval(manager.watchdog.map_or(LOOK, |patience| (patience / 3).min(LOOK)));
    let (mut ready, mut stopping, mut told) = (false, false, String::new());
    loop {
        tokio::select! {
            biased;
            // With nothing to drain both come at once: this is said all the same.
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                line.say("STOPPING=1");
            }
            () = end.cancelled() => return Ok(()),
            _ = beat.tick() => {
                ready = ready || line.say("READY=1");
                if manager.watchdog.is_some() && health.is_alive() {
                    line.say("WATCHDOG=1");
                }
                let status = health.status();
                if status != told && line.say(&status) {
                    told = status;
                }
            }
        }
    }
}

/// The way to systemd. Nothing waits for it: a word that it does not take is said again later, or lost.
struct Line {
    to: SocketAddr,
    broken: bool,
}

impl Line {
    /// Says a word, by a socket of its own: whoever listens may have bound another one since.
    fn say(&mut self, word: &str) -> bool {
        let said = Socket::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(word.as_bytes(), &self.to)
        });
        if let (Err(error), false) = (&said, self.broken) {
            warn!(%error, "systemd does not listen");
        }
        self.broken = said.is_err();
        said.is_ok()
    }
}

fn address(path: &Path) -> io::Result<SocketAddr> {
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

impl Health {
    /// What `systemctl status` shows.
    fn status(&self) -> String {
        let failing: Vec<_> = self.checks().into_iter().filter(|(_, ok)| !ok).map(|(name, _)| name).collect();
        match failing.as_slice() {
            [] => "STATUS=ready".to_owned(),
            failing => format!("STATUS=not ready: {}", failing.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixDatagram;
    use tokio::time::{advance, timeout};

    use super::super::LONGEST_SILENCE;
    use super::*;

    /// The next line that somebody tells, or nothing for a while.
    async fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 200];
        let length = timeout(Duration::from_secs(5), socket.recv(&mut bytes)).await.ok()?.unwrap();
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    fn listen(name: &str) -> UnixDatagram {
        let listener = Socket::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        UnixDatagram::from_std(listener).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_sign_of_life_without_life() {
        let name = format!("mfa-reset-test-{}", std::process::id());
        let listener = listen(&name);
        let manager = ServiceManager { socket: format!("@{name}").into(), watchdog: Some(Duration::from_secs(60)) };
        let (health, stop, end) = (Health::new(), CancellationToken::new(), CancellationToken::new());
        let mut teller = tokio::task::JoinSet::new();
        teller.spawn(tell(manager, health.clone(), stop.clone(), end.clone()));
        for expected in ["READY=1", "WATCHDOG=1", "STATUS=not ready: consuming, publisher, ledger, token"] {
            assert_eq!(heard(&listener).await.as_deref(), Some(expected));
        }
        assert_eq!(heard(&listener).await.as_deref(), Some("WATCHDOG=1"));
        advance(LONGEST_SILENCE + LOOK).await;
        assert_eq!(heard(&listener).await, None, "the loop does not turn");
        health.beat();
        assert_eq!(heard(&listener).await.as_deref(), Some("WATCHDOG=1"));
        drop(listener);
        tokio::time::sleep(LOOK * 3).await;
        let listener = listen(&name);
        health.beat();
        assert_eq!(heard(&listener).await.as_deref(), Some("WATCHDOG=1"), "who listens has been away");
        stop.cancel();
        end.cancel();
        while heard(&listener).await.as_deref() != Some("STOPPING=1") {}
        teller.join_next().await.unwrap().unwrap().unwrap();
    }
}
