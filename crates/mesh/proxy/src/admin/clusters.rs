//! The clusters and listeners that are in use: `/clusters` and `/listeners`.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::dump::socket;
use crate::agent::State;
use crate::balance::{Host, HostFlag};
use crate::snapshot::{Cluster, Endpoint, HostStatus, Thresholds};

/// Envoy's `/clusters`: one fact a line.
pub(super) fn text(state: &State) -> String {
    let mut text = String::new();
    for (name, slot) in state.store.clusters() {
        let Some(active) = &slot.active else {
            continue;
        };
        let cluster = &active.built;
        let mut line = |fact: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}::{fact}");
        };
        line(format!(
            "observability_name::{}",
            cluster.observability_name
        ));
        for (priority, limits) in [
            ("default", cluster.limits.default),
            ("high", cluster.limits.high),
        ] {
            for (what, limit) in [
                ("connections", limits.max_connections),
                ("pending_requests", limits.max_pending_requests),
                ("requests", limits.max_requests),
            ] {
                line(format!("{priority}_priority::max_{what}::{limit}"));
            }
        }
        line("added_via_api::true".to_owned());
        let members = cluster.members();
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            let address = endpoint.address;
            let locality = cluster.localities.get(endpoint.locality);
            let locality = locality.cloned().unwrap_or_default();
            let flags = members.host(index).flags_text(endpoint);
            line(format!("{address}::hostname::{}", endpoint.hostname));
            line(format!("{address}::health_flags::{flags}"));
            line(format!("{address}::weight::{}", endpoint.weight));
            line(format!("{address}::region::{}", locality.region));
            line(format!("{address}::zone::{}", locality.zone));
            line(format!("{address}::sub_zone::{}", locality.sub_zone));
            line(format!("{address}::priority::{}", endpoint.priority));
        }
    }
    text
}

/// Envoy's `/clusters?format=json`.
pub(super) fn json(state: &State) -> Json {
    let active = state.store.clusters().values();
    let active = active.filter_map(|slot| Some(&*slot.active.as_ref()?.built));
    json!({"cluster_statuses": active.map(status).collect::<Vec<_>>()})
}

fn status(cluster: &Cluster) -> Json {
    let members = cluster.members();
    let endpoints = cluster.endpoints.iter().enumerate();
    let hosts: Vec<_> = endpoints
        .map(|(index, endpoint)| host_status(cluster, endpoint, members.host(index)))
        .collect();
    let mut status = json!({
        "name": cluster.name,
        "added_via_api": true,
        "circuit_breakers": {"thresholds": [
            thresholds(&cluster.limits.default, None),
            thresholds(&cluster.limits.high, Some("HIGH")),
        ]},
        "observability_name": cluster.observability_name,
    });
    // Protobuf's JSON has no empty lists.
    if !hosts.is_empty() {
        status["host_statuses"] = hosts.into();
    }
    status
}

fn thresholds(limits: &Thresholds, priority: Option<&str>) -> Json {
    let mut shown = json!({
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.max_pending_requests,
        "max_requests": limits.max_requests,
        "max_retries": limits.max_retries,
    });
    if let Some(priority) = priority {
        shown["priority"] = priority.into();
    }
    shown
}

fn host_status(cluster: &Cluster, endpoint: &Endpoint, host: &Host) -> Json {
    let mut health = json!({"eds_health_status": match endpoint.status {
        HostStatus::Healthy => "HEALTHY",
        HostStatus::Degraded => "DEGRADED",
        HostStatus::Unhealthy => "UNHEALTHY",
        HostStatus::Draining => "DRAINING",
    }});
    for (flag, name) in [
        (HostFlag::FailedCheck, "failed_active_health_check"),
        (HostFlag::Ejected, "failed_outlier_check"),
        (HostFlag::Degraded, "failed_active_degraded_check"),
        (HostFlag::Leaving, "pending_dynamic_removal"),
        (HostFlag::Unchecked, "pending_active_hc"),
        (HostFlag::TimedOut, "active_hc_timeout"),
    ] {
        if host.has(flag) {
            health[name] = true.into();
        }
    }
    let locality = cluster.localities.get(endpoint.locality);
    let locality = locality.cloned().unwrap_or_default();
    let named = [
        ("region", &locality.region),
        ("zone", &locality.zone),
        ("sub_zone", &locality.sub_zone),
    ];
    let named = named.into_iter().filter(|(_, name)| !name.is_empty());
    let locality: serde_json::Map<_, _> = named
        .map(|(key, name)| (key.to_owned(), name.as_str().into()))
        .collect();
    let mut shown = json!({
        "address": socket(endpoint.address),
        "health_status": health,
        "weight": endpoint.weight,
        "locality": locality,
    });
    if !endpoint.hostname.is_empty() {
        shown["hostname"] = endpoint.hostname.as_str().into();
    }
    if endpoint.priority != 0 {
        shown["priority"] = endpoint.priority.into();
    }
    shown
}

/// Envoy's `/listeners?format=json`.
pub(super) fn listeners_json(state: &State) -> Json {
    let listeners = state.store.listeners().iter();
    let active = listeners.filter_map(|(name, slot)| {
        let address = slot.active.as_ref()?.built.address;
        Some(json!({"name": name, "local_address": socket(address)}))
    });
    json!({"listener_statuses": active.collect::<Vec<_>>()})
}
