//! A client's connection from its first moment to the record of its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Micros;
use crate::flags::{Flag, Flags};
use crate::net::Stream;
use crate::policy::{Metadata, Subject};
use crate::registry::Registered;
use crate::tcp::relay::{Carried, End};
use crate::timer::Timer;
use crate::upstream::ClusterState;
use crate::view::TcpView;
use crate::worker::Worker;

/// A client's connection and where it goes.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Rc<TcpView>,
    pub(super) registered: Registered,
    pub(super) client: Stream,
    pub(super) peer: SocketAddr,
    /// Where the client wanted to go, if it was redirected.
    pub(super) original: Option<SocketAddr>,
    pub(super) timer: Timer,
    pub(super) flags: Flags,
    /// Why there is no TLS with the endpoint.
    pub(super) transport_failure: Option<Rc<str>>,
    /// When the connection has lasted for long enough.
    pub(super) last_moment: Option<Micros>,
    /// It has been told that it is to end.
    pub(super) is_draining: bool,
    begin: Micros,
}

impl Session {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        registered: Registered,
        view: Rc<TcpView>,
        client: Stream,
        (peer, original): (SocketAddr, Option<SocketAddr>),
    ) -> Self {
        let begin = worker.clock.now();
        let last_moment = view.proxy.max_duration.map(|duration| {
            let share = (worker.random() >> 11) as f64 / (1_u64 << 53) as f64;
            let jitter = duration.mul_f64(share * view.proxy.max_duration_jitter / 100.0);
            begin.saturating_add((duration + jitter).as_micros() as u64)
        });
        Self {
            registered,
            timer: worker.timers.timer(),
            flags: Flags::default(),
            transport_failure: None,
            client,
            peer,
            original,
            last_moment,
            is_draining: false,
            begin,
            worker: worker.clone(),
            view,
        }
    }

    /// Counts the connection: whether the rules let it pass. `asked_for` is the name that the client was
    /// heard to ask for in a handshake that is not this proxy's.
    pub(crate) fn is_allowed(&self, asked_for: Option<&str>) -> bool {
        self.view.stats.cx_total.increment();
        if self.view.rules.is_empty() {
            return true;
        }
        let secured = self.client.secured();
        let shown = secured.and_then(|secured| secured.server_name.as_deref());
        let subject = Subject {
            request: None,
            peer: self.peer.ip().to_canonical(),
            client: self.peer.ip().to_canonical(),
            destination: self.original.or_else(|| self.client.local_address()),
            secured: secured.map(|secured| &**secured),
            server_name: shown.or(asked_for),
            metadata: &Metadata::default(),
        };
        let mut checked = self.view.rules.iter().map(|rules| rules.check(&subject));
        let Some(policy) = checked.find_map(Result::err) else {
            return true;
        };
        let listener = self.registered.listener();
        tracing::debug!(listener, peer = %self.peer, policy, "connection denied");
        self.record(None, Carried::default());
        false
    }

    /// Connects to an endpoint, and passes bytes on until both sides have ended.
    pub(crate) async fn run(mut self) {
        let Some(cluster) = self.cluster() else {
            self.view.stats.cx_no_route.increment();
            self.flags.set(Flag::NC);
            self.record(None, Carried::default());
            return;
        };
        let mut carried = Carried::default();
        // Boxed, so that a connection at work does not hold the memory for it.
        if let Some(upstream) = Box::pin(self.connect(&cluster)).await {
            let relayed = self.relay(&cluster, upstream).await;
            self.end(relayed.end);
            carried = relayed.carried;
        }
        self.record(Some(&cluster), carried);
    }

    fn cluster(&self) -> Option<Rc<ClusterState>> {
        let choice = self.view.proxy.choose(|| self.worker.random());
        self.view.clusters[choice].clone()
    }

    fn end(&mut self, end: End) {
        let stats = &self.view.stats;
        match end {
            End::Complete | End::Drained => {}
            End::ClientGone => self.flags.set(Flag::DC),
            End::EndpointGone => self.flags.set(Flag::UC),
            End::Idle => {
                stats.idle_timeout.increment();
                self.flags.set(Flag::SI);
            }
            End::TooLong => {
                stats.max_duration.increment();
                self.flags.set(Flag::DT);
            }
        }
    }

    fn record(&self, cluster: Option<&ClusterState>, carried: Carried) {
        let duration = self.worker.clock.now().saturating_sub(self.begin);
        tracing::debug!(
            listener = self.registered.listener(),
            cluster = cluster.map(|cluster| cluster.cluster.name.as_str()),
            flags = %self.flags,
            server_name = self.client.secured().and_then(|secured| secured.server_name.as_deref()),
            client_id = self.client.secured().and_then(|secured| secured.peer_id()),
            transport_failure = self.transport_failure.as_deref(),
            received = carried.from_client,
            sent = carried.to_client,
            duration_ms = duration / 1000,
            "connection ended"
        );
    }

    /// The client, if its address decides about the endpoint.
    pub(crate) fn hashed_peer(&self) -> Option<SocketAddr> {
        self.view.proxy.hashes_source.then_some(self.peer)
    }

    /// The client's address, and where it connected to.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let destination = self.original.or_else(|| self.client.local_address());
        Some((self.peer, destination?))
    }

    /// A moment after now.
    pub(super) fn after(&self, time: Duration) -> Micros {
        let now = self.worker.clock.now();
        now.saturating_add(time.as_micros() as u64)
    }
}
