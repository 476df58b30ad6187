//! A proxy under a control plane, with TLS in what it is told.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3::{self as core, TrafficDirection, data_source};
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{self, BoolValue, Struct};
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use serde_json::{Value, json};

use crate::authority::{Authority, Pair};
use crate::xds_support::http::get;
use crate::xds_support::resources::{
    a_route, ads, eds_cluster, endpoints, listener_of, manager, path_prefix, route_configuration,
    socket as address, to_cluster,
};
use crate::xds_support::{ControlPlane, eventually};

pub(crate) const NODE: &str = "sidecar~127.0.0.1~test.default~default.svc.cluster.local";
pub(crate) const TRUE: Option<BoolValue> = Some(BoolValue { value: true });

/// What a proxy is told.
#[derive(Clone, Default)]
pub(crate) struct Told {
    clusters: Vec<Resource>,
    endpoints: Vec<Resource>,
    listeners: Vec<Resource>,
    routes: Vec<Resource>,
    secrets: Vec<Resource>,
}

impl Told {
    /// A cluster and its one endpoint.
    pub(crate) fn cluster(
        mut self,
        name: &str,
        at: SocketAddr,
        edit: impl FnOnce(&mut cluster::Cluster),
    ) -> Self {
        self.clusters.push(eds_cluster(name, edit));
        self.endpoints.push(endpoints(name, &[at]));
        self
    }

    /// A cluster with endpoints of any kind.
    pub(crate) fn assigned(
        mut self,
        assignment: &endpoint::ClusterLoadAssignment,
        edit: impl FnOnce(&mut cluster::Cluster),
    ) -> Self {
        let name = &assignment.cluster_name;
        self.clusters.push(eds_cluster(name, edit));
        self.endpoints.push(Resource::new(name, assignment));
        self
    }

    /// A listener whose requests go to a cluster.
    pub(crate) fn http(
        mut self,
        name: &str,
        at: SocketAddr,
        to: &str,
        edit: impl FnOnce(&mut listener::Listener, HttpConnectionManager),
    ) -> Self {
        let routes = format!("routes of {name}");
        let route = a_route(path_prefix("/"), to_cluster(to));
        self.routes.push(route_configuration(&routes, vec![route]));
        let filter = "envoy.filters.network.http_connection_manager";
        let direction = TrafficDirection::Inbound;
        let mut listener = listener_of(name, at, direction, filter, manager(&routes));
        edit(&mut listener, manager(&routes));
        self.listeners.push(Resource::new(name, &listener));
        self
    }

    /// A listener whose bytes go to a cluster.
    pub(crate) fn tcp(
        mut self,
        name: &str,
        at: SocketAddr,
        to: &str,
        edit: impl FnOnce(&mut listener::Listener),
    ) -> Self {
        let direction = TrafficDirection::Inbound;
        let filter = "envoy.filters.network.tcp_proxy";
        let mut listener = listener_of(name, at, direction, filter, tcp_proxy(to));
        edit(&mut listener);
        self.listeners.push(Resource::new(name, &listener));
        self
    }

    pub(crate) fn secret(mut self, secret: Resource) -> Self {
        self.secrets.push(secret);
        self
    }

    /// The secrets that every workload of a mesh has.
    pub(crate) fn identity(self, authority: &Authority, pair: &Pair) -> Self {
        self.secret(certificate_secret("default", pair))
            .secret(root_secret("ROOTCA", authority))
    }

    pub(crate) fn without_secrets(mut self) -> Self {
        self.secrets.clear();
        self
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let set = |resources: &[Resource]| resources.iter().cloned().collect::<ResourceSet>();
        Snapshot::default()
            .with(CLUSTER, set(&self.clusters))
            .with(ENDPOINT, set(&self.endpoints))
            .with(LISTENER, set(&self.listeners))
            .with(ROUTE, set(&self.routes))
            .with(SECRET, set(&self.secrets))
    }
}

pub(crate) fn tcp_proxy(to: &str) -> tcp::TcpProxy {
    tcp::TcpProxy {
        stat_prefix: "test".to_owned(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(to.to_owned())),
        ..Default::default()
    }
}

