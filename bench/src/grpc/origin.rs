//! The origin of calls: one thread, the same message for each.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Flags of the origin.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens for HTTP/2
    #[arg(long)]
    address: SocketAddr,
    /// Where it tells, over HTTP/1.1, what it has counted
    #[arg(long)]
    stats: SocketAddr,
    /// Bytes of each answer's message
    #[arg(long, default_value_t = 128)]
    body: usize,
}

#[derive(Debug, Default)]
struct Counts {
    requests: Cell<u64>,
    with_context: Cell<u64>,
}

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let calls = TcpListener::bind(args.address).await?;
    let stats = TcpListener::bind(args.stats).await?;
    let counts = Rc::new(Counts::default());
    let message = super::message(args.body);
    loop {
        tokio::select! {
            accepted = calls.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let (counts, message) = (Rc::clone(&counts), message.clone());
                tokio::task::spawn_local(async move {
                    // A client that goes away is none of our business.
                    let _ = serve_connection(stream, &counts, message).await;
                });
            }
            accepted = stats.accept() => {
                let (stream, _) = accepted?;
                let counts = Rc::clone(&counts);
                tokio::task::spawn_local(async move {
                    let _ = tell(stream, &counts).await;
                });
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    counts: &Rc<Counts>,
    message: Bytes,
) -> anyhow::Result<()> {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(1_000)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let (counts, message) = (Rc::clone(counts), message.clone());
        tokio::task::spawn_local(async move {
            let _ = answer(request, respond, &counts, message).await;
        });
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    counts: &Counts,
    message: Bytes,
) -> anyhow::Result<()> {
    let headers = request.headers();
    let has_context = headers.contains_key("x-b3-traceid") || headers.contains_key("traceparent");
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    counts.requests.set(counts.requests.get() + 1);
    counts
        .with_context
        .set(counts.with_context.get() + u64::from(has_context));
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())?;
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(message, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}

async fn tell(mut stream: TcpStream, counts: &Counts) -> anyhow::Result<()> {
    let mut request = [0; 1024];
    while stream.read(&mut request).await? > 0 {
        let body = format!(
            r#"{{"requests":{},"with_context":{}}}"#,
            counts.requests.get(),
            counts.with_context.get()
        );
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
