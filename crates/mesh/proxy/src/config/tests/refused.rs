//! What is refused, and in which words.

use envoy_types::pb::envoy::config::route::v3::rate_limit::action::ActionSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::r#type::v3::TokenBucket;

use super::*;

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
            |_, m| m.path_with_escaped_slashes_action = 9,
            "filter_chains[0].filters[0].path_with_escaped_slashes_action: is not known",
        ),
        (
            |_, m| m.via = "x".to_owned(),
            "filter_chains[0].filters[0].via: is not supported",
        ),
        (
            |_, m| {
                m.via = "x".to_owned();
                m.skip_xff_append = true;
            },
            "filter_chains[0].filters[0]: the fields skip_xff_append, via are not supported",
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
            "filter_chains[0].filters[0].route_config.virtual_hosts[0].routes[0].match.dynamic_metadata[0].filter: \
             it must not be empty",
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
            |_, r| r.action_mut().request_mirror_policies = vec![Default::default()],
            "virtual_hosts[0].routes[0].route.request_mirror_policies[0].cluster: it must be given",
        ),
        (
            |_, r| {
                let extension = ActionSpecifier::Extension(Default::default());
                r.action_mut().rate_limits = vec![route::RateLimit {
                    actions: vec![route::rate_limit::Action {
                        action_specifier: Some(extension),
                    }],
                    ..Default::default()
                }];
            },
            "virtual_hosts[0].routes[0].route.rate_limits[0].actions[0]: only generic_key, \
             request_headers, query_parameters, remote_address, header_value_match, \
             query_parameter_value_match, source_cluster and destination_cluster are supported",
        ),
        (
            |_, r| {
                let policy = CorsPolicy {
                    allow_methods: "GET\r\nx: y".to_owned(),
                    ..Default::default()
                };
                let configs = &mut r.typed_per_filter_config;
                configs.insert("cors".to_owned(), pack_any(policy));
            },
            "virtual_hosts[0].routes[0].typed_per_filter_config.cors.allow_methods: \
             it must have no control characters",
        ),
        (
            |_, r| {
                let limit = LocalRateLimit {
                    stat_prefix: "a".to_owned(),
                    token_bucket: Some(TokenBucket {
                        max_tokens: 1,
                        fill_interval: seconds(0),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                let configs = &mut r.typed_per_filter_config;
                configs.insert("limit".to_owned(), pack_any(limit));
            },
            "virtual_hosts[0].routes[0].typed_per_filter_config.limit.token_bucket.fill_interval: \
             it must be at least 50ms",
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
