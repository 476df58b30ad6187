//! What is taken, and what becomes of it.

mod istiod;
mod refused;
mod tracers;
mod waiting;

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
        // What limits the stream stands in place of it.
        max: None,
        offset: Duration::from_secs(1),
        stream_max: Some(Duration::from_secs(60)),
        stream_offset: Duration::from_secs(2),
    };
    assert_eq!(forward.grpc, expected);
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
    assert_eq!(&*headers[0].name, "end-user");
    assert_eq!(headers[0].value, ValueMatch::Exact("v".to_owned()));
    assert!(headers[1].invert && headers[1].value == ValueMatch::Present);
    assert_eq!(headers[2].value, ValueMatch::Prefix("p".to_owned()));
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
