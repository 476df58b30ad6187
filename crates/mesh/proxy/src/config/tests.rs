//! What is taken, what is refused and in which words, and what waits for what.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::trace::v3 as trace;
use envoy_types::pb::envoy::extensions::filters::http::lua::v3::Lua;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    RouteSpecifier, Tracing,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{self, Any, BoolValue, UInt32Value};
use envoy_types::util::pack_any;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use super::{Extent, Lookup, Store};
use crate::snapshot::{
    Balancing, Codec, Direction, GrpcTimeouts, Http2Options, Keepalive, PathMatch, RouteAction,
    Snapshot, TracingProvider, UpstreamProtocol, ValueMatch,
};

fn seconds(seconds: i64) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds, nanos: 0 })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(super) fn address(host: &str, port: u32) -> Option<core::Address> {
    Some(core::Address {
        address: Some(AddressKind::SocketAddress(core::SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    })
}

fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    })
}

fn upgrade(protocol: &str) -> hcm::http_connection_manager::UpgradeConfig {
    hcm::http_connection_manager::UpgradeConfig {
        upgrade_type: protocol.to_owned(),
        ..Default::default()
    }
}

fn router() -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
            Router::default(),
        ))),
        ..Default::default()
    }
}

fn manager(routes: &str) -> hcm::HttpConnectionManager {
    hcm::HttpConnectionManager {
        stat_prefix: "test".to_owned(),
        http_filters: vec![router()],
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: ads(),
            route_config_name: routes.to_owned(),
        })),
        ..Default::default()
    }
}

