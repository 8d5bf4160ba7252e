//! The socket, guarded: what comes in goes through the [`Sieve`], and it can be hung up on.
//!
//! The library keeps a thread and a socket for ever where a peer accepts and then says nothing; hanging up ends both.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::sieve::Sieve;

/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// How much of what comes first is kept.
const GREETING: usize = 4 * 1024;

/// What the peer said first, which the library keeps to itself: its name and version are in it.
pub(super) type Greeting = Arc<Mutex<Vec<u8>>>;

/// Connects through a guarded socket, which is closed when the token is cancelled.
pub(super) async fn connect(
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    properties: ConnectionProperties,
    hang_up: CancellationToken,
    greeting: Greeting,
) -> lapin::Result<Connection> {
    let tokio = Tokio::current();
    let runtime = Runtime::new(RuntimeParts::new(tokio.clone(), Guards(tokio.clone())));
    let plain = Runtime::new(tokio);
    let socket = async move |uri: AMQPUri, _| {
        let inner = tokio::select! {
            () = hang_up.cancelled() => Err(io::ErrorKind::TimedOut.into()),
            inner = uri.connect_with_config_async(tls.as_ref(), &plain) => inner,
        }?;
        Ok(AsyncTcpStream::Plain(Guarded {
            inner,
            sieve: Sieve::default(),
            chunk: vec![0; CHUNK],
            ready: Vec::new(),
            given: 0,
            greeting: Some(greeting.clone()),
            hung_up: Box::pin(hang_up.clone().cancelled_owned()),
        }))
    };
    Connection::connector(uri, runtime, socket, properties).await
}

/// A socket, TLS included where there is any.
struct Guarded {
    inner: AsyncTcpStream<<Tokio as Reactor>::TcpStream>,
    sieve: Sieve,
    chunk: Vec<u8>,
    /// What has passed the sieve, and how much of it is given out.
    ready: Vec<u8>,
    given: usize,
    greeting: Option<Greeting>,
    hung_up: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Guarded {
    /// Keeps the beginning of what comes in, and forgets about it when that is enough.
    fn listen(&mut self) {
        let Some(greeting) = &self.greeting else { return };
        let mut kept = greeting.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.ready.len().min(GREETING - kept.len());
        kept.extend_from_slice(&self.ready[..fresh]);
        let full = kept.len() == GREETING;
        drop(kept);
        if full {
            self.greeting = None;
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.hung_up.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        while this.given == this.ready.len() {
            let read = std::task::ready!(Pin::new(&mut this.inner).poll_read(context, &mut this.chunk))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            this.ready.clear();
            this.given = 0;
            let strained = this.sieve.push(&this.chunk[..read], &mut this.ready);
            strained.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the peer does not speak AMQP 0-9-1"))?;
            this.listen();
        }
        let waiting = &this.ready[this.given..];
        let count = waiting.len().min(buffer.len());
        buffer[..count].copy_from_slice(&waiting[..count]);
        this.given += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

/// Tokio, with guarded sockets: the library wants to know their type, and makes none itself.
#[derive(Clone, Debug)]
struct Guards(Tokio);

impl Reactor for Guards {
    type TcpStream = Guarded;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Guarded, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    #[expect(clippy::disallowed_types, reason = "the trait says so; no time of ours is measured with it")]
    fn interval(&self, time: Duration) -> impl Stream<Item = std::time::Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Guarded>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
