use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::Tls;

/// Connections of one listener at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// How long a connection may take for a request's head, or sit idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a new connection may take to send its first request's head.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How long requests in flight may take to finish once the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// HTTP/2 streams of one connection at the same time.
const MAX_STREAMS: u32 = 128;

/// Serves `router` over HTTP/1.1 and HTTP/2 (with prior knowledge) until `shutdown` resolves; then
/// takes no more connections and gives the requests in flight a few seconds to finish.
///
/// A connection that sends nothing, or a head slower than a minute, is closed.
///
/// # Errors
///
/// None at present: a failed accept (such as too many open files) is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    listen(listener, router, None, shutdown).await
}

/// As [`serve`], over TLS: HTTP/2 by ALPN.
///
/// # Errors
///
/// As those of [`serve`]; a failed handshake ends its connection only, and is logged at debug level.
pub async fn serve_tls(
    listener: TcpListener,
    router: Router,
    tls: Tls,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    listen(listener, router, Some(tls), shutdown).await
}

async fn listen(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, accept(&listener).await)
        };
        let (permit, stream) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        let router = router.clone();
        let watcher = graceful.watcher();
        let acceptor = tls.as_ref().map(Tls::acceptor);
        tokio::spawn(async move {
            let _permit = permit;
            match acceptor {
                None => converse(stream, router, watcher).await,
                Some(acceptor) => {
                    let handshake = acceptor.accept(stream);
                    match tokio::time::timeout(FIRST_REQUEST_TIMEOUT, handshake).await {
                        Ok(Ok(stream)) => converse(stream, router, watcher).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    }
                }
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still in flight when the server stopped");
    }
    Ok(())
}

/// Serves one connection to its end.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    watcher: Watcher,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let spoke = Arc::new(AtomicBool::new(false));
    let service = TowerToHyperService::new(router);
    let service = service_fn({
        let spoke = Arc::clone(&spoke);
        move |request| {
            spoke.store(true, Ordering::Relaxed);
            service.call(request)
        }
    });
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let mut connection = pin!(watcher.watch(connection));
    let outcome = tokio::select! {
        outcome = &mut connection => Some(outcome),
        () = tokio::time::sleep(FIRST_REQUEST_TIMEOUT) => None,
    };
    let outcome = match outcome {
        Some(outcome) => outcome,
        None if spoke.load(Ordering::Relaxed) => connection.await,
        None => return,
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended badly");
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
