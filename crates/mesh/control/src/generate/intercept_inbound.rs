//! The listener for connections to an intercepted workload. There is no TLS between proxies yet: its chains
//! are those that Istio makes with mutual TLS disabled.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};
use periplus_resources::Protocol;

use super::detection::{
    Inspectors, looks_like_http, original_destination, original_source, plaintext,
};
use super::intercept::{Layout, chain};
use super::listener::{Routes, http, tcp};
use super::proto::uint32;
use super::{Generated, authorization, cluster, inbound};
use crate::names;

/// Where the rules of the kernel send connections to the workload.
const INBOUND_PORT: u16 = 15006;

/// A port of the workload that a service has.
struct Served {
    protocol: Protocol,
    /// The span's name when the caller does not give one.
    operation: String,
}

pub(super) fn add(layout: Layout<'_>, made: &mut Generated) {
    let index = layout.index;
    let served = served(layout);
    let own = to_port(INBOUND_PORT, FilterChainMatch::default());
    let mut chains = vec![chain(
        "virtualInbound-blackhole",
        Some(own),
        tcp(names::BLACK_HOLE),
    )];
    for (port, served) in &served {
        let to = names::inbound_cluster(*port);
        chains.extend(chains_of(layout, *port, served, &to));
        made.clusters.push(cluster::original_destination(
            index,
            &to,
            served.protocol,
            Some(source(layout)),
        ));
    }
    let rest = names::INBOUND_PASSTHROUGH;
    let filter = http_filter(layout, 0, rest, ":*/*".into());
    chains.push(chain(
        "virtualInbound-catchall-http",
        Some(looks_like_http()),
        filter,
    ));
    for conditions in [plaintext(), FilterChainMatch::default()] {
        chains.push(connections(layout, "virtualInbound", conditions, rest));
    }
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
    let declared = served
        .iter()
        .filter(|(_, served)| served.protocol != Protocol::Detected);
    let declared: Vec<_> = declared.map(|(port, _)| *port).collect();
    made.listeners
        .push(layout.inspecting(listener, Inspectors::BOTH, &declared));
}

/// The ports of the workload that services have. Where two of them disagree, the first one counts.
fn served(layout: Layout<'_>) -> BTreeMap<u16, Served> {
    let mut served = BTreeMap::new();
    for service in layout.index.services() {
        for port in service.ports() {
            let Some(target) = service.port_behind(layout.proxy, port.number) else {
                continue;
            };
            let host = names::host_port(service.host.as_str(), port.number);
            served.entry(target).or_insert(Served {
                protocol: port.protocol,
                operation: format!("{host}/*"),
            });
        }
    }
    served
}

fn chains_of(layout: Layout<'_>, port: u16, served: &Served, to: &str) -> Vec<FilterChain> {
    let name = names::listener(layout.any_address(), port);
    let all = || to_port(port, FilterChainMatch::default());
    let requests = || http_filter(layout, port, to, served.operation.clone());
    match served.protocol {
        Protocol::Detected => vec![
            chain(&name, Some(to_port(port, looks_like_http())), requests()),
            connections(layout, &name, to_port(port, plaintext()), to),
            connections(layout, &name, all(), to),
        ],
        protocol if protocol.is_http() => vec![chain(&name, Some(all()), requests())],
        _ => vec![connections(layout, &name, all(), to)],
    }
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
    let routes = inbound::to_application(port, to, operation);
    http(
        layout.index,
        layout.proxy,
        TrafficDirection::Inbound,
        names::inbound_stat_prefix(port),
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
