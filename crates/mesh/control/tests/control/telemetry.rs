//! What Telemetry resources make of the listeners of proxies.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType as LogType;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::extension_filter::ConfigType as FilterType;
use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, address, socket_address};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, HttpService, Node};
use envoy_types::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig};
use envoy_types::pb::envoy::config::trace::v3::tracing::http::ConfigType as TracerConfig;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType as HttpConfig;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::google::protobuf::{Any, Value};
use envoy_types::pb::opentelemetry::proto::common::v1::any_value::Value as AnyKind;
use envoy_types::pb::opentelemetry::proto::common::v1::{AnyValue, KeyValue, KeyValueList};
use envoy_types::pb::google::protobuf::value::Kind;
use prost::{Message, Name as _};

use crate::generate::{index_of, made, mesh_config, problems};
use crate::support::{gateway, node, sidecar};

const MESH: &str = "
extensionProviders:
- name: periplus
  zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}
- name: other
  opentelemetry: {service: zipkin.istio-system.svc.cluster.local, port: 9411, http: {path: /v1/traces}}
- name: lost
  zipkin: {service: nowhere.istio-system.svc.cluster.local, port: 9411}
- name: errors
  envoyFileAccessLog: {path: /var/log/errors, logFormat: {labels: {code: '%RESPONSE_CODE%'}}, omitEmptyValues: true}
- name: otel
  envoyOtelAls: {service: zipkin.istio-system.svc.cluster.local, port: 9411}
- name: otel-lost
  envoyOtelAls: {service: nowhere.istio-system.svc.cluster.local, port: 4317}
- name: prometheus
  prometheus: {}
defaultProviders: {tracing: [periplus], metrics: [prometheus]}
defaultConfig: {tracing: {sampling: 10}}
";

/// A resource: namespace, name, selector, and the rest of its `spec` in YAML's flow style.
fn telemetry(namespace: &str, name: &str, selector: &str, spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{matchLabels: {selector}}}, {spec}}}
---
"
    )
}

pub(crate) fn manager(listener: &Listener) -> HttpConnectionManager {
    let filter = &listener.filter_chains[0].filters[0];
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        panic!("{filter:?}");
    };
    HttpConnectionManager::decode(any.value.as_slice()).expect("a connection manager")
}

/// `PROVIDER@PERCENT tags=…` of the tracing, then `PATH if …` of each log.
fn told(listener: &Listener) -> String {
    let manager = manager(listener);
    let mut parts = Vec::new();
    match manager.tracing {
        None => parts.push("untraced".to_owned()),
        Some(tracing) => {
            let provider = tracing.provider.expect("a provider").name;
            let provider = provider.rsplit('.').next().unwrap_or_default().to_owned();
            let sampling = tracing.random_sampling.expect("a share").value;
            let own = tracing.custom_tags.iter().map(|tag| tag.tag.as_str());
            let own: Vec<_> = own.filter(|tag| !tag.starts_with("istio.")).collect();
            let of_istio = tracing.custom_tags.len() - own.len();
            parts.push(format!(
                "{provider}@{sampling} {}+{of_istio}",
                own.join(",")
            ));
        }
    }
    for log in manager.access_log {
        let Some(LogType::TypedConfig(any)) = log.config_type else {
            panic!("no file");
        };
        let file = match any.type_url == OpenTelemetryAccessLogConfig::type_url() {
            true => open_telemetry(&any).2,
            false => {
                let file = FileAccessLog::decode(any.value.as_slice());
                file.expect("a file").path
            }
        };
        let filter = match log.filter.and_then(|filter| filter.filter_specifier) {
            None => String::new(),
            Some(FilterSpecifier::StatusCodeFilter(filter)) => {
                let comparison = filter.comparison.expect("a comparison");
                let value = comparison.value.clone().expect("a value").default_value;
                format!(" if {:?} {value}", comparison.op())
            }
            Some(FilterSpecifier::ExtensionFilter(filter)) => {
                let Some(FilterType::TypedConfig(any)) = filter.config_type else {
                    panic!("no expression");
                };
                let filter = ExpressionFilter::decode(any.value.as_slice()).expect("one");
                let makes_texts = filter
                    .cel_config
                    .is_some_and(|may| may.enable_string_concat);
                let texts = if makes_texts { " (texts)" } else { "" };
                format!(" if `{}`{texts}", filter.expression)
            }
            Some(other) => panic!("{other:?}"),
        };
        parts.push(format!("{file}{filter}"));
    }
    parts.join("; ")
}

