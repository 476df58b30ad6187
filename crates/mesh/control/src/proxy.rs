use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use periplus_resources::{Labels, Locality};

/// What a proxy is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It stands beside one workload.
    Sidecar,
    /// It is a gateway.
    Router,
}

/// How a workload's connections are intercepted: `INTERCEPTION_MODE` of the node's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interception {
    /// Redirected, from the proxy's own address on.
    Redirect,
    /// With the client's address kept.
    Transparent,
}

/// A proxy, as its node describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// `node.id`.
    pub id: String,
    /// What it is there for.
    pub role: Role,
    /// Its address.
    pub ip: IpAddr,
    /// How connections get to it; `None` where clients call it themselves.
    pub interception: Option<Interception>,
    /// `node.cluster`: its service's name on spans.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// Its workload's labels.
    pub labels: Labels,
    /// Its workload's name.
    pub workload: String,
    /// The mesh's name.
    pub mesh_id: String,
    /// The cluster's name.
    pub cluster_id: String,
    /// Where it runs, as far as that is known.
    pub locality: Locality,
    /// `NODE_NAME` of the node's metadata: the machine of Kubernetes that it runs on.
    pub machine: Option<String>,
    /// It counts Istio's metrics by itself, and can be told about them: ours can.
    pub counts_metrics: bool,
    /// `GENERATOR: grpc` of the node's metadata: it is no proxy, but an application whose gRPC speaks xDS.
    pub is_proxyless: bool,
    /// `DNS_CAPTURE` of the node's metadata: it answers its workload's questions for addresses.
    pub captures_dns: bool,
}

impl Proxy {
    /// Reads a node: its id is `TYPE~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN`, its metadata Istio's.
    ///
    /// # Errors
    ///
    /// What is wrong with the node, and what was expected.
    pub fn from_node(node: &Node) -> Result<Self, String> {
        let parts: Vec<_> = node.id.split('~').collect();
        let [role, ip, name, domain] = parts[..] else {
            return Err(
                "node.id must be TYPE~IP~NAME.NAMESPACE~NAMESPACE.svc.cluster.local, such as \
                 sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local"
                    .into(),
            );
        };
        let role = match role {
            "sidecar" => Role::Sidecar,
            "router" => Role::Router,
            other => {
                return Err(format!(
                    "node.id begins with the unknown type `{other}`, known are sidecar and router"
                ));
            }
        };
        let ip = ip
            .parse()
            .map_err(|_| format!("`{ip}` in node.id is no IP address"))?;
        let text = |key: &str| metadata(node, key);
        let namespace = text("NAMESPACE")
            .or_else(|| domain.split_once(".svc").map(|(namespace, _)| namespace))
            .filter(|namespace| !namespace.is_empty())
            .ok_or("the namespace is missing: set node.metadata.NAMESPACE")?;
        let labels = node
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.fields.get("LABELS"))
            .map(labels_of)
            .unwrap_or_default();
        let interception = match text("INTERCEPTION_MODE") {
            _ if role == Role::Router => None,
            None | Some("NONE") => None,
            Some("REDIRECT") => Some(Interception::Redirect),
            Some("TPROXY") => Some(Interception::Transparent),
            Some(other) => {
                return Err(format!(
                    "`{other}` in node.metadata.INTERCEPTION_MODE is unknown, known are REDIRECT, \
                     TPROXY and NONE"
                ));
            }
        };
        let instance = name.rsplit_once('.').map_or(name, |(instance, _)| instance);
        Ok(Self {
            id: node.id.clone(),
            role,
            ip,
            interception,
            cluster: node.cluster.clone(),
            namespace: namespace.to_owned(),
            workload: text("WORKLOAD_NAME").unwrap_or(instance).to_owned(),
            mesh_id: text("MESH_ID").unwrap_or("unknown").to_owned(),
            cluster_id: text("CLUSTER_ID").unwrap_or("unknown").to_owned(),
            locality: match &node.locality {
                Some(place) => Locality {
                    region: place.region.clone(),
                    zone: place.zone.clone(),
                    sub_zone: place.sub_zone.clone(),
                },
                None => Locality::of_labels(&labels),
            },
            machine: text("NODE_NAME").map(str::to_owned),
            labels,
            counts_metrics: node.user_agent_name == "periplus",
            is_proxyless: text("GENERATOR") == Some("grpc"),
            captures_dns: node
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.fields.get("DNS_CAPTURE")?.kind.as_ref())
                .is_some_and(|kind| match kind {
                    Kind::StringValue(text) => text == "true",
                    Kind::BoolValue(is) => *is,
                    _ => false,
                }),
        })
    }

    /// The name of its pod, as its id has it.
    pub(crate) fn instance(&self) -> &str {
        let name = self.id.split('~').nth(2).unwrap_or_default();
        name.rsplit_once('.').map_or(name, |(instance, _)| instance)
    }

    /// What rules about connections know of it.
    pub fn as_client(&self) -> (&str, Option<&Labels>) {
        (&self.namespace, Some(&self.labels))
    }

    /// Whether a selector selects its workload.
    pub fn is_selected_by(&self, selector: &Labels) -> bool {
        is_subset(selector, &self.labels)
    }

    /// The name that telemetry gives its service, in Istio's order of labels.
    pub fn canonical_service(&self) -> &str {
        canonical_service(&self.labels, &self.workload)
    }

    /// The version that telemetry gives its service.
    pub fn canonical_revision(&self) -> &str {
        canonical_revision(&self.labels).unwrap_or("latest")
    }

    /// It says who it is to the other end of its connections, and hears who that is: ours does.
    pub(crate) fn exchanges_peers(&self) -> bool {
        self.counts_metrics
    }
}

