//! A gateway's listeners that tell connections apart: TLS that ends here or is passed through, by its server name,
//! and TCP.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener};
use periplus_resources::{Gateway, Host, Semantics, Server, ServerTls, Termination};

use super::connection::{self, Chains};
use super::detection::tls_inspector;
use super::gateway::{Claim, bound, is_of_another, route_configuration, served_hosts};
use super::intercept::chain;
use super::listener::{Routes, http, tcp};
use super::proto::{address, duration};
use super::{Generated, authorization, cluster, termination};
use crate::index::{Entry, Index};
use crate::names;
use crate::proxy::Proxy;

/// As long may a handshake take, as in Istio.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Adds the listener of an address, unless no rule leads anywhere.
pub(super) fn add(
    (index, proxy): (&Index, &Proxy),
    (bind, port): (IpAddr, u16),
    is_shared: bool,
    servers: &[Claim<'_>],
    made: &mut Generated,
) {
    let mut parts = Parts {
        index,
        proxy,
        place: (bind, port),
        is_shared,
        servers,
        chains: Chains::default(),
        rest: None,
        closes: false,
    };
    for (gateway, server) in servers {
        let is_routed = match &server.tls {
            None => parts.plain(gateway, server),
            Some(ServerTls::Passthrough) => parts.pass_through(gateway, server),
            Some(ServerTls::Terminate(how)) => parts.terminate((gateway, server), how, made),
        };
        made.notes.extend(is_routed.err());
    }
    parts.isolate();
    let has_hole = |made: &Generated| {
        made.clusters
            .iter()
            .any(|one| one.name == names::BLACK_HOLE)
    };
    if parts.closes && !has_hole(made) {
        made.clusters.push(cluster::black_hole(index));
    }
    made.listeners.extend(parts.listener());
}

/// What a listener is made of.
struct Parts<'a> {
    index: &'a Index,
    proxy: &'a Proxy,
    place: (IpAddr, u16),
    /// The port has listeners at several addresses.
    is_shared: bool,
    servers: &'a [Claim<'a>],
    chains: Chains,
    /// Where all other connections go.
    rest: Option<Filter>,
    /// Some connections are closed at once.
    closes: bool,
}