fn listener_with(name: &str, port: u32, manager: hcm::HttpConnectionManager) -> listener::Listener {
    listener::Listener {
        name: name.to_owned(),
        address: address("127.0.0.1", port),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        filter_chains: vec![listener::FilterChain {
            filters: vec![listener::Filter {
                name: "hcm".to_owned(),
                config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn a_route(prefix: &str, to: &str) -> route::Route {
    route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(route::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(to.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn routes(name: &str, to: &str) -> route::RouteConfiguration {
    route::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![a_route("/", to)],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn eds_cluster(name: &str) -> cluster::Cluster {
    cluster::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        ..Default::default()
    }
}

fn assignment(name: &str, hosts: &[(&str, u32)]) -> endpoint::ClusterLoadAssignment {
    let lb_endpoints = hosts
        .iter()
        .map(|(host, port)| endpoint::LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(endpoint::Endpoint {
                address: address(host, *port),
                ..Default::default()
            })),
            ..Default::default()
        })
        .collect();
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn dns_cluster(kind: DiscoveryType) -> cluster::Cluster {
    cluster::Cluster {
        name: "dns".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind as i32)),
        load_assignment: Some(assignment("dns", &[("zipkin.local", 9411)])),
        ..Default::default()
    }
}

/// A store with one listener `l` on routes `r` to cluster `c`, all ready.
fn ready(now: Instant) -> (Store, Snapshot) {
    let mut store = Store::default();
    take(&mut store, CLUSTER, &[pack_any(eds_cluster("c"))], now);
    take(
        &mut store,
        LISTENER,
        &[pack_any(listener_with("l", 80, manager("r")))],
        now,
    );
    take(
        &mut store,
        ENDPOINT,
        &[pack_any(assignment("c", &[("10.0.0.1", 1)]))],
        now,
    );
    take(&mut store, ROUTE, &[pack_any(routes("r", "c"))], now);
    let snapshot = store.advance(now).expect("a snapshot");
    (store, snapshot)
}

fn take(store: &mut Store, type_url: &str, resources: &[Any], now: Instant) {
    store
        .apply(type_url, "v", (resources, Extent::Whole), now)
        .expect("accepted");
}

fn refused(type_url: &str, resources: &[Any]) -> String {
    let outcome = Store::default().apply(type_url, "v", (resources, Extent::Whole), Instant::now());
    let rejections = outcome.expect_err("a refusal");
    rejections
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The connection manager of a listener.
fn manager_of(listener: &crate::snapshot::Listener) -> &crate::snapshot::ConnectionManager {
    listener.managers().next().expect("a connection manager")
}

#[test]
fn a_full_configuration_becomes_a_snapshot() {
    let now = Instant::now();
    let (_, snapshot) = ready(now);
    assert_eq!(snapshot.generation, 1);
    let listener = &snapshot.listeners[0];
    assert_eq!(listener.name, "l");
    assert_eq!(listener.address, SocketAddr::from(([127, 0, 0, 1], 80)));
    assert_eq!(listener.direction, Direction::Outbound);
    let manager = manager_of(listener);
    assert_eq!(manager.stat_prefix, "test");
    assert_eq!(manager.server_name, "envoy");
    assert!(manager.generate_request_id && !manager.use_remote_address);
    assert_eq!(manager.max_request_head_bytes, 60 * 1024);
    assert_eq!(manager.max_headers, 100);
    assert_eq!(manager.stream_idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(manager.request_headers_timeout, None);
    let table = manager.routes.as_ref().expect("routes");
    assert_eq!(table.any, Some(0));
    let route = &table.virtual_hosts[0].routes[0];
    assert_eq!(route.path, PathMatch::Prefix("/".to_owned()));
    let RouteAction::Forward(forward) = &route.action else {
        panic!("not forwarded");
    };
    assert_eq!(forward.clusters[0].name, "c");
    assert_eq!(forward.timeout, Some(Duration::from_secs(15)));
    let cluster = &snapshot.clusters["c"];
    assert_eq!(cluster.observability_name, "c");
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.balancing, Balancing::RoundRobin);
    assert_eq!(cluster.limits.default.max_requests, 1024);
    assert_eq!(
        cluster.endpoints[0].address,
        SocketAddr::from(([10, 0, 0, 1], 1))
    );
}

#[test]
fn listeners_are_refused_by_field() {
    type Change = fn(&mut listener::Listener, &mut hcm::HttpConnectionManager);
    let cases: Vec<(Change, &str)> = vec![
        (
            |_, m| {
                m.http_filters.insert(
                    0,
                    hcm::HttpFilter {
                        name: "envoy.filters.http.lua".to_owned(),
                        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
                            Lua::default(),
                        ))),
                        ..Default::default()
                    },
                );
            },
            "filter_chains[0].filters[0].http_filters[0]: filter \"envoy.filters.http.lua\" \
             (envoy.extensions.filters.http.lua.v3.Lua) is not supported",
        ),
        (
            |_, m| m.http_filters.clear(),
            "filter_chains[0].filters[0].http_filters: the router must be the last filter",
        ),
        (
            |_, m| m.http_filters.push(router()),
            "filter_chains[0].filters[0].http_filters[0]: the router must be the last filter",
        ),
        (
            |_, m| m.normalize_path = yes(),
            "filter_chains[0].filters[0].normalize_path: true is not supported",
        ),
        (
            |_, m| m.via = "x".to_owned(),
            "filter_chains[0].filters[0].via: is not supported",
        ),
        (
            |_, m| {
                m.via = "x".to_owned();
                m.proxy_100_continue = true;
                m.merge_slashes = true;
            },
            "filter_chains[0].filters[0]: the fields via, proxy_100_continue, merge_slashes are not supported",
        ),
        (
            |_, m| m.codec_type = hcm::http_connection_manager::CodecType::Http3 as i32,
            "filter_chains[0].filters[0].codec_type: HTTP3 is not supported",
        ),
        (
            |_, m| {
                m.http2_protocol_options = Some(core::Http2ProtocolOptions {
                    allow_metadata: true,
                    ..Default::default()
                });
            },
            "filter_chains[0].filters[0].http2_protocol_options.allow_metadata: is not supported",
        ),
        (
            |_, m| m.upgrade_configs = vec![upgrade(""), upgrade("a")],
            "filter_chains[0].filters[0].upgrade_configs[0].upgrade_type: it must not be empty",
        ),
        (
            |_, m| m.upgrade_configs = vec![upgrade("a"), upgrade("A")],
            "filter_chains[0].filters[0].upgrade_configs[1].upgrade_type: \"A\" is given twice",
        ),
        (
            |_, m| m.upgrade_configs = vec![upgrade("connect-udp")],
            "filter_chains[0].filters[0].upgrade_configs[0].upgrade_type: \
             \"connect-udp\" is not supported",
        ),
        (
            |_, m| {
                m.upgrade_configs = vec![upgrade("a")];
                m.upgrade_configs[0].filters.push(router());
            },
            "filter_chains[0].filters[0].upgrade_configs[0].filters: is not supported, \
             the filters of the connection manager apply",
        ),
        (
            |_, m| {
                m.http2_protocol_options = Some(core::Http2ProtocolOptions {
                    initial_stream_window_size: number(1000),
                    ..Default::default()
                });
            },
            "filter_chains[0].filters[0].http2_protocol_options.initial_stream_window_size: \
             it must be 65535 to 2147483647",
        ),
        (
            |_, m| {
                m.http2_protocol_options = Some(core::Http2ProtocolOptions {
                    connection_keepalive: Some(core::KeepaliveSettings {
                        interval: seconds(1),
                        ..Default::default()
                    }),
                    ..Default::default()
                });
            },
            "filter_chains[0].filters[0].http2_protocol_options.connection_keepalive.timeout: \
             it must be at least 0.001s",
        ),
        (
            |_, m| m.stream_idle_timeout = seconds(-1),
            "filter_chains[0].filters[0].stream_idle_timeout: a duration must not be negative",
        ),
        (
            |_, m| m.route_specifier = None,
            "filter_chains[0].filters[0]: one of rds and route_config must be given",
        ),
        (
            |_, m| {
                let mut inline = routes("", "c");
                inline.virtual_hosts[0].routes[0]
                    .match_mut()
                    .dynamic_metadata
                    .push(Default::default());
                m.route_specifier = Some(RouteSpecifier::RouteConfig(inline));
            },
            "filter_chains[0].filters[0].route_config.virtual_hosts[0].routes[0].match.dynamic_metadata: \
             is not supported",
        ),
        (
            |_, m| {
                m.tracing = Some(Tracing {
                    verbose: true,
                    ..Default::default()
                });
            },
            "filter_chains[0].filters[0].tracing.verbose: is not supported",
        ),
        (
            |_, m| {
                m.tracing = Some(Tracing {
                    random_sampling: Some(Percent { value: 101.0 }),
                    ..Default::default()
                });
            },
            "filter_chains[0].filters[0].tracing.random_sampling: 101 is not a share between 0 and 100",
        ),
        (
            |l, _| l.address = address("localhost", 80),
            "address.socket_address.address: \"localhost\" is not an IP address",
        ),
        (
            |l, _| l.address = address("127.0.0.1", 65536),
            "address.socket_address.port_value: 65536 is not a port",
        ),
        (
            |l, _| l.enable_mptcp = true,
            "enable_mptcp: is not supported",
        ),
        (
            |l, _| l.listener_filters.push(Default::default()),
            "listener_filters[0].typed_config: it must be given",
        ),
        (
            |l, _| l.filter_chains.push(Default::default()),
            "filter_chains[1].filters: there is none, the last one must be given",
        ),
        (
            |l, _| {
                l.filter_chains[0].filter_chain_match = Some(listener::FilterChainMatch {
                    transport_protocol: "quic".to_owned(),
                    ..Default::default()
                });
            },
            "filter_chains[0].filter_chain_match.transport_protocol: \"quic\" is not supported",
        ),
        (
            |l, _| {
                l.filter_chains[0].transport_socket = Some(core::TransportSocket {
                    name: "envoy.transport_sockets.tls".to_owned(),
                    ..Default::default()
                });
            },
            "filter_chains[0].transport_socket: transport socket \"envoy.transport_sockets.tls\" is not \
             supported, only plaintext, TLS and (of clusters) the PROXY protocol are",
        ),
    ];
    for (change, expected) in cases {
        let mut changed = manager("r");
        let mut listener = listener_with("l", 80, manager("r"));
        change(&mut listener, &mut changed);
        if let Some(filter) = listener.filter_chains[0].filters.first_mut() {
            filter.config_type = Some(listener::filter::ConfigType::TypedConfig(pack_any(changed)));
        }
        assert_eq!(
            refused(LISTENER, &[pack_any(listener)]),
            format!("listener \"l\": {expected}")
        );
    }
}

trait RouteExt {
    fn match_mut(&mut self) -> &mut route::RouteMatch;
    fn action_mut(&mut self) -> &mut route::RouteAction;
}

impl RouteExt for route::Route {
    fn match_mut(&mut self) -> &mut route::RouteMatch {
        self.r#match.as_mut().expect("a match")
    }

    fn action_mut(&mut self) -> &mut route::RouteAction {
        match &mut self.action {
            Some(Action::Route(action)) => action,
            _ => panic!("not a forwarding route"),
        }
    }
}

#[test]
fn routes_are_refused_by_field() {
    type Change = fn(&mut route::RouteConfiguration, &mut route::Route);
    let cases: Vec<(Change, &str)> = vec![
        (
            |c, _| {
                c.request_headers_to_remove
                    .push("Content-Length".to_owned());
            },
            "request_headers_to_remove[0]: \"Content-Length\" must not be changed",
        ),
        (
            |c, _| c.internal_only_headers.push("x".to_owned()),
            "internal_only_headers: is not supported",
        ),
        (
            |c, _| c.virtual_hosts[0].domains = vec!["a".to_owned(), "A".to_owned()],
            "virtual_hosts[0].domains[1]: \"a\" belongs to another virtual host already",
        ),
        (
            |c, _| c.virtual_hosts[0].domains.clear(),
            "virtual_hosts[0].domains: there must be at least one",
        ),
        (
            |_, r| r.action_mut().prefix_rewrite = "/x y".to_owned(),
            "virtual_hosts[0].routes[0].route.prefix_rewrite: \"/x y\" has characters that it must not have",
        ),
        (
            |_, r| r.action_mut().path_rewrite = "/x".to_owned(),
            "virtual_hosts[0].routes[0].route.path_rewrite: is not supported",
        ),
        (
            |_, r| {
                let host = HostRewriteSpecifier::HostRewriteLiteral("a/b".to_owned());
                r.action_mut().host_rewrite_specifier = Some(host);
            },
            "virtual_hosts[0].routes[0].route.host_rewrite_literal: \"a/b\" is not a host",
        ),
        (
            |_, r| {
                r.action_mut().upgrade_configs = vec![route::route_action::UpgradeConfig {
                    upgrade_type: "websocket".to_owned(),
                    connect_config: Some(Default::default()),
                    ..Default::default()
                }];
            },
            "virtual_hosts[0].routes[0].route.upgrade_configs[0].connect_config: \
             is for upgrade_type CONNECT only",
        ),
        (
            |_, r| {
                r.action_mut().upgrade_configs = vec![route::route_action::UpgradeConfig {
                    upgrade_type: "CONNECT".to_owned(),
                    connect_config: Some(route::route_action::upgrade_config::ConnectConfig {
                        allow_post: true,
                        ..Default::default()
                    }),
                    ..Default::default()
                }];
            },
            "virtual_hosts[0].routes[0].route.upgrade_configs[0].connect_config.allow_post: \
             is not supported",
        ),
        (
            |_, r| {
                r.action_mut().retry_policy = Some(route::RetryPolicy {
                    retry_on: "5xx,never".to_owned(),
                    ..Default::default()
                });
            },
            "virtual_hosts[0].routes[0].route.retry_policy.retry_on: \"never\" is not known",
        ),
        (
            |_, r| {
                r.action_mut().cluster_specifier =
                    Some(ClusterSpecifier::WeightedClusters(Default::default()));
            },
            "virtual_hosts[0].routes[0].route.weighted_clusters: the weights add up to 0",
        ),
        (
            |_, r| {
                r.action = Some(Action::Redirect(route::RedirectAction {
                    port_redirect: 65_536,
                    ..Default::default()
                }));
            },
            "virtual_hosts[0].routes[0].redirect.port_redirect: it must be a port",
        ),
        (
            |_, r| {
                r.action = Some(Action::DirectResponse(route::DirectResponseAction {
                    status: 99,
                    ..Default::default()
                }));
            },
            "virtual_hosts[0].routes[0].direct_response.status: it must be 200 to 599",
        ),
        (
            |_, r| {
                r.match_mut().tls_context = Some(route::route_match::TlsContextMatchOptions {
                    validated: Some(BoolValue { value: true }),
                    ..Default::default()
                });
            },
            "virtual_hosts[0].routes[0].match.tls_context.validated: is not supported",
        ),
        (
            |_, r| {
                r.match_mut().path_specifier = Some(PathSpecifier::SafeRegex(
                    envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher {
                        regex: "(".to_owned(),
                        ..Default::default()
                    },
                ));
            },
            "virtual_hosts[0].routes[0].match.safe_regex.regex: \"(\" does not compile: error: unclosed group",
        ),
        (
            |_, r| r.request_headers_to_add.push(Default::default()),
            "virtual_hosts[0].routes[0].request_headers_to_add[0].header: it must be given",
        ),
    ];
    for (change, expected) in cases {
        let mut config = routes("r", "c");
        let mut route = config.virtual_hosts[0].routes.remove(0);
        change(&mut config, &mut route);
        config.virtual_hosts[0].routes.push(route);
        let expected = format!("route configuration \"r\": {expected}");
        assert_eq!(refused(ROUTE, &[pack_any(config)]), expected);
    }
}

#[test]
fn clusters_and_endpoints_are_refused_by_field() {
    type Change = fn(&mut cluster::Cluster);
    let cases: Vec<(Change, &str)> = vec![
        (
            |c| c.lb_policy = LbPolicy::ClusterProvided as i32,
            "lb_policy: CLUSTER_PROVIDED is not supported",
        ),
        (
            |c| c.cluster_discovery_type = Some(ClusterDiscoveryType::Type(4)),
            "lb_policy: an ORIGINAL_DST cluster must have CLUSTER_PROVIDED",
        ),
        (
            |c| {
                c.outlier_detection = Some(cluster::OutlierDetection {
                    monitors: vec![Default::default()],
                    ..Default::default()
                });
            },
            "outlier_detection.monitors: is not supported",
        ),
        (
            |c| c.connect_timeout = seconds(0),
            "connect_timeout: it must be more than 0s",
        ),
        (
            |c| c.eds_cluster_config = None,
            "eds_cluster_config.eds_config: only ads is supported",
        ),
        (
            |c| *c = dns_cluster(DiscoveryType::Static),
            "load_assignment: \"zipkin.local\" is not an IP address",
        ),
    ];
    for (change, expected) in cases {
        let mut cluster = eds_cluster("c");
        change(&mut cluster);
        let expected = format!("cluster {:?}: {expected}", cluster.name);
        assert_eq!(refused(CLUSTER, &[pack_any(cluster)]), expected);
    }
    let mut low = assignment("c", &[("10.0.0.1", 1)]);
    low.endpoints[0].priority = 129;
    assert_eq!(
        refused(ENDPOINT, &[pack_any(low)]),
        "endpoints of cluster \"c\": endpoints[0].priority: it must not be more than 128"
    );
    let named = assignment("c", &[("a.local", 1)]);
    assert_eq!(
        refused(ENDPOINT, &[pack_any(named)]),
        "endpoints of cluster \"c\": endpoints: \"a.local\" is not an IP address"
    );
}

#[test]
fn protocols_of_clusters_listeners_and_grpc_timeouts() {
    let now = Instant::now();
    let options = core::Http2ProtocolOptions {
        max_concurrent_streams: number(7),
        initial_stream_window_size: number(70_000),
        initial_connection_window_size: number(90_000),
        connection_keepalive: Some(core::KeepaliveSettings {
            interval: seconds(30),
            timeout: seconds(5),
            ..Default::default()
        }),
        max_outbound_frames: number(9),
        ..Default::default()
    };
    let compiled = Http2Options {
        max_concurrent_streams: 7,
        initial_stream_window_size: 70_000,
        initial_connection_window_size: 90_000,
        keepalive: Some(Keepalive {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            jitter_percent: 15,
        }),
        ..Http2Options::default()
    };
    let extension = |protocol: UpstreamProtocolOptions| {
        let options = pack_any(upstream::HttpProtocolOptions {
            upstream_protocol_options: Some(protocol),
            ..Default::default()
        });
        let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        [(key.to_owned(), options)].into()
    };
    let explicit = UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(options.clone())),
    });
    let downstream = UpstreamProtocolOptions::UseDownstreamProtocolConfig(
        upstream::http_protocol_options::UseDownstreamHttpConfig {
            http2_protocol_options: Some(options.clone()),
            ..Default::default()
        },
    );
    let mut clusters = [eds_cluster("a"), eds_cluster("b"), eds_cluster("c")];
    clusters[0].typed_extension_protocol_options = extension(explicit);
    clusters[1].typed_extension_protocol_options = extension(downstream);
    clusters[2].http2_protocol_options = Some(options.clone());
    let (mut store, _) = ready(now);
    take(&mut store, CLUSTER, &clusters.map(pack_any), now);
    let assigned = ["a", "b", "c"].map(|name| pack_any(assignment(name, &[("10.0.0.1", 1)])));
    take(&mut store, ENDPOINT, &assigned, now);
    let snapshot = store.advance(now).expect("a change");
    let protocol = |name: &str| snapshot.clusters[name].protocol;
    assert_eq!(protocol("a"), UpstreamProtocol::Http2(compiled));
    assert_eq!(protocol("b"), UpstreamProtocol::Downstream(compiled));
    assert_eq!(protocol("c"), UpstreamProtocol::Http2(compiled));

    let mut manager = manager("r");
    manager.http2_protocol_options = Some(options);
    manager.codec_type = hcm::http_connection_manager::CodecType::Http2 as i32;
    let mut table = routes("r", "c");
    let action = table.virtual_hosts[0].routes[0].action_mut();
    action.max_grpc_timeout = seconds(0);
    action.grpc_timeout_offset = seconds(1);
    action.max_stream_duration = Some(route::route_action::MaxStreamDuration {
        max_stream_duration: seconds(0),
        grpc_timeout_header_max: seconds(60),
        grpc_timeout_header_offset: seconds(2),
    });
    let listener = listener_with("l", 80, manager);
    take(&mut store, LISTENER, &[pack_any(listener)], now);
    take(&mut store, ROUTE, &[pack_any(table)], now);
    let snapshot = store.advance(now).expect("a change");
    let manager = manager_of(&snapshot.listeners[0]);
    assert_eq!((manager.codec, manager.http2), (Codec::Http2, compiled));
    let table = manager.routes.as_ref().expect("routes");
    let RouteAction::Forward(forward) = &table.virtual_hosts[0].routes[0].action else {
        panic!("it forwards");
    };
    let expected = GrpcTimeouts {
        max: Some(Duration::ZERO),
        offset: Duration::from_secs(1),
        stream_max: Some(Duration::from_secs(60)),
        stream_offset: Duration::from_secs(2),
    };
    assert_eq!(forward.grpc, expected);
}

#[test]
fn tracers() {
    let compile = |provider: Any| {
        let mut changed = manager("r");
        changed.tracing = Some(Tracing {
            client_sampling: Some(Percent { value: 50.9 }),
            random_sampling: Some(Percent { value: 12.345 }),
            spawn_upstream_span: yes(),
            max_path_tag_length: Some(UInt32Value { value: 64 }),
            provider: Some(trace::tracing::Http {
                name: "tracer".to_owned(),
                config_type: Some(trace::tracing::http::ConfigType::TypedConfig(provider)),
            }),
            ..Default::default()
        });
        let resource = pack_any(listener_with("l", 80, changed));
        let mut store = Store::default();
        let now = Instant::now();
        take(&mut store, CLUSTER, &[], now);
        store
            .apply(LISTENER, "v", (&[resource], Extent::Whole), now)
            .map_err(|all| all[0].reason.clone())?;
        take(&mut store, ROUTE, &[pack_any(routes("r", "c"))], now);
        let snapshot = store.advance(now).expect("a snapshot");
        Ok::<_, String>(
            manager_of(&snapshot.listeners[0])
                .tracing
                .clone()
                .expect("a tracer"),
        )
    };
    let collector = |uri: &str| core::HttpService {
        http_uri: Some(core::HttpUri {
            uri: uri.to_owned(),
            timeout: seconds(3),
            http_upstream_type: Some(HttpUpstreamType::Cluster("spans".to_owned())),
        }),
        ..Default::default()
    };
    let zipkin = trace::ZipkinConfig {
        collector_cluster: "zipkin".to_owned(),
        collector_endpoint: "/api/v2/spans".to_owned(),
        collector_endpoint_version: 1,
        trace_id_128bit: true,
        ..Default::default()
    };

    let tracing = compile(pack_any(zipkin.clone())).expect("accepted");
    assert_eq!(tracing.client_sampling, 5000);
    assert_eq!(tracing.random_sampling, 1235);
    assert_eq!(tracing.overall_sampling, 10_000);
    assert!(tracing.spawn_upstream_span);
    assert_eq!(tracing.max_path_tag_length, 64);
    let expected = TracingProvider::Zipkin {
        cluster: "zipkin".to_owned(),
        path: "/api/v2/spans".to_owned(),
        host: "zipkin".to_owned(),
        trace_id_128bit: true,
        shared_span_context: true,
        with_w3c: false,
    };
    assert_eq!(tracing.provider, expected);

    let newer = trace::ZipkinConfig {
        collector_service: Some(collector("http://zipkin.local:9411/api/v2/spans")),
        collector_endpoint_version: 1,
        trace_context_option: 1,
        shared_span_context: Some(BoolValue { value: false }),
        ..Default::default()
    };
    let expected = TracingProvider::Zipkin {
        cluster: "spans".to_owned(),
        path: "/api/v2/spans".to_owned(),
        host: "zipkin.local:9411".to_owned(),
        trace_id_128bit: false,
        shared_span_context: false,
        with_w3c: true,
    };
    assert_eq!(
        compile(pack_any(newer)).expect("accepted").provider,
        expected
    );

    let otlp = trace::OpenTelemetryConfig {
        http_service: Some(collector("http://otel.local/v1/traces")),
        service_name: "reviews.default".to_owned(),
        ..Default::default()
    };
    let expected = TracingProvider::OpenTelemetry {
        cluster: "spans".to_owned(),
        path: "/v1/traces".to_owned(),
        host: "otel.local".to_owned(),
        service_name: "reviews.default".to_owned(),
        timeout: Duration::from_secs(3),
    };
    assert_eq!(
        compile(pack_any(otlp)).expect("accepted").provider,
        expected
    );

    let at = "filter_chains[0].filters[0].tracing.provider";
    let proto = trace::ZipkinConfig {
        collector_endpoint_version: 2,
        ..zipkin
    };
    let grpc = trace::OpenTelemetryConfig {
        grpc_service: Some(Default::default()),
        ..Default::default()
    };
    for (provider, expected) in [
        (
            pack_any(proto),
            format!("{at}.typed_config.collector_endpoint_version: only HTTP_JSON is supported"),
        ),
        (
            pack_any(grpc),
            format!(
                "{at}.typed_config.grpc_service: export over gRPC is not supported, give http_service"
            ),
        ),
        (
            pack_any(trace::SkyWalkingConfig::default()),
            format!(
                "{at}: tracer \"tracer\" (envoy.config.trace.v3.SkyWalkingConfig) is not supported, only \
                 envoy.tracers.zipkin and envoy.tracers.opentelemetry are"
            ),
        ),
    ] {
        assert_eq!(compile(provider).expect_err("refused"), expected);
    }
}

#[test]
fn domains_are_sorted_by_kind_and_length() {
    let mut config = routes("r", "c");
    config.virtual_hosts = ["A.com", "*.b.com", "*.a.b.com", "c.*", "*"]
        .into_iter()
        .map(|domain| route::VirtualHost {
            name: domain.to_owned(),
            domains: vec![domain.to_owned()],
            routes: vec![a_route("/", "c")],
            ..Default::default()
        })
        .collect();
    let table = super::route::compile(config, &super::check::At::ROOT).expect("accepted");
    assert_eq!(table.exact["a.com"], 0);
    assert_eq!(
        table.suffixes,
        [(".a.b.com".to_owned(), 2), (".b.com".to_owned(), 1)]
    );
    assert_eq!(table.prefixes, [("c.".to_owned(), 3)]);
    assert_eq!(table.any, Some(4));
}

#[test]
fn header_conditions_in_all_their_forms() {
    let mut config = routes("r", "c");
    let matchers = [
        HeaderMatchSpecifier::ExactMatch("v".to_owned()),
        HeaderMatchSpecifier::PresentMatch(false),
        HeaderMatchSpecifier::StringMatch(
            envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher {
                match_pattern: Some(
                    envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern::Prefix(
                        "p".to_owned(),
                    ),
                ),
                ignore_case: false,
            },
        ),
    ];
    config.virtual_hosts[0].routes[0].match_mut().headers = matchers
        .into_iter()
        .map(|specifier| route::HeaderMatcher {
            name: "End-User".to_owned(),
            header_match_specifier: Some(specifier),
            ..Default::default()
        })
        .collect();
    let table = super::route::compile(config, &super::check::At::ROOT).expect("accepted");
    let headers = &table.virtual_hosts[0].routes[0].headers;
    assert_eq!(headers[0].name, "end-user");
    assert_eq!(headers[0].value, ValueMatch::Exact("v".to_owned()));
    assert!(headers[1].invert && headers[1].value == ValueMatch::Present);
    assert_eq!(headers[2].value, ValueMatch::Prefix("p".to_owned()));
}

#[test]
fn listeners_wait_for_routes_and_for_the_first_clusters() {
    let now = Instant::now();
    let mut store = Store::default();
    take(
        &mut store,
        LISTENER,
        &[pack_any(listener_with("l", 80, manager("r")))],
        now,
    );
    assert_eq!(store.wanted(ROUTE), ["r"]);
    take(&mut store, ROUTE, &[pack_any(routes("r", "c"))], now);
    assert!(
        store.advance(now).is_none(),
        "the clusters have not arrived"
    );
    assert!(!store.is_complete());

    take(&mut store, CLUSTER, &[pack_any(eds_cluster("c"))], now);
    assert_eq!(store.wanted(ENDPOINT), ["c"]);
    assert!(
        store.advance(now).is_none(),
        "the endpoints have not arrived"
    );

    take(&mut store, ENDPOINT, &[pack_any(assignment("c", &[]))], now);
    let snapshot = store.advance(now).expect("everything is there");
    assert_eq!((snapshot.listeners.len(), snapshot.clusters.len()), (1, 1));
    assert!(store.is_complete());
    assert!(store.advance(now).is_none(), "nothing has changed");
}

#[test]
fn nobody_waits_for_longer_than_the_fetch_timeout() {
    let now = Instant::now();
    let mut store = Store::default();
    take(&mut store, CLUSTER, &[pack_any(eds_cluster("c"))], now);
    take(
        &mut store,
        LISTENER,
        &[pack_any(listener_with("l", 80, manager("r")))],
        now,
    );
    let deadline = store.next_deadline().expect("something waits");
    assert_eq!(deadline, now + Duration::from_secs(15));
    assert!(store.advance(deadline - Duration::from_millis(1)).is_none());
    let snapshot = store.advance(deadline).expect("used as it is");
    assert!(snapshot.clusters["c"].endpoints.is_empty());
    assert!(manager_of(&snapshot.listeners[0]).routes.is_none());
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn the_former_form_stays_until_the_new_one_is_ready() {
    let now = Instant::now();
    let (mut store, first) = ready(now);
    take(
        &mut store,
        LISTENER,
        &[pack_any(listener_with("l", 80, manager("other")))],
        now,
    );
    assert_eq!(store.wanted(ROUTE), ["other", "r"]);
    assert!(store.advance(now).is_none());
    take(&mut store, ROUTE, &[pack_any(routes("other", "c"))], now);
    let second = store.advance(now).expect("ready");
    let table = |snapshot: &Snapshot| {
        manager_of(&snapshot.listeners[0])
            .routes
            .as_ref()
            .expect("routes")
            .name
            .clone()
    };
    assert_eq!(
        (table(&first), table(&second)),
        ("r".to_owned(), "other".to_owned())
    );
    assert_eq!(store.wanted(ROUTE), ["other"]);
    assert!(std::sync::Arc::ptr_eq(
        &first.clusters["c"],
        &second.clusters["c"]
    ));

    let mut elsewhere = eds_cluster("c");
    elsewhere
        .eds_cluster_config
        .as_mut()
        .expect("eds")
        .service_name = "elsewhere".to_owned();
    take(&mut store, CLUSTER, &[pack_any(elsewhere)], now);
    assert!(store.advance(now).is_none());
    take(
        &mut store,
        ENDPOINT,
        &[pack_any(assignment("elsewhere", &[("10.0.0.2", 2)]))],
        now,
    );
    let third = store.advance(now).expect("ready");
    assert_eq!(third.clusters["c"].endpoints[0].address.port(), 2);
    assert!(std::sync::Arc::ptr_eq(
        &second.listeners[0],
        &third.listeners[0]
    ));
}

#[test]
fn a_refused_resource_keeps_its_last_good_form_and_the_others_move_on() {
    let now = Instant::now();
    let (mut store, _) = ready(now);
    let mut bad = listener_with("l", 81, manager("r"));
    bad.enable_mptcp = true;
    let good = listener_with("m", 82, manager("r"));
    let outcome = store.apply(
        LISTENER,
        "v2",
        (&[pack_any(bad.clone()), pack_any(good)], Extent::Whole),
        now,
    );
    assert_eq!(outcome.expect_err("refused").len(), 1);
    let snapshot = store.advance(now).expect("the good one is new");
    let ports: Vec<_> = snapshot
        .listeners
        .iter()
        .map(|l| l.address.port())
        .collect();
    assert_eq!(ports, [80, 82]);

    // The same bad form is refused again, and what is gone from the response is gone.
    assert!(
        store
            .apply(LISTENER, "v3", (&[pack_any(bad)], Extent::Whole), now)
            .is_err()
    );
    assert_eq!(store.advance(now).expect("m is gone").listeners.len(), 1);
}

#[test]
fn two_listeners_at_one_address_and_two_of_one_name_are_refused() {
    let one = pack_any(listener_with("one", 80, manager("r")));
    let two = pack_any(listener_with("two", 80, manager("r")));
    assert_eq!(
        refused(LISTENER, &[one.clone(), two]),
        "listener \"two\": address: 127.0.0.1:80 belongs to listener \"one\" already"
    );
    assert_eq!(
        refused(LISTENER, &[one.clone(), one]),
        "listener \"one\": its name must be unique and not empty"
    );
}

#[test]
fn names_are_resolved_and_keep_their_addresses_when_resolving_fails() {
    let now = Instant::now();
    let mut store = Store::default();
    take(
        &mut store,
        CLUSTER,
        &[pack_any(dns_cluster(DiscoveryType::StrictDns))],
        now,
    );
    assert!(store.advance(now).is_none(), "not resolved yet");
    let lookup: Lookup = store.lookups().into_iter().next().expect("a name");
    assert_eq!(
        (lookup.name.as_str(), lookup.all_addresses),
        ("zipkin.local", true)
    );
    let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    store.resolved(lookup.clone(), vec![address(1), address(2)]);
    let snapshot = store.advance(now).expect("resolved");
    let ports: Vec<_> = snapshot.clusters["dns"]
        .endpoints
        .iter()
        .map(|e| e.address.port())
        .collect();
    assert_eq!(ports, [9411, 9411]);
    store.resolved(lookup.clone(), Vec::new());
    assert!(store.advance(now).is_none(), "the addresses stay");
    store.resolved(lookup, vec![address(3)]);
    let snapshot = store.advance(now).expect("new addresses");
    assert_eq!(
        snapshot.clusters["dns"].endpoints[0].address.ip(),
        address(3)
    );
}

#[test]
fn unhealthy_endpoints_are_used_only_in_panic() {
    let usable = |unhealthy: usize, threshold: Option<f64>| {
        let mut all = assignment("c", &[("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)]);
        for endpoint in &mut all.endpoints[0].lb_endpoints[..unhealthy] {
            endpoint.health_status = core::HealthStatus::Unhealthy as i32;
        }
        let mut cluster = eds_cluster("c");
        cluster.common_lb_config = threshold.map(|value| cluster::cluster::CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value }),
            ..Default::default()
        });
        let now = Instant::now();
        let mut store = Store::default();
        take(&mut store, CLUSTER, &[pack_any(cluster)], now);
        take(&mut store, ENDPOINT, &[pack_any(all)], now);
        let snapshot = store.advance(now).expect("a snapshot");
        let plan = snapshot.clusters["c"].members().plan();
        plan.in_use().len()
    };
    assert_eq!(usable(0, None), 3);
    assert_eq!(usable(1, None), 2);
    assert_eq!(
        usable(2, None),
        3,
        "a third is healthy, less than the half that is needed"
    );
    assert_eq!(usable(2, Some(0.0)), 1);
    assert_eq!(usable(3, Some(0.0)), 0);
}

/// Where a request of listener `l` goes.
fn destination(snapshot: &Snapshot) -> &str {
    let manager = manager_of(&snapshot.listeners[0]);
    let table = manager.routes.as_ref().expect("routes");
    let RouteAction::Forward(forward) = &table.virtual_hosts[0].routes[0].action else {
        panic!("not forwarded");
    };
    &forward.clusters[0].name
}

#[test]
fn routes_wait_for_the_clusters_that_they_lead_to() {
    let now = Instant::now();
    let (mut store, _) = ready(now);
    let clusters = [eds_cluster("c"), eds_cluster("d")].map(pack_any);
    take(&mut store, CLUSTER, &clusters, now);
    take(&mut store, ROUTE, &[pack_any(routes("r", "d"))], now);
    assert!(store.advance(now).is_none(), "d has no endpoints yet");
    take(
        &mut store,
        ENDPOINT,
        &[pack_any(assignment("d", &[("10.0.0.2", 1)]))],
        now,
    );
    let snapshot = store.advance(now).expect("both at once");
    assert_eq!(destination(&snapshot), "d");
    // A cluster that nobody knows is not waited for, and one that does not come not for ever.
    take(&mut store, ROUTE, &[pack_any(routes("r", "unknown"))], now);
    let snapshot = store.advance(now).expect("new routes");
    assert_eq!(destination(&snapshot), "unknown");
    let clusters = ["c", "d", "e"].map(|name| pack_any(eds_cluster(name)));
    take(&mut store, CLUSTER, &clusters, now);
    take(&mut store, ROUTE, &[pack_any(routes("r", "e"))], now);
    assert!(store.advance(now).is_none());
    let later = store.next_deadline().expect("a deadline");
    let snapshot = store.advance(later).expect("it has waited long enough");
    assert_eq!(destination(&snapshot), "e");
}

#[test]
fn changes_take_away_what_they_name() {
    let now = Instant::now();
    let (mut store, _) = ready(now);
    let mut change = |type_url: &str, resources: &[Any], removed: &[&str]| {
        let removed: Vec<String> = removed.iter().map(|name| (*name).to_owned()).collect();
        let extent = Extent::Changes(&removed);
        let taken = store.apply(type_url, "v2", (resources, extent), now);
        taken.expect("accepted");
        store.advance(now)
    };
    let other = cluster::Cluster {
        name: "d".to_owned(),
        ..Default::default()
    };
    let snapshot = change(CLUSTER, &[pack_any(other)], &[]).expect("a second one");
    assert_eq!(snapshot.clusters.len(), 2);
    assert!(
        change(ENDPOINT, &[], &["c"]).is_none(),
        "endpoints stay with their cluster"
    );
    assert!(
        change(ROUTE, &[], &["r"]).is_none(),
        "routes with their listener"
    );
    let snapshot = change(CLUSTER, &[], &["c", "nobody"]).expect("one less");
    assert_eq!(snapshot.clusters.keys().collect::<Vec<_>>(), ["d"]);
    let snapshot = change(LISTENER, &[], &["l"]).expect("none");
    assert!(snapshot.listeners.is_empty());
}

#[test]
fn every_ignored_field_is_documented() {
    let documented = include_str!("../../../../../docs/xds-support.md");
    let ignored = documented.split("## Ignored").nth(1).expect("the section");
    let sources = [
        include_str!("balancing.rs"),
        include_str!("breakers.rs"),
        include_str!("cluster.rs"),
        include_str!("endpoint.rs"),
        include_str!("filters/fault.rs"),
        include_str!("filters/mod.rs"),
        include_str!("health_check.rs"),
        include_str!("http2.rs"),
        include_str!("listener.rs"),
        include_str!("manager.rs"),
        include_str!("matcher.rs"),
        include_str!("policy.rs"),
        include_str!("route.rs"),
        include_str!("tracing.rs"),
    ];
    let lists = regex::Regex::new(r"ignored!\((?:\w+): ([^)]+)\)").expect("valid");
    let mut count = 0;
    for list in sources
        .iter()
        .flat_map(|source| lists.captures_iter(source))
    {
        for field in list[1]
            .split(',')
            .map(str::trim)
            .filter(|field| !field.is_empty())
        {
            assert!(
                ignored.contains(&format!("`{field}`")),
                "{field} is not documented"
            );
            count += 1;
        }
    }
    assert!(count > 50, "only {count} fields were found");
}
