//! Rules about services whose names proxies look up as somebody asks for them.

use periplus_resources::{ClientTls, DestinationRule, TrafficPolicy};

use super::super::code;
use super::super::{Entry, Index, Problem, Service};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for service in index.looked_up() {
        let rules = index.rules_about(&service.host);
        for rule in rules.filter(|rule| rule.spec.host.covers(&service.host)) {
            check_beginning(index, service, rule, problems);
            if rule.spec.host == service.host {
                check_endpoints(rule, problems);
            }
        }
    }
    check_tcp(index, problems);
}

impl Index {
    /// What a policy says of the beginning of connections that proxies cannot do where each host would have to be spoken
    /// to by its own name: the field.
    pub(crate) fn unsupported_by_name(&self, policy: &TrafficPolicy) -> Option<&'static str> {
        let begins_tls = match &policy.tls {
            None | Some(ClientTls::Disable) => false,
            // Without an authority nobody has a certificate: told with the problems.
            Some(ClientTls::Mesh { .. }) => self.has_authority(),
            Some(ClientTls::Files(_)) => true,
        };
        let begun = policy.proxy_protocol.map(|_| "proxyProtocol");
        begins_tls.then_some("tls").or(begun)
    }
}

/// What proxies cannot do before they know the host.
fn check_beginning(
    index: &Index,
    service: &Service,
    rule: &Entry<DestinationRule>,
    problems: &mut Vec<Problem>,
) {
    let ports = service.ports().iter().map(|port| port.number);
    let ports: Vec<_> = ports
        .filter_map(|port| {
            let policy = rule.spec.policy.of_port(port);
            Some((index.unsupported_by_name(&policy)?, port.to_string()))
        })
        .collect();
    let Some((field, _)) = ports.first() else {
        return;
    };
    let ports: Vec<_> = ports.iter().map(|(_, port)| port.as_str()).collect();
    let message = format!(
        "{}: `{field}` is not supported for `{}`, which has the resolution DYNAMIC_DNS: requests on its ports ({}) get \
         503; write a rule for it without that, and let clients speak TLS themselves",
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
