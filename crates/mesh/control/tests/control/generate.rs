//! The xDS resources of Bookinfo's proxies.

use crate::support::{MESH_CONFIG, Plan, gateway, invariants, networking, node, render, sidecar};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::core::v3::{Node, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter};
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as NetworkExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_control::{Generated, Index, Proxy, generate};
use periplus_resources::{MeshConfig, Resource, parse_mesh_config, parse_resources};
use prost::Message;

/// An index of Bookinfo with these files besides.
pub(crate) fn index_of(files: &[&str], more: &str, mesh: MeshConfig) -> Index {
    Index::new(&resources_of(files, more), mesh)
}

/// Bookinfo's resources with these files besides.
pub(crate) fn resources_of(files: &[&str], more: &str) -> Vec<Resource> {
    let mut resources = Vec::new();
    let mut read = |name: &str, text: &str| {
        let parsed = parse_resources(name, text);
        assert_eq!(parsed.errors, [], "{name}");
        resources.extend(parsed.resources);
    };
    for (name, text) in Plan::fixed().files() {
        read(name, &text);
    }
    for file in files {
        read(file, &networking(file));
    }
    read("more.yaml", more);
    resources
}

pub(crate) fn mesh_config(text: &str) -> MeshConfig {
    parse_mesh_config("mesh-config.yaml", text).expect("a good mesh configuration")
}

pub(crate) fn made(index: &Index, node: &Node) -> Generated {
    let proxy = Proxy::from_node(node).expect("a good node");
    let made = generate(index, &proxy);
    invariants::check(&made);
    made
}

pub(crate) fn problems(index: &Index) -> String {
    let lines = index.problems().iter();
    let lines = lines.map(|problem| format!("{}: {problem}\n", problem.severity));
    lines.collect()
}

const ALL: [&str; 3] = [
    "bookinfo-gateway.yaml",
    "destination-rule-all.yaml",
    "virtual-service-reviews-test-v2.yaml",
];

#[test]
fn sidecar_of_productpage() {
    let index = index_of(&ALL, "", mesh_config(MESH_CONFIG));
    insta::assert_snapshot!(render::all(&made(&index, &sidecar("productpage", "v1"))));
}

#[test]
fn ingress_gateway() {
    let index = index_of(&ALL, "", mesh_config(MESH_CONFIG));
    let made = made(&index, &gateway());
    // Its clusters are those of the sidecars, without their applications'.
    let part = Generated {
        clusters: Vec::new(),
        endpoints: Vec::new(),
        ..made.clone()
    };
    insta::assert_snapshot!(render::all(&part));
    let names: Vec<_> = made.clusters.iter().map(|cluster| &cluster.name).collect();
    insta::assert_debug_snapshot!("ingress_gateway_clusters", names);
}

/// A service of each protocol, with and without an address of its own.
const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.default.svc.cluster.local]
  addresses: [10.96.0.10]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, targetPort: 8080}
  - {number: 81, name: grpc}
  - {number: 82, name: tcp-raw}
  - {number: 83, name: unknown}
  - {number: 84, name: https}
  workloadSelector: {labels: {app: shop}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop}
