//! Where the backends of routes are.

use periplus_resources::gateway_api::{BackendRef, ObjectRef, ReferenceGrant};
use periplus_resources::{At, Destination, Headers, Host, Meta, WeightedDestination, did_you_mean};

use super::status::Flaw;
use crate::index::{Entry, Index, Service};

/// The host of backends that lead nowhere: no service can have it (RFC 2606 §2).
const NOWHERE: &str = "backend.invalid";

/// The host of a Service by the name of the object. A name with a dot is a host already, of any namespace whatever:
/// nobody is asked whether it may be referred to, so none is taken.
pub(super) fn service_host(name: &str, namespace: &str) -> Result<Host, &'static str> {
    if name.contains(['.', '*']) {
        return Err("the name of a Service is meant, not its host");
    }
    Host::parse(&format!("{name}.{namespace}.svc.cluster.local"))
}

/// What backends are looked up in.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) index: &'a Index,
    pub(super) grants: &'a [Entry<ReferenceGrant>],
}

impl Lookup<'_> {
    /// Whether a resource may refer to an object: one of its own namespace, or one that a ReferenceGrant lets it.
    pub(super) fn permits(self, from: &Meta, to: &ObjectRef) -> bool {
        let referring = (from.kind.group(), from.kind.name(), from.namespace.as_str());
        let mut grants = self.grants.iter();
        from.namespace == to.namespace
            || grants
                .any(|grant| grant.meta.namespace == to.namespace && grant.spec.lets(referring, to))
    }

    /// The service behind a backend.
    pub(super) fn destination(
        self,
        from: &Meta,
        backend: &BackendRef,
    ) -> Result<Destination, Flaw> {
        let object = &backend.object;
        let flaw = |reason, message| Err(Flaw::new(reason, object.at.0, message));
        let name = match (object.group.as_str(), object.kind.as_str()) {
            ("", "Service") => service_host(&object.name, &object.namespace),
            ("networking.istio.io", "Hostname") => Host::parse(&object.name),
            (group, kind) => {
                let message = format!(
                    "`{kind}` of group `{group}` is no backend: expected a `Service` of group `\"\"`, or a `Hostname` \
                     of `networking.istio.io`"
                );
                return flaw("InvalidKind", message);
            }
        };
        if !self.permits(from, object) {
            let message = format!(
                "no ReferenceGrant in namespace {} lets a {} of {} refer to {} {}",
                object.namespace, from.kind, from.namespace, object.kind, object.name
            );
            return flaw("RefNotPermitted", message);
        }
        let host = match name {
            Ok(host) => host,
            Err(reason) => {
                let message = format!("`{}` is no {}: {reason}", object.name, object.kind);
                return flaw("BackendNotFound", message);
            }
        };
        // No grant stands for a host; whom a service is exported to may name it.
        let is_visible =
            |service: &&Service| object.kind == "Service" || service.is_visible_in(&from.namespace);
        let service = self.index.service_from(&from.namespace, &host);
        let Some(service) = service.filter(is_visible) else {
            if object.kind == "Hostname" {
                let message = format!(
                    "there is no host `{host}` that is exported to {}",
                    from.namespace
                );
                return flaw("BackendNotFound", message);
            }
            let names = self.index.services().map(|service| service.host.as_str());
            let hint = did_you_mean(host.as_str(), names);
            let message = format!(
                "there is no {} {}/{}{hint}",
                object.kind, object.namespace, object.name
            );
            return flaw("BackendNotFound", message);
        };
        let port = backend.port.or(service.only_port());
        if port.is_none_or(|port| service.port(port).is_none()) {
            let ports = service.ports().iter().map(|port| port.number.to_string());
            let ports = ports.collect::<Vec<_>>().join(", ");
            let message = match port {
                Some(port) => format!("`{host}` has no port {port}, it has {ports}"),
                None => format!("`{host}` has several ports ({ports}): say which by `port`"),
            };
            return flaw("BackendNotFound", message);
        }
        Ok(Destination {
            host,
            subset: String::new(),
            port,
            at: object.at,
        })
    }

    /// The destinations of backends that get something. The share of one that is not to be found leads nowhere, and
    /// so does all if there is none. What is wrong is added to `flaws`.
    pub(super) fn destinations(
        self,
        from: &Meta,
        backends: &[BackendRef],
        flaws: &mut Vec<Flaw>,
    ) -> Vec<WeightedDestination> {
        let mut destinations = Vec::with_capacity(backends.len());
        for backend in backends {
            let found = self.destination(from, backend);
            let found = found.map_err(|flaw| flaws.push(flaw)).ok();
            if backend.weight == 0 {
                continue;
            }
            let destination = found.or_else(|| nowhere(backend.object.at));
            destinations.extend(destination.map(|destination| WeightedDestination {
                destination,
                weight: backend.weight,
                headers: backend.headers.clone(),
                authority: backend.authority.clone(),
            }));
        }
        if destinations.is_empty() {
            let destination = nowhere(At(from.source.position));
            destinations.extend(destination.map(|destination| WeightedDestination {
                destination,
                weight: 1,
                headers: Headers::default(),
                authority: None,
            }));
        }
        destinations
    }
}

/// A destination that no proxy has a cluster for.
fn nowhere(at: At) -> Option<Destination> {
    Some(Destination {
        host: Host::parse(NOWHERE).ok()?,
        subset: String::new(),
        port: Some(1),
        at,
    })
}

/// Whether some of the destinations are to be found.
pub(super) fn lead_anywhere(destinations: &[WeightedDestination]) -> bool {
    let mut hosts = destinations.iter().map(|one| &one.destination.host);
    hosts.any(|host| host.as_str() != NOWHERE)
}
