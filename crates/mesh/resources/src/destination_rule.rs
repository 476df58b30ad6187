use std::collections::BTreeMap;

use crate::client_tls::ClientTls;
use crate::connection_pool::ConnectionPool;
use crate::host::Host;
use crate::load_balancer::{LoadBalancer, LoadBalancing};
use crate::meta::{ExportTo, Labels};
use crate::outlier_detection::OutlierDetection;
use crate::target::read_selected;
use crate::view::{Object, Shape, View, first_duplicate};

/// Subsets of a host's workloads, and how to connect to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRule {
    /// The host, or a wildcard; a short name is resolved already.
    pub host: Host,
    /// How to connect.
    pub policy: TrafficPolicy,
    /// The subsets.
    pub subsets: Vec<Subset>,
    /// Who sees it.
    pub export_to: ExportTo,
    /// The callers that it is for, of its own namespace: it stands in place of what holds for all.
    pub selector: Option<Labels>,
}

/// A part of a host's workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// The labels that its workloads have.
    pub labels: Labels,
    /// How to connect; each part that it says replaces the rule's.
    pub policy: TrafficPolicy,
}

/// How to connect to a host. `None` is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// How to choose a workload.
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// When a workload that fails is left alone.
    pub outlier_detection: Option<OutlierDetection>,
    /// How many retries there may be for the requests that are under way.
    pub retry_budget: Option<RetryBudget>,
    /// How connections are secured; the mesh decides if nothing is said.
    pub tls: Option<ClientTls>,
    /// `proxyProtocol`: connections begin with a header of the PROXY protocol in this version.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `portLevelSettings`: what holds for a port instead.
    pub ports: BTreeMap<u16, PortPolicy>,
}

/// The versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// As text.
    V1,
    /// In bytes.
    V2,
}

/// How to connect to a port of a host; nothing of it comes from the policy of the other ports. `None` is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPolicy {
    /// How to choose a workload.
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// When a workload that fails is left alone.
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are secured; the mesh decides if nothing is said.
    pub tls: Option<ClientTls>,
}

/// `retryBudget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// `percent` of the requests, in millionths.
    pub per_million: u32,
    /// `minRetryConcurrency`: so many in any case.
    pub least: u32,
}

impl DestinationRule {
    /// What it says of the host, and of its subsets.
    pub fn policies(&self) -> impl Iterator<Item = &TrafficPolicy> {
        let subsets = self.subsets.iter().map(|subset| &subset.policy);
        std::iter::once(&self.policy).chain(subsets)
    }
}

impl TrafficPolicy {
    /// Whether it says how connections are secured, be it for one port.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some() || self.ports.values().any(|port| port.tls.is_some())
    }

    /// Whether workloads are chosen by what requests have, be it for one port.
    pub fn has_hash(&self) -> bool {
        let mut kinds = self.balancing();
        kinds.any(|kind| matches!(kind, LoadBalancing::Hash(..)))
    }

    /// Whether it says how connections are secured or begin, so that some may have none.
    pub fn is_demanding(&self) -> bool {
        self.has_tls() || self.proxy_protocol.is_some() || self.has_passthrough()
    }

    /// Whether it says when idle connections of TCP end, be it for one port.
    pub fn has_tcp_idle_timeout(&self) -> bool {
        let ports = self.ports.values().filter_map(|port| port.connection_pool);
        let mut pools = self.connection_pool.into_iter().chain(ports);
        pools.any(|pool| pool.tcp_idle_timeout.is_some())
    }

    /// Whether clients say themselves where their connections go, be it for one port.
    pub fn has_passthrough(&self) -> bool {
        let mut kinds = self.balancing();
        kinds.any(|kind| *kind == LoadBalancing::Passthrough)
    }

    /// How workloads are chosen, in general and for ports.
    fn balancing(&self) -> impl Iterator<Item = &LoadBalancing> {
        let ports = self.ports.values();
        let ports = ports.filter_map(|port| port.load_balancer.as_ref());
        self.load_balancer.iter().chain(ports).map(|one| &one.kind)
    }

    /// This policy, with what it does not say taken from another.
    #[must_use]
    pub fn or(&self, base: &Self) -> Self {
        Self {
            load_balancer: self.load_balancer.clone().or(base.load_balancer.clone()),
            connection_pool: self.connection_pool.or(base.connection_pool),
            outlier_detection: self.outlier_detection.or(base.outlier_detection),
            retry_budget: self.retry_budget.or(base.retry_budget),
            tls: self.tls.clone().or(base.tls.clone()),
            proxy_protocol: self.proxy_protocol.or(base.proxy_protocol),
            ports: self.ports.clone(),
        }
    }

    /// What holds for a port: where something is said for it, that alone (as in Istio, but for `retryBudget`).
    #[must_use]
    pub fn of_port(&self, port: u16) -> Self {
        let mut policy = self.clone();
        policy.ports.clear();
        if let Some(own) = self.ports.get(&port).cloned() {
            policy.load_balancer = own.load_balancer;
            policy.connection_pool = own.connection_pool;
            policy.outlier_detection = own.outlier_detection;
            policy.tls = own.tls;
        }
        policy
    }
}

