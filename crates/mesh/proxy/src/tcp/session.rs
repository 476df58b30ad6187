//! A client's connection from its first moment to the record of its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::flags::{Flag, Flags};
use crate::net::Stream;
use crate::policy::Metadata;
use crate::registry::Registered;
use crate::snapshot::Direction;
use crate::tcp::relay::{Carried, End};
use crate::telemetry::istio::{LabelValue, Observation, Peer, Protocol, Service, TcpSeries};
use crate::telemetry::{Entry, Upstream};
use crate::timer::Timer;
use crate::tls::Secured;
use crate::upstream::{ClusterState, EndpointState, Ready};
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
    /// What is told of it besides; boxed, so that other connections do not hold the memory for it.
    pub(super) told: Option<Box<Told>>,
    /// When the connection has lasted for long enough.
    pub(super) last_moment: Option<Micros>,
    /// It has been told that it is to end.
    pub(super) is_draining: bool,
    begin: Micros,
}

/// What most connections have nobody to tell.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) upstream: Option<Reached>,
    /// Why there is no TLS with the endpoint.
    pub(super) transport_failure: Option<Rc<str>>,
    /// Why the proxy has ended it: what rules say,
    pub(super) termination: Option<Box<str>>,
    /// or what came of asking a service.
    pub(super) details: Option<&'static str>,
    /// What filters have found out.
    pub(super) metadata: Metadata,
    /// Istio's metrics,
    pub(super) counted: Option<Arc<TcpSeries>>,
    /// who is at the other end of the connection that they are of,
    peer: Option<Rc<Peer>>,
    /// and what the handshake with the endpoint has shown.
    secured: Option<Rc<Secured>>,
}

/// Who is at the other end of a connection, if it says so, and what the handshake with the endpoint has shown; none without
/// a connection to an endpoint.
pub(super) type Connected = Option<(Option<Rc<Peer>>, Option<Rc<Secured>>)>;

