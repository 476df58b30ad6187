//! Rules about services whose names proxies look up as somebody asks for them.

use periplus_resources::{ClientTls, DestinationRule, TrafficPolicy};

use super::super::code;
use super::super::{Entry, Index, Problem, Service};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for service in index.looked_up() {
        let rules = index.rules_about(&service.host);
        for rule in rules.filter(|rule| rule.spec.host.covers(&service.host)) {
            check_tls(index, service, rule, problems);
            if rule.spec.host == service.host {
                check_endpoints(rule, problems);
            }
        }
    }
    check_tcp(index, problems);
}

/// What would have to be asked for by the name of each request.
fn check_tls(
    index: &Index,
    service: &Service,
    rule: &Entry<DestinationRule>,
    problems: &mut Vec<Problem>,
) {
    let policy = &rule.spec.policy;
    let begins = |number: u16| match policy.of_port(number).tls {
        None | Some(ClientTls::Disable) => false,
        Some(ClientTls::Mesh { .. }) => index.has_authority(),
        Some(ClientTls::Files(_)) => true,
    };
    let ports = service.ports().iter().map(|port| port.number);
    let ports = ports.filter(|port| begins(*port));
    let ports: Vec<_> = ports.map(|port| port.to_string()).collect();
    if ports.is_empty() {
        return;
    }
    let message = format!(
        "{}: `tls` is not supported for `{}`, which has the resolution DYNAMIC_DNS: requests on its ports ({}) get 503; \
         say `tls: {{mode: DISABLE}}` for it, and let clients speak TLS themselves",
        rule.meta,
        service.host,
        ports.join(", ")
    );
    let source = &rule.meta.source;
    let problem = Problem::error(source, source.position, message);
    problems.push(problem.code(code::SCHEMA));
}

/// What is said of endpoints, where none is known.
fn check_endpoints(rule: &Entry<DestinationRule>, problems: &mut Vec<Problem>) {
    let TrafficPolicy {
        load_balancer,
        ports,
        ..
    } = &rule.spec.policy;
    let mut ports = ports.values();
    let balances = load_balancer.is_some() || ports.any(|port| port.load_balancer.is_some());
    let subsets = !rule.spec.subsets.is_empty();
    let said = [("loadBalancer", balances), ("subsets", subsets)];
    for (field, _) in said.iter().filter(|(_, is_said)| *is_said) {
        let message = format!(
            "{}: `{field}` has no effect, as `{}` has the resolution DYNAMIC_DNS: requests go to the host that they \
             ask for",
            rule.meta, rule.spec.host
        );
        let source = &rule.meta.source;
        let problem = Problem::warning(source, source.position, message);
        problems.push(problem.code(code::WITHOUT_EFFECT));
    }
}

/// Connections that say no name.
fn check_tcp(index: &Index, problems: &mut Vec<Problem>) {
    for entry in index.virtual_services() {
        let destinations = entry.spec.tcp.iter().flat_map(|rule| &rule.destinations);
        for destination in destinations.map(|one| &one.destination) {
            let host = &destination.host;
            let service = index.service_from(&entry.meta.namespace, host);
            if service.is_some_and(Service::is_looked_up) {
                let message = format!(
                    "`{host}` has the resolution DYNAMIC_DNS, and connections by a rule of `tcp` say no name: they \
                     are closed; route requests by `http`, and TLS by `tls`"
                );
                let at = destination.at.0;
                let problem = Problem::error(&entry.meta.source, at, message);
                problems.push(problem.code(code::SCHEMA));
            }
        }
    }
}
