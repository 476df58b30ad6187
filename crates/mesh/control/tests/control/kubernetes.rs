//! Kubernetes' objects as plain YAML: services and who serves them.

use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use periplus_control::{Index, Service};
use periplus_resources::{Host, MeshConfig, Protocol, parse_resources};

use crate::generate::made;
use crate::support::sidecar;

fn index(text: &str) -> Index {
    let parsed = parse_resources("mesh.yaml", text);
    assert_eq!(parsed.errors, []);
    Index::new(&parsed.resources, MeshConfig::default())
}

fn service<'a>(index: &'a Index, host: &str) -> &'a Service {
    index
        .service(&Host::parse(host).expect("a host"))
        .expect(host)
}

/// `ADDRESS:PORT` of those that serve the first port.
fn endpoints(service: &Service) -> Vec<String> {
    let port = &service.ports()[0];
    let endpoints = service.endpoints.iter();
    endpoints
        .map(|endpoint| format!("{}:{}", endpoint.address, endpoint.target_port(port)))
        .collect()
}

/// In the shape of the file that Istio's sample is installed with: Services, ServiceAccounts and Deployments.
fn bookinfo() -> String {
    let mut text = String::new();
    for app in ["details", "ratings", "reviews", "productpage"] {
        text += &format!(
            "apiVersion: v1
kind: Service
metadata:
  name: {app}
  labels: {{app: {app}, service: {app}}}
spec:
  ports:
  - port: 9080
    name: http
  selector:
    app: {app}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: bookinfo-{app}
  labels: {{account: {app}}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {app}-v1
  labels: {{app: {app}, version: v1}}
spec:
  replicas: 1
  selector:
    matchLabels: {{app: {app}, version: v1}}
  template:
    metadata:
      annotations: {{prometheus.io/scrape: \"true\"}}
      labels: {{app: {app}, version: v1}}
    spec:
      serviceAccountName: bookinfo-{app}
      containers:
      - name: {app}
        image: docker.io/istio/examples-bookinfo-{app}-v1:1.20.1
        ports: [{{containerPort: 9080}}]
        volumeMounts: [{{name: tmp, mountPath: /tmp}}]
      volumes: [{{name: tmp, emptyDir: {{}}}}]
---
"
        );
    }
    text
}

#[test]
fn the_sample_is_read_whole_and_its_workloads_may_be_processes() {
    let workload = "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1}
spec: {address: 127.0.0.1, ports: {http: 20001}, labels: {app: reviews, version: v1}, serviceAccount: bookinfo-reviews}
";
    let index = index(&(bookinfo() + workload));
    assert_eq!(index.services().count(), 4);
    let reviews = service(&index, "reviews.default.svc.cluster.local");
    assert_eq!(endpoints(reviews), ["127.0.0.1:20001"]);
    assert_eq!(reviews.endpoints[0].service_account, "bookinfo-reviews");
    let problems: Vec<String> = index.problems().iter().map(ToString::to_string).collect();
    let without_effect = problems
        .iter()
        .filter(|text| text.contains("Deployment default/"));
    assert_eq!(without_effect.count(), 4, "{problems:?}");
    let nobody = "no workload in namespace default has the labels {app: details}";
    assert!(
        problems.iter().any(|text| text.contains(nobody)),
        "{problems:?}"
    );
}

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop, annotations: {networking.istio.io/exportTo: '.,default'}}
spec:
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7]
  ipFamilyPolicy: SingleStack
  selector: {app: cart}
  ports:
  - {name: web, port: 80, targetPort: http, appProtocol: kubernetes.io/h2c}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec:
  clusterIP: 10.96.0.8
  ports: [{port: 3306}]
---
apiVersion: v1
kind: Service
metadata: {name: nodes, namespace: shop}
spec: {clusterIP: None, selector: {app: cart}, ports: [{name: tcp, port: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: bank, namespace: shop}
spec: {type: ExternalName, externalName: bank.example, ports: [{name: https, port: 443}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart, security.istio.io/tlsMode: istio}}
spec:
  serviceAccountName: cart
  containers: [{name: cart, image: cart, ports: [{name: http, containerPort: 8080}]}]
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-2, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: cart, image: cart}]}
status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-3, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: cart, image: cart}]}
status: {phase: Pending}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stock-1, namespace: shop, labels: {kubernetes.io/service-name: stock}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.8], conditions: {ready: true}}
- {addresses: [10.0.0.9], conditions: {ready: false}}
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: cart-1, namespace: shop}}
ports: [{name: '', port: 13306, protocol: TCP}]
";

#[test]
fn services_know_who_serves_them() {
    let index = index(SHOP);
    let cart = service(&index, "cart.shop.svc.cluster.local");
    assert_eq!(
        endpoints(cart),
        ["10.0.0.1:8080"],
        "ready pods, by the name of their port"
    );
    assert_eq!(
        cart.ports().len(),
        1,
        "what is not of TCP is not the mesh's"
    );
    assert_eq!(cart.ports()[0].protocol, Protocol::Http2);
    assert!(
        cart.is_visible_in("shop") && cart.is_visible_in("default") && !cart.is_visible_in("other")
    );
    let stock = service(&index, "stock.shop.svc.cluster.local");
    assert_eq!(endpoints(stock), ["10.0.0.8:13306", "10.0.0.1:13306"]);
    assert_eq!(stock.endpoints[1].service_account, "cart");
    assert_eq!(
        stock.ports()[0].protocol,
        Protocol::Tcp,
        "servers of this port speak first"
    );

    let bank = service(&index, "bank.shop.svc.cluster.local");
    assert_eq!(
        bank.spec.alias.as_ref().map(Host::as_str),
        Some("bank.example")
    );
    assert!(bank.endpoints.is_empty());
    let nodes = service(&index, "nodes.shop.svc.cluster.local");
    assert!(nodes.spec.addresses.is_empty());
    assert_eq!(endpoints(nodes), ["10.0.0.1:7000"]);
}

