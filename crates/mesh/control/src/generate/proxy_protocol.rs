//! `proxyProtocol` of DestinationRules: connections that begin by saying whose they are.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::config::core::v3::{
    ProxyProtocolConfig, TransportSocket, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use periplus_resources::{HttpVersion, Port, Protocol, ProxyProtocol, TrafficPolicy};

use super::proto::any;

/// Has the connections of a cluster begin with the header, if its policy says so.
///
/// # Errors
///
/// Why they cannot.
pub(super) fn wrap(
    cluster: &mut Cluster,
    port: &Port,
    policy: &TrafficPolicy,
) -> Result<(), String> {
    let Some(version) = policy.proxy_protocol else {
        return Ok(());
    };
    let http = policy.connection_pool.unwrap_or_default().http_version;
    let is_shared = match port.protocol {
        Protocol::Http2 => true,
        Protocol::Http | Protocol::HttpProxy | Protocol::Detected => http != HttpVersion::OfPort,
        Protocol::Tcp | Protocol::Tls => false,
    };
    if is_shared {
        return Err(
            "the PROXY protocol does not go with HTTP/2, whose connections clients share".into(),
        );
    }
    // Whatever clients speak, HTTP/1.1 is spoken here.
    if port.protocol == Protocol::Detected {
        cluster.typed_extension_protocol_options.clear();
    }
    let version = match version {
        ProxyProtocol::V1 => Version::V1,
        ProxyProtocol::V2 => Version::V2,
    };
    let wrap = |socket: Option<TransportSocket>| {
        let transport = ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig {
                version: version.into(),
                ..ProxyProtocolConfig::default()
            }),
            transport_socket: Some(socket.unwrap_or_else(plain)),
            ..ProxyProtocolUpstreamTransport::default()
        };
        socket_of(
            "envoy.transport_sockets.upstream_proxy_protocol",
            any(&transport),
        )
    };
    for one in &mut cluster.transport_socket_matches {
        one.transport_socket = Some(wrap(one.transport_socket.take()));
    }
    if cluster.transport_socket_matches.is_empty() {
        cluster.transport_socket = Some(wrap(cluster.transport_socket.take()));
    }
    Ok(())
}

fn plain() -> TransportSocket {
    socket_of(
        "envoy.transport_sockets.raw_buffer",
        any(&RawBuffer::default()),
    )
}

fn socket_of(name: &str, config: envoy_types::pb::google::protobuf::Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}
