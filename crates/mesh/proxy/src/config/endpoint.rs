//! `ClusterLoadAssignment`: the endpoints of a cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3 as pb;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::endpoint::v3::endpoint::HealthCheckConfig;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

use super::check::{At, Refused, ignored, nothing_else};
use super::listener::host_and_port;
use super::{fraction, istio, subset, transport};
use crate::snapshot::{Endpoint, HostStatus, Labels, Locality, Spread, Transport};

const MAX_PRIORITY: u32 = 128;
const DEFAULT_OVERPROVISIONING: u32 = 140;

/// Checked endpoints.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) endpoints: Vec<Target>,
    localities: Vec<Locality>,
    overprovisioning: u32,
    weighs_health: bool,
    drops_per_million: u32,
}

impl Default for Assignment {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            localities: Vec::new(),
            overprovisioning: DEFAULT_OVERPROVISIONING,
            weighs_health: false,
            drops_per_million: 0,
        }
    }
}

/// One endpoint, whose host may still have to be resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
    hostname: String,
    weight: u32,
    priority: u32,
    locality: usize,
    status: HostStatus,
    /// What its metadata says for subsets,
    subset_labels: Labels,
    /// about its transport socket,
    transport_labels: transport::Labels,
    /// and about who it is.
    workload: Option<Arc<str>>,
    check: CheckedAt,
}

/// Where an endpoint is checked, if not at its address.
#[derive(Clone, Debug, Default, PartialEq)]
struct CheckedAt {
    address: Option<IpAddr>,
    port: Option<u16>,
    hostname: String,
    is_disabled: bool,
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

    /// The endpoints; `resolve` gives the addresses of a name, `choose` how connections are made.
    pub(crate) fn endpoints(
        &self,
        resolve: impl Fn(&str) -> Vec<IpAddr>,
        choose: impl Fn(&transport::Labels) -> Transport,
    ) -> Vec<Endpoint> {
        let of_target = |target: &Target| {
            let addresses = match &target.host {
                Host::Address(address) => vec![*address],
                Host::Name(name) => resolve(name),
            };
            let transport = choose(&target.transport_labels);
            let endpoints = addresses.into_iter().map(|address| Endpoint {
                transport: transport.clone(),
                ..target.at(address)
            });
            endpoints.collect::<Vec<_>>()
        };
        self.endpoints.iter().flat_map(of_target).collect()
    }

    /// The localities that the endpoints refer to.
    pub(crate) fn localities(&self) -> &[Locality] {
        &self.localities
    }

    /// The rules of a cluster, with what is said together with its endpoints.
    pub(crate) fn spread(&self, of_cluster: &Spread) -> Spread {
        Spread {
            overprovisioning: self.overprovisioning,
            weighs_health: self.weighs_health,
            drops_per_million: self.drops_per_million,
            ..of_cluster.clone()
        }
    }
}

impl Target {
    fn at(&self, address: IpAddr) -> Endpoint {
        let hostname = match &self.host {
            Host::Name(name) if self.hostname.is_empty() => name.clone(),
            _ => self.hostname.clone(),
        };
        let check = &self.check;
        let is_elsewhere = check.address.is_some() || check.port.is_some();
        Endpoint {
            hostname,
            weight: self.weight,
            priority: self.priority,
            locality: self.locality,
            status: self.status,
            labels: self.subset_labels.clone(),
            workload: self.workload.clone(),
            check_address: is_elsewhere.then(|| {
                let ip = check.address.unwrap_or(address);
                SocketAddr::new(ip, check.port.unwrap_or(self.port))
            }),
            check_hostname: check.hostname.clone(),
            is_unchecked: check.is_disabled,
            ..Endpoint::new(SocketAddr::new(address, self.port))
        }
    }
}

pub(crate) fn compile(
    mut assignment: pb::ClusterLoadAssignment,
    at: &At<'_>,
) -> Result<Assignment, Refused> {
    let mut compiled = Assignment::default();
    if let Some(rules) = assignment.policy.take() {
        policy(rules, &mut compiled, &at.field("policy"))?;
    }
    let at_localities = &at.field("endpoints");
    for (index, locality) in std::mem::take(&mut assignment.endpoints)
        .into_iter()
        .enumerate()
    {
        add_locality(&mut compiled, locality, &at_localities.index(index))?;
    }
    // The store has taken the name already.
    assignment.cluster_name.clear();
    nothing_else(&assignment, at)?;
    Ok(compiled)
}

