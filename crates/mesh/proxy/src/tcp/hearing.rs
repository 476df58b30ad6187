//! Who is at the other end of a connection that begins with that, where both ends have agreed on it by ALPN.
//!
//! Nobody waits for the other: what this proxy says of itself goes out at once, and each direction only waits for bytes
//! that its own source owes.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use periplus_xds::istio_peers::PROTOCOL;

use crate::buffer::Buffer;
use crate::net::Stream;
use crate::relay::RelayError;
use crate::stats::ExchangeStats;
use crate::telemetry::istio::{HEAD, Heard, Peer, PeerCell, hear, passed_over};

/// An end of a connection that is yet to say who it is.
#[derive(Debug)]
pub(super) struct Hearing {
    stats: Arc<ExchangeStats>,
}

impl Hearing {
    /// None if it will not say it; `stats` are there if it was to be asked.
    pub(super) fn of(stream: &Stream, stats: Option<&Arc<ExchangeStats>>) -> Option<Self> {
        let stats = stats?.clone();
        let agreed = stream.tls_state().and_then(|state| state.alpn_protocol());
        if agreed != Some(PROTOCOL.as_bytes()) {
            stats.alpn_not_found.increment();
            return None;
        }
        stats.alpn_found.increment();
        stats.added.increment();
        Some(Self { stats })
    }

    /// Ready once it has said who it is, or something else in place of that: then the buffer begins with what is meant
    /// for the other end.
    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
        (source, buffer): (&mut Stream, &mut Buffer),
        cell: &PeerCell,
        progress: &mut bool,
    ) -> Poll<Result<Option<Rc<Peer>>, RelayError>> {
        loop {
            match hear(buffer.unread()) {
                Heard::Message(message, whole) => {
                    let peer = cell.learn_greeting(message);
                    let over = match peer {
                        Some(_) => whole,
                        None => passed_over(message),
                    };
                    if peer.is_none() {
                        self.stats.message_not_found.increment();
                    }
                    buffer.consume(over);
                    return Poll::Ready(Ok(peer));
                }
                Heard::SomethingElse => {
                    self.stats.head_not_found.increment();
                    return Poll::Ready(Ok(None));
                }
                Heard::TooLong => {
                    // Nobody can tell where it ends and the bytes for the other end begin.
                    self.stats.message_not_found.increment();
                    tracing::debug!("a peer says too much of itself");
                    return Poll::Ready(Err(RelayError::Source));
                }
                Heard::More => {}
            }
            match ready!(source.poll_read(cx, buffer)) {
                Ok(n) if n > 0 => *progress = true,
                end => {
                    let heard = buffer.unread().len();
                    if heard < HEAD {
                        self.stats.head_not_found.increment();
                    } else {
                        self.stats.message_not_found.increment();
                        buffer.consume(heard);
                    }
                    // A socket tells of a reset once; how it has ended else is found again by whoever reads on.
                    return Poll::Ready(match end {
                        Err(_) if !source.was_truncated() => Err(RelayError::Source),
                        _ => Ok(None),
                    });
                }
            }
        }
    }
}
