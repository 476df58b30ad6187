//! What becomes of a connection that a listener has accepted: what it is, which filter chain takes
//! it, and the handshake if that terminates TLS.

mod handshake;
mod lookout;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use self::lookout::Lookout;
use crate::call::Protocol;
use crate::clock::Micros;
use crate::connection::Connection;
use crate::http2;
use crate::net::{Stream, original_destination};
use crate::registry::Registered;
use crate::snapshot::{ChainTls, Ends, Sniffed};
use crate::stats::ListenerStats;
use crate::tcp::Session;
use crate::telemetry::{Entry, tell_connection, tell_no_chain};
use crate::view::{ChainView, ListenerView, ServiceView};
use crate::worker::Worker;

/// Who is connected to whom.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    peer: SocketAddr,
    /// The other end of the connection, whoever it speaks for.
    direct: SocketAddr,
    /// Where the client wanted to go, if it was redirected.
    original: Option<SocketAddr>,
    /// The address of the socket.
    local: SocketAddr,
}

/// Finds out what serves a connection.
pub(crate) fn take(
    worker: &Rc<Worker>,
    accepted: &Rc<ListenerView>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    if accepted.is_simple() {
        accepted.stats.cx_total.increment();
        if let Some(chain) = accepted.only_chain() {
            spawn(worker, accepted, chain, Stream::new(stream), (peer, None));
        }
        return;
    }
    let Ok(local) = stream.local_addr() else {
        // The client has gone.
        return;
    };
    let listener = &accepted.listener;
    let is_transparent = listener.socket.is_some_and(|socket| socket.transparent);
    let original = listener
        .original_destination
        .then(|| original_destination(&stream, local, is_transparent))
        .flatten();
    let world = worker.view();
    let view = original
        .filter(|_| listener.hands_over)
        .and_then(|original| world.listener_at(original))
        .unwrap_or(accepted);
    view.stats.cx_total.increment();
    let arrival = Arrival {
        peer,
        direct: peer,
        original,
        local,
    };
    if view.waits_for_client() {
        let (worker, view) = (worker.clone(), view.clone());
        tokio::task::spawn_local(look_and_serve(worker, view, stream, arrival));
        return;
    }
    let sniffed = Sniffed::default();
    if let Some(chain) = arrival.chain(worker, view, &sniffed) {
        let stream = Stream::new(stream);
        spawn(worker, view, chain, stream, (peer, original));
    }
}

impl Arrival {
    /// Where the client wanted to go.
    fn destination(&self) -> &SocketAddr {
        self.original.as_ref().unwrap_or(&self.local)
    }

    /// The filter chain that takes the connection; without one it is counted.
    fn chain<'a>(
        &self,
        worker: &Worker,
        view: &'a ListenerView,
        sniffed: &Sniffed,
    ) -> Option<&'a Rc<ChainView>> {
        let ends = Ends {
            client: self.peer,
            direct: self.direct,
            destination: *self.destination(),
            sniffed,
        };
        let chain = view.chain(&ends);
        if chain.is_none() {
            view.stats.no_filter_chain_match.increment();
            if let Some(logs) = &view.logs {
                let ends = (ends.client, ends.destination);
                tell_no_chain(logs, worker, ends, sniffed.server_name.as_deref());
            }
        }
        chain
    }
}

/// Serves a connection in a task of its own.
fn spawn(
    worker: &Rc<Worker>,
    listener: &ListenerView,
    chain: &ChainView,
    stream: Stream,
    (peer, original): (SocketAddr, Option<SocketAddr>),
) {
    let registered = Registered::new(worker, listener);
    let stats = listener.stats.clone();
    stats.cx_active.increment();
    match &chain.service {
        ServiceView::Http(view) => {
            let view = view.clone();
            let connection = Connection::new(worker, registered, view, stream, (peer, original));
            tokio::task::spawn_local(serve_http(connection, stats));
        }
        ServiceView::Tcp(view) => {
            let mut session =
                Session::new(worker, registered, view.clone(), stream, (peer, original));
            let worker = worker.clone();
            let begin = worker.clock.now();
            if !session.is_allowed() {
                end(&worker, &stats, begin);
                return;
            }
            tokio::task::spawn_local(async move {
                session.run().await;
                end(&worker, &stats, begin);
            });
        }
    }
}

/// Counts the end of a connection that was served: its length in milliseconds.
fn end(worker: &Worker, stats: &ListenerStats, begin: Micros) -> u64 {
    let length_ms = worker.clock.now().saturating_sub(begin) / 1000;
    stats.cx_active.decrement();
    stats.cx_destroy.increment();
    stats.cx_length_ms.add(length_ms);
    length_ms
}

