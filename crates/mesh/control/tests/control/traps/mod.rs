//! The traps of compatibility: what looks right and is not what Istio does. Each has a number, and a test that is named
//! `trap_NUMBER_…`: those of generation are here, others where the world is that they need. 7 to 10 are about requests
//! that Gateway API routes: lines of the tables of `periplus` name them. Those of Kubernetes' side of a mesh, which runs
//! pods and writes statuses, are none of files: probes through a proxy (20), what `istioctl` and Kiali ask a cluster for
//! (23, 24), the proxy's user (25), and the order in which containers start and stop (28).

mod security;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::Route;
use envoy_types::pb::envoy::config::trace::v3::ZipkinConfig;
use envoy_types::pb::envoy::config::trace::v3::tracing::http::ConfigType as TracerConfig;
use envoy_types::pb::envoy::config::trace::v3::zipkin_config::TraceContextOption;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use periplus_control::{Generated, Index};
use periplus_resources::{MeshConfig, parse_resources};
use prost::Message as _;

use crate::connections::{lines, listener, sidecar};
use crate::generate::{made, mesh_config};
use crate::support::gateway;
use crate::support::render::{render_listener, routing, unpack};

/// A service of HTTP whose port is not that of its workload, which is the client of these tests itself.
const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.7, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web}
spec: {address: 10.0.0.1, labels: {app: web}, serviceAccount: web}
";

fn index(text: &str) -> Index {
    let parsed = parse_resources("mesh.yaml", text);
    assert_eq!(parsed.errors, []);
    Index::certified(&parsed.resources, MeshConfig::default())
}

/// What the sidecar of a workload `app` has, whose connections are intercepted.
fn of_sidecar(app: &str, text: &str) -> Generated {
    made(&index(text), &sidecar(app))
}

fn of_gateway(text: &str) -> Generated {
    made(&index(text), &gateway())
}

