//! The routes that the listeners of intercepted connections ask for.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use periplus_resources::{GatewayRef, Port, Protocol};

use super::answers::unknown;
use super::intercept::Layout;
use super::outbound::{service_names, service_routes};
use super::proto::boolean;
use super::route::{Scope, routes, virtual_host};
use crate::index::Service;
use crate::names;

impl Layout<'_> {
    /// The routes of all services that speak, or may speak, HTTP on a port.
    pub(super) fn http_routes(self, port: u16) -> RouteConfiguration {
        let mut taken = BTreeSet::new();
        let mut hosts = Vec::new();
        let mut push = |name, mut domains: Vec<String>, routes| {
            domains.retain(|domain| taken.insert(domain.clone()));
            if !domains.is_empty() {
                hosts.push(virtual_host(name, domains, routes));
            }
        };
        for service in self.services() {
            let Some(own) = service.port(port) else {
                continue;
            };
            let has_address = self.addresses(service).next().is_some();
            let is_here =
                own.protocol.is_http() || own.protocol == Protocol::Detected && !has_address;
            if is_here {
                push(
                    names::host_port(service.host.as_str(), port),
                    self.names_of(service),
                    service_routes(self.index, self.proxy, service, own),
                );
            }
        }
        // Hosts that only rules know, reached on HTTP's own port.
        let entries = self.index.virtual_services().iter().filter(|_| port == 80);
        for entry in entries {
            let (spec, namespace) = (&entry.spec, &entry.meta.namespace);
            let is_visible = spec.export_to.reaches(namespace, &self.proxy.namespace);
            let is_for_mesh = spec.gateways.contains(&GatewayRef::Mesh);
            if !is_visible || !is_for_mesh || spec.http.is_empty() {
                continue;
            }
            let scope = Scope {
                index: self.index,
                proxy: self.proxy,
                gateway: None,
                port,
                is_secure: false,
            };
            for host in &spec.hosts {
                if self.index.service(host).is_none() && self.imports.covers(namespace, host) {
                    let name = names::host_port(host.as_str(), port);
                    push(name, vec![host.to_string()], routes(entry, scope));
                }
            }
        }
        self.route_configuration(port.to_string(), hosts)
    }

    /// The routes of a service that has an address of its own.
    pub(super) fn routes_of(
        self,
        name: &str,
        service: &Service,
        port: &Port,
    ) -> RouteConfiguration {
        let host = virtual_host(
            name.to_owned(),
            self.names_of(service),
            service_routes(self.index, self.proxy, service, port),
        );
        self.route_configuration(name.to_owned(), vec![host])
    }

    pub(super) fn route_configuration(
        self,
        name: String,
        mut hosts: Vec<VirtualHost>,
    ) -> RouteConfiguration {
        hosts.push(unknown(self.policy()));
        RouteConfiguration {
            name,
            virtual_hosts: hosts,
            validate_clusters: boolean(false),
            ignore_port_in_host_matching: true,
            ..RouteConfiguration::default()
        }
    }

    /// The names of a service, and where it is headless those of its pods, which have its own behind theirs.
    fn names_of(self, service: &Service) -> Vec<String> {
        let mut names = service_names(service, &self.proxy.namespace);
        if service.is_headless() {
            let pods: Vec<_> = names.iter().map(|name| format!("*.{name}")).collect();
            names.extend(pods);
        }
        names
    }
}
