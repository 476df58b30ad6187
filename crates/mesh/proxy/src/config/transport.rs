//! `TransportSocket`: plaintext, TLS, and the PROXY protocol before either.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, UpstreamTlsContext,
};
use envoy_types::pb::google::protobuf::{Any, Value};
use prost::Name as _;

use super::check::{At, Refused, decode, nothing_else, short_type};
use super::secrets::Secrets;
use super::tls::{self, DownstreamTls, Names, UpstreamTls};
use crate::snapshot::{EndpointTls, ProxyVersion, Transport};

/// Where Envoy looks for what an endpoint says about its transport socket.
const MATCH_KEY: &str = "envoy.transport_socket_match";

/// The labels of an endpoint, or those that are asked for.
pub(crate) type Labels = BTreeMap<String, Value>;

/// The transport sockets of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transports {
    /// The first whose labels an endpoint has.
    matches: Vec<(Labels, TransportSpec)>,
    /// Else this.
    default: TransportSpec,
}

/// A checked transport socket of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TransportSpec {
    tls: Option<(u64, Arc<UpstreamTls>)>,
    proxy_protocol: Option<ProxyVersion>,
}

/// The TLS that a filter chain terminates, if its socket is not plaintext; whether both ends say who they are there.
pub(super) fn of_chain(
    socket: &core::TransportSocket,
    names: &Names<'_>,
    exchanges_peers: bool,
    at: &At<'_>,
) -> Result<Option<Arc<DownstreamTls>>, Refused> {
    let Some(config) = typed(socket, at)? else {
        return Ok(None);
    };
    if short_type(&config.type_url) != DownstreamTlsContext::full_name() {
        return Err(unsupported(socket, at));
    }
    let context = decode(&config, at)?;
    let made = tls::downstream(context, names, exchanges_peers, at)?;
    Ok(Some(Arc::new(made)))
}

/// Those of a cluster.
pub(super) fn of_cluster(
    default: Option<core::TransportSocket>,
    matches: Vec<TransportSocketMatch>,
    names: &Names<'_>,
    at: &At<'_>,
) -> Result<Transports, Refused> {
    let mut transports = Transports::default();
    if let Some(socket) = default {
        transports.default = upstream(&socket, names, &at.field("transport_socket"))?;
    }
    let at_matches = &at.field("transport_socket_matches");
    for (index, mut given) in matches.into_iter().enumerate() {
        let at = &at_matches.index(index);
        let socket = given.transport_socket.take().unwrap_or_default();
        let socket = upstream(&socket, names, &at.field("transport_socket"))?;
        let labels = given.r#match.take().unwrap_or_default().fields;
        given.name.clear();
        nothing_else(&given, at)?;
        transports
            .matches
            .push((labels.into_iter().collect(), socket));
    }
    Ok(transports)
}

fn upstream(
    socket: &core::TransportSocket,
    names: &Names<'_>,
    at: &At<'_>,
) -> Result<TransportSpec, Refused> {
    let Some(config) = typed(socket, at)? else {
        return Ok(TransportSpec::default());
    };
    match short_type(&config.type_url) {
        kind if kind == UpstreamTlsContext::full_name() => {
            let mut hasher = DefaultHasher::new();
            config.value.hash(&mut hasher);
            let context = tls::upstream(decode(&config, at)?, names, at)?;
            Ok(TransportSpec {
                tls: Some((hasher.finish(), Arc::new(context))),
                proxy_protocol: None,
            })
        }
        kind if kind == ProxyProtocolUpstreamTransport::full_name() => {
            let mut outer: ProxyProtocolUpstreamTransport = decode(&config, at)?;
            let mut config = outer.config.take().unwrap_or_default();
            let at_config = at.field("config");
            let version = match Version::try_from(std::mem::take(&mut config.version)) {
                Ok(Version::V1) => ProxyVersion::V1,
                Ok(Version::V2) => ProxyVersion::V2,
                Err(_) => return Err(at_config.field("version").refuse("is not known")),
            };
            nothing_else(&config, &at_config)?;
            let inner = outer.transport_socket.take().unwrap_or_default();
            nothing_else(&outer, at)?;
            let inner = upstream(&inner, names, &at.field("transport_socket"))?;
            if inner.proxy_protocol.is_some() {
                return Err(at
                    .field("transport_socket")
                    .refuse("one PROXY header is enough"));
            }
            Ok(TransportSpec {
                proxy_protocol: Some(version),
                ..inner
            })
        }
        _ => Err(unsupported(socket, at)),
    }
}

