//! The clusters that a rule leads to, the workloads behind them, and whether those let the request in.

use std::net::SocketAddr;

use periplus_control::Workload;
use periplus_proxy::explain::{self, Asked, Explained, Explainer, Security, Tokens};
use periplus_proxy::snapshot::Direction;
use periplus_resources::Host;

use super::CLIENT_PORT;
use super::report::{Decision, Destination, Endpoint, Step, allowed};
use super::scene::{Scene, origin};
use crate::commands::authz;

/// A request as it comes to the workloads behind a cluster.
#[derive(Clone, Copy)]
pub(super) struct Behind<'a> {
    pub(super) head: &'a str,
    pub(super) tokens: Tokens<'a>,
    /// The server that the client asks for by TLS of its own, which nobody ends.
    pub(super) server_name: Option<&'a str>,
}

impl Scene {
    /// The clusters of these weights, with all that answers there.
    pub(super) fn destinations(
        &self,
        from: &Workload,
        explainer: &Explainer,
        clusters: &[(String, u32)],
        behind: Behind<'_>,
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
                let one = self.endpoint(from, (endpoint.address, is_secured), behind)?;
                destination.endpoints.push(one);
            }
            let elsewhere = cluster.original_destination.as_ref();
            let elsewhere = elsewhere.filter(|_| cluster.endpoints.is_empty());
            destination.is_elsewhere = elsewhere.is_some();
            destination.is_looked_up = elsewhere.is_some_and(|options| options.is_by_name);
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
        let service = service.and_then(|host| self.index.service_for(&from.proxy, &host));
        let rules = service.map(|service| {
            let client = from.proxy.as_client();
            self.index.connection_rules(client, service)
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
        (address, is_secured): (SocketAddr, bool),
        behind: Behind<'_>,
    ) -> anyhow::Result<Endpoint> {
        let mut endpoint = Endpoint {
            address: address.to_string(),
            mutual_tls: is_secured,
            allowed: Some(true),
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
        let (mode, by) = self.index.mutual_tls(&workload.proxy, address.port());
        endpoint.peer_authentication =
            by.map(|meta| Step::new(authz::mode(mode), vec![origin(meta)]));
        let principal = from.principal(&self.index);
        let asked = Asked {
            head: behind.head.as_bytes(),
            from: SocketAddr::new(from.proxy.ip, CLIENT_PORT),
            to: address,
            security: match (is_secured, behind.server_name) {
                (true, _) => Security::Mesh(principal.as_deref()),
                (false, Some(name)) => Security::Tls(name),
                (false, None) => Security::Plaintext,
            },
            tokens: behind.tokens,
        };
        match explainer.explain(listener, &asked) {
            Explained::Request(routed) => {
                endpoint.others = self.steps(&workload.proxy, &routed.others, None);
                endpoint.refusal = (routed.refused).map(|(status, why)| format!("{status}, {why}"));
                endpoint.decisions = self.decisions(&routed.decisions);
            }
            Explained::Passed {
                decisions, others, ..
            } => {
                endpoint.others = self.steps(&workload.proxy, &others, None);
                endpoint.decisions = self.decisions(&decisions);
            }
            Explained::NoChain => {
                let why = match is_secured {
                    true => "it does not take mutual TLS",
                    false => "it takes nothing but mutual TLS",
                };
                endpoint.refusal = Some(why.to_owned());
            }
            Explained::Refused { status, reason } => {
                endpoint.refusal = Some(format!("{status}, {reason}"));
            }
        }
        endpoint.allowed = match endpoint.refusal {
            Some(_) => Some(false),
            None => allowed(&endpoint.decisions),
        };
        Ok(endpoint)
    }

    /// Decisions, and where their policies are written.
    pub(super) fn decisions(&self, decisions: &[explain::Decision]) -> Vec<Decision> {
        decisions.iter().map(|one| self.decision(one)).collect()
    }
}
