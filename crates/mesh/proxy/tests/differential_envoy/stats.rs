//! What both proxies count under the same configuration and the same requests, name by name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

/// What Envoy has and this proxy does not, by the beginnings or ends of names, and why. See
/// docs/differences-from-envoy.md, "Counters".
const ABSENT: &[(&str, &[&str])] = &[
    (
        "not done at all: it would always be zero",
        &[
            "_0rtt",
            "_0_rtt",
            "http3",
            "internal_redirect",
            "preconnect_skipped",
            "upstream_queue_overloaded",
            "flow_control_",
            "assignment_stale",
            "assignment_timeout_received",
            "assignment_use_cached",
            "bind_errors",
            "original_dst_host_invalid",
            "cx_pool_open",
            "http1.",
            "http2.",
            "extension_config_missing",
            "early_data_received_count_total",
            "route_delayed_total",
            "upstream_flush_",
            "rejected_via_ip_detection",
            "non_relative_path",
            "cx_http1_soft_drain",
            "upstream_cx_close_notify",
            "rq_per_try_idle_timeout",
            "rq_active_overflow",
            "rq_maintenance_mode",
            "rq_rx_reset_no_error",
            "rs_too_large",
            "tracing.health_check",
            "default.total_match_count",
            "fault.response_rl_injected",
        ],
    ),
    (
        "of the health check filter, whose answers the access log tells",
        &["health_check."],
    ),
    (
        "zones of the local cluster, of which there is none",
        &["lb_zone_", "lb_local_cluster_not_ok", "lb_recalculate_zone"],
    ),
    (
        "a second time, by where a request came from",
        &["external.", "internal."],
    ),
    (
        "a second time, by worker",
        &["worker_0.", "connections_accepted_per_socket_event"],
    ),
    (
        "told once for all clusters: eds.update_success and others",
        &[
            "update_",
            "version",
            "warming_state",
            "membership_change",
            "init_fetch_timeout",
            ".rds.",
        ],
    ),
    (
        "subsets as they are now, which /config_dump tells",
        &[
            "lb_subsets_active",
            "lb_subsets_created",
            "lb_subsets_removed",
            "lb_subsets_fallback_panic",
            "max_host_weight",
        ],
    ),
    (
        "which side has closed, and what was under way then",
        &[
            "destroy_local",
            "destroy_remote",
            "destroy_active_rq",
            "destroy_with_active_rq",
        ],
    ),
    (
        "bytes of HTTP, and those that wait; the spans have those of each request",
        &["_bytes_buffered", "cx_rx_bytes_total", "cx_tx_bytes_total"],
    ),
    (
        "parts of a count that is there",
        &[
            "cx_http1_active",
            "cx_http2_active",
            "cx_ssl_active",
            "cx_ssl_total",
            "cx_drain_close",
            "cx_overload_close",
            "cx_delayed_close_timeout",
            "rq_per_cx",
            "rq_cancelled",
            "rq_max_duration_reached",
            "rq_response_before_rq_complete",
            "rq_timeout",
            "rq_tx_reset",
            "rq_redirect",
            "rq_overload_local_reply",
            "rq_reset_after_downstream_response_started",
            "rq_total",
            "downstream_cx_max_duration_reached",
            "downstream_cx_overflow",
        ],
    ),
];

/// Where the numbers differ, and why.
const OTHER_NUMBERS: &[(&str, &str)] = &[
    (
        "upstream_rq_total",
        "counted when an endpoint is chosen, with Envoy when the request has a connection",
    ),
    (
        "upstream_rq_pending_total",
        "counted if a request has to wait for a connection, with Envoy also for the one that opens it",
    ),
    (
        "upstream_rq_pending_failure_eject",
        "counted for those that wait for the connection of another one",
    ),
    (
        "lb_healthy_panic",
        "counted if there is an endpoint to choose, with Envoy also if there is none",
    ),
    ("upstream_cx_rx_bytes_total", "counted for TCP only"),
    ("upstream_cx_tx_bytes_total", "counted for TCP only"),
];

/// Only of the requests: the collectors of spans get theirs when they do.
const CLUSTERS: [&str; 3] = ["origin", "refused", "empty"];