/// The name of a log of OpenTelemetry's, the whole of it without that and without its collector, and the latter's cluster
/// and host.
#[expect(
    deprecated,
    reason = "the older form of where a log goes is the one of Istio"
)]
fn open_telemetry(any: &Any) -> (String, OpenTelemetryAccessLogConfig, String) {
    let config = OpenTelemetryAccessLogConfig::decode(any.value.as_slice());
    let mut config = config.expect("a log of OpenTelemetry's");
    let mut common = config.common_config.take().expect("what is common");
    let service = common.grpc_service.take().expect("a service");
    let Some(TargetSpecifier::EnvoyGrpc(target)) = service.target_specifier else {
        panic!("{service:?}");
    };
    let name = std::mem::take(&mut common.log_name);
    assert_eq!(common.transport_api_version(), ApiVersion::V3);
    (
        name,
        config,
        format!("{} as {}", target.cluster_name, target.authority),
    )
}

/// What is told at the two sides of a sidecar, and at the gateway.
fn all_told(mesh: &str, resources: &str) -> [String; 3] {
    let index = index_of(&["bookinfo-gateway.yaml"], resources, mesh_config(mesh));
    let of = |made: periplus_control::Generated, direction: TrafficDirection| {
        let mut listeners = made.listeners.iter();
        let listener = listeners.find(|one| one.traffic_direction() == direction);
        told(listener.expect("a listener"))
    };
    let own = || made(&index, &sidecar("reviews", "v1"));
    [
        of(own(), TrafficDirection::Outbound),
        of(own(), TrafficDirection::Inbound),
        of(made(&index, &gateway()), TrafficDirection::Outbound),
    ]
}

#[test]
fn the_workload_goes_before_the_namespace_and_that_before_the_mesh() {
    const DEFAULT: &str = "zipkin@10 +5";
    let mesh = |spec: &str| telemetry("istio-system", "mesh", "{}", spec);
    let namespace = |spec: &str| telemetry("default", "all", "{}", spec);
    let workload = |spec: &str| telemetry("default", "reviews", "{app: reviews}", spec);
    let other = |spec: &str| telemetry("default", "ratings", "{app: ratings}", spec);
    let cases = [
        ("nothing", String::new(), [DEFAULT; 3]),
        (
            "all of the mesh",
            mesh("tracing: [{randomSamplingPercentage: 0.01}]"),
            ["zipkin@0.01 +5"; 3],
        ),
        (
            "each over the one before",
            mesh(
                "tracing: [{randomSamplingPercentage: 1, customTags: {a: {literal: {value: x}}}}]",
            ) + &namespace("tracing: [{randomSamplingPercentage: 2}]")
                + &workload("tracing: [{providers: [{name: other}]}]")
                + &other("tracing: [{randomSamplingPercentage: 99}]"),
            ["opentelemetry@2 a+5", "opentelemetry@2 a+5", "zipkin@1 a+5"],
        ),
        (
            "by side",
            workload(
                "tracing: [{match: {mode: CLIENT}, disableSpanReporting: true}, \
                 {match: {mode: SERVER}, enableIstioTags: false}]",
            ),
            ["untraced", "zipkin@10 +0", DEFAULT],
        ),
        (
            "off and on again",
            mesh("tracing: [{disableSpanReporting: true}]")
                + &workload("tracing: [{disableSpanReporting: false}]"),
            [DEFAULT, DEFAULT, "untraced"],
        ),
        (
            "a provider that is none, and one without a service",
            mesh("tracing: [{providers: [{name: unknown}]}]")
                + &workload("tracing: [{providers: [{name: lost}]}]"),
            ["untraced"; 3],
        ),
        (
            "logs of the mesh, and none at a workload's clients",
            mesh("accessLogging: [{providers: [{name: envoy}]}]")
                + &workload("accessLogging: [{match: {mode: CLIENT}, disabled: true}]"),
            [
                DEFAULT,
                "zipkin@10 +5; /dev/stdout",
                "zipkin@10 +5; /dev/stdout",
            ],
        ),
        (
            "a filter, and another provider in place of the mesh's",
            mesh(
                "accessLogging: [{providers: [{name: envoy}], filter: {expression: 'response.code >= 400'}}]",
            ) + &workload(
                "accessLogging: [{providers: [{name: errors}], filter: {expression: 'response.code == 503'}}]",
            ),
            [
                "zipkin@10 +5; /var/log/errors if Eq 503",
                "zipkin@10 +5; /var/log/errors if Eq 503",
                "zipkin@10 +5; /dev/stdout if Ge 400",
            ],
        ),
    ];
    for (what, resources, expected) in cases {
        assert_eq!(all_told(MESH, &resources), expected, "{what}");
    }
}

