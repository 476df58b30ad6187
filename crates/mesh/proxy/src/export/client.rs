//! The small HTTP client that reports are sent with, over the pools of the data path.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use thiserror::Error;

use crate::buffer::{Buffer, Output};
use crate::export::Target;
use crate::http1::framing::Decoder;
use crate::http1::head::{Limits, Refused};
use crate::http1::response::ResponseHead;
use crate::upstream::{Pooled, UpstreamConnection};
use crate::worker::Worker;

/// The limits of a collector's answer.
const LIMITS: Limits = Limits {
    bytes: 16 * 1024,
    fields: 100,
};

/// Why a report did not arrive.
#[derive(Debug, Error)]
pub(super) enum PostError {
    #[error("the collector's cluster is not configured")]
    NoCluster,
    #[error("the collector answered {status}")]
    Status { status: u16 },
    #[error("the collector cannot be reached: {reason}")]
    Failed { reason: String },
}

impl From<io::Error> for PostError {
    fn from(error: io::Error) -> Self {
        Self::Failed {
            reason: error.to_string(),
        }
    }
}

impl From<Refused> for PostError {
    fn from(refused: Refused) -> Self {
        Self::Failed {
            reason: refused.to_string(),
        }
    }
}

/// Sends a report, `head` and `body` one after the other, and takes any 2xx for an answer.
pub(super) async fn post(
    worker: &Rc<Worker>,
    target: &Target,
    head: &[u8],
    body: &[u8],
) -> Result<(), PostError> {
    let exchange = exchange(worker, target, head, body);
    match tokio::time::timeout(target.timeout, exchange).await {
        Ok(Ok(200..=299)) => Ok(()),
        Ok(Ok(status)) => Err(PostError::Status { status }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(PostError::Failed {
            reason: "no answer in time".to_owned(),
        }),
    }
}

async fn exchange(
    worker: &Rc<Worker>,
    target: &Target,
    head: &[u8],
    body: &[u8],
) -> Result<u16, PostError> {
    let view = worker.view();
    let cluster = view
        .clusters
        .get(&target.cluster)
        .ok_or(PostError::NoCluster)?;
    let endpoint = cluster
        .pick(|| worker.random())
        .ok_or_else(|| PostError::Failed {
            reason: "the collector's cluster has no endpoints".to_owned(),
        })?;
    let mut connection = match cluster.checkout(endpoint) {
        Pooled::Idle(connection) => connection,
        Pooled::Open(slot) => UpstreamConnection::open(slot).await.inspect_err(|_| {
            cluster.stats.cx_connect_fail.increment();
        })?,
        Pooled::Full => {
            return Err(PostError::Failed {
                reason: "the collector's connections are at their limit".to_owned(),
            });
        }
    };
    cluster.stats.rq_total.increment();
    let mut request = worker.blocks.lend_output();
    write_request(&mut request.bytes, target, head, body);
    let written = write(&mut connection, &mut request).await;
    worker.blocks.give_back_output(request);
    written?;
    connection.buffer = Buffer::on(worker.blocks.lend());
    let (status, clean) = read_response(&mut connection).await?;
    cluster.stats.rq_completed.increment();
    if clean && connection.buffer.is_empty() {
        connection.release(worker.clock.now(), &worker.blocks);
    } else {
        worker.blocks.give_back(connection.buffer.take_block());
    }
    Ok(status)
}

fn write_request(out: &mut Vec<u8>, target: &Target, head: &[u8], body: &[u8]) {
    let mut length = itoa::Buffer::new();
    for part in [
        "POST ",
        &target.path,
        " HTTP/1.1\r\nhost: ",
        &target.host,
        "\r\ncontent-type: ",
        target.content_type,
        "\r\nuser-agent: periplus-proxy\r\ncontent-length: ",
        length.format(head.len() + body.len()),
        "\r\n\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(head);
    out.extend_from_slice(body);
}

async fn write(connection: &mut UpstreamConnection, request: &mut Output) -> io::Result<()> {
    while !request.is_written() {
        let n = poll_fn(|cx| connection.stream.poll_write(cx, request.pending())).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        request.advance(n);
    }
    Ok(())
}

/// Reads a final response to its end: its status, and whether the connection can be used again.
async fn read_response(connection: &mut UpstreamConnection) -> Result<(u16, bool), PostError> {
    let UpstreamConnection { stream, buffer, .. } = connection;
    let mut response = ResponseHead::default();
    loop {
        match response.parse(buffer.unread(), LIMITS, false)? {
            Some(length) => {
                buffer.consume(length);
                if !response.is_interim() {
                    break;
                }
            }
            None => {
                if poll_fn(|cx| stream.poll_read(cx, buffer)).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
        }
    }
    let mut decoder = Decoder::new(response.framing);
    let mut clean = response.keep_alive;
    while !decoder.is_done() {
        let piece = decoder
            .decode(buffer.unread())
            .map_err(|error| PostError::Failed {
                reason: error.to_string(),
            })?;
        buffer.consume(piece.skip + piece.data);
        if piece.skip + piece.data == 0 && poll_fn(|cx| stream.poll_read(cx, buffer)).await? == 0 {
            clean = false;
            if !decoder.finish() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
    Ok((response.status, clean))
}
