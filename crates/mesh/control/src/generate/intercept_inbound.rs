//! The listener for connections to an intercepted workload, with the chains that Istio makes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{Metadata, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};
use periplus_resources::{MutualTls, Protocol};

use super::detection::{Inspectors, original_destination, original_source};
use super::intercept::{Layout, Skipped, chain};
use super::listener::{Routes, http, tcp};
use super::proto::{istio_service, uint32};
use super::{Conflict, Generated, authorization, cluster, inbound, mutual_tls};
use crate::names;

/// Where the rules of the kernel send connections to the workload.
const INBOUND_PORT: u16 = 15006;

/// A port of the workload that a service has.
struct Served {
    protocol: Protocol,
    /// What is known of the service.
    metadata: Option<Metadata>,
    /// The span's name when the caller does not give one.
    operation: String,
}

pub(super) fn add(layout: Layout<'_>, made: &mut Generated) {
    let index = layout.index;
    let served = served(layout, made);
    let own = to_port(INBOUND_PORT, FilterChainMatch::default());
    let mut chains = vec![chain(
        "virtualInbound-blackhole",
        Some(own),
        tcp(names::BLACK_HOLE),
    )];
    for (port, served) in &served {
        let to = names::inbound_cluster(*port);
        chains.extend(chains_of(layout, Some(*port), served, &to));
        made.clusters.push(Cluster {
            metadata: served.metadata.clone(),
            ..cluster::original_destination(index, &to, served.protocol, Some(source(layout)))
        });
    }
    let rest = names::INBOUND_PASSTHROUGH;
    let unknown = Served {
        protocol: Protocol::Detected,
        metadata: None,
        operation: ":*/*".into(),
    };
    chains.extend(chains_of(layout, None, &unknown, rest));
    made.clusters.push(cluster::original_destination(
        index,
        rest,
        Protocol::Detected,
        Some(source(layout)),
    ));
    let mut listener = layout.intercepting(
        ("virtualInbound", INBOUND_PORT),
        TrafficDirection::Inbound,
        chains,
    );
    if layout.is_transparent() {
        listener.listener_filters.push(original_source());
    }
    listener.listener_filters.push(original_destination());
    let of_ports = |skips: &dyn Fn(u16, &Served) -> bool| -> Vec<u16> {
        let skipped = served.iter().filter(|(port, served)| skips(**port, served));
        skipped.map(|(port, _)| *port).collect()
    };
    let http = of_ports(&|_, served| served.protocol != Protocol::Detected);
    let tls = of_ports(&|port, served| {
        served.protocol != Protocol::Detected && mode(layout, port) == MutualTls::Disable
    });
    let skipped = Skipped {
        tls: &tls,
        http: &http,
    };
    made.listeners
        .push(layout.inspecting(listener, Inspectors::BOTH, skipped));
}

/// What is asked of clients at a port.
fn mode(layout: Layout<'_>, port: u16) -> MutualTls {
    let Layout { index, proxy, .. } = layout;
    index.mutual_tls_of(&proxy.namespace, &proxy.labels, port)
}

/// The ports of the workload that services have. Where two of them disagree, the first one counts.
fn served(layout: Layout<'_>, made: &mut Generated) -> BTreeMap<u16, Served> {
    let mut served: BTreeMap<u16, Served> = BTreeMap::new();
    for service in layout.index.services_at(layout.proxy.ip) {
        for port in service.ports() {
            let Some(target) = service.port_behind(layout.proxy, port.number) else {
                continue;
            };
            let host = names::host_port(service.host.as_str(), port.number);
            match served.get(&target) {
                Some(first) if first.protocol != port.protocol => {
                    let what = format!(
                        "port {target} of the workload is taken for what {} speaks, and {host} says another \
                         protocol: say the same for both, or give each a port of its own",
                        first.operation.trim_end_matches("/*")
                    );
                    made.conflicts.push((Conflict::Inbound, what));
                }
                Some(_) => {}
                None => {
                    let own = Served {
                        protocol: port.protocol,
                        metadata: Some(istio_service(None, service)),
                        operation: format!("{host}/*"),
                    };
                    served.insert(target, own);
                }
            }
        }
    }
    served
}

/// The chains of a port, or of all ports that no service has.
fn chains_of(layout: Layout<'_>, port: Option<u16>, served: &Served, to: &str) -> Vec<FilterChain> {
    let name = |is_http| match (port, is_http) {
        (Some(port), _) => names::listener(layout.any_address(), port),
        (None, true) => "virtualInbound-catchall-http".to_owned(),
        (None, false) => "virtualInbound".to_owned(),
    };
    let number = port.unwrap_or_default();
    let scope = (layout.index, layout.proxy);
    let kinds = mutual_tls::chains(scope, mode(layout, number), served.protocol);
    let chain = |kind: mutual_tls::Chain| {
        let conditions = match port {
            Some(port) => to_port(port, kind.conditions),
            None => kind.conditions,
        };
        let name = name(kind.is_http);
        let made = match kind.is_http {
            true => {
                let filter = http_filter(layout, number, to, served.operation.clone());
                chain(&name, Some(conditions), filter)
            }
            false => connections(layout, &name, conditions, to),
        };
        FilterChain {
            transport_socket: kind.socket,
            ..made
        }
    };
    kinds.into_iter().map(chain).collect()
}

/// The chain of connections that are passed on as they are, if the policies let them.
fn connections(
    layout: Layout<'_>,
    name: &str,
    conditions: FilterChainMatch,
    to: &str,
) -> FilterChain {
    let mut chain = chain(name, Some(conditions), tcp(to));
    let policies = authorization::network_filters(layout.index, layout.proxy);
    chain.filters.splice(0..0, policies);
    chain
}

fn http_filter(layout: Layout<'_>, port: u16, to: &str, operation: String) -> Filter {
    let routes = inbound::to_application((layout.index, layout.proxy), port, to, operation);
    http(
        layout.index,
        layout.proxy,
        TrafficDirection::Inbound,
        (names::inbound_stat_prefix(port), port),
        Routes::Inline(Box::new(routes)),
    )
}

fn to_port(port: u16, conditions: FilterChainMatch) -> FilterChainMatch {
    FilterChainMatch {
        destination_port: uint32(u32::from(port)),
        ..conditions
    }
}

/// The address from which the proxy calls its own application: the rules of the kernel let it pass.
fn source(layout: Layout<'_>) -> IpAddr {
    match layout.proxy.ip {
        IpAddr::V4(_) => Ipv4Addr::new(127, 0, 0, 6).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
    }
}
