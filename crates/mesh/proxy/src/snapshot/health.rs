//! How it is found out which endpoints are healthy.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `HealthCheck`: an endpoint is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `timeout` of one check.
    pub timeout: Duration,
    /// When checks follow each other.
    pub intervals: Intervals,
    /// `unhealthy_threshold`: so many failures in a row make it unhealthy.
    pub unhealthy_threshold: u32,
    /// `healthy_threshold`: so many successes in a row make it healthy again.
    pub healthy_threshold: u32,
    /// `alt_port`.
    pub port: Option<u16>,
    /// `reuse_connection`.
    pub reuses_connection: bool,
    /// What is asked.
    pub kind: HealthCheckKind,
}

/// When checks of one endpoint follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    /// `initial_jitter`: the first check comes within this time.
    pub initial_jitter: Duration,
    /// `interval`.
    pub usual: Duration,
    /// `no_traffic_interval`: for clusters that were never used.
    pub no_traffic: Duration,
    /// `no_traffic_healthy_interval`: the same, for healthy endpoints.
    pub no_traffic_healthy: Duration,
    /// `unhealthy_interval`: for endpoints that are not healthy.
    pub unhealthy: Duration,
    /// `unhealthy_edge_interval`: after a first failure.
    pub unhealthy_edge: Duration,
    /// `healthy_edge_interval`: after a first success.
    pub healthy_edge: Duration,
    /// `interval_jitter`: up to so much is added.
    pub jitter: Duration,
    /// `interval_jitter_percent` of the interval: up to so much more is added.
    pub jitter_percent: u32,
}

/// What a check asks an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheckKind {
    /// A request of HTTP.
    Http(HttpCheck),
    /// `grpc.health.v1.Health/Check`.
    Grpc(GrpcCheck),
    /// A TCP connection.
    Tcp(TcpCheck),
}

/// `HttpHealthCheck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// `host`; empty: the endpoint's host name, or else the cluster's name.
    pub host: String,
    /// `path`.
    pub path: String,
    /// `method`.
    pub method: &'static str,
    /// `request_headers_to_add`: names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// `expected_statuses`.
    pub expected: Vec<RangeInclusive<u16>>,
    /// `retriable_statuses`: failures that count up to the threshold, as those of the network do.
    pub retriable: Vec<RangeInclusive<u16>>,
    /// `receive`: parts of the body, in this order; empty: any body.
    pub receive: Vec<Vec<u8>>,
    /// How much of the body is looked at.
    pub response_buffer_size: usize,
    /// `codec_client_type: HTTP2`.
    pub is_http2: bool,
}

/// `GrpcHealthCheck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcCheck {
    /// `service_name`; empty is the server as a whole.
    pub service: String,
    /// `authority`; empty: the endpoint's host name, or else the cluster's name.
    pub authority: String,
    /// `initial_metadata`: names in lower case, and values.
    pub metadata: Vec<(String, String)>,
}

/// `TcpHealthCheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpCheck {
    /// `send`; empty: a connection is all that is asked for.
    pub send: Vec<u8>,
    /// `receive`: what must come, in this order.
    pub receive: Vec<Vec<u8>>,
}

/// `OutlierDetection`: an endpoint that fails too much is left out for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `consecutive_5xx`; zero is never.
    pub consecutive_5xx: u32,
    /// `consecutive_gateway_failure`; zero is never.
    pub consecutive_gateway_failure: u32,
    /// `consecutive_local_origin_failure`; zero is never.
    pub consecutive_local_origin_failure: u32,
    /// `split_external_local_origin_errors`.
    pub splits_origins: bool,
    /// `interval`.
    pub interval: Duration,
    /// `base_ejection_time`.
    pub base_ejection_time: Duration,
    /// `max_ejection_time`.
    pub max_ejection_time: Duration,
    /// `max_ejection_time_jitter`.
    pub max_ejection_time_jitter: Duration,
    /// `max_ejection_percent`.
    pub max_ejection_percent: u32,
    /// `always_eject_one_host`.
    pub always_ejects_one: bool,
    /// `enforcing_…`: the percentages of detections that lead to an ejection.
    pub enforcing: Enforcing,
    /// `success_rate_minimum_hosts`.
    pub success_rate_minimum_hosts: usize,
    /// `success_rate_request_volume`.
    pub success_rate_request_volume: u64,
    /// `success_rate_stdev_factor`, in thousandths.
    pub success_rate_stdev_factor: u32,
    /// `failure_percentage_threshold`.
    pub failure_percentage_threshold: u32,
    /// `failure_percentage_minimum_hosts`.
    pub failure_percentage_minimum_hosts: usize,
    /// `failure_percentage_request_volume`.
    pub failure_percentage_request_volume: u64,
    /// `successful_active_health_check_uneject_host`.
    pub check_unejects: bool,
}

/// In percent, how often a detection leads to an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcing {
    /// `enforcing_consecutive_5xx`.
    pub consecutive_5xx: u32,
    /// `enforcing_consecutive_gateway_failure`.
    pub consecutive_gateway_failure: u32,
    /// `enforcing_consecutive_local_origin_failure`.
    pub consecutive_local_origin_failure: u32,
    /// `enforcing_success_rate`.
    pub success_rate: u32,
    /// `enforcing_local_origin_success_rate`.
    pub local_origin_success_rate: u32,
    /// `enforcing_failure_percentage`.
    pub failure_percentage: u32,
    /// `enforcing_failure_percentage_local_origin`.
    pub failure_percentage_local_origin: u32,
}

/// Envoy's defaults.
impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            consecutive_local_origin_failure: 5,
            splits_origins: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_ejects_one: false,
            enforcing: Enforcing {
                consecutive_5xx: 100,
                consecutive_gateway_failure: 0,
                consecutive_local_origin_failure: 100,
                success_rate: 100,
                local_origin_success_rate: 100,
                failure_percentage: 0,
                failure_percentage_local_origin: 0,
            },
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            failure_percentage_threshold: 85,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            check_unejects: true,
        }
    }
}
