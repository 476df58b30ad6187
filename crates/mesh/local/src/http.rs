//! One GET.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

/// The most of an answer that is read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What a server said.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All of the body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody accepts connections there.
    #[error("nothing listens on {address} ({source})")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The exchange failed.
    #[error("{address} broke off the exchange: {source}")]
    Exchange {
        /// Who.
        address: SocketAddr,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{address} did not answer within {} ms", limit.as_millis())]
    Timeout {
        /// Who.
        address: SocketAddr,
        /// How long was waited.
        limit: Duration,
    },
}

/// `GET path` on a connection of its own, answered in full within `limit`.
pub async fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Answer, FetchError> {
    get_as(address, path, &address.to_string(), limit).await
}

/// Like [`get`], with the Host header `host`; the target may be in absolute form, for a proxy.
pub async fn get_as(
    address: SocketAddr,
    target: &str,
    host: &str,
    limit: Duration,
) -> Result<Answer, FetchError> {
    tokio::time::timeout(limit, exchange(address, target, host))
        .await
        .unwrap_or(Err(FetchError::Timeout { address, limit }))
}

async fn exchange(address: SocketAddr, target: &str, host: &str) -> Result<Answer, FetchError> {
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| FetchError::Exchange { address, source };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| FetchError::Connect { address, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.into()))?;
    let request = Request::get(target)
        .header("host", host)
        .header("connection", "close")
        .header(
            "user-agent",
            concat!("periplus/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.into()))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.into()))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(Answer {
            status: parts.status.as_u16(),
            body: body.map_err(failed)?.to_bytes(),
        })
    };
    // Both on this task: when the deadline drops the one, no connection stays behind.
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(failed(error.into())),
        },
    }
}
