//! The small HTTP client that reports are sent with, over the pools of the data path.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use thiserror::Error;

use crate::balance::Ask;
use crate::buffer::Buffer;
use crate::export::Target;
use crate::http1::framing::Decoder;
use crate::http1::head::{Limits, Refused};
use crate::http1::response::ResponseHead;
use crate::policy::jwt::Origin;
use crate::upstream::{ClusterState, Pooled, UpstreamConnection};
use crate::worker::Worker;

/// The limits of a collector's answer.
const LIMITS: Limits = Limits {
    bytes: 16 * 1024,
    fields: 100,
};

/// Why a report did not arrive, or a document.
#[derive(Debug, Error)]
pub(crate) enum PostError {
    #[error("the cluster is not configured")]
    NoCluster,
    #[error("the answer was {status}")]
    Status { status: u16 },
    #[error("it cannot be reached: {reason}")]
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

/// A report: the body in two parts, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report<'a> {
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

/// What one report after the other is sent with; keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Client {
    request: Vec<u8>,
    response: ResponseHead,
}

impl Client {
    /// Sends a report and takes any 2xx for an answer.
    pub(super) async fn post(
        &mut self,
        worker: &Rc<Worker>,
        target: &Target,
        report: Report<'_>,
    ) -> Result<(), PostError> {
        let exchange = self.exchange(worker, target, report);
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
        &mut self,
        worker: &Rc<Worker>,
        target: &Target,
        report: Report<'_>,
    ) -> Result<u16, PostError> {
        let view = worker.view();
        let cluster = view
            .clusters
            .get(&target.cluster)
            .ok_or(PostError::NoCluster)?;
        let mut connection = connect(worker, cluster).await?;
        cluster.stats.rq_total.increment();
        self.write_head(target, report);
        for part in [&self.request[..], report.head, report.body] {
            write(&mut connection, part).await?;
        }
        connection.buffer = Buffer::on(worker.blocks.lend());
        let clean = read_response(&mut connection, &mut self.response, |_| Ok(())).await?;
        cluster.stats.rq.count(self.response.status);
        if clean && connection.buffer.is_empty() {
            connection.release(worker.clock.now(), &worker.blocks);
        } else {
            worker.blocks.give_back(connection.buffer.take_block());
        }
        Ok(self.response.status)
    }

    fn write_head(&mut self, target: &Target, report: Report<'_>) {
        self.request.clear();
        for part in [
            "POST ",
            &target.path,
            " HTTP/1.1\r\nhost: ",
            &target.host,
            "\r\ncontent-type: ",
            target.content_type,
            "\r\nuser-agent: periplus-proxy\r\ncontent-length: ",
            itoa::Buffer::new().format(report.head.len() + report.body.len()),
            "\r\n\r\n",
        ] {
            self.request.extend_from_slice(part.as_bytes());
        }
    }
}

/// Gets a document of at most so many bytes.
pub(crate) async fn fetch(
    worker: &Rc<Worker>,
    origin: &Origin,
    most_bytes: usize,
) -> Result<Vec<u8>, PostError> {
    let getting = async {
        let view = worker.view();
        let cluster = view.clusters.get(&origin.cluster);
        let cluster = cluster.ok_or(PostError::NoCluster)?;
        let mut connection = connect(worker, cluster).await?;
        cluster.stats.rq_total.increment();
        let Origin { host, path, .. } = origin;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: periplus-proxy\r\n\r\n");
        write(&mut connection, head.as_bytes()).await?;
        connection.buffer = Buffer::on(worker.blocks.lend());
        let (mut response, mut body) = (ResponseHead::default(), Vec::new());
        let take = |data: &[u8]| match body.len() + data.len() <= most_bytes {
            true => {
                body.extend_from_slice(data);
                Ok(())
            }
            false => Err(PostError::Failed {
                reason: format!("the answer has more than {most_bytes} bytes"),
            }),
        };
        let clean = read_response(&mut connection, &mut response, take).await?;
        cluster.stats.rq.count(response.status);
        if clean && connection.buffer.is_empty() {
            connection.release(worker.clock.now(), &worker.blocks);
        } else {
            worker.blocks.give_back(connection.buffer.take_block());
        }
        match response.status {
            200 => Ok(body),
            status => Err(PostError::Status { status }),
        }
    };
    let got = tokio::time::timeout(origin.timeout, getting).await;
    got.unwrap_or_else(|_| {
        Err(PostError::Failed {
            reason: "no answer in time".to_owned(),
        })
    })
}

/// A connection of the cluster's pool, or a new one.
async fn connect(worker: &Worker, cluster: &ClusterState) -> Result<UpstreamConnection, PostError> {
    let failed = |reason: &str| PostError::Failed {
        reason: reason.to_owned(),
    };
    let endpoint = cluster
        .pick(Ask::default(), worker)
        .ok_or_else(|| failed("the cluster has no endpoints"))?;
    match cluster.checkout(&endpoint, false) {
        Pooled::Idle(connection) => Ok(connection),
        Pooled::Open(slot) => UpstreamConnection::open(slot, None).await.map_err(|error| {
            cluster.stats.cx_connect_fail.increment();
            error.into()
        }),
        Pooled::Full => Err(failed("the cluster's connections are at their limit")),
    }
}

async fn write(connection: &mut UpstreamConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|cx| connection.stream.poll_write(cx, bytes)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => bytes = &bytes[n..],
        }
    }
    Ok(())
}

/// Reads a final response to its end: whether the connection can be used again.
async fn read_response(
    connection: &mut UpstreamConnection,
    response: &mut ResponseHead,
    mut take: impl FnMut(&[u8]) -> Result<(), PostError>,
) -> Result<bool, PostError> {
    let UpstreamConnection { stream, buffer, .. } = connection;
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
        take(&buffer.unread()[piece.skip..][..piece.data])?;
        buffer.consume(piece.skip + piece.data);
        if piece.skip + piece.data == 0 && poll_fn(|cx| stream.poll_read(cx, buffer)).await? == 0 {
            clean = false;
            if !decoder.finish() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
    Ok(clean)
}
