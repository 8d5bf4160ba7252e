//! A gate before Graph: it lets every request through, tells when a certain one has passed, and keeps its answer back until
//! it is told to let it go. So a process can be met in the middle of a call, however busy the machine is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What the gate is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing.
    Open,
    /// A request whose first line has this in it.
    Watching(&'static str),
    /// It has passed, and its answer is kept back.
    Holding,
}

/// Forwards until it is dropped.
pub struct Gate {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Gate {
    /// Listens on a free port in front of this server.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, state.clone()));
        Self { address, state, _tasks: tasks }
    }

    /// Begins to watch for a request whose first line has this in it.
    pub fn watch_for(&self, word: &'static str) {
        self.state.send_replace(State::Watching(word));
    }

    /// Waits until the request has passed; its answer is kept back.
    pub async fn passed(&self) {
        let mut state = self.state.subscribe();
        let seen = state.wait_for(|state| *state == State::Holding);
        timeout(Duration::from_secs(60), seen).await.expect("the request comes").unwrap();
    }

    /// Lets the answer go.
    pub fn let_go(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn accept(listener: TcpListener, server: String, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(forward(near, server.clone(), state.clone()));
    }
}

async fn forward(near: TcpStream, server: String, state: watch::Sender<State>) {
    let Ok(far) = TcpStream::connect(server).await else { return };
    let ((near_out, near_in), (far_out, far_in)) = (near.into_split(), far.into_split());
    let held = Arc::new(AtomicBool::new(false));
    tokio::select! {
        () = requests(near_out, far_in, &state, &held) => {}
        () = answers(far_out, near_in, &state, &held) => {}
    }
}

/// A client writes the head of a request at once, so that its first line is never in two pieces.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &watch::Sender<State>, held: &AtomicBool) {
    let mut chunk = [0; 16 * 1024];
    while let Some(read) = from.read(&mut chunk).await.ok().filter(|read| *read > 0) {
        let text = String::from_utf8_lossy(&chunk[..read]);
        let line = text.lines().next().unwrap_or_default();
        state.send_if_modified(|state| {
            let found = matches!(state, State::Watching(word) if line.contains(*word));
            if found {
                held.store(true, Ordering::SeqCst);
                *state = State::Holding;
            }
            found
        });
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &watch::Sender<State>, held: &AtomicBool) {
    let mut chunk = [0; 16 * 1024];
    while let Some(read) = from.read(&mut chunk).await.ok().filter(|read| *read > 0) {
        if held.swap(false, Ordering::SeqCst) {
            let _ = state.subscribe().wait_for(|state| *state != State::Holding).await;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}
