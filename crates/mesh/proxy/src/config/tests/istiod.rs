//! What an istiod sends to a sidecar, in the shape that its releases of 2024 and later give it: taken whole.

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3 as state;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::Cors;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3 as grpc_stats;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3 as set_filter_state;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::metadata::v3 as metadata;
use envoy_types::pb::envoy::r#type::tracing::v3 as tag;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_xds::istio_peers::TypedStruct;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;

/// A message of Istio's own, as JSON.
fn of_istio(of_type: &str, value: &Value) -> Any {
    let Some(Kind::StructValue(value)) = protobuf_of(value).kind else {
        panic!("no object");
    };
    let typed = TypedStruct {
        type_url: format!("type.googleapis.com/{of_type}"),
        value: Some(value),
    };
    Any {
        type_url: "type.googleapis.com/udpa.type.v1.TypedStruct".to_owned(),
        value: typed.encode_to_vec(),
    }
}

fn protobuf_of(value: &Value) -> protobuf::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().expect("a number")),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => Kind::ListValue(protobuf::ListValue {
            values: values.iter().map(protobuf_of).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(protobuf::Struct {
            fields: fields
                .iter()
                .map(|(name, value)| (name.clone(), protobuf_of(value)))
                .collect(),
        }),
    };
    protobuf::Value { kind: Some(kind) }
}

fn tcp_exchange() -> Any {
    of_istio(
        "envoy.tcp.metadataexchange.config.MetadataExchange",
        &json!({"protocol": "istio-peer-exchange", "enable_discovery": true}),
    )
}

/// `istio.stats`, as it is without a Telemetry resource.
fn stats() -> Any {
    Any {
        type_url: "type.googleapis.com/stats.PluginConfig".to_owned(),
        value: Vec::new(),
    }
}

fn http_exchange(side: &str) -> Any {
    of_istio(
        "io.istio.http.peer_metadata.Config",
        &json!({
            format!("{side}_discovery"): [{"istio_headers": {}}, {"workload_discovery": {}}],
            format!("{side}_propagation"): [{"istio_headers": {}}],
        }),
    )
}

/// `istio.alpn`, by field numbers: the message is not Envoy's.
fn alpn_override(lists: &[(u8, &[&str])]) -> Any {
    let mut value = Vec::new();
    for (protocol, names) in lists {
        let mut one = vec![0x08, *protocol];
        for name in *names {
            one.extend_from_slice(&[0x12, u8::try_from(name.len()).expect("short")]);
            one.extend_from_slice(name.as_bytes());
        }
        value.extend_from_slice(&[0x0a, u8::try_from(one.len()).expect("short")]);
        value.extend(one);
    }
    Any {
        type_url: "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
            .to_owned(),
        value,
    }
}

fn usual_alpn() -> Any {
    alpn_override(&[
        (0, &["istio-http/1.0", "istio", "http/1.0"]),
        (1, &["istio-http/1.1", "istio", "http/1.1"]),
        (2, &["istio-h2", "istio", "h2"]),
    ])
}

fn http_filter(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn filter(name: &str, config: Any) -> listener::Filter {
    listener::Filter {
        name: name.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(config)),
    }
}

/// Who has said what of AUDIT and dry runs, and what Istio calls itself.
fn tags() -> Vec<tag::CustomTag> {
    use metadata::metadata_key::{PathSegment, path_segment::Segment};
    let dry_run = |name: &str, key: &str| tag::CustomTag {
        tag: format!("istio.authorization.dry_run.{name}"),
        r#type: Some(tag::custom_tag::Type::Metadata(tag::custom_tag::Metadata {
            kind: Some(metadata::MetadataKind {
                kind: Some(metadata::metadata_kind::Kind::Request(Default::default())),
            }),
            metadata_key: Some(metadata::MetadataKey {
                key: "envoy.filters.http.rbac".to_owned(),
                path: vec![PathSegment {
                    segment: Some(Segment::Key(key.to_owned())),
                }],
            }),
            default_value: String::new(),
        })),
    };
    let literal = |name: &str, value: &str| tag::CustomTag {
        tag: name.to_owned(),
        r#type: Some(tag::custom_tag::Type::Literal(tag::custom_tag::Literal {
            value: value.to_owned(),
        })),
    };
    vec![
        dry_run(
            "allow_policy.name",
            "istio_dry_run_allow_shadow_effective_policy_id",
        ),
        dry_run(
            "allow_policy.result",
            "istio_dry_run_allow_shadow_engine_result",
        ),
        literal("istio.canonical_service", "reviews"),
        literal("istio.mesh_id", "cluster.local"),
    ]
}

