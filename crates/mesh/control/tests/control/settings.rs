//! Settings of services and rules: who sees them, which addresses they have, how connections to them begin and end, and
//! what is answered in their place.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, proxy_protocol_config::Version};
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, filter};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use periplus_control::{Generated, Index, Proxy, generate};
use periplus_resources::{MeshConfig, parse_resources};

use crate::connections::{lines, listener, sidecar};
use crate::generate::mesh_config;
use crate::semantics::errors;
use crate::support::invariants;
use crate::support::render::unpack;

fn made(text: &str) -> Generated {
    let parsed = parse_resources("x.yaml", text);
    assert_eq!(parsed.errors, []);
    let index = Index::certified(&parsed.resources, MeshConfig::default());
    let proxy = Proxy::from_node(&sidecar("client")).expect("a good node");
    let made = generate(&index, &proxy);
    invariants::check(&made);
    made
}

fn resource(kind: &str, name: &str, spec: &str) -> String {
    crate::semantics::resource(kind, name, &format!("{{{spec}}}"))
}

fn service(name: &str, spec: &str) -> String {
    resource(
        "ServiceEntry",
        name,
        &format!("hosts: [{name}.default.svc.cluster.local], {spec}"),
    )
}

fn rule(host: &str, policy: &str) -> String {
    resource(
        "DestinationRule",
        host,
        &format!("host: {host}, trafficPolicy: {{{policy}}}"),
    )
}

fn cluster<'a>(made: &'a Generated, port: u16, host: &str) -> Option<&'a Cluster> {
    let name = format!("outbound|{port}||{host}.default.svc.cluster.local");
    made.clusters.iter().find(|one| one.name == name)
}

#[test]
fn who_sees_what_does_not_say_it_is_said_by_the_mesh() {
    let text = [("said", "exportTo: ['*'], "), ("unsaid", "")].map(|(name, export)| {
        let ports = "ports: [{number: 80, name: http}]";
        let host = format!("{name}.default.svc.cluster.local");
        service(name, &format!("{export}resolution: STATIC, {ports}"))
            + &resource("DestinationRule", name, &format!("{export}host: {host}"))
            + &resource(
                "VirtualService",
                name,
                &format!("{export}hosts: [{host}], http: [{{route: [{{destination: {{host: {host}}}}}]}}]"),
            )
    });
    let parsed = parse_resources("x.yaml", &text.concat());
    assert_eq!(parsed.errors, []);
    let kinds = ["Service", "VirtualService", "DestinationRule"];
    for (at, kind) in kinds.into_iter().enumerate() {
        for (default, expected) in [
            ("['*']", [true, true]),
            ("['.']", [true, false]),
            ("[other]", [true, true]),
            ("[elsewhere]", [true, false]),
            ("['~']", [true, false]),
        ] {
            let mesh = mesh_config(&format!("default{kind}ExportTo: {default}\n"));
            let index = Index::new(&parsed.resources, mesh);
            let exports = match at {
                0 => index
                    .services()
                    .map(|one| one.spec.export_to.clone())
                    .collect(),
                1 => index
                    .virtual_services()
                    .iter()
                    .map(|one| one.spec.export_to.clone())
                    .collect(),
                _ => index
                    .destination_rules()
                    .iter()
                    .map(|one| one.spec.export_to.clone())
                    .collect::<Vec<_>>(),
            };
            let seen: Vec<bool> = exports
                .iter()
                .map(|it| it.reaches("default", "other"))
                .collect();
            assert_eq!(seen, expected, "{kind} {default}");
        }
    }
    let kubernetes =
        "apiVersion: v1\nkind: Service\nmetadata: {name: k}\nspec: {ports: [{port: 80}]}\n";
    let parsed = parse_resources("x.yaml", kubernetes);
    let index = Index::new(
        &parsed.resources,
        mesh_config("defaultServiceExportTo: ['.']\n"),
    );
    assert!(
        !index
            .services()
            .next()
            .expect("a service")
            .is_visible_in("other")
    );
}

