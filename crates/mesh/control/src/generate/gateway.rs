//! A gateway's listeners.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use periplus_resources::{Gateway, GatewayRef, Host, Server, VirtualService};

use super::listener::{Routes, listener};
use super::proto::boolean;
use super::route::{Scope, routes, takes_all, virtual_host};
use super::{Generated, gateway_connections, group_by};
use crate::index::{Entry, Index};
use crate::names;
use crate::proxy::Proxy;

pub(super) fn add(index: &Index, proxy: &Proxy, made: &mut Generated) {
    let servers = index
        .gateways()
        .iter()
        .filter(|gateway| proxy.is_selected_by(&gateway.spec.selector))
        .flat_map(|gateway| {
            gateway
                .spec
                .servers
                .iter()
                .map(move |server| (gateway, server))
        })
        .map(|(gateway, server)| {
            let port = listening_port(index, proxy, server.port.number);
            let bind = server.bind.unwrap_or_else(|| default_bind(proxy));
            ((port, bind), (gateway, server))
        });
    let by_address = group_by(servers);
    if by_address.is_empty() {
        made.notes
            .push("no Gateway selects its labels: it has no listeners".into());
    }
    for ((port, bind), servers) in &by_address {
        let shared = by_address.keys().filter(|(other, _)| other == port).count() > 1;
        let name = match shared {
            true => format!("{}.{bind}", names::gateway_routes(*port)),
            false => names::gateway_routes(*port),
        };
        let (http, others): (Vec<_>, Vec<_>) = servers
            .iter()
            .copied()
            .partition(|(_, server)| server.port.protocol.is_http());
        if http.is_empty() {
            gateway_connections::add(index, proxy, (*bind, *port), &others, made);
            continue;
        }
        for (gateway, server) in others {
            made.notes.push(format!(
                "server {} of Gateway {} has no listener: HTTP servers have port {port}",
                server.port.name, gateway.meta
            ));
        }
        made.routes
            .push(route_configuration(index, proxy, &name, *port, &http));
        made.listeners.push(listener(
            index,
            proxy,
            TrafficDirection::Outbound,
            (*bind, *port),
            Routes::Named(name),
        ));
    }
}

/// A Gateway names a port of the gateway's service; the gateway itself listens on the port behind.
fn listening_port(index: &Index, proxy: &Proxy, number: u16) -> u16 {
    let mut services = index.services();
    services
        .find_map(|service| service.port_behind(proxy, number))
        .unwrap_or(number)
}

/// All addresses, except for a gateway that lives on the loopback only.
fn default_bind(proxy: &Proxy) -> IpAddr {
    match proxy.ip {
        loopback if loopback.is_loopback() => loopback,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn route_configuration(
    index: &Index,
    proxy: &Proxy,
    name: &str,
    port: u16,
    servers: &[(&Entry<Gateway>, &Server)],
) -> RouteConfiguration {
    let mut by_host: BTreeMap<Host, Vec<Route>> = BTreeMap::new();
    for (gateway, server) in servers {
        for (entry, scope) in bound(index, proxy, (gateway, server)) {
            if entry.spec.http.is_empty() {
                continue;
            }
            for host in served_hosts(server, &entry.meta.namespace, &entry.spec.hosts) {
                by_host
                    .entry(host)
                    .or_default()
                    .extend(routes(entry, scope));
            }
        }
    }
    let mut virtual_hosts = Vec::with_capacity(by_host.len());
    for (host, mut routes) in by_host {
        // Several VirtualServices may share a host: those that take everything come last.
        routes.sort_by_key(takes_all);
        let name = names::host_port(host.as_str(), port);
        virtual_hosts.push(virtual_host(name, vec![host.to_string()], routes));
    }
    if virtual_hosts.is_empty() {
        let name = format!("blackhole:{port}");
        virtual_hosts.push(virtual_host(name, vec!["*".into()], Vec::new()));
    }
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        validate_clusters: boolean(false),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    }
}

/// The VirtualServices of a Gateway that the proxy sees, and where their rules hold.
pub(super) fn bound<'a>(
    index: &'a Index,
    proxy: &'a Proxy,
    (gateway, server): (&'a Entry<Gateway>, &'a Server),
) -> impl Iterator<Item = (&'a Entry<VirtualService>, Scope<'a>)> {
    let meta = &gateway.meta;
    let scope = Scope {
        index,
        proxy,
        gateway: Some((&meta.namespace, &meta.name)),
        port: server.port.number,
    };
    let entries = index.virtual_services().iter().filter(move |entry| {
        let is_bound = entry.spec.gateways.iter().any(|bound| {
            matches!(bound, GatewayRef::Named { namespace, name, .. }
                if *namespace == meta.namespace && *name == meta.name)
        });
        let export_to = &entry.spec.export_to;
        is_bound && export_to.reaches(&entry.meta.namespace, &proxy.namespace)
    });
    entries.map(move |entry| (entry, scope))
}

/// The hosts that both a server and a VirtualService mean: of each pair the narrower one.
pub(super) fn served_hosts(server: &Server, namespace: &str, hosts: &[Host]) -> Vec<Host> {
    let mut served: Vec<Host> = Vec::new();
    for host in hosts {
        for server_host in &server.hosts {
            if !server_host.admits(namespace, host) {
                continue;
            }
            let narrower = match server_host.host.covers(host) {
                true => host,
                false => &server_host.host,
            };
            if !served.contains(narrower) {
                served.push(narrower.clone());
            }
        }
    }
    served
}