/// A proxy that does what it is told.
pub(crate) struct World {
    pub(crate) plane: ControlPlane,
    pub(crate) agent: Agent,
    pub(crate) admin: SocketAddr,
}

impl World {
    /// Starts a proxy and waits until it does all of it.
    pub(crate) async fn start(told: &Told) -> Self {
        let world = Self::begin(told, json!([])).await;
        tokio::time::timeout(crate::xds_support::PATIENCE, world.agent.ready())
            .await
            .expect("the proxy becomes ready");
        world
    }

    /// Starts a proxy with secrets in its bootstrap file.
    pub(crate) async fn begin(told: &Told, secrets: Value) -> Self {
        let plane = ControlPlane::start().await;
        plane.worlds.set(NODE, told.snapshot());
        Self::under(plane, secrets, Options::default()).await
    }

    /// Starts a proxy that asks this control plane.
    pub(crate) async fn under(plane: ControlPlane, secrets: Value, options: Options) -> Self {
        let edit = |file: &mut Value| file["static_resources"]["secrets"] = secrets;
        Self::edited(plane, options, edit).await
    }

    /// The same with whatever in its bootstrap file.
    pub(crate) async fn edited(
        plane: ControlPlane,
        options: Options,
        edit: impl FnOnce(&mut Value),
    ) -> Self {
        let text = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: NODE,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        let mut file: Value = serde_json::from_str(&text).expect("JSON");
        edit(&mut file);
        let bootstrap = bootstrap::parse("test", &file.to_string()).expect("valid");
        let agent = Agent::start(bootstrap, options).await.expect("start");
        let admin = agent.admin_address().expect("an admin address");
        Self {
            plane,
            agent,
            admin,
        }
    }

    pub(crate) fn tell(&self, told: &Told) {
        self.plane.worlds.set(NODE, told.snapshot());
    }

    pub(crate) async fn page(&self, path: &str) -> String {
        get(self.admin, path).await.expect("an answer").body
    }

    /// A counter or gauge; zero if there is none of that name.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let page = self.page("/stats").await;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.strip_prefix(": "));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Waits until a counter or gauge has a value.
    pub(crate) async fn wait_stat(&self, name: &str, value: u64) {
        let deadline = tokio::time::Instant::now() + crate::xds_support::PATIENCE;
        loop {
            let now = self.stat(name).await;
            if now == value {
                return;
            }
            let page = self.page("/stats?usedonly").await;
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name} is {now} and not {value}:\n{page}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Waits until the newest response of a type was refused: what was said about it.
    pub(crate) async fn refusal(&self, type_url: &str) -> String {
        eventually("a refusal", || {
            let proxies = self.plane.ads.proxies();
            let of_type = proxies.first()?.types.get(type_url)?;
            Some(of_type.last_error.as_ref()?.message.clone())
        })
        .await
    }
}

pub(crate) fn inline(text: &str) -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..Default::default()
    })
}

pub(crate) fn file(path: &std::path::Path) -> Option<core::DataSource> {
    let path = path.to_str().expect("UTF-8").to_owned();
    Some(core::DataSource {
        specifier: Some(data_source::Specifier::Filename(path)),
        ..Default::default()
    })
}

pub(crate) fn certificate(pair: &Pair) -> tls::TlsCertificate {
    tls::TlsCertificate {
        certificate_chain: inline(&pair.chain),
        private_key: inline(&pair.key),
        ..Default::default()
    }
}

pub(crate) fn certificate_secret(name: &str, pair: &Pair) -> Resource {
    secret_of(name, Type::TlsCertificate(certificate(pair)))
}

pub(crate) fn root_secret(name: &str, authority: &Authority) -> Resource {
    let context = tls::CertificateValidationContext {
        trusted_ca: inline(&authority.pem),
        ..Default::default()
    };
    secret_of(name, Type::ValidationContext(context))
}

