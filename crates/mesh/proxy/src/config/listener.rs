//! `envoy.config.listener.v3.Listener`: one address, one filter chain, one filter that ends it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as TcpProxyConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use prost::Name as _;

use super::check::{At, Refused, decode, ignored, must_be, nothing_else, short_type};
use super::manager::{self, ManagerSpec, RouteSource};
use super::tcp_proxy;
use crate::snapshot::{Direction, TcpProxy};

/// A checked listener, without the routes that come by RDS.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSpec {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) direction: Direction,
    pub(crate) service: ServiceSpec,
}

/// What ends a filter chain.
#[derive(Clone, Debug)]
pub(crate) enum ServiceSpec {
    Http(Box<ManagerSpec>),
    Tcp(Arc<TcpProxy>),
}

impl ListenerSpec {
    /// Where the routes of its connection managers come from.
    pub(crate) fn route_sources(&self) -> impl Iterator<Item = &RouteSource> {
        std::iter::once(&self.service).filter_map(|service| match service {
            ServiceSpec::Http(manager) => Some(&manager.routes),
            ServiceSpec::Tcp(_) => None,
        })
    }

    /// The names of the routes that come by RDS.
    pub(crate) fn route_names(&self) -> impl Iterator<Item = &String> {
        self.route_sources().filter_map(|source| match source {
            RouteSource::Named { name, .. } => Some(name),
            RouteSource::Inline(_) => None,
        })
    }

    /// How long it waits for its routes at first; `None` for ever, or if it waits for none.
    pub(crate) fn fetch_timeout(&self) -> Option<Duration> {
        let timeouts = self.route_sources().filter_map(|source| match source {
            RouteSource::Named { fetch_timeout, .. } => Some(*fetch_timeout),
            RouteSource::Inline(_) => None,
        });
        timeouts.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

pub(crate) fn compile(mut listener: pb::Listener) -> Result<ListenerSpec, Refused> {
    let at = &At::ROOT;
    let name = std::mem::take(&mut listener.name);
    let address = listener.address.take();
    let address = socket_address(address, &at.field("address"))?;
    let direction =
        match core::TrafficDirection::try_from(std::mem::take(&mut listener.traffic_direction)) {
            Ok(core::TrafficDirection::Unspecified) => Direction::Unspecified,
            Ok(core::TrafficDirection::Inbound) => Direction::Inbound,
            Ok(core::TrafficDirection::Outbound) => Direction::Outbound,
            Err(_) => {
                return Err(at
                    .field("traffic_direction")
                    .refuse("is not a known direction"));
            }
        };

    let chains = std::mem::take(&mut listener.filter_chains);
    let chain = exactly_one(chains, &at.field("filter_chains"))?;
    let service = filter_chain(chain, &at.field("filter_chains").index(0))?;

    must_be(
        listener.bind_to_port.take(),
        true,
        &at.field("bind_to_port"),
    )?;
    must_be(
        listener.use_original_dst.take(),
        false,
        &at.field("use_original_dst"),
    )?;
    must_be(listener.transparent.take(), false, &at.field("transparent"))?;
    must_be(listener.freebind.take(), false, &at.field("freebind"))?;
    ignored!(listener: stat_prefix, stats_matcher, metadata, drain_type, access_log,
        per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout, enable_reuse_port,
        connection_balance_config, listener_filters_timeout, continue_on_listener_filters_timeout,
        tcp_backlog_size, max_connections_to_accept_per_socket_event, ignore_global_conn_limit,
        bypass_overload_manager);
    nothing_else(&listener, at)?;
    Ok(ListenerSpec {
        name,
        address,
        direction,
        service,
    })
}

fn filter_chain(mut chain: pb::FilterChain, at: &At<'_>) -> Result<ServiceSpec, Refused> {
    if let Some(conditions) = chain.filter_chain_match.take() {
        nothing_else(&conditions, &at.field("filter_chain_match"))?;
    }
    if let Some(socket) = chain.transport_socket.take() {
        plaintext(&socket, &at.field("transport_socket"))?;
    }
    let filters = std::mem::take(&mut chain.filters);
    let filter = exactly_one(filters, &at.field("filters"))?;
    ignored!(chain: name, metadata);
    nothing_else(&chain, at)?;

    let filters = at.field("filters");
    let at = &filters.index(0);
    let Some(ConfigType::TypedConfig(config)) = filter.config_type else {
        return Err(at.field("typed_config").refuse("it must be given"));
    };
    let kind = short_type(&config.type_url);
    if kind == HttpConnectionManager::full_name() {
        let manager = manager::compile(decode(&config, at)?, at)?;
        return Ok(ServiceSpec::Http(Box::new(manager)));
    }
    if kind == TcpProxyConfig::full_name() {
        let proxy = tcp_proxy::compile(decode(&config, at)?, at)?;
        return Ok(ServiceSpec::Tcp(Arc::new(proxy)));
    }
    Err(at.refuse(format!(
        "filter {:?} ({kind}) is not supported, only the HTTP connection manager and the TCP proxy are",
        filter.name
    )))
}

fn exactly_one<T>(list: Vec<T>, at: &At<'_>) -> Result<T, Refused> {
    let count = list.len();
    let mut list = list.into_iter();
    match (list.next(), count) {
        (Some(one), 1) => Ok(one),
        _ => Err(at.refuse(format!("there are {count}, exactly one is supported"))),
    }
}

/// Accepts the plaintext transport socket only.
pub(crate) fn plaintext(socket: &core::TransportSocket, at: &At<'_>) -> Result<(), Refused> {
    let is_raw = match &socket.config_type {
        None => socket.name == "envoy.transport_sockets.raw_buffer",
        Some(SocketConfig::TypedConfig(config)) => config.type_url == RawBuffer::type_url(),
    };
    if is_raw {
        return Ok(());
    }
    Err(at.refuse(format!(
        "transport socket {:?} is not supported, only plaintext is",
        socket.name
    )))
}

/// An IP address with a port.
pub(crate) fn socket_address(
    address: Option<core::Address>,
    at: &At<'_>,
) -> Result<SocketAddr, Refused> {
    let (host, port) = host_and_port(address, at)?;
    let ip: IpAddr = host.parse().map_err(|_| {
        at.field("socket_address")
            .field("address")
            .refuse(format!("{host:?} is not an IP address"))
    })?;
    Ok(SocketAddr::new(ip, port))
}

/// A host, which may be a name, with a port.
pub(crate) fn host_and_port(
    address: Option<core::Address>,
    at: &At<'_>,
) -> Result<(String, u16), Refused> {
    let mut address = match address.and_then(|address| address.address) {
        Some(AddressKind::SocketAddress(address)) => address,
        Some(AddressKind::Pipe(_)) => return Err(at.field("pipe").refuse("is not supported")),
        Some(AddressKind::EnvoyInternalAddress(_)) => {
            return Err(at
                .field("envoy_internal_address")
                .refuse("is not supported"));
        }
        None => return Err(at.refuse("it must be given")),
    };
    let at = at.field("socket_address");
    if address.protocol != Protocol::Tcp as i32 {
        return Err(at.field("protocol").refuse("only TCP is supported"));
    }
    let port = match address.port_specifier.take() {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port).map_err(|_| {
            at.field("port_value")
                .refuse(format!("{port} is not a port"))
        })?,
        Some(PortSpecifier::NamedPort(_)) => {
            return Err(at.field("named_port").refuse("is not supported"));
        }
        None => return Err(at.field("port_value").refuse("it must be given")),
    };
    let host = std::mem::take(&mut address.address);
    nothing_else(&address, &at)?;
    Ok((host, port))
}
