//! Access logs for collectors of OpenTelemetry: the same records as Envoy reports, but for times and ids.

#![expect(
    deprecated,
    reason = "control planes still send the older forms of some fields"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::r#type::tracing::v3 as tag;
use envoy_types::pb::google::protobuf;
use envoy_types::pb::opentelemetry::proto::common::v1::any_value::Value;
use envoy_types::pb::opentelemetry::proto::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList,
};
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;

use crate::access_logs::{ISTIO, REQUESTS, errors, masked};
use crate::envoy::{self, Envoy};
use crate::envoy_is_ready;
use crate::otlp_logs::{ExportLogsServiceRequest, LogRecord, Resource as LogResource};
use crate::pair::becomes;
use crate::world::{http2_options, open_telemetry, shortly, traced};
use crate::xds_support::http::{Origin, exchange, get};
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener as http_listener, listener_of, manager, path_prefix,
    route_configuration, to_cluster,
};
use crate::xds_support::{ControlPlane, PATIENCE, dead_address, eventually, free_address};

const LISTENERS: [&str; 3] = ["traced", "untraced", "tcp"];
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector over gRPC and over HTTP, and the records that it was told.
struct Collector {
    grpc: SocketAddr,
    http: SocketAddr,
    told: Told,
}

/// Each record after its resource.
type Told = Arc<Mutex<Vec<(LogResource, LogRecord)>>>;

fn take(told: &Told, message: &[u8]) {
    let request = ExportLogsServiceRequest::decode(message).expect("a request");
    for group in &request.resource_logs {
        assert_eq!(group.schema_url, "");
        for scope in &group.scope_logs {
            assert_eq!((&scope.scope, &*scope.schema_url), (&None, ""));
        }
    }
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    told.extend(request.records());
}

impl Collector {
    async fn start() -> Self {
        let told = Told::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let grpc = listener.local_addr().expect("address");
        let records = told.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(over_grpc(stream, records.clone()));
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let http = listener.local_addr().expect("address");
        let records = told.clone();
        let route = axum::routing::post(move |body: Bytes| async move { take(&records, &body) });
        let router = axum::Router::new().route("/v1/logs", route);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { grpc, http, told }
    }

    /// All records as lines, without what two proxies cannot have in common.
    fn lines(&self, side: &Side, ports: &[(u16, &str)]) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = told
            .iter()
            .map(|(resource, record)| masked(&line(resource, record), ports));
        let mut lines: Vec<_> = lines
            .map(|line| line.replace(side.node, "<node>"))
            .collect();
        lines.sort();
        lines
    }
}

async fn over_grpc(stream: tokio::net::TcpStream, told: Told) {
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    while let Some(call) = connection.accept().await {
        let Ok((request, mut respond)) = call else {
            return;
        };
        let told = told.clone();
        tokio::spawn(async move {
            let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
            assert_eq!(request.uri().path(), path);
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let mut body = request.into_body();
            let mut all = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.expect("data");
                let _ = body.flow_control().release_capacity(data.len());
                all.extend_from_slice(&data);
            }
            take(&told, &all[5..]);
            let head = http::Response::builder().header("content-type", "application/grpc");
            let head = head.body(()).expect("a head");
            let mut send = respond.send_response(head, false).expect("a head");
            send.send_data(Bytes::from_static(&[0; 5]), false)
                .expect("data");
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            send.send_trailers(trailers).expect("trailers");
        });
    }
}

fn written(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        None => "nothing".to_owned(),
        Some(Value::StringValue(text)) => format!("'{}'", text.replace('\n', "\\n")),
        Some(Value::IntValue(number)) => format!("int {number}"),
        Some(Value::ArrayValue(list)) => {
            let values = list.values.iter().map(|one| written(&Some(one.clone())));
            format!("[{}]", values.collect::<Vec<_>>().join(", "))
        }
        Some(Value::KvlistValue(list)) => format!("{{{}}}", pairs(&list.values)),
        Some(other) => panic!("{other:?}"),
    }
}

