use periplus_resources::{DestinationRule, Host, Labels, Subset, TrafficPolicy, VirtualService};

use super::{Entry, Index, Service};
use crate::proxy::is_subset;

/// All that DestinationRules say about a host, for the proxies of one namespace.
#[derive(Clone, Debug, Default)]
pub struct ConnectionRules {
    /// How to connect.
    pub policy: TrafficPolicy,
    /// The subsets.
    pub subsets: Vec<Subset>,
    /// The resource that it comes from first, as Kubernetes' path.
    pub origin: Option<String>,
}

impl ConnectionRules {
    /// What holds for a port of a subset, or of all workloads.
    pub fn policy_of(&self, subset: Option<&Subset>, port: u16) -> TrafficPolicy {
        let of_all = self.policy.of_port(port);
        match subset {
            Some(subset) => subset.policy.or(&of_all).of_port(port),
            None => of_all,
        }
    }
}

impl Index {
    /// The rules for a service, as a client in `namespace` sees them: those of its own namespace, else of the service's,
    /// else of the root namespace; the most specific host wins, then rules for workloads with its labels, and rules for
    /// the same host and workloads add up. Of nobody's labels, those that hold for all come first.
    pub fn connection_rules(
        &self,
        (namespace, labels): (&str, Option<&Labels>),
        service: &Service,
    ) -> ConnectionRules {
        let root = self.mesh().root_namespace.as_str();
        let places = [namespace, &service.meta.namespace, root];
        let is_for = |rule: &Entry<DestinationRule>| match (&rule.spec.selector, labels) {
            (None, _) | (Some(_), None) => true,
            (Some(selector), Some(labels)) => {
                rule.meta.namespace == namespace && is_subset(selector, labels)
            }
        };
        let found = places.into_iter().find_map(|place| {
            let candidates = self.rules_about(&service.host).filter(|rule| {
                rule.meta.namespace == place
                    && rule.spec.export_to.reaches(place, namespace)
                    && rule.spec.host.covers(&service.host)
                    && is_for(rule)
            });
            highest(candidates, |rule| {
                let is_wanted = rule.spec.selector.is_some() == labels.is_some();
                (rule.spec.host.specificity(), is_wanted)
            })
        });
        let Some(first) = found else {
            return ConnectionRules::default();
        };
        let same_host = self.rules_about(&service.host).filter(|rule| {
            rule.meta.namespace == first.meta.namespace
                && rule.spec.host == first.spec.host
                && rule.spec.export_to == first.spec.export_to
                && rule.spec.selector == first.spec.selector
        });
        merge(same_host)
    }

    /// The DestinationRules that may cover a host.
    pub(super) fn rules_about(&self, host: &Host) -> impl Iterator<Item = &Entry<DestinationRule>> {
        let places = self.ruled.places(host);
        places.filter_map(|place| self.destination_rules.get(place))
    }

    /// All routing rules, in whatever form they are written.
    pub fn rules(&self) -> impl Iterator<Item = &Entry<VirtualService>> {
        let lowered = &self.gateway_api().rules;
        self.virtual_services().iter().chain(lowered)
    }

    /// The rules for requests to a port of a service, as the sidecars of a namespace have them: those of Gateway API, or
    /// else those of one VirtualService.
    pub(crate) fn rules_for_requests(
        &self,
        namespace: &str,
        host: &Host,
        port: u16,
    ) -> Vec<&Entry<VirtualService>> {
        let by_istio = self.mesh_routing(namespace, host);
        // One without rules for requests leaves them alone.
        let by_istio = by_istio.filter(|entry| !entry.spec.http.is_empty());
        // A route goes before a VirtualService for wider hosts only.
        let is_for_host = |entry: &&Entry<VirtualService>| entry.spec.hosts.contains(host);
        let by_api = self.mesh_routes(namespace, host, port);
        match by_api.is_empty() || by_istio.filter(is_for_host).is_some() {
            true => by_istio.into_iter().collect(),
            false => by_api,
        }
    }

    /// The resources with rules for requests and connections to a service, as the sidecars of a namespace have them.
    pub fn rules_of_service(
        &self,
        namespace: &str,
        service: &Service,
    ) -> Vec<&Entry<VirtualService>> {
        let ports = service.ports().iter();
        let of_requests =
            ports.flat_map(|port| self.rules_for_requests(namespace, &service.host, port.number));
        let of_connections = self.mesh_routing(namespace, &service.host);
        let of_connections =
            of_connections.filter(|entry| !entry.spec.tls.is_empty() || !entry.spec.tcp.is_empty());
        let mut all: Vec<&Entry<VirtualService>> = Vec::new();
        for entry in of_requests.chain(of_connections) {
            if !all.iter().any(|other| std::ptr::eq(*other, entry)) {
                all.push(entry);
            }
        }
        all
    }

    /// The VirtualService that routes a host for the sidecars of a namespace. Only one does: the most
    /// specific, and of those the one in the proxy's own namespace, then by namespace and name.
    pub fn mesh_routing(&self, namespace: &str, host: &Host) -> Option<&Entry<VirtualService>> {
        let covering = |entry: &Entry<VirtualService>| {
            let hosts = entry.spec.hosts.iter().filter(|own| own.covers(host));
            hosts.map(Host::specificity).max()
        };
        let places = self.routed.places(host);
        let entries = places.filter_map(|place| self.virtual_services.get(place));
        let visible = entries.filter(|entry| {
            entry
                .spec
                .gateways
                .contains(&periplus_resources::GatewayRef::Mesh)
                && entry
                    .spec
                    .export_to
                    .reaches(&entry.meta.namespace, namespace)
        });
        let mut best: Option<(_, &Entry<VirtualService>)> = None;
        for entry in visible {
            let Some(specificity) = covering(entry) else {
                continue;
            };
            let rank = (specificity, entry.meta.namespace == namespace);
            if best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, entry));
            }
        }
        best.map(|(_, entry)| entry)
    }
}

/// The first of those with the highest rank.
fn highest<'a, T, R: Ord>(
    entries: impl Iterator<Item = &'a T>,
    rank: impl Fn(&T) -> R,
) -> Option<&'a T> {
    let mut best: Option<&T> = None;
    for entry in entries {
        if best.is_none_or(|other| rank(entry) > rank(other)) {
            best = Some(entry);
        }
    }
    best
}

/// The first policy that says anything counts, and each subset once.
fn merge<'a>(rules: impl Iterator<Item = &'a Entry<DestinationRule>>) -> ConnectionRules {
    let mut merged = ConnectionRules::default();
    for rule in rules {
        if merged.policy == TrafficPolicy::default() {
            merged.policy = rule.spec.policy.clone();
        }
        for subset in &rule.spec.subsets {
            if !merged.subsets.iter().any(|known| known.name == subset.name) {
                merged.subsets.push(subset.clone());
            }
        }
        let path = || crate::generate::config_path(&rule.meta);
        merged.origin.get_or_insert_with(path);
    }
    merged
}