fn istio_manager(side: &str, http_filters: Vec<hcm::HttpFilter>) -> hcm::HttpConnectionManager {
    let common = vec![
        http_filter(
            "envoy.filters.http.grpc_stats",
            pack_any(grpc_stats::FilterConfig {
                emit_filter_state: true,
                per_method_stat_specifier: Some(
                    grpc_stats::filter_config::PerMethodStatSpecifier::StatsForAllMethods(
                        BoolValue { value: false },
                    ),
                ),
                ..Default::default()
            }),
        ),
        http_filter("istio.alpn", usual_alpn()),
        http_filter("envoy.filters.http.fault", pack_any(HttpFault::default())),
        http_filter("envoy.filters.http.cors", pack_any(Cors::default())),
        http_filter("istio.stats", stats()),
        router(),
    ];
    hcm::HttpConnectionManager {
        stat_prefix: format!("{side}_0.0.0.0_9080;"),
        http_filters: http_filters.into_iter().chain(common).collect(),
        tracing: Some(Tracing {
            client_sampling: Some(Percent { value: 100.0 }),
            random_sampling: Some(Percent { value: 1.0 }),
            overall_sampling: Some(Percent { value: 100.0 }),
            custom_tags: tags(),
            ..Default::default()
        }),
        use_remote_address: Some(BoolValue { value: false }),
        generate_request_id: yes(),
        normalize_path: yes(),
        path_with_escaped_slashes_action: 1,
        proxy_100_continue: true,
        upgrade_configs: vec![upgrade("websocket")],
        stream_idle_timeout: seconds(0),
        ..Default::default()
    }
}

fn upgrade(kind: &str) -> hcm::http_connection_manager::UpgradeConfig {
    hcm::http_connection_manager::UpgradeConfig {
        upgrade_type: kind.to_owned(),
        ..Default::default()
    }
}

fn secret(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: ads(),
    }
}

fn mesh_context(alpn: &[&str], name: &str) -> tls::CommonTlsContext {
    let san = tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri as i32,
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Prefix(name.to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let combined = tls::common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: vec![san],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret("ROOTCA")),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12 as i32,
            ..Default::default()
        }),
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(
            tls::common_tls_context::ValidationContextType::CombinedValidationContext(combined),
        ),
        ..Default::default()
    }
}

fn socket(name: &str, config: Any) -> Option<core::TransportSocket> {
    Some(core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(config)),
    })
}

fn tcp_filters() -> Vec<listener::Filter> {
    let proxy = tcp::TcpProxy {
        stat_prefix: "inbound|9080||".to_owned(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(
            "inbound|9080||".to_owned(),
        )),
        ..Default::default()
    };
    vec![
        filter("istio.metadata_exchange", tcp_exchange()),
        filter("istio.stats", stats()),
        filter("envoy.filters.network.tcp_proxy", pack_any(proxy)),
    ]
}

/// The rules of an AuthorizationPolicy that is only tried.
fn dry_run() -> Rbac {
    Rbac {
        shadow_rules: Some(rbac::Rbac::default()),
        shadow_rules_stat_prefix: "istio_dry_run_allow_".to_owned(),
        ..Default::default()
    }
}

