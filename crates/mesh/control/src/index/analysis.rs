//! What the resources say together: references that lead nowhere, and rules without effect.

use std::collections::BTreeMap;

use periplus_resources::{
    Action, Destination, Endpoints, ExtensionProvider, GatewayRef, Host, JwksSource, Protocol,
    ProviderKind, Subset, VirtualService, did_you_mean,
};

use super::code::{self, Code};
use super::{Entry, Index, Problem, Service, checks, in_namespace, mutual_tls, telemetry};
use crate::proxy::is_subset;

pub(super) fn analyse(index: &mut Index) {
    let mut problems = Vec::new();
    check_services(index, &mut problems);
    for entry in index.virtual_services() {
        check_gateways(index, entry, &mut problems);
        check_destinations(index, entry, &mut problems);
        check_reachable(entry, &mut problems);
    }
    check_shared_hosts(index, &mut problems);
    check_destination_rules(index, &mut problems);
    check_tracing(index, &mut problems);
    check_keys(index, &mut problems);
    telemetry::check(index, &mut problems);
    mutual_tls::check(index, &mut problems);
    checks::check(index, &mut problems);
    index.problems.append(&mut problems);
}

fn check_services(index: &Index, problems: &mut Vec<Problem>) {
    for service in index.services() {
        if let Endpoints::Selected(selector) = &service.spec.endpoints
            && service.endpoints.is_empty()
        {
            let labels: Vec<_> = selector.iter().map(|(k, v)| format!("{k}: {v}")).collect();
            let source = &service.meta.source;
            problems.push(
                Problem::warning(
                    source,
                    source.position,
                    format!(
                        "no workload in namespace {} has the labels {{{}}} of {}: requests get 503",
                        service.meta.namespace,
                        labels.join(", "),
                        service.meta
                    ),
                )
                .code(code::SERVICE_WITHOUT_WORKLOADS),
            );
        }
        check_names(index, service, problems);
    }
}

/// Workloads with names in place of addresses, for services that look up none.
fn check_names(index: &Index, service: &Service, problems: &mut Vec<Problem>) {
    let Endpoints::Selected(selector) = &service.spec.endpoints else {
        return;
    };
    if service.spec.resolution.is_dns() {
        return;
    }
    let workloads = in_namespace(index.workloads(), &service.meta.namespace).iter();
    let named = workloads.filter(|workload| {
        workload.spec.address.ip().is_none() && is_subset(selector, &workload.spec.labels)
    });
    for workload in named {
        let meta = &workload.meta;
        let message = format!(
            "{meta} has a name for an address, and {} does not look names up: it is left out there; say `resolution: \
             DNS`, or give an IP address",
            service.meta
        );
        problems.push(Problem::error(&meta.source, meta.source.position, message));
    }
}

fn check_gateways(index: &Index, entry: &Entry<VirtualService>, problems: &mut Vec<Problem>) {
    let spec = &entry.spec;
    let requests = spec.http.iter().flat_map(|route| &route.matches);
    let connections = spec.tls.iter().chain(&spec.tcp);
    let connections = connections.flat_map(|route| &route.matches);
    let gateways = requests
        .flat_map(|m| &m.gateways)
        .chain(connections.flat_map(|m| &m.gateways))
        .chain(&spec.gateways);
    for gateway in gateways {
        let GatewayRef::Named {
            namespace,
            name,
            at,
        } = gateway
        else {
            continue;
        };
        let mut known = index.gateways().iter();
        if !known.any(|gateway| gateway.meta.namespace == *namespace && gateway.meta.name == *name)
        {
            problems.push(
                Problem::error(
                    &entry.meta.source,
                    at.0,
                    format!(
                        "there is no Gateway {namespace}/{name}: the rules have no effect there"
                    ),
                )
                .code(code::NOT_FOUND),
            );
        }
    }
}

