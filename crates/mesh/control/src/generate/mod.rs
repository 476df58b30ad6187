//! Pure functions from the index and a proxy to the proxy's xDS resources, under Istio's names.

mod access_log;
mod answers;
mod authentication;
mod authorization;
mod balancing;
mod cluster;
mod condition;
mod connection;
mod credentials;
mod custom;
mod detection;
mod dynamic_dns;
mod endpoints;
mod gateway;
mod gateway_chains;
mod inbound;
mod intercept;
mod intercept_connections;
mod intercept_inbound;
mod intercept_routes;
mod listener;
mod local_limit;
mod locality;
mod matching;
mod mutual_tls;
mod name_table;
mod order;
mod origination;
mod otel_log;
mod outbound;
mod policy;
mod proto;
mod proxy_protocol;
mod proxyless;
mod quota;
mod route;
mod session;
mod termination;
mod told;
mod tracing;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::{Host, Meta, Sidecar};
use periplus_xds::type_url;

use self::cluster::Clusters;
pub(crate) use self::name_table::name_table;
use crate::index::{Index, Log, Side};
use crate::proxy::{Proxy, Role};

/// All resources of one proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// LDS.
    pub listeners: Vec<Listener>,
    /// RDS.
    pub routes: Vec<RouteConfiguration>,
    /// CDS.
    pub clusters: Vec<Cluster>,
    /// EDS.
    pub endpoints: Vec<ClusterLoadAssignment>,
    /// SDS.
    pub secrets: Vec<Secret>,
    /// Why something is missing that the proxy may expect.
    pub notes: Vec<String>,
    /// Services of which one has the listener that the other lacks, and which.
    pub conflicts: Vec<(Conflict, String)>,
    /// Why clusters of services are.
    pub lacks: Vec<Lack>,
    /// How many certificates and authorities it should have had, and there are none.
    pub missing_secrets: u64,
}

/// How two services come to need one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// Both say what is spoken on a port of the workload, and not the same.
    Inbound,
    /// Both are of TCP, and nothing tells their connections apart.
    TcpOverTcp,
    /// HTTP is spoken to services without addresses on the port of one of TCP.
    TcpOverHttp,
}

/// A service that lacks a cluster, and what becomes of requests to it, and why.
pub type Lack = (Host, String);

impl Generated {
    /// All that is missing, and why.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        let notes = self.notes.iter().map(String::as_str);
        let conflicts = self.conflicts.iter().map(|(_, what)| what.as_str());
        let lacks = self.lacks.iter().map(|(_, why)| why.as_str());
        notes.chain(conflicts).chain(lacks)
    }

    /// By type, as ADS carries them, in the order in which a proxy takes them.
    pub fn packed(&self) -> [(&'static str, Vec<Any>); 5] {
        [
            (
                type_url::CLUSTER,
                self.clusters.iter().map(proto::any).collect(),
            ),
            (
                type_url::ENDPOINT,
                self.endpoints.iter().map(proto::any).collect(),
            ),
            (
                type_url::LISTENER,
                self.listeners.iter().map(proto::any).collect(),
            ),
            (
                type_url::ROUTE,
                self.routes.iter().map(proto::any).collect(),
            ),
            (
                type_url::SECRET,
                self.secrets.iter().map(proto::any).collect(),
            ),
        ]
    }
}

/// Makes the resources of a proxy.
pub fn generate(index: &Index, proxy: &Proxy) -> Generated {
    if proxy.is_proxyless {
        return proxyless::generate(index, proxy);
    }
    let mut made = generate_routing(index, proxy);
    made.clusters.extend(authentication::clusters(index, proxy));
    clusters_of(index, proxy).finish(&mut made);
    made
}

/// The hosts of the services that a proxy has clusters of.
pub(crate) fn hosts_of<'a>(index: &'a Index, proxy: &'a Proxy) -> BTreeSet<&'a Host> {
    clusters_of(index, proxy).hosts
}

fn clusters_of<'a>(index: &'a Index, proxy: &'a Proxy) -> Clusters<'a> {
    let mut clusters = Clusters::new(index, proxy);
    match proxy.role {
        Role::Router => clusters.add_visible(|_, _| true),
        Role::Sidecar => {
            let sidecar = index.sidecar_for(proxy).map(|entry| &entry.spec);
            if sidecar.is_some() || proxy.interception.is_some() {
                let imports = Imports(sidecar);
                clusters.add_visible(|namespace, host| imports.covers(namespace, host));
            }
        }
    }
    // Spans and records must arrive whatever the proxy may reach otherwise.
    for side in [Side::Client, Side::Server] {
        if let Some(traced) = index.tracing_of(proxy, side) {
            clusters.add(&traced.provider.service);
        }
        for (log, _) in index.logs_of(proxy, side) {
            if let Log::OpenTelemetry(log) = log {
                clusters.add(&log.service);
            }
        }
    }
    for host in authentication::services(index, proxy) {
        clusters.add(&host);
    }
    let asked = custom::services(index, proxy).into_iter();
    for host in asked.chain(quota::services(index, proxy)) {
        clusters.add(&host);
    }
    clusters
}

