//! `CircuitBreakers`.

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as EnvoyThresholds;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as EnvoyBudget;
use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::check::{At, Refused, ignored, nothing_else};
use crate::snapshot::{ClusterLimits, RetryBudget, Thresholds};

pub(super) fn compile(
    mut breakers: pb::CircuitBreakers,
    at: &At<'_>,
) -> Result<ClusterLimits, Refused> {
    let mut limits = ClusterLimits::default();
    let at_thresholds = &at.field("thresholds");
    let thresholds = std::mem::take(&mut breakers.thresholds);
    let mut seen = Vec::new();
    for (index, threshold) in thresholds.into_iter().enumerate() {
        let at = &at_thresholds.index(index);
        let priority = threshold.priority;
        // The first of a priority counts, as for Envoy.
        let is_first = !seen.contains(&priority);
        seen.push(priority);
        let compiled = of_threshold(threshold, at)?;
        match RoutingPriority::try_from(priority) {
            Ok(RoutingPriority::Default) if is_first => limits.default = compiled,
            Ok(RoutingPriority::High) if is_first => limits.high = compiled,
            Ok(_) => {}
            Err(_) => return Err(at.field("priority").refuse("is not known")),
        }
    }
    let at_hosts = &at.field("per_host_thresholds");
    let per_host = std::mem::take(&mut breakers.per_host_thresholds);
    for (index, mut threshold) in per_host.into_iter().enumerate() {
        let at = &at_hosts.index(index);
        let most = threshold.max_connections.take().map(|most| most.value);
        if threshold.priority == RoutingPriority::Default as i32 {
            limits.connections_per_host = most;
        }
        threshold.priority = 0;
        nothing_else(&threshold, at)?;
    }
    nothing_else(&breakers, at)?;
    Ok(limits)
}

fn of_threshold(mut threshold: EnvoyThresholds, at: &At<'_>) -> Result<Thresholds, Refused> {
    let unset = Thresholds::default();
    let value = |value: Option<UInt32Value>, unset: u32| value.map_or(unset, |value| value.value);
    let retry_budget = match threshold.retry_budget.take() {
        Some(budget) => Some(retry_budget(budget, &at.field("retry_budget"))?),
        None => None,
    };
    // What has no limit is not counted, but a budget is a share of what is.
    let counted = |most: u32| match retry_budget {
        Some(_) => most.min(u32::MAX - 1),
        None => most,
    };
    let compiled = Thresholds {
        max_connections: value(threshold.max_connections.take(), unset.max_connections),
        max_pending_requests: counted(value(
            threshold.max_pending_requests.take(),
            unset.max_pending_requests,
        )),
        max_requests: counted(value(threshold.max_requests.take(), unset.max_requests)),
        max_retries: value(threshold.max_retries.take(), unset.max_retries),
        retry_budget,
        tracks_remaining: std::mem::take(&mut threshold.track_remaining),
    };
    ignored!(threshold: priority);
    nothing_else(&threshold, at)?;
    Ok(compiled)
}

fn retry_budget(mut budget: EnvoyBudget, at: &At<'_>) -> Result<RetryBudget, Refused> {
    let percent = budget.budget_percent.take();
    let percent = percent.map_or(20.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&percent) {
        return Err(at.field("budget_percent").refuse("it must be 0 to 100"));
    }
    let least = budget.min_retry_concurrency.take();
    nothing_else(&budget, at)?;
    Ok(RetryBudget {
        per_million: (percent * 10_000.0).round() as u32,
        least: least.map_or(3, |least| least.value),
    })
}
