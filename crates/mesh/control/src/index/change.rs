//! What differs between two states of the mesh, and which proxies that may concern.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use periplus_resources::{Endpoints, Host, Meta, ServiceEntry, VirtualService};

use super::{Entry, Index, Service};
use crate::proxy::{Proxy, Role};

/// What differs, as far as what is made for proxies depends on it. It errs on the side of more.
#[derive(Debug, Default)]
pub(crate) struct Change<'a> {
    /// Something that anybody may depend on.
    everything: bool,
    /// What gateways listen to.
    gateways: bool,
    /// Something that is for the workloads of these namespaces.
    namespaces: BTreeSet<&'a str>,
    /// VirtualServices, as they were and as they are.
    routing: Vec<&'a Entry<VirtualService>>,
    /// Services of which nothing but the endpoints differs, with the addresses of those that were and are.
    endpoints: BTreeMap<&'a Host, BTreeSet<IpAddr>>,
}

/// What has to be made anew for a proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stale<'a> {
    /// All.
    All,
    /// The clusters of these services with their endpoints, and what there is to do about routing.
    Some(Vec<&'a Host>, Routing),
}

/// How much of a proxy's routing has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Routing {
    /// Nothing.
    Same,
    /// The routes that listeners ask for by name.
    Routes,
    /// Those, and the listeners.
    All,
}

impl Routing {
    /// What a VirtualService that is other than before asks for. Connections are matched in listeners, and a gateway
    /// has listeners for those that have rules.
    fn of(entry: &Entry<VirtualService>, is_gateway: bool) -> Self {
        let has_connections = !entry.spec.tls.is_empty() || !entry.spec.tcp.is_empty();
        match is_gateway || has_connections {
            true => Self::All,
            false => Self::Routes,
        }
    }
}

impl<'a> Change<'a> {
    /// From one state to the next.
    pub(crate) fn between(old: &'a Index, new: &'a Index) -> Self {
        // Each field is named here so that none is forgotten.
        let Index {
            services,
            by_address: _,
            // Seen through the services that they serve.
            workloads: _,
            pods: _,
            virtual_services,
            routed: _,
            destination_rules,
            ruled: _,
            gateways,
            sidecars,
            authorization_policies,
            peer_authentications,
            request_authentications,
            telemetries,
            gateway_api,
            secrets,
            mesh,
            has_authority,
            revoked,
            has_sessions,
            // Seen through what asks.
            asked: _,
            problems: _,
        } = old;
        let mut change = Self {
            everything: *mesh != new.mesh
                || *has_authority != new.has_authority
                || *revoked != new.revoked
                || *has_sessions != new.has_sessions
                || !is_same(destination_rules, &new.destination_rules)
                || !is_same(peer_authentications, &new.peer_authentications)
                || !gateway_api.is_same(&new.gateway_api)
                || !secrets.is_same(&new.secrets),
            gateways: !is_same(gateways, &new.gateways),
            routing: differing(virtual_services, &new.virtual_services),
            ..Self::default()
        };
        change.of_namespaces(sidecars, &new.sidecars, new);
        change.of_namespaces(authorization_policies, &new.authorization_policies, new);
        change.of_namespaces(request_authentications, &new.request_authentications, new);
        change.of_namespaces(telemetries, &new.telemetries, new);
        change.of_services(services, &new.services);
        change
    }

    fn of_namespaces<T: PartialEq>(
        &mut self,
        old: &'a [Entry<T>],
        new: &'a [Entry<T>],
        index: &Index,
    ) {
        for entry in differing(old, new) {
            self.everything |= entry.meta.namespace == index.mesh.root_namespace;
            self.namespaces.insert(&entry.meta.namespace);
        }
    }

    fn of_services(&mut self, old: &'a BTreeMap<Host, Service>, new: &'a BTreeMap<Host, Service>) {
        if !old.keys().eq(new.keys()) {
            self.everything = true;
            return;
        }
        for (before, after) in old.values().zip(new.values()) {
            // Nearly all services are what they were: nothing of them is copied.
            let is_same_spec = before.spec == after.spec
                || without_endpoints(&before.spec) == without_endpoints(&after.spec);
            if !is_same_spec || !is_same_meta(&before.meta, &after.meta) {
                self.everything = true;
                return;
            }
            let (one, other) = (&before.endpoints, &after.endpoints);
            if Arc::ptr_eq(one, other) || one == other {
                continue;
            }
            let both = before.endpoints.iter().chain(&*after.endpoints);
            let addresses = both.map(|endpoint| endpoint.address).collect();
            self.endpoints.insert(&after.host, addresses);
        }
    }

