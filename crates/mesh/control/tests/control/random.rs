//! Whatever valid resources say together, what is made of them is consistent.

use std::fmt::Write as _;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_control::{Index, Mesh, Proxy, State, generate};
use periplus_resources::{MeshConfig, SAMPLING, parse_resources};
use periplus_xds::Snapshot;
use periplus_xds::server::Source;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::mesh_config;
use crate::support::{gateway, invariants, node, set};

const NAMESPACES: [&str; 3] = ["a", "b", "istio-system"];

/// Names that collide in every way: short, full, with wildcards, and one that is an address.
const HOSTS: [&str; 7] = [
    "x",
    "y",
    "x.a",
    "x.a.svc.cluster.local",
    "x.b.svc.cluster.local",
    "x.example.org",
    "10.0.0.1",
];
const WILDCARDS: [&str; 3] = ["*.local", "*.example.org", "*.a.svc.cluster.local"];

/// Those of others, one of which an edit replaces, and one of the proxies' own address.
const ENDPOINTS: [&str; 4] = [
    "{address: 10.1.1.1, labels: {version: v1}}",
    "{address: 10.1.1.1}, {address: 10.1.1.3, labels: {version: v1}, weight: 7}",
    "{address: 127.0.0.1, labels: {version: v1}}",
    "{address: us.example.com, labels: {version: v1}}, {address: 10.1.1.1}",
];

fn any_of(names: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names)
}

fn any_host() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => any_of(&HOSTS), 1 => any_of(&WILDCARDS)]
}

/// The document of a resource with a name of its own, or nearly so.
fn resource(kind: &str, namespace: &str, name: u8, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: n{name}, namespace: {namespace}}}\nspec:\n{spec}---\n"
    )
}

fn service() -> impl Strategy<Value = String> {
    let ports = prop::collection::btree_set(prop::sample::select(vec![80, 81, 9080]), 1..3);
    let parts = (
        any_of(&NAMESPACES),
        0u8..4,
        any_of(&HOSTS),
        ports,
        any_of(&["http", "grpc", "tcp", "tls", "any"]),
        (any::<bool>(), any::<bool>(), any_of(&ENDPOINTS)),
    );
    parts.prop_map(
        |(namespace, name, host, ports, protocol, (hidden, has_address, endpoints))| {
            let resolution = match endpoints.contains("example.com") {
                true => "DNS",
                false => "STATIC",
            };
            let mut spec = format!("  hosts: [{host}]\n  resolution: {resolution}\n  ports:\n");
            for port in ports {
                writeln!(spec, "  - {{number: {port}, name: {protocol}-{port}}}")
                    .expect("it is a text");
            }
            if has_address {
                spec += "  addresses: [240.0.0.1]\n";
            }
            writeln!(spec, "  endpoints: [{endpoints}]").expect("it is a text");
            if hidden {
                spec += "  exportTo: ['.']\n";
            }
            resource("ServiceEntry", namespace, name, &spec)
        },
    )
}

/// A service whose names proxies look up.
fn looked_up() -> impl Strategy<Value = String> {
    let parts = (
        any_of(&NAMESPACES),
        0u8..4,
        any_of(&["*.example.org", "*.local"]),
        any_of(&["80", "81"]),
        any_of(&["http", "grpc", "tls"]),
        any::<bool>(),
    );
    parts.prop_map(|(namespace, name, host, port, protocol, hidden)| {
        let mut spec = format!(
            "  hosts: ['{host}']\n  resolution: DYNAMIC_DNS\n  ports: [{{number: {port}, name: {protocol}-{port}}}]\n"
        );
        if hidden {
            spec += "  exportTo: ['.']\n";
        }
        resource("ServiceEntry", namespace, name, &spec)
    })
}

/// A service of Kubernetes that has the addresses of its pods alone.
fn headless() -> impl Strategy<Value = String> {
    let parts = (
        any_of(&NAMESPACES),
        any_of(&["x", "y"]),
        any_of(&["http", "tcp", "tls", "any"]),
        any::<bool>(),
    );
    parts.prop_map(|(namespace, name, protocol, has_two)| {
        let meta = format!("namespace: {namespace}");
        let second = if has_two {
            ", {addresses: [10.1.1.4]}"
        } else {
            ""
        };
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, {meta}}}\n\
             spec: {{clusterIP: None, ports: [{{name: {protocol}, port: 81}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, {meta}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: {protocol}, port: 81}}]\n\
             endpoints: [{{addresses: [10.1.1.1]}}{second}]\n---\n"
        )
    })
}

