//! The rules that lead to a service.

use periplus_control::{Index, Service};
use periplus_resources::{
    Action, ConnectionRoute, GatewayRef, Host, HttpRoute, Kind, VirtualService, WeightedDestination,
};

/// What becomes of requests and connections to it from the sidecars of its namespace, rule by rule.
pub(super) fn routes(index: &Index, service: &Service) -> Vec<String> {
    let namespace = &service.meta.namespace;
    let mut routes = Vec::new();
    for entry in index.rules_of_service(namespace, service) {
        let at = |line| format!("{}:{line}", entry.meta.source.file);
        let spec = &entry.spec;
        for rule in &spec.http {
            routes.push(format!("{} ({})", what(rule), at(rule.at.0.line)));
        }
        for (kind, rules) in [("tls", &spec.tls), ("tcp", &spec.tcp)] {
            for rule in rules {
                let what = what_of_connections(kind, rule);
                routes.push(format!("{what} ({})", at(rule.at.0.line)));
            }
        }
    }
    routes
}

/// The Gateways that lead to it.
pub(super) fn exposed(index: &Index, service: &Service) -> Vec<String> {
    let exposing = index
        .rules()
        .filter(|entry| leads_to(&entry.spec, &service.host));
    let mut exposed: Vec<String> = Vec::new();
    for entry in exposing {
        for gateway in &entry.spec.gateways {
            let gateway = match gateway {
                GatewayRef::Mesh => continue,
                GatewayRef::Named { .. } if entry.meta.kind == Kind::Ingress => {
                    "the gateway of Ingresses".to_owned()
                }
                GatewayRef::Named {
                    namespace, name, ..
                } => format!("Gateway {namespace}/{}", name.replace('~', ", listener ")),
            };
            let text = format!("{gateway} by {}", super::at(&entry.meta));
            if !exposed.contains(&text) {
                exposed.push(text);
            }
        }
    }
    exposed
}

/// What a rule takes and where it leads, in few words.
fn what(rule: &HttpRoute) -> String {
    let leads = match &rule.action {
        Action::Route(destinations) => shares(destinations),
        Action::Respond(response) => format!("answer {}", response.status),
        Action::Redirect(_) => "redirect".to_owned(),
        Action::Delegate(to) => format!("rules of {}/{}", to.namespace, to.name),
    };
    format!("{} → {leads}", takes(rule.matches.len()))
}

fn what_of_connections(kind: &str, rule: &ConnectionRoute) -> String {
    let names = rule.matches.iter().flat_map(|one| &one.sni_hosts);
    let names: Vec<_> = names.map(Host::as_str).collect();
    let takes = match names.is_empty() {
        true => takes(rule.matches.len()),
        false => names.join(", "),
    };
    format!("{kind} {takes} → {}", shares(&rule.destinations))
}

fn takes(matches: usize) -> String {
    match matches {
        0 => "everything".to_owned(),
        1 => "1 match".to_owned(),
        n => format!("{n} matches"),
    }
}

fn shares(destinations: &[WeightedDestination]) -> String {
    let total: u32 = destinations.iter().map(|one| one.weight).sum();
    let one = |one: &WeightedDestination| {
        let subset = match one.destination.subset.as_str() {
            "" => String::new(),
            subset => format!(" {subset}"),
        };
        let percent = f64::from(one.weight) * 100.0 / f64::from(total.max(1));
        format!("{percent:.0} % {}{subset}", one.destination.host)
    };
    destinations.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn leads_to(spec: &VirtualService, host: &Host) -> bool {
    let leads = |destinations: &[WeightedDestination]| {
        let mut hosts = destinations.iter().map(|one| &one.destination.host);
        hosts.any(|one| one == host)
    };
    let mut connections = spec.tls.iter().chain(&spec.tcp);
    connections.any(|rule| leads(&rule.destinations))
        || spec.http.iter().any(|rule| match &rule.action {
            Action::Route(destinations) => leads(destinations),
            Action::Respond(_) | Action::Redirect(_) | Action::Delegate(_) => false,
        })
}
