//! The listeners of a sidecar whose connections are intercepted, in Istio's layout: one takes all
//! connections from the workload, and hands each to the listener of its destination, which is not bound to
//! any port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener,
};
use periplus_resources::{Host, OutboundPolicy, Port, Protocol};

use super::detection::{
    Inspectors, any_of_ports, http_inspector, looks_like_http, original_destination, tls_inspector,
};
use super::dynamic_dns::outbound_policy;
use super::listener::{Routes, http, tcp};
use super::proto::{address, boolean, duration, uint32};
use super::{Conflict, Generated, Imports, cluster, intercept_inbound};
use crate::index::{Index, Service};
use crate::names;
use crate::proxy::{Interception, Proxy};

/// Where the rules of the kernel send connections from the workload.
const OUTBOUND_PORT: u16 = 15001;

/// Ports whose connections need no looking at.
#[derive(Clone, Copy, Default)]
pub(super) struct Skipped<'a> {
    pub(super) tls: &'a [u16],
    pub(super) http: &'a [u16],
}

/// What listeners of a proxy are made from.
#[derive(Clone, Copy)]
pub(super) struct Layout<'a> {
    pub(super) index: &'a Index,
    pub(super) proxy: &'a Proxy,
    interception: Interception,
    pub(super) imports: Imports<'a>,
}