pub(crate) fn secret_of(name: &str, value: Type) -> Resource {
    let secret = tls::Secret {
        name: name.to_owned(),
        r#type: Some(value),
    };
    Resource::new(name, &secret)
}

/// A secret of this name over ADS.
pub(crate) fn sds(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: ads(),
    }
}

/// A context with a certificate that stands in it.
pub(crate) fn inline_context(pair: &Pair) -> tls::CommonTlsContext {
    tls::CommonTlsContext {
        tls_certificates: vec![certificate(pair)],
        ..Default::default()
    }
}

/// Istio's context: `default` and `ROOTCA` by SDS; peers must have ids that begin with one of these.
pub(crate) fn mesh_context(ids: &[&str]) -> tls::CommonTlsContext {
    let san = |id: &&str| tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri as i32,
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Prefix((*id).to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: ids.iter().map(san).collect(),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(sds("ROOTCA")),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![sds("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..Default::default()
    }
}

/// A context that trusts an authority.
pub(crate) fn trusting(authority: &Authority) -> tls::CommonTlsContext {
    tls::CommonTlsContext {
        validation_context_type: Some(ValidationContextType::ValidationContext(
            tls::CertificateValidationContext {
                trusted_ca: inline(&authority.pem),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

pub(crate) fn alpn(mut context: tls::CommonTlsContext, names: &[&str]) -> tls::CommonTlsContext {
    context.alpn_protocols = names.iter().map(|name| (*name).to_owned()).collect();
    context
}

fn socket(config: impl prost::Name) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(
            config,
        ))),
    }
}

/// TLS that is terminated.
pub(crate) fn terminating(
    context: tls::CommonTlsContext,
    edit: impl FnOnce(&mut tls::DownstreamTlsContext),
) -> Option<core::TransportSocket> {
    let mut downstream = tls::DownstreamTlsContext {
        common_tls_context: Some(context),
        ..Default::default()
    };
    edit(&mut downstream);
    Some(socket(downstream))
}

/// TLS that is originated.
pub(crate) fn originating(
    context: tls::CommonTlsContext,
    edit: impl FnOnce(&mut tls::UpstreamTlsContext),
) -> Option<core::TransportSocket> {
    let mut upstream = tls::UpstreamTlsContext {
        common_tls_context: Some(context),
        ..Default::default()
    };
    edit(&mut upstream);
    Some(socket(upstream))
}

pub(crate) fn up_to_1_2() -> tls::TlsParameters {
    tls::TlsParameters {
        tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12 as i32,
        ..Default::default()
    }
}

pub(crate) fn suites(names: &[&str]) -> tls::TlsParameters {
    tls::TlsParameters {
        cipher_suites: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

pub(crate) fn plaintext() -> core::TransportSocket {
    use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
    socket(RawBuffer::default())
}

pub(crate) fn labels(name: &str, value: &str) -> Struct {
    let value = protobuf::Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    };
    Struct {
        fields: [(name.to_owned(), value)].into(),
    }
}

impl Told {
    /// A cluster whose one endpoint says this about its transport socket.
    pub(crate) fn labelled(
        self,
        name: &str,
        at: SocketAddr,
        label: (&str, &str),
        edit: impl FnOnce(&mut cluster::Cluster),
    ) -> Self {
        let assignment = endpoint::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![labelled_endpoint(at, label, 0)],
            ..Default::default()
        };
        self.assigned(&assignment, edit)
    }
}

/// An endpoint that says this about its transport socket, at a priority.
pub(crate) fn labelled_endpoint(
    at: SocketAddr,
    (label, value): (&str, &str),
    priority: u32,
) -> endpoint::LocalityLbEndpoints {
    let metadata = core::Metadata {
        filter_metadata: [(
            "envoy.transport_socket_match".to_owned(),
            labels(label, value),
        )]
        .into(),
        ..Default::default()
    };
    let endpoint = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address: address(at),
                ..Default::default()
            },
        )),
        metadata: Some(metadata),
        ..Default::default()
    };
    endpoint::LocalityLbEndpoints {
        lb_endpoints: vec![endpoint],
        priority,
        ..Default::default()
    }
}
