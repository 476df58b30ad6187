//! `DYNAMIC_DNS`: which listeners look names up, for which clusters, and what is said of rules that cannot hold there.

use std::net::Ipv4Addr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DnsLookupFamily, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, Listener, ListenerFilter, filter,
};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as of_requests;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3 as of_tls;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier;
use periplus_control::{Described, Generated, Index, Proxy, generate};
use periplus_proxy::explain::Explainer;
use periplus_resources::{MeshConfig, parse_resources};
use prost::Name;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::connections::{lines, listener, sidecar};
use crate::generate::mesh_config;
use crate::semantics::resource;
use crate::support::envoy::{Envoy, binary, refusal};
use crate::support::http::{Answer, get, serve};
use crate::support::plane::Plane;
use crate::support::render::{routing, unpack};
use crate::support::{PATIENCE, gateway, invariants, node};

const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec:
  hosts: ['*.wild.example']
  resolution: DYNAMIC_DNS
  ports: [{number: 80, name: http}, {number: 90, name: grpc}, {number: 443, name: tls}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http}, {number: 81, name: http-more}, {number: 443, name: tls}, {number: 5432, name: tcp}]
  addresses: [10.96.0.7]
  endpoints: [{address: 10.0.0.7}]
---
";

const BY_NAME: &str = "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}\n";

/// One with a listener for requests in absolute form.
const FORWARD: &str = "{egress: [{port: {number: 3128, name: http-proxy, protocol: HTTP_PROXY}, captureMode: NONE, \
                       hosts: ['*/*']}]}";

fn made_of(text: &str, mesh: MeshConfig, node: &Node) -> Generated {
    let parsed = parse_resources("x.yaml", text);
    assert_eq!(parsed.errors, []);
    let index = Index::certified(&parsed.resources, mesh);
    let proxy = Proxy::from_node(node).expect("a good node");
    let made = generate(&index, &proxy);
    invariants::check(&made);
    // Our own proxies take it.
    if let Err(rejections) = Explainer::new(made.packed()) {
        panic!("{rejections:?}");
    }
    made
}

fn made(more: &str, mesh: &str) -> Generated {
    let text = format!("{SERVICES}{more}");
    made_of(&text, mesh_config(mesh), &sidecar("client"))
}

/// Of a proxy that clients call themselves.
fn called(more: &str, mesh: &str) -> Generated {
    let sidecar = resource("Sidecar", "forward", FORWARD);
    let text = format!("{SERVICES}{more}---\n{sidecar}");
    made_of(&text, mesh_config(mesh), &called_node())
}

fn called_node() -> Node {
    let id = "sidecar~127.0.0.1~client.default~default.svc.cluster.local";
    node(id, "client.default", "default", &[("app", "client")])
}

/// What a chain looks up, each with what is before and behind it.
fn lookups(chain: &FilterChain) -> Vec<String> {
    let mut found = Vec::new();
    let filters = chain.filters.iter();
    for (at, one) in filters.enumerate() {
        let Some(filter::ConfigType::TypedConfig(any)) = &one.config_type else {
            panic!("{one:?}");
        };
        if any.type_url == of_tls::FilterConfig::type_url() {
            let config = unpack::<of_tls::FilterConfig>(any);
            check_cache(&config.dns_cache_config.expect("a cache"));
            let Some(PortSpecifier::PortValue(port)) = config.port_specifier else {
                panic!("no port");
            };
            found.push(format!("port {port}, then {}", chain.filters[at + 1].name));
        } else if any.type_url == HttpConnectionManager::type_url() {
            let manager = unpack::<HttpConnectionManager>(any);
            let filters = manager.http_filters;
            let wanted = filters.iter().position(looks_up);
            found.extend(wanted.map(|at| format!("host, then {}", filters[at + 1].name)));
        }
    }
    found
}

fn looks_up(one: &HttpFilter) -> bool {
    let Some(http_filter::ConfigType::TypedConfig(any)) = &one.config_type else {
        panic!("{one:?}");
    };
    if any.type_url != of_requests::FilterConfig::type_url() {
        return false;
    }
    let config = unpack::<of_requests::FilterConfig>(any);
    let Some(ImplementationSpecifier::DnsCacheConfig(cache)) = config.implementation_specifier
    else {
        panic!("no cache");
    };
    check_cache(&cache);
    true
}

