//! The mesh that the control plane is told of, and the proxies that ask it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use super::{PORT, Size};

/// What is other than at first in a namespace's first service.
#[derive(Debug, Default)]
pub(super) struct Edit {
    /// The last part of the address of its first endpoint.
    endpoint: Option<u8>,
    /// Milliseconds of its route's timeout, and a header's value.
    rule: Option<usize>,
}

impl Edit {
    pub(super) fn of(change: usize, is_rule: bool) -> Self {
        match is_rule {
            true => Self {
                rule: Some(change),
                ..Self::default()
            },
            false => Self {
                endpoint: Some(100 + (change % 100) as u8),
                ..Self::default()
            },
        }
    }

    /// What only the resource that it changes has.
    pub(super) fn marker(&self) -> Vec<u8> {
        let text = match (self.endpoint, self.rule) {
            (Some(last), _) => format!("10.255.255.{last}"),
            (_, Some(rule)) => format!("rule-of-the-bench-{rule}."),
            _ => String::new(),
        };
        text.into_bytes()
    }
}

/// Writes a namespace's resources as editors do: beside, then in its place.
pub(super) fn write(
    size: &Size,
    directory: &Path,
    namespace: usize,
    edit: &Edit,
) -> anyhow::Result<()> {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: ns-{namespace}}}
spec: {{egress: [{{hosts: ['./*', 'ns-0/*']}}]}}
"
    );
    for service in 0..size.per_namespace() {
        let is_edited = service == 0;
        let mut addresses = String::new();
        for endpoint in 0..size.endpoints {
            let address = match edit.endpoint {
                Some(last) if is_edited && endpoint == 0 => format!("10.255.255.{last}"),
                _ => format!("10.{namespace}.{service}.{endpoint}"),
            };
            write!(
                addresses,
                "{{address: {address}, labels: {{version: v1}}}}, "
            )?;
        }
        let header = match edit.rule {
            Some(rule) if is_edited => format!("rule-of-the-bench-{rule}."),
            _ => "none".to_owned(),
        };
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
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s-{service}, namespace: ns-{namespace}}}
spec:
  hosts: [s-{service}.ns-{namespace}.svc.cluster.local]
  http:
  - headers: {{request: {{set: {{x-bench: '{header}'}}}}}}
    route: [{{destination: {{host: s-{service}.ns-{namespace}.svc.cluster.local}}}}]
"
        )?;
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