/// The configuration of a socket; none of a plaintext one.
fn typed(socket: &core::TransportSocket, at: &At<'_>) -> Result<Option<Any>, Refused> {
    match &socket.config_type {
        None if socket.name == "envoy.transport_sockets.raw_buffer" => Ok(None),
        Some(ConfigType::TypedConfig(config)) if config.type_url == RawBuffer::type_url() => {
            Ok(None)
        }
        Some(ConfigType::TypedConfig(config)) => Ok(Some(config.clone())),
        None => Err(unsupported(socket, at)),
    }
}

fn unsupported(socket: &core::TransportSocket, at: &At<'_>) -> Refused {
    at.refuse(format!(
        "transport socket {:?} is not supported, only plaintext, TLS and (of clusters) the PROXY protocol are",
        socket.name
    ))
}

/// What an endpoint's metadata says about its transport socket.
pub(super) fn labels(metadata: Option<&mut core::Metadata>) -> Labels {
    let labels = metadata.and_then(|metadata| metadata.filter_metadata.remove(MATCH_KEY));
    labels.unwrap_or_default().fields.into_iter().collect()
}

impl Transports {
    /// Whether a header says whose connection an endpoint gets.
    pub(super) fn has_proxy_protocol(&self) -> bool {
        let matches = self.matches.iter().map(|(_, socket)| socket);
        let mut all = matches.chain([&self.default]);
        all.any(|socket| socket.proxy_protocol.is_some())
    }

    /// The TLS of all of them.
    pub(crate) fn tls(&self) -> impl Iterator<Item = &Arc<UpstreamTls>> {
        let matches = self.matches.iter().map(|(_, socket)| socket);
        let all = matches.chain([&self.default]);
        all.filter_map(|socket| Some(&socket.tls.as_ref()?.1))
    }

    /// How connections are made to an endpoint with these labels.
    pub(crate) fn choose(&self, labels: &Labels, secrets: &Secrets) -> Transport {
        let has_all = |wanted: &Labels| wanted.iter().all(|(k, v)| labels.get(k) == Some(v));
        let found = self.matches.iter().find(|(wanted, _)| has_all(wanted));
        let socket = found.map_or(&self.default, |(_, socket)| socket);
        socket.make(secrets)
    }

    /// The same transport with the secrets of now, if it is still one of these.
    pub(crate) fn renew(&self, transport: &Transport, secrets: &Secrets) -> Transport {
        let matches = self.matches.iter().map(|(_, socket)| socket);
        let mut all = matches.chain([&self.default]);
        let is_its = |socket: &&TransportSpec| {
            let version = socket.tls.as_ref().map(|(version, _)| *version);
            version == transport.tls.as_ref().map(|tls| tls.version)
                && socket.proxy_protocol == transport.proxy_protocol
        };
        let found = all.find(is_its);
        found.map_or_else(|| transport.clone(), |socket| socket.make(secrets))
    }
}

impl TransportSpec {
    fn make(&self, secrets: &Secrets) -> Transport {
        Transport {
            tls: self.tls.as_ref().map(|(version, tls)| EndpointTls {
                version: *version,
                ready: tls.make(secrets),
            }),
            proxy_protocol: self.proxy_protocol,
        }
    }
}