/// A resource of Istio's in namespace `default`.
fn resource(version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn rule(name: &str, spec: &str) -> String {
    resource("networking.istio.io/v1", "VirtualService", name, spec)
}

/// The routes to the web.
fn routes(made: &Generated) -> Vec<&Route> {
    let hosts = made.routes.iter().flat_map(|one| &one.virtual_hosts);
    let hosts = hosts.filter(|host| host.name.starts_with("web.default"));
    hosts.flat_map(|host| &host.routes).collect()
}

#[test]
fn trap_01_a_fault_without_percentage_hits_nobody_and_a_destination_without_weight_gets_all() {
    for (percentage, expected) in [("", 0), ("percentage: {value: 100}, ", 1_000_000)] {
        let text = format!(
            "{{hosts: [web], http: [{{fault: {{delay: {{{percentage}fixedDelay: 5s}}, abort: {{{percentage}httpStatus: 500}}}}, \
             route: [{{destination: {{host: web}}}}]}}]}}"
        );
        let made = of_sidecar("client", &(WEB.to_owned() + &rule("web", &text)));
        let routes = routes(&made);
        let fault = &routes[0].typed_per_filter_config["envoy.filters.http.fault"];
        let fault: HttpFault = unpack(fault);
        let shares = [
            fault.delay.and_then(|delay| delay.percentage),
            fault.abort.and_then(|abort| abort.percentage),
        ];
        let shares = shares.map(|share| share.expect("a share").numerator);
        assert_eq!(shares, [expected; 2]);
        // No list of weights that add up to nothing.
        let to = "/* +0 -> outbound|80||web.default.svc.cluster.local (";
        assert!(routing(&made).contains(to), "{}", routing(&made));
    }
}

#[test]
fn trap_02_rules_for_a_host_add_up_at_gateways_only() {
    let of = |name: &str, path: &str| {
        let spec = format!(
            "{{hosts: [web.default.svc.cluster.local], gateways: [mesh, istio-system/edge], \
             http: [{{match: [{{uri: {{exact: {path}}}}}], route: [{{destination: {{host: web}}}}]}}]}}"
        );
        rule(name, &spec)
    };
    let edge = "
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*/*']}]}
";
    let text = [WEB, edge, &of("a", "/a"), &of("b", "/b")].concat();
    let at_sidecar = routing(&of_sidecar("client", &text));
    assert!(
        at_sidecar.contains("/a +0") && !at_sidecar.contains("/b +0"),
        "{at_sidecar}"
    );
    let at_gateway = routing(&of_gateway(&text));
    assert!(
        at_gateway.contains("/a +0") && at_gateway.contains("/b +0"),
        "{at_gateway}"
    );
}

#[test]
fn trap_03_a_sidecar_of_a_workload_has_nothing_of_that_of_its_namespace() {
    let all = "{egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
    let own = "{workloadSelector: {labels: {app: web}}, egress: [{hosts: ['nowhere/*']}]}";
    let text = [
        WEB.to_owned(),
        resource("networking.istio.io/v1", "Sidecar", "all", all),
        resource("networking.istio.io/v1", "Sidecar", "own", own),
    ]
    .concat();
    for (app, knows, is_closed) in [("client", true, true), ("web", false, false)] {
        let made = of_sidecar(app, &text);
        let mut clusters = made.clusters.iter();
        assert_eq!(
            clusters.any(|one| one.name.contains("|web.")),
            knows,
            "{app}"
        );
        let out = render_listener(listener(&made, "virtualOutbound"));
        assert_eq!(!out.contains("PassthroughCluster"), is_closed, "{app}");
    }
}

#[test]
fn trap_06_a_gateway_listens_behind_the_port_of_its_service() {
    let service = "
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{name: http2, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: edge, namespace: istio-system}
spec: {address: 127.0.0.1, labels: {app: istio-ingressgateway, istio: ingressgateway}}
";
    // 8080 is no port of the service: the sample's Gateway names the port behind.
    for port in [80, 8080] {
        let spec = format!(
            "{{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}"
        );
        let gateway = resource("networking.istio.io/v1", "Gateway", "edge", &spec);
        let made = of_gateway(&(service.to_owned() + &gateway));
        let names: Vec<_> = made.listeners.iter().map(|one| &one.name).collect();
        assert_eq!(names, ["127.0.0.1_8080"], "{port}");
        assert_eq!(made.routes[0].name, "http.8080", "{port}");
    }
}

#[test]
fn trap_11_statuses_name_their_generation_and_leave_the_parents_of_others_alone() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs, generation: 2}
spec: {controllerName: example.com/other}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ours, generation: 3}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: theirs, generation: 4}
spec: {gatewayClassName: theirs, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: both, generation: 5}
spec: {parentRefs: [{name: theirs}, {name: ours}], rules: [{backendRefs: [{name: web, port: 80}]}]}
";
    let index = index(&format!("{WEB}---{text}"));
    let found: Vec<_> = index
        .statuses()
        .iter()
        .map(|status| {
            let parents: Vec<_> = status
                .parents
                .iter()
                .map(|one| one.parent.name.as_str())
                .collect();
            (status.meta.to_string(), status.meta.generation, parents)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("Gateway default/ours".to_owned(), 3, vec![]),
            ("HTTPRoute default/both".to_owned(), 5, vec!["ours"]),
        ]
    );
}

#[test]
fn trap_19_zipkin_carries_both_contexts_unless_b3_alone_is_asked_for() {
    for (asked, expected) in [
        ("", TraceContextOption::UseB3WithW3cPropagation),
        (", traceContextOption: USE_B3", TraceContextOption::UseB3),
    ] {
        let mesh = format!(
            "{{extensionProviders: [{{name: z, zipkin: {{service: web.default.svc.cluster.local, port: 80{asked}}}}}], \
             defaultProviders: {{tracing: [z]}}}}"
        );
        let parsed = parse_resources("mesh.yaml", WEB);
        let made = made(
            &Index::new(&parsed.resources, mesh_config(&mesh)),
            &sidecar("client"),
        );
        let manager = manager_of(listener(&made, "0.0.0.0_80"));
        let provider = manager.tracing.and_then(|tracing| tracing.provider);
        let Some(TracerConfig::TypedConfig(any)) = provider.and_then(|one| one.config_type) else {
            panic!("no tracing");
        };
        let config = ZipkinConfig::decode(any.value.as_slice()).expect("Zipkin");
        assert_eq!(config.trace_context_option(), expected);
    }
}

/// The connection manager of a listener's first chain.
fn manager_of(listener: &Listener) -> HttpConnectionManager {
    let filter = listener.filter_chains[0].filters.last().expect("a filter");
    match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(any)) => unpack(any),
        other => panic!("{other:?}"),
    }
}

#[test]
fn trap_21_expressions_match_the_whole_text_and_an_empty_condition_asks_for_presence() {
    let spec = "{hosts: [web], http: [{match: [{uri: {regex: '/a+'}, headers: {here: {}}}], route: [{destination: {host: web}}]}]}";
    let made = of_sidecar("client", &(WEB.to_owned() + &rule("web", spec)));
    let text = format!("{:?}", routes(&made)[0].r#match);
    // Envoy's expressions are whole matches; nothing is added that would make them others.
    assert!(
        text.contains("SafeRegex(RegexMatcher { regex: \"/a+\"")
            && text.contains("PresentMatch(true)"),
        "{text}"
    );
}

#[test]
fn trap_22_short_names_are_those_of_the_namespace_of_the_rule() {
    let of = |namespace: &str| {
        let text = rule(
            "web",
            "{hosts: [web.default.svc.cluster.local], http: [{route: [{destination: {host: web}}]}]}",
        );
        let text = text.replace(
            "{name: web}",
            &format!("{{name: web, namespace: {namespace}}}"),
        );
        routing(&of_sidecar("client", &(WEB.to_owned() + &text)))
    };
    assert!(of("default").contains("outbound|80||web.default.svc.cluster.local"));
    let other = of("other");
    assert!(
        other.contains("-> outbound|80||web.other.svc.cluster.local"),
        "{other}"
    );
}

/// Three replicas behind a service without an address, of which the port is named for its protocol.
fn headless(port: &str) -> String {
    let mut text = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{name: {port}, port: 5432}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: db-1, labels: {{kubernetes.io/service-name: db}}}}
addressType: IPv4
ports: [{{name: {port}, port: 5432}}]
endpoints:
"
    );
    for replica in 0..3 {
        text += &format!(
            "- {{addresses: [10.0.1.{replica}], hostname: db-{replica}, conditions: {{ready: true}}}}\n"
        );
    }
    text
}

#[test]
fn trap_27_each_pod_of_a_headless_service_has_a_listener() {
    let cluster = "outbound|5432||db.default.svc.cluster.local";
    for (port, has_own) in [("tcp", true), ("tls", true), ("p", true), ("http", false)] {
        // A service of the same port that has no address either does not take what is for the pods.
        let other = resource(
            "networking.istio.io/v1",
            "ServiceEntry",
            "any",
            "{hosts: [any.example], resolution: NONE, ports: [{number: 5432, name: tcp, protocol: TCP}]}",
        );
        let made = of_sidecar("client", &(headless(port) + &other));
        for replica in 0..3 {
            let name = format!("10.0.1.{replica}_5432");
            let found = made.listeners.iter().find(|one| one.name == name);
            assert_eq!(found.is_some(), has_own, "{port} {name}");
            let Some(found) = found else { continue };
            assert!(found.bind_to_port.is_some_and(|binds| !binds.value));
            let lines = lines(found);
            let rest = lines.last().expect("what takes the rest");
            assert_eq!(rest, "[] outbound|5432||db", "{port}");
            assert_eq!(lines.iter().any(|line| line.ends_with("HTTP")), port == "p");
        }
        let own = made.clusters.iter().find(|one| one.name == cluster);
        let by_client = ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into());
        let found = own.expect(cluster).cluster_discovery_type.as_ref();
        assert_eq!(found, Some(&by_client), "{port}");
    }
    // Requests to a pod by its name are those of the service, and go to that pod.
    for port in ["http", "p"] {
        let routing = routing(&of_sidecar("client", &headless(port)));
        assert!(
            routing.contains(" *.db.default.svc.cluster.local "),
            "{port}: {routing}"
        );
    }
}
