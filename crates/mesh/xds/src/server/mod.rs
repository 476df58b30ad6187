//! The server side: a generic ADS endpoint over a [`Source`], in the state-of-the-world form of the protocol
//! and in the incremental one.

mod connection;
mod delta;
mod form;
mod gate;
mod kept;
mod left;
mod measures;
mod rate;
mod retired;
mod status;
mod subscription;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

use self::delta::Delta;
use self::form::Form;
pub use self::gate::{Admission, Gate};
use self::left::Left;
pub use self::measures::{Histogram, Measures, TypeMeasures};
use self::rate::Rate;
use self::status::Registry;
pub use self::status::{Counters, Nack, ProxyStatus, TypeStatus};
use self::subscription::Subscription;
use crate::Snapshot;

/// Where the resources come from.
pub trait Source: Send + Sync + 'static {
    /// What this node is to have now.
    ///
    /// Called when a proxy connects and, for every connected proxy, after each new generation; share the
    /// sets between nodes and generations where nothing changed.
    fn snapshot(&self, node: &Node) -> Result<Arc<Snapshot>, NodeRefused>;

    /// Whether a peer may have the secrets of the node that it says it is, or why not; asked again with each
    /// generation. Unless a source knows more, that is for peers on this machine.
    fn may_have_secrets(&self, _node: &Node, peer: &Peer) -> Result<(), String> {
        match peer.is_local() {
            true => Ok(()),
            false => Err("it is not on this machine".to_owned()),
        }
    }

    /// Another one whenever any node may have something new. Debouncing is the source's.
    fn subscribe(&self) -> watch::Receiver<Generation>;
}

/// A state of a source.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// When the change was noticed that led to it.
    pub noticed: Instant,
    /// When it was there.
    pub published: Instant,
}

impl Generation {
    /// One that is there now.
    pub fn since(noticed: Instant) -> Self {
        Self {
            noticed,
            published: Instant::now(),
        }
    }
}

impl Default for Generation {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

/// Who is at the other end of a stream.
#[derive(Clone, Debug)]
pub struct Peer {
    address: Option<SocketAddr>,
    facts: tonic::Extensions,
}

impl Peer {
    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        let address = self.address.map(|address| address.ip().to_canonical());
        address.is_some_and(|address| address.is_loopback())
    }

    /// What its transport knows about it: the `ConnectInfo` of its connection.
    pub fn fact<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.facts.get()
    }
}

/// A node that the source does not serve; the text goes to the proxy and into its log.
#[derive(Clone, Debug, Error)]
#[error("node {node:?} is refused: {reason}")]
pub struct NodeRefused {
    /// `node.id`.
    pub node: String,
    /// Why, and what to change.
    pub reason: String,
}

/// What may grow, and how far.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most streams at one time; more get `RESOURCE_EXHAUSTED`.
    pub max_streams: usize,
    /// The most new streams in a second, and the most at once after a quiet time; more get `RESOURCE_EXHAUSTED`.
    pub max_new_streams: (u32, u32),
    /// The largest message that is received, in bytes.
    pub max_message_bytes: usize,
    /// The most names of one type that one stream may subscribe to.
    pub max_names: usize,
    /// The most bytes of all names that one stream has given.
    pub max_name_bytes: usize,
    /// The largest node, in bytes.
    pub max_node_bytes: usize,
    /// The most types that one stream may subscribe to.
    pub max_types: usize,
    /// How long a stream may stay without its first message.
    pub first_message_timeout: Duration,
    /// How long listeners and routes are held back while new clusters wait for their endpoints.
    pub warm_timeout: Duration,
    /// The most clusters that are kept for a client besides those there are and those that what it last accepted may
    /// name, while it does not accept newer listeners and routes.
    pub max_retired: usize,
    /// How long a client may take nothing of what it is sent.
    pub write_timeout: Duration,
    /// How long it is known, after its stream has ended, which clusters a client had that does not say so itself.
    pub left_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_streams: 10_000,
            max_new_streams: (500, 5_000),
            max_message_bytes: 4 * 1024 * 1024,
            max_names: 100_000,
            max_name_bytes: 8 * 1024 * 1024,
            max_node_bytes: 512 * 1024,
            max_types: 32,
            first_message_timeout: Duration::from_secs(15),
            warm_timeout: Duration::from_secs(5),
            max_retired: 1_000,
            write_timeout: Duration::from_secs(60),
            left_timeout: Duration::from_secs(300),
        }
    }
}