/// Serves a connection of HTTP.
///
/// The connection is captured by the block: an argument of an `async fn` lies in its future twice.
#[expect(
    clippy::manual_async_fn,
    reason = "the future of an `async fn` would be larger by a connection"
)]
fn serve_http(mut connection: Connection, stats: Arc<ListenerStats>) -> impl Future<Output = ()> {
    async move {
        let http = connection.call.view.http.clone();
        http.cx_total.increment();
        http.cx_active.increment();
        let worker = connection.call.worker.clone();
        let begin = worker.clock.now();
        let logs = connection.registered.logs().cloned();
        let (client, view) = (&connection.call.client, &connection.call.view);
        let told = logs.map(|logs| (logs, client.clone(), view.clone()));
        if connection.run().await == Protocol::Http2 {
            // Boxed, so that a connection of HTTP/1.1 does not hold the memory for it.
            Box::pin(http2::serve(connection)).await;
        }
        if let Some((logs, client, view)) = told {
            tell_connection(&logs, &worker, (&client, &view.chain), begin);
        }
        http.cx_active.decrement();
        http.cx_destroy.increment();
        http.cx_length_ms.add(end(&worker, &stats, begin));
    }
}

/// Looks at the first bytes of a connection, and serves it in this task.
async fn look_and_serve(
    worker: Rc<Worker>,
    view: Rc<ListenerView>,
    stream: TcpStream,
    arrival: Arrival,
) {
    let registered = Registered::new(&worker, &view);
    let direct = arrival.direct;
    // Boxed, so that a connection at work does not hold the memory for it.
    let ready = Box::pin(secure((&worker, &registered), &view, stream, arrival)).await;
    let Some((chain, stream, ends, server_name)) = ready else {
        return;
    };
    registered.set_server_name(server_name);
    if ends.0 != direct {
        registered.set_direct(direct);
    }
    let stats = view.stats.clone();
    drop(view);
    stats.cx_active.increment();
    match &chain.service {
        ServiceView::Http(http) => {
            let connection = Connection::new(&worker, registered, http.clone(), stream, ends);
            drop(worker);
            serve_http(connection, stats).await;
        }
        ServiceView::Tcp(tcp) => {
            let begin = worker.clock.now();
            let mut session = Session::new(&worker, registered, tcp.clone(), stream, ends);
            if session.is_allowed() {
                session.run().await;
            }
            end(&worker, &stats, begin);
        }
    }
}

/// With the name that the client was heard to ask for.
type Ready = (
    Rc<ChainView>,
    Stream,
    (SocketAddr, Option<SocketAddr>),
    Option<Box<str>>,
);

/// What takes a connection, and its bytes as that shall see them; none if it was closed, which is
/// counted.
async fn secure(
    (worker, registered): (&Worker, &Registered),
    view: &ListenerView,
    stream: TcpStream,
    mut arrival: Arrival,
) -> Option<Ready> {
    let begin = worker.clock.now();
    let mut lookout = Lookout::new(stream);
    let stats = &view.stats;
    stats.pre_cx_active.increment();
    let inspected = lookout.inspect(worker, view, &mut arrival).await;
    stats.pre_cx_active.decrement();
    inspected?;
    let chain = arrival.chain(worker, view, &lookout.sniffed)?.clone();
    let ends = (arrival.peer, arrival.original);
    let server_name: Option<Box<str>> = lookout.sniffed.server_name.as_deref().map(Into::into);
    let stream = match &chain.tls {
        None => lookout.into_stream(),
        Some(ChainTls::NotReady) => {
            stats.secrets_not_ready.increment();
            return None;
        }
        Some(ChainTls::Ready(tls)) => {
            let shaken = handshake::run(view, &chain, tls, lookout).await;
            if let (Err(reason), Some(logs)) = (&shaken, &view.logs) {
                let ends = (&arrival.peer, Some(arrival.destination()));
                let entry = Entry {
                    connection: Some(registered.id),
                    chain: Some(chain.name()),
                    direct_local: Some(&arrival.local),
                    server_name: server_name.as_deref(),
                    transport_failure: reason.as_deref(),
                    ..Entry::of_connection(&worker.clock, ends, begin, worker.clock.now())
                };
                logs.write(&entry, || worker.random());
            }
            shaken.ok()?
        }
    };
    Some((chain, stream, ends, server_name))
}
