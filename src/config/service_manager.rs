//! What systemd tells a service of type `notify` in the environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Whoever started the worker and wants to hear how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceManager {
    /// Where it listens; a leading `@` stands for the zero byte of an abstract address.
    pub socket: PathBuf,
    /// How long it waits for a sign of life before it kills; `None` where it does not wait for any.
    pub watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Nobody, where `NOTIFY_SOCKET` is not set. A watchdog meant for another process does not count.
    pub(super) fn of(environment: &[(OsString, OsString)], own_id: u32) -> Option<Self> {
        let get = |name: &str| {
            let (_, value) = environment.iter().find(|(key, value)| key == name && !value.is_empty())?;
            value.to_str()
        };
        let watched = get("WATCHDOG_PID").is_none_or(|id| id.parse() == Ok(own_id));
        let patience = get("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|time| *time > 0 && watched);
        Some(Self { socket: get("NOTIFY_SOCKET")?.into(), watchdog: patience.map(Duration::from_micros) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Option<(String, Option<u64>)> {
        let environment: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let manager = ServiceManager::of(&environment, 7)?;
        Some((manager.socket.to_str()?.to_owned(), manager.watchdog.map(|time| time.as_secs())))
    }

    #[test]
    fn a_watchdog_counts_for_the_process_that_it_is_meant_for() {
        let (socket, patience) = (("NOTIFY_SOCKET", "/run/notify"), ("WATCHDOG_USEC", "60000000"));
        let path = || "/run/notify".to_owned();
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("NOTIFY_SOCKET", ""), patience]), None);
        assert_eq!(told(&[socket]), Some((path(), None)));
        assert_eq!(told(&[socket, patience]), Some((path(), Some(60))));
        assert_eq!(told(&[socket, patience, ("WATCHDOG_PID", "7")]), Some((path(), Some(60))));
        assert_eq!(told(&[socket, patience, ("WATCHDOG_PID", "8")]), Some((path(), None)));
        for odd in ["0", "soon", "-1"] {
            assert_eq!(told(&[socket, ("WATCHDOG_USEC", odd)]), Some((path(), None)), "{odd}");
        }
    }
}
