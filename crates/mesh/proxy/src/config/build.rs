//! From checked resources to what the workers run on.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::cluster::{ClusterSpec, Discovery, DnsRate, Family};
use super::endpoint::Assignment;
use super::filter_chain::{ChainSpec, ServiceSpec};
use super::listener::ListenerSpec;
use super::manager::RouteSource;
use super::secrets::Secrets;
use super::transport::Labels;
use crate::balance::{HostFlag, MembersCell};
use crate::snapshot::{
    ChainTls, Cluster, ConnectionManager, Endpoint, FilterChain, Listener, RouteTable, Service,
    Transport,
};

/// A name to be resolved again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lookup {
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) all_addresses: bool,
    pub(crate) rate: DnsRate,
}

/// The names that a cluster needs resolved.
pub(super) fn lookups_of(spec: &ClusterSpec) -> impl Iterator<Item = Lookup> {
    let dns = match &spec.discovery {
        Discovery::Dns {
            assignment,
            all_addresses,
            family,
            rate,
        } => Some((assignment, *all_addresses, *family, *rate)),
        Discovery::Static(_) | Discovery::Eds { .. } | Discovery::OriginalDestination(_) => None,
    };
    dns.into_iter()
        .flat_map(|(assignment, all_addresses, family, rate)| {
            assignment.names().map(move |name| Lookup {
                name: name.to_owned(),
                family,
                all_addresses,
                rate,
            })
        })
}

/// A cluster with its endpoints; `assigned` are those that came by EDS.
pub(super) fn build_cluster(
    spec: &ClusterSpec,
    assigned: Option<&Assignment>,
    resolved: &HashMap<Lookup, Vec<IpAddr>>,
    secrets: &Secrets,
) -> Cluster {
    let addresses = |name: &str| {
        lookups_of(spec)
            .find(|lookup| lookup.name == name)
            .and_then(|lookup| resolved.get(&lookup).cloned())
            .unwrap_or_default()
    };
    let assignment = match &spec.discovery {
        Discovery::Static(assignment) | Discovery::Dns { assignment, .. } => Some(assignment),
        Discovery::Eds { .. } => assigned,
        Discovery::OriginalDestination(_) => None,
    };
    let none = Assignment::default();
    let assignment = assignment.unwrap_or(&none);
    let transport = |labels: &Labels| spec.transports.choose(labels, secrets);
    Cluster {
        name: spec.name.clone(),
        observability_name: spec.observability_name.clone(),
        endpoints: assignment.endpoints(addresses, transport),
        localities: assignment.localities().to_vec(),
        original_destination: match &spec.discovery {
            Discovery::OriginalDestination(options) => Some(*options),
            _ => None,
        },
        sources: spec.sources.clone(),
        keepalive: spec.keepalive,
        connect_timeout: spec.connect_timeout,
        balancing: spec.balancing,
        spread: assignment.spread(&spec.spread),
        limits: spec.limits,
        idle_timeout: spec.idle_timeout,
        max_connection_duration: spec.max_connection_duration,
        max_stream_duration: spec.max_stream_duration,
        max_response_head_bytes: spec.response_limits.bytes,
        max_response_headers: spec.response_limits.fields,
        max_requests_per_connection: spec.max_requests_per_connection,
        protocol: spec.protocol,
        service: spec.service.clone(),
        exchanges_peers: spec.exchanges_peers,
        health_check: spec.health_check.clone(),
        outlier_detection: spec.outlier_detection.clone(),
        ignores_health_on_removal: spec.ignores_health_on_removal,
        closes_on_failure: spec.closes_on_failure,
        transport: transport(&Labels::new()),
        members: MembersCell::default(),
    }
}

