//! The clusters that a rule leads to, the workloads behind them, and whether those let the request in.

use std::net::SocketAddr;

use periplus_control::Workload;
use periplus_proxy::explain::{Asked, Explained, Explainer};
use periplus_proxy::snapshot::Direction;
use periplus_resources::Host;

use super::CLIENT_PORT;
use super::report::{Destination, Endpoint};
use super::scene::{Scene, origin};

impl Scene {
    /// The clusters of these weights, with all that answers there.
    pub(super) fn destinations(
        &self,
        from: &Workload,
        explainer: &Explainer,
        clusters: &[(String, u32)],
        head: &str,
    ) -> anyhow::Result<Vec<Destination>> {
        let total: u32 = clusters.iter().map(|(_, weight)| weight).sum();
        let mut destinations = Vec::new();
        for (name, weight) in clusters {
            let percent = f64::from(*weight) * 100.0 / f64::from(total.max(1));
            let mut destination = self.destination(from, name);
            destination.percent = percent;
            let Some(cluster) = explainer.cluster(name) else {
                destination.is_missing = true;
                destinations.push(destination);
                continue;
            };
            for endpoint in &cluster.endpoints {
                let is_secured = endpoint.transport.tls.is_some();
                let one = self.endpoint(from, endpoint.address, (is_secured, head))?;
                destination.endpoints.push(one);
            }
            destination.is_elsewhere =
                cluster.endpoints.is_empty() && cluster.original_destination.is_some();
            destinations.push(destination);
        }
        Ok(destinations)
    }

    /// What the name of a cluster says: `outbound|PORT|SUBSET|HOST`.
    fn destination(&self, from: &Workload, cluster: &str) -> Destination {
        let parts: Vec<&str> = cluster.splitn(4, '|').collect();
        let (subset, host) = match parts[..] {
            [_, _, subset, host] => (subset, host),
            _ => ("", cluster),
        };
        let service = Host::parse(host).ok();
        let service = service.and_then(|host| self.index.service(&host));
        let rules = service.map(|service| {
            let namespace = &from.proxy.namespace;
            self.index.connection_rules(namespace, service)
        });
        // /apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME
        let path = rules.and_then(|rules| rules.origin);
        let rule = path.as_deref().and_then(|path| {
            let parts: Vec<&str> = path.split('/').collect();
            let [.., namespace, _, name] = parts[..] else {
                return None;
            };
            let mut rules = self.index.destination_rules().iter();
            rules.find(|entry| entry.meta.namespace == namespace && entry.meta.name == name)
        });
        Destination {
            cluster: cluster.to_owned(),
            host: host.to_owned(),
            subset: subset.to_owned(),
            service: service.map(|service| origin(&service.meta)),
            destination_rule: rule.map(|entry| origin(&entry.meta)),
            ..Destination::default()
        }
    }

    /// A workload, and what its own proxy makes of the request.
    fn endpoint(
        &self,
        from: &Workload,
        address: SocketAddr,
        (is_secured, head): (bool, &str),
    ) -> anyhow::Result<Endpoint> {
        let mut endpoint = Endpoint {
            address: address.to_string(),
            mutual_tls: is_secured,
            allowed: true,
            ..Endpoint::default()
        };
        let all = self.index.described();
        let is_there = |one: &&Workload| {
            let mut ports = one.ports.values();
            one.proxy.ip == address.ip()
                && (one.ports.is_empty() || ports.any(|port| *port == address.port()))
        };
        let Some(workload) = all.iter().find(is_there) else {
            return Ok(endpoint);
        };
        endpoint.workload = Some(workload.name());
        endpoint.source = Some(workload.meta.source.to_string());
        let explainer = self.explainer(&workload.proxy)?;
        // What an intercepted workload calls itself may have the port that it serves.
        let inbound = explainer.listeners().iter();
        let mut inbound = inbound.filter(|listener| listener.direction == Direction::Inbound);
        let is_at = |at: SocketAddr| {
            at == address || (at.port() == address.port() && at.ip().is_unspecified())
        };
        let listener = inbound.clone().find(|listener| is_at(listener.address));
        let Some(listener) = listener.or_else(|| inbound.find(|it| it.name == "virtualInbound"))
        else {
            return Ok(endpoint);
        };
        let principal = from.principal(&self.index);
        let principal = principal.filter(|_| is_secured);
        let asked = Asked {
            head: head.as_bytes(),
            from: SocketAddr::new(from.proxy.ip, CLIENT_PORT),
            to: address,
            principal: principal.as_deref(),
        };
        let decisions = match explainer.explain(listener, &asked) {
            Explained::Request(routed) => {
                endpoint.others = routed.others;
                routed.decisions
            }
            Explained::Passed { decisions, .. } => decisions,
            Explained::NoChain => {
                endpoint.allowed = false;
                endpoint.refusal = Some(match is_secured {
                    true => "it does not take mutual TLS",
                    false => "it takes nothing but mutual TLS",
                });
                return Ok(endpoint);
            }
            Explained::Refused { reason, .. } => {
                endpoint.allowed = false;
                endpoint.refusal = Some(reason);
                return Ok(endpoint);
            }
        };
        endpoint.decisions = decisions.iter().map(|one| self.decision(one)).collect();
        endpoint.allowed = endpoint
            .decisions
            .iter()
            .all(|one| one.allowed || one.is_dry_run);
        Ok(endpoint)
    }
}