#[test]
fn services_may_have_blocks_of_addresses() {
    let ports =
        "ports: [{number: 5432, name: tcp}, {number: 443, name: tls}, {number: 81, name: any}]";
    let text = service(
        "block",
        &format!("addresses: [10.1.0.0/16, '2001:db8::/32'], resolution: NONE, {ports}"),
    ) + &service(
        "other",
        "resolution: STATIC, ports: [{number: 5432, name: tcp}], endpoints: [{address: 10.0.0.6}]",
    );
    let made = made(&text);
    let block = |port: u16| format!("outbound|{port}||block");
    assert_eq!(
        lines(listener(&made, "0.0.0.0_5432")),
        [
            format!("[10.1.0.0/16] {}", block(5432)),
            "[] outbound|5432||other".to_owned()
        ]
    );
    assert_eq!(
        lines(listener(&made, "0.0.0.0_443")),
        [
            format!("[10.1.0.0/16] {}", block(443)),
            "[] PassthroughCluster".to_owned()
        ]
    );
    assert_eq!(
        lines(listener(&made, "0.0.0.0_81")),
        [
            "[raw_buffer 10.1.0.0/16] HTTP".to_owned(),
            format!("[10.1.0.0/16] {}", block(81)),
            "[] PassthroughCluster".to_owned()
        ]
    );
    let wrong = |addresses: &str, resolution: &str| {
        let spec = format!(
            "addresses: [{addresses}], resolution: {resolution}, ports: [{{number: 80, name: tcp}}]"
        );
        errors(&service("block", &spec)).join("\n")
    };
    assert!(wrong("10.0.0.0/8", "DNS").contains("only a service with resolution NONE or STATIC"));
    assert!(wrong("10.0.0.0/40", "NONE").contains("is no address, nor ADDRESS/LENGTH"));
}

/// Of the last filter of a chain.
fn idle_timeout(chain: &FilterChain) -> Option<i64> {
    let filter = chain.filters.last().expect("a filter");
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        panic!("{filter:?}");
    };
    let proxy = unpack::<TcpProxy>(any);
    proxy.idle_timeout.map(|time| time.seconds)
}

#[test]
fn idle_connections_end_when_the_rule_says() {
    let services = service(
        "db",
        "addresses: [10.9.0.1], resolution: STATIC, ports: [{number: 5432, name: tcp}, {number: 80, name: http}], endpoints: [{address: 10.0.0.5}]",
    );
    let routed = resource(
        "VirtualService",
        "db",
        "hosts: [db.default.svc.cluster.local], tcp: [{route: [{destination: {host: db.default.svc.cluster.local, port: {number: 5432}}}]}]",
    );
    for (policy, tcp, http) in [
        ("connectionPool: {tcp: {idleTimeout: 7s}}", Some(7), Some(7)),
        ("connectionPool: {tcp: {idleTimeout: 0s}}", Some(0), Some(0)),
        (
            "connectionPool: {tcp: {idleTimeout: 7s}, http: {idleTimeout: 9s}}",
            Some(7),
            Some(9),
        ),
        ("connectionPool: {http: {idleTimeout: 9s}}", None, Some(9)),
        (
            "portLevelSettings: [{port: {number: 5432}, connectionPool: {tcp: {idleTimeout: 5s}}}]",
            Some(5),
            None,
        ),
    ] {
        for routed in ["", &routed] {
            let made = made(&(services.clone() + &rule("db", policy) + routed));
            let chain = listener(&made, "10.9.0.1_5432")
                .default_filter_chain
                .as_ref();
            assert_eq!(
                idle_timeout(chain.expect("a chain")),
                tcp,
                "{policy} {routed}"
            );
            let options = &cluster(&made, 80, "db")
                .expect("a cluster")
                .typed_extension_protocol_options;
            let mut options = options.values().map(unpack::<HttpProtocolOptions>);
            let found = options
                .next()
                .and_then(|it| it.common_http_protocol_options?.idle_timeout);
            assert_eq!(found.map(|time| time.seconds), http, "{policy}");
        }
    }
}

/// `VERSION(INNER)`.
fn told(socket: Option<&TransportSocket>) -> String {
    let socket = socket.expect("a socket");
    let short = |name: &str| name.replace("envoy.transport_sockets.", "");
    if socket.name != "envoy.transport_sockets.upstream_proxy_protocol" {
        return short(&socket.name);
    }
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    let wrapped = unpack::<ProxyProtocolUpstreamTransport>(any);
    let version = wrapped.config.expect("a version").version;
    let inner = wrapped.transport_socket.expect("an inner socket").name;
    let name = if version == Version::V2 as i32 {
        "V2"
    } else {
        "V1"
    };
    format!("{name}({})", short(&inner))
}

