//! The bootstrap file: Envoy's, as far as it says who the proxy is and where its control plane is.
//!
//! [`read`] takes YAML or JSON, field names in either spelling of protobuf's JSON mapping. Whatever else
//! Envoy would accept is refused by name, rather than silently left without effect. [`render`] writes a
//! file that this proxy and a real Envoy take alike.

mod file;
mod overload;
mod secrets;
mod secure;
mod servers;
mod stats;
mod tags;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf;
use periplus_identity::Trust;
use periplus_xds::client::Form;
use serde_json::{Value, json};
use serde_saphyr::MessageFormatter;
use thiserror::Error;

use self::file::File;
pub use self::overload::{Action, Overload, Resource, Trigger};
pub use self::secrets::StaticSecret;
pub use self::servers::SecretServerAddress;
pub use self::stats::{HistogramBounds, StatsMatcher, histogram_settings};
pub(crate) use self::tags::LabelNames;
pub use self::tags::Tags;
use crate::snapshot;

/// What a bootstrap file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// The node that the control plane is told about.
    pub node: core::Node,
    /// Where the admin pages are served; nowhere without it.
    pub admin: Option<SocketAddr>,
    /// The control plane, as `http://HOST:PORT`, or as `https://HOST:PORT`.
    pub control_plane: String,
    /// How it is known, if TLS is spoken to it.
    pub trust: Option<Trust>,
    /// `ads_config.api_type`: which form of the protocol is spoken.
    pub form: Form,
    /// `static_resources.secrets`.
    pub secrets: Vec<StaticSecret>,
    /// The other clusters of `static_resources`, which have secrets.
    pub secret_servers: BTreeMap<String, SecretServerAddress>,
    /// `overload_manager`.
    pub overload: Overload,
    /// `stats_config.stats_matcher`.
    pub stats: StatsMatcher,
    /// `stats_config.stats_tags`.
    pub tags: Tags,
    /// `stats_config.histogram_bucket_settings`.
    pub histogram_bounds: HistogramBounds,
}

impl Bootstrap {
    /// The namespace and the service account of the workload, as the node's metadata say.
    pub fn account(&self) -> (String, String) {
        let text = |key: &str| {
            let metadata = self.node.metadata.as_ref()?;
            match metadata.fields.get(key)?.kind.as_ref()? {
                protobuf::value::Kind::StringValue(text) => Some(text.clone()),
                _ => None,
            }
        };
        let namespace = text("NAMESPACE").unwrap_or_else(|| "default".to_owned());
        (namespace, text("SERVICE_ACCOUNT").unwrap_or_default())
    }

    /// The node as telemetry needs it.
    pub fn telemetry_node(&self) -> snapshot::Node {
        let zone = self
            .node
            .locality
            .as_ref()
            .map(|locality| locality.zone.clone());
        snapshot::Node {
            id: self.node.id.clone(),
            cluster: self.node.cluster.clone(),
            zone: zone.unwrap_or_default(),
            workload: snapshot::Peer::of_node(&self.node.id, self.node.metadata.as_ref()),
        }
    }
}

/// Why a bootstrap file is not usable. Names the file and the place in it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The file could not be read.
    #[error("cannot read the bootstrap file {file}")]
    Read {
        /// Which.
        file: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It is not YAML or JSON, or has a field that is not supported, or of another type.
    #[error("{file}:{line}:{column}: {message}")]
    Syntax {
        /// Which file.
        file: String,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// A field has a value that cannot be used.
    #[error("{file}: {field}: {message}")]
    Field {
        /// Which file.
        file: String,
        /// The path of the field.
        field: String,
        /// What is wrong, and what to write.
        message: String,
    },
}

/// Reads a bootstrap file.
pub fn read(path: &Path) -> Result<Bootstrap, BootstrapError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| BootstrapError::Read {
        file: file.clone(),
        source,
    })?;
    parse(&file, &text)
}

