use std::time::Duration;

use crate::keepalive::TcpKeepalive;
use crate::view::{Object, Shape, View};

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
    /// `tcp.idleTimeout` of connections of which requests are not seen; zero is never.
    pub tcp_idle_timeout: Option<Duration>,
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

impl ConnectionPool {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        const POOL: Shape = Shape {
            known: &["tcp", "http"],
            refused: &[],
        };
        const TCP: Shape = Shape {
            known: &[
                "maxConnections",
                "connectTimeout",
                "maxConnectionDuration",
                "idleTimeout",
                "tcpKeepalive",
            ],
            refused: &[],
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
            limits.tcp_idle_timeout = tcp.optional("idleTimeout", View::duration)?;
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
        // As in Istio.
        limits.idle_timeout = limits.idle_timeout.or(limits.tcp_idle_timeout);
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