fn pairs(all: &[KeyValue]) -> String {
    let pair = |one: &KeyValue| format!("{}={}", one.key, written(&one.value));
    all.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// A record with all its fields.
fn line(resource: &LogResource, record: &LogRecord) -> String {
    let LogRecord {
        time_unix_nano,
        observed_time_unix_nano,
        severity_number,
        severity_text,
        body,
        attributes,
        dropped_attributes_count,
        flags,
        trace_id,
        span_id,
        event_name,
    } = record;
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).expect("a time");
    let ago = now.saturating_sub(Duration::from_nanos(*time_unix_nano));
    // Tags stand in no certain order with Envoy.
    let (mut tags, others): (Vec<_>, Vec<_>) = attributes
        .iter()
        .cloned()
        .partition(|one| one.key.starts_with("tag."));
    tags.sort_by(|a, b| a.key.cmp(&b.key));
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let text_of = |key: &str| {
        let found = attributes.iter().find(|one| one.key == key);
        found.map(|one| written(&one.value))
    };
    // What the operators say is what the record has.
    let agree = [("trace", trace_id), ("span", span_id)].map(|(key, id)| {
        let text = if id.is_empty() {
            "-".to_owned()
        } else {
            hex(id)
        };
        text_of(key).is_none_or(|operator| operator == format!("'{text}'"))
    });
    let others: Vec<_> = others
        .into_iter()
        .filter(|one| one.key != "trace" && one.key != "span")
        .collect();
    let trace = hex(trace_id);
    let trace = match &*trace {
        TRACE => "the client's",
        "" => "none",
        _ => "its own",
    };
    format!(
        "resource: {} {}; recent: {}; observed: {observed_time_unix_nano}; severity: {severity_number} \
         {severity_text:?}; body: {}; attributes: {}; tags: {}; dropped: {dropped_attributes_count}; flags: {flags}; \
         trace: {trace} of {}; span: of {}; agree: {agree:?}; event: {event_name:?}",
        pairs(&resource.attributes),
        resource.dropped_attributes_count,
        ago < PATIENCE,
        written(body),
        pairs(&others),
        pairs(&tags),
        trace_id.len(),
        span_id.len(),
    )
}

fn text(format: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(format.to_owned())),
    }
}

fn keyed(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..Default::default()
    }
}

fn list(values: Vec<KeyValue>) -> Option<KeyValueList> {
    Some(KeyValueList { values })
}

fn grpc() -> Option<core::GrpcService> {
    Some(core::GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: "grpc".to_owned(),
            authority: "collector.example".to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    })
}

fn soon() -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: 0,
        nanos: 50_000_000,
    })
}

fn log(config: OpenTelemetryAccessLogConfig) -> accesslog::AccessLog {
    accesslog::AccessLog {
        name: "envoy.access_loggers.open_telemetry".to_owned(),
        filter: None,
        config_type: Some(ConfigType::TypedConfig(pack_any(config))),
    }
}