#[test]
fn logs_of_the_mesh_configuration_are_those_that_resources_say_nothing_about() {
    let file = format!("{MESH}accessLogFile: /dev/stderr\n");
    let named = MESH.replace("metrics: [prometheus]", "accessLogging: [errors]");
    let (stderr, errors, stdout) = ("; /dev/stderr", "; /var/log/errors", "; /dev/stdout");
    let cases = [
        (&file, "", [stderr; 3]),
        (&named, "", [errors; 3]),
        (&named, "[{disabled: true}]", [""; 3]),
        (&file, "[{disabled: true}]", [""; 3]),
        (
            &file,
            "[{match: {mode: SERVER}, disabled: true}]",
            [stderr, "", stderr],
        ),
        (
            &file,
            "[{filter: {expression: 'response.code < 500'}}]",
            ["; /dev/stderr if `response.code < 500`"; 3],
        ),
        (
            &named,
            "[{filter: {expression: 'response.code > 499'}}]",
            ["; /var/log/errors if Ge 500"; 3],
        ),
        (
            &named,
            "[{filter: {expression: 'connection.mtls && request.url_path.contains(\"v1beta3\")'}}]",
            ["; /var/log/errors if `connection.mtls && request.url_path.contains(\"v1beta3\")`"; 3],
        ),
        (
            &file,
            "[{filter: {expression: 'string(response.code) == \"404\"'}}]",
            ["; /dev/stderr if `string(response.code) == \"404\"` (texts)"; 3],
        ),
        (&file, "[{providers: [{name: envoy}]}]", [stdout; 3]),
        (
            &file,
            "[{providers: [{name: errors}, {name: otel}], filter: {expression: 'response.code >= 400'}}]",
            ["; /var/log/errors if Ge 400; outbound|9411||zipkin.istio-system.svc.cluster.local as \
              zipkin.istio-system.svc.cluster.local if Ge 400"; 3],
        ),
        // As in Istio.
        (&file, "[{providers: [{name: otel-lost}]}]", [stderr; 3]),
        (
            &file,
            "[{providers: [{name: envoy}], disabled: true}]",
            [""; 3],
        ),
        (
            &file,
            "[{match: {mode: CLIENT}, providers: [{name: envoy}]}]",
            [stdout, stderr, stdout],
        ),
    ];
    for (mesh, rules, expected) in cases {
        let resource = match rules {
            "" => String::new(),
            rules => telemetry(
                "istio-system",
                "mesh",
                "{}",
                &format!("accessLogging: {rules}"),
            ),
        };
        let expected = expected.map(|logs| format!("zipkin@10 +5{logs}"));
        assert_eq!(all_told(mesh, &resource), expected, "{rules}");
    }
}

#[test]
fn a_rule_without_providers_keeps_the_filter_of_the_rule_before() {
    let errors = "{providers: [{name: envoy}], filter: {expression: 'response.code >= 400'}}";
    for (rule, expected) in [
        ("{disabled: false}", "zipkin@10 +5; /dev/stdout if Ge 400"),
        (
            "{filter: {expression: 'response.code != 200'}}",
            "zipkin@10 +5; /dev/stdout if `response.code != 200`",
        ),
        ("{disabled: true}", "zipkin@10 +5"),
    ] {
        let resources = telemetry(
            "istio-system",
            "mesh",
            "{}",
            &format!("accessLogging: [{errors}]"),
        ) + &telemetry("default", "all", "{}", &format!("accessLogging: [{rule}]"));
        let [outbound, inbound, _] = all_told(MESH, &resources);
        assert_eq!([outbound.as_str(), &inbound], [expected; 2], "{rule}");
    }
}

/// Istio's message, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct PluginConfig {
    #[prost(bool, tag = "6")]
    disable_host_header_fallback: bool,
    #[prost(message, repeated, tag = "8")]
    metrics: Vec<MetricConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricConfig {
    #[prost(btree_map = "string, string", tag = "1")]
    dimensions: BTreeMap<String, String>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    tags_to_remove: Vec<String>,
    #[prost(bool, tag = "5")]
    drop: bool,
}