/// All of a proxy are the same one.
fn check_cache(cache: &DnsCacheConfig) {
    let expected = DnsCacheConfig {
        name: "dynamic_dns".to_owned(),
        dns_lookup_family: DnsLookupFamily::V4Only.into(),
        ..DnsCacheConfig::default()
    };
    assert_eq!(*cache, expected);
}

/// What each listener looks up, of those that do.
fn all_lookups(made: &Generated) -> Vec<(&str, Vec<String>)> {
    let listeners = made.listeners.iter();
    listeners
        .map(|listener| {
            let chains = listener.filter_chains.iter();
            let chains = chains.chain(&listener.default_filter_chain);
            (listener.name.as_str(), chains.flat_map(lookups).collect())
        })
        .filter(|(_, found): &(&str, Vec<String>)| !found.is_empty())
        .collect()
}

fn cluster<'a>(made: &'a Generated, name: &str) -> Option<&'a Cluster> {
    made.clusters.iter().find(|one| one.name == name)
}

fn check_cluster(cluster: &Cluster) {
    let Some(ClusterDiscoveryType::ClusterType(kind)) = &cluster.cluster_discovery_type else {
        panic!("{cluster:?}");
    };
    assert_eq!(kind.name, "envoy.clusters.dynamic_forward_proxy");
    let config = unpack::<ClusterConfig>(kind.typed_config.as_ref().expect("it says how"));
    assert!(config.allow_insecure_cluster_options);
    let Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)) =
        config.cluster_implementation_specifier
    else {
        panic!("no cache");
    };
    check_cache(&cache);
    assert_eq!(cluster.lb_policy(), LbPolicy::ClusterProvided);
    assert_eq!(cluster.lb_config, None);
    assert_eq!(cluster.eds_cluster_config, None);
    assert_eq!(cluster.load_assignment, None);
    assert_eq!(cluster.transport_socket, None);
    assert_eq!(cluster.transport_socket_matches, []);
}

#[test]
fn names_are_looked_up_where_a_listener_leads_to_them() {
    let of_requests = "host, then envoy.filters.http.router".to_owned();
    let of_tls = "port 443, then envoy.filters.network.tcp_proxy".to_owned();
    let made = made("", "{}");
    assert_eq!(
        all_lookups(&made),
        [
            ("0.0.0.0_80", vec![of_requests.clone()]),
            ("0.0.0.0_90", vec![of_requests.clone()]),
            ("0.0.0.0_443", vec![of_tls]),
        ]
    );
    assert_eq!(
        lines(listener(&made, "0.0.0.0_443")),
        [
            "[*.wild.example] outbound|443||*.wild.example",
            "[] PassthroughCluster"
        ]
    );
    for port in [80, 90, 443] {
        let name = format!("outbound|{port}||*.wild.example");
        check_cluster(cluster(&made, &name).expect(&name));
    }
    let routing = routing(&made);
    let host = "*.wild.example:80: *.wild.example *.wild.example.\n    /* +0 -> outbound|80||*.wild.example";
    assert!(routing.contains(host), "{routing}");
    // Nobody has an address that is none.
    assert!(!routing.contains("0.0.0.0"), "{routing}");
    // A gateway without rules leads nowhere.
    let router = made_of(SERVICES, MeshConfig::default(), &gateway());
    check_cluster(cluster(&router, "outbound|80||*.wild.example").expect("one"));
    assert_eq!(all_lookups(&router), []);
    // Requests in absolute form are all taken in one place.
    let called = called("", "{}");
    assert_eq!(
        all_lookups(&called),
        [("127.0.0.1_3128", vec![of_requests])]
    );
}

/// Other listeners are what they would be without the service, and so are those of a workload that does not see it.
#[test]
fn others_stay_as_they_are() {
    let (_, others) = SERVICES.split_once("---\n").expect("two services");
    let without = made_of(others, MeshConfig::default(), &sidecar("client"));
    let with = made("", "{}");
    for name in [
        "virtualOutbound",
        "virtualInbound",
        "0.0.0.0_81",
        "10.96.0.7_443",
        "10.96.0.7_5432",
    ] {
        assert_eq!(listener(&with, name), listener(&without, name), "{name}");
    }
    assert_ne!(
        listener(&with, "0.0.0.0_80"),
        listener(&without, "0.0.0.0_80")
    );
    let hidden = SERVICES.replace(
        "  hosts: ['*.wild",
        "  exportTo: [other]\n  hosts: ['*.wild",
    );
    assert_eq!(
        made_of(&hidden, MeshConfig::default(), &sidecar("client")),
        without
    );
}

