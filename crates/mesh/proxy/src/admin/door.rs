//! Who may ask for pages: so many connections at a time, none of which stays for long without a word or takes its answer
//! too slowly, and a few pages of metrics at a time, which may be large.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// The most connections to one port.
const MOST_CONNECTIONS: usize = 64;
/// How long a connection may stay without a further word, its answers included.
const SILENCE: Duration = Duration::from_secs(120);
/// How long a client may take nothing of an answer.
const STALL: Duration = Duration::from_secs(10);
/// The most pages of metrics that are made or taken at a time,
const MOST_PAGES: usize = 2;
/// and how long others wait for their turn.
const TURN: Duration = Duration::from_secs(5);
/// How much of a page goes out at once.
const PIECE: usize = 64 * 1024;

/// A port of pages that has only so many connections.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

impl Door {
    /// Those that are closed for the number of others are counted in `refused`.
    pub(super) fn new(listener: TcpListener, refused: &Arc<AtomicU64>) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            refused: Arc::clone(refused),
        }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => return (Visitor::new(stream, place), peer),
                Err(_) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The address of whoever asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection that ends when its client is silent, or takes nothing, for too long.
#[derive(Debug)]
pub(super) struct Visitor {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    stall: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Visitor {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            silence: Box::pin(sleep(SILENCE)),
            stall: None,
            _place: place,
        }
    }

    fn poll_silence<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let over = self.silence.as_mut().poll(cx);
        over.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// What has come of an attempt to write.
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL)));
        if stall.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.poll_silence(cx)
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_silence(cx);
        }
        self.silence.as_mut().reset(Instant::now() + SILENCE);
        read
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who may have a page of metrics made.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

impl Turns {
    /// Those that wait in vain are counted in `refused`.
    pub(crate) fn new(refused: &Arc<AtomicU64>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST_PAGES)),
            refused: Arc::clone(refused),
        }
    }

    /// A turn, once others have had theirs, or the answer that they take too long.
    pub(super) async fn wait(&self) -> Result<Turn, (StatusCode, String)> {
        match timeout(TURN, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Turn { _place: place }),
            Ok(Err(_)) | Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let why = "too many others ask for metrics\n".to_owned();
                Err((StatusCode::SERVICE_UNAVAILABLE, why))
            }
        }
    }
}

/// A turn lasts until the page has been taken.
#[derive(Debug)]
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
}

impl Turn {
    /// Makes a page in the text format of Prometheus, on a thread of its own: it may take a while.
    pub(super) async fn page(
        self,
        make: impl FnOnce() -> Result<String, (StatusCode, String)> + Send + 'static,
    ) -> Response {
        let made = tokio::task::spawn_blocking(make).await;
        let text = match made {
            Ok(Ok(text)) => text,
            Ok(Err(refused)) => return refused.into_response(),
            // It panicked, which the panic hook has reported.
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
        let content_type = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        let page = Page {
            rest: text.into(),
            _turn: self,
        };
        (content_type, Body::new(page)).into_response()
    }
}

/// A page that goes out piece by piece.
#[derive(Debug)]
struct Page {
    rest: Bytes,
    _turn: Turn,
}

impl hyper::body::Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let next = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(next)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_lasts_until_the_page_has_been_taken() {
        let refused = Arc::default();
        let turns = Turns::new(&refused);
        let mut pages = Vec::new();
        for _ in 0..MOST_PAGES {
            let turn = turns.wait().await.expect("a turn");
            pages.push(turn.page(|| Ok("a page".to_owned())).await);
        }
        let (status, _) = turns.wait().await.expect_err("no turn");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.load(Ordering::Relaxed), 1);
        let text = axum::body::to_bytes(pages.remove(0).into_body(), PIECE).await;
        assert_eq!(text.expect("the page"), "a page");
        turns.wait().await.expect("a turn");
    }
}
