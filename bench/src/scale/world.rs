//! The mesh that the control plane is told of, and the proxies that ask it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use super::{PORT, Size};

/// What is other than at first, and how often it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Nothing,
    /// The first endpoint of a namespace's first service.
    Endpoint(usize),
    /// A header that the VirtualService of that service sets.
    VirtualService(usize),
    /// The name that its DestinationRule asks for by TLS.
    DestinationRule(usize),
    /// A header that the HTTPRoute of a namespace's last service sets.
    HttpRoute(usize),
}

impl Edit {
    /// What only the resource that it changes has.
    pub(super) fn marker(self) -> Vec<u8> {
        self.text().into_bytes()
    }

    fn text(self) -> String {
        match self {
            Self::Nothing => "none".to_owned(),
            Self::Endpoint(change) => format!("10.255.255.{}", 100 + change % 100),
            Self::VirtualService(change) => format!("rule-of-the-bench-{change}."),
            Self::DestinationRule(change) => format!("name-of-the-bench-{change}.example"),
            Self::HttpRoute(change) => format!("route-of-the-bench-{change}."),
        }
    }
}

/// How requests to a service are routed: by Gateway API to the last one of each namespace.
fn rules(size: &Size, (namespace, service): (usize, usize), edit: Edit) -> String {
    let host = format!("s-{service}.ns-{namespace}.svc.cluster.local");
    if service + 1 == size.per_namespace() {
        let header = match edit {
            Edit::HttpRoute(_) => edit.text(),
            _ => Edit::Nothing.text(),
        };
        return format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: s-{service}, namespace: ns-{namespace}}}
spec:
  parentRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: s-{service}}}]
  rules:
  - filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-bench, value: '{header}'}}]}}}}]
    backendRefs: [{{group: networking.istio.io, kind: Hostname, name: {host}, port: {PORT}}}]
"
        );
    }
    let header = match edit {
        Edit::VirtualService(_) if service == 0 => edit.text(),
        _ => Edit::Nothing.text(),
    };
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s-{service}, namespace: ns-{namespace}}}
spec:
  hosts: [{host}]
  http:
  - headers: {{request: {{set: {{x-bench: '{header}'}}}}}}
    route: [{{destination: {{host: {host}}}}}]
"
    )
}

/// Writes a namespace's resources as editors do: beside, then in its place.
pub(super) fn write(
    size: &Size,
    directory: &Path,
    namespace: usize,
    edit: Edit,
) -> anyhow::Result<()> {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: ns-{namespace}}}
spec: {{egress: [{{hosts: ['./*', 'ns-0/*']}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: s-0, namespace: ns-{namespace}}}
spec:
  host: s-0.ns-{namespace}.svc.cluster.local
  trafficPolicy: {{tls: {{mode: SIMPLE, sni: {}}}}}
",
        match edit {
            Edit::DestinationRule(_) => edit.text(),
            _ => Edit::Nothing.text(),
        }
    );
    for service in 0..size.per_namespace() {
        let is_edited = service == 0;
        let mut addresses = String::new();
        for endpoint in 0..size.endpoints {
            let address = match edit {
                Edit::Endpoint(_) if is_edited && endpoint == 0 => edit.text(),
                _ => format!("10.{namespace}.{service}.{endpoint}"),
            };
            write!(
                addresses,
                "{{address: {address}, labels: {{version: v1}}}}, "
            )?;
        }
        write!(
            text,
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s-{service}, namespace: ns-{namespace}}}
spec:
  hosts: [s-{service}.ns-{namespace}.svc.cluster.local]
  addresses: [240.{namespace}.{service}.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {PORT}, name: http, protocol: HTTP}}]
  endpoints: [{addresses}]
"
        )?;
        text += &rules(size, (namespace, service), edit);
    }
    let (beside, place) = (
        directory.join(format!(".ns-{namespace}.yaml.new")),
        directory.join(format!("ns-{namespace}.yaml")),
    );
    fs::write(&beside, text)?;
    fs::rename(&beside, &place).with_context(|| format!("cannot write {}", place.display()))
}

/// A replica of a service: the last of its endpoints.
pub(super) fn node(size: &Size, number: usize) -> Node {
    let per_namespace = size.per_namespace();
    let namespace = number % size.namespaces;
    let service = number / size.namespaces % per_namespace;
    let replica = number / (size.namespaces * per_namespace);
    let address = format!(
        "10.{namespace}.{service}.{}",
        size.endpoints.saturating_sub(replica + 1)
    );
    let text = |text: String| Value {
        kind: Some(Kind::StringValue(text)),
    };
    let structure = |fields: &[(&str, Value)]| Struct {
        fields: (fields.iter())
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
    };
    let app = format!("s-{service}");
    let labels = structure(&[
        ("app", text(app.clone())),
        ("version", text("v1".to_owned())),
    ]);
    let labels = Value {
        kind: Some(Kind::StructValue(labels)),
    };
    let metadata = structure(&[
        ("NAMESPACE", text(format!("ns-{namespace}"))),
        ("INTERCEPTION_MODE", text("REDIRECT".to_owned())),
        ("WORKLOAD_NAME", text(app.clone())),
        ("LABELS", labels),
    ]);
    Node {
        id: format!(
            "sidecar~{address}~{app}-{replica}.ns-{namespace}~ns-{namespace}.svc.cluster.local"
        ),
        cluster: format!("{app}.ns-{namespace}"),
        metadata: Some(metadata),
        ..Node::default()
    }
}