fn policy(mut policy: Policy, into: &mut Assignment, at: &At<'_>) -> Result<(), Refused> {
    if let Some(factor) = policy.overprovisioning_factor.take() {
        if factor.value == 0 {
            let at = at.field("overprovisioning_factor");
            return Err(at.refuse("it must be at least 1"));
        }
        into.overprovisioning = factor.value;
    }
    into.weighs_health = std::mem::take(&mut policy.weighted_priority_health);
    let drops = std::mem::take(&mut policy.drop_overloads);
    let at_drops = &at.field("drop_overloads");
    if drops.len() > 1 {
        return Err(at_drops.refuse("only one category is supported"));
    }
    if let Some(drop) = drops.into_iter().next() {
        let at = &at_drops.index(0);
        let share = drop.drop_percentage.unwrap_or_default();
        into.drops_per_million = fraction::per_million(share, &at.field("drop_percentage"))?;
    }
    nothing_else(&policy, at)
}

fn add_locality(
    into: &mut Assignment,
    mut locality: pb::LocalityLbEndpoints,
    at: &At<'_>,
) -> Result<(), Refused> {
    let priority = std::mem::take(&mut locality.priority);
    if priority > MAX_PRIORITY {
        let reason = format!("it must not be more than {MAX_PRIORITY}");
        return Err(at.field("priority").refuse(reason));
    }
    let place = into.localities.len();
    let name = locality.locality.take().unwrap_or_default();
    let weight = locality.load_balancing_weight.take();
    into.localities.push(Locality {
        region: name.region,
        zone: name.zone,
        sub_zone: name.sub_zone,
        weight: weight.map_or(0, |weight| weight.value),
    });
    let at_endpoints = &at.field("lb_endpoints");
    for (index, endpoint) in std::mem::take(&mut locality.lb_endpoints)
        .into_iter()
        .enumerate()
    {
        let target = target(endpoint, &at_endpoints.index(index))?;
        into.endpoints.push(Target {
            priority,
            locality: place,
            ..target
        });
    }
    ignored!(locality: proximity, metadata);
    nothing_else(&locality, at)
}

fn target(mut endpoint: pb::LbEndpoint, at: &At<'_>) -> Result<Target, Refused> {
    let mut of_endpoint = match endpoint.host_identifier.take() {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            return Err(at.field("endpoint_name").refuse("is not supported"));
        }
        None => return Err(at.field("endpoint").refuse("it must be given")),
    };
    let at_endpoint = &at.field("endpoint");
    let (host, port) = host_and_port(of_endpoint.address.take(), &at_endpoint.field("address"))?;
    let hostname = std::mem::take(&mut of_endpoint.hostname);
    let check = match of_endpoint.health_check_config.take() {
        Some(config) => checked_at(config, &at_endpoint.field("health_check_config"))?,
        None => CheckedAt::default(),
    };
    ignored!(of_endpoint: observability_name);
    nothing_else(&of_endpoint, at_endpoint)?;
    let status = match HealthStatus::try_from(std::mem::take(&mut endpoint.health_status)) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) => HostStatus::Healthy,
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => HostStatus::Unhealthy,
        Ok(HealthStatus::Draining) => HostStatus::Draining,
        Ok(HealthStatus::Degraded) => HostStatus::Degraded,
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
    let transport_labels = transport::labels(endpoint.metadata.as_mut());
    let workload = istio::workload(endpoint.metadata.as_ref());
    let subset_labels = subset::labels(endpoint.metadata.take());
    nothing_else(&endpoint, at)?;
    Ok(Target {
        host: host.parse().map_or(Host::Name(host), Host::Address),
        port,
        hostname,
        weight,
        priority: 0,
        locality: 0,
        status,
        subset_labels,
        transport_labels,
        workload,
        check,
    })
}

fn checked_at(mut config: HealthCheckConfig, at: &At<'_>) -> Result<CheckedAt, Refused> {
    let port = std::mem::take(&mut config.port_value);
    let port = u16::try_from(port).map_err(|_| {
        let reason = format!("{port} is not a port");
        at.field("port_value").refuse(reason)
    })?;
    let mut checked = CheckedAt {
        port: (port > 0).then_some(port),
        hostname: std::mem::take(&mut config.hostname),
        is_disabled: std::mem::take(&mut config.disable_active_health_check),
        address: None,
    };
    if let Some(address) = config.address.take() {
        let at = &at.field("address");
        let (host, port) = host_and_port(Some::<core::Address>(address), at)?;
        let ip = host.parse();
        checked.address = Some(ip.map_err(|_| {
            let reason = format!("{host:?} is not an IP address");
            at.refuse(reason)
        })?);
        checked.port = checked.port.or(Some(port));
    }
    nothing_else(&config, at)?;
    Ok(checked)
}
