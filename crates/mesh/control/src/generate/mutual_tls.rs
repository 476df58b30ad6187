//! TLS between proxies: what a workload's proxy asks of its clients, and what clients show and ask.
//!
//! Certificates come from the proxy's own agent, under Istio's names: `default` and `ROOTCA`.

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, Filter};
use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService, TransportSocket,
    data_source, transport_socket,
};
use envoy_types::pb::envoy::config::listener::v3::FilterChainMatch;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Struct;
use periplus_identity::agent::{OWN, ROOTS};
use periplus_resources::{
    ClientTls, Location, MutualTls, Port, Protocol, TrafficPolicy, WorkloadEntry,
};
use periplus_xds::istio_peers::{self, PROTOCOL};

use super::detection::{looks_like_http, plaintext};
use super::proto::{any, boolean, duration, one_text};
use super::{Generated, origination};
use crate::index::{Index, Service};
use crate::names;
use crate::proxy::{Proxy, Role};

/// The cluster of the proxy's own agent, in its bootstrap file.
const AGENT: &str = "sds-grpc";
/// Endpoints say by this whether they speak mutual TLS.
const TLS_MODE: &str = "tlsMode";
/// What clients of the mesh offer, by which its TLS is told from that of applications.
const OFFERED_FOR_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const OFFERED_FOR_TCP: [&str; 2] = [PROTOCOL, "istio"];

/// A filter chain of a port.
pub(super) struct Chain {
    pub(super) conditions: FilterChainMatch,
    /// Requests are told apart, or only connections.
    pub(super) is_http: bool,
    pub(super) socket: Option<TransportSocket>,
}

/// The chains of a port that speaks `protocol`, in Istio's order: none asks another mode than `mode`.
pub(super) fn chains(
    (index, proxy): (&Index, &Proxy),
    mode: MutualTls,
    protocol: Protocol,
) -> Vec<Chain> {
    let tls = |names: &[&str]| FilterChainMatch {
        transport_protocol: "tls".into(),
        application_protocols: names.iter().map(|name| (*name).to_owned()).collect(),
        ..FilterChainMatch::default()
    };
    let plain = |conditions, is_http| Chain {
        conditions,
        is_http,
        socket: None,
    };
    let mutual = |names: &[&str], is_http| Chain {
        conditions: tls(names),
        is_http,
        socket: Some(server((index, proxy), is_http)),
    };
    let all: Vec<&str> = OFFERED_FOR_TCP
        .into_iter()
        .chain(OFFERED_FOR_HTTP)
        .collect();
    let is_http = protocol.is_http();
    match (mode, protocol) {
        (MutualTls::Disable, Protocol::Detected) => vec![
            plain(looks_like_http(), true),
            plain(plaintext(), false),
            plain(FilterChainMatch::default(), false),
        ],
        (MutualTls::Disable, _) => vec![plain(FilterChainMatch::default(), is_http)],
        (MutualTls::Permissive, Protocol::Detected) => vec![
            mutual(&OFFERED_FOR_HTTP, true),
            plain(looks_like_http(), true),
            mutual(&OFFERED_FOR_TCP, false),
            plain(plaintext(), false),
            plain(tls(&[]), false),
        ],
        (MutualTls::Permissive, _) if is_http => {
            vec![mutual(&all, true), plain(plaintext(), true)]
        }
        // TLS of the application itself is passed on.
        (MutualTls::Permissive, _) => vec![
            mutual(&all, false),
            plain(tls(&[]), false),
            plain(plaintext(), false),
        ],
        (MutualTls::Strict, Protocol::Detected) => {
            vec![mutual(&OFFERED_FOR_HTTP, true), mutual(&[], false)]
        }
        (MutualTls::Strict, _) => vec![mutual(&[], is_http)],
    }
}

