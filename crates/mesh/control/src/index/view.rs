//! What the routes of a sidecar depend on, and its clusters of services.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use periplus_resources::{Labels, LoadBalancer, LocalityBalancing, LocalityKind};

use super::{Index, MACHINE, Service};
use crate::proxy::{Proxy, Role};

/// Which labels of a client's workload somebody asks about.
#[derive(Debug, Default)]
pub(super) struct Asked {
    selectors: BTreeSet<Labels>,
    /// Those whose values are compared with the endpoints'.
    compared: BTreeSet<String>,
    /// Some services are those of their clients' machines.
    of_machines: bool,
}

impl Asked {
    pub(super) fn of(index: &Index) -> Self {
        let rules = index.rules().map(|entry| &entry.spec);
        let of_rules = rules.flat_map(|spec| {
            let requests = spec.http.iter().flat_map(|rule| &rule.matches);
            let connections = spec.tls.iter().chain(&spec.tcp);
            let connections = connections.flat_map(|rule| &rule.matches);
            let connections = connections.map(|condition| &condition.source_labels);
            requests
                .map(|condition| &condition.source_labels)
                .chain(connections)
        });
        let sidecars = index.sidecars.iter();
        let sidecars = sidecars.filter_map(|entry| entry.spec.selector.as_ref());
        let telemetries = index.telemetries.iter().map(|entry| &entry.spec.selector);
        let tokens = index.request_authentications.iter();
        let tokens = tokens.map(|entry| &entry.spec.selector);
        let connections = index.destination_rules.iter();
        let connections = connections.filter_map(|entry| entry.spec.selector.as_ref());
        let all = of_rules.chain(sidecars).chain(telemetries).chain(tokens);
        let all = all.chain(connections);
        Self {
            selectors: all.filter(|it| !it.is_empty()).cloned().collect(),
            compared: compared(index),
            of_machines: index.services().any(|service| service.is_of_machine),
        }
    }

    /// Whether it matters on which machine a client runs.
    pub(super) fn asks_for_machines(&self) -> bool {
        self.of_machines || self.compared.contains(MACHINE)
    }
}

/// The labels by which endpoints are preferred.
fn compared(index: &Index) -> BTreeSet<String> {
    let policies = index.destination_rules.iter().flat_map(|entry| {
        let subsets = entry.spec.subsets.iter().map(|subset| &subset.policy);
        std::iter::once(&entry.spec.policy).chain(subsets)
    });
    let balancers = policies.flat_map(|policy| {
        let ports = policy.ports.values();
        let ports = ports.filter_map(|port| port.load_balancer.as_ref());
        policy.load_balancer.iter().chain(ports)
    });
    let own = balancers.filter_map(|balancer: &LoadBalancer| balancer.locality.as_ref());
    let of_services = index.services().filter_map(Service::preference);
    let all = own.chain([&index.mesh.locality]).chain(of_services);
    let names = all.flat_map(|setting: &LocalityBalancing| match &setting.kind {
        LocalityKind::Labels(names) => names.as_slice(),
        _ => &[],
    });
    let names = names.map(|name| name.split_once('=').map_or(name.as_str(), |(name, _)| name));
    names.map(str::to_owned).collect()
}

impl Index {
    /// The machine of a proxy, if that matters.
    pub(crate) fn machine_of(&self, proxy: &Proxy) -> Option<String> {
        let machine = proxy.machine.clone();
        machine.filter(|_| self.asked.asks_for_machines())
    }

    /// A proxy that stands for all sidecars with the same routes and the same clusters of services: it has nothing of
    /// what these do not depend on. What is made for a client without a proxy, and for a gateway, is for it alone.
    pub(crate) fn view_of(&self, proxy: &Proxy) -> Option<Proxy> {
        if proxy.is_proxyless || proxy.role == Role::Router {
            return None;
        }
        let asked = self.asked.selectors.iter();
        let asked = asked.filter(|selector| proxy.is_selected_by(selector));
        let keys: BTreeSet<&String> = asked
            .flat_map(Labels::keys)
            .chain(&self.asked.compared)
            .collect();
        let labels = proxy.labels.iter().filter(|(key, _)| keys.contains(key));
        Some(Proxy {
            id: String::new(),
            role: proxy.role,
            ip: match proxy.ip {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            },
            interception: proxy.interception,
            cluster: String::new(),
            namespace: proxy.namespace.clone(),
            labels: labels
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            workload: String::new(),
            mesh_id: String::new(),
            cluster_id: proxy.cluster_id.clone(),
            locality: proxy.locality.clone(),
            machine: self.machine_of(proxy),
            counts_metrics: proxy.counts_metrics,
            is_proxyless: false,
            captures_dns: proxy.captures_dns,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use periplus_resources::{MeshConfig, parse_resources};

    use super::*;

    /// Whatever the names of namespaces are, and however old the Sidecars of others.
    #[test]
    fn of_the_sidecars_of_a_namespace_the_oldest_counts() {
        let mut text = String::new();
        for (namespace, name, year) in [
            ("m", "a", 2024),
            ("m", "b", 2022),
            ("z", "b", 2020),
            ("z", "a", 2026),
            ("a", "a", 2023),
            ("istio-system", "root", 2025),
        ] {
            let _ = write!(
                text,
                "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}, \
                 creationTimestamp: '{year}-01-01T00:00:00Z'}}\nspec: {{egress: [{{hosts: ['./*']}}]}}\n---\n"
            );
        }
        let parsed = parse_resources("a.yaml", &text);
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let index = Index::certified(&parsed.resources, MeshConfig::default());
        for (namespace, expected) in [("a", "a"), ("m", "b"), ("z", "b"), ("n", "root")] {
            let proxy = Proxy {
                id: String::new(),
                role: Role::Sidecar,
                ip: Ipv4Addr::LOCALHOST.into(),
                interception: None,
                cluster: String::new(),
                namespace: namespace.to_owned(),
                labels: Labels::new(),
                workload: String::new(),
                mesh_id: String::new(),
                cluster_id: String::new(),
                locality: periplus_resources::Locality::default(),
                machine: None,
                counts_metrics: false,
                is_proxyless: false,
                captures_dns: false,
            };
            let found = index
                .sidecar_for(&proxy)
                .map(|entry| entry.meta.name.as_str());
            assert_eq!(found, Some(expected), "{namespace}");
        }
    }
}
