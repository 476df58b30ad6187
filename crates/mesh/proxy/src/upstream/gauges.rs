//! What is counted of clusters for all workers together.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::snapshot::{Cluster, Thresholds};
use crate::stats::Group;
use crate::upstream::Usage;
use crate::upstream::usage::Used;

/// Adds the members of a cluster, its circuit breakers, and what checks and detection have counted.
pub(crate) fn add_gauges(cluster: &Cluster, usage: &Usage, sums: &mut BTreeMap<String, u64>) {
    let name = &cluster.name;
    let mut put = |what: &str, value: u64| {
        sums.insert(format!("cluster.{name}.{what}"), value);
    };
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
            put(what, value);
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
