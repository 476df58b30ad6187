//! Clusters and their endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Balancing, HealthCheck, Http2Options, Labels, OutlierDetection, Spread, TcpKeepalive,
    Transport, UpstreamProtocol,
};
use crate::balance::{Members, MembersCell};
use crate::call::Protocol;
use crate::http1::head::{Limits, MOST_FIELDS};

/// A compiled `Cluster` with its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name, the `upstream_cluster` tag.
    pub name: String,
    /// `alt_stat_name`, or the name: the `upstream_cluster.name` tag.
    pub observability_name: String,
    /// Its endpoints, healthy or not; none: 503, `UH`.
    pub endpoints: Vec<Endpoint>,
    /// The localities that the endpoints refer to; without any, all are of one.
    pub localities: Vec<Locality>,
    /// There is no list: each connection goes where its client wanted to go.
    pub original_destination: Option<OriginalDestination>,
    /// `upstream_bind_config`: the addresses that connections are made from, at most one of a family.
    pub sources: Vec<IpAddr>,
    /// `upstream_connection_options.tcp_keepalive`.
    pub keepalive: Option<TcpKeepalive>,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// `lb_policy`.
    pub balancing: Balancing,
    /// What all policies share.
    pub spread: Spread,
    /// `circuit_breakers`, per proxy.
    pub limits: ClusterLimits,
    /// `common_http_protocol_options.idle_timeout` of a pooled connection; Envoy's default is 1 h.
    pub idle_timeout: Option<Duration>,
    /// `max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `max_stream_duration`: the most time that an attempt may take.
    pub max_stream_duration: Option<Duration>,
    /// `max_response_headers_kb`, in bytes: the most of the head of a response.
    pub max_response_head_bytes: usize,
    /// `max_headers_count`: the most headers of one.
    pub max_response_headers: usize,
    /// `max_requests_per_connection`.
    pub max_requests_per_connection: Option<u32>,
    /// What its endpoints speak.
    pub protocol: UpstreamProtocol,
    /// `istio.services` of its metadata, of which the first counts.
    pub service: Option<ServiceName>,
    /// `istio.metadata_exchange`: connections of TCP begin with who is at both ends, where both agree on that.
    pub exchanges_peers: bool,
    /// `health_checks`, of which there may be one.
    pub health_check: Option<Arc<HealthCheck>>,
    /// `outlier_detection`.
    pub outlier_detection: Option<Arc<OutlierDetection>>,
    /// `ignore_health_on_host_removal`: else an endpoint that leaves stays for as long as it passes its checks.
    pub ignores_health_on_removal: bool,
    /// `close_connections_on_host_health_failure`.
    pub closes_on_failure: bool,
    /// How connections are made to where each client wanted to go; other endpoints have their own.
    pub transport: Transport,
    /// What is known of the endpoints now: the one part that changes.
    pub members: MembersCell,
}

impl Cluster {
    /// The limits of the heads of responses unless it says others; Envoy's default for the bytes.
    pub(crate) const RESPONSE_LIMITS: Limits = Limits {
        bytes: 60 * 1024,
        fields: MOST_FIELDS,
    };

    /// The limits of the heads of responses.
    #[inline]
    pub(crate) fn response_limits(&self) -> Limits {
        Limits {
            bytes: self.max_response_head_bytes,
            fields: self.max_response_headers,
        }
    }

    /// The options of HTTP/2, if its endpoints speak that to requests that came by `downstream`.
    pub(crate) fn http2(&self, downstream: Protocol) -> Option<Http2Options> {
        match self.protocol {
            UpstreamProtocol::Http1 => None,
            UpstreamProtocol::Http2(options) => Some(options),
            UpstreamProtocol::Downstream(options) => {
                (downstream == Protocol::Http2).then_some(options)
            }
        }
    }

    /// Its endpoints are the hosts that requests name.
    pub(crate) fn is_by_name(&self) -> bool {
        self.original_destination
            .is_some_and(|options| options.is_by_name)
    }

    /// What is known of the endpoints now.
    pub(crate) fn members(&self) -> &Arc<Members> {
        self.members.get(self)
    }
}

/// A static cluster without endpoints, with Envoy's defaults.
impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: String::new(),
            observability_name: String::new(),
            endpoints: Vec::new(),
            localities: Vec::new(),
            original_destination: None,
            sources: Vec::new(),
            keepalive: None,
            connect_timeout: Duration::from_secs(5),
            balancing: Balancing::RoundRobin,
            spread: Spread::default(),
            limits: ClusterLimits::default(),
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_stream_duration: None,
            max_response_head_bytes: Self::RESPONSE_LIMITS.bytes,
            max_response_headers: Self::RESPONSE_LIMITS.fields,
            max_requests_per_connection: None,
            protocol: UpstreamProtocol::Http1,
            service: None,
            exchanges_peers: false,
            health_check: None,
            outlier_detection: None,
            ignores_health_on_removal: false,
            closes_on_failure: false,
            transport: Transport::default(),
            members: MembersCell::default(),
        }
    }
}