impl Parts<'_> {
    /// Connections by their addresses.
    fn plain(&mut self, gateway: &Entry<Gateway>, server: &Server) -> Result<(), String> {
        let mut is_routed = false;
        for (entry, scope) in bound(self.index, self.proxy, (gateway, server)) {
            if served_hosts(server, &entry.meta.namespace, &entry.spec.hosts).is_empty() {
                continue;
            }
            let found = connection::connections(entry, scope);
            let of_subnets = found.of_subnets.into_iter();
            is_routed |= of_subnets.len() > 0 || found.rest.is_some();
            for (conditions, to) in of_subnets {
                let mut chain = chain("", Some(conditions), Filter::default());
                chain.filters = self.guarded(to);
                self.chains.list.push(chain);
            }
            self.rest = self.rest.take().or(found.rest);
        }
        routed(is_routed, "tcp", (gateway, server))
    }

    /// TLS that stays its client's and its server's.
    fn pass_through(&mut self, gateway: &Entry<Gateway>, server: &Server) -> Result<(), String> {
        let mut is_routed = false;
        for (entry, scope) in bound(self.index, self.proxy, (gateway, server)) {
            for (names, subnets, to) in connection::tls(entry, scope) {
                let names = self.own_hosts(server, &entry.meta.namespace, names);
                let filters = self.guarded(to);
                is_routed |= self.chains.add(&names, &subnets, filters).is_some();
            }
        }
        routed(is_routed, "tls", (gateway, server))
    }

    /// TLS that ends here, with requests or other bytes within it. Where it cannot, its names are let in nowhere:
    /// other servers have another certificate.
    fn terminate(
        &mut self,
        (gateway, server): Claim<'_>,
        how: &Termination,
        made: &mut Generated,
    ) -> Result<(), String> {
        let is_http = server.port.protocol.is_http();
        let socket = termination::socket((self.index, self.proxy), how, is_http, made);
        let socket = match socket {
            Ok(socket) => socket,
            Err(reason) => {
                self.close(&hosts(server));
                return Err(format!(
                    "{} lets nobody in: {reason}",
                    name_of((gateway, server))
                ));
            }
        };
        match is_http {
            true => self.requests((gateway, server), &socket, made),
            false => self.bytes((gateway, server), &socket),
        }
    }

    fn requests(
        &mut self,
        (gateway, server): Claim<'_>,
        socket: &TransportSocket,
        made: &mut Generated,
    ) -> Result<(), String> {
        let (bind, port) = self.place;
        let meta = &gateway.meta;
        let name = names::secure_gateway_routes(
            (server.port.number, &server.port.name),
            (&meta.name, &meta.namespace),
        );
        let name = match self.is_shared {
            true => format!("{name}.{bind}"),
            false => name,
        };
        let filters = vec![http(
            self.index,
            self.proxy,
            TrafficDirection::Outbound,
            (names::stat_prefix("outbound", bind, port), port),
            Routes::Named(name.clone()),
        )];
        if !self.add_secure(&hosts(server), filters, socket) {
            return Err(format!(
                "{} has nothing: each of its hosts is that of another server already",
                name_of((gateway, server))
            ));
        }
        made.routes.push(route_configuration(
            (self.index, self.proxy),
            (&name, port),
            &[(gateway, server)],
            self.servers,
        ));
        Ok(())
    }

    fn bytes(
        &mut self,
        (gateway, server): Claim<'_>,
        socket: &TransportSocket,
    ) -> Result<(), String> {
        let mut is_routed = false;
        for (entry, scope) in bound(self.index, self.proxy, (gateway, server)) {
            let namespace = &entry.meta.namespace;
            // Istio's `tls` is for what is passed through; a TLSRoute is for both.
            if entry.spec.semantics == Semantics::GatewayApi {
                for (names, _, to) in connection::tls(entry, scope) {
                    let names = self.own_hosts(server, namespace, names);
                    let filters = self.guarded(to);
                    is_routed |= self.add_secure(&names, filters, socket);
                }
            }
            if !served_hosts(server, namespace, &entry.spec.hosts).is_empty()
                && let Some(to) = connection::connections(entry, scope).rest
            {
                let filters = self.guarded(to);
                is_routed |= self.add_secure(&hosts(server), filters, socket);
            }
        }
        routed(is_routed, "tcp", (gateway, server))
    }

    fn add_secure(
        &mut self,
        names: &[Host],
        filters: Vec<Filter>,
        socket: &TransportSocket,
    ) -> bool {
        let chain = self.chains.add(names, &[], filters);
        let Some(chain) = chain else {
            return false;
        };
        chain.transport_socket = Some(socket.clone());
        chain.transport_socket_connect_timeout = duration(HANDSHAKE);
        true
    }

    /// Connections for these names are closed.
    fn close(&mut self, names: &[Host]) {
        let filters = vec![tcp(names::BLACK_HOLE)];
        self.closes |= self.chains.add(names, &[], filters).is_some();
    }

    /// Where a server of Gateway API has no route for its name, none of a wider one is asked.
    fn isolate(&mut self) {
        for (gateway, server) in self.servers {
            let is_alone = |host: &Host| host.as_str() == "*";
            if gateway.spec.isolates_hosts && server.tls.is_some() {
                let mut hosts = hosts(server);
                hosts.retain(|host| !is_alone(host));
                self.close(&hosts);
            }
        }
    }

    /// The names that both a server and a rule mean, but for those of another server.
    fn own_hosts(&self, server: &Server, namespace: &str, names: &[Host]) -> Vec<Host> {
        let mut names = served_hosts(server, namespace, names);
        names.retain(|name| !is_of_another(self.servers, server, name));
        names
    }

    /// What a client may do is asked before it is passed on.
    fn guarded(&self, to: Filter) -> Vec<Filter> {
        let mut filters = authorization::network_filters(self.index, self.proxy);
        filters.push(to);
        filters
    }

    fn listener(self) -> Option<Listener> {
        if self.chains.list.is_empty() && self.rest.is_none() {
            return None;
        }
        let (bind, port) = self.place;
        let filters = self.rest.clone().map(|to| self.guarded(to));
        let mut listener = Listener {
            name: names::listener(bind, port),
            address: address(bind, port),
            traffic_direction: TrafficDirection::Outbound.into(),
            filter_chains: self.chains.list,
            ..Listener::default()
        };
        if self.servers.iter().any(|(_, server)| server.tls.is_some()) {
            listener.listener_filters.push(tls_inspector(None));
        }
        if let Some(filters) = filters {
            let mut chain = chain("", None, Filter::default());
            chain.filters = filters;
            listener.default_filter_chain = Some(chain);
        }
        Some(listener)
    }
}

fn hosts(server: &Server) -> Vec<Host> {
    server.hosts.iter().map(|one| one.host.clone()).collect()
}

fn name_of((gateway, server): Claim<'_>) -> String {
    format!("server {} of {}", server.port.name, gateway.meta)
}

fn routed(is_routed: bool, field: &str, claim: Claim<'_>) -> Result<(), String> {
    match is_routed {
        true => Ok(()),
        false => Err(format!(
            "no VirtualService has a rule in `{field}` for {}: its connections are closed",
            name_of(claim)
        )),
    }
}