#[test]
fn rules_may_lead_to_names() {
    let to = "route: [{destination: {host: '*.wild.example', port: {number: 80}}}]";
    let host = "host, then envoy.filters.http.router".to_owned();
    for route in [
        to.to_owned(),
        format!("match: [{{uri: {{prefix: /a}}}}], {to}"),
        "route: [{destination: {host: web, port: {number: 81}}, weight: 9}, {destination: {host: '*.wild.example', \
         port: {number: 90}}, weight: 1}]"
            .to_owned(),
    ] {
        let spec = format!("{{hosts: [web], http: [{{{route}}}]}}");
        let made = made(&resource("VirtualService", "rules", &spec), "{}");
        let found = all_lookups(&made);
        assert!(found.contains(&("0.0.0.0_81", vec![host.clone()])), "{found:?}");
    }
    let sni = "{hosts: [web], tls: [{match: [{sniHosts: [web]}], route: [{destination: {host: '*.wild.example', port: \
               {number: 443}}}]}]}";
    let made = made(&resource("VirtualService", "rules", sni), "{}");
    let port = "port 443, then envoy.filters.network.tcp_proxy".to_owned();
    let found = all_lookups(&made);
    assert!(
        found.contains(&("10.96.0.7_443", vec![port.clone()])),
        "{found:?}"
    );

    // At a gateway, by requests and by the server names of TLS.
    let servers = "{selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, \
                   hosts: ['*']}, {port: {number: 8443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: \
                   PASSTHROUGH}}]}";
    let rules = format!(
        "{{hosts: ['*.wild.example'], gateways: [edge], http: [{{{to}}}], tls: [{{match: [{{sniHosts: \
         ['*.wild.example']}}], route: [{{destination: {{host: '*.wild.example', port: {{number: 443}}}}}}]}}]}}"
    );
    let text = SERVICES.to_owned()
        + &resource("Gateway", "edge", servers)
        + &resource("VirtualService", "rules", &rules);
    let router = made_of(&text, MeshConfig::default(), &gateway());
    assert_eq!(
        all_lookups(&router),
        [
            ("127.0.0.1_8080", vec![host]),
            ("127.0.0.1_8443", vec![port])
        ]
    );
}

#[test]
fn unknown_hosts_may_be_looked_up() {
    let any = "host, then envoy.filters.http.router".to_owned();
    let made = made("", BY_NAME);
    check_cluster(cluster(&made, "AllowAnyDynamicDNSCluster").expect("one"));
    let found = all_lookups(&made);
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "virtualOutbound",
            "0.0.0.0_80",
            "0.0.0.0_81",
            "0.0.0.0_90",
            "0.0.0.0_443"
        ]
    );
    let routing = routing(&made);
    let unknown = "allow_any_dynamic_dns: *\n    /* +0 -> AllowAnyDynamicDNSCluster (allow_any_dynamic_dns, -)";
    assert_eq!(routing.matches(unknown).count(), 3, "{routing}");
    // All other connections go where their clients wanted to go.
    let outbound = listener(&made, "virtualOutbound");
    assert_eq!(
        lines(outbound),
        [
            "[] BlackHoleCluster",
            "[raw_buffer] HTTP",
            "[] PassthroughCluster"
        ]
    );
    assert_eq!(lookups(&outbound.filter_chains[1]), [any]);
    assert_eq!(
        filters(outbound),
        [
            "original_dst",
            "http_inspector but not 25 53 3306 5432 27017"
        ]
    );
    assert_eq!(
        filters(listener(&self::made("", "{}"), "virtualOutbound")),
        [""; 0]
    );
    // A Sidecar may say something else.
    let own = resource(
        "Sidecar",
        "own",
        "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
    );
    let closed = self::made(&own, BY_NAME);
    assert_eq!(cluster(&closed, "AllowAnyDynamicDNSCluster"), None);
    assert_eq!(filters(listener(&closed, "virtualOutbound")), [""; 0]);

    // A forward proxy refuses what it may not look up.
    for (mesh, looks_up) in [(BY_NAME, true), ("{}", false)] {
        let made = called("", mesh);
        assert_eq!(
            cluster(&made, "AllowAnyDynamicDNSCluster").is_some(),
            looks_up
        );
        let routing = self::routing(&made);
        assert_eq!(routing.contains(unknown), looks_up, "{routing}");
        assert_eq!(
            routing.contains("status 502 (block_all"),
            !looks_up,
            "{routing}"
        );
    }
    let router = made_of(SERVICES, mesh_config(BY_NAME), &gateway());
    assert_eq!(cluster(&router, "AllowAnyDynamicDNSCluster"), None);
}