impl std::fmt::Display for MetricConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)?;
        for (name, value) in &self.dimensions {
            write!(f, " {name}={value}")?;
        }
        for name in &self.tags_to_remove {
            write!(f, " -{name}")?;
        }
        f.write_str(if self.drop { " off" } else { "" })
    }
}

/// What `istio.stats` is told at the two sides of a proxy.
fn metrics_told(resources: &str, node: &Node) -> [String; 2] {
    let index = index_of(&[], resources, mesh_config(MESH));
    let made = made(&index, node);
    [TrafficDirection::Outbound, TrafficDirection::Inbound].map(|direction| {
        let mut listeners = made.listeners.iter();
        let listener = listeners.find(|one| one.traffic_direction() == direction);
        let filters = manager(listener.expect("a listener")).http_filters;
        let stats = filters.iter().find(|filter| filter.name == "istio.stats");
        let Some(HttpConfig::TypedConfig(any)) = stats.and_then(|it| it.config_type.as_ref())
        else {
            return String::new();
        };
        assert_eq!(any.type_url, "type.googleapis.com/stats.PluginConfig");
        let config = PluginConfig::decode(any.value.as_slice()).expect("Istio's message");
        let is_inbound = direction == TrafficDirection::Inbound;
        assert_eq!(config.disable_host_header_fallback, is_inbound);
        let all: Vec<_> = config.metrics.iter().map(ToString::to_string).collect();
        all.join("; ")
    })
}

