//! The two directions of a connection, polled by one task.
//!
//! Each holds a block only while bytes of it are under way, and reads no more than its sink has
//! taken: one block is the bound of a direction. The end of one direction is passed on, and the
//! other one goes on (RFC 9293 §3.6).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffer::{Blocks, Buffer, Output};
use crate::clock::Micros;
use crate::http1::framing::Framing;
use crate::net::Stream;
use crate::relay::{Relay, RelayError, poll_flush};
use crate::snapshot;
use crate::tcp::Session;
use crate::tcp::connect::Upstream;
use crate::tcp::hearing::Hearing;
use crate::telemetry::istio::{Peer, PeerCell};
use crate::upstream::ClusterState;

/// How long a connection may go on after its listener has gone: Envoy's `--drain-time-s`.
const DRAIN: Duration = Duration::from_secs(600);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have closed.
    Complete,
    /// The client has reset the connection.
    ClientGone,
    /// The endpoint has.
    EndpointGone,
    /// No byte has moved for too long.
    Idle,
    /// It has lasted for long enough.
    TooLong,
    /// Its listener has gone,
    Drained,
    /// or the proxy ends, and does not wait any longer.
    Cut,
}

/// How many bytes were passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    pub(super) from_client: u64,
    pub(super) to_client: u64,
}

/// One direction.
#[derive(Debug)]
struct Direction {
    relay: Relay,
    buffer: Buffer,
    /// What goes before anything else; bytes go from the buffer as they are.
    out: Output,
    /// The source is yet to say who it is,
    hearing: Option<Hearing>,
    /// or it has.
    heard: Option<Rc<Peer>>,
    /// The sink has been told that no more will come.
    closed: bool,
}

impl Direction {
    fn new(hearing: Option<Hearing>, greeting: Option<&[u8]>) -> Self {
        let mut out = Output::default();
        out.bytes.extend_from_slice(greeting.unwrap_or_default());
        Self {
            relay: Relay::new(Framing::Close, false),
            buffer: Buffer::default(),
            out,
            hearing,
            heard: None,
            closed: false,
        }
    }

    /// Moves what can be moved. Ready once the end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (blocks, known): (&Blocks, &PeerCell),
        source: &mut Stream,
        sink: &mut Stream,
        progress: &mut bool,
    ) -> Poll<Result<(), RelayError>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        if !self.out.bytes.is_empty() {
            if ready!(poll_flush(cx, sink, &mut self.out, progress)).is_err() {
                return Poll::Ready(Err(RelayError::Sink));
            }
            self.out = Output::default();
        }
        if !self.relay.is_taken() {
            if !self.buffer.has_block() {
                self.buffer = Buffer::on(blocks.lend());
            }
            let moved = match self.hear(cx, known, source, progress) {
                Poll::Ready(Ok(())) => {
                    let from = (&mut *source, &mut self.buffer);
                    let to = (&mut *sink, &mut self.out);
                    self.relay.poll(cx, from, to, progress)
                }
                not_yet => not_yet,
            };
            if self.buffer.is_empty() {
                blocks.give_back(self.buffer.take_block());
            }
            match ready!(moved) {
                // Who ends TLS without saying so ends it all the same, as most clients do.
                Err(RelayError::Source) if source.was_truncated() => {}
                moved => moved?,
            }
        }
        let shut = ready!(sink.poll_shutdown(cx));
        self.closed = true;
        Poll::Ready(shut.map_err(|_| RelayError::Sink))
    }

    /// Ready once nobody is to say any more who he is.
    #[inline]
    fn hear(
        &mut self,
        cx: &mut Context<'_>,
        known: &PeerCell,
        source: &mut Stream,
        progress: &mut bool,
    ) -> Poll<Result<(), RelayError>> {
        if let Some(hearing) = &self.hearing {
            let from = (source, &mut self.buffer);
            self.heard = ready!(hearing.poll(cx, from, known, progress))?;
            self.hearing = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl Session {
    /// Passes bytes on until both sides have ended.
    pub(super) async fn relay(&mut self, cluster: &ClusterState, upstream: Upstream) -> Carried {
        let mut conversation = self.converse(cluster, upstream);
        let end = poll_fn(|cx| conversation.poll(cx)).await;
        conversation.finish(end)
    }

    fn converse<'a>(
        &'a mut self,
        cluster: &'a ClusterState,
        upstream: Upstream,
    ) -> Conversation<'a> {
        let of_client = Hearing::of(&self.client, self.view.exchange.as_ref());
        let of_endpoint = Hearing::of(&upstream.stream, cluster.exchange_stats.as_ref());
        let greeting = &*self.worker.greeting;
        let to_client = of_client.as_ref().map(|_| greeting);
        let to_endpoint = of_endpoint.as_ref().map(|_| greeting);
        let to_client = Direction::new(of_endpoint, to_client);
        let to_endpoint = Direction::new(of_client, to_endpoint);
        let mut conversation = Conversation {
            to_endpoint,
            to_client,
            client: PeerCell::default(),
            counted: Carried::default(),
            told: None,
            idle_since: self.worker.clock.now(),
            session: self,
            cluster,
            upstream,
        };
        conversation.tell_peer(false);
        conversation.arm();
        conversation
    }
}

