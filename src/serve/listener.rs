//! Accepts connections, so many at once and no more: the others wait in the system's queue. One that says nothing gives
//! its place back, and so does one that says its request a letter now and then.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// Longer than a page refreshes itself and than any answer here takes.
const SILENT_MAX: Duration = Duration::from_secs(75);

/// The slowest request that is still listened to, beyond the time above. A telephone's worst network is ten times as fast.
const BYTES_PER_SECOND_MIN: u64 = 1_024;

pub struct LimitedListener {
    inner: TcpListener,
    free: Arc<Semaphore>,
    acceptor: Option<TlsAcceptor>,
}

impl LimitedListener {
    pub fn new(inner: TcpListener, connections_max: usize) -> Self {
        Self { inner, free: Arc::new(Semaphore::new(connections_max)), acceptor: None }
    }

    /// Over TLS, where there is an acceptor.
    pub fn encrypted(self, acceptor: Option<TlsAcceptor>) -> Self {
        Self { acceptor, ..self }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let permit = self.free.clone().acquire_owned().await.expect("the semaphore is never closed");
        // Axum's own accept waits out errors of single connections and of exhausted descriptors.
        let (stream, address) = Listener::accept(&mut self.inner).await;
        // Or an answer in two packets waits for the other side's delayed acknowledgement, 40 ms. It goes without, slower.
        let _ = stream.set_nodelay(true);
        let wire = match &self.acceptor {
            // Not awaited here: one that never says hello would keep all others waiting.
            Some(acceptor) => Wire::Greeting(Box::new(acceptor.accept(stream))),
            None => Wire::Plain(stream),
        };
        (LimitedStream { wire, silent: Box::pin(sleep(SILENT_MAX)), heard: None, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection that gives its place back when it is dropped.
pub struct LimitedStream {
    wire: Wire,
    silent: Pin<Box<Sleep>>,
    /// Since when something comes that was not answered yet, and how many bytes of it.
    heard: Option<(Instant, u64)>,
    _permit: OwnedSemaphorePermit,
}

enum Wire {
    Plain(TcpStream),
    /// TLS before it is agreed on: whoever reads or writes first drives it.
    Greeting(Box<Accept<TcpStream>>),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Either kind of stream.
trait Carrier: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Carrier for T {}

impl Wire {
    fn carrier(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Carrier>>> {
        if let Self::Greeting(greeting) = self {
            match Pin::new(&mut **greeting).poll(cx) {
                Poll::Ready(Ok(stream)) => *self = Self::Encrypted(Box::new(stream)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(match self {
            Self::Plain(stream) => Ok(Pin::new(stream)),
            Self::Encrypted(stream) => Ok(Pin::new(&mut **stream)),
            Self::Greeting(_) => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match self.wire.carrier(cx) {
            Poll::Ready(Ok(carrier)) => carrier.poll_read(cx, buf),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if read.is_ready() {
            let (now, came) = (Instant::now(), (buf.filled().len() - before) as u64);
            let (since, bytes) = self.heard.unwrap_or((now, 0));
            self.heard = Some((since, bytes + came));
            let slowest = since + SILENT_MAX + Duration::from_secs((bytes + came) / BYTES_PER_SECOND_MIN);
            if now > slowest {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.silent.as_mut().reset(slowest.min(now + SILENT_MAX));
            return read;
        }
        self.silent.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(self.wire.carrier(cx))?.poll_write(cx, buf);
        if written.is_ready() {
            // It is answered: what comes next is another request.
            self.heard = None;
            self.silent.as_mut().reset(Instant::now() + SILENT_MAX);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.wire.carrier(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            // Nothing was said that had to be ended in order.
            Wire::Greeting(_) => Poll::Ready(Ok(())),
            _ => std::task::ready!(self.wire.carrier(cx))?.poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_gives_its_place_to_the_next() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        let mut listener = LimitedListener::new(inner, 1);
        let _silent = TcpStream::connect(address).await.unwrap();
        let _next = TcpStream::connect(address).await.unwrap();
        let (mut first, _) = listener.accept().await;
        assert!(tokio::time::timeout(Duration::from_secs(1), listener.accept()).await.is_err(), "only one at once");
        let began = Instant::now();
        assert_eq!(first.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < SILENT_MAX);
        drop(first);
        listener.accept().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_a_letter_at_a_time_is_not_listened_to_for_ever_and_a_slow_large_one_is() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        let mut listener = LimitedListener::new(inner, 1);
        // What a request's bytes come to, so many every so many seconds: how many were heard, or the end of the patience.
        let mut heard = async |piece: usize, every: u64| {
            let mut client = TcpStream::connect(address).await.unwrap();
            let (mut stream, _) = listener.accept().await;
            let (mut buffer, mut bytes) = (vec![0; piece], 0);
            for _ in 0..40 {
                client.write_all(&vec![b'x'; piece]).await.unwrap();
                sleep(Duration::from_secs(every)).await;
                match stream.read_exact(&mut buffer).await {
                    Ok(read) => bytes += read,
                    Err(error) => return Err(error.kind()),
                }
            }
            Ok(bytes)
        };
        assert_eq!(heard(1, 20).await, Err(io::ErrorKind::TimedOut));
        assert_eq!(heard(40 << 10, 20).await, Ok(40 * (40 << 10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_answered_may_ask_for_as_long_as_it_likes() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(inner.local_addr().unwrap()).await.unwrap();
        let mut listener = LimitedListener::new(inner, 1);
        let (mut stream, _) = listener.accept().await;
        for _ in 0..20 {
            client.write_all(b"x").await.unwrap();
            sleep(Duration::from_secs(60)).await;
            stream.read_exact(&mut [0]).await.expect("it asks often enough");
            stream.write_all(b"y").await.unwrap();
        }
    }
}
