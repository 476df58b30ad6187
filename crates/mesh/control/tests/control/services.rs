//! Which service a host is.

use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use periplus_control::Index;
use periplus_resources::{MeshConfig, parse_resources};

use crate::generate::made;
use crate::support::{node, render};

fn index(text: &str) -> Index {
    let parsed = parse_resources("mesh.yaml", text);
    assert_eq!(parsed.errors, []);
    Index::new(&parsed.resources, MeshConfig::default())
}

/// One host in several namespaces, each with an endpoint of its own: who gets which, by the port that it is at.
#[test]
fn a_host_is_that_of_the_nearest_namespace() {
    let entry = |namespace: &str, port: u16, year: u16, export_to: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api, namespace: {namespace}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec:
  hosts: [api.example.org]
  resolution: STATIC
  exportTo: [{export_to}]
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  endpoints: [{{address: 10.0.0.1, ports: {{http: {port}}}}}]
---
"
        )
    };
    let sidecar = |namespace: &str, hosts: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: {namespace}}}
spec:
  egress:
  - port: {{number: 15001, name: http-proxy, protocol: HTTP_PROXY}}
    captureMode: NONE
    hosts: [{hosts}]
---
"
        )
    };
    let all = "'*/*'";
    let text = [
        entry("old", 1001, 2020, "'*'"),
        entry("young", 1002, 2024, "'*'"),
        entry("private", 1003, 2019, "."),
        entry("for-friends", 1004, 2018, "friend"),
        sidecar("istio-system", all),
        sidecar("chooser", "'young/*'"),
        sidecar("young-but-elsewhere", "'old/*'"),
        // Its own is not imported, and goes behind what is.
        entry("young-but-elsewhere", 1005, 2025, "'*'"),
    ]
    .concat();
    let index = index(&text);
    assert_eq!(index.problems(), []);
    for (client, expected) in [
        ("stranger", 1001),
        ("old", 1001),
        ("young", 1002),
        ("private", 1003),
        ("friend", 1004),
        ("chooser", 1002),
        ("young-but-elsewhere", 1001),
    ] {
        let id = format!("sidecar~127.0.0.1~a.{client}~{client}.svc.cluster.local");
        let made = made(&index, &node(&id, "a", client, &[]));
        let cluster = format!("outbound|{expected}||api.example.org");
        let clusters = made.clusters.iter().map(|it| it.name.as_str());
        let clusters: Vec<_> = clusters.filter(|name| name.contains("api.")).collect();
        assert_eq!(clusters, [cluster.as_str()], "{client}");
        let routing = render::routing(&made);
        assert!(routing.contains(&cluster), "{client}: {routing}");
    }
}

/// A ServiceEntry beside a Service of Kubernetes: the Service goes before it, but for the entry's own namespace. A second
/// one of the same namespace is an error, as before.
#[test]
fn a_service_goes_before_an_entry_of_its_host() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop, creationTimestamp: '2024-01-01T00:00:00Z'}
spec: {clusterIP: 10.9.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cart, namespace: other, creationTimestamp: '2020-01-01T00:00:00Z'}
spec:
  hosts: [cart.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 81, name: http}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 82, name: http}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec:
  egress: [{port: {number: 15001, name: http-proxy, protocol: HTTP_PROXY}, captureMode: NONE, hosts: ['*/*']}]
";
    let index = index(text);
    let problems: Vec<String> = index.problems().iter().map(ToString::to_string).collect();
    let already = "host `cart.shop.svc.cluster.local` is already that of Service shop/cart";
    assert!(
        problems.iter().any(|one| one.contains(already)),
        "{problems:?}"
    );
    for (client, expected) in [("shop", 80), ("stranger", 80), ("other", 81)] {
        let id = format!("sidecar~127.0.0.1~a.{client}~{client}.svc.cluster.local");
        let made = made(&index, &node(&id, "a", client, &[]));
        let cluster = format!("outbound|{expected}||cart.shop.svc.cluster.local");
        let clusters = made.clusters.iter().map(|it| it.name.as_str());
        let clusters: Vec<_> = clusters.filter(|name| name.contains("cart.")).collect();
        assert_eq!(clusters, [cluster.as_str()], "{client}");
    }
}

/// Endpoints that are names stand in the cluster, where proxies look them up; those that are addresses come by EDS.
#[test]
fn endpoints_may_be_names() {
    let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: several}