/// How a server of the mesh speaks TLS. Only sidecars hear who their clients are: what gateways pass on they report as
/// clients.
pub(super) fn server((index, proxy): (&Index, &Proxy), is_http: bool) -> TransportSocket {
    let hears = proxy.exchanges_peers() && proxy.role == Role::Sidecar;
    let offered: &[&str] = match is_http {
        true => &["h2", "http/1.1"],
        false if hears => &OFFERED_FOR_TCP,
        false => &OFFERED_FOR_TCP[1..],
    };
    socket(&DownstreamTlsContext {
        common_tls_context: Some(of_mesh(index, anybody(index), offered)),
        require_client_certificate: boolean(true),
        ..DownstreamTlsContext::default()
    })
}

/// What the names of the mesh's workloads begin with.
fn trust_domains(index: &Index) -> impl Iterator<Item = &String> {
    let mesh = index.mesh();
    std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases)
}

/// The names of all workloads.
fn anybody(index: &Index) -> Vec<MatchPattern> {
    let of_domain = |domain| MatchPattern::Prefix(format!("spiffe://{domain}/"));
    trust_domains(index).map(of_domain).collect()
}

/// The mesh's own certificates, and whom to expect.
fn of_mesh(index: &Index, names: Vec<MatchPattern>, offered: &[&str]) -> CommonTlsContext {
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: names
                .into_iter()
                .map(|name| san(SanType::Uri, name))
                .collect(),
            crl: inline(index.revoked()),
            ..CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(of_agent(ROOTS)),
        ..CombinedCertificateValidationContext::default()
    };
    CommonTlsContext {
        alpn_protocols: offered.iter().map(|name| (*name).to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![of_agent(OWN)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..CommonTlsContext::default()
    }
}

/// None if it is empty.
fn inline(text: &str) -> Option<DataSource> {
    (!text.is_empty()).then(|| DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..DataSource::default()
    })
}

/// One of these names of DNS, or URIs.
pub(super) fn names_of(names: &[String]) -> Vec<SubjectAltNameMatcher> {
    let kind = |name: &str| match name.contains("://") {
        true => SanType::Uri,
        false => SanType::Dns,
    };
    let names = names.iter();
    names
        .map(|name| san(kind(name), MatchPattern::Exact(name.clone())))
        .collect()
}

fn san(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(pattern),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    }
}

fn of_agent(name: &str) -> SdsSecretConfig {
    let service = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: AGENT.into(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    };
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(
                ApiConfigSource {
                    api_type: ApiType::Grpc.into(),
                    transport_api_version: ApiVersion::V3.into(),
                    grpc_services: vec![service],
                    set_node_on_first_message_only: true,
                    ..ApiConfigSource::default()
                },
            )),
            initial_fetch_timeout: duration(Duration::ZERO),
            resource_api_version: ApiVersion::V3.into(),
            ..ConfigSource::default()
        }),
    }
}

pub(super) fn socket<M: prost::Message + prost::Name>(context: &M) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(context))),
    }
}

/// Secures a cluster of a service: as its DestinationRule says, else as its endpoints say.
///
/// # Errors
///
/// Why it cannot be secured, so that nothing may get there.
pub(super) fn secure(
    (index, proxy): (&Index, &Proxy),
    cluster: &mut Cluster,
    (service, port, subset): (&Service, &Port, &str),
    policy: &TrafficPolicy,
    made: &mut Generated,
) -> Result<(), String> {
    let host = service.host.as_str();
    let own_name = || names::sni(port.number, subset, host);
    match &policy.tls {
        Some(ClientTls::Disable) => {}
        // Without an authority nobody has a certificate: told with the problems.
        Some(ClientTls::Mesh { .. }) if !index.has_authority() => {}
        Some(ClientTls::Mesh { names, sni }) => {
            let names = match names.is_empty() {
                true => accounts(index, service),
                false => names.iter().cloned().collect(),
            };
            let sni = sni.clone().unwrap_or_else(own_name);
            cluster.transport_socket = Some(client((index, proxy), names, sni, port.protocol));
            cluster.filters.extend(exchange(proxy, port.protocol));
        }
        Some(ClientTls::Files(files)) => {
            let socket =
                origination::with_files((index, proxy), files, (host, port.protocol), made)?;
            cluster.transport_socket = Some(socket);
        }
        None if index.has_auto_mtls() && service.spec.location == Location::Internal => {
            let names = accounts(index, service);
            let secured = client((index, proxy), names, own_name(), port.protocol);
            cluster.filters.extend(exchange(proxy, port.protocol));
            let plain = TransportSocket {
                name: "envoy.transport_sockets.raw_buffer".into(),
                config_type: Some(transport_socket::ConfigType::TypedConfig(any(
                    &RawBuffer::default(),
                ))),
            };
            cluster.transport_socket_matches = vec![
                TransportSocketMatch {
                    name: "tlsMode-istio".into(),
                    r#match: Some(tls_mode()),
                    transport_socket: Some(secured),
                },
                TransportSocketMatch {
                    name: "tlsMode-disabled".into(),
                    r#match: Some(Struct::default()),
                    transport_socket: Some(plain),
                },
            ];
        }
        None => {}
    }
    Ok(())
}

