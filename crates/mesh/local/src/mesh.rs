//! Services, workloads and a gateway.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::PortPlan;
use crate::resources;

/// A mesh of one namespace, to run on this machine.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// The namespace of the workloads.
    pub namespace: String,
    /// The workloads; those with the same `app` are one service.
    pub workloads: Vec<Workload>,
    /// Where everything listens.
    pub ports: PortPlan,
}

/// One process of an application, behind a sidecar.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Unique, such as `reviews-v1`.
    pub name: String,
    /// The label `app`, which is the name of the service too.
    pub app: String,
    /// The label `version`.
    pub version: String,
    /// The service account.
    pub service_account: String,
    /// The port that callers use.
    pub service_port: u16,
    /// Which one it is of several with the same app and version.
    pub instance: Option<u16>,
    /// Annotations, as a pod has them: what is asked of its sidecar.
    pub annotations: BTreeMap<String, String>,
}

impl Workload {
    /// Its labels.
    pub(crate) fn labels(&self) -> Vec<(&'static str, String)> {
        let mut labels = vec![("app", self.app.clone()), ("version", self.version.clone())];
        labels.extend(self.instance.map(|number| (INSTANCE, number.to_string())));
        labels
    }
}

/// Who a proxy is, for its bootstrap file.
#[derive(Clone, Debug)]
pub struct ProxyNode {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`, the service name on spans.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// The service account that it has certificates of.
    pub service_account: String,
    /// `node.metadata`.
    pub metadata: Value,
}

/// The name of the gateway, and of its workload.
pub(crate) const GATEWAY: &str = "istio-ingressgateway";
/// The namespace of the gateway and the trace backend.
pub(crate) const SYSTEM: &str = "istio-system";
/// The label that tells apart what has the same app and version.
const INSTANCE: &str = "instance";
/// What follows namespace and `svc` in host names.
pub(crate) const DOMAIN: &str = "cluster.local";

impl Mesh {
    /// The resources that describe the mesh to the control plane: file name and text.
    pub fn resources(&self) -> Vec<(&'static str, String)> {
        vec![
            ("services.yaml", resources::services(self)),
            ("workloads.yaml", resources::workloads(self)),
            ("sidecars.yaml", resources::sidecars(self)),
            ("trace-backend.yaml", resources::trace_backend(self)),
        ]
    }

    /// Istio's `MeshConfig`: every request is traced, and reported to the trace backend.
    pub fn mesh_config(&self) -> String {
        resources::mesh_config(self)
    }

    /// The sidecar of a workload.
    pub fn sidecar(&self, workload: &Workload) -> ProxyNode {
        let namespace = &self.namespace;
        let mut metadata = json!({
            "NAME": workload.name,
            "NAMESPACE": namespace,
            "WORKLOAD_NAME": workload.name,
            "SERVICE_ACCOUNT": workload.service_account,
            "LABELS": Value::from_iter(workload.labels()),
            "MESH_ID": DOMAIN,
            "CLUSTER_ID": "local",
            "INTERCEPTION_MODE": "NONE",
        });
        if !workload.annotations.is_empty() {
            metadata["ANNOTATIONS"] = json!(workload.annotations);
        }
        ProxyNode {
            id: format!(
                "sidecar~127.0.0.1~{}.{namespace}~{namespace}.svc.{DOMAIN}",
                workload.name
            ),
            cluster: format!("{}.{namespace}", workload.app),
            namespace: namespace.clone(),
            service_account: workload.service_account.clone(),
            metadata,
        }
    }

    /// The gateway.
    pub fn gateway(&self) -> ProxyNode {
        let account = format!("{GATEWAY}-service-account");
        ProxyNode {
            id: format!("router~127.0.0.1~{GATEWAY}.{SYSTEM}~{SYSTEM}.svc.{DOMAIN}"),
            cluster: format!("{GATEWAY}.{SYSTEM}"),
            namespace: SYSTEM.to_owned(),
            service_account: account.clone(),
            metadata: json!({
                "NAME": GATEWAY,
                "NAMESPACE": SYSTEM,
                "WORKLOAD_NAME": GATEWAY,
                "SERVICE_ACCOUNT": account,
                "LABELS": {"app": GATEWAY, "istio": "ingressgateway"},
                "MESH_ID": DOMAIN,
                "CLUSTER_ID": "local",
                "INTERCEPTION_MODE": "NONE",
            }),
        }
    }
}
