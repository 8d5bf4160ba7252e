//! A TCP proxy between a client and one or several servers: it picks one that answers for each new connection, and it
//! cuts, stalls or slows the line at a word.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What the proxy does with connections, old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Forwards.
    Whole,
    /// Forwards little at a time and late.
    Slow,
    /// Keeps them open and forwards nothing; what waits goes on its way when the line is whole again.
    Stalled,
    /// Closes them, and new ones as soon as they come.
    Cut,
}

/// How much goes through a slow line at once, and how long it takes.
const MORSEL: usize = 256;
const DELAY: Duration = Duration::from_millis(20);
/// What a client says first, in AMQP and to PostgreSQL.
pub const AMQP: &[u8] = b"AMQP\0\0\x09\x01";
pub const POSTGRESQL: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
/// How long a server may take to say its first word before another one is tried.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// The line as it is, and how often it was cut: a connection dies of a cut that it never saw.
#[derive(Clone, Copy)]
struct State {
    line: Line,
    cuts: u64,
}

/// Forwards until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    reachable: watch::Sender<Vec<String>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port in front of these servers, whose clients speak first.
    pub async fn start(servers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) = watch::channel(State { line: Line::Whole, cuts: 0 });
        let (reachable, servers) = watch::channel(servers);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, servers, seen));
        Self { address, state, reachable, _tasks: tasks }
    }

    /// Changes what happens to connections from now on.
    pub fn set(&self, line: Line) {
        self.state.send_modify(|state| {
            state.cuts += u64::from(line == Line::Cut);
            state.line = line;
        });
    }

    /// Changes which servers can be reached, and cuts every connection.
    pub fn reach(&self, servers: Vec<String>) {
        self.reachable.send_replace(servers);
        self.state.send_modify(|state| state.cuts += 1);
    }
}

async fn accept(listener: TcpListener, servers: watch::Receiver<Vec<String>>, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let now = *state.borrow();
        if now.line != Line::Cut {
            let forwarded = forward(near, servers.borrow().clone(), state.clone());
            let cut = cut(state.clone(), now.cuts);
            connections.spawn(async move {
                tokio::select! {
                    () = forwarded => {}
                    () = cut => {}
                }
            });
        }
    }
}

async fn forward(mut near: TcpStream, mut servers: Vec<String>, state: watch::Receiver<State>) {
    let mut hello = vec![0; 4096];
    let Some(read) = near.read(&mut hello).await.ok().filter(|read| *read > 0) else { return };
    pass(&mut state.clone()).await;
    fastrand::shuffle(&mut servers);
    for server in &servers {
        let Some((far, word)) = first_word(server, &hello[..read]).await else { continue };
        if near.write_all(&word).await.is_err() {
            return;
        }
        let ((near_out, near_in), (far_out, far_in)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = pump(near_out, far_in, state.clone()) => {}
            () = pump(far_out, near_in, state) => {}
        }
        return;
    }
}

/// Connects and says hello; a server that is there says something.
async fn first_word(server: &str, hello: &[u8]) -> Option<(TcpStream, Vec<u8>)> {
    let spoken = async {
        let mut far = TcpStream::connect(server).await.ok()?;
        far.write_all(hello).await.ok()?;
        let mut word = vec![0; 4096];
        let read = far.read(&mut word).await.ok().filter(|read| *read > 0)?;
        word.truncate(read);
        Some((far, word))
    };
    timeout(FIRST_WORD, spoken).await.ok()?
}

/// Whether a server answers there to the first word of a client.
pub async fn answers(server: &str, hello: &[u8]) -> bool {
    first_word(server, hello).await.is_some()
}

/// Comes back when the line is cut once more, however short.
async fn cut(mut state: watch::Receiver<State>, cuts: u64) {
    let _ = state.wait_for(|state| state.cuts != cuts).await;
}

/// Waits until something may pass, and takes the time that it takes.
async fn pass(state: &mut watch::Receiver<State>) {
    let slow = state.wait_for(|state| state.line != Line::Stalled).await.is_ok_and(|state| state.line == Line::Slow);
    if slow {
        sleep(DELAY).await;
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut chunk = [0; 16 * 1024];
    loop {
        let most = if state.borrow().line == Line::Slow { MORSEL } else { chunk.len() };
        let Some(read) = from.read(&mut chunk[..most]).await.ok().filter(|read| *read > 0) else { return };
        pass(&mut state).await;
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}
