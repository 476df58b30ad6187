//! Counters and gauges: those of the workers and those of the configuration, by Envoy's names.

use std::fmt::Write as _;

use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};

use super::certificates;
use crate::agent::Shared;

/// All of them, sorted by name.
pub(super) fn collect(shared: &Shared) -> Vec<(String, u64)> {
    let mut all = shared
        .proxy()
        .as_ref()
        .map(crate::Proxy::stats)
        .unwrap_or_default();
    all.push((
        "server.uptime".to_owned(),
        shared.started.elapsed().as_secs(),
    ));
    all.push(("server.live".to_owned(), u64::from(shared.is_ready())));
    all.push(("server.concurrency".to_owned(), shared.workers as u64));

    let state = shared.state();
    let count = |count: usize| count as u64;
    let active_clusters = state
        .store
        .clusters()
        .values()
        .filter(|slot| slot.active.is_some());
    let warming_clusters = state
        .store
        .clusters()
        .values()
        .filter(|slot| slot.warming.is_some());
    let active_listeners = state
        .store
        .listeners()
        .values()
        .filter(|slot| slot.active.is_some());
    let warming_listeners = state
        .store
        .listeners()
        .values()
        .filter(|slot| slot.warming.is_some());
    for (name, value) in [
        ("control_plane.connected_state", u64::from(state.connected)),
        (
            "cluster_manager.active_clusters",
            count(active_clusters.count()),
        ),
        (
            "cluster_manager.warming_clusters",
            count(warming_clusters.count()),
        ),
        (
            "listener_manager.total_listeners_active",
            count(active_listeners.count()),
        ),
        (
            "listener_manager.total_listeners_warming",
            count(warming_listeners.count()),
        ),
        ("config_cache.loaded", u64::from(state.cache.loaded)),
        ("config_cache.rejected", state.cache.rejected),
        ("config_cache.written", state.cache.written),
        ("config_cache.write_failed", state.cache.write_failed),
    ] {
        all.push((name.to_owned(), value));
    }
    for (type_url, prefix) in [
        (CLUSTER, "cluster_manager.cds"),
        (LISTENER, "listener_manager.lds"),
        (ROUTE, "rds"),
        (ENDPOINT, "eds"),
        (SECRET, "sds"),
    ] {
        let (accepted, refused) = state.updates.get(type_url).copied().unwrap_or_default();
        all.push((format!("{prefix}.update_success"), accepted));
        all.push((format!("{prefix}.update_rejected"), refused));
    }
    all.push((
        "server.days_until_first_cert_expiring".to_owned(),
        certificates::days_until_first_expires(&state),
    ));
    all.extend(state.pressures.stats());
    drop(state);
    all.sort();
    all
}

/// The text format of Prometheus, with what Envoy takes out of the names as labels.
pub(super) fn prometheus(all: &[(String, u64)], shared: &Shared) -> String {
    let clusters: Vec<String> = shared.state().store.clusters().keys().cloned().collect();
    let mut lines: Vec<(String, String)> = all
        .iter()
        .map(|(name, value)| {
            let (name, labels) = label(name, &clusters);
            (name.clone(), format!("{name}{labels} {value}"))
        })
        .collect();
    // Lines of one metric must stand together.
    lines.sort();
    let mut text = String::new();
    let mut last = "";
    for (name, line) in &lines {
        if name != last {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# TYPE {name} untyped");
            last = name;
        }
        text.push_str(line);
        text.push('\n');
    }
    if let Some(proxy) = &*shared.proxy() {
        text.push_str(&proxy.istio_metrics());
    }
    text
}

/// The metric's name and its labels.
fn label(name: &str, clusters: &[String]) -> (String, String) {
    if let Some(rest) = name.strip_prefix("cluster.") {
        // Names of clusters have dots in them, so that only those that exist tell where one ends.
        let longest = clusters
            .iter()
            .filter(|cluster| {
                rest.strip_prefix(cluster.as_str())
                    .is_some_and(|r| r.starts_with('.'))
            })
            .max_by_key(|cluster| cluster.len());
        if let Some(cluster) = longest {
            let metric = format!("cluster{}", &rest[cluster.len()..]);
            return (plain(&metric), labels("envoy_cluster_name", cluster));
        }
    }
    if let Some((prefix, metric)) = name.strip_prefix("http.").and_then(split_http) {
        let metric = format!("http.{metric}");
        return (
            plain(&metric),
            labels("envoy_http_conn_manager_prefix", prefix),
        );
    }
    if let Some((prefix, metric)) = name
        .strip_prefix("tcp.")
        .and_then(|tcp| tcp.rsplit_once('.'))
    {
        let metric = format!("tcp.{metric}");
        return (plain(&metric), labels("envoy_tcp_prefix", prefix));
    }
    (plain(name), String::new())
}

/// The prefix of a connection manager may have dots: what follows it begins with one of these.
fn split_http(rest: &str) -> Option<(&str, &str)> {
    let starts = [
        ".downstream_",
        ".tracing.",
        ".rq_",
        ".no_",
        ".passthrough_",
        ".rs_",
    ];
    let at = starts.iter().filter_map(|start| rest.find(start)).min()?;
    Some((&rest[..at], &rest[at + 1..]))
}

fn labels(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

fn plain(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    format!("envoy_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_taken_out_of_names() {
        let clusters = [
            "outbound|9080||reviews.default.svc.cluster.local".to_owned(),
            "outbound|9080||reviews.default".to_owned(),
        ];
        let cases = [
            (
                "cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_total",
                "envoy_cluster_upstream_rq_total",
                "{envoy_cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"}",
            ),
            (
                "http.outbound_0.0.0.0_80.downstream_rq_total",
                "envoy_http_downstream_rq_total",
                "{envoy_http_conn_manager_prefix=\"outbound_0.0.0.0_80\"}",
            ),
            (
                "http.a.tracing.random_sampling",
                "envoy_http_tracing_random_sampling",
                "{envoy_http_conn_manager_prefix=\"a\"}",
            ),
            (
                "tcp.10.0.0.1_3306.downstream_cx_total",
                "envoy_tcp_downstream_cx_total",
                "{envoy_tcp_prefix=\"10.0.0.1_3306\"}",
            ),
            ("server.live", "envoy_server_live", ""),
        ];
        for (name, metric, expected) in cases {
            let expected = (metric.to_owned(), expected.to_owned());
            assert_eq!(label(name, &clusters), expected, "{name}");
        }
    }
}