/// What metrics call a service. Whatever is not known is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// `host`: `reviews.default.svc.cluster.local`.
    pub host: Box<str>,
    /// `name`: `reviews`.
    pub name: Box<str>,
    /// `namespace`: `default`.
    pub namespace: Box<str>,
}

impl ServiceName {
    /// Of these texts.
    pub fn new(host: &str, name: &str, namespace: &str) -> Self {
        Self {
            host: host.into(),
            name: name.into(),
            namespace: namespace.into(),
        }
    }
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    /// `hostname`, or the name that its address was looked up by; may be empty.
    pub hostname: String,
    /// Its weight; at least 1.
    pub weight: u32,
    /// `priority`: endpoints of a lower number go first.
    pub priority: u32,
    /// Which of the cluster's localities it is in.
    pub locality: usize,
    /// `health_status`.
    pub status: HostStatus,
    /// Its metadata of `envoy.lb`.
    pub labels: Labels,
    /// Its metadata `istio.workload`: who it is, in Istio's form.
    pub workload: Option<Arc<str>>,
    /// How connections to it are made.
    pub transport: Transport,
    /// `health_check_config`: where it is checked, if that is not at its address.
    pub check_address: Option<SocketAddr>,
    /// The host name for its checks; may be empty.
    pub check_hostname: String,
    /// `disable_active_health_check`.
    pub is_unchecked: bool,
}

impl Endpoint {
    /// A healthy endpoint of weight 1.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            hostname: String::new(),
            weight: 1,
            priority: 0,
            locality: 0,
            status: HostStatus::Healthy,
            labels: Labels::default(),
            workload: None,
            transport: Transport::default(),
            check_address: None,
            check_hostname: String::new(),
            is_unchecked: false,
        }
    }
}

/// Whether the control plane takes an endpoint for healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatus {
    /// `HEALTHY` or `UNKNOWN`.
    Healthy,
    /// `DEGRADED`: used when there are not enough healthy ones.
    Degraded,
    /// `UNHEALTHY` or `TIMEOUT`.
    Unhealthy,
    /// `DRAINING`.
    Draining,
}

/// A locality, at one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// `region`.
    pub region: String,
    /// `zone`.
    pub zone: String,
    /// `sub_zone`.
    pub sub_zone: String,
    /// `load_balancing_weight`; zero if it has none.
    pub weight: u32,
}

/// Options of a cluster that has no list of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalDestination {
    /// Where a client wants to go is what the name says that it asks for (`dynamic_forward_proxy`); else it is the address
    /// that it has connected to (ORIGINAL_DST).
    pub is_by_name: bool,
    /// `upstream_port_override`: in place of the client's.
    pub port: Option<u16>,
    /// `cleanup_interval`: how long a connection that nobody uses is kept.
    pub cleanup_interval: Duration,
}

/// Circuit breakers of the two priorities that routes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterLimits {
    /// `DEFAULT`.
    pub default: Thresholds,
    /// `HIGH`.
    pub high: Thresholds,
    /// `per_host_thresholds`: the most connections to one endpoint.
    pub connections_per_host: Option<u32>,
}

impl ClusterLimits {
    /// No limit at all, as Istio has it.
    pub const UNLIMITED: Self = Self {
        default: Thresholds::UNLIMITED,
        high: Thresholds::UNLIMITED,
        connections_per_host: None,
    };

    /// The thresholds for requests of a priority.
    pub(crate) fn of(&self, is_high: bool) -> &Thresholds {
        if is_high { &self.high } else { &self.default }
    }
}

/// Circuit breaker thresholds; Envoy's defaults are 1024 each, Istio's 2^32-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_pending_requests`.
    pub max_pending_requests: u32,
    /// `max_requests`.
    pub max_requests: u32,
    /// `max_retries`; Envoy's default is 3.
    pub max_retries: u32,
    /// `retry_budget`: in place of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
    /// `track_remaining`: the statistics tell how much is left.
    pub tracks_remaining: bool,
}

/// `RetryBudget`: how many retries there may be for the requests that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// `budget_percent`, of a million.
    pub per_million: u32,
    /// `min_retry_concurrency`: so many in any case.
    pub least: u32,
}

impl RetryBudget {
    /// The most retries while so many requests are under way or wait.
    pub(crate) fn most(self, requests: u32) -> u32 {
        let share = u64::from(self.per_million) * u64::from(requests) / 1_000_000;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.least)
    }
}

impl Thresholds {
    /// No limit at all.
    pub const UNLIMITED: Self = Self {
        max_connections: u32::MAX,
        max_pending_requests: u32::MAX,
        max_requests: u32::MAX,
        max_retries: u32::MAX,
        retry_budget: None,
        tracks_remaining: false,
    };
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
            tracks_remaining: false,
        }
    }
}