    /// Whether it may be that other proxies than before have the same as this one.
    pub(crate) fn may_reclass(&self, proxy: &Proxy) -> bool {
        self.everything
            || self.namespaces.contains(proxy.namespace.as_str())
            || self.is_about(proxy)
    }

    /// Whether an endpoint that differs has a proxy's address.
    pub(crate) fn is_about(&self, proxy: &Proxy) -> bool {
        let mut all = self.endpoints.values();
        all.any(|addresses| addresses.contains(&proxy.ip))
    }

    /// What it makes stale for a proxy, which has clusters of services as `has_cluster` says.
    pub(crate) fn stale(
        &self,
        index: &Index,
        proxy: &Proxy,
        has_cluster: impl Fn(&Host) -> bool,
    ) -> Stale<'a> {
        let is_gateway = proxy.role == Role::Router;
        if self.may_reclass(proxy) || is_gateway && self.gateways {
            return Stale::All;
        }
        let hosts = self.endpoints.keys().copied();
        let hosts: Vec<_> = hosts.filter(|host| has_cluster(host)).collect();
        // Endpoints of headless services have listeners.
        let has_listeners = proxy.interception.is_some() && {
            let mut services = hosts.iter().filter_map(|host| index.service(host));
            services.any(Service::has_listeners_of_endpoints)
        };
        let routing = self.routing.iter();
        let routing = routing.filter(|entry| {
            let export_to = &entry.spec.export_to;
            export_to.reaches(&entry.meta.namespace, &proxy.namespace)
        });
        let routing = routing.filter(|entry| is_gateway || is_imported(index, proxy, entry));
        let routing = routing.map(|entry| Routing::of(entry, is_gateway));
        let routing = match has_listeners {
            true => Routing::All,
            false => routing.max().unwrap_or(Routing::Same),
        };
        Stale::Some(hosts, routing)
    }
}

/// Whether a sidecar may know a host of a VirtualService.
fn is_imported(index: &Index, proxy: &Proxy, entry: &Entry<VirtualService>) -> bool {
    let Some(sidecar) = index.sidecar_for(proxy) else {
        return true;
    };
    let egress = &sidecar.spec.egress;
    let is_known = |host: &Host| {
        let service = index.service(host);
        let namespace = service.map_or(&entry.meta.namespace, |service| &service.meta.namespace);
        let mut imports = egress.iter().flat_map(|listener| &listener.hosts);
        host.is_wildcard() || imports.any(|import| import.covers(namespace, host))
    };
    egress.is_empty() || entry.spec.hosts.iter().any(is_known)
}

/// The entries that are in one of the lists only, or not the same in both.
fn differing<'a, T: PartialEq>(old: &'a [Entry<T>], new: &'a [Entry<T>]) -> Vec<&'a Entry<T>> {
    let key = |entry: &'a Entry<T>| (&entry.meta.namespace, &entry.meta.name);
    let by_name = |entries: &'a [Entry<T>]| {
        let mut entries: Vec<&Entry<T>> = entries.iter().collect();
        entries.sort_by(|one, other| key(one).cmp(&key(other)));
        entries.into_iter().peekable()
    };
    let (mut old, mut new) = (by_name(old), by_name(new));
    let mut found = Vec::new();
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(one), Some(other)) if key(one) == key(other) => {
                if !is_same_entry(one, other) {
                    found.extend([*one, *other]);
                }
                old.next();
                new.next();
            }
            (Some(one), Some(other)) if key(one) < key(other) => found.extend(old.next()),
            (Some(_), None) => found.extend(old.next()),
            (_, Some(_)) => found.extend(new.next()),
        }
    }
}

/// Whether both have the same in the same order.
pub(super) fn is_same<T: PartialEq>(one: &[Entry<T>], other: &[Entry<T>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same_entry(a, b))
}

fn is_same_entry<T: PartialEq>(one: &Entry<T>, other: &Entry<T>) -> bool {
    is_same_meta(&one.meta, &other.meta) && one.spec == other.spec
}

/// Wherever it was read: a line more before it changes nothing.
fn is_same_meta(one: &Meta, other: &Meta) -> bool {
    let Meta {
        kind,
        name,
        namespace,
        labels,
        annotations,
        created,
        generation,
        source: _,
    } = one;
    *kind == other.kind
        && *name == other.name
        && *namespace == other.namespace
        && *labels == other.labels
        && *annotations == other.annotations
        && *created == other.created
        && *generation == other.generation
}

fn without_endpoints(spec: &ServiceEntry) -> ServiceEntry {
    ServiceEntry {
        endpoints: Endpoints::Listed([].into()),
        ..spec.clone()
    }
}
