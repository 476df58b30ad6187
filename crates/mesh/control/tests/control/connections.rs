//! VirtualServices' rules for connections, `tcp` and `tls`: which chain leads where.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_control::{Generated, Index, Proxy, generate};
use periplus_resources::{MeshConfig, parse_resources};
use prost::Name;

use crate::support::{gateway, invariants, node, render::unpack};

const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.default.svc.cluster.local]
  addresses: [10.96.0.5]
  resolution: STATIC
  ports: [{number: 5432, name: tcp}, {number: 443, name: tls}]
  endpoints: [{address: 10.0.0.5}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: new}
spec:
  hosts: [new.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 5432, name: tcp}]
  endpoints: [{address: 10.0.0.6}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http}]
  endpoints: [{address: 10.0.0.7}]
";

fn made(rules: &str, node: &Node) -> Generated {
    let parsed = parse_resources("rules.yaml", &format!("{SERVICES}---\n{rules}"));
    assert_eq!(parsed.errors, []);
    let index = Index::new(&parsed.resources, MeshConfig::default());
    let proxy = Proxy::from_node(node).expect("a good node");
    let made = generate(&index, &proxy);
    invariants::check(&made);
    made
}

pub(crate) fn sidecar(app: &str) -> Node {
    let mut node = node(
        "sidecar~10.0.0.1~client.default~default.svc.cluster.local",
        "client.default",
        "default",
        &[("app", app)],
    );
    let mode = Value {
        kind: Some(Kind::StringValue("REDIRECT".to_owned())),
    };
    let metadata = node.metadata.get_or_insert_default();
    metadata.fields.insert("INTERCEPTION_MODE".to_owned(), mode);
    node
}

fn virtual_service(gateways: &str, hosts: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rules}}
spec:
  gateways: [{gateways}]
  hosts: [{hosts}]
{rules}
"
    )
}

/// The conditions of a chain, and where it leads.
fn line(chain: &FilterChain) -> String {
    let conditions = chain.filter_chain_match.clone().unwrap_or_default();
    let ranges = conditions.prefix_ranges.iter().map(|range| {
        let length = range.prefix_len.map_or(0, |length| length.value);
        format!("{}/{length}", range.address_prefix)
    });
    let conditions: Vec<_> = [conditions.transport_protocol]
        .into_iter()
        .chain(conditions.server_names)
        .chain(ranges)
        .filter(|text| !text.is_empty())
        .collect();
    let short = |name: &str| name.replace(".default.svc.cluster.local", "");
    let filter = chain.filters.last().expect("a filter");
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        panic!("{filter:?}");
    };
    let to = if any.type_url == TcpProxy::type_url() {
        match unpack::<TcpProxy>(any).cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => short(&cluster),
            Some(ClusterSpecifier::WeightedClusters(clusters)) => {
                let clusters = clusters.clusters.iter();
                let parts = clusters.map(|one| format!("{}:{}", short(&one.name), one.weight));
                parts.collect::<Vec<_>>().join(" ")
            }
            None => "nowhere".to_owned(),
        }
    } else {
        "HTTP".to_owned()
    };
    format!("[{}] {to}", conditions.join(" "))
}

pub(crate) fn lines(listener: &Listener) -> Vec<String> {
    let chains = listener.filter_chains.iter();
    chains
        .chain(&listener.default_filter_chain)
        .map(line)
        .collect()
}

pub(crate) fn listener<'a>(made: &'a Generated, name: &str) -> &'a Listener {
    let mut listeners = made.listeners.iter();
    let found = listeners.find(|listener| listener.name == name);
    found.unwrap_or_else(|| panic!("no listener {name}: {:?}", made.notes))
}

#[test]
fn sidecars_route_tcp() {
    let to = |host: &str, weight: u32| {
        format!("{{destination: {{host: {host}, port: {{number: 5432}}}}, weight: {weight}}}")
    };
    let (db, new) = (to("db", 80), to("new", 20));
    for (rules, app, expected) in [
        // Without a rule that holds, as if there were none.
        (
            format!("- match: [{{port: 1}}]\n    route: [{new}]"),
            "a",
            &["[] outbound|5432||db"][..],
        ),
        (
            format!("- route: [{db}, {new}]"),
            "a",
            &["[] outbound|5432||db:80 outbound|5432||new:20"],
        ),
        (
            format!(
                "- match: [{{port: 5432, sourceLabels: {{app: b}}}}]\n    route: [{new}]\n  - route: [{db}]"
            ),
            "b",
            &["[] outbound|5432||new"],
        ),
        (
            format!(
                "- match: [{{sourceLabels: {{app: b}}}}]\n    route: [{new}]\n  - route: [{db}]"
            ),
            "a",
            &["[] outbound|5432||db"],
        ),
        (
            format!("- match: [{{sourceNamespace: other}}]\n    route: [{new}]"),
            "a",
            &["[] outbound|5432||db"],
        ),
        // What goes to some addresses, and the rest.
        (
            format!(
                "- match: [{{destinationSubnets: [10.96.0.0/30, 10.97.0.1]}}]\n    route: [{new}]"
            ),
            "a",
            &[
                "[10.96.0.0/30 10.97.0.1/32] outbound|5432||new",
                "[] outbound|5432||db",
            ],
        ),
        // Where one of the conditions has no addresses, all are meant.
        (
            format!("- match: [{{destinationSubnets: [10.0.0.0/8]}}, {{}}]\n    route: [{new}]"),
            "a",
            &["[] outbound|5432||new"],
        ),
    ] {
        let rules = virtual_service("mesh", "db", &format!("  tcp:\n  {rules}"));
        let made = made(&rules, &sidecar(app));
        let found = lines(listener(&made, "10.96.0.5_5432"));
        assert_eq!(found, expected, "{rules}");
    }
}

