//! Gateways, the hosts that they serve, and the ports of their Services.

use std::collections::BTreeMap;

use periplus_resources::{
    Gateway, GatewayRef, Host, Labels, Server, ServerHost, VirtualService, WorkloadEntry,
};

use super::super::code;
use super::super::{Entry, Index, Problem, Service};
use crate::proxy::is_subset;

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let mut by_name: BTreeMap<(&str, &str), &Entry<Gateway>> = BTreeMap::new();
    let mut fronts: BTreeMap<&Labels, Vec<Front<'_>>> = BTreeMap::new();
    for entry in index.gateways() {
        by_name.insert((&entry.meta.namespace, &entry.meta.name), entry);
        let selector = &entry.spec.selector;
        let fronts = fronts.entry(selector);
        check_ports(
            entry,
            fronts.or_insert_with(|| fronts_of(index, selector)),
            problems,
        );
    }
    for entry in index.virtual_services() {
        check_hosts(&by_name, entry, problems);
    }
    check_conflicts(index, problems);
}

/// Hosts of a VirtualService that none of its Gateways serves.
fn check_hosts(
    by_name: &BTreeMap<(&str, &str), &Entry<Gateway>>,
    entry: &Entry<VirtualService>,
    problems: &mut Vec<Problem>,
) {
    let named = entry
        .spec
        .gateways
        .iter()
        .filter_map(|gateway| match gateway {
            GatewayRef::Named {
                namespace, name, ..
            } => by_name.get(&(namespace.as_str(), name.as_str())),
            GatewayRef::Mesh => None,
        });
    let named: Vec<_> = named.collect();
    if named.is_empty() || entry.spec.gateways.contains(&GatewayRef::Mesh) {
        // In sidecars, which it is for as well, the host has its effect.
        return;
    }
    let namespace = &entry.meta.namespace;
    for host in &entry.spec.hosts {
        let servers = named.iter().flat_map(|gateway| &gateway.spec.servers);
        let mut hosts = servers.flat_map(|server| &server.hosts);
        if hosts.any(|server| server.admits(namespace, host)) {
            continue;
        }
        let names: Vec<_> = named
            .iter()
            .map(|gateway| gateway.meta.to_string())
            .collect();
        let message = format!(
            "host `{host}` of {} is served by none of {}: its rules have no effect there; add it to the `hosts` of \
             a server",
            entry.meta,
            names.join(", ")
        );
        let source = &entry.meta.source;
        let problem = Problem::warning(source, source.position, message);
        problems.push(problem.code(code::HOST_NOT_IN_GATEWAY));
    }
}

/// A server, and whose it is.
type Claim<'a> = (&'a Entry<Gateway>, &'a Server);

/// Two Gateways that claim one host on one port of the same workloads.
fn check_conflicts(index: &Index, problems: &mut Vec<Problem>) {
    let mut claimed: BTreeMap<(&Labels, u16), Vec<Claim<'_>>> = BTreeMap::new();
    for entry in index.gateways() {
        for server in &entry.spec.servers {
            let place = (&entry.spec.selector, server.port.number);
            let servers = claimed.entry(place).or_default();
            let rival = servers.iter().find(|(other, first)| {
                other.meta != entry.meta
                    && first.bind == server.bind
                    && shared(first, server).is_some()
            });
            if let Some((other, first)) = rival
                && let Some(host) = shared(first, server)
            {
                let message = format!(
                    "port {} and host `{host}` of {} are those of {} ({}) too, for the same workloads: a request \
                     may get to the rules of either",
                    server.port.number, entry.meta, other.meta, other.meta.source
                );
                let source = &entry.meta.source;
                let problem = Problem::error(source, source.position, message);
                problems.push(problem.code(code::CONFLICTING_GATEWAYS));
            }
            servers.push((entry, server));
        }
    }
}

/// A host that both servers serve, for VirtualServices of the same namespace.
fn shared<'a>(one: &'a Server, other: &'a Server) -> Option<&'a Host> {
    let is_same = |a: &ServerHost, b: &ServerHost| {
        a.host == b.host
            && (a.namespace == b.namespace || a.namespace.is_none() || b.namespace.is_none())
    };
    let mut hosts = one.hosts.iter();
    let found = hosts.find(|host| other.hosts.iter().any(|another| is_same(host, another)));
    found.map(|host| &host.host)
}

/// A Service in front of a gateway, and one of the gateways behind it.
type Front<'a> = (&'a Service, &'a WorkloadEntry);

fn fronts_of<'a>(index: &'a Index, selector: &Labels) -> Vec<Front<'a>> {
    if selector.is_empty() {
        return Vec::new();
    }
    let front = |service: &'a Service| {
        let mut endpoints = service.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| is_subset(selector, &endpoint.labels))?;
        Some((service, endpoint))
    };
    index.services().filter_map(front).collect()
}

/// Ports that the Services in front of a gateway do not lead to.
fn check_ports(entry: &Entry<Gateway>, fronts: &[Front<'_>], problems: &mut Vec<Problem>) {
    if fronts.is_empty() {
        return;
    }
    for server in &entry.spec.servers {
        let number = server.port.number;
        let leads = fronts.iter().any(|(service, endpoint)| {
            let mut ports = service.ports().iter();
            ports.any(|port| port.number == number || endpoint.target_port(port) == number)
        });
        if leads {
            continue;
        }
        let names = fronts.iter().map(|(service, _)| service.host.as_str());
        let names: Vec<_> = names.collect();
        let message = format!(
            "no port of {} leads to port {number} of {}: nobody gets there from outside; add it to the service",
            names.join(", "),
            entry.meta
        );
        let source = &entry.meta.source;
        let problem = Problem::warning(source, source.position, message);
        problems.push(problem.code(code::GATEWAY_PORT));
    }
}
