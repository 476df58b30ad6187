//! The shape of the file.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use envoy_types::pb::envoy::config::core::v3::{self as core, node};
use envoy_types::pb::google::protobuf::{self, value::Kind};
use periplus_identity::Trust;
use periplus_xds::client::Form;
use serde::Deserialize;
use serde_json::Value;

use super::Bootstrap;
use super::overload::OverloadManager;
use super::secrets::Secret;
use super::secure::TransportSocket;
use super::servers;
use super::stats::StatsConfig;

/// What the proxy says of itself to the control plane, as Envoy does.
const USER_AGENT: &str = "periplus";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    node: Node,
    admin: Option<Admin>,
    #[serde(alias = "dynamicResources")]
    dynamic_resources: DynamicResources,
    #[serde(alias = "staticResources")]
    static_resources: StaticResources,
    #[serde(default, alias = "overloadManager")]
    overload_manager: OverloadManager,
    #[serde(default, alias = "statsConfig")]
    stats_config: StatsConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    id: String,
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    locality: Option<Locality>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locality {
    #[serde(default)]
    region: String,
    #[serde(default)]
    zone: String,
    #[serde(default, alias = "subZone")]
    sub_zone: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Admin {
    address: Address,
}

#[derive(Debug, Deserialize)]
pub(super) enum Address {
    #[serde(rename = "socket_address", alias = "socketAddress")]
    Socket(SocketAddress),
    #[serde(rename = "pipe")]
    Pipe(Pipe),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SocketAddress {
    #[serde(default)]
    protocol: Option<Protocol>,
    address: String,
    #[serde(alias = "portValue")]
    port_value: u16,
}

/// A socket of Unix.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pipe {
    pub(super) path: PathBuf,
}

#[derive(Debug, Deserialize)]
enum Protocol {
    #[serde(rename = "TCP")]
    Tcp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DynamicResources {
    #[serde(alias = "adsConfig")]
    ads_config: AdsConfig,
    #[serde(alias = "ldsConfig", rename = "lds_config")]
    _lds_config: ConfigSource,
    #[serde(alias = "cdsConfig", rename = "cds_config")]
    _cds_config: ConfigSource,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdsConfig {
    #[serde(alias = "apiType")]
    api_type: ApiType,
    #[serde(alias = "transportApiVersion")]
    transport_api_version: ApiVersion,
    #[serde(alias = "grpcServices")]
    grpc_services: Vec<GrpcService>,
    /// The node is sent on the first message only, whatever this says.
    #[serde(
        default,
        alias = "setNodeOnFirstMessageOnly",
        rename = "set_node_on_first_message_only"
    )]
    _set_node_on_first_message_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ApiType {
    Grpc,
    DeltaGrpc,
    AggregatedGrpc,
    AggregatedDeltaGrpc,
}

#[derive(Debug, Deserialize)]
enum ApiVersion {
    V3,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrpcService {
    #[serde(alias = "envoyGrpc")]
    envoy_grpc: EnvoyGrpc,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvoyGrpc {
    #[serde(alias = "clusterName")]
    cluster_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigSource {
    #[serde(rename = "ads")]
    _ads: Empty,
    #[serde(default, alias = "resourceApiVersion", rename = "resource_api_version")]
    _resource_api_version: Option<ApiVersion>,
    /// Readiness waits for the first configuration in any case.
    #[serde(
        default,
        alias = "initialFetchTimeout",
        rename = "initial_fetch_timeout"
    )]
    _initial_fetch_timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticResources {
    clusters: Vec<Cluster>,
    #[serde(default)]
    secrets: Vec<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) name: String,
    #[serde(default, rename = "type")]
    _type: Option<ClusterType>,
    #[serde(default, alias = "connectTimeout", rename = "connect_timeout")]
    _connect_timeout: Option<String>,
    /// gRPC is HTTP/2 in any case.
    #[serde(
        default,
        alias = "typedExtensionProtocolOptions",
        rename = "typed_extension_protocol_options"
    )]
    pub(super) protocol_options: BTreeMap<HttpProtocolOptionsKey, Value>,
    #[serde(
        default,
        alias = "http2ProtocolOptions",
        rename = "http2_protocol_options"
    )]
    pub(super) http2_protocol_options: Option<Value>,
    #[serde(alias = "loadAssignment")]
    load_assignment: LoadAssignment,
    #[serde(alias = "transportSocket")]
    pub(super) transport_socket: Option<TransportSocket>,
}

