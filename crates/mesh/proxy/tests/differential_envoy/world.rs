//! The configuration that both proxies get: the same but for the addresses of their own.

#![expect(
    deprecated,
    reason = "control planes still send the older forms of some fields"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::trace::v3 as trace;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::samplers::v3::AlwaysOnSamplerConfig;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::tracing::v3 as tag;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{self, BoolValue, UInt32Value};
use envoy_types::util::pack_any;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};

pub(crate) use crate::http2_options::http2_options;
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener, manager, path_prefix, route_configuration,
    to_cluster,
};
use crate::xds_support::{dead_address, free_address};
use crate::{access_logs, filters, rules};

/// The listeners, by what they show.
pub(crate) const LISTENERS: [&str; 18] = [
    "outbound",
    "inbound",
    "gateway",
    "shared",
    "w3c",
    "tags",
    "unsampled",
    "untraced",
    "edge",
    "otlp_outbound",
    "otlp_inbound",
    "otlp_always",
    "otlp_never",
    "otlp_gateway",
    "rules",
    "rules_gateway",
    "rules_specific",
    "rules_timed",
];

/// The addresses of one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) listeners: BTreeMap<&'static str, SocketAddr>,
    pub(crate) origin: SocketAddr,
    pub(crate) collector: SocketAddr,
    pub(crate) nobody: SocketAddr,
    pub(crate) http2_origin: SocketAddr,
    /// Where the access log is.
    pub(crate) log: PathBuf,
}

/// What lines of the access log tell of each request; the first is by which it is found.
pub(crate) const LOGGED: [&str; 24] = [
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)",
    "REQ(:METHOD)",
    "REQ(:AUTHORITY)",
    "REQ(X-FORWARDED-FOR)",
    "REQ(USER-AGENT)",
    "PROTOCOL",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "RESPONSE_CODE_DETAILS",
    "CONNECTION_TERMINATION_DETAILS",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "RESP(CONTENT-TYPE)",
    "UPSTREAM_HOST",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "ROUTE_NAME",
    "FILTER_CHAIN_NAME",
];

/// Between the parts of a line of the access log.
pub(crate) const BETWEEN: char = '\t';

fn access_log(file: &Path) -> AccessLog {
    let operators = LOGGED.map(|operator| format!("%{operator}%"));
    let line = operators.join(&BETWEEN.to_string()) + "\n";
    let (directory, name) = (file.parent(), file.file_name());
    let directory = directory.expect("a directory");
    let name = name.and_then(|name| name.to_str()).expect("UTF-8");
    access_logs::in_file(directory, name, access_logs::text(&line))
}

impl Addresses {
    pub(crate) async fn new(
        origin: SocketAddr,
        http2_origin: SocketAddr,
        collector: SocketAddr,
        log: PathBuf,
    ) -> Self {
        let mut listeners = BTreeMap::new();
        for name in LISTENERS {
            listeners.insert(name, free_address().await);
        }
        Self {
            listeners,
            origin,
            collector,
            nobody: dead_address(),
            http2_origin,
            log,
        }
    }
}

pub(crate) fn snapshot(addresses: &Addresses) -> Snapshot {
    let clusters = [
        "origin", "v2", "h2", "brief", "refused", "empty", "zipkin", "otel", "pair",
    ];
    let at = |name: &str| match name {
        "origin" | "v2" | "brief" => vec![addresses.origin],
        "h2" => vec![addresses.http2_origin],
        "refused" => vec![addresses.nobody],
        "pair" => vec![addresses.nobody, addresses.origin],
        "zipkin" | "otel" => vec![addresses.collector],
        _ => Vec::new(),
    };
    let listeners = LISTENERS.map(|name| {
        let (direction, manager) = listener_kind(name);
        let manager = HttpConnectionManager {
            access_log: vec![access_log(&addresses.log)],
            ..manager
        };
        Resource::new(
            name,
            &listener(name, addresses.listeners[name], direction, manager),
        )
    });
    Snapshot::default()
        .with(
            CLUSTER,
            clusters
                .map(|name| {
                    eds_cluster(name, |cluster| {
                        if name == "h2" {
                            cluster.typed_extension_protocol_options = http2_options();
                        }
                        if name == "brief" {
                            cluster.common_http_protocol_options = filters::briefly();
                        }
                    })
                })
                .into_iter()
                .collect(),
        )
        .with(
            ENDPOINT,
            clusters
                .map(|name| match name {
                    "origin" | "h2" => rules::named_endpoints(name, &at(name)),
                    _ => endpoints(name, &at(name)),
                })
                .into_iter()
                .collect(),
        )
        .with(LISTENER, ResourceSet::from_iter(listeners))
        .with(
            ROUTE,
            ResourceSet::from_iter([
                route_configuration("routes", routes()),
                rules::configuration("rules"),
                rules::configuration("specific_rules"),
            ]),
        )
}

