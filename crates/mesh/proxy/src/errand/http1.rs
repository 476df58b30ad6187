//! Errands over HTTP/1.1.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use crate::buffer::Buffer;
use crate::errand::{Answer, Errand, LIMITS, Trouble};
use crate::http1::framing::Decoder;
use crate::upstream::{ClusterState, EndpointState, Pooled, UpstreamConnection};
use crate::worker::Worker;

pub(super) async fn exchange(
    worker: &Rc<Worker>,
    (cluster, endpoint): (&Rc<ClusterState>, &Rc<EndpointState>),
    errand: Errand<'_>,
    answer: &mut Answer,
) -> Result<(), Trouble> {
    loop {
        let mut connection = connect(cluster, endpoint).await?;
        let was_reused = connection.reused;
        match talk(worker, &mut connection, errand, answer).await {
            Ok(is_clean) => {
                if is_clean && connection.buffer.is_empty() {
                    connection.release(worker.clock.now(), &worker.blocks);
                } else {
                    worker.blocks.give_back(connection.buffer.take_block());
                }
                return Ok(());
            }
            // The endpoint had closed it meanwhile.
            Err(Trouble::Stale) if was_reused => {}
            Err(trouble) => return Err(trouble),
        }
    }
}

/// A connection of the cluster's pool, or a new one.
async fn connect(
    cluster: &ClusterState,
    endpoint: &Rc<EndpointState>,
) -> Result<Box<UpstreamConnection>, Trouble> {
    match cluster.checkout(endpoint, false) {
        Pooled::Idle(connection) => Ok(connection),
        Pooled::Open(slot) => {
            let open = UpstreamConnection::open(slot, None);
            let opened = tokio::time::timeout(cluster.cluster.connect_timeout, open).await;
            Ok(cluster.connected(endpoint, opened)?)
        }
        Pooled::Full => Err(Trouble::failed(
            "the cluster's connections are at their limit",
        )),
    }
}

/// Sends the request and takes its answer: whether the connection can be used again.
async fn talk(
    worker: &Worker,
    connection: &mut UpstreamConnection,
    errand: Errand<'_>,
    answer: &mut Answer,
) -> Result<bool, Trouble> {
    let [one, two] = errand.body.unwrap_or_default();
    for part in [&answer.request, one, two] {
        if write(connection, part).await.is_err() {
            return Err(Trouble::Stale);
        }
    }
    if !connection.buffer.has_block() {
        connection.buffer = Buffer::on(worker.blocks.lend());
    }
    let UpstreamConnection { stream, buffer, .. } = connection;
    loop {
        let response = &mut answer.response;
        let parsed = response.parse(buffer.unread(), LIMITS, errand.method == "HEAD");
        let Some(length) = parsed.map_err(|refused| Trouble::senseless(refused.reason))? else {
            if buffer.is_full() {
                buffer.grow((2 * buffer.capacity()).min(LIMITS.bytes + 1));
            }
            let is_first = buffer.is_empty();
            match poll_fn(|cx| stream.poll_read(cx, buffer)).await {
                Ok(0) | Err(_) if is_first => return Err(Trouble::Stale),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        if !response.is_interim() {
            answer.head.extend_from_slice(&buffer.unread()[..length]);
            buffer.consume(length);
            break;
        }
        buffer.consume(length);
    }
    let mut decoder = Decoder::new(answer.response.framing);
    let mut is_clean = answer.response.keep_alive;
    while !decoder.is_done() {
        let piece = decoder
            .decode(buffer.unread())
            .map_err(|error| Trouble::senseless(error.to_string()))?;
        let data = &buffer.unread()[piece.skip..][..piece.data];
        answer.take(data, errand.most_bytes)?;
        buffer.consume(piece.skip + piece.data);
        if piece.skip + piece.data == 0 && poll_fn(|cx| stream.poll_read(cx, buffer)).await? == 0 {
            is_clean = false;
            if !decoder.finish() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
    answer.trailers.extend_from_slice(decoder.trailers());
    Ok(is_clean)
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