/// How a client of the mesh speaks TLS to a server that has one of these names.
fn client(
    (index, proxy): (&Index, &Proxy),
    accounts: BTreeSet<String>,
    sni: String,
    protocol: Protocol,
) -> TransportSocket {
    let offered: &[&str] = match protocol {
        Protocol::Http | Protocol::HttpProxy => &["istio-http/1.1", "istio"],
        Protocol::Http2 => &["istio-h2", "istio", "h2"],
        Protocol::Tls | Protocol::Tcp | Protocol::Detected if proxy.exchanges_peers() => {
            &OFFERED_FOR_TCP
        }
        Protocol::Tls | Protocol::Tcp | Protocol::Detected => &OFFERED_FOR_TCP[1..],
    };
    let names = match accounts.is_empty() {
        true => anybody(index),
        false => accounts.into_iter().map(MatchPattern::Exact).collect(),
    };
    socket(&UpstreamTlsContext {
        common_tls_context: Some(of_mesh(index, names, offered)),
        sni,
        ..UpstreamTlsContext::default()
    })
}

/// Has a proxy say who it is on connections that are not HTTP's, where it can.
fn exchange(proxy: &Proxy, protocol: Protocol) -> Option<Filter> {
    let is_for = proxy.exchanges_peers() && !protocol.is_http();
    is_for.then(|| Filter {
        name: istio_peers::FILTER.to_owned(),
        typed_config: Some(istio_peers::of_connections()),
        ..Filter::default()
    })
}

/// The names that the workloads of a service may have.
fn accounts(index: &Index, service: &Service) -> BTreeSet<String> {
    let namespace = &service.meta.namespace;
    let accounts = service.endpoints.iter().map(|one| &one.service_account);
    let accounts: BTreeSet<_> = accounts.filter(|account| !account.is_empty()).collect();
    let mut names: BTreeSet<String> = service.spec.names.iter().cloned().collect();
    for domain in trust_domains(index) {
        let name = |account| format!("spiffe://{domain}/ns/{namespace}/sa/{account}");
        names.extend(accounts.iter().map(name));
    }
    names
}

fn tls_mode() -> Struct {
    one_text(TLS_MODE, "istio".to_owned())
}

/// What an endpoint says about its transport socket, if it does: that it speaks mutual TLS.
pub(super) fn transport_match(
    index: &Index,
    service: &Service,
    endpoint: &WorkloadEntry,
    port: &Port,
) -> Option<(&'static str, Struct)> {
    // As Istio: whoever has an account has a proxy, unless its label says something else.
    let has_proxy = match endpoint.labels.get(names::TLS_MODE_LABEL) {
        Some(mode) => mode == "istio",
        None => !endpoint.service_account.is_empty(),
    };
    let mode = || {
        let namespace = &service.meta.namespace;
        index.mutual_tls_of(namespace, &endpoint.labels, endpoint.target_port(port))
    };
    let speaks = has_proxy && index.has_auto_mtls() && mode() != MutualTls::Disable;
    speaks.then(|| ("envoy.transport_socket_match", tls_mode()))
}