spec: {address: 10.0.0.5, labels: {app: shop}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [outside.example]
  resolution: DNS
  ports: [{number: 80, name: http}, {number: 443, name: tls}, {number: 3306, name: db}, {number: 5000, name: any}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec:
  hosts: ['*.wild.example']
  resolution: NONE
  ports: [{number: 443, name: https}, {number: 80, name: http}, {number: 3306, name: mysql}]
";

/// Of this mesh alone: what a proxy at 10.0.0.5 gets.
fn intercepted(mode: &str, more: &str, mesh: &str) -> Generated {
    let parsed = parse_resources("mesh.yaml", &format!("{SERVICES}---{more}"));
    assert_eq!(parsed.errors, []);
    let index = Index::new(&parsed.resources, mesh_config(mesh));
    let id = "sidecar~10.0.0.5~shop-1.default~default.svc.cluster.local";
    let mut node = node(id, "shop", "default", &[("app", "shop")]);
    let text = Value {
        kind: Some(Kind::StringValue(mode.to_owned())),
    };
    let metadata = node.metadata.get_or_insert_default();
    metadata.fields.insert("INTERCEPTION_MODE".to_owned(), text);
    made(&index, &node)
}

#[test]
fn an_intercepted_sidecar() {
    insta::assert_snapshot!(render::all(&intercepted("REDIRECT", "", "{}")));
}

#[test]
fn what_the_policy_changes() {
    let open = intercepted("REDIRECT", "", "outboundTrafficPolicy: {mode: ALLOW_ANY}");
    assert_eq!(open, intercepted("REDIRECT", "", "{}"));
    let closed = intercepted(
        "REDIRECT",
        "",
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
    );
    let text = render::all(&open);
    let changed = text
        .replace("PassthroughCluster", "BlackHoleCluster")
        .replace("InboundBlackHoleCluster", "InboundPassthroughCluster");
    assert_ne!(text, changed);
    let routing = render::routing(&closed);
    assert!(
        routing.contains("-> status 502 (block_all, -)"),
        "{routing}"
    );
    assert!(!routing.contains("PassthroughCluster"), "{routing}");
    // A Sidecar's own policy goes before that of the mesh, and its hosts are all that is known.
    let sidecar = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  egress: [{hosts: ['./shop.default.svc.cluster.local']}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    let own = intercepted("REDIRECT", sidecar, "{}");
    let names: Vec<_> = own
        .routes
        .iter()
        .map(|routes| routes.name.as_str())
        .collect();
    assert_eq!(names, ["80", "81", "shop.default.svc.cluster.local:83"]);
    assert!(render::routing(&own).contains("block_all"));
}

#[test]
fn trap_04_connections_obey_policies_too() {
    let policies = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec:
  action: DENY
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/guest]}}]
    to: [{operation: {paths: [/secret]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow}
spec:
  rules:
  - to: [{operation: {ports: ['82']}}]
  - to: [{operation: {methods: [GET]}}]
  - when: [{key: 'request.headers[x]', values: [y]}]
";
    let made = intercepted("REDIRECT", policies, "{}");
    let inbound = made
        .listeners
        .iter()
        .find(|listener| listener.name == "virtualInbound");
    let mut passed_on = 0;
    for chain in &inbound.expect("connections are intercepted").filter_chains {
        let names: Vec<_> = chain.filters.iter().map(|one| one.name.as_str()).collect();
        if names.last() != Some(&"envoy.filters.network.tcp_proxy") || chain.name.ends_with("hole")
        {
            continue;
        }
        passed_on += 1;
        let [deny, allow, _] = chain.filters.as_slice() else {
            panic!("{}: {names:?}", chain.name);
        };
        let rules = |filter: &Filter| {
            let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
                panic!("{}: no configuration", filter.name)
            };
            let rules = render::unpack::<NetworkRbac>(any).rules;
            rules.expect("they are enforced")
        };
        let (deny, allow) = (rules(deny), rules(allow));
        // What only requests have is left out where it would deny less,
        assert_eq!(deny.action, Action::Deny as i32);
        let denied = &deny.policies["ns[default]-policy[deny]-rule[0]"];
        let anything = format!("{:?}", denied.permissions);
        assert!(anything.contains("Any(true)") && !anything.contains("/secret"));
        assert!(format!("{:?}", denied.principals).contains("sa/guest"));
        // and whoever asks for it is not allowed.
        assert_eq!(allow.action, Action::Allow as i32);
        let allowed: Vec<_> = allow.policies.keys().collect();
        assert_eq!(allowed, ["ns[default]-policy[allow]-rule[0]"]);
    }
    assert!(passed_on > 0);
}

#[test]
fn transparent_interception_keeps_addresses() {
    let made = intercepted("TPROXY", "", "{}");
    for listener in &made.listeners {
        let is_bound = listener.bind_to_port.is_none();
        assert_eq!(
            listener.transparent.is_some(),
            is_bound,
            "{}",
            listener.name
        );
    }
}