fn virtual_service() -> impl Strategy<Value = String> {
    let hosts = prop::collection::btree_set(any_host(), 1..3);
    let gateways = any_of(&["[mesh]", "[a/n0]", "[mesh, a/n0]", "[n0, b/n1]"]);
    let subset = any_of(&["", ", subset: v1", ", subset: v2"]);
    let condition = any_of(&[
        "",
        "match: [{uri: {prefix: /}}], ",
        "match: [{uri: {exact: /a}}, {port: 80}], ",
        "match: [{headers: {a: {regex: b}}, gateways: [mesh]}], ",
        "match: [{sourceLabels: {app: s}}, {sourceLabels: {app: t, version: v1}}], ",
    ]);
    // Connections are matched in listeners.
    let connections = any_of(&[
        "",
        "",
        "  tls:\n  - {match: [{sniHosts: [HOST], sourceLabels: {app: s}}], route: [{destination: {host: y}}]}\n",
        "  tcp:\n  - {match: [{port: 81, sourceLabels: {app: t}}], route: [{destination: {host: y}}]}\n",
    ]);
    let rules = vec((condition, any_host(), subset), 1..3);
    let parts = (
        any_of(&NAMESPACES),
        0u8..4,
        hosts,
        gateways,
        rules,
        connections,
    );
    parts.prop_map(|(namespace, name, hosts, gateways, rules, connections)| {
        let hosts: Vec<_> = hosts.iter().map(|host| format!("'{host}'")).collect();
        let mut spec = format!(
            "  hosts: [{}]\n  gateways: {gateways}\n  http:\n",
            hosts.join(", ")
        );
        for (condition, host, subset) in rules {
            writeln!(
                spec,
                "  - {{{condition}route: [{{destination: {{host: '{host}'{subset}}}}}]}}"
            )
            .expect("it is a text");
        }
        // Names of servers are whole ones.
        match hosts.iter().find(|host| host.contains('.')) {
            Some(host) => spec += &connections.replace("HOST", host),
            None if connections.contains("HOST") => {}
            None => spec += connections,
        }
        resource("VirtualService", namespace, name, &spec)
    })
}

fn destination_rule() -> impl Strategy<Value = String> {
    let policy = any_of(&[
        "",
        "  trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [version]}}, outlierDetection: {}}\n",
        "  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}\n",
        "  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-a}}}\n",
        "  trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {consistentHash: {useSourceIp: true}}}]}\n",
        "  trafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}\n",
        "  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}\n",
        "  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n  workloadSelector: {matchLabels: {app: t, version: v1}}\n",
    ]);
    let parts = (any_of(&NAMESPACES), 0u8..4, any_host(), policy);
    parts.prop_map(|(namespace, name, host, policy)| {
        let spec = format!(
            "  host: '{host}'\n  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2}}]\n{policy}"
        );
        resource("DestinationRule", namespace, name, &spec)
    })
}

fn gateway_resource() -> impl Strategy<Value = String> {
    let hosts = any_of(&[
        "['*']",
        "['a/*', './x.example.org']",
        "['*.example.org', '*/x']",
    ]);
    let parts = (any_of(&NAMESPACES), 0u8..2, hosts, any_of(&["8080", "80"]));
    parts.prop_map(|(namespace, name, hosts, port)| {
        let spec = format!(
            "  selector: {{istio: ingressgateway}}\n  servers:\n  \
             - {{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: {hosts}}}\n"
        );
        resource("Gateway", namespace, name, &spec)
    })
}

const SIDECAR: &str = "\
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec:
  ingress:
  - {port: {number: 9080, name: http, protocol: HTTP}, captureMode: NONE, defaultEndpoint: '127.0.0.1:80'}
  egress:
  - {port: {number: 15001, name: p, protocol: HTTP_PROXY}, captureMode: NONE, hosts: ['*/*']}
  - {port: {number: 15002, name: q, protocol: HTTP_PROXY}, captureMode: NONE, hosts: ['a/*', '*/x']}
