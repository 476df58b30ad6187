//! What the proxy runs on: xDS resources, checked and compiled into plain data.
//!
//! A [`Snapshot`] is immutable. The configuration side (`config`) builds a new one whenever
//! resources change and publishes it with `arc-swap`; each worker picks it up at its next request,
//! and a request that is under way keeps the one that it began with. Nothing here does I/O.
//!
//! Clusters and route tables are shared by `Arc` with the snapshots before and after, as long as
//! they do not change: a worker keys its own state (pools, load balancing) by cluster name and
//! notices a change by `Arc::ptr_eq`.

mod balancing;
mod chain_match;
mod client_cert;
mod cluster;
mod condition;
mod edit;
mod field;
mod filter;
mod forward;
mod health;
mod inspection;
mod limit;
mod listener;
mod names;
mod paths;
mod pattern;
mod protocol;
mod retry;
mod session;
mod transport;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use crate::balance::MembersCell;
use crate::telemetry::log::Template;

pub use self::balancing::{
    Balancing, Fallback, Labels, LeastRequest, PeakEwma, RingHash, RingHashFunction, Selector,
    SlowStart, Spread, Subsets,
};
pub use self::chain_match::{ChainMatch, Cidr, SourceType};
pub(crate) use self::chain_match::{Ends, select};
pub use self::client_cert::{CertDetails, ClientCert, ForwardClientCert};
pub use self::cluster::{
    Cluster, ClusterLimits, Endpoint, HostStatus, Locality, OriginalDestination, RetryBudget,
    ServiceName, Thresholds,
};
pub use self::condition::{Conditions, QueryMatch};
pub use self::edit::{
    Addition, AddressPart, AppendAction, Command, Edits, FieldEdits, Format, HostRewrite, Part,
    PathRewrite, Redirect, Rewrite,
};
pub use self::field::FieldName;
pub(crate) use self::field::RequestField;
pub(crate) use self::filter::overlay;
pub use self::filter::{
    AbortAnswer, Cors, Fault, FaultAbort, FaultDelay, Filter, HealthFilter, HttpFilter, PerFilter,
    PerFilters, Required, Share,
};
pub(crate) use self::forward::choose;
pub use self::forward::{
    Cookie, Forward, HashPolicy, HashSource, Mirror, MirrorHost, Upgrade, WeightedCluster,
};
pub use self::health::{
    Enforcing, GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, Intervals, OutlierDetection,
    TcpCheck,
};
pub(crate) use self::inspection::Sniffed;
pub use self::inspection::{FilterKind, Inspection, ListenerFilter, PortPredicate};
pub use self::limit::{
    Descriptor, LimitAction, LimitField, LimitRule, OfHost, RateLimit, RouteLimits, TokenBucket,
    Wildcard,
};
pub use self::listener::{Backoff, Exempt, FilterChain, Listener, Service, SocketKind, TcpProxy};
pub use self::names::NameCache;
pub use self::paths::{EscapedSlashes, Paths};
pub(crate) use self::pattern::whole;
pub use self::pattern::{Pattern, Replacement};
pub use self::protocol::{
    Codec, GrpcTimeouts, Http2Options, Keepalive, TcpKeepalive, UpstreamProtocol,
};
pub use self::retry::{BackOff, RateLimited, ResetHeader, RetryOn, RetryPolicy};
pub use self::session::{Session, SessionBy, Wanted};
pub use self::transport::{ChainTls, EndpointTls, ProxyVersion, Transport};
pub use crate::policy::authz::{Authz, BodyRule, CheckSettings};
pub use crate::policy::jwt::Jwt;
pub use crate::policy::{ConnectionRules, Rbac};
pub use crate::telemetry::{AccessLog, LogCollector, MetricRules, Peer};
pub use crate::tls::{ClientTls, ServerTls};

/// One consistent configuration of the whole proxy.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with each published configuration.
    pub generation: u64,
    /// The listeners, each with its connection manager.
    pub listeners: Vec<Arc<Listener>>,
    /// The clusters by name.
    pub clusters: HashMap<String, Arc<Cluster>>,
}

/// Who this proxy is: the `node` of the bootstrap, as the telemetry needs it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `node.id`, the `node_id` tag.
    pub id: String,
    /// `node.cluster`: the service name of Zipkin spans.
    pub cluster: String,
    /// `node.locality.zone`, the `zone` tag.
    pub zone: String,
    /// The workload that `node.metadata` describes in Istio's words: whose metrics the proxy counts. None
    /// without `NAMESPACE`.
    pub workload: Option<Peer>,
}