/// All fields of a logger over gRPC; one over HTTP; one as Istio has it, of errors.
fn logs() -> Vec<accesslog::AccessLog> {
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
    let nested = Value::KvlistValue(KeyValueList {
        values: vec![
            keyed("code", text("%RESPONSE_CODE%")),
            keyed(
                "all",
                AnyValue {
                    value: Some(Value::ArrayValue(ArrayValue {
                        values: vec![
                            text("%PROTOCOL% %REQ(X-NONE)%"),
                            text(""),
                            text("%RESP(X-NONE)%"),
                        ],
                    })),
                },
            ),
        ],
    });
    let number = AnyValue {
        value: Some(Value::IntValue(7)),
    };
    let whole = OpenTelemetryAccessLogConfig {
        grpc_service: grpc(),
        log_name: "whole".to_owned(),
        stat_prefix: "whole".to_owned(),
        buffer_flush_interval: soon(),
        body: Some(text(ISTIO)),
        attributes: list(vec![
            keyed("zz", text("%REQ(USER-AGENT)%")),
            keyed(
                "nested",
                AnyValue {
                    value: Some(nested),
                },
            ),
            keyed("trace", text("%TRACE_ID%")),
            keyed("span", text("%SPAN_ID%")),
        ]),
        resource_attributes: list(vec![keyed("team", text("%shop%")), keyed("number", number)]),
        custom_tags: vec![
            tag("tag.literal", tag::custom_tag::Type::Literal(literal)),
            tag("tag.header", header("x-long", "")),
            tag("tag.default", header("x-none", "absent")),
            tag("tag.none", header("x-none", "")),
        ],
        ..Default::default()
    };
    let over_http = OpenTelemetryAccessLogConfig {
        http_service: Some(core::HttpService {
            http_uri: Some(core::HttpUri {
                uri: "http://collector.example/v1/logs".to_owned(),
                timeout: Some(protobuf::Duration {
                    seconds: 5,
                    nanos: 0,
                }),
                http_upstream_type: Some(HttpUpstreamType::Cluster("http".to_owned())),
            }),
            ..Default::default()
        }),
        log_name: "over HTTP".to_owned(),
        stat_prefix: "http".to_owned(),
        buffer_flush_interval: soon(),
        attributes: list(vec![keyed(
            "request",
            text("%REQ(:METHOD)% %REQ(:PATH)% %BYTES_SENT%"),
        )]),
        ..Default::default()
    };
    let of_istio = OpenTelemetryAccessLogConfig {
        common_config: Some(CommonGrpcAccessLogConfig {
            log_name: "otel_envoy_accesslog".to_owned(),
            grpc_service: grpc(),
            transport_api_version: core::ApiVersion::V3.into(),
            filter_state_objects_to_log: vec!["upstream_peer".to_owned()],
            ..Default::default()
        }),
        disable_builtin_labels: true,
        body: Some(text(ISTIO)),
        attributes: list(vec![keyed("code", text("%RESPONSE_CODE%"))]),
        ..Default::default()
    };
    vec![log(whole), log(over_http), errors(log(of_istio))]
}

fn world(
    at: &BTreeMap<&'static str, SocketAddr>,
    origin: SocketAddr,
    nobody: SocketAddr,
    collector: &Collector,
) -> Snapshot {
    let http = |name: &'static str| {
        let manager = HttpConnectionManager {
            delayed_close_timeout: shortly(),
            access_log: logs(),
            tracing: traced(open_telemetry()).filter(|_| name == "traced"),
            ..manager("routes")
        };
        http_listener(name, at[name], TrafficDirection::Outbound, manager)
    };
    let tcp = TcpProxy {
        stat_prefix: "tcp".to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster("origin".to_owned())),
        access_log: logs(),
        ..Default::default()
    };
    let filter = "envoy.filters.network.tcp_proxy";
    let tcp = listener_of("tcp", at["tcp"], TrafficDirection::Outbound, filter, tcp);
    let clusters = ["origin", "refused", "otel", "grpc", "http"];
    let endpoint = |name| match name {
        "origin" => origin,
        "grpc" => collector.grpc,
        "http" => collector.http,
        _ => nobody,
    };
    let cluster = |name: &'static str| {
        eds_cluster(name, |cluster| {
            if name == "grpc" {
                cluster.typed_extension_protocol_options = http2_options();
            }
        })
    };
    let route = |prefix: &str, cluster| a_route(path_prefix(prefix), to_cluster(cluster));
    let routes = vec![route("/refused", "refused"), route("/", "origin")];
    let listeners = [http("traced"), http("untraced"), tcp];
    let listeners = listeners
        .iter()
        .map(|listener| Resource::new(&listener.name, listener));
    Snapshot::default()
        .with(CLUSTER, ResourceSet::from_iter(clusters.map(cluster)))
        .with(
            ENDPOINT,
            ResourceSet::from_iter(clusters.map(|name| endpoints(name, &[endpoint(name)]))),
        )
        .with(LISTENER, listeners.collect())
        .with(
            ROUTE,
            ResourceSet::from_iter([route_configuration("routes", routes)]),
        )
}

