//! Names that proxies look up as somebody asks for them, `DYNAMIC_DNS`: Envoy's dynamic forward proxy.
//!
//! The cluster has the hosts that a filter before it has looked up: of requests by their host, of TLS by its server
//! name. Listeners have the filter where they lead to such a cluster, and nowhere else.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, CustomClusterType};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3 as of_connections;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier as Target;
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::{OutboundPolicy, Protocol, Sidecar, TrafficPolicy};
use prost::{Message, Name};

use super::listener::http_filter;
use super::proto::any;
use super::{Generated, cluster, endpoints};
use crate::index::Index;
use crate::names;
use crate::proxy::Proxy;

/// What is looked up is kept in one place: all listeners may lead to all such clusters, and Envoy wants that caches of one
/// name are the same in all they say.
const CACHE: &str = "dynamic_dns";

/// What becomes of what nobody describes: as the Sidecar says, else the mesh.
pub(super) fn outbound_policy(index: &Index, sidecar: Option<&Sidecar>) -> OutboundPolicy {
    let own = sidecar.and_then(|sidecar| sidecar.outbound);
    own.unwrap_or(index.mesh().outbound)
}

/// Looks whether connections may begin as a policy says.
///
/// # Errors
///
/// Why not.
pub(super) fn admit(index: &Index, policy: &TrafficPolicy) -> Result<(), String> {
    index.unsupported_by_name(policy).map_or(Ok(()), |field| {
        Err(format!(
            "`{field}` is not supported for hosts of resolution DYNAMIC_DNS"
        ))
    })
}

/// Makes a cluster one of the hosts that are asked for.
pub(super) fn resolve(cluster: &mut Cluster, proxy: &Proxy) {
    let config = ClusterConfig {
        // Else Envoy wants the names of certificates to be checked, and connections are plaintext.
        allow_insecure_cluster_options: true,
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(
            cache(proxy),
        )),
        ..ClusterConfig::default()
    };
    let kind = CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
        typed_config: Some(any(&config)),
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(kind));
    cluster.eds_cluster_config = None;
    endpoints::leave_choice(cluster);
}

fn cache(proxy: &Proxy) -> DnsCacheConfig {
    DnsCacheConfig {
        name: CACHE.to_owned(),
        dns_lookup_family: endpoints::lookup_family(proxy).into(),
        ..DnsCacheConfig::default()
    }
}

/// Adds the cluster of requests to hosts that nobody describes, if they may go where DNS says.
pub(super) fn add_unknown(
    (index, proxy): (&Index, &Proxy),
    sidecar: Option<&Sidecar>,
    made: &mut Generated,
) {
    let policy = outbound_policy(index, sidecar);
    if policy == OutboundPolicy::AllowAnyDynamicDns && !made.listeners.is_empty() {
        let (name, protocol) = (names::ANY_BY_NAME, Protocol::Detected);
        let mut cluster = cluster::original_destination(index, name, protocol, None);
        resolve(&mut cluster, proxy);
        made.clusters.push(cluster);
    }
}

/// Has listeners look names up where they lead to a cluster that wants it.
pub(super) fn add_filters(index: &Index, proxy: &Proxy, made: &mut Generated) {
    let clusters = clusters(index, proxy, made);
    if clusters.is_empty() {
        return;
    }
    let routes = made.routes.iter();
    let routes = routes.filter(|one| leads_to(one, &clusters));
    let routes = routes.map(|one| one.name.clone()).collect();
    for listener in &mut made.listeners {
        let chains = listener.filter_chains.iter_mut();
        for chain in chains.chain(listener.default_filter_chain.as_mut()) {
            add_to_chain(proxy, (&clusters, &routes), chain);
        }
    }
}

/// The names of a proxy's clusters that want names to be looked up.
fn clusters(index: &Index, proxy: &Proxy, made: &Generated) -> BTreeSet<String> {
    let services = index.looked_up();
    let services = services.filter_map(|one| index.service_for(proxy, &one.host));
    let services = services.filter(|one| one.is_looked_up());
    let of_services = services.flat_map(|service| {
        let ports = service.ports().iter();
        ports.map(|port| names::outbound_cluster(port.number, "", service.host.as_str()))
    });
    let unknown = made.clusters.iter().map(|one| &one.name);
    let unknown = unknown.filter(|name| *name == names::ANY_BY_NAME).cloned();
    of_services.chain(unknown).collect()
}

fn leads_to(routes: &RouteConfiguration, clusters: &BTreeSet<String>) -> bool {
    let routes = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
    let mut targets = routes.filter_map(|route| match &route.action {
        Some(Action::Route(action)) => action.cluster_specifier.as_ref(),
        _ => None,
    });
    targets.any(|target| match target {
        ClusterSpecifier::Cluster(name) => clusters.contains(name),
        ClusterSpecifier::WeightedClusters(weighted) => {
            let mut weighted = weighted.clusters.iter();
            weighted.any(|one| clusters.contains(&one.name))
        }
        _ => false,
    })
}

/// Puts the filter before that which passes requests or connections on.
fn add_to_chain(
    proxy: &Proxy,
    (clusters, routes): (&BTreeSet<String>, &BTreeSet<String>),
    chain: &mut FilterChain,
) {
    let last = chain.filters.last_mut();
    let Some(filter::ConfigType::TypedConfig(config)) = last.and_then(|it| it.config_type.as_mut())
    else {
        return;
    };
    if let Some(mut manager) = unpack::<HttpConnectionManager>(config) {
        let leads = match &manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => routes.contains(&rds.route_config_name),
            Some(RouteSpecifier::RouteConfig(own)) => leads_to(own, clusters),
            _ => false,
        };
        if leads {
            let wanted = FilterConfig {
                implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(cache(
                    proxy,
                ))),
                ..FilterConfig::default()
            };
            let wanted = http_filter("envoy.filters.http.dynamic_forward_proxy", any(&wanted));
            let router = manager.http_filters.len().saturating_sub(1);
            manager.http_filters.insert(router, wanted);
            *config = any(&manager);
        }
    } else if let Some(passing) = unpack::<TcpProxy>(config)
        && let Some(port) = port_of(&passing, clusters)
    {
        let wanted = of_connections::FilterConfig {
            dns_cache_config: Some(cache(proxy)),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..of_connections::FilterConfig::default()
        };
        let wanted = Filter {
            name: "envoy.filters.network.sni_dynamic_forward_proxy".to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(any(&wanted))),
        };
        chain.filters.insert(chain.filters.len() - 1, wanted);
    }
}

fn unpack<M: Message + Name + Default>(config: &Any) -> Option<M> {
    let is_one = config.type_url == M::type_url();
    is_one
        .then(|| M::decode(config.value.as_slice()).ok())
        .flatten()
}

/// The port of the first cluster that wants a name to be looked up.
fn port_of(passing: &TcpProxy, clusters: &BTreeSet<String>) -> Option<u16> {
    let targets: Vec<&String> = match passing.cluster_specifier.as_ref()? {
        Target::Cluster(name) => vec![name],
        Target::WeightedClusters(weighted) => {
            weighted.clusters.iter().map(|one| &one.name).collect()
        }
    };
    let wanting = targets.into_iter().find(|name| clusters.contains(*name))?;
    names::port_of(wanting)
}