/// Envoy's `TrafficDirection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Not said: spans are of kind SERVER.
    Unspecified,
    /// Requests to this workload: spans are of kind SERVER.
    Inbound,
    /// Requests from this workload, or through a gateway: spans are of kind CLIENT, unless each
    /// attempt has a span of its own.
    Outbound,
}

/// Envoy's `HttpConnectionManager`, as far as it is supported.
#[derive(Clone, Debug)]
pub struct ConnectionManager {
    /// `stat_prefix`.
    pub stat_prefix: String,
    /// The routes; `None` until the named route configuration has arrived (requests then get 404,
    /// `NR`, as from Envoy while it warms).
    pub routes: Option<Arc<RouteTable>>,
    /// The tracer; without one, ids are generated but context passes through untouched.
    pub tracing: Option<Tracing>,
    /// `use_remote_address`: this is an edge (gateway), the peer is the client.
    pub use_remote_address: bool,
    /// `generate_request_id`.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`.
    pub always_set_request_id_in_response: bool,
    /// `server_name`: the response's `server` header (Envoy's default is `envoy`).
    pub server_name: String,
    /// `server_header_transformation`.
    pub server_header: ServerHeader,
    /// `max_request_headers_kb` in bytes.
    pub max_request_head_bytes: usize,
    /// `common_http_protocol_options.max_headers_count`.
    pub max_headers: usize,
    /// `common_http_protocol_options.idle_timeout` of a downstream connection.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration` of a downstream connection.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection` of a downstream connection.
    pub max_requests_per_connection: Option<u32>,
    /// `stream_idle_timeout`.
    pub stream_idle_timeout: Option<Duration>,
    /// `request_headers_timeout`: the slowloris guard.
    pub request_headers_timeout: Option<Duration>,
    /// `request_timeout`: until the whole request is there.
    pub request_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
    /// What is done with `x-forwarded-client-cert`.
    pub client_cert: ClientCert,
    /// What is done to paths first of all.
    pub paths: Paths,
    /// The filters before the router.
    pub filters: Vec<HttpFilter>,
    /// `codec_type`.
    pub codec: Codec,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// `upgrade_configs`.
    pub upgrades: Vec<Upgrade>,
    /// `access_log`.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// What is wanted of Istio's metrics (`stats.PluginConfig`).
    pub metrics: Option<Arc<MetricRules>>,
}

impl ConnectionManager {
    /// One with Envoy's defaults, and with these routes.
    pub fn new(stat_prefix: impl Into<String>, routes: Option<Arc<RouteTable>>) -> Self {
        Self {
            stat_prefix: stat_prefix.into(),
            routes,
            tracing: None,
            use_remote_address: false,
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            server_name: "envoy".to_owned(),
            server_header: ServerHeader::Overwrite,
            max_request_head_bytes: 60 * 1024,
            max_headers: 100,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_requests_per_connection: None,
            stream_idle_timeout: Some(Duration::from_secs(300)),
            request_headers_timeout: None,
            request_timeout: None,
            max_stream_duration: None,
            client_cert: ClientCert::default(),
            paths: Paths::default(),
            filters: Vec::new(),
            codec: Codec::Auto,
            http2: Http2Options::default(),
            upgrades: Vec::new(),
            access_logs: Vec::new(),
            metrics: None,
        }
    }
}

/// Envoy's `ServerHeaderTransformation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHeader {
    /// Replace the upstream's.
    Overwrite,
    /// Set it if the upstream sent none.
    AppendIfAbsent,
    /// Leave it.
    PassThrough,
}

/// `HttpConnectionManager.Tracing` with its provider.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// The tracer.
    pub provider: TracingProvider,
    /// `client_sampling`, in units of 0.01 %.
    pub client_sampling: u32,
    /// `random_sampling`, in units of 0.01 %.
    pub random_sampling: u32,
    /// `overall_sampling`, in units of 0.01 %.
    pub overall_sampling: u32,
    /// `spawn_upstream_span`: SERVER for the request and a CLIENT child for each attempt.
    pub spawn_upstream_span: bool,
    /// `max_path_tag_length`, bytes of path and query in `http.url`.
    pub max_path_tag_length: usize,
    /// Custom tags, applied last, in this order.
    pub custom_tags: Vec<CustomTag>,
}

