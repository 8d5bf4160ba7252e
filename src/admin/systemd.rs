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

use tokio::net::UnixDatagram;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::Health;
use crate::config::ServiceManager;

/// How often it is looked whether there is something new to tell.
const LOOK: Duration = Duration::from_secs(1);

/// Tells of the worker until `end`; from `stop` on, that it is stopping.
pub async fn tell(
    manager: ServiceManager,
    health: Health,
    stop: CancellationToken,
    end: CancellationToken,
) -> io::Result<()> {
    let socket = connect(&manager.socket)?;
    socket.send(b"READY=1").await?;
    // Beats come more than twice as often as they have to.
    let mut beat = interval(manager.watchdog.map_or(LOOK, |patience| (patience / 3).min(LOOK)));
    let (mut stopping, mut told) = (false, String::new());
    loop {
        tokio::select! {
            biased;
            // With nothing to drain both come at once: this is said all the same.
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                socket.send(b"STOPPING=1").await?;
            }
            () = end.cancelled() => return Ok(()),
            _ = beat.tick() => {
                if manager.watchdog.is_some() && health.is_alive() {
                    socket.send(b"WATCHDOG=1").await?;
                }
                let status = health.status();
                if status != told {
                    socket.send(status.as_bytes()).await?;
                    told = status;
                }
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let address = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = Socket::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
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
    use tokio::time::{advance, timeout};

    use super::super::LONGEST_SILENCE;
    use super::*;

    /// The next line that somebody tells, or nothing for a while.
    async fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 200];
        let length = timeout(Duration::from_secs(5), socket.recv(&mut bytes)).await.ok()?.unwrap();
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn no_sign_of_life_without_life() {
        let name = format!("mfa-reset-test-{}", std::process::id());
        let listener = Socket::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixDatagram::from_std(listener).unwrap();
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
        stop.cancel();
        end.cancel();
        while heard(&listener).await.as_deref() != Some("STOPPING=1") {}
        teller.join_next().await.unwrap().unwrap().unwrap();
    }
}