struct Conversation<'a> {
    session: &'a mut Session,
    cluster: &'a ClusterState,
    upstream: Upstream,
    to_endpoint: Direction,
    to_client: Direction,
    /// Who the client is, if it says so.
    client: PeerCell,
    counted: Carried,
    /// What Istio's metrics know of that, which are of ends that are known.
    told: Option<Carried>,
    idle_since: Micros,
}

impl Conversation<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut progress = false;
        let blocks = &self.session.worker.blocks;
        let (client, endpoint) = (&mut self.session.client, &mut self.upstream.stream);
        let up = self
            .to_endpoint
            .poll(cx, (blocks, &self.client), client, endpoint, &mut progress);
        let known = &self.upstream.endpoint.workload;
        let down = self
            .to_client
            .poll(cx, (blocks, known), endpoint, client, &mut progress);
        if self.told.is_none() {
            self.tell_peer(false);
        }
        if progress {
            self.count();
            self.idle_since = self.session.worker.clock.now();
            self.arm();
        }
        match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Complete),
            (Poll::Ready(Err(RelayError::Sink)), _) => Poll::Ready(End::EndpointGone),
            (Poll::Ready(Err(_)), _) => Poll::Ready(End::ClientGone),
            (_, Poll::Ready(Err(RelayError::Sink))) => Poll::Ready(End::ClientGone),
            (_, Poll::Ready(Err(_))) => Poll::Ready(End::EndpointGone),
            _ => self.poll_end(cx),
        }
    }

    /// Whether the connection is to end although both sides could go on.
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<End> {
        self.session.registered.watch(cx);
        if self.session.registered.is_draining() && self.drain() {
            return Poll::Ready(End::Drained);
        }
        let clock = &self.session.worker.clock;
        while self
            .session
            .timer
            .poll_passed(|| clock.now(), cx)
            .is_ready()
        {
            if self.session.worker.timers.is_cut() {
                return Poll::Ready(End::Cut);
            }
            let passed = |at: Option<Micros>| at.is_some_and(|at| at <= clock.now());
            if passed(self.session.last_moment) {
                return Poll::Ready(End::TooLong);
            }
            if passed(self.idle_deadline()) {
                return Poll::Ready(End::Idle);
            }
            self.arm();
        }
        Poll::Pending
    }

    /// The listener has gone, or the proxy ends: whether the connection does so at once.
    fn drain(&mut self) -> bool {
        let is_idle = self.to_endpoint.buffer.is_empty() && self.to_client.buffer.is_empty();
        if self.session.view.proxy.check_drain_close && is_idle {
            return true;
        }
        let latest = self.session.after(DRAIN);
        let session = &mut *self.session;
        if !std::mem::replace(&mut session.is_draining, true) {
            session.last_moment = Some(session.last_moment.map_or(latest, |at| at.min(latest)));
            self.arm();
        }
        false
    }

    fn idle_deadline(&self) -> Option<Micros> {
        let timeout = self.session.view.proxy.idle_timeout?;
        Some(self.idle_since.saturating_add(timeout.as_micros() as u64))
    }

    /// Sets the timer to the nearest deadline.
    fn arm(&self) {
        let deadlines = [self.session.last_moment, self.idle_deadline()];
        let nearest = deadlines.into_iter().flatten().min();
        self.session.timer.set_at(nearest);
    }

    /// Counts what has moved since the last time.
    fn count(&mut self) {
        let now = Carried {
            from_client: self.to_endpoint.relay.body_bytes,
            to_client: self.to_client.relay.body_bytes,
        };
        let received = now.from_client - self.counted.from_client;
        let sent = now.to_client - self.counted.to_client;
        self.counted = now;
        if let Some(told) = &mut self.told
            && let Some(series) = self.session.counted()
        {
            series.received.add(now.from_client - told.from_client);
            series.sent.add(now.to_client - told.to_client);
            *told = now;
        }
        let stats = &self.session.view.stats;
        stats.cx_rx_bytes.add(received);
        stats.cx_tx_bytes.add(sent);
        self.cluster.stats.cx_tx_bytes.add(received);
        self.cluster.stats.cx_rx_bytes.add(sent);
    }

    /// Begins to count the connection in Istio's metrics, once its other end is known, or will not be.
    fn tell_peer(&mut self, is_over: bool) {
        if self.told.is_some() || self.session.view.metrics.is_none() {
            return;
        }
        let is_inbound = self.session.direction() == snapshot::Direction::Inbound;
        let other = match is_inbound {
            true => &self.to_endpoint,
            false => &self.to_client,
        };
        if other.hearing.is_some() && !is_over {
            return;
        }
        let heard = other.heard.clone();
        let secured = self.upstream.stream.secured().cloned();
        self.session
            .begin_count(Some(self.cluster), Some((heard, secured)));
        self.told = Some(Carried::default());
    }

    fn finish(mut self, end: End) -> Carried {
        // Before its other end is told of: with it goes how it has ended.
        self.session.end(end);
        self.tell_peer(true);
        self.count();
        match end {
            End::Complete | End::Drained => {}
            // Whoever is left must not take the end for a clean one.
            End::ClientGone => self.upstream.stream.reset_on_close(),
            End::EndpointGone => self.session.client.reset_on_close(),
            End::Idle | End::TooLong | End::Cut => {}
        }
        for direction in [&mut self.to_endpoint, &mut self.to_client] {
            let block = direction.buffer.take_block();
            self.session.worker.blocks.give_back(block);
        }
        self.counted
    }
}
