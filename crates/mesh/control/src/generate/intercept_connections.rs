//! The listeners of intercepted connections that are not, or not surely, HTTP.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChainMatch, Listener};
use periplus_resources::{Port, Protocol, VirtualService};

use super::connection::{self, Chains, connections};
use super::detection::{Inspectors, looks_like_http};
use super::intercept::{Layout, Skipped, chain};
use super::listener::{tcp, tcp_until};
use super::route::Scope;
use super::{Conflict, Generated};
use crate::index::{Entry, Service};
use crate::names;

impl<'a> Layout<'a> {
    /// The listener of what is not, or not surely, HTTP. Of several services that nothing tells apart the
    /// first one counts.
    pub(super) fn add_other(
        self,
        (bind, number): (IpAddr, u16),
        served: &[(&Service, &Port)],
        made: &mut Generated,
    ) {
        let is_shared = bind == self.any_address();
        let mut chains = Chains::default();
        let mut inspectors = Inspectors::default();
        let mut rest: Option<&Service> = None;
        let mut is_routed = false;
        for (service, port) in served {
            let host = service.host.as_str();
            let subnets = self.subnets(service);
            if is_shared && !subnets.is_empty() {
                inspectors.http |= port.protocol == Protocol::Detected;
                inspectors.tls |= port.protocol != Protocol::Tcp;
                self.add_block(subnets, (service, port), &mut chains, made);
                continue;
            }
            match port.protocol {
                Protocol::Tls => {
                    inspectors.tls = true;
                    self.add_tls(service, number, &mut chains);
                    // At a pod of its own, whatever name of the pod its client asks for.
                    if service.is_headless() {
                        rest.get_or_insert(service);
                    }
                }
                // What is no HTTP there goes where its client wanted to go.
                Protocol::Detected if is_shared => {
                    inspectors = Inspectors::BOTH;
                    if !is_routed {
                        is_routed = true;
                        let filter = self.http_filter(bind, number, number.to_string());
                        let filtered = chain("", Some(looks_like_http()), filter);
                        chains.list.push(filtered);
                        made.routes.push(self.http_routes(number));
                    }
                }
                _ if let Some(first) = rest => {
                    let (first, why) = match service.is_headless() {
                        true => (&first.host, "the two have pods in common"),
                        false => (&first.host, "give the service an address of its own"),
                    };
                    let note = format!(
                        "port {number} ({}) of {host} has no listener: {first} has it, {why}",
                        port.name
                    );
                    let conflict = (Conflict::TcpOverTcp, note);
                    if !made.conflicts.contains(&conflict) {
                        made.conflicts.push(conflict);
                    }
                }
                Protocol::Detected => {
                    inspectors = Inspectors::BOTH;
                    let routes = names::host_port(host, number);
                    let filter = self.http_filter(bind, number, routes.clone());
                    let filtered = chain("", Some(looks_like_http()), filter);
                    chains.list.push(filtered);
                    // The listeners of several addresses of a service share them.
                    if made.routes.iter().all(|one| one.name != routes) {
                        made.routes.push(self.routes_of(&routes, service, port));
                    }
                    rest = Some(service);
                }
                _ => rest = Some(service),
            }
        }
        let named_rest = match rest {
            Some(service) => {
                let rules = self.rules_of(service, number);
                let connections = rules.map(|(entry, scope)| connections(entry, scope));
                let connections = connections.unwrap_or_default();
                for (conditions, filter) in connections.of_subnets {
                    chains.list.push(chain("", Some(conditions), filter));
                }
                let to = || self.to_service(service, number);
                chain("", None, connections.rest.unwrap_or_else(to))
            }
            None => chain("PassthroughFilterChain", None, tcp(self.unknown())),
        };
        made.listeners.push(Listener {
            default_filter_chain: Some(named_rest),
            ..self.inspecting(
                self.unbound((bind, number), chains.list),
                inspectors,
                Skipped::default(),
            )
        });
    }

    /// What a VirtualService says about a service, and where that holds.
    fn rules_of(
        self,
        service: &Service,
        port: u16,
    ) -> Option<(&'a Entry<VirtualService>, Scope<'a>)> {
        let entry = self
            .index
            .mesh_routing(&self.proxy.namespace, &service.host)?;
        Some((entry, self.scope(port)))
    }

    fn scope(self, port: u16) -> Scope<'a> {
        Scope {
            index: self.index,
            proxy: self.proxy,
            gateway: None,
            port,
            is_secure: false,
        }
    }

    /// The chains of TLS to a service: those of its rules, else the one of its name.
    fn add_tls(self, service: &Service, port: u16, chains: &mut Chains) {
        let mut is_routed = false;
        if let Some((entry, scope)) = self.rules_of(service, port) {
            for (names, subnets, to) in connection::tls(entry, scope) {
                is_routed = true;
                chains.add(names, &subnets, vec![to]);
            }
        }
        if !is_routed {
            let to = self.to_service(service, port);
            chains.add(std::slice::from_ref(&service.host), &[], vec![to]);
        }
    }

    /// The chains of connections to a service's blocks of addresses.
    fn add_block(
        self,
        subnets: Vec<CidrRange>,
        (service, port): (&Service, &Port),
        chains: &mut Chains,
        made: &mut Generated,
    ) {
        let number = port.number;
        let block = FilterChainMatch {
            prefix_ranges: subnets,
            ..FilterChainMatch::default()
        };
        if port.protocol == Protocol::Detected {
            let routes = number.to_string();
            let filter = self.http_filter(self.any_address(), number, routes.clone());
            let conditions = FilterChainMatch {
                prefix_ranges: block.prefix_ranges.clone(),
                ..looks_like_http()
            };
            chains.list.push(chain("", Some(conditions), filter));
            if made.routes.iter().all(|one| one.name != routes) {
                made.routes.push(self.http_routes(number));
            }
        }
        let to = self.to_service(service, number);
        chains.list.push(chain("", Some(block), to));
    }

    /// The service's own blocks of addresses, of the family of the proxy's own.
    fn subnets(self, service: &Service) -> Vec<CidrRange> {
        let family = self.proxy.ip.is_ipv4();
        let blocks = service.spec.subnets.iter().copied();
        let blocks: Vec<_> = blocks.filter(|(ip, _)| ip.is_ipv4() == family).collect();
        connection::ranges(&blocks)
    }

    /// A TCP proxy to a service.
    fn to_service(self, service: &Service, port: u16) -> Filter {
        let to = names::outbound_cluster(port, "", service.host.as_str());
        let idle_timeout = self.scope(port).tcp_idle_timeout(&service.host, "", port);
        tcp_until(&to, idle_timeout)
    }
}