#[derive(Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum HttpProtocolOptionsKey {
    #[serde(rename = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")]
    Http,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ClusterType {
    Static,
    StrictDns,
    LogicalDns,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadAssignment {
    #[serde(alias = "clusterName", rename = "cluster_name")]
    _cluster_name: String,
    endpoints: Vec<LocalityEndpoints>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalityEndpoints {
    #[serde(alias = "lbEndpoints")]
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LbEndpoint {
    endpoint: Endpoint,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    address: Address,
}

pub(super) type Problem = (String, String);

impl File {
    pub(super) fn check(self) -> Result<Bootstrap, Problem> {
        let (control_plane, trust) = self.control_plane()?;
        let form = match self.dynamic_resources.ads_config.api_type {
            ApiType::Grpc | ApiType::AggregatedGrpc => Form::StateOfTheWorld,
            ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => Form::Delta,
        };
        if self.node.id.is_empty() {
            return Err(problem("node.id", "it must not be empty"));
        }
        let admin = self
            .admin
            .map(|admin| admin.address.socket()?.ip())
            .transpose();
        let admin =
            admin.map_err(|message| problem("admin.address.socket_address.address", message))?;
        let ads = &self.dynamic_resources.ads_config.grpc_services;
        let of_ads = |name: &String| ads.iter().any(|it| it.envoy_grpc.cluster_name == *name);
        let others = self.static_resources.clusters.iter().enumerate();
        let others = others.filter(|(_, cluster)| !of_ads(&cluster.name));
        let secret_servers = servers::check(others)?;
        let mut secrets = Vec::new();
        for (index, secret) in self.static_resources.secrets.into_iter().enumerate() {
            let at = format!("static_resources.secrets[{index}]");
            secrets.push(secret.check(&at)?);
        }
        let overload = self.overload_manager.check()?;
        let (stats, tags, histogram_bounds) = self.stats_config.check()?;
        Ok(Bootstrap {
            overload,
            stats,
            tags,
            histogram_bounds,
            node: self.node.into_envoy(),
            admin,
            control_plane,
            trust,
            form,
            secrets,
            secret_servers,
        })
    }

    fn control_plane(&self) -> Result<(String, Option<Trust>), Problem> {
        let ads = &self.dynamic_resources.ads_config;
        let ApiVersion::V3 = ads.transport_api_version;
        let [service] = ads.grpc_services.as_slice() else {
            return Err(problem(
                "dynamic_resources.ads_config.grpc_services",
                "there must be exactly one",
            ));
        };
        let wanted = &service.envoy_grpc.cluster_name;
        let clusters = &self.static_resources.clusters;
        let Some(cluster) = clusters.iter().find(|cluster| cluster.name == *wanted) else {
            return Err(problem(
                "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name",
                format!("there is no cluster {wanted:?} in static_resources.clusters"),
            ));
        };
        let at = "static_resources.clusters[0].load_assignment.endpoints";
        let address = cluster.address().map_err(|message| problem(at, message))?;
        let at = address.socket().map_err(|message| problem(at, message))?;
        let (Some(Protocol::Tcp) | None) = at.protocol;
        let socket = cluster.transport_socket.as_ref();
        let trust = socket.map(|socket| socket.check(&at.address)).transpose()?;
        let scheme = match trust {
            Some(_) => "https",
            None => "http",
        };
        Ok((at.uri(scheme), trust))
    }
}

impl Cluster {
    /// Its one endpoint.
    pub(super) fn address(&self) -> Result<&Address, &'static str> {
        let localities = self.load_assignment.endpoints.iter();
        let mut endpoints = localities.flat_map(|l| &l.lb_endpoints);
        match (endpoints.next(), endpoints.next()) {
            (Some(only), None) => Ok(&only.endpoint.address),
            _ => Err("there must be exactly one endpoint"),
        }
    }
}

impl Address {
    fn socket(&self) -> Result<&SocketAddress, String> {
        match self {
            Self::Socket(socket) => Ok(socket),
            Self::Pipe(pipe) => Err(format!("a pipe ({:?}) is not supported here", pipe.path)),
        }
    }
}

pub(super) fn problem(field: &str, message: impl Into<String>) -> Problem {
    (field.to_owned(), message.into())
}

impl SocketAddress {
    pub(super) fn uri(&self, scheme: &str) -> String {
        match self.address.parse::<IpAddr>() {
            Ok(ip) => format!("{scheme}://{}", SocketAddr::new(ip, self.port_value)),
            Err(_) => format!("{scheme}://{}:{}", self.address, self.port_value),
        }
    }

    fn ip(&self) -> Result<SocketAddr, String> {
        match self.address.parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, self.port_value)),
            Err(_) => Err(format!("{:?} is not an IP address", self.address)),
        }
    }
}

impl Node {
    fn into_envoy(self) -> core::Node {
        let metadata = self
            .metadata
            .into_iter()
            .map(|(key, value)| (key, to_protobuf(value)));
        core::Node {
            id: self.id,
            cluster: self.cluster,
            metadata: Some(protobuf::Struct {
                fields: metadata.collect(),
            }),
            locality: self.locality.map(|locality| core::Locality {
                region: locality.region,
                zone: locality.zone,
                sub_zone: locality.sub_zone,
            }),
            user_agent_name: USER_AGENT.to_owned(),
            user_agent_version_type: Some(node::UserAgentVersionType::UserAgentVersion(
                env!("CARGO_PKG_VERSION").to_owned(),
            )),
            ..core::Node::default()
        }
    }
}

fn to_protobuf(value: Value) -> protobuf::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => Kind::ListValue(protobuf::ListValue {
            values: values.into_iter().map(to_protobuf).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(protobuf::Struct {
            fields: fields
                .into_iter()
                .map(|(key, value)| (key, to_protobuf(value)))
                .collect(),
        }),
    };
    protobuf::Value { kind: Some(kind) }
}
