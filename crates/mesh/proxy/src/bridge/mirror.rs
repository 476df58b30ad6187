//! Copies of requests: sent to another cluster, and nobody waits for what it answers.
//!
//! A copy has the whole request, so that it is sent when that is there; it has a span of its own under that of the
//! request. How many there are at the same time is bounded, and so is how long a body of one may be: what is over
//! is counted in `retry_or_shadow_abandoned` of its cluster.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::bridge::pipe::{Piece, PipeError, Sink, Source, Trailers};
use crate::bridge::{Client, First, attempts};
use crate::buffer::Buffer;
use crate::call::{Call, Parts};
use crate::exchange::Exchange;
use crate::http1::head::{Limits, MOST_FIELDS};
use crate::snapshot::RouteAction;
use crate::upstream::ClusterState;
use crate::worker::Worker;

/// The most copies of a worker that are under way.
const MOST: usize = 1024;
/// How much a sink that keeps nothing takes at once.
const ROOM: usize = 64 * 1024;

/// A copy of a request, as the client of another exchange.
pub(crate) struct Mirrored {
    pub(super) call: Call,
    /// What is left of the request's body.
    pub(super) body: Body,
}

/// The pieces of a body that is there as a whole, the next one last.
pub(super) struct Body(Vec<Piece>);

impl Source for Body {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Result<Piece, PipeError>> {
        Poll::Ready(Ok(self.0.pop().unwrap_or(Piece::End(None))))
    }

    fn is_ended(&self) -> bool {
        matches!(&*self.0, [] | [Piece::End(None)])
    }

    fn taken(&mut self, _: usize) {
        // It is all there.
    }
}

/// Where the answer goes.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn poll_room(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Result<usize, PipeError>> {
        Poll::Ready(Ok(ROOM))
    }

    fn data(&mut self, _: Bytes, _: bool) -> Result<(), PipeError> {
        Ok(())
    }

    fn end(&mut self, _: Option<&mut Trailers>) -> Result<(), PipeError> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>, _: &mut bool) -> Poll<Result<(), PipeError>> {
        Poll::Ready(Ok(()))
    }
}

/// One of the copies that are under way.
struct Place(Rc<Worker>);

impl Place {
    fn take(worker: &Rc<Worker>) -> Option<Self> {
        let taken = worker.mirrored.get();
        (taken < MOST).then(|| {
            worker.mirrored.set(taken + 1);
            Self(worker.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirrored.set(self.0.mirrored.get() - 1);
    }
}

/// Sends the copies that the route wants of a request whose body this is; none if it was too long.
#[cold]
pub(super) fn mirror(call: &Call, exchange: &mut Exchange, body: Option<&[Piece]>) {
    exchange.mirrors = false;
    let chosen = std::mem::take(&mut exchange.rare().mirrors);
    let Some((router, at)) = call.view.router.as_ref().zip(exchange.route) else {
        return;
    };
    for index in chosen {
        let Some(cluster) = router.mirror(at, index) else {
            continue;
        };
        let copied = Place::take(&call.worker)
            .zip(body)
            .and_then(|(place, body)| Some((place, copy(call, body)?)));
        let Some((place, client)) = copied else {
            cluster.stats.retry_abandoned.increment();
            continue;
        };
        let exchange = exchange.mirrored(&client.call, cluster, index);
        tokio::task::spawn_local(send(client, exchange, cluster.clone(), place));
    }
}

/// The request once more.
fn copy(call: &Call, body: &[Piece]) -> Option<Mirrored> {
    let worker = call.worker.clone();
    let parts = Parts::new(&worker);
    let (view, client) = (call.view.clone(), call.client.clone());
    let mut copy = Call::new(call.protocol, worker, view, client, parts);
    copy.request.is_https = call.request.is_https;
    copy.request.came_by_https = call.request.came_by_https;
    copy.buffer = Buffer::of(call.buffer.head().to_vec());
    let limits = Limits {
        bytes: usize::MAX,
        fields: MOST_FIELDS,
    };
    let parsed = copy.request.parse(copy.buffer.unread_mut(), limits);
    copy.buffer.pin(parsed.ok().flatten()?);
    // The endpoint need not say that it waits for the body.
    copy.request.expects_continue = false;
    Some(Mirrored {
        call: copy,
        body: Body(body.iter().rev().cloned().collect()),
    })
}

async fn send(
    mut client: Mirrored,
    mut exchange: Exchange,
    cluster: Rc<ClusterState>,
    _place: Place,
) {
    let admitted = cluster.admit(exchange.ask(&client.call), &*client.call.worker);
    // Without an endpoint there is nobody to tell; the cluster has counted it.
    let Ok(admitted) = admitted else { return };
    let first = First::Bridge(admitted);
    let ended = attempts(
        Client::Mirrored(&mut client),
        &mut exchange,
        &cluster,
        first,
    )
    .await;
    if let Err(failure) = ended {
        if let Some(flag) = failure.flag() {
            exchange.flags.set(flag);
        }
        client.call.fail_attempt(&mut exchange, &failure);
    }
    client.call.finish_mirrored(&mut exchange);
}

impl Call {
    /// Chooses which copies of a request are sent.
    #[cold]
    pub(crate) fn choose_mirrors(&self, exchange: &mut Exchange) {
        let Some((router, at)) = self.view.router.as_ref().zip(exchange.route) else {
            return;
        };
        let RouteAction::Forward(forward) = &router.route(at).action else {
            return;
        };
        let drawn = forward
            .mirrors
            .iter()
            .map(|mirror| mirror.per_million.is_none_or(|share| self.is_in(share)));
        let drawn = drawn.enumerate().filter(|(_, drawn)| *drawn);
        let chosen: Vec<usize> = drawn.map(|(index, _)| index).collect();
        exchange.mirrors = !chosen.is_empty();
        exchange.bridges |= exchange.mirrors;
        exchange.rare().mirrors = chosen;
    }
}
