use std::sync::{Arc, LazyLock};

use periplus_resources::{
    Endpoints, Host, Kind, LocalityBalancing, LocalityKind, Meta, Port, Resolution, ServiceEntry,
    WorkloadEntry, is_token,
};

use super::{Entry, in_namespace};
use crate::proxy::{Proxy, is_subset};

/// One host of a ServiceEntry with the workloads behind it.
#[derive(Clone, Debug)]
pub struct Service {
    /// The ServiceEntry that it comes from.
    pub meta: Meta,
    /// Its full name.
    pub host: Host,
    /// What it says.
    pub spec: ServiceEntry,
    /// The workloads that serve it.
    pub endpoints: Arc<[WorkloadEntry]>,
    /// `internalTrafficPolicy: Local`: of these, clients know those of their own machine only.
    pub is_of_machine: bool,
}

/// What `istio.io/persistent-session` and its like say: how clients stay with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session<'a> {
    /// By a cookie of this name and path.
    Cookie { name: &'a str, path: &'a str },
    /// By a header.
    Header(&'a str),
}

/// Labels of services that ask for sessions: of cookies, and of headers.
pub(super) const SESSION_LABELS: [&str; 2] = [
    "istio.io/persistent-session",
    "istio.io/persistent-session-header",
];

/// The annotation that says which endpoints are preferred, as `trafficDistribution` of Kubernetes' Services.
pub(super) const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// Labels that clients and endpoints have in common if they are close, as in Istio.
const OF_ZONES: [&str; 3] = [
    "topology.istio.io/network",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OF_MACHINES: [&str; 2] = ["topology.istio.io/subzone", MACHINE];

/// The label of a machine's name.
pub(crate) const MACHINE: &str = "kubernetes.io/hostname";

/// What a service may prefer.
pub(super) const PREFERENCES: [&str; 4] =
    ["PreferClose", "PreferSameZone", "PreferSameNode", "Any"];

/// What is preferred, whether or not endpoints are looked at for failures.
static SAME_ZONE: LazyLock<LocalityBalancing> = LazyLock::new(|| balancing(&[]));
static SAME_MACHINE: LazyLock<LocalityBalancing> = LazyLock::new(|| balancing(&OF_MACHINES));

fn balancing(more: &[&str]) -> LocalityBalancing {
    let labels = OF_ZONES.iter().chain(more);
    LocalityBalancing {
        enabled: Some(true),
        kind: LocalityKind::Labels(labels.map(|label| (*label).to_owned()).collect()),
    }
}

/// A workload with its name.
pub(super) fn named(entry: &Entry<WorkloadEntry>) -> WorkloadEntry {
    WorkloadEntry {
        name: entry.meta.name.clone(),
        ..entry.spec.clone()
    }
}

impl Service {
    /// Which endpoints its clients prefer, if it says so.
    pub(crate) fn preference(&self) -> Option<&LocalityBalancing> {
        match self.meta.annotations.get(TRAFFIC_DISTRIBUTION)?.as_str() {
            "PreferClose" | "PreferSameZone" => Some(&SAME_ZONE),
            "PreferSameNode" => Some(&SAME_MACHINE),
            _ => None,
        }
    }

    /// How its clients stay with the endpoint that had their first request, if they do. A cookie goes before a header,
    /// and what has no possible name asks for nothing.
    pub(crate) fn session(&self) -> Option<Session<'_>> {
        let [cookie, header] = SESSION_LABELS.map(|label| self.meta.labels.get(label));
        if let Some(cookie) = cookie.filter(|cookie| !cookie.is_empty()) {
            let (name, path) = cookie.split_once(':').unwrap_or((cookie, "/"));
            return is_token(name).then_some(Session::Cookie { name, path });
        }
        let name = header.filter(|name| is_token(name))?;
        Some(Session::Header(name))
    }

    pub(super) fn of(entry: &Entry<ServiceEntry>, workloads: &[Entry<WorkloadEntry>]) -> Vec<Self> {
        let is_dns = entry.spec.resolution.is_dns();
        let endpoints = match &entry.spec.endpoints {
            Endpoints::Listed(listed) => Arc::clone(listed),
            Endpoints::Selected(selector) => in_namespace(workloads, &entry.meta.namespace)
                .iter()
                .filter(|workload| is_subset(selector, &workload.spec.labels))
                // What is not looked up cannot be a name; that is told with the problems.
                .filter(|workload| is_dns || workload.spec.address.ip().is_some())
                .map(named)
                .collect(),
        };
        let hosts = entry.spec.hosts.iter();
        hosts
            .map(|host| Self {
                meta: entry.meta.clone(),
                host: host.clone(),
                spec: entry.spec.clone(),
                endpoints: endpoints.clone(),
                is_of_machine: false,
            })
            .collect()
    }

    /// Whether an endpoint is for a client: as in Istio, a service of machines is for those that run there.
    pub(crate) fn is_for(&self, proxy: &Proxy, endpoint: &WorkloadEntry) -> bool {
        !self.is_of_machine || proxy.machine.is_none() || proxy.machine == endpoint.machine
    }

    /// Whether its endpoints stand in its clusters, because some are to be looked up: EDS has addresses only.
    pub(crate) fn has_names(&self) -> bool {
        let mut endpoints = self.endpoints.iter();
        match self.spec.resolution {
            Resolution::Static | Resolution::OfClient | Resolution::DynamicDns => false,
            Resolution::Dns => endpoints.any(|one| one.address.ip().is_none()),
            Resolution::DnsRoundRobin => endpoints.next().is_some(),
        }
    }

    /// Whether proxies look its names up as somebody asks for them.
    pub(crate) fn is_looked_up(&self) -> bool {
        self.spec.resolution == Resolution::DynamicDns
    }

    /// What metrics call it, as in Istio: its name in Kubernetes, or its host. A host of Kubernetes' form stands for what
    /// Kubernetes would call by its first word.
    pub(crate) fn name(&self) -> &str {
        if self.meta.kind == Kind::Service {
            return &self.meta.name;
        }
        let host = self.host.as_str();
        let of_kubernetes = host.split_once('.').filter(|(_, rest)| {
            let rest = rest.strip_prefix(&*self.meta.namespace);
            rest.is_some_and(|rest| rest.starts_with(".svc."))
        });
        of_kubernetes.map_or(host, |(first, _)| first)
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port] {
        &self.spec.ports
    }

    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports().iter().find(|port| port.number == number)
    }

    /// The number of its only port.
    pub fn only_port(&self) -> Option<u16> {
        match self.ports() {
            [port] => Some(port.number),
            _ => None,
        }
    }

    /// Whether Kubernetes gives its clients the addresses of its pods, and no address of its own.
    pub(crate) fn is_headless(&self) -> bool {
        self.meta.kind == Kind::Service && self.spec.resolution == Resolution::OfClient
    }

    /// Whether there are listeners at the addresses of its endpoints, for clients whose connections are intercepted.
    pub(super) fn has_listeners_of_endpoints(&self) -> bool {
        let mut ports = self.ports().iter();
        self.is_headless() && ports.any(|port| !port.protocol.is_http())
    }

    /// Whether a proxy may know of it.
    pub fn is_visible_in(&self, namespace: &str) -> bool {
        let export_to = &self.spec.export_to;
        export_to.reaches(&self.meta.namespace, namespace)
    }

    /// The service's port that a proxy's workload serves on its own port `target`.
    pub(crate) fn port_served_by(&self, proxy: &Proxy, target: u16) -> Option<&Port> {
        self.own(proxy).find_map(|endpoint| {
            let mut ports = self.ports().iter();
            ports.find(|port| endpoint.target_port(port) == target)
        })
    }

    /// The port on which a proxy's workload serves the service's port `number`.
    pub(crate) fn port_behind(&self, proxy: &Proxy, number: u16) -> Option<u16> {
        let port = self.port(number)?;
        let mut own = self.own(proxy);
        own.next().map(|endpoint| endpoint.target_port(port))
    }

    /// The ports of a proxy's workload that stand behind the service's.
    pub(super) fn ports_at(&self, proxy: &Proxy) -> Vec<u16> {
        let of = |endpoint: &WorkloadEntry| {
            let ports = self.ports().iter();
            ports
                .map(|port| endpoint.target_port(port))
                .collect::<Vec<_>>()
        };
        self.own(proxy).flat_map(of).collect()
    }

    /// The endpoints that are a proxy's workload.
    fn own(&self, proxy: &Proxy) -> impl Iterator<Item = &WorkloadEntry> {
        self.endpoints.iter().filter(|endpoint| {
            endpoint.address.ip() == Some(proxy.ip) && is_subset(&endpoint.labels, &proxy.labels)
        })
    }
}
