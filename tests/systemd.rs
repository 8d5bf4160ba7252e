//! The worker as systemd sees it: what it says on the socket of a service of type `notify`. Needs nothing but the binary.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// As `WatchdogSec` would say it. Beats come every second at the longest.
const PATIENCE: Duration = Duration::from_secs(3);
/// Far more than a slow machine takes.
const AT_MOST: Duration = Duration::from_secs(60);

/// A worker whose broker and Graph are away, killed by its number at the end, and the socket that it talks to.
struct Service {
    child: Child,
    socket: UnixDatagram,
    _directory: TempDir,
}

impl Service {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mfa-reset"));
        command.arg("worker").current_dir(&directory).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
        // Nobody listens on the discard port of loopback.
        for (name, value) in [
            ("BROKER__URL", "amqp://u:p@127.0.0.1:9"),
            ("GRAPH__ENDPOINT", "http://127.0.0.1:9"),
            ("GRAPH__AUTHORITY", "http://127.0.0.1:9"),
            ("GRAPH__TENANT_ID", "tenant"),
            ("GRAPH__CLIENT_ID", "client"),
            ("GRAPH__CLIENT_SECRET", "canary-client-secret"),
            ("POLICY__PRODUCERS", "itsm"),
            ("ADMIN__LISTEN", "127.0.0.1:0"),
        ] {
            command.env(format!("MFA_RESET_{name}"), value);
        }
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", PATIENCE.as_micros().to_string());
        Self { child: command.spawn().unwrap(), socket, _directory: directory }
    }

    /// What it says next, within a time.
    fn says(&self, within: Duration) -> Option<String> {
        let mut bytes = [0; 500];
        self.socket.set_read_timeout(Some(within)).unwrap();
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8(bytes[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until it says this, and tells what it said before.
    fn until(&self, expected: &str) -> Vec<String> {
        let mut before = Vec::new();
        while before.len() < 100 {
            match self.says(AT_MOST) {
                Some(said) if said == expected => return before,
                Some(said) => before.push(said),
                None => break,
            }
        }
        panic!("never said {expected}, but {before:?}");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -s $0 $1", name, &id]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ready_though_the_broker_is_away_alive_while_it_runs_and_stopping_at_a_signal() {
    let mut service = Service::start();
    assert_eq!(service.until("READY=1"), [""; 0], "the first word");
    service.until("WATCHDOG=1");
    service.until("STATUS=not ready: consuming, publisher, token");
    service.until("WATCHDOG=1");

    service.signal("STOP");
    while service.says(PATIENCE).is_some() {}
    assert_eq!(service.says(PATIENCE), None, "a frozen process gives no sign of life: systemd kills it now");
    service.signal("CONT");
    service.until("WATCHDOG=1");

    service.signal("TERM");
    service.until("STOPPING=1");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
}