const DESTINATION_RULE: Shape = Shape {
    known: &[
        "host",
        "trafficPolicy",
        "subsets",
        "exportTo",
        "workloadSelector",
    ],
    refused: &[],
};

const TRAFFIC_POLICY: Shape = Shape {
    known: &[
        "loadBalancer",
        "connectionPool",
        "outlierDetection",
        "retryBudget",
        "tls",
        "proxyProtocol",
        "portLevelSettings",
    ],
    refused: &[(
        "tunnel",
        "proxies put no connections into requests of HTTP, send them to a gateway that is reached directly",
    )],
};

impl DestinationRule {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&DESTINATION_RULE)?;
        let host = object.require("host").and_then(View::host);
        let policy = match object.get("trafficPolicy") {
            Some(policy) => TrafficPolicy::read(policy),
            None => Some(TrafficPolicy::default()),
        };
        let items = object.items("subsets");
        let subsets: Vec<_> = items.iter().filter_map(Subset::read).collect();
        if let Some(subset) = first_duplicate(&subsets, |subset| subset.name.clone()) {
            object.fail(format!("subset `{}` is defined twice", subset.name));
        }
        Some(Self {
            host: host?.resolve(namespace),
            policy: policy?,
            subsets,
            export_to: ExportTo::read(&object),
            selector: object.optional("workloadSelector", read_selected)?,
        })
    }
}

impl Subset {
    fn read(view: &View<'_>) -> Option<Self> {
        const SUBSET: Shape = Shape {
            known: &["name", "labels", "trafficPolicy"],
            refused: &[],
        };
        let object = view.object(&SUBSET)?;
        let name = object.require("name")?;
        let text = name.some_text()?;
        // It becomes part of a cluster's name, in which `|` separates.
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            name.fail(format!("`{text}`: use letters, digits, `-`, `_` and `.`"));
            return None;
        }
        let policy = object
            .optional("trafficPolicy", TrafficPolicy::read)?
            .unwrap_or_default();
        Some(Self {
            name: text,
            labels: object.get("labels").map(View::text_map).unwrap_or_default(),
            policy,
        })
    }
}

impl TrafficPolicy {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&TRAFFIC_POLICY)?;
        Some(Self {
            load_balancer: object.optional("loadBalancer", LoadBalancer::read)?,
            connection_pool: object.optional("connectionPool", ConnectionPool::read)?,
            outlier_detection: object.optional("outlierDetection", OutlierDetection::read)?,
            retry_budget: object.optional("retryBudget", RetryBudget::read)?,
            tls: object.optional("tls", ClientTls::read)?,
            proxy_protocol: object.optional("proxyProtocol", ProxyProtocol::read)?,
            ports: PortPolicy::read_all(&object)?,
        })
    }
}

impl ProxyProtocol {
    fn read(view: &View<'_>) -> Option<Self> {
        const PROXY_PROTOCOL: Shape = Shape {
            known: &["version"],
            refused: &[],
        };
        let object = view.object(&PROXY_PROTOCOL)?;
        let version = object.optional("version", |view| {
            view.choice(&[("V1", Self::V1), ("V2", Self::V2)])
        })?;
        Some(version.unwrap_or(Self::V1))
    }
}

impl PortPolicy {
    fn read_all(policy: &Object<'_>) -> Option<BTreeMap<u16, Self>> {
        const SETTINGS: Shape = Shape {
            known: &[
                "port",
                "loadBalancer",
                "connectionPool",
                "outlierDetection",
                "tls",
            ],
            refused: &[],
        };
        const PORT: Shape = Shape {
            known: &["number"],
            refused: &[],
        };
        let mut all = BTreeMap::new();
        for view in policy.items("portLevelSettings") {
            let object = view.object(&SETTINGS)?;
            let number = object.require("port")?.object(&PORT)?;
            let number = number.require("number")?.port()?;
            let own = Self {
                load_balancer: object.optional("loadBalancer", LoadBalancer::read)?,
                connection_pool: object.optional("connectionPool", ConnectionPool::read)?,
                outlier_detection: object.optional("outlierDetection", OutlierDetection::read)?,
                tls: object.optional("tls", ClientTls::read)?,
            };
            if all.insert(number, own).is_some() {
                view.fail(format!("port {number} has settings already"));
                return None;
            }
        }
        Some(all)
    }
}

impl RetryBudget {
    fn read(view: &View<'_>) -> Option<Self> {
        const BUDGET: Shape = Shape {
            known: &["percent", "minRetryConcurrency"],
            refused: &[],
        };
        let object = view.object(&BUDGET)?;
        let percent = object.optional("percent", View::percent)?.unwrap_or(20.0);
        Some(Self {
            per_million: (percent * 10_000.0).round() as u32,
            least: object
                .optional("minRetryConcurrency", View::u32)?
                .unwrap_or(3),
        })
    }
}