/// `/stats` without what is not of the requests; the listener's address is its name.
async fn counted(admin: SocketAddr, addresses: &Addresses) -> BTreeMap<String, Value> {
    let answer = get(admin, "/stats?format=json").await.expect("an answer");
    let stats: Value = serde_json::from_str(&answer.body).expect("JSON");
    let mut all = BTreeMap::new();
    let at = addresses.listeners["outbound"];
    let at = format!("listener.{}.", at.to_string().replace(':', "_"));
    let mut add = |name: &str, value: Value| {
        let name = name.replace(&at, "listener.outbound.");
        let of_cluster = |of: &&str| name.starts_with(&format!("cluster.{of}."));
        let is_meant = CLUSTERS.iter().any(of_cluster)
            || name.starts_with("listener.outbound.")
            || name.starts_with("http.test.");
        if is_meant {
            all.insert(name, value);
        }
    };
    for one in stats["stats"].as_array().expect("a list") {
        match one["name"].as_str() {
            Some(name) => add(name, one["value"].clone()),
            None => {
                let histograms = &one["histograms"];
                assert_eq!(histograms["supported_quantiles"][4], 90, "{histograms}");
                for one in histograms["computed_quantiles"].as_array().expect("a list") {
                    let name = one["name"].as_str().expect("a name");
                    let quantiles = one["values"].as_array().expect("a list");
                    // How long it took is nobody's fault.
                    let is_used = quantiles.iter().all(|one| !one["cumulative"].is_null());
                    add(
                        name,
                        match is_used {
                            true => json!(format!("{} quantiles", quantiles.len())),
                            false => json!(0),
                        },
                    );
                }
            }
        }
    }
    all
}

fn is_absent(name: &str) -> bool {
    let parts = ABSENT.iter().flat_map(|(_, parts)| *parts);
    // `upstream_rq_total` is not meant by a word for `http.PREFIX.rq_total`.
    parts
        .filter(|part| !(name.contains("downstream_rq_total") && **part == "rq_total"))
        .any(|part| name.contains(part))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_count_and_show_the_same_under_the_same_names() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    // The control plane goes on for as long as it is held.
    let Meshes {
        plane: _plane,
        ours,
        envoys,
        agent,
        envoy,
    } = Meshes::start(&binary).await;
    let paths = [
        "/ok",
        "/ok",
        "/status/404",
        "/status/503",
        "/refused",
        "/empty",
        "/missing",
        "/direct",
        "/nowhere",
    ];
    for bench in [&ours, &envoys] {
        for path in paths {
            get(bench.addresses.listeners["outbound"], path)
                .await
                .expect("an answer");
        }
    }
    let our_admin = agent.admin_address().expect("an address");
    let envoys_admin = envoy.admin().expect("an address");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let of_ours = counted(our_admin, &ours.addresses).await;
        let of_envoy = counted(envoys_admin, &envoys.addresses).await;
        let report = differences(&of_ours, &of_envoy);
        if report.is_empty() {
            break;
        }
        // Envoy merges histograms every few seconds, and connections end when they do.
        assert!(tokio::time::Instant::now() < deadline, "{report}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (ours, envoys) = (
        (our_admin, &ours.addresses),
        (envoys_admin, &envoys.addresses),
    );
    admin_pages::compare_dumps(ours, envoys).await;
    admin_pages::compare_pages(ours, envoys).await;
    agent.shutdown(Duration::from_secs(1)).await;
}

fn differences(ours: &BTreeMap<String, Value>, envoys: &BTreeMap<String, Value>) -> String {
    let mut report = String::new();
    for (name, envoys) in envoys {
        let line = match ours.get(name) {
            None if is_absent(name) => continue,
            None => format!("{name}: {envoys} of Envoy, and none of ours\n"),
            Some(ours) if ours == envoys => continue,
            Some(_) if OTHER_NUMBERS.iter().any(|(part, _)| name.ends_with(part)) => continue,
            Some(ours) => format!("{name}: {envoys} of Envoy, {ours} of ours\n"),
        };
        report.push_str(&line);
    }
    // What only we have is either zero or no count of Envoy's.
    for (name, value) in ours {
        if !envoys.contains_key(name) && *value != 0 {
            report.push_str(&format!("{name}: {value} of ours, and none of Envoy\n"));
        }
    }
    report
}

#[test]
fn what_is_counted_otherwise_is_explained() {
    let text = include_str!("../../../../../docs/differences-from-envoy.md");
    for (name, why) in OTHER_NUMBERS {
        assert!(text.contains(&format!("`{name}`")), "{name}: {why}");
    }
    for (why, _) in ABSENT {
        assert!(text.contains(why), "{why:?} is not explained");
    }
}