/// What a listener looks for in the first bytes of connections.
fn filters(listener: &Listener) -> Vec<String> {
    let filters = listener.listener_filters.iter();
    let line = |one: &ListenerFilter| {
        let name = one.name.trim_start_matches("envoy.filters.listener.");
        let disabled = one.filter_disabled.as_ref();
        match disabled.and_then(|disabled| disabled.rule.as_ref()) {
            Some(Rule::OrMatch(several)) => {
                let ports = several.rules.iter().map(|one| match one.rule {
                    Some(Rule::DestinationPortRange(range)) => range.start.to_string(),
                    _ => panic!("{one:?}"),
                });
                format!("{name} but not {}", ports.collect::<Vec<_>>().join(" "))
            }
            None => name.to_owned(),
            other => panic!("{other:?}"),
        }
    };
    filters.map(line).collect()
}

/// What is found, and who gets 503.
fn told(more: &str) -> Vec<String> {
    let mut described = Described::default();
    described.add("x.yaml", &format!("{SERVICES}{more}"));
    let (_, problems) = described.analyse();
    let problems = problems
        .iter()
        .map(|one| format!("{} {}", one.code.id, one.diagnostic.message));
    let made = made(more, "{}");
    problems.chain(made.told().map(str::to_owned)).collect()
}