/// Weights, every kind of condition, timeouts, direct answers, and policies of connections.
#[test]
fn rules() {
    let more = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: canary
    match:
    - name: beta
      uri: {prefix: /reviews}
      method: {exact: GET}
      authority: {prefix: reviews}
      headers: {x-beta: {}, cookie: {regex: '.*user=jason.*'}}
    - uri: {exact: /elsewhere}
      sourceLabels: {app: other}
    - uri: {exact: /here}
      sourceLabels: {app: productpage}
      sourceNamespace: default
      port: 9080
    route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v2}, weight: 10}
    - {destination: {host: reviews, subset: v3}, weight: 0}
    timeout: 0.5s
  - match: [{uri: {prefix: /closed}}]
    directResponse: {status: 503, body: {string: closed}}
  - match: [{uri: {prefix: /moved}, scheme: {exact: http}}]
    redirect: {uri: /there, authority: other, scheme: https, port: 8443, redirectCode: 308}
  - match:
    - uri: {prefix: /changed}
      queryParams: {q: {exact: x}, flag: {}}
      withoutHeaders: {x-old: {}, end-user: {exact: jason}}
      ignoreUriCase: true
    route:
    - destination: {host: reviews, subset: v1}
      headers: {request: {set: {Host: v1}, remove: [x-a]}}
    rewrite: {uri: /v2}
    headers:
      request: {set: {Host: other, x-b: '1'}, add: {x-c: '2'}}
      response: {remove: [server]}
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx,409', backoff: 10ms}
    fault:
      delay: {percentage: {value: 0.1}, fixedDelay: 7s}
      abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}
    corsPolicy: {allowOrigins: [{regex: '.*'}]}
  - match: [{uri: {prefix: /patient}}]
    route: [{destination: {host: reviews, subset: v1}}]
    mirrors:
    - {destination: {host: reviews, subset: v2}, percentage: {value: 12.5}}
    - {destination: {host: reviews, subset: v1}, percentage: {value: 0}}
    - {destination: {host: ratings}}
    corsPolicy:
      allowOrigins: [{exact: 'https://shop.example'}, {prefix: 'https://test.'}]
      allowMethods: [GET, POST]
      allowHeaders: [x-a]
      exposeHeaders: [x-b, x-c]
      maxAge: 24h
      allowCredentials: true
      unmatchedPreflights: IGNORE
    rewrite: {uriRegexRewrite: {match: '^/patient/(.*)$', rewrite: '/\\1'}}
    retries: {attempts: 0}
  - route: [{destination: {host: reviews, subset: missing}}]
    mirror: {host: nobody}
    corsPolicy: {allowOrigin: ['*']}
  - route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp: {maxConnections: 1, connectTimeout: 1s, maxConnectionDuration: 1h}
      http:
        http1MaxPendingRequests: 2
        maxRequestsPerConnection: 3
        maxRetries: 4
        idleTimeout: 5s
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:
      loadBalancer:
        consistentHash: {httpCookie: {name: session, path: /, ttl: 0s}, maglev: {tableSize: 1009}}
      outlierDetection:
        consecutive5xxErrors: 7
        consecutiveGatewayErrors: 0
        interval: 5s
        baseEjectionTime: 1m
        maxEjectionPercent: 50
        minHealthPercent: 25
        splitExternalLocalOriginErrors: true
        consecutiveLocalOriginFailures: 3
  - name: v2
    labels: {version: v2}
    trafficPolicy: {loadBalancer: {simple: RANDOM}, retryBudget: {percent: 12.5}}
  - name: v3
    labels: {version: v3}
    trafficPolicy: {loadBalancer: {warmup: {duration: 1m, minimumPercent: 5, aggression: 2}}}
  - {name: v4, labels: {version: v4}}
";
    let index = index_of(&[], more, MeshConfig::default());
    let made = made(&index, &sidecar("productpage", "v1"));
    let routes = made.routes.iter().map(|routes| {
        let mut routes = routes.clone();
        routes
            .virtual_hosts
            .retain(|host| host.name.starts_with("reviews"));
        routes
    });
    let part = Generated {
        routes: routes.collect(),
        clusters: made
            .clusters
            .into_iter()
            .filter(|c| c.name.contains("reviews"))
            .collect(),
        endpoints: made
            .endpoints
            .into_iter()
            .filter(|e| e.cluster_name.contains("reviews"))
            .collect(),
        ..Generated::default()
    };
    insta::assert_snapshot!(render::all(&part));
    insta::assert_snapshot!("rules_problems", problems(&index));
}

#[test]
fn opentelemetry_sampling_and_tags() {
    let mesh = "
extensionProviders:
- name: otlp
  opentelemetry:
    service: zipkin.istio-system.svc.cluster.local
    port: 9411
    maxTagLength: 64
    http: {path: /v1/traces, timeout: 10s}
defaultProviders: {tracing: [otlp]}
defaultConfig:
  tracing:
    sampling: 12.5
    customTags:
      istio.mesh_id: {literal: {value: mine}}
      zone: {environment: {name: ZONE, defaultValue: a}}
      user: {header: {name: End-User}}
";
    let index = index_of(&[], "", mesh_config(mesh));
    let made = made(&index, &sidecar("ratings", "v1"));
    insta::assert_snapshot!(render::render_listener(&made.listeners[1]));
}

/// The collector is there for proxies that may reach nothing at all.
#[test]
fn collector_is_always_included() {
    let more = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: a-closed}
spec:
  workloadSelector: {labels: {app: closed}}
  egress:
  - port: {number: 30000, name: http-proxy, protocol: HTTP_PROXY}
    captureMode: NONE
    hosts: ['~/*']
";
    let index = index_of(&[], more, mesh_config(MESH_CONFIG));
    let made = made(&index, &sidecar("closed", "v1"));
    let names: Vec<_> = made
        .clusters
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["outbound|9411||zipkin.istio-system.svc.cluster.local"]
    );
    let hosts: Vec<_> = made.routes[0]
        .virtual_hosts
        .iter()
        .map(|host| &host.name)
        .collect();
    assert_eq!(hosts, ["block_all"]);
}

#[test]
fn a_proxy_that_nothing_describes_is_told_why() {
    let index = index_of(&[], "", MeshConfig::default());
    for node in [sidecar("unknown", "v1"), gateway()] {
        let made = made(&index, &node);
        assert_eq!(made.listeners.len(), 0);
        assert_eq!(made.notes.len(), 1, "{:?}", made.notes);
    }
}

