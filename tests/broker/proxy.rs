//! A TCP proxy in front of the broker that cuts every connection at a word, and refuses new ones for as long as it is told.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards to one address until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    line: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port in front of `upstream`, such as `127.0.0.1:5672`.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, whole) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, whole));
        Self { address, line, _tasks: tasks }
    }

    /// Cuts all connections; new ones are accepted and closed at once, as by a load balancer with nobody behind it.
    pub fn cut(&self) {
        self.line.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.line.send_replace(true);
    }
}

async fn accept(listener: TcpListener, upstream: String, whole: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        if *whole.borrow() {
            connections.spawn(forward(near, upstream.clone(), whole.clone()));
        }
    }
}

async fn forward(mut near: TcpStream, upstream: String, mut whole: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(upstream).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
