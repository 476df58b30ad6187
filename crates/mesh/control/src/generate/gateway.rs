//! A gateway's listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use periplus_resources::{Gateway, GatewayRef, Host, Semantics, Server, VirtualService};

use super::answers::https_redirect;
use super::listener::{Routes, listener};
use super::order::{Rank, in_order, ranked_routes};
use super::proto::boolean;
use super::route::{Scope, virtual_host};
use super::{Generated, gateway_chains, group_by};
use crate::index::{Entry, Index};
use crate::names;
use crate::proxy::Proxy;

/// A server, and whose it is.
pub(super) type Claim<'a> = (&'a Entry<Gateway>, &'a Server);

impl Index {
    /// The Gateways, in whatever form they are written, that a proxy serves.
    pub(crate) fn gateways_of(&self, proxy: &Proxy) -> impl Iterator<Item = &Entry<Gateway>> {
        let all = self.gateways().iter().chain(&self.gateway_api().gateways);
        all.filter(|gateway| serves(proxy, &gateway.spec))
    }

    /// Their servers, with the ports that the proxy listens on for them.
    pub fn servers_of(
        &self,
        proxy: &Proxy,
    ) -> impl Iterator<Item = (u16, (&Entry<Gateway>, &Server))> {
        self.gateways_of(proxy)
            .flat_map(|gateway| {
                let servers = gateway.spec.servers.iter();
                servers.map(move |server| (gateway, server))
            })
            .map(|claim| (listening_port(self, proxy, claim.1.port.number), claim))
    }
}

pub(super) fn add(index: &Index, proxy: &Proxy, made: &mut Generated) {
    let servers = index.servers_of(proxy).map(|(port, (gateway, server))| {
        let bind = server.bind.unwrap_or_else(|| default_bind(proxy));
        ((port, bind), (gateway, server))
    });
    let by_address = group_by(servers);
    if by_address.is_empty() {
        made.notes
            .push("no Gateway selects its labels: it has no listeners".into());
    }
    for ((port, bind), servers) in &by_address {
        let is_shared = by_address.keys().filter(|(other, _)| other == port).count() > 1;
        let (http, others): (Vec<_>, Vec<_>) = servers
            .iter()
            .copied()
            .partition(|(_, server)| server.port.protocol.is_http() && server.tls.is_none());
        if http.is_empty() {
            let place = (*bind, *port);
            gateway_chains::add((index, proxy), place, is_shared, &others, made);
            continue;
        }
        for (gateway, server) in others {
            made.notes.push(format!(
                "server {} of {} has no listener: HTTP servers have port {port}",
                server.port.name, gateway.meta
            ));
        }
        let name = match is_shared {
            true => format!("{}.{bind}", names::gateway_routes(*port)),
            false => names::gateway_routes(*port),
        };
        let routes = route_configuration((index, proxy), (&name, *port), &http, &http);
        made.routes.push(routes);
        made.listeners.push(listener(
            index,
            proxy,
            TrafficDirection::Outbound,
            (*bind, *port),
            Routes::Named(name),
        ));
    }
}

fn serves(proxy: &Proxy, gateway: &Gateway) -> bool {
    let namespace = gateway.namespace.as_ref();
    proxy.is_selected_by(&gateway.selector)
        && namespace.is_none_or(|namespace| *namespace == proxy.namespace)
}

/// A Gateway names a port of the gateway's service; the gateway itself listens on the port behind.
fn listening_port(index: &Index, proxy: &Proxy, number: u16) -> u16 {
    let mut services = index.services_at(proxy.ip);
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

/// The routes of some servers that share an address with `all`.
pub(super) fn route_configuration(
    (index, proxy): (&Index, &Proxy),
    (name, port): (&str, u16),
    servers: &[Claim<'_>],
    all: &[Claim<'_>],
) -> RouteConfiguration {
    let mut by_host: BTreeMap<Host, Vec<(Rank, Route)>> = BTreeMap::new();
    let mut redirected: BTreeSet<Host> = BTreeSet::new();
    for (gateway, server) in servers {
        if server.redirects_to_https {
            redirected.extend(server.hosts.iter().map(|one| one.host.clone()));
            continue;
        }
        let bound: Vec<_> = bound(index, proxy, (gateway, server))
            .filter(|(entry, _)| !entry.spec.http.is_empty())
            .map(|(entry, scope)| {
                let hosts = served_hosts(server, &entry.meta.namespace, &entry.spec.hosts);
                (entry, scope, hosts)
            })
            .collect();
        let mut hosts: BTreeSet<_> = bound.iter().flat_map(|(.., hosts)| hosts).collect();
        if gateway.spec.isolates_hosts {
            // Where a server has no routes, none of a wider one are asked.
            hosts.extend(server.hosts.iter().map(|one| &one.host));
            hosts.retain(|host| !is_of_another(all, server, host));
        }
        for host in hosts {
            let routes = by_host.entry(host.clone()).or_default();
            for (entry, scope, own) in &bound {
                for own in own.iter().filter(|own| is_asked(entry, own, host)) {
                    routes.extend(ranked_routes(entry, *scope, own));
                }
            }
        }
    }
    // As in Istio, one server that redirects speaks for all that have its host.
    let routes = by_host.into_iter();
    let routes = routes.map(|(host, routes)| (host, in_order(routes)));
    let mut by_host: BTreeMap<Host, Vec<Route>> = routes.collect();
    by_host.extend(
        redirected
            .into_iter()
            .map(|host| (host, vec![https_redirect()])),
    );
    let mut virtual_hosts = Vec::with_capacity(by_host.len());
    for (host, routes) in by_host {
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

/// Whether requests for a host are for a server that means it more particularly than this one.
pub(super) fn is_of_another(servers: &[Claim<'_>], own: &Server, host: &Host) -> bool {
    let narrowest = |server: &Server| {
        let covering = server.hosts.iter().filter(|one| one.host.covers(host));
        covering.map(|one| one.host.specificity()).max()
    };
    let mut others = servers
        .iter()
        .filter(|(gateway, _)| gateway.spec.isolates_hosts);
    others.any(|(_, server)| narrowest(server) > narrowest(own))
}

/// Whether rules for the host `own` are asked about requests for `host` too.
fn is_asked(entry: &Entry<VirtualService>, own: &Host, host: &Host) -> bool {
    match entry.spec.semantics {
        Semantics::Istio => own == host,
        Semantics::GatewayApi => own.covers(host),
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
        is_secure: server.tls.is_some(),
    };
    let entries = index.virtual_services().iter();
    let entries = entries
        .chain(&index.gateway_api().rules)
        .filter(move |entry| {
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