pub(super) fn add(
    index: &Index,
    proxy: &Proxy,
    (interception, imports): (Interception, Imports<'_>),
    made: &mut Generated,
) {
    let layout = Layout {
        index,
        proxy,
        interception,
        imports,
    };
    made.listeners.push(layout.virtual_outbound());
    intercept_inbound::add(layout, made);
    layout.add_destinations(made);
    made.clusters.push(cluster::black_hole(index));
    made.clusters.push(cluster::original_destination(
        index,
        names::PASSTHROUGH,
        Protocol::Detected,
        None,
    ));
}

impl<'a> Layout<'a> {
    /// All addresses, of the family of the proxy's own.
    pub(super) fn any_address(self) -> IpAddr {
        match self.proxy.ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The workload's clients are seen by it.
    pub(super) fn is_transparent(self) -> bool {
        matches!(self.interception, Interception::Transparent)
    }

    /// A listener that the kernel sends connections to.
    pub(super) fn intercepting(
        self,
        (name, port): (&str, u16),
        direction: TrafficDirection,
        chains: Vec<FilterChain>,
    ) -> Listener {
        Listener {
            name: name.to_owned(),
            address: address(self.any_address(), port),
            transparent: if self.is_transparent() {
                boolean(true)
            } else {
                None
            },
            filter_chains: chains,
            traffic_direction: direction.into(),
            ..Listener::default()
        }
    }

    fn virtual_outbound(self) -> Listener {
        let own = FilterChainMatch {
            destination_port: uint32(u32::from(OUTBOUND_PORT)),
            ..FilterChainMatch::default()
        };
        let guard = chain(
            "virtualOutbound-blackhole",
            Some(own),
            tcp(names::BLACK_HOLE),
        );
        let rest = chain("virtualOutbound-catchall-tcp", None, tcp(self.unknown()));
        let listener = Listener {
            use_original_dst: boolean(true),
            default_filter_chain: Some(rest),
            ..self.intercepting(
                ("virtualOutbound", OUTBOUND_PORT),
                TrafficDirection::Outbound,
                vec![guard],
            )
        };
        match self.policy() {
            OutboundPolicy::AllowAnyDynamicDns => self.by_name(listener),
            OutboundPolicy::AllowAny | OutboundPolicy::RegistryOnly => listener,
        }
    }

    /// A listener that sends requests where DNS says that their host is. As Envoy looks at first bytes before it hands a
    /// connection over to the listener of its destination, none are waited for at ports whose servers may speak first.
    fn by_name(self, mut listener: Listener) -> Listener {
        let name = names::ANY_BY_NAME_ROUTE;
        let routes = self.route_configuration(name.to_owned(), Vec::new());
        let filter = http(
            self.index,
            self.proxy,
            TrafficDirection::Outbound,
            (format!("outbound_virtualOutbound_{name};"), OUTBOUND_PORT),
            Routes::Inline(Box::new(routes)),
        );
        let requests = chain(
            "virtualOutbound-catchall-tcp-http",
            Some(looks_like_http()),
            filter,
        );
        listener.filter_chains.push(requests);
        let ports = self.services().flat_map(|service| service.ports());
        let ports = ports.filter(|port| port.protocol == Protocol::Tcp);
        let ports = ports.map(|port| port.number);
        let ports: BTreeSet<u16> = ports.chain(Protocol::SERVER_FIRST).collect();
        let skipped = Skipped {
            http: &ports.into_iter().collect::<Vec<_>>(),
            ..Skipped::default()
        };
        let inspectors = Inspectors {
            http: true,
            ..Inspectors::default()
        };
        // The port is that of the destination from then on.
        listener.listener_filters.push(original_destination());
        self.inspecting(listener, inspectors, skipped)
    }

    pub(super) fn policy(self) -> OutboundPolicy {
        outbound_policy(self.index, self.imports.0)
    }

    /// The cluster of connections to destinations that nobody describes.
    pub(super) fn unknown(self) -> &'static str {
        match self.policy() {
            OutboundPolicy::AllowAny | OutboundPolicy::AllowAnyDynamicDns => names::PASSTHROUGH,
            OutboundPolicy::RegistryOnly => names::BLACK_HOLE,
        }
    }

    pub(super) fn services(self) -> impl Iterator<Item = &'a Service> {
        let imports = self.imports;
        let imported = move |namespace: &str, host: &Host| imports.covers(namespace, host);
        self.index.seen_from(&self.proxy.namespace, imported)
    }

    /// The service's own addresses that the proxy's clients may connect to.
    pub(super) fn addresses(self, service: &'a Service) -> impl Iterator<Item = IpAddr> {
        let family = self.proxy.ip.is_ipv4();
        let addresses = service.spec.addresses.iter().copied();
        addresses.filter(move |ip| ip.is_ipv4() == family)
    }

    /// The addresses that connections to a service go to: its own; where it is headless those of its endpoints; else any.
    fn binds(self, service: &'a Service) -> BTreeSet<IpAddr> {
        let own: BTreeSet<_> = self.addresses(service).collect();
        if !own.is_empty() {
            return own;
        }
        match service.is_headless() {
            true => {
                let endpoints = service.endpoints.iter();
                let endpoints = endpoints.filter_map(|one| one.address.ip());
                let family = self.proxy.ip.is_ipv4();
                endpoints.filter(|ip| ip.is_ipv4() == family).collect()
            }
            false => BTreeSet::from([self.any_address()]),
        }
    }

    /// The listeners of what the workload may connect to.
    fn add_destinations(self, made: &mut Generated) {
        let any = self.any_address();
        let mut http_ports = BTreeSet::new();
        let mut others: BTreeMap<(IpAddr, u16), Vec<(&Service, &Port)>> = BTreeMap::new();
        for service in self.services() {
            let binds = self.binds(service);
            for port in service.ports() {
                if port.protocol.is_http() {
                    http_ports.insert(port.number);
                    continue;
                }
                for bind in &binds {
                    others
                        .entry((*bind, port.number))
                        .or_default()
                        .push((service, port));
                }
            }
        }
        for port in &http_ports {
            self.add_http(*port, made);
        }
        for ((bind, number), served) in others {
            let served: Vec<_> = if bind == any && http_ports.contains(&number) {
                // Those that nobody describes have found their place among the HTTP services.
                let is_left = |(_, port): &&(&Service, &Port)| port.protocol != Protocol::Detected;
                for (service, port) in served.iter().filter(is_left) {
                    let what = format!(
                        "port {} ({}) of {} has no listener: HTTP services share that port, give the \
                         service an address of its own",
                        port.number, port.name, service.host
                    );
                    made.conflicts.push((Conflict::TcpOverHttp, what));
                }
                Vec::new()
            } else {
                served
            };
            if !served.is_empty() {
                self.add_other((bind, number), &served, made);
            }
        }
    }

    /// The listener and the routes that all HTTP services on a port share.
    fn add_http(self, port: u16, made: &mut Generated) {
        let any = self.any_address();
        let filter = self.http_filter(any, port, port.to_string());
        made.listeners
            .push(self.unbound((any, port), vec![chain("", None, filter)]));
        made.routes.push(self.http_routes(port));
    }

    pub(super) fn http_filter(self, bind: IpAddr, port: u16, routes: String) -> Filter {
        http(
            self.index,
            self.proxy,
            TrafficDirection::Outbound,
            (names::stat_prefix("outbound", bind, port), port),
            Routes::Named(routes),
        )
    }

    /// A listener that gets its connections from `virtualOutbound`.
    pub(super) fn unbound(self, (bind, port): (IpAddr, u16), chains: Vec<FilterChain>) -> Listener {
        Listener {
            name: names::listener(bind, port),
            address: address(bind, port),
            bind_to_port: boolean(false),
            filter_chains: chains,
            traffic_direction: TrafficDirection::Outbound.into(),
            ..Listener::default()
        }
    }

    /// A listener that looks at the first bytes of connections, but for those to some ports.
    pub(super) fn inspecting(
        self,
        mut listener: Listener,
        inspectors: Inspectors,
        skipped: Skipped<'_>,
    ) -> Listener {
        let filters = &mut listener.listener_filters;
        if inspectors.tls {
            filters.push(tls_inspector(any_of_ports(skipped.tls)));
        }
        if inspectors.http {
            filters.push(http_inspector(any_of_ports(skipped.http)));
        }
        listener.listener_filters_timeout = duration(self.index.mesh().protocol_detection_timeout);
        listener.continue_on_listener_filters_timeout = true;
        listener
    }
}

/// A filter chain of one filter.
pub(super) fn chain(
    name: &str,
    conditions: Option<FilterChainMatch>,
    filter: Filter,
) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: conditions,
        filters: vec![filter],
        ..FilterChain::default()
    }
}
