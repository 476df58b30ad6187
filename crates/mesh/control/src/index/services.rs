//! The services of the mesh: a host may be one of several namespaces, each with a service of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use periplus_resources::Host;

use super::{Index, Service};
use crate::proxy::{Proxy, Role};

/// By host, those that go before the others first: Kubernetes' own, then the oldest.
pub(super) type Services = BTreeMap<Host, Vec<Service>>;

impl Index {
    /// The services, by host.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().flatten()
    }

    /// The service of this full name; of several namespaces' that which goes before the others.
    pub fn service(&self, host: &Host) -> Option<&Service> {
        self.services.get(host)?.first()
    }

    /// The services of this full name.
    pub(crate) fn services_of(&self, host: &Host) -> &[Service] {
        self.services.get(host).map_or(&[], Vec::as_slice)
    }

    /// The services whose names proxies look up as somebody asks for them.
    pub(crate) fn looked_up(&self) -> impl Iterator<Item = &Service> {
        // They have wildcards for names, which are before all others.
        let hosts = self.services.iter();
        let wildcards = hosts.take_while(|(host, _)| host.is_wildcard());
        let services = wildcards.flat_map(|(_, services)| services);
        services.filter(|service| service.is_looked_up())
    }

    /// The service that a namespace means by this full name: its own, or the first that it may know of, or the first.
    pub fn service_from(&self, namespace: &str, host: &Host) -> Option<&Service> {
        let all = self.services_of(host);
        match all {
            [only] => Some(only),
            all => nearest(namespace, all, |_| true).or(all.first()),
        }
    }

    /// The service that a proxy means: of several, as its namespace, one that its Sidecar imports.
    pub fn service_for(&self, proxy: &Proxy, host: &Host) -> Option<&Service> {
        let all = self.services_of(host);
        if let [only] = all {
            return Some(only);
        }
        let sidecar = match proxy.role {
            Role::Sidecar => self.sidecar_for(proxy),
            Role::Router => None,
        };
        let imported = |service: &Service| {
            sidecar.is_none_or(|sidecar| {
                let egress = &sidecar.spec.egress;
                let mut hosts = egress.iter().flat_map(|listener| &listener.hosts);
                egress.is_empty() || hosts.any(|it| it.covers(&service.meta.namespace, host))
            })
        };
        let imported = nearest(&proxy.namespace, all, imported);
        imported.or_else(|| self.service_from(&proxy.namespace, host))
    }

    /// The services that clients of a namespace may know of and that they import: one of each host.
    pub(crate) fn seen_from<'a>(
        &'a self,
        namespace: &'a str,
        imported: impl Fn(&str, &Host) -> bool,
    ) -> impl Iterator<Item = &'a Service> {
        let hosts = self.services.values();
        hosts.filter_map(move |all| {
            nearest(namespace, all, |one| {
                imported(&one.meta.namespace, &one.host)
            })
        })
    }

    /// The services that a proxy's workload serves, sorted, each with the ports that stand behind the
    /// service's ports.
    pub(crate) fn served_by(&self, proxy: &Proxy) -> Vec<(Host, Vec<u16>)> {
        let served = self.services_at(proxy.ip);
        let served = served.map(|service| (service.host.clone(), service.ports_at(proxy)));
        served.filter(|(_, ports)| !ports.is_empty()).collect()
    }

    /// The services that have an endpoint at an address, by host.
    pub(crate) fn services_at(&self, address: IpAddr) -> impl Iterator<Item = &Service> {
        let places = self.by_address.get(&address).into_iter().flatten();
        places.filter_map(|(host, place)| self.services_of(host).get(*place))
    }
}

/// The namespace's own, or the first that it may know of, among those that are imported.
fn nearest<'a>(
    namespace: &str,
    all: &'a [Service],
    imported: impl Fn(&Service) -> bool,
) -> Option<&'a Service> {
    let mut seen = (all.iter()).filter(|one| one.is_visible_in(namespace) && imported(one));
    let first = seen.next()?;
    let mut others = std::iter::once(first).chain(seen);
    others
        .find(|one| one.meta.namespace == namespace)
        .or(Some(first))
}
