//! Bookinfo as a mesh on one machine: its files, its nodes, and a readable form of its xDS.

pub(crate) mod envoy;
pub(crate) mod http;
pub(crate) mod invariants;
pub(crate) mod observer;
pub(crate) mod plane;
pub(crate) mod render;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

/// Service and version of each workload.
pub(crate) const WORKLOADS: [(&str, &str); 6] = [
    ("productpage", "v1"),
    ("details", "v1"),
    ("reviews", "v1"),
    ("reviews", "v2"),
    ("reviews", "v3"),
    ("ratings", "v1"),
];

/// The ports of one workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) inbound: u16,
    pub(crate) outbound: u16,
    pub(crate) application: u16,
}

/// The ports of the mesh, in the order of `WORKLOADS`.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) workloads: Vec<Ports>,
    pub(crate) gateway: u16,
    pub(crate) collector: u16,
}

impl Plan {
    /// The same ports each time, for golden files.
    pub(crate) fn fixed() -> Self {
        let ports = |i: u16| Ports {
            inbound: 20_000 + i,
            outbound: 21_000 + i,
            application: 22_000 + i,
        };
        Self {
            workloads: (0..).map(ports).take(WORKLOADS.len()).collect(),
            gateway: 8080,
            collector: 9411,
        }
    }

    /// Services, workloads, sidecars and the collector: file name and text.
    pub(crate) fn files(&self) -> Vec<(&'static str, String)> {
        let mut services = String::new();
        for service in ["productpage", "details", "reviews", "ratings"] {
            services += &format!(
                "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {service}}}
spec:
  hosts: [{service}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: {service}}}}}
---
"
            );
        }
        let mut workloads = String::new();
        for ((service, version), ports) in WORKLOADS.iter().zip(&self.workloads) {
            let Ports {
                inbound,
                outbound,
                application,
            } = ports;
            workloads += &format!(
                "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {service}-{version}}}
spec:
  address: 127.0.0.1
  labels: {{app: {service}, version: {version}}}
  serviceAccount: bookinfo-{service}
  ports: {{http: {inbound}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {service}-{version}}}
spec:
  workloadSelector: {{labels: {{app: {service}, version: {version}}}}}
  ingress:
  - port: {{number: {inbound}, name: http, protocol: HTTP}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{application}
  egress:
  - port: {{number: {outbound}, name: http-proxy, protocol: HTTP_PROXY}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
---
"
            );
        }
        let system = format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: zipkin, namespace: istio-system}}
spec:
  hosts: [zipkin.istio-system.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 9411, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: istio-ingressgateway, namespace: istio-system}}
spec:
  hosts: [istio-ingressgateway.istio-system.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  endpoints:
  - address: 127.0.0.1
    labels: {{istio: ingressgateway}}
    ports: {{http: {}}}
",
            self.collector, self.gateway
        );
        vec![
            ("services.yaml", services),
            ("workloads.yaml", workloads),
            ("system.yaml", system),
        ]
    }
}

pub(crate) const MESH_CONFIG: &str = "
extensionProviders:
- name: periplus
  zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}
- name: errors
  envoyFileAccessLog:
    path: /dev/stderr
    logFormat: {labels: {status: '%RESPONSE_CODE%', path: '%REQ(:PATH)%', absent: '%REQ(X-ABSENT)%'}}
    omitEmptyValues: true
defaultProviders: {tracing: [periplus]}
";

/// One of Istio's own files.
pub(crate) fn networking(file: &str) -> String {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../samples/bookinfo/networking"
    );
    let path = Path::new(directory).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn sidecar(service: &str, version: &str) -> Node {
    node(
        &format!("sidecar~127.0.0.1~{service}-{version}.default~default.svc.cluster.local"),
        &format!("{service}.default"),
        "default",
        &[("app", service), ("version", version)],
    )
}

pub(crate) fn gateway() -> Node {
    node(
        "router~127.0.0.1~istio-ingressgateway.istio-system~istio-system.svc.cluster.local",
        "istio-ingressgateway.istio-system",
        "istio-system",
        &[("app", "istio-ingressgateway"), ("istio", "ingressgateway")],
    )
}

pub(crate) fn node(id: &str, cluster: &str, namespace: &str, labels: &[(&str, &str)]) -> Node {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let labels: HashMap<_, _> = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), text(v)))
        .collect();
    let labels = Value {
        kind: Some(Kind::StructValue(Struct { fields: labels })),
    };
    let fields = HashMap::from([
        ("NAMESPACE".to_owned(), text(namespace)),
        ("MESH_ID".to_owned(), text("cluster.local")),
        ("CLUSTER_ID".to_owned(), text("local")),
        ("LABELS".to_owned(), labels),
    ]);
    Node {
        id: id.to_owned(),
        cluster: cluster.to_owned(),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

/// Sets a text of a node's metadata.
pub(crate) fn set(node: &mut Node, key: &str, value: &str) {
    let value = Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    };
    let metadata = node.metadata.get_or_insert_default();
    metadata.fields.insert(key.to_owned(), value);
}

/// The longest that any test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` finds what it looks for; says what it saw last when it does not.
pub(crate) async fn wait_until<T, E: std::fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(
                tokio::time::Instant::now() < deadline,
                "waited in vain for {what}: {seen:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
