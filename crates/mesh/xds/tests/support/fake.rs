//! A management server of the incremental form, small enough to be looked through, and one that never answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::type_url::{PUSH_ORDER, is_full_state};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type World = BTreeMap<String, BTreeMap<String, (String, Any)>>;

/// What the server offers, and what it was asked; outlives the servers themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plane {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    world: Mutex<World>,
    requests: Mutex<Vec<DeltaDiscoveryRequest>>,
    /// The names of resources that were sent, with how often.
    sent: Mutex<BTreeMap<String, usize>>,
    generation: watch::Sender<u64>,
    /// It takes requests and says nothing.
    is_silent: Mutex<bool>,
}

/// A running server with all its connections; killed when dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plane {
    /// Serves at an address, which has to be free soon.
    pub(crate) async fn serve(&self, at: SocketAddr) -> Fake {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let service = AggregatedDiscoveryServiceServer::new(self.clone());
        let (bound, address) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = loop {
                match TcpListener::bind(at).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            };
            let _ = bound.send(listener.local_addr().expect("an address"));
            let serving = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener));
            let _ = serving.await;
        });
        Fake {
            address: address.await.expect("it is bound"),
            runtime: Some(runtime),
        }
    }

    pub(crate) fn set(&self, type_url: &str, name: &str, version: &str, body: Any) {
        let resource = (version.to_owned(), body);
        let mut world = lock(&self.shared.world);
        let of_type = world.entry(type_url.to_owned()).or_default();
        of_type.insert(name.to_owned(), resource);
        drop(world);
        self.shared
            .generation
            .send_modify(|generation| *generation += 1);
    }

    pub(crate) fn remove(&self, type_url: &str, name: &str) {
        if let Some(of_type) = lock(&self.shared.world).get_mut(type_url) {
            of_type.remove(name);
        }
        self.shared
            .generation
            .send_modify(|generation| *generation += 1);
    }

    pub(crate) fn be_silent(&self, silent: bool) {
        *lock(&self.shared.is_silent) = silent;
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<DeltaDiscoveryRequest> {
        lock(&self.shared.requests).clone()
    }

    /// How often a resource was sent.
    pub(crate) fn sent(&self, name: &str) -> usize {
        lock(&self.shared.sent).get(name).copied().unwrap_or(0)
    }
}

/// What a stream is subscribed to.
#[derive(Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// What the client holds.
    held: BTreeMap<String, String>,
    /// Something must be said even if it is nothing.
    owes: bool,
}

impl Subscription {
    fn on_request(&mut self, request: &DeltaDiscoveryRequest) {
        let first = request.response_nonce.is_empty();
        if first && request.resource_names_subscribe.is_empty() && is_full_state(&request.type_url)
        {
            self.wildcard = true;
            self.owes = true;
        }
        self.owes |= !request.resource_names_subscribe.is_empty();
        self.held.extend(request.initial_resource_versions.clone());
        self.names
            .extend(request.resource_names_subscribe.iter().cloned());
        for name in &request.resource_names_unsubscribe {
            self.names.remove(name);
            self.held.remove(name);
        }
    }

    /// What has to be said: resources, and names of those that have gone.
    fn changes(
        &mut self,
        world: &BTreeMap<String, (String, Any)>,
    ) -> Option<(Vec<Resource>, Vec<String>)> {
        let is_meant = |name: &String| self.wildcard || self.names.contains(name);
        let resources: Vec<Resource> = world
            .iter()
            .filter(|(name, (version, _))| is_meant(name) && self.held.get(*name) != Some(version))
            .map(|(name, (version, body))| Resource {
                name: name.clone(),
                version: version.clone(),
                resource: Some(body.clone()),
                ..Resource::default()
            })
            .collect();
        let gone = self.held.keys().filter(|name| !world.contains_key(*name));
        let gone: Vec<String> = gone.cloned().collect();
        for name in &gone {
            self.held.remove(name);
        }
        for resource in &resources {
            self.held
                .insert(resource.name.clone(), resource.version.clone());
        }
        let owes = std::mem::take(&mut self.owes);
        (owes || !resources.is_empty() || !gone.is_empty()).then_some((resources, gone))
    }
}

impl Shared {
    async fn converse(
        &self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) {
        let mut generation = self.generation.subscribe();
        let mut subscriptions: BTreeMap<String, Subscription> = BTreeMap::new();
        let mut nonce = 0;
        loop {
            tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    let of_type = subscriptions.entry(request.type_url.clone()).or_default();
                    of_type.on_request(&request);
                    lock(&self.requests).push(request);
                }
                _ = generation.changed() => {}
                () = responses.closed() => return,
            }
            if *lock(&self.is_silent) {
                continue;
            }
            for type_url in PUSH_ORDER {
                let Some(subscription) = subscriptions.get_mut(type_url) else {
                    continue;
                };
                let world = lock(&self.world).get(type_url).cloned().unwrap_or_default();
                let Some((resources, removed_resources)) = subscription.changes(&world) else {
                    continue;
                };
                for resource in &resources {
                    *lock(&self.sent).entry(resource.name.clone()).or_default() += 1;
                }
                nonce += 1;
                let response = DeltaDiscoveryResponse {
                    system_version_info: format!("system {}", *generation.borrow()),
                    resources,
                    type_url: type_url.to_owned(),
                    removed_resources,
                    nonce: nonce.to_string(),
                    ..DeltaDiscoveryResponse::default()
                };
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        }
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        if !*lock(&self.shared.is_silent) {
            return Err(Status::unimplemented("only the incremental form"));
        }
        let (responses, outgoing) = mpsc::channel(1);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(_)) = requests.message().await {}
            drop(responses);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, outgoing) = mpsc::channel(16);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            shared.converse(request.into_inner(), responses).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
