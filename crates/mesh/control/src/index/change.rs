//! What differs between two states of the mesh, and which proxies that may concern.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use periplus_resources::{
    Action, DestinationRule, EgressHost, GatewayRef, Host, TrafficPolicy, VirtualService,
};

use super::differing::{differing, has_same_endpoints, is_other_service, is_same};
use super::services::Services;
use super::{Entry, Index, Service};
use crate::generate::hosts_of;
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
    /// VirtualServices, as they were and as they are, with whether listeners may say what they or those say that they stand before.
    routing: Vec<(&'a Entry<VirtualService>, bool)>,
    /// Services whose endpoints differ, or more of them, with the addresses of those that were and are.
    endpoints: BTreeMap<&'a Host, BTreeSet<IpAddr>>,
    /// Those that are new, gone, or differ in more than their endpoints.
    services: BTreeSet<&'a Host>,
    /// Services about whose connections something else is said.
    connections: BTreeSet<&'a Host>,
    /// Those of them, and others, whose clusters may come or go by that.
    unsure: BTreeSet<&'a Host>,
    /// What of it routes and listeners say: how workloads are chosen by what requests have, and when idle connections end.
    resaid: Option<Routing>,
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
    fn of(has_connections: bool, is_gateway: bool) -> Self {
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
            pod_configs,
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
            issuer_keys,
            has_sessions,
            asked,
            problems: _,
            unready: _,
        } = old;
        let everything = *mesh != new.mesh
            || *has_authority != new.has_authority
            || *revoked != new.revoked
            || *issuer_keys != new.issuer_keys
            || *has_sessions != new.has_sessions
            || asked.asks_for_machines() != new.asked.asks_for_machines();
        // Rules of Gateway API are for requests, in sidecars.
        let by_api = differing(&gateway_api.rules, &new.gateway_api.rules).into_iter();
        let by_api = by_api.map(|entry| (entry, false));
        let by_istio = rerouted(virtual_services, &new.virtual_services).into_iter();
        let mut change = Self {
            everything,
            gateways: !is_same(gateways, &new.gateways)
                || !gateway_api.has_same_gateways(&new.gateway_api),
            routing: by_istio.chain(by_api).collect(),
            ..Self::default()
        };
        change
            .namespaces
            .extend(pod_configs.differing(&new.pod_configs));
        change.of_namespaces(sidecars, &new.sidecars, new);
        change.of_namespaces(authorization_policies, &new.authorization_policies, new);
        change.of_namespaces(request_authentications, &new.request_authentications, new);
        change.of_namespaces(telemetries, &new.telemetries, new);
        change.of_services(services, &new.services);
        change.of_destination_rules(destination_rules, old, new);
        if !secrets.is_same(&new.secrets) {
            // Sidecars have none.
            change.gateways = true;
        }
        change.of_namespaces(peer_authentications, &new.peer_authentications, new);
        for entry in differing(peer_authentications, &new.peer_authentications) {
            change.of_mutual_tls(&entry.meta.namespace, new);
        }
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

    fn of_services(&mut self, old: &'a Services, new: &'a Services) {
        // Nearly always they are the same, and nearly all services are what they were.
        let hosts: BTreeSet<&Host> = match old.keys().eq(new.keys()) {
            true => new.keys().collect(),
            false => old.keys().chain(new.keys()).collect(),
        };
        for host in hosts {
            let of = |services: &'a Services| services.get(host).map_or(&[][..], Vec::as_slice);
            let (old, new) = (of(old), of(new));
            let mut both = old.iter().zip(new);
            let is_changed =
                old.len() != new.len() || both.any(|(one, other)| is_other_service(one, other));
            let mut both = old.iter().zip(new);
            if !is_changed && both.all(|(one, other)| has_same_endpoints(one, other)) {
                continue;
            }
            let both = old.iter().chain(new);
            // As long as nobody can be looked up, there is no cluster.
            if both.clone().any(Service::has_names) {
                self.unsure.insert(host);
            }
            let addresses = both.flat_map(|service| service.endpoints.iter());
            let addresses = addresses.filter_map(|endpoint| endpoint.address.ip());
            self.endpoints.insert(host, addresses.collect());
            if is_changed {
                self.services.insert(host);
                self.gateways = true;
            }
        }
    }

    /// Those of which nothing but clusters depends, and some routes.
    fn of_destination_rules(
        &mut self,
        rules: &'a [Entry<DestinationRule>],
        old: &'a Index,
        new: &'a Index,
    ) {
        let mut concerned = self.services.clone();
        for entry in differing(rules, &new.destination_rules) {
            let host = &entry.spec.host;
            match new.services.get_key_value(host) {
                _ if host.is_wildcard() => {
                    concerned.extend(new.services.keys().filter(|one| host.covers(one)));
                }
                Some((host, _)) => drop(concerned.insert(host)),
                None => {}
            }
        }
        for host in &concerned {
            // Rules add up, and any of them may come to count now.
            for rule in old.rules_about(host).chain(new.rules_about(host)) {
                let has_tls = rule.spec.policies().any(TrafficPolicy::has_tls);
                // Their secrets are not made by service.
                self.gateways |= has_tls;
                if rule.spec.policies().any(TrafficPolicy::is_demanding) {
                    self.unsure.insert(host);
                }
                let has_hash = rule.spec.policies().any(TrafficPolicy::has_hash);
                let has_end = rule
                    .spec
                    .policies()
                    .any(TrafficPolicy::has_tcp_idle_timeout);
                let resaid = has_hash.then_some(Routing::Routes);
                let resaid = has_end.then_some(Routing::All).or(resaid);
                self.resaid = self.resaid.max(resaid);
            }
        }
        self.connections.extend(concerned);
    }

    /// What workloads of a namespace ask of those that connect: it is told with the endpoints of its services.
    fn of_mutual_tls(&mut self, namespace: &str, new: &'a Index) {
        let of_namespace = new.services.iter().filter(|(_, services)| {
            let mut services = services.iter();
            services.any(|service| service.meta.namespace == namespace)
        });
        self.connections.extend(of_namespace.map(|(host, _)| host));
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
        let endpoints = self.endpoints.keys().filter(|host| has_cluster(host));
        let connections = self.connections.iter().filter(|host| has_cluster(host));
        let connections: BTreeSet<&Host> = connections.copied().collect();
        let mut hosts = connections;
        hosts.extend(endpoints.copied());
        // Endpoints of headless services have listeners, with clusters or without.
        let pods = self.endpoints.keys().filter(|host| {
            let mut services = index.services_of(host).iter();
            proxy.interception.is_some() && services.any(Service::has_listeners_of_endpoints)
        });
        let mut pods = pods.peekable();
        let are_some_new = !self.services.is_empty();
        let wanted = match are_some_new || pods.peek().is_some() || !self.unsure.is_empty() {
            true => hosts_of(index, proxy),
            false => BTreeSet::new(),
        };
        if proxy.is_proxyless {
            // It is told of the clusters that it cannot take.
            hosts.extend(self.connections.iter().chain(self.endpoints.keys()));
        }
        let services = self.services.iter().chain(&self.unsure);
        hosts.extend(services.filter(|host| wanted.contains(*host)).copied());
        let rerouted = are_some_new || pods.any(|host| wanted.contains(*host));
        let rerouted = rerouted.then_some(Routing::All);
        let hosts = hosts.into_iter().collect();
        let routing = self.routing.iter();
        let routing = routing.filter(|(entry, _)| {
            let export_to = &entry.spec.export_to;
            export_to.reaches(&entry.meta.namespace, &proxy.namespace)
        });
        let is_concerned = |entry: &Entry<VirtualService>| match is_gateway {
            true => true,
            false => {
                entry.spec.gateways.contains(&GatewayRef::Mesh) && is_imported(index, proxy, entry)
            }
        };
        let routing = routing.filter(|(entry, _)| is_concerned(entry));
        let routing = routing.map(|(_, has_connections)| Routing::of(*has_connections, is_gateway));
        // Routes may lead to services that have no cluster.
        let routing = routing.chain(self.resaid).chain(rerouted).max();
        Stale::Some(hosts, routing.unwrap_or(Routing::Same))
    }
}

