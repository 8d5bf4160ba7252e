//! A TCP proxy in front of the broker: it cuts every connection at a word, or holds all of them without a sound.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does with connections, old and new.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Forwards.
    Whole,
    /// Closes them; new ones are accepted and closed at once, as by a load balancer with nobody behind it.
    Cut,
    /// Keeps them open and forwards nothing, as when a cable is out. Only a cut follows.
    Stalled,
}

/// Forwards to one address until it is dropped. The test needs a runtime of several threads, or it blocks its own proxy.
pub struct Proxy {
    pub address: SocketAddr,
    line: watch::Sender<Line>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port in front of `upstream`, such as `127.0.0.1:5672`.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, seen) = watch::channel(Line::Whole);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, seen));
        Self { address, line, _tasks: tasks }
    }

    /// Changes what happens to connections from now on.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn accept(listener: TcpListener, upstream: String, line: watch::Receiver<Line>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        if *line.borrow() != Line::Cut {
            connections.spawn(forward(near, upstream.clone(), line.clone()));
        }
    }
}

async fn forward(mut near: TcpStream, upstream: String, mut line: watch::Receiver<Line>) {
    let Ok(mut far) = TcpStream::connect(upstream).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => return,
        _ = line.wait_for(|line| *line != Line::Whole) => {}
    }
    let _ = line.wait_for(|line| *line == Line::Cut).await;
}