/// A change of weights is a change of routes alone.
#[test]
fn weights_leave_clusters_alone() {
    let base = ["bookinfo-gateway.yaml", "destination-rule-all.yaml"];
    let with = |rules: &'static str| {
        let files = [base[0], base[1], rules];
        made(
            &index_of(&files, "", mesh_config(MESH_CONFIG)),
            &sidecar("productpage", "v1"),
        )
    };
    let before = with("virtual-service-reviews-90-10.yaml");
    let after = with("virtual-service-reviews-80-20.yaml");
    assert_eq!(before.clusters, after.clusters);
    assert_eq!(before.endpoints, after.endpoints);
    assert_eq!(before.listeners, after.listeners);
    assert_ne!(before.routes, after.routes);
}

/// References that lead nowhere, and rules without effect.
#[test]
fn analysis() {
    let more = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [reviews]
  gateways: [mesh, bookinfo-gatewy]
  http:
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: reviws}}]
  - match: [{uri: {prefix: /b}}]
    route: [{destination: {host: reviews, port: {number: 80}}}]
  - route: [{destination: {host: reviews, subset: v9}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rating}
spec: {host: rating}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: empty}
spec:
  hosts: [empty.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http}, {number: 81, name: http-more}]
  workloadSelector: {labels: {app: empty}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews-again}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b}
spec:
  hosts: [empty]
  http: [{route: [{destination: {host: empty}}]}]
";
    let mesh = "
extensionProviders:
- name: periplus
  zipkin: {service: zipkn.istio-system.svc.cluster.local, port: 9411}
defaultProviders: {tracing: [periplus]}
";
    let index = index_of(&["destination-rule-all.yaml"], more, mesh_config(mesh));
    insta::assert_snapshot!(problems(&index));
}

/// Two namespaces with a service of the same name, visibility, several ports, addresses, and rules for
/// hosts that are no services.
#[test]
fn namespaces_ports_and_wildcards() {
    let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 8080, name: http-api}, {number: 80, name: http}]
  endpoints: [{address: 10.0.0.1, ports: {http-api: 18080}}, {address: 10.0.0.2, weight: 3}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cart, namespace: other}
spec:
  hosts: [cart.other.svc.cluster.local]
  addresses: [240.0.0.1]
  resolution: STATIC
  ports: [{number: 9000, name: http, targetPort: 9001}]
  endpoints: [{address: 10.0.0.3}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: secret, namespace: other}
spec:
  hosts: [secret.other.svc.cluster.local]
  exportTo: ['.']
  resolution: STATIC
  ports: [{number: 80, name: http}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: other}
spec:
  hosts: [api.example.org]
  resolution: STATIC
  ports: [{number: 80, name: http}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: shop}
