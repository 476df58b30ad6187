//! Localities: endpoints by where they run, the nearest first if the mesh wants that.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints,
};
use periplus_resources::{Locality, LocalityBalancing, LocalityKind, TrafficPolicy, WorkloadEntry};

use super::proto::uint32;
use crate::index::{Index, MACHINE, Service};
use crate::proxy::Proxy;

/// What holds for a cluster, if anything does: the rule's setting, else the service's, else the mesh's; the first and the
/// last may turn it off.
fn setting<'a>(
    index: &'a Index,
    policy: &'a TrafficPolicy,
    service: &'a Service,
) -> Option<&'a LocalityBalancing> {
    let of_mesh = &index.mesh().locality;
    let balancer = policy.load_balancer.as_ref();
    let own = balancer.and_then(|balancer| balancer.locality.as_ref());
    let own = own.or_else(|| service.preference());
    let enabled = own.and_then(|own| own.enabled).or(of_mesh.enabled);
    enabled.unwrap_or(true).then_some(own.unwrap_or(of_mesh))
}

/// Endpoints of the same priority and place.
type Groups = BTreeMap<(u32, Locality), Vec<LbEndpoint>>;

/// Spreads the endpoints of a cluster, which are those of these workloads in their order.
pub(super) fn spread(
    (index, proxy): (&Index, &Proxy),
    (policy, service): (&TrafficPolicy, &Service),
    workloads: &[&WorkloadEntry],
    cluster: &mut Cluster,
    made: &mut ClusterLoadAssignment,
) {
    let setting = setting(index, policy, service);
    let is_of_service = setting.zip(service.preference());
    let is_of_service = is_of_service.is_some_and(|(one, other)| std::ptr::eq(one, other));
    let by_labels = setting.is_some_and(|it| matches!(it.kind, LocalityKind::Labels(_)));
    let has_places = workloads.iter().any(|one| !one.locality().is_unknown());
    if !has_places && !by_labels {
        return;
    }
    // Without outlier detection nobody would notice that there is a reason to go elsewhere, which services do not mind.
    let fails_over = cluster.outlier_detection.is_some() || is_of_service;
    let priority = |workload: &WorkloadEntry| match setting {
        Some(setting) if fails_over => priority(&setting.kind, proxy, workload),
        _ => 0,
    };
    let endpoints = made.endpoints.drain(..).flat_map(|it| it.lb_endpoints);
    let mut groups = Groups::new();
    for (endpoint, workload) in endpoints.zip(workloads) {
        let key = (priority(workload), workload.locality());
        groups.entry(key).or_default().push(endpoint);
    }
    let shares = match setting.map(|setting| &setting.kind) {
        Some(LocalityKind::Distribute(rules)) => {
            let mut rules = rules.iter();
            rules.find(|(from, _)| !proxy.locality.is_unknown() && proxy.locality.is_in(from))
        }
        _ => None,
    };
    let weights = match shares {
        Some((_, shares)) => weights(&mut groups, shares),
        None => groups.values().map(|all| weight(all)).collect(),
    };
    let mut priorities: Vec<u32> = groups.keys().map(|(priority, _)| *priority).collect();
    priorities.dedup();
    if setting.is_some() && groups.len() > 1 {
        let common = cluster.common_lb_config.get_or_insert_default();
        common.locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig::default(),
        ));
    }
    for (((priority, place), lb_endpoints), weight) in groups.into_iter().zip(weights) {
        let place = (!place.is_unknown()).then_some(core::Locality {
            region: place.region,
            zone: place.zone,
            sub_zone: place.sub_zone,
        });
        let number = priorities.iter().position(|known| *known == priority);
        made.endpoints.push(LocalityLbEndpoints {
            locality: place,
            lb_endpoints,
            load_balancing_weight: uint32(weight),
            priority: number.unwrap_or_default() as u32,
            ..LocalityLbEndpoints::default()
        });
    }
}

fn weight(endpoints: &[LbEndpoint]) -> u32 {
    let weights = endpoints.iter();
    let weights = weights.map(|one| one.load_balancing_weight.map_or(1, |weight| weight.value));
    weights.fold(0, u32::saturating_add)
}

/// How late an endpoint's turn comes; 0 is first.
fn priority(kind: &LocalityKind, proxy: &Proxy, workload: &WorkloadEntry) -> u32 {
    let own = &proxy.locality;
    let place = workload.locality();
    match kind {
        LocalityKind::Distribute(_) => 0,
        LocalityKind::Labels(labels) => {
            let matches = |label: &&String| {
                let (name, wanted) = match label.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None if *label == MACHINE && proxy.machine.is_some() => {
                        (MACHINE, proxy.machine.as_deref())
                    }
                    None => (label.as_str(), own.label(&proxy.labels, label)),
                };
                let of_machine = workload.machine.as_deref().filter(|_| name == MACHINE);
                wanted == of_machine.or_else(|| place.label(&workload.labels, name))
            };
            let matching = labels.iter().take_while(matches).count();
            (labels.len() - matching) as u32
        }
        LocalityKind::Nearest | LocalityKind::Failover(_) if own.is_unknown() => 0,
        LocalityKind::Nearest => own.distance(&place),
        LocalityKind::Failover(rules) => {
            let rule = rules.iter().find(|(from, _)| *from == own.region);
            match (own.distance(&place), rule) {
                (3, Some((_, to))) if *to != place.region => 4,
                (distance, _) => distance,
            }
        }
    }
}

/// The weights of places, in their order, so that each pattern gets its share. A place counts for the first
/// pattern that it is in; one that is in none gets nothing.
fn weights(groups: &mut Groups, shares: &BTreeMap<String, u32>) -> Vec<u32> {
    // The most special ones first, as a place is to count for these.
    let mut patterns: Vec<_> = shares.iter().collect();
    patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(specificity(pattern)));
    let chosen = |place: &Locality| {
        let mut patterns = patterns.iter();
        patterns.position(|(pattern, _)| place.is_in(pattern))
    };
    groups.retain(|(_, place), _| chosen(place).is_some());
    let mut totals = vec![0_u64; patterns.len()];
    for ((_, place), endpoints) in &*groups {
        if let Some(at) = chosen(place) {
            totals[at] += u64::from(weight(endpoints));
        }
    }
    let groups = groups.iter();
    groups
        .filter_map(|((_, place), endpoints)| {
            let at = chosen(place)?;
            let own = u64::from(weight(endpoints)) * u64::from(*patterns[at].1);
            u32::try_from(own.div_ceil(totals[at].max(1))).ok()
        })
        .collect()
}

fn specificity(pattern: &str) -> (usize, bool) {
    (pattern.split('/').count(), !pattern.ends_with('*'))
}