fn virtual_inbound() -> listener::Listener {
    let http = hcm::HttpConnectionManager {
        server_name: "istio-envoy".to_owned(),
        forward_client_cert_details:
            hcm::http_connection_manager::ForwardClientCertDetails::AppendForward as i32,
        set_current_client_cert_details: Some(
            hcm::http_connection_manager::SetCurrentClientCertDetails {
                subject: yes(),
                dns: true,
                uri: true,
                ..Default::default()
            },
        ),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes(
            "inbound|9080||",
            "inbound|9080||",
        ))),
        ..istio_manager(
            "inbound",
            vec![
                http_filter("istio.metadata_exchange", http_exchange("downstream")),
                http_filter("envoy.filters.http.rbac", pack_any(dry_run())),
            ],
        )
    };
    let on = |transport: &str, alpn: &[&str]| {
        Some(listener::FilterChainMatch {
            destination_port: number(9080),
            transport_protocol: transport.to_owned(),
            application_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
    };
    let mutual = |alpn: &[&str]| {
        let context = tls::DownstreamTlsContext {
            common_tls_context: Some(mesh_context(alpn, "spiffe://cluster.local/")),
            require_client_certificate: yes(),
            ..Default::default()
        };
        socket("envoy.transport_sockets.tls", pack_any(context))
    };
    let http = || {
        let config = pack_any(http.clone());
        vec![
            filter("istio.metadata_exchange", tcp_exchange()),
            filter("envoy.filters.network.http_connection_manager", config),
        ]
    };
    let chain = |conditions, filters, transport_socket| listener::FilterChain {
        name: "0.0.0.0_9080".to_owned(),
        filter_chain_match: conditions,
        filters,
        transport_socket,
        ..Default::default()
    };
    let looks = |name: &str, config: Any| listener::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let of_http = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
    listener::Listener {
        name: "virtualInbound".to_owned(),
        address: address("0.0.0.0", 15006),
        traffic_direction: core::TrafficDirection::Inbound as i32,
        filter_chains: vec![
            chain(on("tls", &of_http), http(), mutual(&["h2", "http/1.1"])),
            chain(on("raw_buffer", &["http/1.1", "h2c"]), http(), None),
            chain(
                on("tls", &["istio-peer-exchange", "istio"]),
                tcp_filters(),
                mutual(&["istio-peer-exchange", "istio"]),
            ),
            chain(on("raw_buffer", &[]), tcp_filters(), None),
        ],
        listener_filters: vec![
            looks(
                "envoy.filters.listener.original_dst",
                pack_any(OriginalDst::default()),
            ),
            looks(
                "envoy.filters.listener.tls_inspector",
                pack_any(TlsInspector {
                    initial_read_buffer_size: number(512),
                    ..Default::default()
                }),
            ),
            looks(
                "envoy.filters.listener.http_inspector",
                pack_any(HttpInspector::default()),
            ),
        ],
        listener_filters_timeout: seconds(0),
        continue_on_listener_filters_timeout: true,
        ..Default::default()
    }
}

fn outbound() -> listener::Listener {
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: ads(),
            route_config_name: "9080".to_owned(),
        })),
        ..istio_manager(
            "outbound",
            vec![http_filter(
                "istio.metadata_exchange",
                http_exchange("upstream"),
            )],
        )
    };
    listener::Listener {
        bind_to_port: Some(BoolValue { value: false }),
        ..listener_with("0.0.0.0_9080", 9080, manager)
    }
}

