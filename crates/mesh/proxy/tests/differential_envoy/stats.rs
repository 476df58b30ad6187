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

/// The bounds of histograms, in each of the pages' forms, and how many values there are.
async fn bounds(admin: SocketAddr) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: String, bound: String| all.entry(name).or_default().push(bound);
    let is_meant = |name: &str| {
        ["cluster.origin.upstream_", "http.test.downstream_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let page = get(admin, "/stats/prometheus").await.expect("a page").body;
    for line in page.lines() {
        let Some((metric, rest)) = line.split_once("_bucket{") else {
            continue;
        };
        let of_requests = ["\"origin\"", "\"test\""]
            .iter()
            .any(|of| rest.contains(of));
        let bound = rest
            .split("le=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        if of_requests && !metric.contains("upstream_cx_length") {
            let bound = bound.expect("a bound");
            add(format!("prometheus {metric}"), bound.to_owned());
        }
    }
    for form in ["cumulative", "disjoint"] {
        let path = format!("/stats?type=Histograms&histogram_buckets={form}");
        let page = get(admin, &path).await.expect("a page").body;
        for line in page.lines().filter(|line| is_meant(line)) {
            let (name, values) = line.split_once(": ").expect("a name");
            for value in values.split(' ').filter(|value| value.starts_with('B')) {
                let (bound, _) = value.split_once('(').expect("counts");
                add(format!("{form} {name}"), bound.to_owned());
            }
        }
        let page = get(admin, &format!("{path}&format=json"))
            .await
            .expect("a page")
            .body;
        let stats: Value = serde_json::from_str(&page).expect("JSON");
        let histograms = stats["stats"].as_array().expect("a list").last().cloned();
        let histograms = histograms.unwrap_or_default()["histograms"].clone();
        for one in histograms.as_array().expect("a list") {
            let name = one["name"].as_str().expect("a name");
            for bucket in one["buckets"].as_array().expect("a list") {
                if is_meant(name) {
                    add(
                        format!("{form} json {name}"),
                        bucket["upper_bound"]
                            .as_f64()
                            .expect("a number")
                            .to_string(),
                    );
                }
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_have_the_buckets_that_are_asked_for() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let settings = bootstrap::histogram_settings(
        r#"{"cluster.origin.upstream_rq": [250, 0.1, 2.5, 1800000, 12345678], "http.test.downstream_rq": [7]}"#,
    );
    let settings = settings.expect("valid");
    let meshes = Meshes::edited(&binary, |file| {
        file["stats_config"]["histogram_bucket_settings"] = settings.clone();
    })
    .await;
    let admins = [meshes.agent.admin_address(), meshes.envoy.admin()];
    let benches = [&meshes.ours, &meshes.envoys];
    let mut all = Vec::new();
    for (bench, admin) in benches.into_iter().zip(admins) {
        get(bench.addresses.listeners["outbound"], "/ok")
            .await
            .expect("an answer");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Envoy merges histograms every few seconds.
            let found = bounds(admin.expect("an address")).await;
            let is_there = |name: &str| found.keys().any(|known| known == name);
            if is_there("cumulative http.test.downstream_rq_time")
                && is_there("prometheus envoy_cluster_upstream_rq_time")
                && is_there("prometheus envoy_cluster_upstream_cx_connect_ms")
            {
                all.push(found);
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let [ours, envoys] = &all[..] else {
        unreachable!("there are two");
    };
    for (name, envoys) in envoys {
        if let Some(ours) = ours.get(name) {
            assert_eq!(ours, envoys, "{name}: ours, and Envoy's");
        }
    }
    let asked = &ours["prometheus envoy_cluster_upstream_rq_time"];
    assert_eq!(asked.len(), 6, "{asked:?}");
    assert_eq!(
        ours["prometheus envoy_http_downstream_rq_time"],
        ["7", "+Inf"]
    );
    let usual = &ours["prometheus envoy_cluster_upstream_cx_connect_ms"];
    assert_eq!(usual.len(), 20, "{usual:?}");
    meshes.agent.shutdown(Duration::from_secs(1)).await;
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
