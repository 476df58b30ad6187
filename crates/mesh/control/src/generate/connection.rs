//! What VirtualServices say about connections: `tcp`, and `tls` that is passed through.

use std::collections::BTreeSet;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, filter};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};
use periplus_resources::{ConnectionMatch, ConnectionRoute, Host, VirtualService};

use super::intercept::chain;
use super::proto::{any, duration, uint32};
use super::route::{self, Scope, cluster};
use crate::index::Entry;

/// Chains of one listener, no two of which are for the same connections.
#[derive(Default)]
pub(super) struct Chains {
    pub(super) list: Vec<FilterChain>,
    taken: BTreeSet<(String, String)>,
}

/// What the rules for connections give.
#[derive(Default)]
pub(super) struct OfConnections {
    /// For some destinations: the condition, and where those go.
    pub(super) of_subnets: Vec<(FilterChainMatch, Filter)>,
    /// For all others.
    pub(super) rest: Option<Filter>,
}

impl Chains {
    /// Adds a chain for those of its names that no other has, if there are any.
    pub(super) fn add(
        &mut self,
        names: &[Host],
        subnets: &[CidrRange],
        filters: Vec<Filter>,
    ) -> Option<&mut FilterChain> {
        let place = format!("{subnets:?}");
        let mut is_new = |name: &&Host| self.taken.insert((name.to_string(), place.clone()));
        let names: Vec<_> = names
            .iter()
            .filter(&mut is_new)
            .map(Host::to_string)
            .collect();
        if names.is_empty() {
            return None;
        }
        let is_any = names.iter().any(|name| name == "*");
        let conditions = FilterChainMatch {
            // Envoy has no name for all names.
            transport_protocol: if is_any { "tls" } else { "" }.into(),
            server_names: if is_any { Vec::new() } else { names },
            prefix_ranges: subnets.to_vec(),
            ..FilterChainMatch::default()
        };
        self.list.push(FilterChain {
            filters,
            ..chain("", Some(conditions), Filter::default())
        });
        self.list.last_mut()
    }
}

/// The rules for TLS that hold in a scope: the names, the destinations, and where connections go.
pub(super) fn tls<'a>(
    entry: &'a Entry<VirtualService>,
    scope: Scope<'a>,
) -> impl Iterator<Item = (&'a [Host], Vec<CidrRange>, Filter)> + 'a {
    entry.spec.tls.iter().flat_map(move |rule| {
        let holding = rule.matches.iter().filter(move |one| holds(one, scope));
        holding.map(move |one| {
            let to = to_destinations(entry, rule, scope);
            (one.sni_hosts.as_slice(), subnets(one), to)
        })
    })
}

/// The rules for other connections that hold in a scope. As in Istio, nothing that follows the first rule for
/// all destinations is looked at.
pub(super) fn connections(entry: &Entry<VirtualService>, scope: Scope<'_>) -> OfConnections {
    let mut found = OfConnections::default();
    for rule in &entry.spec.tcp {
        let mut holding = rule
            .matches
            .iter()
            .filter(|one| holds(one, scope))
            .peekable();
        let is_for_all = rule.matches.is_empty()
            || holding
                .clone()
                .any(|one| one.destination_subnets.is_empty());
        if is_for_all {
            found.rest = Some(to_destinations(entry, rule, scope));
            break;
        }
        if holding.peek().is_none() {
            continue;
        }
        let conditions = FilterChainMatch {
            prefix_ranges: holding.flat_map(subnets).collect(),
            ..FilterChainMatch::default()
        };
        let same = |(other, _): &(FilterChainMatch, Filter)| *other == conditions;
        if !found.of_subnets.iter().any(same) {
            let to = to_destinations(entry, rule, scope);
            found.of_subnets.push((conditions, to));
        }
    }
    found
}

fn holds(condition: &ConnectionMatch, scope: Scope<'_>) -> bool {
    scope.admits(
        &condition.gateways,
        condition.port,
        condition.source_namespace.as_deref(),
        &condition.source_labels,
    )
}

fn subnets(condition: &ConnectionMatch) -> Vec<CidrRange> {
    ranges(&condition.destination_subnets)
}

/// Blocks of addresses in Envoy's form.
pub(super) fn ranges(blocks: &[(IpAddr, u8)]) -> Vec<CidrRange> {
    blocks
        .iter()
        .map(|(address, length)| CidrRange {
            address_prefix: address.to_string(),
            prefix_len: uint32((*length).into()),
        })
        .collect()
}

/// A TCP proxy to the destinations of a rule.
fn to_destinations(
    entry: &Entry<VirtualService>,
    rule: &ConnectionRoute,
    scope: Scope<'_>,
) -> Filter {
    let (specifier, own_name) = match rule.destinations.as_slice() {
        [only] => {
            let name = cluster(&only.destination, scope);
            (ClusterSpecifier::Cluster(name.clone()), name)
        }
        several => {
            let clusters = several.iter().map(|weighted| ClusterWeight {
                name: cluster(&weighted.destination, scope),
                weight: weighted.weight,
                ..ClusterWeight::default()
            });
            let clusters = WeightedCluster {
                clusters: clusters.collect(),
            };
            let name = format!("{}.{}", entry.meta.name, entry.meta.namespace);
            (ClusterSpecifier::WeightedClusters(clusters), name)
        }
    };
    let first = rule.destinations.first().map(|one| &one.destination);
    let idle_timeout =
        first.and_then(|to| scope.tcp_idle_timeout(&to.host, &to.subset, route::port(to, scope)));
    let proxy = TcpProxy {
        idle_timeout: idle_timeout.and_then(duration),
        stat_prefix: match rule.name.as_str() {
            "" => own_name,
            name => name.to_owned(),
        },
        cluster_specifier: Some(specifier),
        ..TcpProxy::default()
    };
    Filter {
        name: "envoy.filters.network.tcp_proxy".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&proxy))),
    }
}
