//! A sidecar's listeners for requests and connections to its application.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use periplus_resources::{Ingress, MutualTls, Port, Sidecar};

use super::detection::tls_inspector;
use super::listener::{Routes, http, tcp};
use super::proto::{address, boolean, istio_service};
use super::route::{default_route, virtual_host};
use super::{Generated, authorization, cluster, mutual_tls, tracing};
use crate::index::{Index, Service, Side};
use crate::names;
use crate::proxy::Proxy;

pub(super) fn add(index: &Index, proxy: &Proxy, sidecar: &Sidecar, made: &mut Generated) {
    for ingress in &sidecar.ingress {
        let Port {
            number, protocol, ..
        } = ingress.port;
        let cluster = names::inbound_cluster(number);
        made.listeners
            .push(listener(index, proxy, ingress, &cluster));
        let target = ingress.default_endpoint;
        let service = served(index, proxy, number).map(|(service, _)| service);
        made.clusters.push(Cluster {
            metadata: service.map(|service| istio_service(None, service)),
            ..cluster::application(index, &cluster, protocol, target)
        });
    }
}

/// The listener with a chain for each kind of connection that is let in.
fn listener(index: &Index, proxy: &Proxy, ingress: &Ingress, cluster: &str) -> Listener {
    let Port {
        number, protocol, ..
    } = ingress.port;
    let bind = ingress.bind.unwrap_or(proxy.ip);
    let filters = |is_http| match is_http {
        true => {
            let operation = operation(index, proxy, ingress);
            let routes = to_application((index, proxy), number, cluster, operation);
            let prefix = names::stat_prefix("inbound", bind, number);
            let routes = Routes::Inline(Box::new(routes));
            let inbound = TrafficDirection::Inbound;
            vec![http(index, proxy, inbound, (prefix, number), routes)]
        }
        false => {
            let mut filters = authorization::network_filters(index, proxy);
            filters.push(tcp(cluster));
            filters
        }
    };
    let mode = index.mutual_tls_of(&proxy.namespace, &proxy.labels, number);
    let filter_chains = match mode {
        MutualTls::Disable => vec![FilterChain {
            filters: filters(protocol.is_http()),
            ..FilterChain::default()
        }],
        _ => mutual_tls::chains((index, proxy), mode, protocol)
            .into_iter()
            .map(|chain| FilterChain {
                filter_chain_match: Some(chain.conditions),
                filters: filters(chain.is_http),
                transport_socket: chain.socket,
                ..FilterChain::default()
            })
            .collect(),
    };
    let mut listener_filters = Vec::new();
    if mode != MutualTls::Disable {
        listener_filters.push(tls_inspector(None));
    }
    Listener {
        name: names::listener(bind, number),
        address: address(bind, number),
        filter_chains,
        listener_filters,
        traffic_direction: TrafficDirection::Inbound.into(),
        ..Listener::default()
    }
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
    match served(index, proxy, port) {
        Some((service, port)) => {
            format!("{}/*", names::host_port(service.host.as_str(), port.number))
        }
        None => format!(":{port}/*"),
    }
}

/// The service that the workload serves on this port of its own, and the service's port.
fn served<'a>(index: &'a Index, proxy: &Proxy, port: u16) -> Option<(&'a Service, &'a Port)> {
    let mut services = index.services_at(proxy.ip);
    services.find_map(|service| Some((service, service.port_served_by(proxy, port)?)))
}