";

/// What is said of workloads, and of what they import: each by one namespace.
fn of_workloads() -> impl Strategy<Value = String> {
    let parts = (
        any_of(&NAMESPACES),
        0u8..2,
        any_of(&[
            "networking.istio.io/v1 Sidecar {egress: [{hosts: ['a/*']}]}",
            "networking.istio.io/v1 Sidecar {egress: [{hosts: ['./*', '*/x.a.svc.cluster.local']}]}",
            "security.istio.io/v1 AuthorizationPolicy {rules: [{to: [{operation: {paths: [/a]}}]}]}",
            "security.istio.io/v1 PeerAuthentication {mtls: {mode: STRICT}}",
            "security.istio.io/v1 RequestAuthentication {jwtRules: [{issuer: i, jwksUri: 'https://x.a.svc.cluster.local/k'}]}",
            "telemetry.istio.io/v1 Telemetry {metrics: [{overrides: [{disabled: true}]}]}",
            "telemetry.istio.io/v1 Telemetry {sampled: 'outbound 80: 1, route r: 2'}",
            "networking.istio.io/v1 Sidecar {workloadSelector: {labels: {app: t}}, egress: [{hosts: ['b/*']}]}",
            "security.istio.io/v1 RequestAuthentication {selector: {matchLabels: {app: s}}, jwtRules: [{issuer: i, jwksUri: 'https://x.a.svc.cluster.local/k'}]}",
        ]),
    );
    parts.prop_map(|(namespace, name, resource)| {
        let mut parts = resource.splitn(3, ' ');
        let mut next = || parts.next().expect("three parts");
        let (version, kind, spec) = (next(), next(), next());
        let sampled = spec.strip_prefix("{sampled: ");
        let annotation = sampled.and_then(|text| text.strip_suffix('}'));
        let annotation = annotation.map(|text| format!(", annotations: {{{SAMPLING}: {text}}}"));
        let spec = if annotation.is_some() { "{}" } else { spec };
        let annotation = annotation.unwrap_or_default();
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: n{name}, namespace: {namespace}{annotation}}}\n\
             spec: {spec}\n---\n"
        )
    })
}

/// Rules that one leaves to another of the names that there are, and rules for those who do.
fn delegating() -> impl Strategy<Value = String> {
    let parts = (
        any_of(&NAMESPACES),
        0u8..2,
        any_of(&[
            "  hosts: [x.a.svc.cluster.local]\n  http: [{match: [{uri: {prefix: /}}], delegate: {name: n0, namespace: a}}]\n",
            "  http: [{match: [{uri: {exact: /a}}], route: [{destination: {host: y}}]}]\n",
        ]),
    );
    parts.prop_map(|(namespace, name, spec)| resource("VirtualService", namespace, name, spec))
}

/// Gateway API's: routes for services and for gateways, and what these are.
fn by_api() -> impl Strategy<Value = String> {
    let route = (
        any_of(&NAMESPACES),
        0u8..3,
        any_of(&["a", "b"]),
        any_of(&[
            "[{group: '', kind: Service, name: x}]",
            "[{group: '', kind: Service, name: y, namespace: a, port: 81}]",
            "[{group: '', kind: Service, name: x, namespace: b}, {name: edge, namespace: istio-system}]",
            "[{name: edge, namespace: istio-system}]",
        ]),
        any_of(&[
            "{backendRefs: [{name: y, port: 81}]}",
            "{matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: x, port: 81, weight: 3}, {name: y, port: 80}]}",
            "{filters: [{type: RequestRedirect, requestRedirect: {port: 8080}}]}",
        ]),
    );
    let route = route.prop_map(|(namespace, name, age, parents, rule)| {
        let year = if age == "a" { 2021 } else { 2022 };
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
             metadata: {{name: r{name}, namespace: {namespace}, creationTimestamp: '{year}-01-01T00:00:00Z'}}\n\
             spec: {{parentRefs: {parents}, rules: [{rule}]}}\n---\n"
        )
    });
    let gateway = any_of(&["80", "8080"]).prop_map(|port| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
             metadata: {{name: edge, namespace: istio-system}}\n\
             spec: {{gatewayClassName: istio, listeners: [{{name: http, port: {port}, protocol: HTTP, \
             allowedRoutes: {{namespaces: {{from: All}}}}}}]}}\n---\n"
        )
    });
    let policy = any_of(&NAMESPACES).prop_map(|namespace| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n\
             metadata: {{name: p, namespace: {namespace}}}\n\
             spec: {{targetRefs: [{{group: '', kind: Service, name: x}}], \
             validation: {{wellKnownCACertificates: System, hostname: x.example.org}}}}\n---\n"
        )
    });
    prop_oneof![6 => route, 1 => gateway, 1 => policy]
}

