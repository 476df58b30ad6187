//! `envoy.config.listener.v3.Listener`: an address and its filter chains.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use envoy_types::pb::envoy::config::listener::v3 as pb;

use super::check::{At, Refused, flag, ignored, nothing_else, timeout};
use super::filter_chain::{self, ChainSpec, ServiceSpec};
use super::inspection::{self, Filters};
use super::manager::RouteSource;
use super::tls::{DownstreamTls, Names};
use super::{access_log, keepalive};
use crate::snapshot::{
    AccessLog, Direction, Exempt, FilterKind, Inspection, ListenerFilter, SocketKind,
};

/// A checked listener, without the routes that come by RDS.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSpec {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) direction: Direction,
    /// None if it does not bind to its port.
    pub(crate) socket: Option<SocketKind>,
    pub(crate) original_destination: bool,
    pub(crate) original_source: Option<u32>,
    pub(crate) hands_over: bool,
    pub(crate) inspection: Inspection,
    pub(crate) chains: Vec<ChainSpec>,
    pub(crate) default_chain: Option<ChainSpec>,
    pub(crate) exempt: Exempt,
    pub(crate) access_logs: Vec<Arc<AccessLog>>,
}

impl ListenerSpec {
    /// Its filter chains, the default chain last.
    pub(crate) fn all_chains(&self) -> impl Iterator<Item = &ChainSpec> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// The TLS that they terminate.
    pub(crate) fn tls(&self) -> impl Iterator<Item = &Arc<DownstreamTls>> {
        self.all_chains().filter_map(|chain| chain.tls.as_ref())
    }

    /// Where the routes of its connection managers come from.
    pub(crate) fn route_sources(&self) -> impl Iterator<Item = &RouteSource> {
        self.all_chains().filter_map(|chain| match &chain.service {
            ServiceSpec::Http(manager) => Some(&manager.routes),
            ServiceSpec::Tcp(_) => None,
        })
    }

    /// The clusters that it leads to itself, rather than by routes that come by RDS.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        let services = self.all_chains().map(|chain| &chain.service);
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

    /// Whether it waits for routes or secrets.
    pub(crate) fn fetches(&self) -> bool {
        let mut secrets = self.tls().flat_map(|tls| tls.context.material.secrets());
        self.route_names().next().is_some() || secrets.next().is_some()
    }

    /// How long it waits for its routes and secrets at first; `None` for ever, or if it waits for none.
    pub(crate) fn fetch_timeout(&self) -> Option<Duration> {
        let routes = self.route_sources().filter_map(|source| match source {
            RouteSource::Named { fetch_timeout, .. } => Some(*fetch_timeout),
            RouteSource::Inline(_) => None,
        });
        let secrets = self.tls().map(|tls| tls.context.fetch_timeout);
        let timeouts = routes.chain(secrets);
        timeouts.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

pub(crate) fn compile(
    mut listener: pb::Listener,
    names: &Names<'_>,
) -> Result<ListenerSpec, Refused> {
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

    let (chains, default_chain) = filter_chains(&mut listener, names, at)?;
    let hands_over = flag(listener.use_original_dst.take(), false);
    let filters = std::mem::take(&mut listener.listener_filters);
    let filters = inspection::compile(filters, &at.field("listener_filters"))?;
    let Filters {
        looking: mut filters,
        restores,
        original_source,
    } = filters;
    if needs_tls_inspector(&filters, &chains) {
        // As Envoy does, which warns about it.
        filters.push(ListenerFilter {
            kind: FilterKind::Tls,
            disabled: None,
        });
    }
    let inspection = Inspection {
        filters,
        timeout: timeout(
            listener.listener_filters_timeout.take(),
            Inspection::default().timeout,
            &at.field("listener_filters_timeout"),
        )?,
        continue_on_timeout: std::mem::take(&mut listener.continue_on_listener_filters_timeout),
    };
    let options = std::mem::take(&mut listener.socket_options);
    let options = keepalive::of_options(options, &at.field("socket_options"))?;
    let keepalive = match listener.tcp_keepalive.take() {
        Some(given) => keepalive::compile(given, &at.field("tcp_keepalive"))?,
        None => options,
    };
    let socket = SocketKind {
        keepalive,
        transparent: flag(listener.transparent.take(), false),
        freebind: flag(listener.freebind.take(), false),
    };
    let exempt = Exempt {
        from_limit: std::mem::take(&mut listener.ignore_global_conn_limit),
        from_overload: std::mem::take(&mut listener.bypass_overload_manager),
    };
    let binds = flag(listener.bind_to_port.take(), true);
    let access_logs = std::mem::take(&mut listener.access_log);
    let access_logs = access_log::compile(access_logs, &at.field("access_log"))?;
    ignored!(listener: stat_prefix, stats_matcher, metadata, drain_type,
        per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout, enable_reuse_port,
        connection_balance_config, tcp_backlog_size, max_connections_to_accept_per_socket_event);
    nothing_else(&listener, at)?;
    Ok(ListenerSpec {
        name,
        address,
        direction,
        socket: binds.then_some(socket),
        original_destination: restores || hands_over,
        original_source,
        hands_over,
        inspection,
        chains,
        default_chain,
        exempt,
        access_logs,
    })
}

fn filter_chains(
    listener: &mut pb::Listener,
    names: &Names<'_>,
    at: &At<'_>,
) -> Result<(Vec<ChainSpec>, Option<ChainSpec>), Refused> {
    let at_chains = &at.field("filter_chains");
    let mut chains: Vec<ChainSpec> = Vec::new();
    for (index, chain) in std::mem::take(&mut listener.filter_chains)
        .into_iter()
        .enumerate()
    {
        let at = &at_chains.index(index);
        let chain = filter_chain::compile(chain, names, at)?;
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
            Some(filter_chain::compile(chain, names, at_default)?)
        }
        None => None,
    };
    if chains.is_empty() && default_chain.is_none() {
        return Err(at_chains.refuse("there is none"));
    }
    Ok((chains, default_chain))
}

/// Whether chains ask for what only the TLS inspector finds out, and it is not there.
fn needs_tls_inspector(filters: &[ListenerFilter], chains: &[ChainSpec]) -> bool {
    let asks = |chain: &ChainSpec| match chain.conditions.is_tls {
        Some(is_tls) => is_tls,
        None => {
            let conditions = &chain.conditions;
            !conditions.server_names.is_empty() || !conditions.application_protocols.is_empty()
        }
    };
    let is_there = |filter: &ListenerFilter| filter.kind == FilterKind::Tls;
    chains.iter().any(asks) && !filters.iter().any(is_there)
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
