use std::collections::BTreeMap;
use std::time::Duration;

use crate::client_tls::ClientTls;
use crate::host::Host;
use crate::keepalive::TcpKeepalive;
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
    /// `portLevelSettings`: what holds for a port instead.
    pub ports: BTreeMap<u16, PortPolicy>,
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

/// `connectionPool`. `None` is no limit, or the mesh's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub max_connections: Option<u32>,
    /// `tcp.connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `http.http1MaxPendingRequests`.
    pub max_pending_requests: Option<u32>,
    /// `http.http2MaxRequests`: of both versions, in spite of its name.
    pub max_requests: Option<u32>,
    /// `http.maxConcurrentStreams` of one connection of HTTP/2.
    pub max_concurrent_streams: Option<u32>,
    /// `http.maxRetries`.
    pub max_retries: Option<u32>,
    /// `http.maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<u32>,
    /// `http.idleTimeout` of connections.
    pub idle_timeout: Option<Duration>,
    /// `tcp.maxConnectionDuration`.
    pub max_connection_duration: Option<Duration>,
    /// `tcp.tcpKeepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `http.http2KeepAlive`: how often a connection is probed, and how long it has to answer.
    pub keep_alive: Option<(Duration, Duration)>,
    /// `http.h2UpgradePolicy` and `http.useClientProtocol`.
    pub http_version: HttpVersion,
}

/// What is spoken to the workloads of a port of HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// What the port says.
    #[default]
    OfPort,
    /// HTTP/2 (`h2UpgradePolicy: UPGRADE`).
    Http2,
    /// What the client speaks (`useClientProtocol`).
    OfClient,
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
        "portLevelSettings",
    ],
    refused: &[
        ("tunnel", "there are no tunnels"),
        ("proxyProtocol", "the PROXY protocol is not spoken"),
    ],
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
            ports: PortPolicy::read_all(&object)?,
        })
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

impl ConnectionPool {
    fn read(view: &View<'_>) -> Option<Self> {
        const POOL: Shape = Shape {
            known: &["tcp", "http"],
            refused: &[],
        };
        const TCP: Shape = Shape {
            known: &[
                "maxConnections",
                "connectTimeout",
                "maxConnectionDuration",
                "tcpKeepalive",
            ],
            refused: &[(
                "idleTimeout",
                "idle connections of TCP are kept for one hour; for HTTP write `http.idleTimeout`",
            )],
        };
        const HTTP: Shape = Shape {
            known: &[
                "http1MaxPendingRequests",
                "http2MaxRequests",
                "h2UpgradePolicy",
                "useClientProtocol",
                "maxConcurrentStreams",
                "maxRequestsPerConnection",
                "maxRetries",
                "idleTimeout",
                "http2KeepAlive",
            ],
            refused: &[],
        };
        let pool = view.object(&POOL)?;
        let mut limits = Self::default();
        if let Some(tcp) = pool.get("tcp") {
            let tcp = tcp.object(&TCP)?;
            limits.max_connections = tcp.get("maxConnections").and_then(read_limit);
            if let Some(timeout) = tcp.get("connectTimeout") {
                let value = timeout.duration()?;
                if value < Duration::from_millis(1) {
                    timeout.fail("must be at least 1ms");
                    return None;
                }
                limits.connect_timeout = Some(value);
            }
            limits.max_connection_duration =
                tcp.optional("maxConnectionDuration", View::duration)?;
            limits.tcp_keepalive = tcp.optional("tcpKeepalive", TcpKeepalive::read)?;
        }
        if let Some(http) = pool.get("http") {
            let http = http.object(&HTTP)?;
            limits.max_pending_requests = http.get("http1MaxPendingRequests").and_then(read_limit);
            limits.max_requests = http.get("http2MaxRequests").and_then(read_limit);
            limits.max_concurrent_streams = http.get("maxConcurrentStreams").and_then(read_limit);
            limits.max_retries = http.get("maxRetries").and_then(read_limit);
            let per_connection = http.get("maxRequestsPerConnection");
            limits.max_requests_per_connection = per_connection.and_then(read_limit);
            limits.idle_timeout = http.optional("idleTimeout", View::duration)?;
            limits.keep_alive = http.optional("http2KeepAlive", read_keep_alive)?;
            limits.http_version = read_version(&http);
        }
        Some(limits)
    }
}

/// How often a connection is probed, and how long it has to answer.
fn read_keep_alive(view: &View<'_>) -> Option<(Duration, Duration)> {
    const KEEP_ALIVE: Shape = Shape {
        known: &["interval", "timeout"],
        refused: &[],
    };
    let object = view.object(&KEEP_ALIVE)?;
    let interval = object.require("interval")?.duration()?;
    Some((interval, object.require("timeout")?.duration()?))
}

fn read_version(http: &Object<'_>) -> HttpVersion {
    let policies = [
        ("DEFAULT", HttpVersion::OfPort),
        ("DO_NOT_UPGRADE", HttpVersion::OfPort),
        ("UPGRADE", HttpVersion::Http2),
    ];
    let policy = http.get("h2UpgradePolicy");
    let version = policy.and_then(|policy| policy.choice(&policies));
    // As in Istio, it makes the policy ineffective.
    match http.get("useClientProtocol").and_then(View::bool) {
        Some(true) => HttpVersion::OfClient,
        _ => version.unwrap_or_default(),
    }
}

/// As in Istio, 0 cannot be told from not saying.
fn read_limit(view: &View<'_>) -> Option<u32> {
    let limit = view.number(0, i64::from(i32::MAX))?;
    u32::try_from(limit).ok().filter(|limit| *limit > 0)
}