#[test]
fn sidecars_route_tls_by_its_name() {
    let rules = "  tls:
  - match: [{sniHosts: [db.default.svc.cluster.local], destinationSubnets: [10.96.0.5]}]
    route: [{destination: {host: new, port: {number: 5432}}}]
  - match: [{sniHosts: ['*.default.svc.cluster.local'], port: 443}, {sniHosts: [x.default.svc.cluster.local], gateways: [mesh]}]
    route: [{destination: {host: db, port: {number: 443}}}]";
    let hosts = "db, '*.default.svc.cluster.local'";
    let made = made(&virtual_service("mesh", hosts, rules), &sidecar("a"));
    let listener = listener(&made, "10.96.0.5_443");
    assert_eq!(
        lines(listener),
        [
            "[db.default.svc.cluster.local 10.96.0.5/32] outbound|5432||new",
            "[*.default.svc.cluster.local] outbound|443||db",
            "[x.default.svc.cluster.local] outbound|443||db",
            "[] PassthroughCluster",
        ]
    );
    let filters = &listener.listener_filters;
    assert_eq!(filters[0].name, "envoy.filters.listener.tls_inspector");
}

/// Rules for connections leave requests alone, and the other way round.
#[test]
fn each_kind_of_rule_is_for_its_own() {
    let tcp = "  tcp: [{route: [{destination: {host: new}}]}]";
    let rules = virtual_service("mesh", "web", tcp);
    assert_eq!(
        made(&rules, &sidecar("a")).routes,
        made("", &sidecar("a")).routes
    );
    let http = "  http: [{route: [{destination: {host: new}}]}]";
    let rules = virtual_service("mesh", "db", http);
    let made = made(&rules, &sidecar("a"));
    let found = lines(listener(&made, "10.96.0.5_5432"));
    assert_eq!(found, ["[] outbound|5432||db"]);
}

const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['*.example.com']}
  - {port: {number: 5432, name: tcp, protocol: TCP}, hosts: ['*']}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 80, name: tcp-web, protocol: TCP}, hosts: ['*']}
  - {port: {number: 81, name: other, protocol: TCP}, hosts: [nobody.example.org]}
";

#[test]
fn gateways_route_connections() {
    let rules = "  tls:
  - match: [{sniHosts: [a.example.com], gateways: [default/edge]}, {sniHosts: [b.example.com], gateways: [mesh]}]
    route: [{destination: {host: db, port: {number: 443}}}]
  - match: [{sniHosts: [a.example.com, '*.example.com']}]
    route: [{destination: {host: new, port: {number: 5432}}}]
  - match: [{sniHosts: [c.example.com], port: 444}]
    route: [{destination: {host: web, port: {number: 80}}}]
  tcp:
  - match: [{port: 5432}]
    route: [{destination: {host: db, port: {number: 5432}}}]";
    let rules = virtual_service("edge", "'*.example.com'", rules);
    let made = made(&format!("{rules}{GATEWAY}"), &gateway());
    let tls = listener(&made, "127.0.0.1_443");
    assert_eq!(
        lines(tls),
        [
            "[a.example.com] outbound|443||db",
            "[*.example.com] outbound|5432||new"
        ]
    );
    assert!(tls.default_filter_chain.is_none());
    let filters = &tls.listener_filters;
    assert_eq!(filters[0].name, "envoy.filters.listener.tls_inspector");
    let tcp = listener(&made, "127.0.0.1_5432");
    assert_eq!(lines(tcp), ["[] outbound|5432||db"]);
    assert_eq!(lines(listener(&made, "127.0.0.1_80")), ["[] HTTP"]);
    let notes = made.notes.join("\n");
    for said in [
        "server tcp-web of Gateway",
        "HTTP servers have port 80",
        "no VirtualService has a rule in `tcp` for server other of Gateway",
    ] {
        assert!(notes.contains(said), "{said} in {notes}");
    }
    assert_eq!(made.listeners.len(), 3, "{notes}");
}