/// The VirtualServices that differ. One stands before another for a host that both are for, so that the rules of that one
/// come or go with it.
fn rerouted<'a>(
    old: &'a [Entry<VirtualService>],
    new: &'a [Entry<VirtualService>],
) -> Vec<(&'a Entry<VirtualService>, bool)> {
    let matches = |entry: &&Entry<VirtualService>| {
        let spec = &entry.spec;
        !spec.tls.is_empty() || !spec.tcp.is_empty() || leads_to_wildcards(spec)
    };
    let all = old.iter().chain(new);
    let hosts = all.filter(matches).flat_map(|entry| &entry.spec.hosts);
    let hosts: BTreeSet<&Host> = hosts.collect();
    let has_connections = |entry: &Entry<VirtualService>| {
        let overlaps = |own: &Host| {
            let mut hosts = hosts.iter();
            hosts.any(|host| host.covers(own) || own.covers(host))
        };
        entry.spec.hosts.iter().any(overlaps)
    };
    let entries = differing(old, new).into_iter();
    let entries = entries.map(|entry| (entry, has_connections(entry)));
    entries.collect()
}

/// Whether requests may go to services whose names are looked up, for which listeners have a filter.
fn leads_to_wildcards(spec: &VirtualService) -> bool {
    spec.http.iter().any(|rule| match &rule.action {
        Action::Route(destinations) => {
            let mut hosts = destinations.iter().map(|one| &one.destination.host);
            hosts.any(Host::is_wildcard)
        }
        Action::Respond(_) | Action::Redirect(_) | Action::Delegate(_) => false,
    })
}

/// Whether a sidecar may know a host of a VirtualService.
fn is_imported(index: &Index, proxy: &Proxy, entry: &Entry<VirtualService>) -> bool {
    let Some(sidecar) = index.sidecar_for(proxy) else {
        return true;
    };
    let egress = &sidecar.spec.egress;
    let is_known = |host: &Host| {
        let services = index.services_of(host).iter();
        let namespaces = services.map(|service| &service.meta.namespace);
        let mut namespaces: Vec<&String> = namespaces.collect();
        if namespaces.is_empty() {
            namespaces.push(&entry.meta.namespace);
        }
        let mut imports = egress.iter().flat_map(|listener| &listener.hosts);
        let covers = |import: &EgressHost| {
            let mut namespaces = namespaces.iter();
            namespaces.any(|namespace| import.covers(namespace, host))
        };
        host.is_wildcard() || imports.any(covers)
    };
    egress.is_empty() || entry.spec.hosts.iter().any(is_known)
}