spec:
  hosts: ['*.example.org']
  http: [{route: [{destination: {host: cart}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: other}
spec:
  hosts: [api.example.org, nowhere.example.com]
  http: [{match: [{uri: {regex: '/v[12]/.*'}}], route: [{destination: {host: cart}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, subsets: [{name: theirs}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: everything, namespace: istio-system}
spec: {host: '*.local', subsets: [{name: root}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: own, namespace: client}
spec: {host: cart.shop.svc.cluster.local, subsets: [{name: own}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec:
  egress:
  - port: {number: 15001, name: http-proxy, protocol: HTTP_PROXY}
    captureMode: NONE
    hosts: ['*/*']
";
    let parsed = parse_resources("mesh.yaml", text);
    assert_eq!(parsed.errors, []);
    let index = Index::new(&parsed.resources, MeshConfig::default());
    let mut report = String::new();
    for namespace in ["shop", "client"] {
        let id = format!("sidecar~127.0.0.1~a.{namespace}~{namespace}.svc.cluster.local");
        let made = made(&index, &node(&id, "a", namespace, &[]));
        report += &format!("== a proxy in {namespace}\n{}", render::routing(&made));
        for (cluster, endpoints) in made.clusters.iter().zip(&made.endpoints) {
            let text = format!("{endpoints:?}");
            let ports = text
                .split("PortValue(")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            let ports: Vec<_> = ports.collect();
            report += &format!("{} {ports:?}\n", cluster.name);
        }
    }
    insta::assert_snapshot!(report);
}

/// At gateways VirtualServices for one host add up, and what takes everything comes last; a server
/// serves only the hosts and namespaces that it names.
#[test]
fn gateways_merge() {
    let text = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['shop/*.example.org', './admin.example.org']
  - port: {number: 8081, name: http-closed, protocol: HTTP}
    hosts: [closed.example.org]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: second, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: elsewhere, namespace: shop}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 8082, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: [www.example.org]
  gateways: [front, mesh]
  http:
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: a}}]
  - route: [{destination: {host: fallback}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b, namespace: shop}
spec:
  hosts: ['*']
  gateways: [shop/front, second]
  http:
  - match: [{uri: {prefix: /b}, gateways: [front]}, {uri: {prefix: /other}, port: 8081}]
    route: [{destination: {host: b}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: c, namespace: shop}
spec:
  hosts: [www.example.org]
  gateways: [front]
  http:
  - match: [{uri: {exact: /c}}]
    route: [{destination: {host: c}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stranger, namespace: other}
spec:
  hosts: [www.example.org]
  gateways: [shop/front]
  http: [{route: [{destination: {host: stranger}}]}]
";
    let parsed = parse_resources("mesh.yaml", text);
    assert_eq!(parsed.errors, []);
    let index = Index::new(&parsed.resources, MeshConfig::default());
    let made = made(&index, &gateway());
    let listeners: Vec<_> = made.listeners.iter().map(|l| l.name.as_str()).collect();
    let report = format!("{}\n{}", listeners.join(" "), render::routing(&made));
    insta::assert_snapshot!(report);
}

/// Ports of HTTP/2, and rules that speak of it.
#[test]
fn http2() {
    let more = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: calls}
spec:
  hosts: [calls.example]
  resolution: STATIC
  ports:
  - {number: 50051, name: grpc-api}
  - {number: 8080, name: web, protocol: HTTP2}
  - {number: 80, name: http}
  endpoints: [{address: 10.1.1.1}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: calls}
spec:
  host: calls.example
  trafficPolicy:
    connectionPool: {http: {maxConcurrentStreams: 7}}
  subsets:
  - name: upgraded
    trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
  - name: preserved
    trafficPolicy: {connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}}
";
    let index = index_of(&ALL, more, mesh_config(MESH_CONFIG));
    let made = made(&index, &sidecar("productpage", "v1"));
    let options: Vec<_> = made
        .clusters
        .iter()
        .filter(|cluster| cluster.name.ends_with("calls.example"))
        .map(|cluster| {
            let options = cluster.typed_extension_protocol_options.values().next();
            let text = options.map(|any| {
                let options = HttpProtocolOptions::decode(&*any.value).expect("options of HTTP");
                match options.upstream_protocol_options {
                    Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
                        format!("{:?}", explicit.protocol_config)
                    }
                    other => format!("{other:?}"),
                }
            });
            let text = text.unwrap_or_default();
            let kind = if text.starts_with("Some(Http2") {
                "HTTP/2"
            } else if text.contains("UseDownstream") {
                "the client's"
            } else {
                "HTTP/1.1"
            };
            let limited = text.contains("max_concurrent_streams: Some(UInt32Value { value: 7 })");
            (cluster.name.as_str(), kind, limited)
        })
        .collect();
    let mut expected = [
        ("outbound|50051||calls.example", "HTTP/2", true),
        (
            "outbound|50051|preserved|calls.example",
            "the client's",
            false,
        ),
        ("outbound|50051|upgraded|calls.example", "HTTP/2", false),
        ("outbound|80||calls.example", "HTTP/1.1", false),
        ("outbound|80|preserved|calls.example", "the client's", false),
        ("outbound|80|upgraded|calls.example", "HTTP/2", false),
        ("outbound|8080||calls.example", "HTTP/2", true),
        (
            "outbound|8080|preserved|calls.example",
            "the client's",
            false,
        ),
        ("outbound|8080|upgraded|calls.example", "HTTP/2", false),
    ];
    let mut options = options;
    options.sort_unstable();
    expected.sort_unstable();
    assert_eq!(options, expected);
}

/// Every field of a policy, in the order audit, deny, allow; what is only tried out stands beside.
#[test]
fn authorization() {
    let more = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-nothing, namespace: default}
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: viewers, namespace: default}
spec:
  selector: {matchLabels: {app: ratings}}
  action: ALLOW
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/default/sa/bookinfo-reviews, '*/sa/admin', 'td/*', '*']
        notPrincipals: [cluster.local/ns/default/sa/guest]
        requestPrincipals: ['https://issuer.example/alice', '*', 'issuer/*', '*/bob']
        namespaces: [default, 'shop-*']
        notNamespaces: [closed]
        ipBlocks: [10.0.0.0/8, 192.0.2.1]
        notRemoteIpBlocks: ['2001:db8::/32']
    - source: {serviceAccounts: [reviews, shop/reviews]}
    - source: {trustDomains: [td, '*.example', 'a-*', '*'], notTrustDomains: [cluster.local]}
    to:
    - operation:
        methods: [GET, 'P*']
        paths: [/ratings*, '*.css', '/a/{*}/b/{**}', '*']
        notPaths: [/ratings/secret]
        hosts: [ratings.example, '*.example', 'ratings:*']
        ports: ['9080']
        notPorts: ['9081']
    when:
    - {key: 'request.headers[End-User]', values: [jason, '*'], notValues: [mallory]}
    - {key: 'request.auth.claims[realm][roles]', values: [viewer]}
    - {key: request.auth.audiences, values: [bookinfo]}
    - {key: request.auth.presenter, notValues: [robot]}
    - {key: destination.ip, values: [127.0.0.1]}
    - {key: connection.sni, values: ['*.example']}
    - {key: source.serviceAccount, values: [default/reviews]}
    - {key: source.trustDomain, values: [cluster.local], notValues: ['*.test']}
---
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: no-mallory, namespace: istio-system}
spec:
  action: DENY
  rules: [{when: [{key: 'request.headers[end-user]', values: [mallory]}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: try, namespace: default, annotations: {istio.io/dry-run: 'true'}}
spec:
  action: DENY
  rules: [{to: [{operation: {methods: [DELETE]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watch, namespace: default}
spec:
  action: AUDIT
  rules: [{}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: others, namespace: default}
spec:
  selector: {matchLabels: {app: details}}
  rules: [{}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: elsewhere, namespace: shop}
spec: {action: DENY, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: shop, namespace: default}
spec:
  selector: {matchLabels: {app: ratings}}
  jwtRules:
  - issuer: https://issuer.example
    audiences: [bookinfo]
    jwks: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'
    fromHeaders: [{name: X-Token, prefix: 'Token '}, {name: x-other}]
    fromParams: [token]
    fromCookies: [session]
    outputPayloadToHeader: X-Payload
    outputClaimToHeaders: [{header: X-Sub, claim: sub}]
    forwardOriginalToken: true
    spaceDelimitedClaims: [groups]
---
apiVersion: security.istio.io/v1beta1
kind: RequestAuthentication
metadata: {name: keys, namespace: istio-system}
spec:
  jwtRules:
  - {issuer: a-issuer, jwksUri: 'http://details.default.svc.cluster.local:9080/keys.json', timeout: 2s}
  - {issuer: nobody, jwksUri: 'http://nobody.example/keys'}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: others, namespace: default}
spec:
  selector: {matchLabels: {app: details}}
  jwtRules: [{issuer: other, jwks: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'}]
";
    let index = index_of(&[], more, MeshConfig::default());
    let made = made(&index, &sidecar("ratings", "v1"));
    let directions =
        |listener: &&Listener| listener.traffic_direction == TrafficDirection::Inbound as i32;
    let inbound = made.listeners.iter().find(directions).expect("a listener");
    insta::assert_snapshot!(render::render_listener(inbound));
    let problems = problems(&index);
    assert!(
        problems.contains("no service `nobody.example` with port 80"),
        "{problems}"
    );
    let encoded = || -> Vec<_> {
        let made = generate(
            &index,
            &Proxy::from_node(&sidecar("ratings", "v1")).expect("good"),
        );
        made.listeners.iter().map(Message::encode_to_vec).collect()
    };
    assert_eq!(encoded(), encoded(), "the same policies are the same bytes");
    let outbound = made.listeners.iter().find(|one| !directions(one));
    let outbound = render::render_listener(outbound.expect("a listener"));
    assert!(!outbound.contains("rbac"), "{outbound}");
}

#[test]
fn keys_come_over_tls_from_the_mesh_or_from_where_dns_says() {
    let more = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: keys, namespace: default}
spec:
  jwtRules:
  - {issuer: a, jwksUri: 'https://details.default.svc.cluster.local:9080/keys'}
  - {issuer: b, jwksUri: 'https://Login.example/keys'}
  - {issuer: c, jwksUri: 'https://login.example:443/others'}
";
    let index = index_of(&[], more, MeshConfig::default());
    let made = made(&index, &sidecar("ratings", "v1"));
    let of_keys = made
        .clusters
        .iter()
        .filter(|one| one.name.starts_with("jwks|"));
    let of_keys: Vec<_> = of_keys.collect();
    let names: Vec<_> = of_keys.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "jwks|9080||details.default.svc.cluster.local",
            "jwks|443||login.example"
        ]
    );
    let kinds = of_keys.iter().map(|one| one.cluster_discovery_type.clone());
    let expected = [DiscoveryType::Static, DiscoveryType::StrictDns];
    let expected = expected.map(|kind| Some(ClusterDiscoveryType::Type(kind.into())));
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    for cluster in of_keys {
        let socket = cluster.transport_socket.as_ref().expect("TLS");
        let Some(SocketConfig::TypedConfig(any)) = &socket.config_type else {
            panic!("{socket:?}");
        };
        let context = UpstreamTlsContext::decode(any.value.as_slice()).expect("TLS");
        let host = cluster.name.rsplit('|').next().expect("a host");
        assert_eq!(context.sni, host);
        let text = format!("{:?}", context.common_tls_context);
        assert!(
            text.contains("ca-certificates.crt") && text.contains(host),
            "{text}"
        );
    }
    let problems = problems(&index);
    assert!(!problems.contains("login.example"), "{problems}");
}

/// The same for connections: a provider of gRPC is asked, one of HTTP is not, and one that nobody knows lets none pass.
#[test]
fn providers_are_asked_about_connections() {
    let policy = |name: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask-{name}, namespace: default}}
spec: {{action: CUSTOM, provider: {{name: {name}}}, rules: [{{to: [{{operation: {{paths: [/a]}}}}]}}]}}
---"
        )
    };
    let more = ["over-grpc", "over-http", "unknown"].map(policy).concat();
    let mesh = "
extensionProviders:
- name: over-grpc
  envoyExtAuthzGrpc: {service: shop.default.svc.cluster.local, port: 80, timeout: 2s, failOpen: true}
- name: over-http
  envoyExtAuthzHttp: {service: shop.default.svc.cluster.local, port: 80}
";
    let made = intercepted("REDIRECT", more.trim_end_matches("---"), mesh);
    let is_it = |listener: &&Listener| listener.name == "virtualInbound";
    let inbound = made.listeners.iter().find(is_it).expect("a listener");
    let mut passed_on = 0;
    for chain in &inbound.filter_chains {
        let filters: Vec<_> = chain
            .filters
            .iter()
            .map(|filter| match &filter.config_type {
                Some(filter::ConfigType::TypedConfig(config)) => (filter.name.as_str(), config),
                other => panic!("{other:?}"),
            })
            .collect();
        let names: Vec<_> = filters.iter().map(|(name, _)| *name).collect();
        if names.last() != Some(&"envoy.filters.network.tcp_proxy") || chain.name.ends_with("hole")
        {
            continue;
        }
        passed_on += 1;
        let expected = ["rbac", "ext_authz", "rbac", "tcp_proxy"];
        let expected = expected.map(|name| format!("envoy.filters.network.{name}"));
        assert_eq!(names, expected, "{}", chain.name);
        let matching = render::unpack::<NetworkRbac>(filters[0].1);
        assert_eq!(matching.stat_prefix, "tcp.");
        assert_eq!(matching.shadow_rules_stat_prefix, "istio_ext_authz_");
        assert_eq!(matching.rules, None);
        // What only requests have is left out, so that more is asked about.
        let policies = matching.shadow_rules.expect("rules").policies;
        let policy =
            &policies["istio-ext-authz-over-grpc-ns[default]-policy[ask-over-grpc]-rule[0]"];
        assert!(format!("{:?}", policy.permissions).contains("Any(true)"));
        let asking = render::unpack::<NetworkExtAuthz>(filters[1].1);
        assert_eq!(asking.stat_prefix, "tcp.");
        assert!(asking.failure_mode_allow);
        let service = asking.grpc_service.expect("a service");
        assert_eq!(service.timeout.expect("a timeout").seconds, 2);
        let when = asking.filter_enabled_metadata.expect("a condition");
        assert_eq!(when.filter, "envoy.filters.network.rbac");
        assert!(format!("{when:?}").contains("istio-ext-authz-over-grpc-"));
        let closed = render::unpack::<NetworkRbac>(filters[2].1);
        let closed = closed.rules.expect("rules");
        assert_eq!(closed.action, Action::Deny as i32);
        let name = closed.policies.keys().next().expect("a policy");
        assert!(name.ends_with("-deny-due-to-bad-CUSTOM-action"), "{name}");
    }
    assert!(passed_on > 0);

    // Whom nobody asks about is told, as far as the policy is for such ports.
    let of_http = |rules: &str| {
        let policies = format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask}}
spec: {{selector: {{matchLabels: {{app: shop}}}}, action: CUSTOM, provider: {{name: over-http}}, rules: [{rules}]}}
"
        );
        let parsed = parse_resources("mesh.yaml", &format!("{SERVICES}---{policies}"));
        problems(&Index::new(&parsed.resources, mesh_config(mesh)))
    };
    let said = "is one of HTTP, which is not asked about connections: those to port ";
    assert!(of_http("{}").contains(said), "{}", of_http("{}"));
    let elsewhere = "{to: [{operation: {ports: ['80']}}]}";
    assert!(!of_http(elsewhere).contains(said), "{}", of_http(elsewhere));
}