/// Parses the text of a bootstrap file; `file` is for the messages.
pub fn parse(file: &str, text: &str) -> Result<Bootstrap, BootstrapError> {
    let parsed = parse_text(text).map_err(|error| {
        let location = error.location();
        let message = serde_saphyr::DefaultMessageFormatter
            .format_message(error.without_snippet())
            .into_owned();
        BootstrapError::Syntax {
            file: file.to_owned(),
            line: location.map_or(1, |at| at.line()),
            column: location.map_or(1, |at| at.column()),
            message,
        }
    })?;
    parsed
        .check()
        .map_err(|(field, message)| BootstrapError::Field {
            file: file.to_owned(),
            field,
            message,
        })
}

/// JSON is YAML too, but there is a parser that needs a fraction of the time and memory for it. What is wrong is
/// told by one of them, so that it is told alike.
fn parse_text(text: &str) -> Result<File, serde_saphyr::Error> {
    if text.trim_start().starts_with('{')
        && let Ok(file) = serde_json::from_str(text)
    {
        return Ok(file);
    }
    serde_saphyr::from_str(text)
}

/// What [`render`] writes down.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// `node.id`, such as `sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local`.
    pub node_id: &'a str,
    /// `node.cluster`: the service name on spans, such as `reviews.default`.
    pub node_cluster: &'a str,
    /// `node.metadata`: a JSON object.
    pub metadata: &'a Value,
    /// The control plane.
    pub control_plane: SocketAddr,
    /// The admin pages.
    pub admin: SocketAddr,
    /// The socket of the agent that an Envoy gets its certificate from; this proxy needs none.
    pub agent: Option<&'a Path>,
}

/// A bootstrap file, as JSON, for this proxy and for Envoy alike.
pub fn render(spec: &Spec<'_>) -> String {
    let address = |address: SocketAddr| json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
    let over_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let http2 = json!({
        "@type": HTTP_PROTOCOL_OPTIONS,
        "explicit_http_config": {
            "http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            },
        },
    });
    let mut clusters = vec![json!({
        "name": XDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {HTTP_PROTOCOL_OPTIONS_KEY: http2},
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [{
                "lb_endpoints": [{"endpoint": {"address": address(spec.control_plane)}}],
            }],
        },
    })];
    clusters.extend(spec.agent.map(|socket| {
        json!({
            "name": AGENT_CLUSTER,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {HTTP_PROTOCOL_OPTIONS_KEY: http2},
            "load_assignment": {
                "cluster_name": AGENT_CLUSTER,
                "endpoints": [{
                    "lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}],
                }],
            },
        })
    }));
    // So that whoever asks the control plane about the proxy can ask the proxy itself.
    let mut metadata = spec.metadata.clone();
    metadata["ADMIN_ADDRESS"] = spec.admin.to_string().into();
    let mut file = json!({
        "node": {
            "id": spec.node_id,
            "cluster": spec.node_cluster,
            "metadata": metadata,
        },
        "admin": {"address": address(spec.admin)},
        "dynamic_resources": {
            "ads_config": {
                // Who comes back says what it holds, and loses nothing of it before there is something else.
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER}}],
            },
            "lds_config": over_ads,
            "cds_config": over_ads,
        },
        "static_resources": {
            "clusters": clusters,
        },
    });
    if spec.metadata.get("NAMESPACE").is_some() {
        // So Istio's dashboards and Kiali find what they ask for.
        file["stats_config"] = json!({
            "use_all_default_tags": false,
            "stats_tags": tags::istios(),
        });
    }
    let annotation = spec.metadata.pointer(ANNOTATION).and_then(Value::as_str);
    match annotation.map(histogram_settings) {
        Some(Ok(settings)) => file["stats_config"]["histogram_bucket_settings"] = settings,
        Some(Err(error)) => tracing::warn!(error, "{HISTOGRAM_BUCKETS} holds nothing"),
        None => {}
    }
    format!("{file:#}\n")
}

