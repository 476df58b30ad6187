//! A sidecar's listeners for requests from its application.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use periplus_resources::{Egress, GatewayRef, Host, OutboundPolicy, Port, Semantics, Sidecar};

use super::Generated;
use super::answers::{block_all, unknown};
use super::dynamic_dns::outbound_policy;
use super::listener::{Routes, listener};
use super::order::{in_order, ranked_routes};
use super::proto::boolean;
use super::route::{Scope, routes, service_route, virtual_host};
use super::session;
use crate::index::{Index, Service};
use crate::names;
use crate::proxy::Proxy;

pub(super) fn add(index: &Index, proxy: &Proxy, sidecar: &Sidecar, made: &mut Generated) {
    let egress = sidecar.egress.iter();
    let listening: Vec<_> = egress
        .filter_map(|egress| Some((egress, egress.port.as_ref()?.number)))
        .collect();
    if !listening.is_empty() && proxy.interception.is_none() {
        note_unreachable(index, proxy, made);
    }
    for (egress, port) in &listening {
        let (egress, port) = (*egress, *port);
        let bind = egress.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        // One listener has Istio's name; several may import different hosts and need one each.
        let name = match listening.len() {
            1 => names::HTTP_PROXY.to_owned(),
            _ => format!("{}.{port}", names::HTTP_PROXY),
        };
        let mut routes = http_proxy(index, proxy, egress, &name);
        let others = match outbound_policy(index, Some(sidecar)) {
            policy @ OutboundPolicy::AllowAnyDynamicDns => unknown(policy),
            // There is nowhere to pass them through to.
            OutboundPolicy::AllowAny | OutboundPolicy::RegistryOnly => block_all(),
        };
        routes.virtual_hosts.push(others);
        made.routes.push(routes);
        made.listeners.push(listener(
            index,
            proxy,
            TrafficDirection::Outbound,
            (bind, port),
            Routes::Named(name),
        ));
    }
}

/// A forward proxy takes requests: what else services speak needs interception.
fn note_unreachable(index: &Index, proxy: &Proxy, made: &mut Generated) {
    for service in index.seen_from(&proxy.namespace, |_, _| true) {
        for port in service
            .ports()
            .iter()
            .filter(|port| !port.protocol.is_http())
        {
            made.notes.push(format!(
                "port {} ({}) of {} does not speak HTTP: it is reached by interception only",
                port.number, port.name, service.host
            ));
        }
    }
}

/// The routes for requests in absolute form to what is known: a virtual host for each service and port.
fn http_proxy(index: &Index, proxy: &Proxy, egress: &Egress, name: &str) -> RouteConfiguration {
    let mut taken = HashSet::new();
    let mut hosts = Vec::new();
    let mut push = |name, mut domains: Vec<String>, routes| {
        domains.retain(|domain| taken.insert(domain.clone()));
        if !domains.is_empty() {
            hosts.push(virtual_host(name, domains, routes));
        }
    };
    let imported = |namespace: &str, host: &Host| {
        let mut imports = egress.hosts.iter();
        imports.any(|import| import.covers(namespace, host))
    };
    for service in index.seen_from(&proxy.namespace, imported) {
        for port in service
            .ports()
            .iter()
            .filter(|port| port.protocol.is_http())
        {
            let name = names::host_port(service.host.as_str(), port.number);
            let domains = domains(service, port, &proxy.namespace);
            push(name, domains, service_routes(index, proxy, service, port));
        }
    }
    // Hosts that only rules know, reached on HTTP's own port.
    for entry in index.virtual_services() {
        let visible = entry
            .spec
            .export_to
            .reaches(&entry.meta.namespace, &proxy.namespace);
        let is_for_mesh = entry.spec.gateways.contains(&GatewayRef::Mesh);
        if !visible || !is_for_mesh || entry.spec.http.is_empty() {
            continue;
        }
        for host in &entry.spec.hosts {
            if index.service(host).is_some() || !imported(&entry.meta.namespace, host) {
                continue;
            }
            let scope = Scope {
                index,
                proxy,
                gateway: None,
                port: 80,
                is_secure: false,
            };
            let domain = names::host_port(host.as_str(), 80);
            let domains = vec![host.to_string(), domain.clone()];
            push(domain, domains, routes(entry, scope));
        }
    }
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: hosts,
        validate_clusters: boolean(false),
        ..RouteConfiguration::default()
    }
}

/// The routes of a service's port.
pub(super) fn service_routes(
    index: &Index,
    proxy: &Proxy,
    service: &Service,
    port: &Port,
) -> Vec<envoy_types::pb::envoy::config::route::v3::Route> {
    let host = service.host.as_str();
    let scope = Scope {
        index,
        proxy,
        gateway: None,
        port: port.number,
        is_secure: false,
    };
    let rules = index.rules_for_requests(&proxy.namespace, &service.host, port.number);
    match rules.as_slice() {
        [] => {
            let cluster = names::outbound_cluster(port.number, "", host);
            let operation = format!("{}/*", names::host_port(host, port.number));
            let hash_policy = scope.hash_policy(&service.host, "", port.number);
            let session = session::of_service((index, proxy), &service.host);
            let mut route = service_route(
                cluster,
                operation,
                (hash_policy, session),
                &index.mesh().retries,
            );
            route.tracing = scope.tracing("");
            vec![route]
        }
        [entry] if entry.spec.semantics == Semantics::Istio => routes(entry, scope),
        of_api => {
            let of_api = of_api.iter();
            let ranked = of_api.flat_map(|entry| ranked_routes(entry, scope, &service.host));
            in_order(ranked.collect())
        }
    }
}

/// The names that a client in `namespace` may use for a service's port: each with the port, and
/// without it where that is not ambiguous.
fn domains(service: &Service, port: &Port, namespace: &str) -> Vec<String> {
    let names = service_names(service, namespace);
    // Of several ports, a name alone means HTTP's own, or else the first.
    let first = service.ports().first();
    let plain = service
        .port(80)
        .or(first)
        .is_some_and(|p| p.number == port.number);
    let mut domains = Vec::with_capacity(2 * names.len());
    for name in names {
        let with_port = names::host_port(&name, port.number);
        if plain {
            domains.push(name);
        }
        domains.push(with_port);
    }
    domains
}

/// The names that a client in `namespace` may use for a service.
pub(super) fn service_names(service: &Service, namespace: &str) -> Vec<String> {
    let host = service.host.as_str();
    let mut names = vec![host.to_owned(), format!("{host}.")];
    if let Some((name, rest)) = host.split_once('.')
        && let Some(own) = rest.strip_suffix(".svc.cluster.local")
    {
        if own == namespace {
            names.push(name.to_owned());
        }
        names.push(format!("{name}.{own}"));
        names.push(format!("{name}.{own}.svc"));
    }
    names.extend(service.spec.addresses.iter().map(ToString::to_string));
    names
}
