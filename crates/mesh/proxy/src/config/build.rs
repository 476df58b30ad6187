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
use crate::balance::{HostFlag, MembersCell};
use crate::snapshot::{
    Cluster, ConnectionManager, Endpoint, FilterChain, Listener, RouteTable, Service,
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
    Cluster {
        name: spec.name.clone(),
        observability_name: spec.observability_name.clone(),
        endpoints: assignment.endpoints(addresses),
        localities: assignment.localities().to_vec(),
        original_destination: match &spec.discovery {
            Discovery::OriginalDestination(options) => Some(*options),
            _ => None,
        },
        sources: spec.sources.clone(),
        connect_timeout: spec.connect_timeout,
        balancing: spec.balancing,
        spread: assignment.spread(&spec.spread),
        limits: spec.limits,
        idle_timeout: spec.idle_timeout,
        max_connection_duration: spec.max_connection_duration,
        max_requests_per_connection: spec.max_requests_per_connection,
        protocol: spec.protocol,
        health_check: spec.health_check.clone(),
        outlier_detection: spec.outlier_detection.clone(),
        ignores_health_on_removal: spec.ignores_health_on_removal,
        closes_on_failure: spec.closes_on_failure,
        members: MembersCell::default(),
    }
}

/// Endpoints that have left the configuration stay for as long as they pass their checks.
pub(super) fn keep_leaving(built: &mut Cluster, before: &Cluster) {
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
            ..endpoint.clone()
        });
    }
}

/// A listener with the routes of now; `routes` gives those that came by RDS.
pub(super) fn build_listener(
    spec: &ListenerSpec,
    routes: impl Fn(&str) -> Option<Arc<RouteTable>>,
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
        conditions: chain.conditions.clone(),
        service: service(&chain.service),
    };
    Listener {
        name: spec.name.clone(),
        address: spec.address,
        direction: spec.direction,
        socket: spec.socket,
        original_destination: spec.original_destination,
        hands_over: spec.hands_over,
        chains: spec.chains.iter().map(chain).collect(),
        default_chain: spec.default_chain.as_ref().map(service),
    }
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

/// When a cluster is used without its endpoints.
pub(super) fn fetch_deadline(spec: &ClusterSpec, now: Instant) -> Option<Instant> {
    match &spec.discovery {
        Discovery::Eds { fetch_timeout, .. } => fetch_timeout.map(|wait| now + wait),
        _ => None,
    }
}