/// Where spans go, and which context format goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracingProvider {
    /// `envoy.config.trace.v3.ZipkinConfig`: B3 on the wire.
    Zipkin {
        /// `collector_cluster`.
        cluster: String,
        /// `collector_endpoint`: the path.
        path: String,
        /// `collector_hostname`, or the cluster's name.
        host: String,
        /// `trace_id_128bit`.
        trace_id_128bit: bool,
        /// `shared_span_context`.
        shared_span_context: bool,
        /// `trace_context_option: USE_B3_WITH_W3C_PROPAGATION`.
        with_w3c: bool,
        /// `collector_endpoint_version: HTTP_PROTO`, else JSON.
        is_proto: bool,
        /// The lines of the fields that each report has besides.
        fields: Vec<u8>,
    },
    /// `envoy.config.trace.v3.OpenTelemetryConfig`: W3C context on the wire.
    OpenTelemetry {
        /// The cluster of `http_service.http_uri` or `grpc_service`.
        cluster: String,
        /// The path of `http_service.http_uri`, or of the method.
        path: String,
        /// The authority of `http_service.http_uri` or `grpc_service`.
        host: String,
        /// `service_name`.
        service_name: String,
        /// That of `http_service.http_uri` or `grpc_service`.
        timeout: Duration,
        /// Over gRPC.
        is_grpc: bool,
        /// `sampler`: in place of the connection manager's shares.
        sampler: Option<Sampler>,
        /// The lines of the fields that each report has besides.
        fields: Vec<u8>,
        /// What `resource_detectors` have found.
        resource: Vec<(String, String)>,
    },
}

/// What decides about requests in place of the shares of the connection manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Who has a caller is sampled if the caller is (`ParentBasedSamplerConfig`).
    pub is_parent_based: bool,
    /// The others are sampled by their trace ids, so many of so many (`TraceIdRatioBasedSamplerConfig`); all of them
    /// without it (`AlwaysOnSamplerConfig`).
    pub ratio: Option<(u32, u32)>,
}

/// `envoy.type.tracing.v3.CustomTag`.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomTag {
    /// The tag's name; replaces a built-in tag of the same name.
    pub name: String,
    /// Where its value comes from.
    pub value: CustomTagValue,
}

/// Where the value of a custom tag comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomTagValue {
    /// A fixed text; `environment` tags are resolved to one when they are compiled.
    Literal(String),
    /// What a filter has found out about the request, with what to use when it has not.
    Metadata {
        /// The filter.
        filter: String,
        /// The keys of the value, from the outside.
        path: Vec<String>,
        /// Used when there is no value; without one, the tag is left out.
        default: Option<String>,
    },
    /// A request header, with what to use when it is absent.
    RequestHeader {
        /// The header's name, lower case.
        name: String,
        /// Used when the header is absent; without one, the tag is left out.
        default: Option<String>,
    },
    /// What a format string makes of the request; empty, the tag is left out.
    Format(TagFormat),
}

/// A format string with the operators of access logs.
#[derive(Clone, Debug, PartialEq)]
pub struct TagFormat(pub(crate) Template);

/// A compiled `RouteConfiguration`.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Its xDS name.
    pub name: String,
    /// `ignore_port_in_host_matching`.
    pub ignore_port: bool,
    /// Exact domains, lower case, to an index into `virtual_hosts`.
    pub exact: HashMap<String, usize>,
    /// Domains `*.suffix`, longest first: (the suffix with its dot, index).
    pub suffixes: Vec<(String, usize)>,
    /// Domains `prefix.*`, longest first: (the prefix with its dot, index).
    pub prefixes: Vec<(String, usize)>,
    /// The virtual host of domain `*`.
    pub any: Option<usize>,
    /// What requests without a route want of filters.
    pub filters: PerFilters,
    /// The virtual hosts.
    pub virtual_hosts: Vec<VirtualHost>,
}

impl RouteTable {
    /// The clusters that its routes lead to.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        let hosts = self.virtual_hosts.iter();
        let routes = hosts.flat_map(|host| &host.routes);
        let forwards = routes.filter_map(|route| match &route.action {
            RouteAction::Forward(forward) => Some(forward),
            RouteAction::Respond { .. } | RouteAction::Redirect(_) => None,
        });
        forwards.flat_map(|forward| {
            let choices = forward.clusters.iter().map(|choice| &*choice.name);
            let mirrors = forward.mirrors.iter().map(|mirror| &*mirror.cluster);
            choices.chain(mirrors)
        })
    }
}