/// The annotation of a pod by which Istio gives histograms other buckets.
pub const HISTOGRAM_BUCKETS: &str = "sidecar.istio.io/statsHistogramBuckets";
/// Where it is in a node's metadata.
const ANNOTATION: &str = "/ANNOTATIONS/sidecar.istio.io~1statsHistogramBuckets";
/// The cluster of the control plane, by Istio's name.
pub(crate) const XDS_CLUSTER: &str = "xds-grpc";
const AGENT_CLUSTER: &str = "sds-grpc";
const HTTP_PROTOCOL_OPTIONS_KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const HTTP_PROTOCOL_OPTIONS: &str =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::value::Kind;

    use super::*;

    fn sample() -> String {
        render(&Spec {
            node_id: "sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local",
            node_cluster: "reviews.default",
            metadata: &json!({"NAMESPACE": "default", "LABELS": {"app": "reviews"}, "N": 1}),
            control_plane: SocketAddr::from(([127, 0, 0, 1], 15010)),
            admin: SocketAddr::from(([127, 0, 0, 1], 15000)),
            agent: None,
        })
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let bootstrap = parse("sample.json", &sample()).expect("valid");
        assert_eq!(bootstrap.control_plane, "http://127.0.0.1:15010");
        assert_eq!(
            bootstrap.admin,
            Some(SocketAddr::from(([127, 0, 0, 1], 15000)))
        );
        let node = bootstrap.telemetry_node();
        assert_eq!(node.cluster, "reviews.default");
        let metadata = bootstrap.node.metadata.expect("metadata").fields;
        assert_eq!(
            metadata["NAMESPACE"].kind,
            Some(Kind::StringValue("default".to_owned()))
        );
        assert_eq!(metadata["N"].kind, Some(Kind::NumberValue(1.0)));
    }

    #[test]
    fn a_control_plane_with_tls_is_known_by_its_roots() {
        let with = |socket: Value| {
            let mut file: Value = serde_json::from_str(&sample()).expect("JSON");
            file["static_resources"]["clusters"][0]["transport_socket"] = socket;
            parse("sample", &file.to_string())
        };
        let socket = |name: &str, sni: &str| {
            json!({
                "name": name,
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": sni,
                    "common_tls_context": {
                        "validation_context": {"trusted_ca": {"filename": "/etc/root-cert.pem"}},
                    },
                },
            })
        };
        let tls = "envoy.transport_sockets.tls";
        for (sni, name) in [
            ("istiod.istio-system.svc", "istiod.istio-system.svc"),
            ("", "127.0.0.1"),
        ] {
            let bootstrap = with(socket(tls, sni)).expect("valid");
            assert_eq!(bootstrap.control_plane, "https://127.0.0.1:15010");
            let trust = bootstrap.trust.expect("one");
            assert_eq!(trust.roots, Path::new("/etc/root-cert.pem"));
            assert_eq!(trust.server_name.to_str(), name);
        }
        for (socket, said) in [
            (
                socket("envoy.transport_sockets.quic", ""),
                "transport_socket.name",
            ),
            (socket(tls, "a b"), "no name of a server"),
            (json!({"name": tls}), "typed_config"),
        ] {
            let error = with(socket).expect_err("not supported");
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn the_form_of_the_protocol_is_said() {
        for (api_type, form) in [
            ("GRPC", Form::StateOfTheWorld),
            ("AGGREGATED_GRPC", Form::StateOfTheWorld),
            ("DELTA_GRPC", Form::Delta),
            ("AGGREGATED_DELTA_GRPC", Form::Delta),
        ] {
            let mut file: Value = serde_json::from_str(&sample()).expect("JSON");
            file["dynamic_resources"]["ads_config"]["api_type"] = json!(api_type);
            let bootstrap = parse("sample", &file.to_string()).expect("valid");
            assert_eq!(bootstrap.form, form, "{api_type}");
        }
    }

    #[test]
    fn yaml_and_both_spellings_are_read() {
        let text = "
node:
  id: a
  cluster: b
  locality: {zone: z}
dynamicResources:
  adsConfig:
    apiType: GRPC
    transportApiVersion: V3
    grpcServices: [{envoyGrpc: {clusterName: istiod}}]
  ldsConfig: {ads: {}}
  cdsConfig: {ads: {}}
staticResources:
  clusters:
  - name: istiod
    type: STRICT_DNS
    connectTimeout: 1s
    http2ProtocolOptions: {}
    loadAssignment:
      clusterName: istiod
      endpoints:
      - lbEndpoints:
        - endpoint: {address: {socketAddress: {address: istiod.local, portValue: 15010}}}
";
        let bootstrap = parse("sample.yaml", text).expect("valid");
        assert_eq!(bootstrap.control_plane, "http://istiod.local:15010");
        assert_eq!(bootstrap.telemetry_node().zone, "z");
        assert_eq!(bootstrap.admin, None);
    }

    #[test]
    fn other_clusters_are_servers_of_secrets() {
        let with = |edit: &dyn Fn(&mut Value)| {
            let mut file: Value = serde_json::from_str(&sample()).expect("JSON");
            let clusters = file["static_resources"]["clusters"].as_array_mut();
            let clusters = clusters.expect("clusters");
            let mut other = clusters[0].clone();
            other["name"] = json!("spire");
            edit(&mut other);
            clusters.push(other);
            parse("sample", &file.to_string())
        };
        let pipe = json!({"pipe": {"path": "/run/spire.sock"}});
        let at = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        let over_pipe = |cluster: &mut Value| *cluster.pointer_mut(at).expect("one") = pipe.clone();
        for (edit, expected) in [
            (
                &(|_: &mut Value| ()) as &dyn Fn(&mut Value),
                SecretServerAddress::Tcp("http://127.0.0.1:15010".to_owned()),
            ),
            (
                &over_pipe,
                SecretServerAddress::Pipe("/run/spire.sock".into()),
            ),
        ] {
            let servers = with(edit).expect("valid").secret_servers;
            assert_eq!(servers, BTreeMap::from([("spire".to_owned(), expected)]));
        }
        for (edit, said) in [
            (
                &(|cluster: &mut Value| {
                    cluster["typed_extension_protocol_options"] = json!({});
                }) as &dyn Fn(&mut Value),
                "static_resources.clusters[1]: only the cluster of the control plane, and servers of secrets",
            ),
            (
                &|cluster| {
                    cluster["transport_socket"] = json!({
                        "name": "envoy.transport_sockets.tls",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                            "common_tls_context": {"validation_context": {"trusted_ca": {"filename": "/a"}}},
                        },
                    });
                },
                "static_resources.clusters[1].transport_socket: is not supported for a server of secrets",
            ),
            (
                &|cluster| cluster["load_assignment"]["endpoints"] = json!([]),
                "static_resources.clusters[1].load_assignment.endpoints: there must be exactly one endpoint",
            ),
        ] {
            let error = with(edit).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_place() {
        const CLUSTER: &str = "/static_resources/clusters/0";
        const ADS: &str = "/dynamic_resources/ads_config";
        let cases = [
            ("", "stats_sinks", json!([]), "unknown field `stats_sinks`"),
            (
                ADS,
                "api_type",
                json!("REST"),
                "unknown variant `REST`, expected one of GRPC, DELTA_GRPC",
            ),
            (
                ADS,
                "transport_api_version",
                json!("V2"),
                "unknown variant `V2`",
            ),
            (
                ADS,
                "grpc_services",
                json!([]),
                "grpc_services: there must be exactly one",
            ),
            (
                CLUSTER,
                "name",
                json!("other"),
                "cluster_name: there is no cluster \"xds-grpc\"",
            ),
            (
                CLUSTER,
                "transport_socket_matches",
                json!([]),
                "unknown field `transport_socket_matches`",
            ),
            (
                "/admin/address/socket_address",
                "port_value",
                json!(99999),
                "invalid u16",
            ),
            (
                "/admin/address/socket_address",
                "address",
                json!("here"),
                "\"here\" is not an IP address",
            ),
            ("/node", "id", json!(""), "node.id: it must not be empty"),
        ];
        for (object, key, value, expected) in cases {
            let mut file: Value = serde_json::from_str(&sample()).expect("JSON");
            file.pointer_mut(object).expect("in the sample")[key] = value;
            let error = parse("my.json", &file.to_string())
                .expect_err(expected)
                .to_string();
            assert!(error.starts_with("my.json:"), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        assert!(parse("my.json", "{{").is_err());
    }
}
