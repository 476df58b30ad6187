use std::time::Duration;

use crate::host::Host;
use crate::meta::{ExportTo, Labels};
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
    pub load_balancing: Option<LoadBalancing>,
    /// How many connections and requests.
    pub connection_pool: Option<ConnectionPool>,
}

impl TrafficPolicy {
    /// This policy, with what it does not say taken from another.
    #[must_use]
    pub fn or(&self, base: &Self) -> Self {
        Self {
            load_balancing: self.load_balancing.or(base.load_balancing),
            connection_pool: self.connection_pool.or(base.connection_pool),
        }
    }
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalancing {
    /// `LEAST_REQUEST`, Istio's default.
    LeastRequest,
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `RANDOM`.
    Random,
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
    known: &["host", "trafficPolicy", "subsets", "exportTo"],
    refused: &[(
        "workloadSelector",
        "the rule holds for all callers, there are no rules for some of them yet",
    )],
};

const TRAFFIC_POLICY: Shape = Shape {
    known: &["loadBalancer", "connectionPool", "tls"],
    refused: &[
        ("outlierDetection", "failing workloads are not ejected yet"),
        (
            "portLevelSettings",
            "give the policy for all ports of the host",
        ),
        ("tunnel", "there are no tunnels"),
        ("proxyProtocol", "the PROXY protocol is not spoken"),
        ("retryBudget", "requests are not retried yet"),
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
        if let Some(tls) = object.get("tls") {
            read_tls(tls);
        }
        let load_balancing = object.optional("loadBalancer", LoadBalancing::read)?;
        let connection_pool = object.optional("connectionPool", ConnectionPool::read)?;
        Some(Self {
            load_balancing,
            connection_pool,
        })
    }
}

impl LoadBalancing {
    fn read(view: &View<'_>) -> Option<Self> {
        const BALANCER: Shape = Shape {
            known: &["simple"],
            refused: &[
                (
                    "consistentHash",
                    "there is no consistent hashing yet, use `simple`",
                ),
                (
                    "localityLbSetting",
                    "there is no locality load balancing yet",
                ),
                ("warmup", "new workloads get their full share at once"),
                (
                    "warmupDurationSecs",
                    "new workloads get their full share at once",
                ),
            ],
        };
        let object = view.object(&BALANCER)?;
        let simple = object.require("simple")?;
        let choice = simple.choice(&[
            ("LEAST_REQUEST", Some(Self::LeastRequest)),
            ("ROUND_ROBIN", Some(Self::RoundRobin)),
            ("RANDOM", Some(Self::Random)),
            ("LEAST_CONN", Some(Self::LeastRequest)),
            ("UNSPECIFIED", Some(Self::LeastRequest)),
            ("PASSTHROUGH", None),
        ])?;
        if choice.is_none() {
            simple.fail("PASSTHROUGH needs traffic interception, which is not supported yet");
        }
        choice
    }
}

impl ConnectionPool {
    fn read(view: &View<'_>) -> Option<Self> {
        const POOL: Shape = Shape {
            known: &["tcp", "http"],
            refused: &[],
        };
        const TCP: Shape = Shape {
            known: &["maxConnections", "connectTimeout"],
            refused: &[
                ("tcpKeepalive", "the system's defaults are used"),
                (
                    "maxConnectionDuration",
                    "connections have no end of life yet",
                ),
                ("idleTimeout", "idle connections are kept for one hour"),
            ],
        };
        const HTTP: Shape = Shape {
            known: &[
                "http1MaxPendingRequests",
                "http2MaxRequests",
                "h2UpgradePolicy",
                "useClientProtocol",
                "maxConcurrentStreams",
            ],
            refused: &[
                (
                    "maxRequestsPerConnection",
                    "connections have no end of life yet",
                ),
                ("maxRetries", "requests are not retried yet"),
                ("idleTimeout", "idle connections are kept for one hour"),
                ("http2KeepAlive", "connections are not probed yet"),
            ],
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
        }
        if let Some(http) = pool.get("http") {
            let http = http.object(&HTTP)?;
            limits.max_pending_requests = http.get("http1MaxPendingRequests").and_then(read_limit);
            limits.max_requests = http.get("http2MaxRequests").and_then(read_limit);
            limits.max_concurrent_streams = http.get("maxConcurrentStreams").and_then(read_limit);
            limits.http_version = read_version(&http);
        }
        Some(limits)
    }
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

/// There is no TLS yet, which users may also say.
fn read_tls(view: &View<'_>) {
    const REASON: &str = "proxies do not speak TLS to each other yet, remove it";
    const TLS: Shape = Shape {
        known: &["mode"],
        refused: &[
            ("clientCertificate", REASON),
            ("privateKey", REASON),
            ("caCertificates", REASON),
            ("credentialName", REASON),
            ("subjectAltNames", REASON),
            ("sni", REASON),
            ("insecureSkipVerify", REASON),
            ("caCrl", REASON),
        ],
    };
    let Some(mode) = view
        .object(&TLS)
        .and_then(|tls| tls.require("mode").cloned())
    else {
        return;
    };
    let modes = [
        ("DISABLE", true),
        ("SIMPLE", false),
        ("MUTUAL", false),
        ("ISTIO_MUTUAL", false),
    ];
    if mode.choice(&modes) == Some(false) {
        let name = mode.text().unwrap_or_default();
        mode.fail(format!(
            "`{name}` is not supported: {REASON}, or write DISABLE"
        ));
    }
}
