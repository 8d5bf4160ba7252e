//! Containers and networks of a test's own; none outlives the test process.

use std::process::Command;

use crate::process::{Watchdog, free_port};

/// How often a container may fail to start before the test fails: another process may have taken its port.
const TRIES: u32 = 3;

/// What the engine prints; panics where it refuses.
pub fn docker(arguments: &[&str]) -> String {
    attempt(arguments).unwrap_or_else(|error| panic!("docker {}: {error}", arguments[0]))
}

fn attempt(arguments: &[&str]) -> Result<String, String> {
    let done = Command::new("timeout").args(["120", "docker"]).args(arguments).output();
    let done = done.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// The tag of an image, which is built where it is missing.
pub fn image(name: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/image");
    let built = Command::new(script).arg(name).output().expect("tests/broker/image runs");
    assert!(built.status.success(), "no image: {}", String::from_utf8_lossy(&built.stderr));
    String::from_utf8(built.stdout).unwrap().trim().to_owned()
}

/// A network that only containers of one test are on.
pub struct Network {
    pub name: String,
    _watchdog: Watchdog,
}

impl Network {
    /// Makes one.
    pub fn new() -> Self {
        let name = format!("mfa-reset-test-{:012x}", fastrand::u64(..1 << 48));
        // Its containers go at the same moment.
        let remove = "for _ in $(seq 100); do docker network rm \"$0\" && exit; sleep 0.3; done";
        let watchdog = Watchdog::new(remove, &name);
        docker(&["network", "create", &name]);
        Self { name, _watchdog: watchdog }
    }
}

/// A container with one port published on loopback. It keeps port and data when it is killed and started again.
pub struct Container {
    pub name: String,
    pub port: u16,
    _watchdog: Watchdog,
}

impl Container {
    /// Starts one from an image of ours, with these options for `docker run` and this command. What it keeps is in a
    /// volume: the layers of an image are slow to write to.
    pub fn start(image_name: &str, port: u16, volume: &str, options: &[&str], command: &[&str]) -> Self {
        let (tag, volume) = (image(image_name), format!("--volume={volume}"));
        let options = [&[volume.as_str()], options].concat();
        for _ in 1..TRIES {
            match Self::try_start(&tag, port, &options, command) {
                Ok(container) => return container,
                Err(error) => println!("{image_name} does not start, once more: {error}"),
            }
        }
        Self::try_start(&tag, port, &options, command).unwrap_or_else(|error| panic!("{image_name}: {error}"))
    }

    fn try_start(tag: &str, inner: u16, options: &[&str], command: &[&str]) -> Result<Self, String> {
        let (port, name) = (free_port(), format!("mfa-reset-test-{:012x}", fastrand::u64(..1 << 48)));
        let watchdog = Watchdog::of_container(&name);
        let publish = format!("127.0.0.1:{port}:{inner}");
        let fixed = ["run", "--detach", "--name", &name, "--publish", &publish];
        attempt(&[&fixed, options, &[tag], command].concat())?;
        Ok(Self { name, port, _watchdog: watchdog })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it without a warning. That it has ended already is no fault.
    pub fn kill(&self) {
        let _ = attempt(&["kill", &self.name]);
    }

    /// Starts it on what it had on disk.
    pub fn again(&self) {
        docker(&["start", &self.name]);
    }

    /// Runs a command in it as a user; the output where it succeeds.
    pub fn run(&self, user: &str, command: &[&str]) -> Result<String, String> {
        attempt(&[&["exec", "--user", user, &self.name], command].concat())
    }

    /// Its address on its network.
    pub fn inner_address(&self) -> String {
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "--format", address, &self.name])
    }

    /// The last lines that it printed.
    pub fn tail(&self) -> String {
        let done = Command::new("docker").args(["logs", "--tail", "60", &self.name]).output().expect("docker runs");
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    }
}
