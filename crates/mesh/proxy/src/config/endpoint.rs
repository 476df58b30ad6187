//! `ClusterLoadAssignment`: the endpoints of a cluster.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3 as pb;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

use super::check::{At, Refused, ignored, nothing_else};
use super::listener::host_and_port;
use super::transport::{self, Labels};
use crate::snapshot::{Endpoint, Transport};

/// Checked endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) endpoints: Vec<Target>,
}

/// One endpoint, whose host may still have to be resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) weight: u32,
    pub(crate) healthy: bool,
    /// What its metadata says about its transport socket.
    pub(crate) labels: Labels,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

impl Assignment {
    /// The names that have to be resolved.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.endpoints
            .iter()
            .filter_map(|target| match &target.host {
                Host::Name(name) => Some(name.as_str()),
                Host::Address(_) => None,
            })
    }

    /// Refuses endpoints whose addresses would have to be resolved.
    pub(crate) fn resolved(self) -> Result<Self, Refused> {
        if let Some(name) = self.names().next() {
            let reason = format!("{name:?} is not an IP address");
            return Err(At::ROOT.field("endpoints").refuse(reason));
        }
        Ok(self)
    }

    /// The endpoints to be used: the healthy ones or, when their share in percent is below the
    /// threshold, all. `resolve` gives the addresses of a name, `choose` how connections are made.
    pub(crate) fn usable(
        &self,
        panic_threshold: f64,
        resolve: impl Fn(&str) -> Vec<IpAddr>,
        choose: impl Fn(&Labels) -> Transport,
    ) -> Vec<Endpoint> {
        let all: Vec<(Endpoint, bool)> = self
            .endpoints
            .iter()
            .flat_map(|target| {
                let addresses = match &target.host {
                    Host::Address(address) => vec![*address],
                    Host::Name(name) => resolve(name),
                };
                let transport = choose(&target.labels);
                addresses.into_iter().map(move |address| {
                    let endpoint = Endpoint {
                        address: SocketAddr::new(address, target.port),
                        weight: target.weight,
                        transport: transport.clone(),
                    };
                    (endpoint, target.healthy)
                })
            })
            .collect();
        let healthy = all.iter().filter(|(_, healthy)| *healthy).count();
        let panics = (healthy as f64) * 100.0 < panic_threshold * all.len() as f64;
        all.into_iter()
            .filter(|(_, healthy)| *healthy || panics)
            .map(|(endpoint, _)| endpoint)
            .collect()
    }
}

pub(crate) fn compile(
    mut assignment: pb::ClusterLoadAssignment,
    at: &At<'_>,
) -> Result<Assignment, Refused> {
    if let Some(mut policy) = assignment.policy.take() {
        // There is one priority only, so that nothing can spill over.
        ignored!(policy: overprovisioning_factor, weighted_priority_health);
        nothing_else(&policy, &at.field("policy"))?;
    }
    let mut endpoints = Vec::new();
    let at_localities = &at.field("endpoints");
    for (index, locality) in std::mem::take(&mut assignment.endpoints)
        .into_iter()
        .enumerate()
    {
        add_locality(&mut endpoints, locality, &at_localities.index(index))?;
    }
    // The store has taken the name already.
    assignment.cluster_name.clear();
    nothing_else(&assignment, at)?;
    Ok(Assignment { endpoints })
}

fn add_locality(
    endpoints: &mut Vec<Target>,
    mut locality: pb::LocalityLbEndpoints,
    at: &At<'_>,
) -> Result<(), Refused> {
    let at_endpoints = &at.field("lb_endpoints");
    for (index, endpoint) in std::mem::take(&mut locality.lb_endpoints)
        .into_iter()
        .enumerate()
    {
        endpoints.push(target(endpoint, &at_endpoints.index(index))?);
    }
    if locality.priority > 0 {
        let reason = format!("{} is not supported, only 0 is", locality.priority);
        return Err(at.field("priority").refuse(reason));
    }
    ignored!(locality: locality, load_balancing_weight, proximity, metadata);
    nothing_else(&locality, at)
}

fn target(mut endpoint: pb::LbEndpoint, at: &At<'_>) -> Result<Target, Refused> {
    let mut at_endpoint = match endpoint.host_identifier.take() {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            return Err(at.field("endpoint_name").refuse("is not supported"));
        }
        None => return Err(at.field("endpoint").refuse("it must be given")),
    };
    let (host, port) = {
        let at = at.field("endpoint");
        let address = host_and_port(at_endpoint.address.take(), &at.field("address"))?;
        ignored!(at_endpoint: hostname, observability_name, health_check_config);
        nothing_else(&at_endpoint, &at)?;
        address
    };
    let healthy = match HealthStatus::try_from(std::mem::take(&mut endpoint.health_status)) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) => true,
        Ok(HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout) => false,
        Ok(HealthStatus::Degraded) => {
            return Err(at
                .field("health_status")
                .refuse("DEGRADED is not supported"));
        }
        Err(_) => return Err(at.field("health_status").refuse("is not known")),
    };
    let weight = endpoint
        .load_balancing_weight
        .take()
        .map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(at
            .field("load_balancing_weight")
            .refuse("it must be at least 1"));
    }
    let labels = transport::labels(endpoint.metadata.take());
    nothing_else(&endpoint, at)?;
    Ok(Target {
        host: host.parse().map_or(Host::Name(host), Host::Address),
        port,
        weight,
        healthy,
        labels,
    })
}