/// What is said of the proxy of one pod, or of the machines that a service is for.
fn of_pods() -> impl Strategy<Value = String> {
    let pod = (any_of(&NAMESPACES), any_of(&["7", "70", "none"])).prop_map(|(namespace, share)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: s, namespace: {namespace}, annotations: \
             {{proxy.istio.io/config: 'tracing: {{sampling: {share}}}'}}}}\nspec: {{containers: []}}\n---\n"
        )
    });
    let local = (any_of(&NAMESPACES), any_of(&["Local", "Cluster"])).prop_map(|(namespace, of)| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: z, namespace: {namespace}}}\n\
             spec: {{clusterIP: 10.9.9.9, internalTrafficPolicy: {of}, ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: z-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: z}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80}}]\n\
             endpoints: [{{addresses: [10.1.1.1], nodeName: m1}}, {{addresses: [10.1.1.5], nodeName: m2}}]\n---\n"
        )
    });
    prop_oneof![pod, local]
}

/// A Secret with what is no certificate, which gateways are told about.
fn secret() -> impl Strategy<Value = String> {
    (any_of(&NAMESPACES), any_of(&["bm8=", "eWVz"])).prop_map(|(namespace, text)| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: a, namespace: {namespace}}}\n\
             data: {{ca.crt: {text}}}\n---\n"
        )
    })
}

fn any_resource() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => by_api(),
        1 => of_pods(),
        1 => secret(),
        3 => service(),
        1 => looked_up(),
        1 => headless(),
        3 => virtual_service(),
        1 => delegating(),
        1 => destination_rule(),
        1 => gateway_resource(),
        2 => of_workloads(),
    ]
}

/// What somebody does to a directory.
#[derive(Clone, Debug)]
enum Edit {
    Add(String),
    Replace(prop::sample::Index, String),
    Remove(prop::sample::Index),
    /// Another endpoint in place of one.
    Endpoint,
    /// Another path in place of one.
    Path,
    /// What is said of connections otherwise.
    Policy,
    /// Another route of Gateway API.
    Route,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any_resource().prop_map(Edit::Add),
        (any::<prop::sample::Index>(), any_resource()).prop_map(|(at, one)| Edit::Replace(at, one)),
        any::<prop::sample::Index>().prop_map(Edit::Remove),
        Just(Edit::Endpoint),
        Just(Edit::Path),
        (any::<prop::sample::Index>(), destination_rule())
            .prop_map(|(at, one)| Edit::Replace(at, one)),
        destination_rule().prop_map(Edit::Add),
        Just(Edit::Policy),
        Just(Edit::Route),
        by_api().prop_map(Edit::Add),
    ]
}

impl Edit {
    fn apply(self, resources: &mut Vec<String>) {
        match self {
            Self::Add(one) => resources.push(one),
            Self::Replace(at, one) => *at.get_mut(resources) = one,
            Self::Remove(at) => drop(resources.remove(at.index(resources.len()))),
            Self::Endpoint => {
                for one in resources {
                    *one = one.replacen("10.1.1.1", "10.1.1.2", 1);
                }
            }
            Self::Path => {
                for one in resources {
                    *one = one.replacen("exact: /a", "exact: /b", 1);
                }
            }
            Self::Route => {
                for one in resources {
                    for (old, new) in [
                        ("weight: 3", "weight: 4"),
                        ("value: /a}", "value: /b}"),
                        ("{name: y, port: 81}", "{name: x, port: 81}"),
                        ("hostname: x.example.org", "hostname: y.example.org"),
                    ] {
                        *one = one.replacen(old, new, 1);
                    }
                }
            }
            Self::Policy => {
                for one in resources {
                    for (old, new) in [
                        ("{name: v2}", "{name: v3}"),
                        ("x-a", "x-b"),
                        ("maxConnections: 7", "maxConnections: 8"),
                        ("mode: SIMPLE, credentialName: a", "mode: DISABLE"),
                        ("simple: PASSTHROUGH", "simple: RANDOM"),
                    ] {
                        *one = one.replacen(old, new, 1);
                    }
                }
            }
        }
    }
}