/// Makes a proxy's listeners and routes, and those clusters that are not a service's.
pub(crate) fn generate_routing(index: &Index, proxy: &Proxy) -> Generated {
    let mut made = Generated::default();
    match proxy.role {
        Role::Sidecar => match (index.sidecar_for(proxy), proxy.interception) {
            (sidecar, Some(interception)) => {
                let sidecar = sidecar.map(|entry| &entry.spec);
                if let Some(sidecar) = sidecar {
                    inbound::add(index, proxy, sidecar, &mut made);
                    outbound::add(index, proxy, sidecar, &mut made);
                }
                let imports = Imports(sidecar);
                intercept::add(index, proxy, (interception, imports), &mut made);
            }
            (Some(sidecar), None) => {
                inbound::add(index, proxy, &sidecar.spec, &mut made);
                outbound::add(index, proxy, &sidecar.spec, &mut made);
                if sidecar
                    .spec
                    .egress
                    .iter()
                    .any(|egress| egress.port.is_none())
                {
                    made.notes.push(
                        "its Sidecar has an egress listener without `port`, which is for \
                         intercepted connections: set INTERCEPTION_MODE in the node's metadata"
                            .into(),
                    );
                }
            }
            (None, None) => made.notes.push(format!(
                "no Sidecar in namespace {} selects its workload: it has no listeners",
                proxy.namespace
            )),
        },
        Role::Router => gateway::add(index, proxy, &mut made),
    }
    if proxy.role == Role::Sidecar {
        let sidecar = index.sidecar_for(proxy).map(|entry| &entry.spec);
        dynamic_dns::add_unknown((index, proxy), sidecar, &mut made);
    }
    told::add(index, proxy, &mut made.listeners);
    dynamic_dns::add_filters(index, proxy, &mut made);
    made.routes.iter_mut().for_each(answers::make_room);
    made
}

/// Makes the routes that a proxy's listeners ask for by name.
pub(crate) fn generate_routes(index: &Index, proxy: &Proxy) -> Vec<RouteConfiguration> {
    generate_routing(index, proxy).routes
}

/// Makes the clusters and endpoints of some services, and of whatever else looks at services' endpoints. The proxy has had
/// clusters of all of them, and has them still, unless some are new, gone, or seen by others than before.
pub(crate) fn generate_clusters<'a>(
    index: &'a Index,
    proxy: &'a Proxy,
    hosts: &[&Host],
    are_some_new: bool,
) -> Generated {
    let mut made = Generated::default();
    let mut clusters = Clusters::new(index, proxy);
    let wanted = are_some_new.then(|| hosts_of(index, proxy));
    for host in hosts {
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(host)) {
            clusters.add(host);
        }
    }
    made.clusters.extend(authentication::clusters(index, proxy));
    clusters.finish(&mut made);
    made
}

/// The services that a Sidecar lets a proxy know; without one it may know all.
#[derive(Clone, Copy)]
struct Imports<'a>(Option<&'a Sidecar>);

impl Imports<'_> {
    fn covers(self, namespace: &str, host: &Host) -> bool {
        self.0.is_none_or(|sidecar| {
            // A Sidecar that says nothing of egress imports all, if there are no listeners to find.
            let mut hosts = sidecar.egress.iter().flat_map(|listener| &listener.hosts);
            sidecar.egress.is_empty() || hosts.any(|import| import.covers(namespace, host))
        })
    }
}

/// Kubernetes' path of a resource; the first version stands for all.
pub(crate) fn config_path(meta: &Meta) -> String {
    format!(
        "/apis/{}/v1/namespaces/{}/{}/{}",
        meta.kind.group(),
        meta.namespace,
        meta.kind.path_name(),
        meta.name
    )
}

/// Groups by a key, in the order of the keys.
fn group_by<K: Ord, T>(items: impl IntoIterator<Item = (K, T)>) -> BTreeMap<K, Vec<T>> {
    let mut groups: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for (key, item) in items {
        groups.entry(key).or_default().push(item);
    }
    groups
}
