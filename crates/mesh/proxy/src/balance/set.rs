//! Endpoints of which any may be chosen.

use crate::balance::alias::Alias;
use crate::balance::maglev::Maglev;
use crate::balance::members::Host;
use crate::balance::ring::Ring;
use crate::snapshot::{Balancing, Cluster, Endpoint};

/// Some endpoints of a cluster, and what the policy needs to choose among them.
#[derive(Debug, PartialEq)]
pub(super) struct Set {
    /// Places in the cluster's list.
    pub(super) members: Box<[u32]>,
    pub(super) weights: Box<[u32]>,
    /// All weights are the same.
    pub(super) is_even: bool,
    pub(super) table: Table,
    /// Since when each has been healthy, if new ones start slowly.
    pub(super) since: Box<[u64]>,
}

/// What was worked out beforehand.
#[derive(Debug, PartialEq)]
pub(super) enum Table {
    None,
    Alias(Alias),
    Ring(Ring),
    Maglev(Maglev),
}

impl Set {
    /// `shares` are the fractions of the load if they do not follow from the weights alone.
    pub(super) fn new(
        cluster: &Cluster,
        hosts: &[&Host],
        members: &[u32],
        shares: Option<&[f64]>,
    ) -> Self {
        let endpoints: Vec<&Endpoint> = members
            .iter()
            .map(|index| &cluster.endpoints[*index as usize])
            .collect();
        let weights: Vec<u32> = endpoints.iter().map(|one| one.weight.max(1)).collect();
        let is_even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let table = match &cluster.balancing {
            Balancing::RingHash(_) | Balancing::Maglev { .. } => {
                let names: Vec<String> = endpoints.iter().map(|one| name(cluster, one)).collect();
                let share = |index: usize| match shares {
                    Some(shares) => shares[index],
                    None => f64::from(weights[index]) / total,
                };
                let named = names.iter().enumerate();
                let named: Vec<_> = named.map(|(at, name)| (name.as_str(), share(at))).collect();
                Table::by_hash(&cluster.balancing, &named)
            }
            Balancing::Random if !is_even => Table::Alias(Alias::new(&weights)),
            _ => Table::None,
        };
        let since = cluster.spread.slow_start.map(|_| {
            let hosts = members.iter().map(|index| hosts[*index as usize]);
            hosts.map(Host::healthy_since).collect()
        });
        Self {
            members: members.into(),
            weights: weights.into(),
            is_even,
            table,
            since: since.unwrap_or_default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

impl Table {
    /// `shares` are the names of the endpoints and their fractions of the load.
    fn by_hash(policy: &Balancing, shares: &[(&str, f64)]) -> Self {
        match policy {
            Balancing::RingHash(options) => Self::Ring(Ring::new(shares, *options)),
            Balancing::Maglev { table_size } => Self::Maglev(Maglev::new(shares, *table_size)),
            _ => Self::None,
        }
    }
}

/// What is hashed of an endpoint: what its metadata says, or its host name, or its address.
fn name(cluster: &Cluster, endpoint: &Endpoint) -> String {
    let mut labels = endpoint.labels.iter();
    let said = labels.find(|(name, _)| name == "hash_key");
    let said = said.and_then(|(_, value)| serde_json::from_str::<String>(value).ok());
    match said {
        Some(said) if !said.is_empty() => said,
        _ if cluster.spread.hashes_hostnames && !endpoint.hostname.is_empty() => {
            endpoint.hostname.clone()
        }
        _ => endpoint.address.to_string(),
    }
}
