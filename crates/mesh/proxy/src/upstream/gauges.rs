//! What is counted of clusters for all workers together.

use std::sync::atomic::Ordering;

use crate::snapshot::{Cluster, Thresholds};
use crate::stats::{Group, Scope, Sums, Value};
use crate::upstream::Usage;
use crate::upstream::usage::Used;

/// Adds the members of a cluster, its circuit breakers, and what checks and detection have counted.
pub(crate) fn add_gauges(cluster: &Cluster, usage: &Usage, sums: &mut Sums) {
    let scope = Scope::of("cluster", &cluster.name);
    let mut put = |what: &str, value: u64| sums.add(&scope, what, Value::Gauge(value));
    let members = cluster.members();
    let counts = members.counts();
    put("membership_total", counts.total);
    put("membership_healthy", counts.healthy);
    put("membership_degraded", counts.degraded);
    put("membership_excluded", counts.excluded);
    add_breakers("default", &cluster.limits.default, &usage.default, &mut put);
    add_breakers("high", &cluster.limits.high, &usage.high, &mut put);
    members.stats.visit(&mut |what, value| {
        let is_meant = match what.split('.').next() {
            Some("health_check") => cluster.health_check.is_some(),
            _ => cluster.outlier_detection.is_some(),
        };
        if is_meant {
            sums.add(&scope, what, value);
        }
    });
}

fn add_breakers(priority: &str, limits: &Thresholds, used: &Used, put: &mut impl FnMut(&str, u64)) {
    for (open, remaining, limit, used) in [
        (
            "cx_open",
            "remaining_cx",
            limits.max_connections,
            &used.connections,
        ),
        (
            "rq_pending_open",
            "remaining_pending",
            limits.max_pending_requests,
            &used.pending,
        ),
        (
            "rq_open",
            "remaining_rq",
            limits.max_requests,
            &used.requests,
        ),
        (
            "rq_retry_open",
            "remaining_retries",
            limits.max_retries,
            &used.retries,
        ),
    ] {
        let used = used.load(Ordering::Relaxed);
        put(
            &format!("circuit_breakers.{priority}.{open}"),
            u64::from(used >= limit),
        );
        if limits.tracks_remaining {
            let left = limit.saturating_sub(used);
            put(
                &format!("circuit_breakers.{priority}.{remaining}"),
                left.into(),
            );
        }
    }
}
