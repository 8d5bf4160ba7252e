//! Programs started by a test: their output goes to a file, and none outlives the test process.
//!
//! Where `MFA_TEST_OUTPUT` names a directory, what they print stays there: `tests/run` looks it over at the end.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running program.
pub struct Process {
    child: Child,
    log: PathBuf,
    watchdog: Watchdog,
}

impl Process {
    /// Starts `program` with these settings in its environment and none of ours; what it prints is appended to `log`.
    pub fn spawn<K: AsRef<str>, V: AsRef<str>>(
        program: &Path,
        arguments: &[&str],
        settings: impl IntoIterator<Item = (K, V)>,
        log: &Path,
    ) -> Self {
        let output = appended(log);
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(settings.into_iter().map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned())));
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        // The whole group, since the broker's start script has children.
        let watchdog = Watchdog::new("kill -s KILL -- \"-$0\"", &child.id().to_string());
        Self { child, log: log.to_owned(), watchdog }
    }

    /// Everything that it has printed so far, with what earlier processes left in the same file.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    fn signal(&self, name: &str) {
        Command::new("sh").args(["-c", "kill -s $0 -- -$1", name, &self.id().to_string()]).status().unwrap();
    }

    /// The exit code, once it has ended by itself; none where a signal ended it.
    pub fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let mut status = None;
        eventually(within, "the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
        self.watchdog.disarm();
    }
}

/// Runs a shell command when it is dropped, and also when this process dies in whatever way: its end of the pipe closes.
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches for `command`, which finds `argument` as `$0`.
    pub fn new(command: &str, argument: &str) -> Self {
        let script = format!("read -r word; [ \"$word\" = disarm ] && exit; {command}");
        let child = Command::new("sh")
            .args(["-c", &script, argument])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Self(child.unwrap())
    }

    /// Watches for a container, which is removed then; what it printed stays where output is kept.
    pub fn of_container(name: &str) -> Self {
        // RabbitMQ's report on a channel that crashed shows what the channel had not read yet, with the bodies of messages.
        let keep = r#"[ -z "$MFA_TEST_OUTPUT" ] ||
            docker logs "$0" 2>&1 | sed '/\[error\] <[0-9.]*> \( \|\*\*\)/d' >"$MFA_TEST_OUTPUT/$0.log""#;
        Self::new(&format!("{keep}; exec docker rm --force --volumes \"$0\""), name)
    }

    /// Lets the command never run.
    pub fn disarm(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(b"disarm\n");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A file to be written on at its end. Where output is kept it lies there from the first line on, however the test ends,
/// and `path` is a link to it.
pub fn appended(path: &Path) -> File {
    if let Some(kept) = std::env::var_os("MFA_TEST_OUTPUT").filter(|_| path.symlink_metadata().is_err()) {
        let [scene, name] = [path.parent().and_then(Path::file_name), path.file_name()];
        let [scene, name] = [scene, name].map(|part| part.unwrap().to_str().unwrap().trim_start_matches('.'));
        symlink(Path::new(&kept).join(format!("{scene}-{name}")), path).unwrap();
    }
    File::options().create(true).append(true).open(path).unwrap()
}

/// A port that nobody listens on right now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Polls until the condition holds; panics with `what` when it does not in time.
pub fn eventually(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs something to its end on a thread and a runtime of its own, since the caller may be inside the runtime of a test.
pub fn apart<T: Send>(work: impl Future<Output = T> + Send) -> std::thread::Result<T> {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::scope(|scope| scope.spawn(run).join())
}
