//! Where the broker comes from: `MFA_TEST_AMQP_URL`; else Docker; else a private node of an installed `rabbitmq-server`.
//!
//! A broker that a test started is gone when the test process is gone, however it ended: a watchdog waits for that.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};

use crate::process::{Process, Watchdog, apart, eventually, free_port};
use crate::secrets::BROKER_PASSWORD;

/// A broker, and the means to start it again where it is ours.
pub struct Broker {
    pub url: String,
    node: Option<Node>,
}

enum Node {
    Container { name: String, _watchdog: Watchdog },
    Private { process: Process, directory: tempfile::TempDir, ports: [u16; 2], _names: Watchdog },
}

/// The one broker that the tests of this process share.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("MFA_TEST_AMQP_URL") {
        Ok(url) => Broker { url, node: None },
        Err(_) => own(),
    })
}

/// A broker of the caller's own, to be restarted at will.
pub fn own() -> Broker {
    let port = free_port();
    let docker = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let node = if docker.is_ok_and(|status| status.success()) { container(port) } else { private_node(port) };
    Broker { url: format!("amqp://guest:{BROKER_PASSWORD}@127.0.0.1:{port}/%2f"), node: Some(node) }
}

impl Broker {
    /// Kills the broker without a warning and starts it on what it had on disk. Where a queue was declared less than half a
    /// second ago, RabbitMQ may not have written down that it exists, and brings it back empty: call this no earlier.
    pub fn restart(&mut self) {
        match self.node.as_mut().expect("a broker of our own") {
            Node::Container { name, .. } => {
                let done = Command::new("docker").args(["restart", "-t", "0", name]).stdout(Stdio::null()).status();
                assert!(done.unwrap().success(), "the container did not start again");
            }
            Node::Private { process, directory, ports, .. } => {
                process.kill();
                *process = spawn_node(directory.path(), *ports);
            }
        }
    }

    /// Runs `rabbitmqctl` against a broker of our own, and gives what it printed.
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut command = match self.node.as_ref().expect("a broker of our own") {
            Node::Container { name, .. } => {
                let mut command = Command::new("docker");
                command.args(["exec", name, "rabbitmqctl"]);
                command
            }
            Node::Private { directory, ports, .. } => {
                let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl");
                command.envs(node_settings(directory.path(), *ports));
                command
            }
        };
        let done = command.args(arguments).output().expect("rabbitmqctl runs");
        assert!(done.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Imports a file of definitions.
    pub fn import(&self, definitions: &Path) {
        let path = definitions.to_str().unwrap();
        match self.node.as_ref().expect("a broker of our own") {
            Node::Container { name, .. } => {
                let inside = "/tmp/definitions.json";
                let done = Command::new("docker").args(["cp", path, &format!("{name}:{inside}")]).output().unwrap();
                assert!(done.status.success(), "docker cp: {}", String::from_utf8_lossy(&done.stderr));
                self.control(&["import_definitions", inside]);
            }
            Node::Private { .. } => drop(self.control(&["import_definitions", path])),
        }
    }

    /// The root of the management API: `MFA_TEST_MANAGEMENT_URL` for a broker that is not ours, else that of our container.
    pub fn management(&self) -> String {
        if self.node.is_none()
            && let Ok(url) = std::env::var("MFA_TEST_MANAGEMENT_URL")
        {
            return url;
        }
        let Some(Node::Container { name, .. }) = &self.node else {
            panic!("the management API needs Docker, or MFA_TEST_MANAGEMENT_URL beside MFA_TEST_AMQP_URL")
        };
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let told = Command::new("docker").args(["inspect", "--format", address, name]).output().unwrap();
        format!("http://{}:15672", String::from_utf8(told.stdout).unwrap().trim())
    }
}

fn container(port: u16) -> Node {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/image");
    let built = Command::new(script).output().expect("tests/broker/image runs");
    assert!(built.status.success(), "no image: {}", String::from_utf8_lossy(&built.stderr));
    let tag = String::from_utf8(built.stdout).unwrap();
    let (image, version) = tag.trim().rsplit_once(':').expect("image:version");

    let name = format!("mfa-reset-test-{port}-{:08x}", fastrand::u32(..));
    let watchdog = Watchdog::of_container(&name);
    let request = GenericImage::new(image, version)
        .with_wait_for(WaitFor::message_on_stdout("completed with"))
        .with_container_name(&name)
        .with_env_var("RABBITMQ_DEFAULT_PASS", BROKER_PASSWORD)
        .with_mapped_port(port, 5672.tcp())
        .with_startup_timeout(Duration::from_secs(120))
        .with_host_config_modifier(|host| {
            for binding in host.port_bindings.iter_mut().flat_map(|all| all.values_mut()).flatten().flatten() {
                binding.host_ip = Some("127.0.0.1".into());
            }
        });
    let start = async move { std::mem::forget(request.start().await.expect("the container starts")) };
    apart(start).expect("the container starts");
    Node::Container { name, _watchdog: watchdog }
}

fn private_node(port: u16) -> Node {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("plugins"), "[].").unwrap();
    let ports = [port, free_port()];
    let process = spawn_node(directory.path(), ports);
    // Erlang's name daemon detaches itself; it goes once it has noticed that the node is gone.
    let names = Watchdog::new("sleep 1; exec epmd -port \"$0\" -kill", &ports[1].to_string());
    Node::Private { process, directory, ports, _names: names }
}

fn node_settings(directory: &Path, [port, names]: [u16; 2]) -> [(&'static str, String); 11] {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    [
        ("HOME", path("")),
        ("RABBITMQ_NODENAME", format!("mfa-test-{port}@localhost")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", free_port().to_string()),
        ("ERL_EPMD_PORT", names.to_string()),
        ("RABBITMQ_MNESIA_BASE", path("data")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ("RABBITMQ_CONFIG_FILE", path("none")),
        ("RABBITMQ_DEFAULT_PASS", BROKER_PASSWORD.into()),
    ]
}

fn spawn_node(directory: &Path, ports: [u16; 2]) -> Process {
    let script = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server"].map(PathBuf::from);
    let script =
        script.iter().find(|file| file.exists()).expect("no MFA_TEST_AMQP_URL, no Docker engine, no rabbitmq-server");
    let process = Process::spawn(script, &[], node_settings(directory, ports), &directory.join("node.log"));
    eventually(Duration::from_secs(120), "the private node starts", || process.output().contains("completed with"));
    process
}
