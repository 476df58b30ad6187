//! What routes are attached to.

use std::collections::BTreeMap;

use periplus_resources::gateway_api::{ParentKind, ParentRef, Route, RouteNamespaces};
use periplus_resources::{GatewayRef, Host, Kind, Labels};

use super::backends::service_host;
use super::gateways::Standing;
use super::listeners::StandingListener;
use super::status::Flaw;
use crate::index::{Entry, Index};

/// The label that each namespace has.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// The listeners of a Gateway that take a route, as Istio's Gateways; they count it.
pub(super) fn to_gateway(
    route: &Entry<Route>,
    parent: &ParentRef,
    standing: &mut [Standing<'_>],
    namespaces: &BTreeMap<String, Labels>,
) -> Result<Vec<(String, String)>, Flaw> {
    let flaw = |reason, message| Err(Flaw::new(reason, parent.at.0, message));
    let full_name = format!("{}/{}", parent.namespace, parent.name);
    let named = standing.iter_mut().find(|one| {
        one.entry.meta.namespace == parent.namespace && one.entry.meta.name == parent.name
    });
    let Some(gateway) = named else {
        return flaw(
            "NoMatchingParent",
            format!("there is no Gateway {full_name}"),
        );
    };
    let is_meant = |one: &StandingListener<'_>| {
        let (section, port) = (&parent.section, parent.port);
        section
            .as_ref()
            .is_none_or(|name| *name == one.listener.name)
            && port.is_none_or(|port| port == one.listener.port)
    };
    let mut left: Vec<usize> = indices(gateway, is_meant).collect();
    if left.is_empty() {
        let listeners = gateway.listeners.iter();
        let names =
            listeners.map(|one| format!("{} (port {})", one.listener.name, one.listener.port));
        let names = names.collect::<Vec<_>>().join(", ");
        let message = format!("Gateway {full_name} has no such listener, it has {names}");
        return flaw("NoMatchingParent", message);
    }
    let broken = left.iter().find_map(|at| gateway.listeners[*at].flaw());
    let broken = broken.map(|flaw| flaw.message.clone());
    left.retain(|at| gateway.listeners[*at].flaw().is_none());
    if let (true, Some(message)) = (left.is_empty(), broken) {
        return flaw("NoMatchingParent", message);
    }
    let own = &gateway.entry.meta.namespace;
    left.retain(|at| {
        let one = &gateway.listeners[*at];
        one.kinds.contains(&route.meta.kind)
            && is_allowed(
                &one.listener.namespaces,
                own,
                &route.meta.namespace,
                namespaces,
            )
    });
    if left.is_empty() {
        let message = format!(
            "no such listener of Gateway {full_name} takes a {} of namespace {}",
            route.meta.kind, route.meta.namespace
        );
        return flaw("NotAllowedByListeners", message);
    }
    left.retain(|at| {
        let hostname = gateway.listeners[*at].listener.hostname.as_ref();
        let hosts = &route.spec.hostnames;
        hosts.is_empty() || hostname.is_none_or(|own| hosts.iter().any(|host| meet(own, host)))
    });
    if left.is_empty() {
        let message = format!("none of its `hostnames` is among those of Gateway {full_name}");
        return flaw("NoMatchingListenerHostname", message);
    }
    for at in &left {
        let attached = &mut gateway.listeners[*at].attached;
        attached.insert(route.meta.to_string());
    }
    let names = left
        .iter()
        .map(|at| gateway.name_of(gateway.listeners[*at].listener));
    Ok(names.collect())
}

fn indices(
    gateway: &Standing<'_>,
    is_meant: impl Fn(&StandingListener<'_>) -> bool,
) -> impl Iterator<Item = usize> {
    let listeners = gateway.listeners.iter().enumerate();
    listeners.filter_map(move |(at, one)| is_meant(one).then_some(at))
}

/// Whether there is a name that both mean.
fn meet(a: &Host, b: &Host) -> bool {
    a.covers(b) || b.covers(a)
}

fn is_allowed(
    allowed: &RouteNamespaces,
    own: &str,
    namespace: &str,
    namespaces: &BTreeMap<String, Labels>,
) -> bool {
    match allowed {
        RouteNamespaces::Same => own == namespace,
        RouteNamespaces::All => true,
        RouteNamespaces::Selected(selector) => {
            let mut labels = namespaces.get(namespace).cloned().unwrap_or_default();
            labels.insert(NAMESPACE_LABEL.to_owned(), namespace.to_owned());
            selector.selects(&labels)
        }
    }
}

/// The services whose clients a route is for.
pub(super) fn to_services(
    route: &Entry<Route>,
    parent: &ParentRef,
    index: &Index,
) -> Result<Vec<Host>, Flaw> {
    let flaw = |reason, message| Err(Flaw::new(reason, parent.at.0, message));
    let (kind, name) = (parent.kind.names().1, &parent.name);
    if !matches!(route.meta.kind, Kind::HttpRoute | Kind::GrpcRoute) {
        let message = format!(
            "a {} cannot be attached to a {kind}: in the mesh requests only are routed by Gateway API",
            route.meta.kind
        );
        return flaw("NotAllowedByListeners", message);
    }
    let hosts: Vec<Host> = match parent.kind {
        ParentKind::ServiceEntry => index
            .services()
            .filter(|service| {
                let meta = &service.meta;
                meta.kind == Kind::ServiceEntry
                    && (&meta.namespace, &meta.name) == (&parent.namespace, name)
            })
            .map(|service| service.host.clone())
            .collect(),
        _ => {
            let host = match service_host(name, &parent.namespace) {
                Ok(host) => host,
                Err(reason) => {
                    let message = format!("`{name}` is no {kind}: {reason}");
                    return flaw("NoMatchingParent", message);
                }
            };
            let service = index.service(&host);
            service
                .map(|service| service.host.clone())
                .into_iter()
                .collect()
        }
    };
    let services = hosts.iter().filter_map(|host| index.service(host));
    let services: Vec<_> = services.collect();
    if services.is_empty() {
        let message = format!("there is no {kind} {}/{name}", parent.namespace);
        return flaw("NoMatchingParent", message);
    }
    if let Some(port) = parent.port
        && services.iter().all(|service| service.port(port).is_none())
    {
        let message = format!("{kind} {}/{name} has no port {port}", parent.namespace);
        return flaw("NoMatchingParent", message);
    }
    // Of the two ways to say the same the more particular one of Istio counts. One that only some of the route's clients
    // see leaves it to the others.
    let is_own = parent.namespace == route.meta.namespace;
    let by_istio = index.virtual_services().iter().find(|entry| {
        let spec = &entry.spec;
        let own = &entry.meta.namespace;
        let is_for_all = match is_own {
            true => spec.export_to.is_all(),
            false => spec.export_to.reaches(own, &route.meta.namespace),
        };
        is_for_all
            && spec.gateways.contains(&GatewayRef::Mesh)
            && !spec.http.is_empty()
            && spec.hosts.iter().any(|host| hosts.contains(host))
    });
    if let Some(entry) = by_istio {
        let message = format!(
            "{} ({}) routes {kind} {}/{name} already: remove one of the two",
            entry.meta, entry.meta.source, parent.namespace
        );
        return flaw("UnsupportedValue", message);
    }
    Ok(hosts)
}