#[test]
fn what_clients_outside_call_a_service_is_no_label_of_a_gateway() {
    let edge = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
";
    let index = index_of(&[], edge, mesh_config(MESH));
    for (name, expected) in [("periplus", vec![true]), ("envoy", vec![])] {
        let node = Node {
            user_agent_name: name.to_owned(),
            ..gateway()
        };
        let made = made(&index, &node);
        let filters = manager(&made.listeners[0]).http_filters;
        let stats = filters.iter().filter(|filter| filter.name == "istio.stats");
        let told = stats.map(|filter| {
            let Some(HttpConfig::TypedConfig(any)) = &filter.config_type else {
                panic!("{filter:?}");
            };
            let config = PluginConfig::decode(any.value.as_slice()).expect("Istio's message");
            config.disable_host_header_fallback
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn overrides_of_metrics_go_to_proxies_that_count_them() {
    let mesh = |overrides: &str| {
        telemetry(
            "istio-system",
            "mesh",
            "{}",
            &format!("metrics: [{{overrides: [{overrides}]}}]"),
        )
    };
    let workload = |overrides: &str| {
        telemetry(
            "default",
            "reviews",
            "{app: reviews}",
            &format!("metrics: [{{providers: [{{name: prometheus}}], overrides: [{overrides}]}}]"),
        )
    };
    let ours = Node {
        user_agent_name: "periplus".to_owned(),
        ..sidecar("reviews", "v1")
    };
    let method =
        "{match: {metric: REQUEST_COUNT}, tagOverrides: {request_method: {value: request.method}}}";
    let cases = [
        (String::new(), ["", ""]),
        (
            mesh("{match: {metric: REQUEST_SIZE, mode: CLIENT}, disabled: true}"),
            ["request_bytes off", ""],
        ),
        (
            mesh(method)
                + &workload(
                    "{match: {metric: REQUEST_COUNT, mode: SERVER}, tagOverrides: {request_method: {operation: REMOVE}}}",
                ),
            [
                "requests_total request_method=request.method",
                "requests_total -request_method",
            ],
        ),
        (
            mesh("{match: {metric: TCP_SENT_BYTES}, disabled: true}")
                + &workload("{match: {metric: TCP_SENT_BYTES}, disabled: false}"),
            ["", ""],
        ),
    ];
    for (resources, expected) in cases {
        assert_eq!(metrics_told(&resources, &ours), expected, "{resources}");
        let envoy = sidecar("reviews", "v1");
        assert_eq!(metrics_told(&resources, &envoy), ["", ""], "a plain Envoy");
    }
    let all = mesh("{tagOverrides: {source_app: {operation: REMOVE}}}");
    let [told, _] = metrics_told(&all, &ours);
    assert_eq!(told.matches(" -source_app").count(), 10, "{told}");
}

#[test]
fn connections_are_logged_and_counted_as_requests_are() {
    let resources = telemetry(
        "istio-system",
        "mesh",
        "{}",
        "accessLogging: [{match: {mode: CLIENT}, providers: [{name: envoy}]}], \
         metrics: [{overrides: [{match: {metric: TCP_SENT_BYTES}, disabled: true}]}]",
    );
    let index = index_of(&[], &resources, mesh_config(MESH));
    let mut shop = Node {
        user_agent_name: "periplus".to_owned(),
        ..node(
            "sidecar~10.0.0.9~shop-0.shop~shop.svc.cluster.local",
            "shop.shop",
            "shop",
            &[("app", "shop")],
        )
    };
    let metadata = shop.metadata.as_mut().expect("metadata");
    let mode = Kind::StringValue("REDIRECT".to_owned());
    metadata
        .fields
        .insert("INTERCEPTION_MODE".to_owned(), Value { kind: Some(mode) });
    let made = made(&index, &shop);
    let mut seen = [0, 0];
    for listener in &made.listeners {
        let chains = listener.filter_chains.iter();
        for chain in chains.chain(&listener.default_filter_chain) {
            let [.., before, last] = &chain.filters[..] else {
                continue;
            };
            let Some(ConfigType::TypedConfig(any)) = &last.config_type else {
                panic!("{last:?}");
            };
            if any.type_url != TcpProxy::type_url() {
                continue;
            }
            let proxy = TcpProxy::decode(any.value.as_slice()).expect("a TCP proxy");
            let is_inbound = listener.traffic_direction() == TrafficDirection::Inbound;
            assert_eq!(
                proxy.access_log.len(),
                usize::from(!is_inbound),
                "{chain:?}"
            );
            assert_eq!(before.name, "istio.stats");
            let of_listener = &listener.access_log;
            assert_eq!(of_listener.len(), usize::from(!is_inbound), "{listener:?}");
            seen[usize::from(is_inbound)] += 1;
        }
    }
    assert!(seen[0] > 1 && seen[1] > 1, "{seen:?}");
}

#[test]
fn access_logs_go_to_collectors_as_istio_has_it() {
    let named = "
extensionProviders:
- name: otel
  envoyOtelAls: {service: istio-system/zipkin.istio-system.svc.cluster.local, port: 9411, logName: mine, logFormat: {text: a %PROTOCOL%, labels: {b: '%RESPONSE_CODE%', a: x}}}
defaultProviders: {accessLogging: [otel]}
";
    let bare = "
extensionProviders: [{name: otel, envoyOtelAls: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}]
defaultProviders: {accessLogging: [otel]}
";
    let text = |text: &str| AnyValue {
        value: Some(AnyKind::StringValue(text.to_owned())),
    };
    let label = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
        ..KeyValue::default()
    };
    let labels = KeyValueList {
        values: vec![label("a", "x"), label("b", "%RESPONSE_CODE%")],
    };
    for (mesh, name, body, attributes) in [
        (named, "mine", "a %PROTOCOL%", Some(labels)),
        (bare, "otel_envoy_accesslog", ISTIO, None),
    ] {
        let index = index_of(&[], "", mesh_config(mesh));
        let made = made(&index, &sidecar("reviews", "v1"));
        let logs = manager(&made.listeners[0]).access_log;
        let [log] = &logs[..] else {
            panic!("{logs:?}");
        };
        assert_eq!(log.name, "envoy.access_loggers.open_telemetry");
        assert_eq!(log.filter, None);
        let Some(LogType::TypedConfig(any)) = &log.config_type else {
            panic!("{log:?}");
        };
        let (found, config, collector) = open_telemetry(any);
        assert_eq!(found, name);
        assert_eq!(
            config,
            OpenTelemetryAccessLogConfig {
                disable_builtin_labels: true,
                body: Some(text(body)),
                attributes,
                ..OpenTelemetryAccessLogConfig::default()
            }
        );
        let cluster = "outbound|9411||zipkin.istio-system.svc.cluster.local";
        assert_eq!(
            collector,
            format!("{cluster} as zipkin.istio-system.svc.cluster.local")
        );
        assert!(made.clusters.iter().any(|one| one.name == cluster));
    }
}

/// Istio's default.
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

#[test]
fn spans_go_over_grpc_unless_something_else_is_said() {
    let mesh = "
extensionProviders:
- name: otel
  opentelemetry: {service: zipkin.istio-system.svc.cluster.local, port: 9411, grpc: {timeout: 3s}}
defaultProviders: {tracing: [otel]}
";
    let index = index_of(&[], "", mesh_config(mesh));
    let made = made(&index, &sidecar("reviews", "v1"));
    let tracing = manager(&made.listeners[0]).tracing.expect("tracing");
    let Some(TracerConfig::TypedConfig(any)) = tracing.provider.and_then(|it| it.config_type)
    else {
        panic!("no provider");
    };
    let config = OpenTelemetryConfig::decode(any.value.as_slice()).expect("OpenTelemetry");
    let service = config.grpc_service.expect("gRPC");
    assert_eq!(service.timeout.map(|timeout| timeout.seconds), Some(3));
    let Some(TargetSpecifier::EnvoyGrpc(target)) = service.target_specifier else {
        panic!("no target");
    };
    assert_eq!(
        target.cluster_name,
        "outbound|9411||zipkin.istio-system.svc.cluster.local"
    );
    // The port of the sample is one of HTTP/1.1.
    let told = problems(&index);
    assert!(
        told.contains("is not one of gRPC: nothing that provider `otel` reports"),
        "{told}"
    );
}

#[test]
fn reports_of_spans_have_the_headers_of_their_provider() {
    let told = |provider: &str| {
        let mesh = format!(
            "
extensionProviders:
- name: p
  {provider}
defaultProviders: {{tracing: [p]}}
"
        );
        let index = index_of(&[], "", mesh_config(&mesh));
        let made = made(&index, &sidecar("reviews", "v1"));
        let tracing = manager(&made.listeners[0]).tracing.expect("tracing");
        match tracing.provider.and_then(|it| it.config_type) {
            Some(TracerConfig::TypedConfig(any)) => any.value,
            None => panic!("no configuration"),
        }
    };
    let at = "service: zipkin.istio-system.svc.cluster.local, port: 9411";
    let list = "[{name: X-Token, value: secret}]";
    let over_http = told(&format!(
        "opentelemetry: {{{at}, http: {{path: /v1/traces, headers: {list}}}, resourceDetectors: {{environment: {{}}}}}}"
    ));
    let over_http = OpenTelemetryConfig::decode(over_http.as_slice()).expect("valid");
    let over_grpc = told(&format!(
        "opentelemetry: {{{at}, grpc: {{initialMetadata: {list}}}}}"
    ));
    let over_grpc = OpenTelemetryConfig::decode(over_grpc.as_slice()).expect("valid");
    let zipkin = told(&format!("zipkin: {{{at}, headers: {list}}}"));
    let zipkin = ZipkinConfig::decode(zipkin.as_slice()).expect("valid");
    let added = |service: Option<HttpService>| {
        let added = service.expect("a service").request_headers_to_add;
        let added = added.into_iter().filter_map(|option| option.header);
        added.collect::<Vec<_>>()
    };
    for headers in [
        added(over_http.http_service),
        added(zipkin.collector_service),
        over_grpc.grpc_service.expect("a service").initial_metadata,
    ] {
        let told: Vec<_> = headers
            .iter()
            .map(|header| (header.key.as_str(), header.value.as_str()))
            .collect();
        assert_eq!(told, [("x-token", "secret")]);
    }
    assert_eq!(over_http.resource_detectors.len(), 1);
    assert_eq!(over_grpc.resource_detectors.len(), 0);
    assert_eq!(zipkin.collector_cluster, "");
}

#[test]
fn what_istio_passes_over_in_silence_is_told() {
    let resources = telemetry(
        "default",
        "a",
        "{}",
        "tracing: [{providers: [{name: perilus}]}], accessLogging: [{providers: [{name: error}]}]",
    ) + &telemetry(
        "default",
        "b",
        "{}",
        "tracing: [{providers: [{name: lost}]}], accessLogging: [{providers: [{name: otel-lost}, {name: otel}]}]",
    );
    let index = index_of(&[], &resources, mesh_config(MESH));
    let problems = problems(&index);
    for expected in [
        "Telemetry default/a: there is no provider of tracing `perilus` among `extensionProviders`, did you mean",
        "Telemetry default/a: there is no provider of access logs `error` among `extensionProviders`, did you mean",
        "Telemetry default/a is for all of namespace default too: Telemetry default/b has no effect",
        "there is no service `nowhere.istio-system.svc.cluster.local`: provider `lost` cannot be reached",
        "Telemetry default/b: there is no service `nowhere.istio-system.svc.cluster.local`: provider `otel-lost` cannot be \
         reached and its access logs are left out",
        "Telemetry default/b: port 9411 of `zipkin.istio-system.svc.cluster.local` is not one of gRPC",
    ] {
        assert!(
            problems.contains(expected),
            "{expected}\nis not in\n{problems}"
        );
    }
}

fn port_of(listener: &Listener) -> u32 {
    let address = listener
        .address
        .as_ref()
        .and_then(|one| one.address.as_ref());
    let Some(address::Address::SocketAddress(socket)) = address else {
        panic!("{listener:?}");
    };
    match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => port,
        ref other => panic!("{other:?}"),
    }
}

/// The share of requests that routes say, by their names; none is that of the connection manager.
fn sampled<'a>(routes: impl Iterator<Item = &'a RouteConfiguration>) -> Vec<(String, Option<u32>)> {
    let hosts = routes.flat_map(|one| &one.virtual_hosts);
    let routes = hosts.flat_map(|host| &host.routes);
    let told = routes.map(|route| {
        let share = route.tracing.as_ref().map(|it| {
            let share = it.random_sampling.as_ref().expect("a share");
            assert_eq!(share.denominator(), DenominatorType::Million);
            share.numerator
        });
        (route.name.clone(), share)
    });
    told.collect()
}

#[test]
fn ports_and_routes_are_sampled_in_their_own_way() {
    let annotated = |meta: &str, selector: &str, text: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{{meta}, annotations: {{tracing.periplus.io/sampling: '{text}'}}}}
spec: {{selector: {{matchLabels: {selector}}}}}
---
"
        )
    };
    let port = {
        let index = index_of(&[], "", mesh_config(MESH));
        let made = made(&index, &sidecar("reviews", "v1"));
        let mut listeners = made.listeners.iter();
        let inbound = listeners.find(|one| one.traffic_direction() == TrafficDirection::Inbound);
        port_of(inbound.expect("a listener"))
    };
    let resources = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: default}