struct Side {
    node: &'static str,
    bootstrap: String,
    at: BTreeMap<&'static str, SocketAddr>,
    collector: Collector,
}

async fn drive(at: &BTreeMap<&'static str, SocketAddr>) {
    // Not those which the origin leaves without an answer.
    for listener in ["traced", "untraced"] {
        for request in &REQUESTS[..5] {
            let body = if request.starts_with("POST") {
                "abc"
            } else {
                ""
            };
            let trace = |flags| format!("traceparent: 00-{TRACE}-b7ad6b7169203331-{flags}\r\n");
            for trace in [&trace("01"), &trace("00"), ""] {
                let request = format!("{request}{trace}connection: close\r\n\r\n{body}");
                exchange(at[listener], &request).await.expect("an answer");
            }
        }
    }
    let _ = get(at["tcp"], "/cut").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_for_collectors_are_those_of_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let plane = ControlPlane::start().await;
    let (origin, nobody) = (Origin::start("origin").await, dead_address());
    let mut sides = Vec::new();
    for node in ["ours", "envoys"] {
        let collector = Collector::start().await;
        let mut at = BTreeMap::new();
        for name in LISTENERS {
            at.insert(name, free_address().await);
        }
        let snapshot = world(&at, origin.address, nobody, &collector);
        plane.worlds.set(node, snapshot);
        let bootstrap = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: node,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        sides.push(Side {
            node,
            bootstrap,
            at,
            collector,
        });
    }
    let parsed = bootstrap::parse("ours", &sides[0].bootstrap).expect("valid");
    let agent = Agent::start(parsed, Options::default())
        .await
        .expect("start");
    let envoy = Envoy::start(&binary, &sides[1].bootstrap);
    tokio::time::timeout(PATIENCE, agent.ready())
        .await
        .expect("the agent does not get ready");
    envoy_is_ready(&envoy).await;
    for side in &sides {
        drive(&side.at).await;
    }
    // Two of each request and of the connection; two of the five kinds of requests fail, and the connection has no
    // status.
    let (requests, failed) = (2 * 5 * 3, 2 * 2 * 3);
    let all = |side: &Side| {
        let own = side.at.iter();
        let own = own.map(|(name, address)| (address.port(), *name));
        let others = [(origin.address.port(), "origin"), (nobody.port(), "nobody")];
        let ports: Vec<_> = own.chain(others).collect();
        side.collector.lines(side, &ports)
    };
    let mut lines = Vec::new();
    for side in &sides {
        let expected = 2 * (requests + 1) + failed;
        let told = eventually("all records", || {
            let all = all(side);
            (all.len() >= expected).then_some(all)
        });
        lines.push(told.await);
    }
    let [ours, envoys] = &lines[..] else {
        panic!("two sides");
    };
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let missing = these.iter().filter(|line| !those.contains(line));
        missing.cloned().collect()
    };
    let differences = (only(ours, envoys), only(envoys, ours));
    assert!(
        differences.0.is_empty() && differences.1.is_empty(),
        "ours only: {:#?}\nEnvoy only: {:#?}",
        differences.0,
        differences.1
    );
    assert_eq!(ours, envoys);
    let admins = [agent.admin_address(), envoy.admin()];
    for admin in admins {
        let admin = admin.expect("an admin address");
        for (prefix, count) in [
            ("whole.", requests + 1),
            ("http.", requests + 1),
            ("", failed),
        ] {
            let name = |count| format!("access_logs.open_telemetry_access_log.{prefix}{count}");
            becomes(admin, &name("logs_written"), count as u64).await;
            becomes(admin, &name("logs_dropped"), 0).await;
        }
    }
    agent.shutdown(Duration::from_secs(1)).await;
}