fn clusters() -> Vec<Any> {
    let mutual = tls::UpstreamTlsContext {
        common_tls_context: Some(mesh_context(
            &["istio-peer-exchange", "istio"],
            "spiffe://cluster.local/ns/default/sa/reviews",
        )),
        sni: "outbound_.9080_._.reviews.default.svc.cluster.local".to_owned(),
        ..Default::default()
    };
    let in_mode = |name: &str, matches: Value, socket| {
        let Some(Kind::StructValue(matches)) = protobuf_of(&matches).kind else {
            panic!("no object");
        };
        cluster::cluster::TransportSocketMatch {
            name: name.to_owned(),
            r#match: Some(matches),
            transport_socket: socket,
        }
    };
    let outbound = cluster::Cluster {
        transport_socket_matches: vec![
            in_mode(
                "tlsMode-istio",
                json!({"tlsMode": "istio"}),
                socket("envoy.transport_sockets.tls", pack_any(mutual)),
            ),
            in_mode(
                "tlsMode-disabled",
                json!({}),
                socket(
                    "envoy.transport_sockets.raw_buffer",
                    pack_any(RawBuffer::default()),
                ),
            ),
        ],
        filters: vec![cluster::Filter {
            name: "istio.metadata_exchange".to_owned(),
            typed_config: Some(tcp_exchange()),
            ..Default::default()
        }],
        connect_timeout: seconds(10),
        lb_policy: LbPolicy::LeastRequest as i32,
        circuit_breakers: Some(cluster::CircuitBreakers {
            thresholds: vec![cluster::circuit_breakers::Thresholds {
                max_connections: number(u32::MAX),
                max_pending_requests: number(u32::MAX),
                max_requests: number(u32::MAX),
                max_retries: number(u32::MAX),
                track_remaining: true,
                ..Default::default()
            }],
            ..Default::default()
        }),
        upstream_connection_options: Some(cluster::UpstreamConnectionOptions {
            tcp_keepalive: Some(core::TcpKeepalive {
                keepalive_time: number(600),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..eds_cluster("outbound|9080||reviews.default.svc.cluster.local")
    };
    let inbound = cluster::Cluster {
        name: "inbound|9080||".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(
            DiscoveryType::OriginalDst as i32,
        )),
        lb_policy: LbPolicy::ClusterProvided as i32,
        connect_timeout: seconds(10),
        upstream_bind_config: Some(core::BindConfig {
            source_address: Some(core::SocketAddress {
                address: "127.0.0.6".to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(0)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    vec![pack_any(outbound), pack_any(inbound)]
}

#[test]
fn what_an_istiod_sends_is_taken_whole() {
    let now = Instant::now();
    let mut store = Store::default();
    take(&mut store, CLUSTER, &clusters(), now);
    let listeners = [pack_any(virtual_inbound()), pack_any(outbound())];
    take(&mut store, LISTENER, &listeners, now);
    let name = "outbound|9080||reviews.default.svc.cluster.local";
    take(&mut store, ROUTE, &[pack_any(routes("9080", name))], now);
    let endpoints = assignment(name, &[("10.0.0.1", 1)]);
    take(&mut store, ENDPOINT, &[pack_any(endpoints)], now);
    // Secrets do not come: whoever waits for them is used without in the end.
    let snapshot = store.advance(now + Duration::from_secs(60));
    let snapshot = snapshot.expect("a snapshot");
    let inbound = snapshot
        .listeners
        .iter()
        .find(|l| l.name == "virtualInbound");
    let inbound = inbound.expect("the listener");
    assert_eq!(inbound.chains.len(), 4);
    assert_eq!(inbound.managers().count(), 2);
    let manager = manager_of(inbound);
    assert!(manager.paths.normalizes && !manager.paths.merges_slashes);
    let names: Vec<_> = manager
        .filters
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "envoy.filters.http.rbac",
            "envoy.filters.http.fault",
            "envoy.filters.http.cors"
        ],
        "the others are no filters here"
    );
    let cluster = &snapshot.clusters[name];
    let keepalive = cluster.keepalive.expect("probes");
    assert_eq!(keepalive.time, Some(Duration::from_secs(600)));
}

#[test]
fn what_istio_could_ask_for_beyond_is_refused_by_name() {
    let with = |name: &str, config: Any| {
        let mut changed = manager("r");
        changed.http_filters.insert(0, http_filter(name, config));
        let text = refused(LISTENER, &[pack_any(listener_with("l", 80, changed))]);
        let prefix = "listener \"l\": filter_chains[0].filters[0].http_filters[0]";
        text.strip_prefix(prefix).expect("the filter").to_owned()
    };
    let peer = |value: Value| of_istio("io.istio.http.peer_metadata.Config", &value);
    let headers =
        json!({"upstream_propagation": [{"istio_headers": {"skip_external_clusters": true}}]});
    for (config, expected) in [
        (
            peer(headers),
            ".typed_config.value.upstream_propagation[0].istio_headers.skip_external_clusters: is not supported",
        ),
        (
            peer(json!({"downstream_discovery": [{"baggage": {}}]})),
            ".typed_config.value.downstream_discovery[0].baggage: is not supported",
        ),
        (
            alpn_override(&[(1, &["http/1.1"])]),
            ".typed_config.alpn_override[0].alpn_override: only istio-http/1.1, istio, http/1.1 is supported",
        ),
        (
            of_istio("io.istio.http.other.Config", &json!({})),
            ": filter \"x\" (io.istio.http.other.Config) is not supported",
        ),
        (
            pack_any(set_filter_state::Config {
                on_request_headers: vec![state::FilterStateValue {
                    key: Some(state::filter_state_value::Key::ObjectKey(
                        "envoy.filters.listener.original_dst.local_ip".to_owned(),
                    )),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ".typed_config.on_request_headers[0].object_key: \"envoy.filters.listener.original_dst.local_ip\" \
             is not supported, only names that begin with \"io.istio.\" are",
        ),
    ] {
        assert_eq!(with("x", config), expected);
    }
    let mut other = listener_with("l", 80, manager("r"));
    let protocol = of_istio(
        "envoy.tcp.metadataexchange.config.MetadataExchange",
        &json!({"protocol": "other"}),
    );
    other.filter_chains[0]
        .filters
        .insert(0, filter("x", protocol));
    assert_eq!(
        refused(LISTENER, &[pack_any(other)]),
        "listener \"l\": filter_chains[0].filters[0].typed_config.value.protocol: only \"istio-peer-exchange\" is \
         supported"
    );
    let mut cluster = eds_cluster("c");
    cluster.filters = vec![cluster::Filter {
        name: "x".to_owned(),
        typed_config: Some(pack_any(Router::default())),
        ..Default::default()
    }];
    assert_eq!(
        refused(CLUSTER, &[pack_any(cluster)]),
        "cluster \"c\": filters[0]: filter \"x\" (envoy.extensions.filters.http.router.v3.Router) is not \
         supported for clusters, only istio.metadata_exchange is"
    );
}