/// Endpoints that have left the configuration stay for as long as they pass their checks; `renew` gives how
/// connections to them are made now.
pub(super) fn keep_leaving(
    built: &mut Cluster,
    before: &Cluster,
    renew: impl Fn(&Transport) -> Transport,
) {
    let members = before.members();
    for endpoint in &built.endpoints {
        if let Some(host) = members.host_at(endpoint.address) {
            host.clear(HostFlag::Leaving);
        }
    }
    let is_checked = built.health_check.is_some() && before.health_check.is_some();
    if !is_checked || built.ignores_health_on_removal {
        return;
    }
    let present: HashSet<SocketAddr> = built.endpoints.iter().map(|one| one.address).collect();
    for (index, endpoint) in before.endpoints.iter().enumerate() {
        let host = members.host(index);
        if present.contains(&endpoint.address)
            || endpoint.is_unchecked
            || host.has(HostFlag::FailedCheck)
        {
            continue;
        }
        host.set(HostFlag::Leaving);
        let locality = before.localities.get(endpoint.locality);
        let locality = locality.cloned().unwrap_or_default();
        let known = built.localities.iter().position(|one| *one == locality);
        let place = known.unwrap_or_else(|| {
            built.localities.push(locality);
            built.localities.len() - 1
        });
        built.endpoints.push(Endpoint {
            locality: place,
            transport: renew(&endpoint.transport),
            ..endpoint.clone()
        });
    }
}

/// A listener with the routes of now; `routes` gives those that came by RDS.
pub(super) fn build_listener(
    spec: &ListenerSpec,
    routes: impl Fn(&str) -> Option<Arc<RouteTable>>,
    secrets: &Secrets,
) -> Listener {
    let service = |service: &ServiceSpec| match service {
        ServiceSpec::Tcp(proxy) => Service::Tcp(proxy.clone()),
        ServiceSpec::Http(manager) => {
            let routes = routes_of(&manager.routes, &routes);
            Service::Http(Arc::new(ConnectionManager {
                routes,
                ..manager.manager.clone()
            }))
        }
    };
    let chain = |chain: &ChainSpec| FilterChain {
        name: chain.name.clone(),
        conditions: chain.conditions.clone(),
        tls: tls_of(chain, secrets),
        handshake_timeout: chain.handshake_timeout,
        service: service(&chain.service),
    };
    Listener {
        name: spec.name.clone(),
        address: spec.address,
        direction: spec.direction,
        socket: spec.socket,
        original_destination: spec.original_destination,
        original_source: spec.original_source,
        hands_over: spec.hands_over,
        exempt: spec.exempt,
        inspection: spec.inspection.clone(),
        chains: spec.chains.iter().map(chain).collect(),
        default_chain: spec.default_chain.as_ref().map(chain),
        access_logs: spec.access_logs.clone(),
    }
}

/// The TLS that a chain terminates, with the secrets of now.
fn tls_of(chain: &ChainSpec, secrets: &Secrets) -> Option<ChainTls> {
    let tls = chain.tls.as_ref()?;
    let made = tls.make(secrets);
    Some(made.map_or(ChainTls::NotReady, ChainTls::Ready))
}

/// Whether a listener's chains have the TLS that the secrets of now make.
pub(super) fn has_newest_tls(spec: &ListenerSpec, built: &Listener, secrets: &Secrets) -> bool {
    let is_newest = |newest: Option<ChainTls>, in_use: Option<&ChainTls>| match (newest, in_use) {
        (None, None) => true,
        (Some(newest), Some(in_use)) => newest.is(in_use),
        _ => false,
    };
    let newest = spec.all_chains().map(|chain| tls_of(chain, secrets));
    let in_use = built.all_chains().map(|chain| chain.tls.as_ref());
    newest
        .zip(in_use)
        .all(|(newest, in_use)| is_newest(newest, in_use))
}

/// The routes of a connection manager.
pub(super) fn routes_of(
    source: &RouteSource,
    named: impl Fn(&str) -> Option<Arc<RouteTable>>,
) -> Option<Arc<RouteTable>> {
    match source {
        RouteSource::Inline(table) => Some(table.clone()),
        RouteSource::Named { name, .. } => named(name),
    }
}

/// When a cluster is used without its endpoints or secrets.
pub(super) fn fetch_deadline(spec: &ClusterSpec, now: Instant) -> Option<Instant> {
    let endpoints = match &spec.discovery {
        Discovery::Eds { fetch_timeout, .. } => Some(*fetch_timeout),
        _ => None,
    };
    let secrets = spec.transports.tls().map(|tls| tls.context.fetch_timeout);
    let waits = endpoints.into_iter().chain(secrets);
    let longest = waits.collect::<Option<Vec<_>>>()?.into_iter().max()?;
    Some(now + longest)
}