spec:
  hosts: [several.example.org]
  resolution: DNS
  ports: [{number: 443, name: tls, targetPort: 8443}]
  endpoints:
  - {address: us.example.com, labels: {version: v1}, locality: us/east, weight: 3}
  - {address: 10.0.0.1, labels: {version: v2}, ports: {tls: 9443}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: several}
spec:
  host: several.example.org
  subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one}
spec:
  hosts: [one.example.org]
  resolution: DNS_ROUND_ROBIN
  ports: [{number: 80, name: http}]
  endpoints: [{address: eu.example.com}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: itself}
spec:
  hosts: [itself.example.org]
  resolution: DNS_ROUND_ROBIN
  ports: [{number: 80, name: http}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: addresses}
spec:
  hosts: [addresses.example.org]
  resolution: DNS
  ports: [{number: 80, name: http}]
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: selected}
spec:
  hosts: [selected.example.org]
  resolution: STATIC
  ports: [{number: 80, name: http}]
  workloadSelector: {labels: {app: selected}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: named}
spec: {address: named.example.com, labels: {app: selected}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec:
  egress: [{port: {number: 15001, name: http-proxy, protocol: HTTP_PROXY}, captureMode: NONE, hosts: ['*/*']}]
";
    let index = index(text);
    let problems: Vec<String> = index.problems().iter().map(ToString::to_string).collect();
    let named = "WorkloadEntry default/named has a name for an address";
    assert!(
        problems.iter().any(|one| one.contains(named)),
        "{problems:?}"
    );
    let id = "sidecar~127.0.0.1~a.default~default.svc.cluster.local";
    let made = made(&index, &node(id, "a", "default", &[]));
    let places = |assignment: &ClusterLoadAssignment| {
        let localities = assignment.endpoints.iter();
        let endpoints = localities.flat_map(|locality| {
            let region = locality.locality.as_ref().map(|it| it.region.clone());
            let endpoints = locality.lb_endpoints.iter();
            endpoints.map(move |it| (region.clone().unwrap_or_default(), it))
        });
        let place = |(region, endpoint): (String, &LbEndpoint)| {
            let Some(HostIdentifier::Endpoint(at)) = &endpoint.host_identifier else {
                panic!("{endpoint:?}");
            };
            let at = at.address.as_ref().and_then(|it| it.address.as_ref());
            let Some(address::Address::SocketAddress(at)) = at else {
                panic!("{endpoint:?}");
            };
            let Some(PortSpecifier::PortValue(port)) = at.port_specifier else {
                panic!("{endpoint:?}");
            };
            format!("{region}/{}:{port}", at.address)
        };
        endpoints.map(place).collect::<Vec<_>>().join(" ")
    };
    let clusters = made
        .clusters
        .iter()
        .filter(|it| it.name.contains("example.org"));
    let clusters: Vec<String> = clusters
        .map(|cluster| {
            let inline = cluster.load_assignment.as_ref().map(places);
            let by_eds = made
                .endpoints
                .iter()
                .find(|it| it.cluster_name == cluster.name);
            let by_eds = by_eds.map(|it| format!("EDS {}", places(it)));
            let kind = match cluster.cluster_discovery_type {
                Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind),
                _ => panic!("{cluster:?}"),
            };
            let kind = kind.expect("a known type");
            let at = inline.or(by_eds).unwrap_or_default();
            format!("{} {} {at}", cluster.name, kind.as_str_name())
        })
        .collect();
    assert_eq!(
        clusters,
        [
            "outbound|80||addresses.example.org EDS EDS /10.0.0.2:80",
            "outbound|80||itself.example.org LOGICAL_DNS /itself.example.org:80",
            "outbound|80||one.example.org LOGICAL_DNS /eu.example.com:80",
            "outbound|80||selected.example.org EDS EDS ",
            "outbound|443||several.example.org STRICT_DNS /10.0.0.1:9443 us/us.example.com:8443",
            "outbound|443|v1|several.example.org STRICT_DNS us/us.example.com:8443",
        ]
    );
    // Without an endpoint there is nothing to look up: no cluster, and somebody says so.
    let said =
        "requests to subset v3 of several.example.org on port 443 get 503: it has no endpoint";
    assert!(made.told().any(|note| note == said), "{:?}", made.lacks);
}