/// The ADS server. Clones share their state: keep one to list the proxies, give one to tonic.
#[derive(Clone)]
pub struct AdsServer {
    shared: Arc<Shared>,
    gate: Option<Arc<dyn Gate>>,
}

struct Shared {
    source: Arc<dyn Source>,
    limits: Limits,
    streams: Arc<Semaphore>,
    rate: Mutex<Rate>,
    registry: Arc<Registry>,
    left: Left,
    closing: watch::Sender<bool>,
}

impl AdsServer {
    /// A server for this source.
    pub fn new(source: Arc<dyn Source>, limits: Limits) -> Self {
        let streams = Arc::new(Semaphore::new(limits.max_streams));
        let (per_second, at_once) = limits.max_new_streams;
        let rate = Mutex::new(Rate::new(per_second, at_once, Instant::now()));
        let left = Left::new(limits.left_timeout);
        Self {
            gate: None,
            shared: Arc::new(Shared {
                source,
                limits,
                left,
                streams,
                rate,
                registry: Arc::default(),
                closing: watch::Sender::new(false),
            }),
        }
    }

    /// The same server for those alone whom the gate lets in; the two share their state.
    pub fn behind(&self, gate: Arc<dyn Gate>) -> Self {
        Self {
            gate: Some(gate),
            ..self.clone()
        }
    }

    /// The service, to be added to a tonic server.
    pub fn service(&self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self.clone())
            .max_decoding_message_size(self.shared.limits.max_message_bytes)
    }

    /// Serves ADS alone on a bound socket until `shutdown` completes.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), tonic::transport::Error> {
        // Else the first answer waits for the acknowledgement of its head, which the client delays by 40 ms.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        self.serve_with(incoming, Routes::default(), shutdown).await
    }

    /// Serves ADS beside other services on connections until `shutdown` completes.
    pub async fn serve_with<IO>(
        &self,
        connections: impl Stream<Item = std::io::Result<IO>>,
        others: Routes,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), tonic::transport::Error>
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_routes(others.add_service(self.service()))
            .serve_with_incoming_shutdown(connections, async {
                shutdown.await;
                self.close();
            })
            .await
    }

    /// Ends all streams, now and later: a graceful shutdown of the transport would otherwise wait for them.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// The proxies that are connected now, sorted by node id.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        self.shared.registry.proxies()
    }

    /// The ids of their nodes.
    pub fn node_ids(&self) -> HashSet<String> {
        self.shared.registry.node_ids()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.shared.registry.counters()
    }

    /// What was measured since the start.
    pub fn measures(&self) -> Measures {
        self.shared.registry.measures()
    }
}

impl AdsServer {
    /// Takes a stream of either form.
    fn converse<F: Form>(
        &self,
        request: Request<Streaming<F::Request>>,
    ) -> Result<Response<Responses<F::Response>>, Status> {
        let (metadata, extensions) = (request.metadata(), request.extensions());
        let admission = gate::admission(self.gate.as_ref(), metadata, extensions)
            .inspect_err(|_| self.refuse())?;
        let limits = &self.shared.limits;
        if !self.passes() {
            self.refuse();
            return Err(Status::resource_exhausted(format!(
                "more new streams than {} each second are not taken, try again later",
                limits.max_new_streams.0
            )));
        }
        let Ok(permit) = Arc::clone(&self.shared.streams).try_acquire_owned() else {
            self.refuse();
            return Err(Status::resource_exhausted(format!(
                "this server has {} streams already, which is its limit",
                limits.max_streams
            )));
        };
        let address = request.remote_addr();
        let shared = Arc::clone(&self.shared);
        let (_, facts, requests) = request.into_parts();
        let whence = (Peer { address, facts }, admission);
        let responses = connection::spawn::<F>(shared, requests, whence, permit);
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    fn passes(&self) -> bool {
        let rate = self.shared.rate.lock();
        let mut rate = rate.unwrap_or_else(PoisonError::into_inner);
        rate.passes(Instant::now())
    }

    fn refuse(&self) {
        let registry = &self.shared.registry;
        registry.count(|counters| counters.streams_refused += 1);
    }
}

type Responses<T> = ReceiverStream<Result<T, Status>>;

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsServer {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.converse::<Subscription>(request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.converse::<Delta>(request)
    }
}