fn check_destinations(index: &Index, entry: &Entry<VirtualService>, problems: &mut Vec<Problem>) {
    let spec = &entry.spec;
    let of_requests = spec.http.iter().flat_map(|route| {
        let (routed, mirrors) = match &route.action {
            Action::Route(destinations) => (&destinations[..], &route.mirrors[..]),
            Action::Respond(_) | Action::Redirect(_) | Action::Delegate(_) => (&[][..], &[][..]),
        };
        let routed = routed
            .iter()
            .map(|one| (&one.destination, "requests that come here get 503"));
        let mirrored = mirrors
            .iter()
            .map(|mirror| (&mirror.destination, "no copies are sent"));
        routed.chain(mirrored)
    });
    let of_connections = spec.tls.iter().chain(&spec.tcp).flat_map(|route| {
        let destinations = route.destinations.iter();
        destinations.map(|one| (&one.destination, "connections that come here are closed"))
    });
    for (destination, fate) in of_requests.chain(of_connections) {
        if let Err((code, message)) = check_destination(index, entry, destination, fate) {
            let at = destination.at.0;
            problems.push(Problem::error(&entry.meta.source, at, message).code(code));
        }
    }
}

fn check_destination(
    index: &Index,
    entry: &Entry<VirtualService>,
    destination: &Destination,
    fate: &str,
) -> Result<(), (Code, String)> {
    let host = &destination.host;
    let Some(service) = index.service_from(&entry.meta.namespace, host) else {
        let names = index.services().map(|service| service.host.as_str());
        let hint = did_you_mean(host.as_str(), names);
        let message = format!("there is no service `{host}`: {fate}{hint}");
        return Err((code::NOT_FOUND, message));
    };
    let numbers = || -> String {
        let ports = service.ports().iter().map(|port| port.number.to_string());
        ports.collect::<Vec<_>>().join(", ")
    };
    match destination.port {
        Some(port) if service.port(port).is_none() => {
            let numbers = numbers();
            let message = format!("service `{host}` has no port {port}, it has {numbers}: {fate}");
            return Err((code::NOT_FOUND, message));
        }
        None if service.ports().len() > 1 => {
            let message = format!(
                "service `{host}` has several ports ({}): without `port` they get to the port that \
                 they asked for",
                numbers()
            );
            return Err((code::PORT_REQUIRED, message));
        }
        _ => {}
    }
    if destination.subset.is_empty() {
        return Ok(());
    }
    if service.is_looked_up() {
        let message = format!(
            "with resolution DYNAMIC_DNS `{host}` has no subsets, leave `subset` out: {fate}"
        );
        return Err((code::SCHEMA, message));
    }
    let rules = index.connection_rules((&entry.meta.namespace, None), service);
    let subset = rules.subsets.iter().find(|s| s.name == destination.subset);
    let Some(subset) = subset else {
        let names = rules.subsets.iter().map(|subset| subset.name.as_str());
        let hint = did_you_mean(&destination.subset, names);
        let message = format!(
            "no DestinationRule defines subset `{}` of `{host}`: {fate}{hint}",
            destination.subset
        );
        return Err((code::NOT_FOUND, message));
    };
    let selects = |subset: &Subset| {
        let mut endpoints = service.endpoints.iter();
        endpoints.any(|endpoint| is_subset(&subset.labels, &endpoint.labels))
    };
    if !service.endpoints.is_empty() && !selects(subset) {
        let message = format!(
            "no workload of `{host}` is in subset `{}`: {fate}",
            subset.name
        );
        return Err((code::SUBSET_WITHOUT_WORKLOADS, message));
    }
    Ok(())
}

/// Rules after one that takes every request.
fn check_reachable(entry: &Entry<VirtualService>, problems: &mut Vec<Problem>) {
    let takes_all = |route: &&periplus_resources::HttpRoute| route.matches.is_empty();
    let Some(last) = entry.spec.http.iter().find(takes_all) else {
        return;
    };
    let after = entry
        .spec
        .http
        .iter()
        .skip_while(|route| !std::ptr::eq(*route, last));
    for route in after.skip(1) {
        problems.push(
            Problem::warning(
                &entry.meta.source,
                route.at.0,
                format!(
                    "this rule of {} is never reached: the one at line {} takes every request",
                    entry.meta, last.at.0.line
                ),
            )
            .code(code::UNREACHABLE_RULE),
        );
    }
}

