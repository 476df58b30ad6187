//! A gateway's listeners for connections that carry no requests it could see: TLS that is passed through by its
//! server name, and TCP.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener};
use periplus_resources::{Gateway, Server};

use super::connection::{self, Chains};
use super::detection::tls_inspector;
use super::gateway::{bound, served_hosts};
use super::intercept::chain;
use super::proto::address;
use super::{Generated, authorization};
use crate::index::{Entry, Index};
use crate::names;
use crate::proxy::Proxy;

/// Adds the listener of an address, unless no rule leads anywhere.
pub(super) fn add(
    index: &Index,
    proxy: &Proxy,
    (bind, port): (IpAddr, u16),
    servers: &[(&Entry<Gateway>, &Server)],
    made: &mut Generated,
) {
    // What a client may do is asked before it is passed on.
    let guarded = |to: Filter| {
        let mut filters = authorization::network_filters(index, proxy);
        filters.push(to);
        filters
    };
    let mut chains = Chains::default();
    let mut is_tls = false;
    let mut rest: Option<Filter> = None;
    for (gateway, server) in servers {
        let is_passed = server.passes_tls_through;
        is_tls |= is_passed;
        let mut is_routed = false;
        for (entry, scope) in bound(index, proxy, (*gateway, *server)) {
            let namespace = &entry.meta.namespace;
            if is_passed {
                for (names, subnets, to) in connection::tls(entry, scope) {
                    let names = served_hosts(server, namespace, names);
                    is_routed |= chains.add(&names, &subnets, guarded(to));
                }
            } else if !served_hosts(server, namespace, &entry.spec.hosts).is_empty() {
                let found = connection::connections(entry, scope);
                let of_subnets = found.of_subnets.into_iter();
                is_routed |= of_subnets.len() > 0 || found.rest.is_some();
                for (conditions, to) in of_subnets {
                    let mut chain = chain("", Some(conditions), Filter::default());
                    chain.filters = guarded(to);
                    chains.list.push(chain);
                }
                rest = rest.or(found.rest);
            }
        }
        if !is_routed {
            let field = if is_passed { "tls" } else { "tcp" };
            made.notes.push(format!(
                "no VirtualService has a rule in `{field}` for server {} of Gateway {}: its connections are closed",
                server.port.name, gateway.meta
            ));
        }
    }
    if chains.list.is_empty() && rest.is_none() {
        return;
    }
    let mut listener = Listener {
        name: names::listener(bind, port),
        address: address(bind, port),
        filter_chains: chains.list,
        traffic_direction: TrafficDirection::Outbound.into(),
        ..Listener::default()
    };
    if is_tls {
        listener.listener_filters.push(tls_inspector(None));
    }
    if let Some(to) = rest {
        let mut chain = chain("", None, Filter::default());
        chain.filters = guarded(to);
        listener.default_filter_chain = Some(chain);
    }
    made.listeners.push(listener);
}