fn listener_kind(name: &str) -> (TrafficDirection, HttpConnectionManager) {
    use TrafficDirection::{Inbound, Outbound};
    let routes = match name {
        "rules" | "rules_gateway" | "rules_timed" => "rules",
        "rules_specific" => "specific_rules",
        _ => "routes",
    };
    let mut bare = manager(routes);
    if routes != "routes" {
        let mut all = vec![filters::filter(rules::FAULT, HttpFault::default())];
        all.extend(filters::all());
        bare.http_filters.splice(0..0, all);
    }
    let with = |tracing: Option<Tracing>| HttpConnectionManager {
        tracing,
        delayed_close_timeout: shortly(),
        ..bare.clone()
    };
    let edge = |tracing: Option<Tracing>| HttpConnectionManager {
        use_remote_address: yes(),
        ..with(tracing)
    };
    match name {
        "outbound" | "rules" | "rules_specific" => (Outbound, with(traced(zipkin(|_| {})))),
        "rules_timed" => (Outbound, filters::with_times(with(traced(zipkin(|_| {}))))),
        "inbound" => (Inbound, with(traced(zipkin(|_| {})))),
        "gateway" | "rules_gateway" => (Outbound, edge(spawning(zipkin(|_| {})))),
        "edge" => {
            let mut manager = edge(traced(zipkin(|_| {})));
            manager.always_set_request_id_in_response = true;
            manager.preserve_external_request_id = true;
            (Inbound, manager)
        }
        "shared" => {
            let shared = zipkin(|config| {
                config.shared_span_context = yes();
                config.trace_id_128bit = false;
            });
            (Inbound, with(traced(shared)))
        }
        "w3c" => (
            Outbound,
            with(traced(zipkin(|config| config.trace_context_option = 1))),
        ),
        "tags" => (Inbound, with(traced(zipkin(|_| {})).map(with_tags))),
        "unsampled" => {
            let never = |tracing: Tracing| Tracing {
                random_sampling: Some(Percent { value: 0.0 }),
                ..tracing
            };
            (Inbound, with(traced(zipkin(|_| {})).map(never)))
        }
        "untraced" => (Outbound, with(None)),
        "otlp_outbound" => (Outbound, with(traced(open_telemetry()))),
        "otlp_inbound" => (Inbound, with(traced(open_telemetry()))),
        "otlp_always" => (Outbound, with(traced(always_on()))),
        "otlp_never" => {
            let never = |tracing: Tracing| Tracing {
                random_sampling: Some(Percent { value: 0.0 }),
                ..tracing
            };
            (Outbound, with(traced(always_on()).map(never)))
        }
        "otlp_gateway" => (Outbound, edge(spawning(open_telemetry()))),
        other => panic!("no listener {other}"),
    }
}

pub(crate) fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

/// Zipkin's tracing of everything.
pub(crate) fn zipkin_tracing() -> Option<Tracing> {
    traced(zipkin(|_| {}))
}

/// How long Envoy waits before it closes after an answer of its own, else a second.
pub(crate) fn shortly() -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: 0,
        nanos: 10_000_000,
    })
}

pub(crate) fn traced(provider: trace::tracing::Http) -> Option<Tracing> {
    Some(Tracing {
        provider: Some(provider),
        ..Tracing::default()
    })
}

fn spawning(provider: trace::tracing::Http) -> Option<Tracing> {
    Some(Tracing {
        provider: Some(provider),
        spawn_upstream_span: yes(),
        ..Tracing::default()
    })
}

fn with_tags(tracing: Tracing) -> Tracing {
    let tag = |name: &str, value| tag::CustomTag {
        tag: name.to_owned(),
        r#type: Some(value),
    };
    let header = |name: &str, default: &str| {
        tag::custom_tag::Type::RequestHeader(tag::custom_tag::Header {
            name: name.to_owned(),
            default_value: default.to_owned(),
        })
    };
    let literal = tag::custom_tag::Literal {
        value: "fixed".to_owned(),
    };
    let environment = tag::custom_tag::Environment {
        name: "PERIPLUS_SURELY_NOT_SET".to_owned(),
        default_value: "unset".to_owned(),
    };
    Tracing {
        max_path_tag_length: Some(UInt32Value { value: 30 }),
        custom_tags: vec![
            tag("literal", tag::custom_tag::Type::Literal(literal)),
            tag(
                "environment",
                tag::custom_tag::Type::Environment(environment),
            ),
            tag("from-header", header("x-tag", "")),
            tag("from-default", header("x-other", "default")),
            tag("http.method", header("x-method", "")),
            tag(
                "formatted",
                tag::custom_tag::Type::Value(
                    "%REQ(:METHOD)% %RESPONSE_CODE% %RESP(x-none)%%REQ(x-none)%%ROUTE_NAME%"
                        .to_owned(),
                ),
            ),
            tag(
                "formatted-none",
                tag::custom_tag::Type::Value("%REQ(x-none)%".to_owned()),
            ),
            tag(
                "formatted-code",
                tag::custom_tag::Type::Value("%RESP(:STATUS)%".to_owned()),
            ),
        ],
        ..tracing
    }
}

