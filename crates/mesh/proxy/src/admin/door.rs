//! Who may ask for pages: so many connections at a time, none of which stays for long without a word or takes its answer
//! too slowly, and a few pages of metrics at a time, which may be large. Whoever takes one slowly keeps nobody from
//! having another one made.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
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
/// The most pages of metrics that are made at a time,
const MOST_PAGES: usize = 2;
/// and how long others wait for their turn.
const TURN: Duration = Duration::from_secs(5);
/// The most bytes of pages that are there for their readers, unless there are no more than `MOST_PAGES`.
const MOST_BYTES: usize = 64 * 1024 * 1024;
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

/// Who may have a page of metrics made, and the pages that have not been taken yet.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    pages: Arc<Pages>,
    refused: Arc<AtomicU64>,
}

impl Turns {
    /// Those that wait in vain, and those whose page is dropped, are counted in `refused`.
    pub(crate) fn new(refused: &Arc<AtomicU64>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST_PAGES)),
            pages: Arc::default(),
            refused: Arc::clone(refused),
        }
    }

    /// A turn, once others have had theirs, or the answer that they take too long.
    pub(super) async fn wait(&self) -> Result<Turn, (StatusCode, String)> {
        match timeout(TURN, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Turn {
                pages: Arc::clone(&self.pages),
                refused: Arc::clone(&self.refused),
                _place: place,
            }),
            Ok(Err(_)) | Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let why = "too many others ask for metrics\n".to_owned();
                Err((StatusCode::SERVICE_UNAVAILABLE, why))
            }
        }
    }
}

/// A turn lasts until the page has been made.
#[derive(Debug)]
pub(super) struct Turn {
    pages: Arc<Pages>,
    refused: Arc<AtomicU64>,
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
        let (page, dropped) = self.pages.add(text.into());
        self.refused.fetch_add(dropped, Ordering::Relaxed);
        (content_type, Body::new(page)).into_response()
    }
}

/// What is left of a page; nothing is left of one that was dropped.
type Rest = Mutex<Option<Bytes>>;

/// Pages that have not been taken yet, the oldest first, with their sizes.
#[derive(Debug, Default)]
struct Pages(Mutex<VecDeque<(Weak<Rest>, usize)>>);

impl Pages {
    /// Adds a page, and drops the oldest ones if there are too many bytes of them: those whose readers are slow. How
    /// many were dropped.
    fn add(&self, text: Bytes) -> (Page, u64) {
        let size = text.len();
        let page = Arc::new(Mutex::new(Some(text)));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(page, _)| page.strong_count() > 0);
        all.push_back((Arc::downgrade(&page), size));
        let mut bytes: usize = all.iter().map(|(_, size)| size).sum();
        let mut dropped = 0;
        while bytes > MOST_BYTES
            && all.len() > MOST_PAGES
            && let Some((oldest, size)) = all.pop_front()
        {
            bytes -= size;
            if let Some(page) = oldest.upgrade() {
                *page.lock().unwrap_or_else(PoisonError::into_inner) = None;
                dropped += 1;
            }
        }
        (Page(page), dropped)
    }
}

/// A page that goes out piece by piece.
#[derive(Debug)]
struct Page(Arc<Rest>);

impl hyper::body::Body for Page {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut rest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(match rest.as_mut() {
            None => Some(Err(io::ErrorKind::TimedOut.into())),
            Some(rest) if rest.is_empty() => None,
            Some(rest) => {
                let next = rest.len().min(PIECE);
                Some(Ok(Frame::data(rest.split_to(next))))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = rest.as_ref().map(|rest| rest.len() as u64);
        size.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::to_bytes;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_turn_lasts_until_the_page_has_been_made() {
        let refused = Arc::default();
        let turns = Turns::new(&refused);
        let mut others = Vec::new();
        for _ in 0..MOST_PAGES {
            others.push(turns.wait().await.expect("a turn"));
        }
        let (status, _) = turns.wait().await.expect_err("no turn");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.load(Ordering::Relaxed), 1);
        let one = others.remove(0);
        let page = one.page(|| Ok("a page".to_owned())).await;
        turns.wait().await.expect("a turn while the page is there");
        let text = to_bytes(page.into_body(), PIECE).await;
        assert_eq!(text.expect("the page"), "a page");
    }

    /// As many as there is room for stay, and two of any size.
    #[test]
    fn the_oldest_pages_are_dropped() {
        for (size, fit) in [
            (MOST_BYTES / 4, 4),
            (MOST_BYTES / 4 + 1, 3),
            (MOST_BYTES + 1, 2),
        ] {
            let pages = Pages::default();
            let text = Bytes::from(vec![b'a'; size]);
            let (_, dropped) = pages.add(text.clone());
            assert_eq!(dropped, 0);
            let mut held = Vec::new();
            for count in 1..=5 {
                let (page, dropped) = pages.add(text.clone());
                held.push(page);
                // The first one has been taken, and does not count.
                assert_eq!(dropped, u64::from(count > fit), "{size} {count}");
            }
            for (at, page) in held.iter().enumerate() {
                let is_there = page.0.lock().expect("a page").is_some();
                assert_eq!(is_there, at + fit >= held.len(), "{size} {at}");
            }
        }
    }

    /// Those who read nothing of their pages keep nobody waiting; that nobody waits in vain is counted.
    #[tokio::test]
    async fn slow_readers_keep_nobody_from_a_page() {
        const SIZE: usize = MOST_BYTES / 4;
        let refused = Arc::default();
        let turns = Arc::new(Turns::new(&refused));
        let page = async move || match turns.wait().await {
            Ok(turn) => turn.page(|| Ok("a".repeat(SIZE))).await,
            Err(refused) => refused.into_response(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let door = Door::new(listener, &Arc::default());
        let server = tokio::spawn(async move {
            let pages = Router::new().route("/", get(page));
            axum::serve(door, pages).await
        });
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.expect("asked");
            let mut first = [0; 15];
            stream.read_exact(&mut first).await.expect("an answer");
            assert_eq!(&first, b"HTTP/1.1 200 OK");
            stream
        };
        let read = async |mut stream: TcpStream| {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            all.len()
        };
        let mut slow = Vec::new();
        for _ in 0..6 {
            slow.push(ask().await);
        }
        assert_eq!(refused.load(Ordering::Relaxed), 2);
        assert!(read(ask().await).await > SIZE);
        // Whose page was dropped does not take the part that it got for all of it.
        assert!(read(slow.remove(0)).await < SIZE);
        server.abort();
    }
}