#[test]
fn connections_may_begin_by_saying_whose_they_are() {
    let ports = "ports: [{number: 80, name: http}, {number: 81, name: grpc}, {number: 82, name: tcp}, {number: 83, name: any}]";
    let services = |location: &str| {
        service(
            "web",
            &format!(
                "location: {location}, resolution: STATIC, {ports}, endpoints: [{{address: 10.0.0.5}}]"
            ),
        )
    };
    for (policy, location, expected) in [
        (
            "proxyProtocol: {version: V1}",
            "MESH_EXTERNAL",
            &["V1(raw_buffer)"][..],
        ),
        ("proxyProtocol: {}", "MESH_EXTERNAL", &["V1(raw_buffer)"]),
        (
            "proxyProtocol: {version: V2}, tls: {mode: SIMPLE}",
            "MESH_EXTERNAL",
            &["V2(tls)"],
        ),
        (
            "proxyProtocol: {version: V2}",
            "MESH_INTERNAL",
            &["V2(tls)", "V2(raw_buffer)"],
        ),
    ] {
        let made = made(&(services(location) + &rule("web", policy)));
        for port in [80, 82, 83] {
            let cluster = cluster(&made, port, "web").expect("a cluster");
            let matches = cluster.transport_socket_matches.iter();
            let mut found: Vec<_> = matches
                .map(|one| told(one.transport_socket.as_ref()))
                .collect();
            if found.is_empty() {
                found.push(told(cluster.transport_socket.as_ref()));
            }
            assert_eq!(found, expected, "{policy} {port}");
        }
        assert!(
            cluster(&made, 81, "web").is_none(),
            "connections of HTTP/2 are shared"
        );
        let why = "requests to web.default.svc.cluster.local on port 81 get 503: the PROXY protocol does not go with HTTP/2";
        assert!(
            made.told().any(|it| it.starts_with(why)),
            "{:?}",
            made.lacks
        );
    }
    let wrong = errors(&rule("web", "tunnel: {targetHost: a, targetPort: 1}")).join("\n");
    assert!(
        wrong.contains("`tunnel` is not supported: proxies put no connections into requests"),
        "{wrong}"
    );
}

#[test]
fn cookies_have_attributes() {
    let services = service(
        "web",
        "resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.0.0.5}]",
    );
    let cookie = "name: at, path: /, ttl: 60s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]";
    let policy = |cookie: &str| {
        rule(
            "web",
            &format!("loadBalancer: {{consistentHash: {{httpCookie: {{{cookie}}}}}}}"),
        )
    };
    let made = made(&(services + &policy(cookie)));
    let routes = made
        .routes
        .iter()
        .flat_map(|it| &it.virtual_hosts)
        .flat_map(|it| &it.routes);
    let policies = routes.filter_map(|route| match &route.action {
        Some(Action::Route(action)) => action.hash_policy.first()?.policy_specifier.clone(),
        _ => None,
    });
    let cookies = policies.filter_map(|policy| match policy {
        PolicySpecifier::Cookie(cookie) => Some(cookie.attributes),
        _ => None,
    });
    let cookies: Vec<_> = cookies.collect();
    let [attributes] = cookies.as_slice() else {
        panic!("{cookies:?}");
    };
    let pairs = attributes
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_str()));
    assert_eq!(
        pairs.collect::<Vec<_>>(),
        [("SameSite", "Strict"), ("Secure", "")]
    );
    let wrong = errors(&policy("name: at, ttl: 0s, attributes: [{name: 'a;b'}]")).join("\n");
    assert!(
        wrong.contains("attributes[0].name: may hold printable ASCII"),
        "{wrong}"
    );
}

#[test]
fn answers_may_be_long_and_in_bytes() {
    let services = service(
        "web",
        "resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.0.0.5}]",
    );
    let answer = |body: &str| {
        let spec = format!(
            "hosts: [web.default.svc.cluster.local], http: [{{directResponse: {{status: 418, body: {{{body}}}}}}}]"
        );
        resource("VirtualService", "web", &spec)
    };
    let long = "x".repeat(4097);
    for (body, expected, most) in [
        ("string: tea".to_owned(), "tea", None),
        ("bytes: dGVh".to_owned(), "tea", None),
        (format!("string: {long}"), &*long, Some(1 << 20)),
    ] {
        let made = made(&(services.clone() + &answer(&body)));
        let routes = made
            .routes
            .iter()
            .find(|routes| routes.name == "80")
            .expect("routes");
        let mut all = routes.virtual_hosts.iter().flat_map(|it| &it.routes);
        let found = all.find_map(|route| match &route.action {
            Some(Action::DirectResponse(response)) => response.body.clone()?.specifier,
            _ => None,
        });
        assert_eq!(found, Some(Specifier::InlineString(expected.to_owned())));
        let limit = routes
            .max_direct_response_body_size_bytes
            .map(|limit| limit.value);
        assert_eq!(limit, most);
    }
    for (body, said) in [
        (
            "bytes: '!'",
            "expected a text in UTF-8 that is encoded in Base64",
        ),
        (
            "bytes: /w==",
            "expected a text in UTF-8 that is encoded in Base64",
        ),
        (
            "string: a, bytes: YQ==",
            "expected one of `string` and `bytes`",
        ),
    ] {
        let wrong = errors(&answer(body)).join("\n");
        assert!(wrong.contains(said), "{body}: {wrong}");
    }
    let too_long = errors(&answer(&format!("string: {}", "x".repeat((1 << 20) + 1)))).join("\n");
    assert!(
        too_long.contains("the body is longer than 1048576 bytes"),
        "{too_long}"
    );
}