/// A compiled `VirtualHost`.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name.
    pub name: String,
    /// `include_request_attempt_count`.
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response`.
    pub include_attempt_count_in_response: bool,
    /// The routes; the first that matches wins.
    pub routes: Vec<Arc<Route>>,
}

impl VirtualHost {
    /// One with nothing but routes.
    pub fn new(name: impl Into<String>, routes: Vec<Arc<Route>>) -> Self {
        Self {
            name: name.into(),
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            routes,
        }
    }
}

/// A compiled `Route`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name; may be empty.
    pub name: String,
    /// The path condition.
    pub path: PathMatch,
    /// Conditions on headers; all must hold. `:method` and `:authority` are allowed names.
    pub headers: Vec<HeaderMatch>,
    /// Conditions that few routes have.
    pub conditions: Option<Box<Conditions>>,
    /// What to do.
    pub action: RouteAction,
    /// What is changed about heads; that of the virtual host and of all routes included.
    pub edits: Option<Box<Edits>>,
    /// What is wanted of filters; what its virtual host and all routes want included.
    pub filters: Option<Box<PerFilters>>,
    /// `decorator.operation`, and whether it is propagated.
    pub decorator: Option<Decorator>,
    /// How its requests are traced, in place of what the connection manager says.
    pub tracing: Option<Box<RouteTracing>>,
}

/// A route's `Tracing`.
#[derive(Clone, Debug)]
pub struct RouteTracing {
    /// `client_sampling`, in units of 0.01 %.
    pub client_sampling: u32,
    /// `random_sampling`, in units of 0.01 %.
    pub random_sampling: u32,
    /// `overall_sampling`, in units of 0.01 %.
    pub overall_sampling: u32,
    /// Custom tags, over those of the connection manager.
    pub custom_tags: Vec<CustomTag>,
}

impl Tracing {
    /// The same with what a route says.
    pub(crate) fn of_route(&self, route: &RouteTracing) -> Self {
        let is_replaced =
            |tag: &CustomTag| route.custom_tags.iter().any(|own| own.name == tag.name);
        let kept = self.custom_tags.iter().filter(|tag| !is_replaced(tag));
        Self {
            client_sampling: route.client_sampling,
            random_sampling: route.random_sampling,
            overall_sampling: route.overall_sampling,
            custom_tags: kept.chain(&route.custom_tags).cloned().collect(),
            ..self.clone()
        }
    }
}

impl Route {
    /// One with nothing but a condition on the path.
    pub fn new(path: PathMatch, action: RouteAction) -> Self {
        Self {
            name: String::new(),
            path,
            headers: Vec::new(),
            conditions: None,
            action,
            edits: None,
            filters: None,
            decorator: None,
            tracing: None,
        }
    }
}

/// `Decorator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decorator {
    /// The span name.
    pub operation: String,
    /// Whether the other side is told.
    pub propagate: bool,
}

/// The condition on a path, without its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The path begins with this text.
    Prefix(String),
    /// The path is this text.
    Exact(String),
    /// The path is this text or continues it with a slash (`path_separated_prefix`).
    PathSeparatedPrefix(String),
    /// The whole path matches.
    Regex(Pattern),
    /// `connect_matcher`: the request is a CONNECT. No other condition matches one.
    Connect,
    /// `case_sensitive: false`: one of the conditions on text, letters in either case.
    IgnoringCase(Box<PathMatch>),
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name.
    pub name: FieldName,
    /// The condition on its value.
    pub value: ValueMatch,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_is_empty: bool,
}

/// The condition on a header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// The header is there.
    Present,
    /// It equals this text.
    Exact(String),
    /// It begins with this text.
    Prefix(String),
    /// It ends with this text.
    Suffix(String),
    /// It contains this text.
    Contains(String),
    /// The whole value matches.
    Regex(Pattern),
    /// It is a number from the first to, and without, the second.
    Range(i64, i64),
    /// `ignore_case`: one of the conditions on text, letters in either case.
    IgnoringCase(Box<ValueMatch>),
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// Forward to a cluster.
    Forward(Forward),
    /// Answer directly.
    Respond {
        /// The status code.
        status: u16,
        /// The body; may be empty.
        body: String,
    },
    /// Answer with a redirection.
    Redirect(Redirect),
}