fn zipkin(change: impl FnOnce(&mut trace::ZipkinConfig)) -> trace::tracing::Http {
    let mut config = trace::ZipkinConfig {
        collector_cluster: "zipkin".to_owned(),
        collector_endpoint: "/api/v2/spans".to_owned(),
        collector_endpoint_version: 1,
        trace_id_128bit: true,
        shared_span_context: Some(BoolValue { value: false }),
        ..Default::default()
    };
    change(&mut config);
    trace::tracing::Http {
        name: "envoy.tracers.zipkin".to_owned(),
        config_type: Some(trace::tracing::http::ConfigType::TypedConfig(pack_any(
            config,
        ))),
    }
}

/// With a sampler that takes everything.
fn always_on() -> trace::tracing::Http {
    open_telemetry_by(Some(core::TypedExtensionConfig {
        name: "always".to_owned(),
        typed_config: Some(pack_any(AlwaysOnSamplerConfig::default())),
    }))
}

pub(crate) fn open_telemetry() -> trace::tracing::Http {
    open_telemetry_by(None)
}

fn open_telemetry_by(sampler: Option<core::TypedExtensionConfig>) -> trace::tracing::Http {
    let config = trace::OpenTelemetryConfig {
        sampler,
        http_service: Some(core::HttpService {
            http_uri: Some(core::HttpUri {
                uri: "http://otel/v1/traces".to_owned(),
                timeout: Some(protobuf::Duration {
                    seconds: 5,
                    nanos: 0,
                }),
                http_upstream_type: Some(HttpUpstreamType::Cluster("otel".to_owned())),
            }),
            ..Default::default()
        }),
        service_name: "test.default".to_owned(),
        ..Default::default()
    };
    trace::tracing::Http {
        name: "envoy.tracers.opentelemetry".to_owned(),
        config_type: Some(trace::tracing::http::ConfigType::TypedConfig(pack_any(
            config,
        ))),
    }
}

pub(crate) fn routes() -> Vec<route::Route> {
    let to = |prefix: &str, cluster: &str| a_route(path_prefix(prefix), to_cluster(cluster));
    let named = |mut route: route::Route, operation: &str, propagate: bool| {
        route.decorator = Some(route::Decorator {
            operation: operation.to_owned(),
            propagate: Some(BoolValue { value: propagate }),
        });
        route
    };
    let mut for_jason = path_prefix("/");
    for_jason.headers.push(route::HeaderMatcher {
        name: "end-user".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact("jason".to_owned())),
            ignore_case: false,
        })),
        ..Default::default()
    });
    let mut weighted = to_cluster("");
    weighted.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
        clusters: [("origin", 0), ("v2", 100)]
            .map(|(name, weight)| ClusterWeight {
                name: name.to_owned(),
                weight: Some(UInt32Value { value: weight }),
                ..Default::default()
            })
            .to_vec(),
        ..Default::default()
    }));
    let mut slow = to_cluster("origin");
    slow.timeout = Some(protobuf::Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    let time = |seconds, nanos| Some(protobuf::Duration { seconds, nanos });
    let mut h2_slow = to_cluster("h2");
    h2_slow.timeout = time(0, 100_000_000);
    let mut grpc_limit = to_cluster("h2");
    grpc_limit.max_grpc_timeout = time(0, 200_000_000);
    let mut grpc_stream = to_cluster("h2");
    grpc_stream.timeout = time(0, 0);
    grpc_stream.max_stream_duration = Some(route::route_action::MaxStreamDuration {
        grpc_timeout_header_max: time(0, 0),
        ..Default::default()
    });
    let direct = route::Route {
        r#match: Some(path_prefix("/direct")),
        action: Some(Action::DirectResponse(route::DirectResponseAction {
            status: 418,
            body: Some(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(
                    "short and stout".to_owned(),
                )),
                ..Default::default()
            }),
            ..Default::default()
        })),
        ..Default::default()
    };
    vec![
        named(a_route(for_jason, to_cluster("v2")), "jason:80/*", true),
        named(to("/decorated", "origin"), "origin:80/*", true),
        named(to("/private", "origin"), "private:80/*", false),
        named(to("/operation", "origin"), "origin:80/*", true),
        a_route(path_prefix("/weighted"), weighted),
        a_route(path_prefix("/slow"), slow),
        direct,
        a_route(path_prefix("/h2/slow"), h2_slow),
        to("/h2", "h2"),
        a_route(path_prefix("/grpc-limit"), grpc_limit),
        a_route(path_prefix("/grpc-stream"), grpc_stream),
        to("/grpc", "h2"),
        to("/refused", "refused"),
        to("/empty", "empty"),
        to("/missing", "missing"),
        to("/status", "origin"),
        to("/ok", "origin"),
        to("/reset", "origin"),
        to("/cut", "origin"),
        to("/chunked", "origin"),
        to("/headers", "origin"),
        to("/garbage", "origin"),
    ]
}
