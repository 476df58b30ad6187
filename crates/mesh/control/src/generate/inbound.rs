//! A sidecar's listeners for requests to its application.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use periplus_resources::{Ingress, MutualTls, Port, Sidecar};

use super::detection::tls_inspector;
use super::listener::{Routes, listener};
use super::proto::boolean;
use super::route::{default_route, virtual_host};
use super::{Generated, cluster, mutual_tls, tracing};
use crate::index::{Index, Side};
use crate::names;
use crate::proxy::Proxy;

pub(super) fn add(index: &Index, proxy: &Proxy, sidecar: &Sidecar, made: &mut Generated) {
    for ingress in &sidecar.ingress {
        let port = ingress.port.number;
        let cluster = names::inbound_cluster(port);
        let routes = to_application(
            (index, proxy),
            port,
            &cluster,
            operation(index, proxy, ingress),
        );
        let listener = listener(
            index,
            proxy,
            TrafficDirection::Inbound,
            (ingress.bind.unwrap_or(proxy.ip), port),
            Routes::Inline(Box::new(routes)),
        );
        made.listeners
            .push(secured(index, proxy, ingress, listener));
        let protocol = ingress.port.protocol;
        let target = ingress.default_endpoint;
        made.clusters
            .push(cluster::application(index, &cluster, protocol, target));
    }
}

/// The listener with a chain for each kind of connection that is let in.
fn secured(index: &Index, proxy: &Proxy, ingress: &Ingress, mut listener: Listener) -> Listener {
    let Port {
        number, protocol, ..
    } = ingress.port;
    let mode = index.mutual_tls_of(&proxy.namespace, &proxy.labels, number);
    if mode == MutualTls::Disable {
        return listener;
    }
    let chains = mutual_tls::chains(index, mode, protocol).into_iter();
    let filters = listener.filter_chains.iter().map(|chain| &chain.filters);
    let filters: Vec<_> = filters.flatten().cloned().collect();
    let chain = |chain: mutual_tls::Chain| FilterChain {
        filter_chain_match: Some(chain.conditions),
        filters: filters.clone(),
        transport_socket: chain.socket,
        ..FilterChain::default()
    };
    listener.filter_chains = chains.map(chain).collect();
    listener.listener_filters.push(tls_inspector(None));
    listener
}

/// All requests to a port of the application.
pub(super) fn to_application(
    (index, proxy): (&Index, &Proxy),
    port: u16,
    cluster: &str,
    operation: String,
) -> RouteConfiguration {
    let mut route = default_route(cluster.to_owned(), operation);
    route.tracing = tracing::of_route(index, proxy, Side::Server, (port, ""));
    let domains = vec!["*".to_owned()];
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![virtual_host(
            names::inbound_virtual_host(port),
            domains,
            vec![route],
        )],
        validate_clusters: boolean(false),
        ..RouteConfiguration::default()
    }
}

/// The span's name when the caller does not give one: the service and port that are served here.
fn operation(index: &Index, proxy: &Proxy, ingress: &Ingress) -> String {
    let port = ingress.port.number;
    let served = index
        .services_at(proxy.ip)
        .find_map(|service| Some((service, service.port_served_by(proxy, port)?)));
    match served {
        Some((service, port)) => {
            format!("{}/*", names::host_port(service.host.as_str(), port.number))
        }
        None => format!(":{port}/*"),
    }
}