spec:
  hosts: [ratings]
  http:
  - {name: rare, match: [{name: one, uri: {prefix: /one}}, {uri: {prefix: /two}}], route: [{destination: {host: ratings}}]}
  - {name: usual, route: [{destination: {host: ratings}}]}
---
"
    .to_owned()
        + &annotated("name: all, namespace: istio-system", "{}", "outbound 9080: 5, route rare: 50")
        + &annotated("name: reviews, namespace: default", "{app: reviews}", &format!("inbound {port}: 0.5, route rare: 0.25\n"));
    let index = index_of(&[], &resources, mesh_config(MESH));
    assert!(!problems(&index).contains("samples route"));
    let of = |node: &Node| {
        let made = made(&index, node);
        let outbound = sampled(made.routes.iter());
        let named = |name: &str| {
            let shares = outbound.iter().filter(|(one, _)| one == name);
            let mut shares: Vec<_> = shares.map(|(_, share)| *share).collect();
            shares.sort_unstable();
            shares.dedup();
            shares
        };
        let names = ["rare.one", "rare", "usual", "default"].map(named);
        let inbound = made.listeners.iter();
        let inbound = inbound.filter(|one| one.traffic_direction() == TrafficDirection::Inbound);
        let inbound: Vec<_> = inbound
            .filter_map(|listener| match manager(listener).route_specifier {
                Some(RouteSpecifier::RouteConfig(routes)) => Some(routes),
                _ => None,
            })
            .collect();
        (names, sampled(inbound.iter()))
    };
    let default = |share| vec![("default".to_owned(), share)];
    let (outbound, inbound) = of(&sidecar("reviews", "v1"));
    let rare = vec![Some(2_500)];
    let port = vec![Some(50_000)];
    // The collector has another port.
    let services = vec![None, Some(50_000)];
    let expected = |rare: Vec<Option<u32>>| [rare.clone(), rare, port.clone(), services.clone()];
    assert_eq!(outbound, expected(rare));
    assert_eq!(inbound, default(Some(5_000)));
    let (outbound, inbound) = of(&sidecar("productpage", "v1"));
    let rare = vec![Some(500_000)];
    assert_eq!(outbound, expected(rare));
    assert_eq!(inbound, default(None));

    let unknown = annotated("name: all, namespace: default", "{}", "route rares: 1");
    let index = index_of(&[], &(resources + &unknown), mesh_config(MESH));
    let problems = problems(&index);
    assert!(
        problems.contains("samples route `rares`, and no rule of a VirtualService or HTTPRoute has this name, did you mean"),
        "{problems}"
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (spec, expected) in [
        (
            "metrics: [{overrides: [{match: {customMetric: orders}}]}]",
            "there are no metrics but Istio's own",
        ),
        (
            "metrics: [{overrides: [{match: {metric: REQUESTS}}]}]",
            "unknown value `REQUESTS`",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {value: upstream_peer.app}}}]}]",
            "`upstream_peer.app` is not supported: request.path",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: \"'b'\"}}}]}]",
            "a label that is removed has no value",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a-b: {operation: REMOVE}}}]}]",
            "`a-b` is no name for a label",
        ),
        (
            "metrics: [{reportingInterval: 5s}]",
            "bytes of TCP are counted as they pass",
        ),
        (
            "metrics: [{providers: [{name: stackdriver}]}]",
            "metrics are scraped by `prometheus` only, not sent to `stackdriver`",
        ),
        (
            "accessLogging: [{filter: {expression: 'request.time > 1'}}]",
            "`request.time > 1`: `request.time` is not supported: request.path",
        ),
        (
            "accessLogging: [{filter: {expression: 'request.path'}}]",
            "`request.path`: it is a text, and not true or false",
        ),
        (
            "tracing: [{providers: [{name: a}, {name: b}]}]",
            "spans go to one provider only",
        ),
        (
            "tracing: [{randomSamplingPercentage: 101}]",
            "expected a percentage from 0 to 100",
        ),
        (
            "tracing: [{useRequestIdForTraceSampling: false}]",
            "the request id always carries the decision",
        ),
        (
            "targetRefs: [{kind: Service, group: '', name: a}]",
            "`selector`, `targetRefs` exclude each other",
        ),
    ] {
        let text = telemetry("default", "a", "{}", spec);
        let errors = periplus_resources::parse_resources("a.yaml", &text).errors;
        assert!(
            errors
                .iter()
                .any(|error| error.to_string().contains(expected)),
            "{spec}: {errors:#?}"
        );
    }
}