/// The endpoint of a connection that is logged.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) address: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    pub(super) secured: Option<Rc<Secured>>,
    /// When it was chosen, and what came of it.
    pub(super) begin: Micros,
    pub(super) ready: Ready,
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
            told: None,
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

    /// Connects to an endpoint, and passes bytes on until both sides have ended.
    pub(crate) async fn run(&mut self) {
        // Boxed, so that a connection at work does not hold the memory for it.
        if !self.view.rules_behind.is_empty() && !Box::pin(self.is_authorized()).await {
            return;
        }
        let Some(cluster) = self.cluster() else {
            self.view.stats.cx_no_route.increment();
            self.flags.set(Flag::NC);
            self.begin_count(None, None);
            self.record(None, Carried::default());
            return;
        };
        let mut carried = Carried::default();
        let timers = self.worker.timers.clone();
        // Boxed, so that a connection at work does not hold the memory for it.
        let connecting = Box::pin(timers.unless_cut(self.connect(&cluster)));
        match connecting.await.flatten() {
            Some(upstream) => carried = self.relay(&cluster, upstream).await,
            None => self.begin_count(Some(&cluster), None),
        }
        self.record(Some(&cluster), carried);
    }

    fn cluster(&self) -> Option<Rc<ClusterState>> {
        let choice = self.view.proxy.choose(|| self.worker.random());
        self.view.clusters[choice].clone()
    }

    /// Notes how bytes have come to no longer be passed on.
    pub(super) fn end(&mut self, end: End) {
        let stats = &self.view.stats;
        match end {
            End::Complete | End::Drained | End::Cut => {}
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

    pub(super) fn record(&self, cluster: Option<&ClusterState>, carried: Carried) {
        let duration = self.worker.clock.now().saturating_sub(self.begin);
        tracing::debug!(
            listener = self.registered.listener(),
            cluster = cluster.map(|cluster| cluster.cluster.name.as_str()),
            flags = %self.flags,
            server_name = self.client.secured().and_then(|secured| secured.server_name.as_deref()),
            client_id = self.client.secured().and_then(|secured| secured.peer_id()),
            transport_failure = self.transport_failure(),
            workload = self.workload(),
            received = carried.from_client,
            sent = carried.to_client,
            duration_ms = duration / 1000,
            "connection ended"
        );
        if self.is_logged() {
            self.tell(cluster, carried);
        }
        if let Some(series) = self.counted() {
            series.closed.increment();
        }
    }

    /// What the client's handshake names: the one with us, or the one that is passed on.
    pub(super) fn server_name(&self) -> Option<&str> {
        match self.client.secured() {
            Some(secured) => secured.server_name.as_deref(),
            None => self.registered.server_name(),
        }
    }

    fn transport_failure(&self) -> Option<&str> {
        self.told.as_ref()?.transport_failure.as_deref()
    }

    /// The workload at the other end, if that is known, and metrics tell it.
    fn workload(&self) -> Option<&str> {
        let peer = self.told.as_ref()?.peer.as_ref()?;
        Some(&peer.workload)
    }

    /// Counts the connection in Istio's metrics, if there are any: all of them with the flags that it has by now, so that
    /// those that were opened and closed are told under the same labels.
    pub(super) fn begin_count(&mut self, cluster: Option<&ClusterState>, connected: Connected) {
        if self.view.metrics.is_none() {
            return;
        }
        if let Some((heard, secured)) = connected {
            let told = self.told.get_or_insert_default();
            told.peer = heard.or(told.peer.take());
            told.secured = secured;
        }
        if let Some(series) = self.series(cluster) {
            series.opened.increment();
            self.told.get_or_insert_default().counted = Some(series);
        }
    }

    /// Notes who the endpoint is that is tried, as far as that is known, for Istio's metrics at the source.
    pub(super) fn supposes(&mut self, endpoint: &EndpointState) {
        if self.direction() == Direction::Outbound {
            self.told.get_or_insert_default().peer = endpoint.workload.get();
        }
    }

    /// The side that Istio's metrics are reported of.
    pub(super) fn direction(&self) -> Direction {
        let metrics = self.view.metrics.as_ref();
        metrics.map_or(Direction::Unspecified, |(_, direction)| *direction)
    }

    #[cold]
    fn series(&self, cluster: Option<&ClusterState>) -> Option<Arc<TcpSeries>> {
        let (metrics, direction) = self.view.metrics.as_ref()?;
        let told = self.told.as_ref();
        let secured = match *direction {
            Direction::Inbound => self.client.secured(),
            _ => told.and_then(|told| told.secured.as_ref()),
        };
        let now = self.worker.clock.now();
        let to = self.original.or_else(|| self.client.local_address());
        let entry = Entry {
            secured: self.client.secured().map(Rc::as_ref),
            cluster: cluster.map(|cluster| &*cluster.cluster),
            flags: self.flags,
            ..Entry::of_connection(&self.worker.clock, (&self.peer, to.as_ref()), now, now)
        };
        Some(metrics.of_connection(&Observation {
            direction: *direction,
            peer: told.and_then(|told| told.peer.clone()),
            service: Service::of(cluster, "", b""),
            peer_principal: secured.and_then(|secured| secured.peer_id()),
            own_principal: secured.and_then(|secured| secured.own_id()),
            status: 0,
            grpc: None,
            protocol: Protocol::Tcp,
            flags: self.flags,
            millis: 0,
            request_bytes: 0,
            response_bytes: 0,
            messages: [0, 0],
            custom: self.view.metric_rules.as_ref().map(|rules| {
                rules.seen(|value| match value {
                    LabelValue::Port => to.map(|to| to.port().to_string().into()),
                    LabelValue::Expression(expression) => {
                        Some(expression.value(&entry)?.to_string().into())
                    }
                    _ => None,
                })
            }),
            now,
        }))
    }

    /// The metrics that its bytes are counted in.
    pub(super) fn counted(&self) -> Option<&TcpSeries> {
        self.told.as_ref()?.counted.as_deref()
    }

    pub(super) fn is_logged(&self) -> bool {
        self.view.logs.is_some() || self.registered.logs().is_some()
    }

    /// Tells the access logs of the connection.
    #[cold]
    fn tell(&self, cluster: Option<&ClusterState>, carried: Carried) {
        let clock = &self.worker.clock;
        let (local, direct) = (self.client.local_address(), self.registered.direct());
        let ends = (&self.peer, self.original.as_ref().or(local.as_ref()));
        let secured = self.client.secured().map(Rc::as_ref);
        let upstream = self.told.as_ref().and_then(|told| told.upstream.as_ref());
        let entry = Entry {
            connection: Some(self.registered.id),
            chain: Some(&self.view.chain),
            direct: direct.as_ref(),
            direct_local: local.as_ref(),
            secured,
            server_name: self.server_name(),
            flags: self.flags,
            received: carried.from_client,
            sent: carried.to_client,
            cluster: cluster.map(|cluster| &*cluster.cluster),
            upstream: upstream.map(|upstream| Upstream {
                address: &upstream.address,
                text: None,
                local: upstream.local.as_ref(),
                secured: upstream.secured.as_deref(),
                is_connected: upstream.local.is_some(),
                protocol: None,
                of_connection: Some((upstream.begin, &upstream.ready)),
            }),
            transport_failure: self.transport_failure(),
            details: self.told.as_ref().and_then(|told| told.details),
            termination: (self.told.as_ref()).and_then(|told| told.termination.as_deref()),
            metadata: self.told.as_ref().map(|told| &told.metadata),
            attempts: upstream.is_some().into(),
            ..Entry::of_connection(clock, ends, self.begin, clock.now())
        };
        let logs = [
            self.view.logs.as_ref(),
            self.registered.logs().map(Rc::as_ref),
        ];
        for logs in logs.into_iter().flatten() {
            logs.write(&entry, || self.worker.random());
        }
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