#[test]
fn what_cannot_hold_is_told() {
    let rule = |spec: &str| {
        resource(
            "DestinationRule",
            "rule",
            &format!("{{host: '*.wild.example', {spec}}}"),
        )
    };
    let lack = |field: &str, port: u16| {
        format!(
            "requests to *.wild.example on port {port} get 503: `{field}` is not supported for hosts of resolution \
             DYNAMIC_DNS"
        )
    };
    let refused = |field: &str, ports: &str| {
        format!(
            "IST0106 DestinationRule default/rule: `{field}` is not supported for `*.wild.example`, which has the \
             resolution DYNAMIC_DNS: requests on its ports ({ports}) get 503; write a rule for it without that, and let \
             clients speak TLS themselves"
        )
    };
    let on_all = |field: &str| {
        let lacks = [80, 90, 443].map(|port| lack(field, port));
        std::iter::once(refused(field, "80, 90, 443"))
            .chain(lacks)
            .collect::<Vec<_>>()
    };
    let idle = |field: &str| {
        format!(
            "PER0104 DestinationRule default/rule: `{field}` has no effect, as `*.wild.example` has the resolution \
             DYNAMIC_DNS: requests go to the host that they ask for"
        )
    };
    let to = |more: &str| {
        resource(
            "VirtualService",
            "rules",
            &format!("{{hosts: ['*.wild.example'], {more}}}"),
        )
    };
    assert_eq!(told(""), [""; 0]);
    for (more, expected) in [
        (
            rule("trafficPolicy: {tls: {mode: SIMPLE}}"),
            on_all("tls"),
        ),
        (
            rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"),
            on_all("tls"),
        ),
        (
            rule("trafficPolicy: {proxyProtocol: {version: V1}}"),
            on_all("proxyProtocol"),
        ),
        (
            rule("trafficPolicy: {portLevelSettings: [{port: {number: 90}, tls: {mode: SIMPLE}}]}"),
            vec![refused("tls", "90"), lack("tls", 90)],
        ),
        (
            rule("trafficPolicy: {tls: {mode: DISABLE}, retryBudget: {}, outlierDetection: {}, \
                  connectionPool: {tcp: {maxConnections: 3, idleTimeout: 1s, tcpKeepalive: {}}, http: {maxRetries: 3, \
                  h2UpgradePolicy: UPGRADE, idleTimeout: 1s, http2MaxRequests: 7}}}"),
            vec![],
        ),
        (
            rule("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}, subsets: [{name: v1}]"),
            vec![idle("loadBalancer"), idle("subsets")],
        ),
        (
            to("http: [{route: [{destination: {host: '*.wild.example', port: {number: 80}, subset: v1}}]}]"),
            vec![
                "IST0106 with resolution DYNAMIC_DNS `*.wild.example` has no subsets, leave `subset` out: requests that \
                 come here get 503"
                    .to_owned(),
            ],
        ),
        (
            to("tcp: [{route: [{destination: {host: '*.wild.example', port: {number: 443}}}]}]"),
            vec![
                "IST0106 `*.wild.example` has the resolution DYNAMIC_DNS, and connections by a rule of `tcp` say no \
                 name: they are closed; route requests by `http`, and TLS by `tls`"
                    .to_owned(),
            ],
        ),
    ] {
        assert_eq!(told(&more), expected, "{more}");
    }
    let made = made(
        &rule("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}, subsets: [{name: v1}]"),
        "{}",
    );
    check_cluster(cluster(&made, "outbound|80||*.wild.example").expect("one"));
    assert_eq!(cluster(&made, "outbound|80|v1|*.wild.example"), None);
    // Nothing of how endpoints are chosen is left where clients choose, which proxies would refuse.
    let by_client = SERVICES.replace("DYNAMIC_DNS", "NONE");
    let demanding = "trafficPolicy: {outlierDetection: {}, loadBalancer: {consistentHash: {maglev: {tableSize: 7}, useSourceIp: true}}}";
    for services in [SERVICES, &by_client] {
        let made = made_of(
            &(services.to_owned() + &rule(demanding)),
            MeshConfig::default(),
            &sidecar("client"),
        );
        let cluster = cluster(&made, "outbound|80||*.wild.example").expect("one");
        assert!(cluster.outlier_detection.is_some());
        assert_eq!(
            (cluster.lb_config.clone(), cluster.common_lb_config.clone()),
            (None, None)
        );
    }
    // What is the mesh's own has no certificates that could be asked for.
    let internal = SERVICES.replace("  hosts: ['*", "  location: MESH_INTERNAL\n  hosts: ['*");
    let made = made_of(&internal, MeshConfig::default(), &sidecar("client"));
    check_cluster(cluster(&made, "outbound|80||*.wild.example").expect("one"));
}

/// The first that a client of TLS sends, with a server name (RFC 8446 §4.1.2, RFC 6066 §3).
fn client_hello(name: &str) -> Vec<u8> {
    let counted = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("it is short");
        [&length.to_be_bytes(), bytes].concat()
    };
    let names = counted(&[&[0], counted(name.as_bytes()).as_slice()].concat());
    let extension = [&[0, 0], counted(&names).as_slice()].concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    // No session, one suite, no compression.
    hello.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    hello.extend(counted(&extension));
    let message = [&[1, 0], counted(&hello).as_slice()].concat();
    [&[22, 3, 1], counted(&message).as_slice()].concat()
}

/// Sends a handshake's first message through a gateway, and says what the server answers.
async fn greet(gateway: u16, name: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway)).await?;
    stream.write_all(&client_hello(name)).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Real Envoys take what is made, and look up what they are asked for: any name below `localhost` is this machine