/// Policies of `CUSTOM`: for each provider rules that tell what they match, then the filter that asks.
#[test]
fn providers_are_asked() {
    let more = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec:
  action: CUSTOM
  provider: {name: over-grpc}
  rules: [{to: [{operation: {paths: [/ratings*]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask-more, namespace: default}
spec:
  selector: {matchLabels: {app: ratings}}
  action: CUSTOM
  provider: {name: over-http}
  rules: [{}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask-nobody, namespace: default}
spec:
  action: CUSTOM
  provider: {name: over-htp}
  rules: [{to: [{operation: {methods: [DELETE]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: default}
spec: {action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}
";
    let mesh = "
extensionProviders:
- name: over-grpc
  envoyExtAuthzGrpc: {service: details.default.svc.cluster.local, port: 9080, timeout: 2s, failOpen: true}
- name: over-http
  envoyExtAuthzHttp:
    clearRouteCache: true
    service: default/reviews.default.svc.cluster.local
    port: 9080
    statusOnError: '503'
    pathPrefix: /check
    includeRequestHeadersInCheck: [authorization, x-*]
    includeAdditionalHeadersInCheck: {x-from: the mesh}
    includeRequestBodyInCheck: {maxRequestBytes: 1024, allowPartialMessage: true}
    headersToUpstreamOnAllow: [x-user]
    headersToDownstreamOnDeny: [set-cookie]
    headersToDownstreamOnAllow: [x-told]
";
    let index = index_of(&[], more, mesh_config(mesh));
    let made = made(&index, &sidecar("ratings", "v1"));
    let inbound =
        |listener: &&Listener| listener.traffic_direction == TrafficDirection::Inbound as i32;
    let inbound = made.listeners.iter().find(inbound).expect("a listener");
    let config = match &inbound.filter_chains[0].filters[0].config_type {
        Some(filter::ConfigType::TypedConfig(config)) => config,
        other => panic!("{other:?}"),
    };
    let manager = HttpConnectionManager::decode(&*config.value).expect("a manager");
    let filters: Vec<_> = manager
        .http_filters
        .iter()
        .map(|filter| {
            let Some(http_filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
                panic!("{filter:?}");
            };
            (
                filter.name.trim_start_matches("envoy.filters.http."),
                &*config.value,
            )
        })
        .collect();
    let names: Vec<_> = filters.iter().map(|(name, _)| *name).collect();
    let expected = [
        "rbac",
        "ext_authz",
        "rbac",
        "rbac",
        "ext_authz",
        "rbac",
        "fault",
        "cors",
        "router",
    ];
    assert_eq!(names, expected);

    let rbac = |at: usize| Rbac::decode(filters[at].1).expect("rules");
    let matching = rbac(0);
    assert_eq!(matching.shadow_rules_stat_prefix, "istio_ext_authz_");
    let names_of = |rules: Option<envoy_types::pb::envoy::config::rbac::v3::Rbac>| {
        rules.map(|rules| rules.policies.into_keys().collect::<Vec<_>>())
    };
    let named = |name: &str| Some(vec![name.to_owned()]);
    assert_eq!(names_of(matching.rules), None);
    assert_eq!(
        names_of(matching.shadow_rules),
        named("istio-ext-authz-over-grpc-ns[default]-policy[ask]-rule[0]")
    );
    // Nobody knows this one.
    let closed = rbac(2).rules.expect("rules");
    assert_eq!(closed.action, Action::Deny as i32);
    assert_eq!(
        names_of(Some(closed)),
        named(
            "istio-ext-authz-over-htp-ns[default]-policy[ask-nobody]-rule[0]-deny-due-to-bad-CUSTOM-action"
        )
    );

    let grpc = ExtAuthz::decode(filters[1].1).expect("a filter");
    assert!(grpc.failure_mode_allow);
    let grpc_clears = grpc.clear_route_cache;
    let Some(Services::GrpcService(service)) = grpc.services else {
        panic!("{grpc:?}");
    };
    let Some(TargetSpecifier::EnvoyGrpc(target)) = service.target_specifier else {
        panic!("{service:?}");
    };
    let cluster = "outbound|9080||details.default.svc.cluster.local";
    assert_eq!(target.cluster_name, cluster);
    assert_eq!(target.authority, cluster.replace('|', "_."));
    assert_eq!(service.timeout.expect("a timeout").seconds, 2);

    let http = ExtAuthz::decode(filters[4].1).expect("a filter");
    assert!(http.clear_route_cache && !grpc_clears);
    assert_eq!(http.status_on_error.expect("a status").code, 503);
    assert_eq!(
        http.with_request_body.expect("a body").max_request_bytes,
        1024
    );
    assert_eq!(http.allowed_headers.expect("headers").patterns.len(), 2);
    let Some(Services::HttpService(service)) = http.services else {
        panic!("no service");
    };
    assert_eq!(service.path_prefix, "/check");
    let uri = service.server_uri.expect("a URI");
    assert_eq!(uri.timeout.expect("a timeout").seconds, 600);
    let response = service.authorization_response.expect("headers");
    assert!(response.allowed_upstream_headers.is_some());
    assert!(response.allowed_client_headers.is_some());
    assert!(response.allowed_client_headers_on_success.is_some());
    let request = service.authorization_request.expect("headers");
    assert_eq!(request.headers_to_add[0].key, "x-from");

    let problems = problems(&index);
    assert!(
        problems.contains("no provider `over-htp` of `envoyExtAuthzGrpc` or `envoyExtAuthzHttp`"),
        "{problems}"
    );
    assert!(problems.contains("did you mean `over-http`"), "{problems}");
    let clusters: Vec<_> = made.clusters.iter().map(|one| one.name.as_str()).collect();
    assert!(clusters.contains(&cluster), "{clusters:?}");
}