#[test]
fn trap_26_protocols_are_those_that_the_port_says() {
    for (port, expected) in [
        ("{port: 80, name: http}", Protocol::Http),
        ("{port: 80, name: http2-api}", Protocol::Http2),
        ("{port: 80, name: grpc-web}", Protocol::Http2),
        ("{port: 80, name: web}", Protocol::Detected),
        ("{port: 80}", Protocol::Detected),
        ("{port: 80, name: http, appProtocol: tcp}", Protocol::Tcp),
        (
            "{port: 80, name: tcp, appProtocol: kubernetes.io/ws}",
            Protocol::Http,
        ),
        (
            "{port: 80, name: tcp, appProtocol: kubernetes.io/wss}",
            Protocol::Tls,
        ),
        (
            "{port: 80, name: http, appProtocol: example.com/own}",
            Protocol::Http,
        ),
        ("{port: 80, name: http-proxy}", Protocol::Http),
        ("{port: 27017, name: db}", Protocol::Tcp),
        ("{port: 27017, name: http-db}", Protocol::Http),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{port}], selector: {{app: a}}}}\n"
        );
        let index = index(&text);
        let service = service(&index, "a.default.svc.cluster.local");
        assert_eq!(service.ports()[0].protocol, expected, "{port}");
    }
}

#[test]
fn an_external_name_is_looked_up() {
    let text = SHOP.to_owned()
        + "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: all}\n\
           spec: {egress: [{port: {number: 9000, name: a, protocol: HTTP_PROXY}, bind: 127.0.0.1, captureMode: NONE, hosts: ['*/*']}]}\n";
    let index = index(&text);
    let made = made(&index, &sidecar("productpage", "v1"));
    let name = "outbound|443||bank.shop.svc.cluster.local";
    let cluster = made.clusters.iter().find(|one| one.name == name);
    let cluster = cluster.expect("the cluster of the external name");
    let dns = ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into());
    assert_eq!(cluster.cluster_discovery_type, Some(dns));
    assert!(format!("{:?}", cluster.load_assignment).contains("\"bank.example\""));
}

/// Endpoints are where their machines are: as the slice says, or the pod; a label of the pod goes before that.
#[test]
fn endpoints_are_where_their_machines_are() {
    let text = "
apiVersion: v1
kind: Node
metadata:
  name: east-1
  labels: {topology.kubernetes.io/region: us, topology.kubernetes.io/zone: east, topology.istio.io/subzone: r1}
---
apiVersion: v1
kind: Service
metadata: {name: sliced}
spec: {clusterIP: 10.9.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sliced, labels: {kubernetes.io/service-name: sliced}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1], nodeName: east-1}
- {addresses: [10.0.0.2], zone: east}
- {addresses: [10.0.0.3], zone: nowhere}
- {addresses: [10.0.0.4], targetRef: {kind: Pod, name: labelled}, nodeName: east-1}
- {addresses: [10.0.0.5], targetRef: {kind: Pod, name: placed}}
ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: labelled, labels: {istio-locality: eu.west}}
spec: {containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: placed, labels: {app: selected}}
spec: {containers: [], nodeName: east-1}
status: {podIP: 10.0.0.5}
---
apiVersion: v1
kind: Service
metadata: {name: selected}
spec: {clusterIP: 10.9.0.2, selector: {app: selected}, ports: [{name: http, port: 80}], trafficDistribution: PreferClose}
";
    let index = index(text);
    for (name, expected) in [
        (
            "sliced",
            &["us/east/r1", "us/east/", "//", "eu/west/", "us/east/r1"][..],
        ),
        ("selected", &["us/east/r1"]),
    ] {
        let service = service(&index, &format!("{name}.default.svc.cluster.local"));
        let places = service
            .endpoints
            .iter()
            .map(|one| one.locality().to_string());
        assert_eq!(places.collect::<Vec<_>>(), expected, "{name}");
        let preferred = service.meta.annotations.values().next();
        let expected = (name == "selected").then_some("PreferClose");
        assert_eq!(preferred.map(String::as_str), expected);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let errors = |text: &str| -> Vec<String> {
        let parsed = parse_resources("mesh.yaml", text);
        parsed.errors.iter().map(ToString::to_string).collect()
    };
    for (text, complaint) in [
        (
            "apiVersion: v2\nkind: Service\nmetadata: {name: a}\nspec: {}\n",
            "apiVersion: unknown version `v2`, expected one of `v1`",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http}]}\n",
            "spec.ports[0]: missing field `port`",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: ExternalName}\n",
            "missing field `externalName`",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: here}\n",
            "spec.clusterIP",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
            "missing field `spec`",
        ),
    ] {
        let errors = errors(text);
        assert!(
            errors.len() == 1 && errors[0].contains(complaint),
            "{text}: {errors:?}"
        );
    }
}