/// The name that telemetry gives the service of a workload with these labels.
pub(crate) fn canonical_service<'a>(labels: &'a Labels, workload: &'a str) -> &'a str {
    const LABELS: [&str; 3] = [
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ];
    first_label(labels, &LABELS).unwrap_or(workload)
}

/// The version that telemetry gives it, if the labels say one.
pub(crate) fn canonical_revision(labels: &Labels) -> Option<&str> {
    const LABELS: [&str; 3] = [
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ];
    first_label(labels, &LABELS)
}

fn first_label<'a>(labels: &'a Labels, names: &[&str]) -> Option<&'a str> {
    let values = names.iter().filter_map(|name| labels.get(*name));
    values.map(String::as_str).find(|value| !value.is_empty())
}

/// A text of a node's metadata, unless it is empty.
pub(crate) fn metadata<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    text_of(node.metadata.as_ref()?.fields.get(key)?)
}

/// Whether all of `selector` is among `labels`.
pub(crate) fn is_subset(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn text_of(value: &Value) -> Option<&str> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn labels_of(value: &Value) -> Labels {
    let Some(Kind::StructValue(Struct { fields })) = &value.kind else {
        return Labels::new();
    };
    fields
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), text_of(value)?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> Node {
        Node {
            id: id.into(),
            ..Node::default()
        }
    }

    #[test]
    fn reads_the_id() {
        let proxy = Proxy::from_node(&node(
            "router~10.0.0.1~gateway.istio-system~istio-system.svc.cluster.local",
        ));
        let proxy = proxy.unwrap();
        assert_eq!(proxy.role, Role::Router);
        assert_eq!(proxy.ip, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(proxy.namespace, "istio-system");
        assert_eq!(proxy.canonical_service(), "gateway");
        assert_eq!(proxy.canonical_revision(), "latest");
    }

    #[test]
    fn says_what_is_wrong() {
        for (id, reason) in [
            ("", "node.id must be"),
            ("reviews", "node.id must be"),
            (
                "waypoint~127.0.0.1~a.b~b.svc.cluster.local",
                "unknown type `waypoint`",
            ),
            ("sidecar~host~a.b~b.svc.cluster.local", "`host` in node.id"),
            ("sidecar~127.0.0.1~a~", "node.metadata.NAMESPACE"),
        ] {
            let error = Proxy::from_node(&node(id)).unwrap_err();
            assert!(error.contains(reason), "{id}: {error}");
        }
    }
}