/// In sidecars only one VirtualService routes a host.
fn check_shared_hosts(index: &Index, problems: &mut Vec<Problem>) {
    let mut routed: BTreeMap<&Host, &Entry<VirtualService>> = BTreeMap::new();
    for entry in index.virtual_services() {
        if !entry.spec.gateways.contains(&GatewayRef::Mesh) {
            continue;
        }
        for host in &entry.spec.hosts {
            if let Some(first) = routed.get(host) {
                problems.push(
                    Problem::error(
                        &entry.meta.source,
                        entry.meta.source.position,
                        format!(
                            "host `{host}` is already routed by {} ({}), and sidecars use one \
                         VirtualService for each host: put the rules into one",
                            first.meta, first.meta.source
                        ),
                    )
                    .code(code::SHARED_MESH_HOST),
                );
            } else {
                routed.insert(host, entry);
            }
        }
    }
}

fn check_destination_rules(index: &Index, problems: &mut Vec<Problem>) {
    for rule in index.destination_rules() {
        let host = &rule.spec.host;
        let mut services = index.services();
        if services.any(|service| host.covers(&service.host)) {
            continue;
        }
        let names = index.services().map(|service| service.host.as_str());
        let hint = did_you_mean(host.as_str(), names);
        let source = &rule.meta.source;
        let message = format!(
            "there is no service `{host}`{hint}: {} has no effect",
            rule.meta
        );
        let problem = Problem::warning(source, source.position, message);
        problems.push(problem.code(code::UNKNOWN_RULE_HOST));
    }
}

/// Keys that cannot be fetched leave every token of their issuer refused.
fn check_keys(index: &Index, problems: &mut Vec<Problem>) {
    for entry in index.request_authentications() {
        for rule in &entry.spec.rules {
            // What comes over TLS need not be of the mesh.
            let JwksSource::Remote {
                host,
                port,
                is_tls: false,
                ..
            } = &rule.keys
            else {
                continue;
            };
            let service = Host::parse(host).ok();
            let service = service.and_then(|host| index.service(&host));
            if service.is_some_and(|service| service.port(*port).is_some()) {
                continue;
            }
            let message = format!(
                "there is no service `{host}` with port {port}: the keys of `{}` cannot be fetched, and all \
                 of its tokens are refused; describe it by a ServiceEntry",
                rule.issuer
            );
            let source = &entry.meta.source;
            let problem = Problem::error(source, source.position, message);
            problems.push(problem.code(code::NOT_FOUND));
        }
    }
}

/// Where Istio silently turns tracing off: the provider of the mesh, and those that resources name.
fn check_tracing(index: &Index, problems: &mut Vec<Problem>) {
    for provider in index.tracing_providers() {
        check_provider(index, provider, problems);
    }
}

fn check_provider(index: &Index, provider: &ExtensionProvider, problems: &mut Vec<Problem>) {
    let host = &provider.service;
    let service = index.service(host);
    if let Some(port) = service.and_then(|service| service.port(provider.port)) {
        let is_grpc = matches!(provider.kind, ProviderKind::OpenTelemetryGrpc { .. });
        if is_grpc && port.protocol != Protocol::Http2 {
            let message = format!(
                "port {} of `{host}` is not one of gRPC: nothing that provider `{}` reports gets there; call the \
                 port `grpc-{}`, or give the provider `http: {{path: /v1/traces}}` and the port of OTLP over HTTP",
                port.number, provider.name, port.name
            );
            problems.extend(index.problems_of(provider, &message));
        }
        return;
    }
    let (what, hint) = missing(index, host, provider.port);
    let message = format!(
        "{what}: provider `{}` cannot be reached and nothing is traced; describe the collector by a \
         ServiceEntry{hint}",
        provider.name
    );
    let of_users = index.problems_of(provider, &message).into_iter();
    problems.extend(of_users.map(|problem| problem.code(code::TRACING_UNREACHABLE)));
}

/// Why there is no such port, and what else may have been meant.
pub(super) fn missing(index: &Index, host: &Host, port: u16) -> (String, String) {
    match index.service(host) {
        Some(_) => (
            format!("service `{host}` has no port {port}"),
            String::new(),
        ),
        None => {
            let names = index.services().map(|service| service.host.as_str());
            let hint = did_you_mean(host.as_str(), names);
            (format!("there is no service `{host}`"), hint)
        }
    }
}
