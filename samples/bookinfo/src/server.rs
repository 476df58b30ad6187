//! The accept loop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::App;
use crate::forward::Context;

/// More connections than this wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long requests that are under way may take once the service shall stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long the listener rests when it cannot accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers on `listener` until `stop` resolves, then lets requests under way finish.
pub async fn serve(app: App, listener: TcpListener, stop: impl Future<Output = ()>) {
    let app = Arc::new(app);
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, permit)) = accepted else {
            continue;
        };
        let app = Arc::clone(&app);
        let service = service_fn(move |request| answer(Arc::clone(&app), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not finish in time");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and complete: waiting to fill a packet would only add delay.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn answer(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<crate::reply::Reply, Infallible> {
    let begun = Instant::now();
    let (request, body) = request.into_parts();
    tracing::debug!("received context: {}", Context(&request.headers));
    let reply = app.respond(request.clone(), body).await;
    tracing::info!(
        method = %request.method,
        path = %request.uri.path(),
        status = reply.status().as_u16(),
        duration_ms = begun.elapsed().as_millis() as u64,
        request_id = request.headers.get("x-request-id").map(printable),
        "request"
    );
    Ok(reply)
}

fn printable(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("(not text)")
}