/// Spans go to a service that comes and goes, and is not seen by all.
const MESH: &str = "
extensionProviders: [{name: spans, zipkin: {service: x.b.svc.cluster.local, port: 9080}}]
defaultProviders: {tracing: [spans]}
";

fn state(resources: &[String]) -> State {
    let text = resources.concat() + SIDECAR;
    let parsed = parse_resources("mesh.yaml", &text);
    State {
        index: Index::certified(&parsed.resources, mesh_config(MESH)),
        ..State::default()
    }
}

/// Sidecars of each namespace, with and without interception, and a gateway.
fn nodes() -> Vec<Node> {
    let sidecars = NAMESPACES.map(|namespace| {
        let id = format!("sidecar~127.0.0.1~s.{namespace}~{namespace}.svc.cluster.local");
        node(&id, "s", namespace, &[("app", "s")])
    });
    let intercepted = sidecars.clone().map(|mut node| {
        let mode = Value {
            kind: Some(Kind::StringValue("REDIRECT".into())),
        };
        let metadata = node.metadata.get_or_insert_default();
        metadata.fields.insert("INTERCEPTION_MODE".into(), mode);
        node.id = node.id.replace("127.0.0.1~s", "127.0.0.2~t");
        set(&mut node, "NODE_NAME", "m1");
        node
    });
    // What they see is the same, but for what is said of their labels.
    let labelled = intercepted.clone().map(|other| {
        let namespace = other
            .id
            .split('~')
            .nth(3)
            .and_then(|it| it.split('.').next());
        let namespace = namespace.expect("a namespace").to_owned();
        let id = other.id.replace("127.0.0.2~t", "127.0.0.3~u");
        let mut node = node(&id, "t", &namespace, &[("app", "t"), ("version", "v1")]);
        let mode = other.metadata.expect("metadata").fields["INTERCEPTION_MODE"].clone();
        let metadata = node.metadata.get_or_insert_default();
        metadata.fields.insert("INTERCEPTION_MODE".into(), mode);
        node
    });
    // Nor of what our own proxies and those of a cluster are told besides.
    let own = intercepted.clone().map(|mut node| {
        node.id = node.id.replace("127.0.0.2~t", "127.0.0.4~v");
        node.user_agent_name = "periplus".to_owned();
        node
    });
    let elsewhere = own.clone().map(|mut node| {
        node.id = node.id.replace("127.0.0.4~v", "127.0.0.5~w");
        set(&mut node, "CLUSTER_ID", "c1");
        node
    });
    sidecars
        .into_iter()
        .chain(intercepted)
        .chain(labelled)
        .chain(own)
        .chain(elsewhere)
        .chain([gateway(), api_gateway()])
        .collect()
}

/// One of Gateway API.
fn api_gateway() -> Node {
    node(
        "router~127.0.0.5~edge.istio-system~istio-system.svc.cluster.local",
        "edge",
        "istio-system",
        &[("gateway.networking.k8s.io/gateway-name", "edge")],
    )
}

/// One of gRPC.
fn proxyless() -> Node {
    let mut node = node(
        "sidecar~127.0.0.4~g.a~a.svc.cluster.local",
        "g",
        "a",
        &[("app", "s")],
    );
    let generator = Value {
        kind: Some(Kind::StringValue("grpc".into())),
    };
    let metadata = node.metadata.get_or_insert_default();
    metadata.fields.insert("GENERATOR".into(), generator);
    node
}

/// Those, and a client without a proxy.
fn clients() -> impl Iterator<Item = Node> {
    nodes().into_iter().chain([proxyless()])
}

