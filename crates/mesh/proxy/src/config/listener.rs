//! `envoy.config.listener.v3.Listener`: an address and its filter chains.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use prost::Name as _;

use super::check::{At, Refused, decode, flag, ignored, nothing_else, short_type};
use super::filter_chain::{self, ChainSpec, ServiceSpec};
use super::manager::RouteSource;
use crate::snapshot::{Direction, SocketKind};

/// A checked listener, without the routes that come by RDS.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSpec {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) direction: Direction,
    /// None if it does not bind to its port.
    pub(crate) socket: Option<SocketKind>,
    pub(crate) original_destination: bool,
    pub(crate) hands_over: bool,
    pub(crate) chains: Vec<ChainSpec>,
    pub(crate) default_chain: Option<ServiceSpec>,
}

impl ListenerSpec {
    /// Where the routes of its connection managers come from.
    pub(crate) fn route_sources(&self) -> impl Iterator<Item = &RouteSource> {
        let chains = self.chains.iter().map(|chain| &chain.service);
        let services = chains.chain(&self.default_chain);
        services.filter_map(|service| match service {
            ServiceSpec::Http(manager) => Some(&manager.routes),
            ServiceSpec::Tcp(_) => None,
        })
    }

    /// The clusters that it leads to itself, rather than by routes that come by RDS.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        let chains = self.chains.iter().map(|chain| &chain.service);
        let services = chains.chain(&self.default_chain);
        services.flat_map(|service| -> Box<dyn Iterator<Item = &str>> {
            match service {
                ServiceSpec::Tcp(proxy) => {
                    Box::new(proxy.clusters.iter().map(|choice| choice.name.as_str()))
                }
                ServiceSpec::Http(manager) => match &manager.routes {
                    RouteSource::Inline(table) => Box::new(table.clusters()),
                    RouteSource::Named { .. } => Box::new(std::iter::empty()),
                },
            }
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

    let (chains, default_chain) = filter_chains(&mut listener, at)?;
    let hands_over = flag(listener.use_original_dst.take(), false);
    let filters = std::mem::take(&mut listener.listener_filters);
    let restores = restores_destination(filters, &at.field("listener_filters"))?;
    let socket = SocketKind {
        transparent: flag(listener.transparent.take(), false),
        freebind: flag(listener.freebind.take(), false),
    };
    let binds = flag(listener.bind_to_port.take(), true);
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
        socket: binds.then_some(socket),
        original_destination: restores || hands_over,
        hands_over,
        chains,
        default_chain,
    })
}

fn filter_chains(
    listener: &mut pb::Listener,
    at: &At<'_>,
) -> Result<(Vec<ChainSpec>, Option<ServiceSpec>), Refused> {
    let at_chains = &at.field("filter_chains");
    let mut chains: Vec<ChainSpec> = Vec::new();
    for (index, chain) in std::mem::take(&mut listener.filter_chains)
        .into_iter()
        .enumerate()
    {
        let at = &at_chains.index(index);
        let chain = filter_chain::compile(chain, at)?;
        let same = |other: &ChainSpec| other.conditions == chain.conditions;
        if let Some(other) = chains.iter().position(same) {
            let reason = format!("its conditions are those of filter_chains[{other}]");
            return Err(at.field("filter_chain_match").refuse(reason));
        }
        chains.push(chain);
    }
    let at_default = &at.field("default_filter_chain");
    let default_chain = match listener.default_filter_chain.take() {
        Some(mut chain) => {
            // Envoy does not look at them.
            chain.filter_chain_match = None;
            Some(filter_chain::compile(chain, at_default)?.service)
        }
        None => None,
    };
    if chains.is_empty() && default_chain.is_none() {
        return Err(at_chains.refuse("there is none"));
    }
    Ok((chains, default_chain))
}

/// Whether the filter is there that finds out where a redirected client wanted to go; others are refused.
fn restores_destination(filters: Vec<pb::ListenerFilter>, at: &At<'_>) -> Result<bool, Refused> {
    let mut restores = false;
    for (index, filter) in filters.into_iter().enumerate() {
        let at = &at.index(index);
        let Some(FilterConfig::TypedConfig(config)) = filter.config_type else {
            return Err(at.field("typed_config").refuse("it must be given"));
        };
        let kind = short_type(&config.type_url);
        if kind != OriginalDst::full_name() {
            return Err(at.refuse(format!(
                "filter {:?} ({kind}) is not supported, only original_dst is",
                filter.name
            )));
        }
        let config: OriginalDst = decode(&config, at)?;
        nothing_else(&config, at)?;
        if filter.filter_disabled.is_some() {
            return Err(at.field("filter_disabled").refuse("is not supported"));
        }
        restores = true;
    }
    Ok(restores)
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