/// (RFC 6761 §6.3).
#[tokio::test]
async fn a_real_envoy_looks_names_up() {
    let Some(binary) = binary() else { return };
    let bind = async || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    };
    let (web, http) = bind().await;
    serve(web, |request| (200, format!("the web, {}", request.path)));
    let (secret, tls) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = secret.accept().await {
            // The other side may go at any time.
            let mut hello = vec![0; client_hello("b.wild.localhost").len()];
            if stream.read_exact(&mut hello).await.is_ok() && hello.starts_with(&[22]) {
                let _ = stream.write_all(b"the secret").await;
            }
        }
    });
    // Those of the Envoys are let go when all are known, so that they differ.
    let held = [bind().await, bind().await, bind().await];
    let [forward, edge, edge_tls] = [0, 1, 2].map(|at: usize| held[at].1);
    drop(held);
    let resources = resource(
        "ServiceEntry",
        "wild",
        &format!(
            "{{hosts: ['*.wild.localhost'], resolution: DYNAMIC_DNS, ports: [{{number: {http}, name: http}}, {{number: \
             {tls}, name: tls}}]}}"
        ),
    ) + &resource(
        "Sidecar",
        "forward",
        &FORWARD.replace("3128", &forward.to_string()),
    ) + &resource(
        "Gateway",
        "edge",
        &format!(
            "{{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: {edge}, name: http, protocol: HTTP}}, \
             hosts: ['*']}}, {{port: {{number: {edge_tls}, name: tls, protocol: TLS}}, hosts: ['*'], tls: {{mode: \
             PASSTHROUGH}}}}]}}"
        ),
    ) + &resource(
        "VirtualService",
        "rules",
        &format!(
            "{{hosts: ['*.wild.localhost'], gateways: [edge], http: [{{route: [{{destination: {{host: \
             '*.wild.localhost', port: {{number: {http}}}}}}}]}}], tls: [{{match: [{{sniHosts: ['*.wild.localhost']}}], \
             route: [{{destination: {{host: '*.wild.localhost', port: {{number: {tls}}}}}}}]}}]}}"
        ),
    );
    let plane = Plane::start(&[("mesh.yaml", resources)], "{}").await;
    let directory = plane.directory.path();
    let nodes = [called_node(), gateway()];
    let envoys = nodes.map(|node| Envoy::start(&binary, &node, plane.xds, directory));
    let asks = async |proxy: u16, host: &str, expected: (u16, &str)| {
        let url = format!("http://{host}/a");
        let proxy = (Ipv4Addr::LOCALHOST, proxy).into();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // An Envoy takes a while to have its listeners, and others after a change.
        loop {
            let answer = get(proxy, &url, &[]).await;
            let is = |answer: &Answer| (answer.status, answer.body.as_str()) == expected;
            if answer.as_ref().is_ok_and(is) {
                return;
            }
            let logs: Vec<_> = envoys.iter().map(Envoy::log).collect();
            let is_early = tokio::time::Instant::now() < deadline;
            assert!(is_early, "{host}: {answer:?}, not {expected:?}\n{logs:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let known = format!("a.wild.localhost:{http}");
    let unknown = format!("elsewhere.localhost:{http}");
    asks(forward, &known, (200, "the web, /a")).await;
    asks(forward, &unknown, (502, "")).await;
    asks(edge, &known, (200, "the web, /a")).await;
    asks(edge, &unknown, (404, "")).await;
    wait_for_greeting(edge_tls).await;
    let refused = greet(edge_tls, "elsewhere.localhost").await;
    assert!(
        refused.as_deref().unwrap_or_default().is_empty(),
        "{refused:?}"
    );

    plane.overwrite(&plane.mesh_config, BY_NAME);
    asks(forward, &unknown, (200, "the web, /a")).await;
    asks(forward, &known, (200, "the web, /a")).await;
    asks(edge, &unknown, (404, "")).await;
    for proxy in plane.ads.proxies() {
        for (type_url, state) in &proxy.types {
            assert!(state.last_error.is_none(), "{type_url}: {state:?}");
        }
    }
    assert_eq!(plane.ads.counters().nacks, 0);

    // What intercepts connections takes ports of its own, of which there are one of each.
    let rule = "{host: '*.wild.example', trafficPolicy: {outlierDetection: {}, retryBudget: {}, loadBalancer: \
                {consistentHash: {maglev: {tableSize: 7}, useSourceIp: true}}, connectionPool: {http: {idleTimeout: 1s}}}}";
    let rule = resource("DestinationRule", "rule", rule);
    for (more, mesh) in [("", "{}"), ("", BY_NAME), (rule.as_str(), "{}")] {
        let node = sidecar("client");
        let made = made(more, mesh);
        let refusal = refusal(&binary, &node, &made, directory);
        assert_eq!(refusal, None, "{more} {mesh}");
    }
}

async fn wait_for_greeting(gateway: u16) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = greet(gateway, "b.wild.localhost").await;
        if answer.as_deref().is_ok_and(|answer| answer == "the secret") {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