fn snapshots(mesh: &Mesh) -> Vec<std::sync::Arc<Snapshot>> {
    let snapshots = clients().map(|node| mesh.snapshot(&node));
    snapshots.collect::<Result<_, _>>().expect("good nodes")
}

fn is_same(one: &Snapshot, other: &Snapshot) -> bool {
    one.types()
        .zip(other.types())
        .all(|((one_type, one), (other_type, other))| {
            one_type == other_type && one.iter().eq(other.iter())
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn is_consistent(
        services in vec(prop_oneof![3 => service(), 1 => looked_up(), 1 => headless()], 0..5),
        rules in vec(virtual_service(), 0..5),
        connections in vec(destination_rule(), 0..5),
        gateways in vec(gateway_resource(), 0..4),
    ) {
        let text = [services, rules, connections, gateways].concat().concat() + SIDECAR;
        let parsed = parse_resources("mesh.yaml", &text);
        // The one thing about these texts that may be wrong by itself.
        let twice = |message: &str| message.contains("is listed twice");
        let others: Vec<_> = parsed.errors.iter().filter(|e| !twice(&e.message)).collect();
        prop_assert!(others.is_empty(), "{others:?}\n{text}");

        let index = Index::new(&parsed.resources, MeshConfig::default());
        for node in &nodes() {
            let proxy = Proxy::from_node(node).expect("a good node");
            let made = generate(&index, &proxy);
            invariants::check(&made);
            prop_assert_eq!(&made, &generate(&index, &proxy));
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// What edits leave as it was is what it would be if all were made anew.
    #[test]
    fn edits_make_anew_all_that_they_concern(
        mut resources in vec(any_resource(), 1..12),
        edits in vec(edit(), 1..6),
    ) {
        let mesh = Mesh::new(state(&resources));
        let mut before = snapshots(&mesh);
        for edit in edits {
            if !resources.is_empty() {
                edit.clone().apply(&mut resources);
            }
            let notified = mesh.publish(state(&resources), |_| true);
            let after = snapshots(&mesh);
            let anew = snapshots(&Mesh::new(state(&resources)));
            for ((node, after), anew) in clients().zip(&after).zip(&anew) {
                prop_assert!(is_same(after, anew), "{} after {edit:?} of {}", node.id, resources.concat());
            }
            let fresh = Mesh::new(state(&resources));
            for node in clients() {
                prop_assert_eq!(mesh.notes(&node), fresh.notes(&node), "{} after {:?}", node.id, edit);
            }
            let others = before.iter().zip(&after).filter(|(one, other)| !is_same(one, other));
            prop_assert_eq!(notified, others.count());
            before = after;
        }
    }
}

/// What depends on more than the resource that is edited: each was missed before.
#[test]
fn edits_concern_more_than_they_name() {
    let service = |protocol: &str| {
        let spec = format!(
            "  hosts: [x.a.svc.cluster.local]\n  resolution: STATIC\n  exportTo: ['.']\n  \
             ports: [{{number: 81, name: {protocol}-81}}]\n  endpoints: [{{address: 10.1.1.1}}]\n"
        );
        resource("ServiceEntry", "a", 0, &spec)
    };
    let rule = |namespace: &str, host: &str, more: &str| {
        let spec = format!(
            "  hosts: ['{host}']\n  http: [{{route: [{{destination: {{host: x.a.svc.cluster.local}}}}]}}]\n{more}"
        );
        resource("VirtualService", namespace, 1, &spec)
    };
    let policy = |policy: &str| {
        let spec = format!("  host: x.a.svc.cluster.local\n  trafficPolicy: {{{policy}}}\n");
        resource("DestinationRule", "a", 2, &spec)
    };
    let without_cluster = || policy("tls: {mode: SIMPLE, credentialName: a}");
    let pod = |address: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: x, namespace: a}}\n\
             spec: {{clusterIP: None, ports: [{{name: tcp, port: 81}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: x-1, namespace: a, labels: {{kubernetes.io/service-name: x}}}}\n\
             addressType: IPv4\nports: [{{name: tcp, port: 81}}]\nendpoints: [{{addresses: [{address}]}}]\n---\n"
        )
    };
    let hash = |header: &str| {
        policy(&format!(
            "loadBalancer: {{consistentHash: {{httpHeaderName: {header}}}}}"
        ))
    };
    let named = |namespace: &str, endpoint: &str| {
        let spec = format!(
            "  hosts: [z.example.org]\n  resolution: DNS\n  ports: [{{number: 80, name: http}}]\n  endpoints: [{endpoint}]\n"
        );
        resource("ServiceEntry", namespace, 3, &spec)
    };
    let subset = || {
        let spec = "  host: z.example.org\n  subsets: [{name: v2, labels: {version: v2}}]\n";
        resource("DestinationRule", "istio-system", 3, spec)
    };
    let wild = |protocol: &str| {
        let spec = format!(
            "  hosts: ['*.example.org']\n  resolution: DYNAMIC_DNS\n  ports: [{{number: 90, name: {protocol}}}]\n"
        );
        resource("ServiceEntry", "a", 4, &spec)
    };
    let to_wild = || {
        let spec = "  hosts: [x.a.svc.cluster.local]\n  http: [{route: [{destination: {host: '*.example.org'}}]}]\n";
        resource("VirtualService", "a", 1, spec)
    };
    let of_wildcard = |connections: u8| {
        let spec = format!(
            "  host: '*.example.org'\n  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {connections}}}}}}}\n"
        );
        resource("DestinationRule", "a", 5, &spec)
    };
    let connections = "  tcp: [{match: [{port: 81}], route: [{destination: {host: y}}]}]\n";
    for (what, before, after) in [
        (
            "the hash of a service that a route leads to, and that the proxy has no cluster of",
            vec![service("http"), rule("b", "y.b", ""), hash("x-a")],
            vec![service("http"), rule("b", "y.b", ""), hash("x-b")],
        ),
        (
            "an endpoint of a service without clusters, where there is a listener",
            vec![pod("10.1.1.1"), without_cluster()],
            vec![pod("10.1.1.2"), without_cluster()],
        ),
        (
            "a service that has clusters for some alone, and then for all",
            vec![
                service("http"),
                policy("loadBalancer: {simple: PASSTHROUGH}"),
            ],
            vec![service("http"), policy("loadBalancer: {simple: RANDOM}")],
        ),
        (
            "a service that lacked a cluster because nobody could be looked up",
            vec![
                named("b", "{address: us.example.com, labels: {version: v1}}"),
                subset(),
            ],
            vec![
                named("b", "{address: us.example.com, labels: {version: v2}}"),
                subset(),
            ],
        ),
        (
            "what a client without a proxy is told of clusters that it cannot take",
            vec![named(
                "a",
                "{address: us.example.com, labels: {version: v2}}",
            )],
            vec![
                named("a", "{address: us.example.com, labels: {version: v2}}"),
                subset(),
            ],
        ),
        (
            "rules for requests that lead where names are looked up, for which the listener has a filter",
            vec![
                service("http"),
                wild("http"),
                rule("a", "x.a.svc.cluster.local", ""),
            ],
            vec![service("http"), wild("http"), to_wild()],
        ),
        (
            "a rule for a wildcard that is a service too",
            vec![
                wild("http"),
                named("a", "{address: us.example.com}"),
                of_wildcard(7),
            ],
            vec![
                wild("http"),
                named("a", "{address: us.example.com}"),
                of_wildcard(8),
            ],
        ),
        (
            "rules for requests that stand before wider ones for connections",
            vec![service("tcp"), rule("a", "*.local", connections)],
            vec![
                service("tcp"),
                rule("a", "*.local", connections),
                rule("b", "x.a.svc.cluster.local", ""),
            ],
        ),
    ] {
        let mesh = Mesh::new(state(&before));
        let had = snapshots(&mesh);
        mesh.publish(state(&after), |_| true);
        let anew = snapshots(&Mesh::new(state(&after)));
        let both = snapshots(&mesh).into_iter().zip(&anew);
        let fresh = Mesh::new(state(&after));
        for ((has, anew), node) in both.zip(clients()) {
            assert!(is_same(&has, anew), "{what}: {}", node.id);
            assert_eq!(mesh.notes(&node), fresh.notes(&node), "{what}: {}", node.id);
        }
        let differ = had
            .iter()
            .zip(&anew)
            .any(|(one, other)| !is_same(one, other));
        assert!(differ, "{what}: the edit is one");
    }
}