#[test]
fn listeners_log_connections_that_nothing_takes() {
    let mesh = "accessLogFile: /dev/stdout";
    let filtered = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: logs}
spec: {accessLogging: [{providers: [{name: envoy}], filter: {expression: 'request.method == \"GET\"'}}]}
";
    for (resources, expected) in [("", "NR"), (filtered, "NR and another")] {
        let index = index_of(&[], resources, mesh_config(mesh));
        for listener in made(&index, &sidecar("reviews", "v1")).listeners {
            let [log] = &listener.access_log[..] else {
                panic!("{listener:?}");
            };
            let filter = log.filter.clone().and_then(|it| it.filter_specifier);
            let (is_without, others) = match filter {
                Some(FilterSpecifier::AndFilter(all)) => {
                    let mut all = all.filters.into_iter();
                    (all.next().and_then(|it| it.filter_specifier), all.count())
                }
                only => (only, 0),
            };
            let Some(FilterSpecifier::ResponseFlagFilter(flags)) = is_without else {
                panic!("{is_without:?}");
            };
            let told = flags.flags.join(",") + ["", " and another"][others];
            assert_eq!(told, expected);
        }
    }
}

#[test]
fn spans_say_what_policies_that_are_tried_would_have_done() {
    let policy = |name: &str, action: &str, tried: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\n  \
             annotations: {{istio.io/dry-run: \"{tried}\"}}\nspec: {{action: {action}, rules: [{{}}]}}\n"
        )
    };
    let (allow, deny) = (policy("a", "ALLOW", "true"), policy("b", "DENY", "true"));
    let enforced = policy("c", "DENY", "false");
    for (resources, expected) in [
        (enforced, &[][..]),
        (allow.clone(), &["allow_policy.name", "allow_policy.result"]),
        (
            allow + &deny,
            &[
                "allow_policy.name",
                "allow_policy.result",
                "deny_policy.name",
                "deny_policy.result",
            ],
        ),
    ] {
        let index = index_of(&[], &resources, mesh_config(MESH));
        let made = made(&index, &sidecar("reviews", "v1"));
        let mut listeners = made.listeners.iter();
        let inbound = listeners
            .find(|one| one.traffic_direction() == TrafficDirection::Inbound)
            .expect("a listener");
        let tags = manager(inbound).tracing.expect("it is traced").custom_tags;
        let names = tags.iter().map(|tag| tag.tag.as_str());
        let said: Vec<_> = names
            .filter_map(|name| name.strip_prefix("istio.authorization.dry_run."))
            .collect();
        assert_eq!(said, expected);
    }
}
