//! The text format of Prometheus, with what Envoy takes out of names as labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::stats::{BOUNDS, Distribution, Name, Sums, Value, push_label};

/// The lines of one metric.
#[derive(Default)]
struct Family {
    kind: &'static str,
    lines: String,
}

/// All that there is.
pub(super) fn text(all: &Sums) -> String {
    // Lines of one metric must stand together.
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for (name, value) in all.iter() {
        let (metric, labels) = labelled(name);
        let family = families.entry(metric.clone()).or_default();
        let kind = match value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Histogram(values) if values.count() == 0 => continue,
            Value::Histogram(_) => "histogram",
        };
        family.kind = kind;
        let lines = &mut family.lines;
        match value {
            Value::Counter(value) | Value::Gauge(value) => {
                let labels = match &*labels {
                    "" => String::new(),
                    labels => format!("{{{labels}}}"),
                };
                // Writing to a `String` cannot fail.
                let _ = writeln!(lines, "{metric}{labels} {value}");
            }
            Value::Histogram(values) => add_histogram(&metric, &labels, values, lines),
        }
    }
    let mut text = String::new();
    for (metric, Family { kind, lines }) in families {
        if !lines.is_empty() {
            text.extend(["# TYPE ", &metric, " ", kind, "\n", &lines]);
        }
    }
    text
}

fn add_histogram(metric: &str, labels: &str, values: &Distribution, lines: &mut String) {
    let (comma, braces) = match labels {
        "" => ("", String::new()),
        labels => (",", format!("{{{labels}}}")),
    };
    let all = values.count();
    let bounds = BOUNDS.iter().map(|(bound, _)| *bound).chain(["+Inf"]);
    for (bound, count) in bounds.zip(values.cumulative().into_iter().chain([all])) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            lines,
            "{metric}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
        );
    }
    let sum = values.sum;
    let _ = writeln!(lines, "{metric}_sum{braces} {sum}");
    let _ = writeln!(lines, "{metric}_count{braces} {all}");
}

/// The metric's name and its labels, without braces.
fn labelled(name: &Name) -> (String, String) {
    let scope = &name.scope;
    let mut labels = String::new();
    let mut parts = vec![scope.kind];
    let label = match scope.kind {
        "cluster" => Some("envoy_cluster_name"),
        "http" => Some("envoy_http_conn_manager_prefix"),
        "listener" => Some("envoy_listener_address"),
        "tcp" => Some("envoy_tcp_prefix"),
        _ => None,
    };
    let (stat, code) = split_code(&name.stat);
    if let Some((label, code)) = code {
        push_label(&mut labels, label, code);
    }
    if let Some(prefix) = &scope.http {
        parts.push("http");
        push_label(&mut labels, "envoy_http_conn_manager_prefix", prefix);
    }
    match label {
        Some(label) => push_label(&mut labels, label, &scope.of),
        None => parts.push(&scope.of),
    }
    parts.push(&stat);
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (plain(&parts.join(".")), labels)
}

/// `upstream_rq_200` is `upstream_rq` with a code, `upstream_rq_2xx` is `upstream_rq_xx` with a class.
fn split_code(stat: &str) -> (String, Option<(&'static str, &str)>) {
    let split = stat
        .rsplit_once('_')
        .filter(|(before, code)| before.ends_with("_rq") && code.len() == 3);
    match split {
        Some((before, code)) if code.ends_with("xx") => (
            format!("{before}_xx"),
            Some(("envoy_response_code_class", &code[..1])),
        ),
        Some((before, code)) if code.bytes().all(|byte| byte.is_ascii_digit()) => {
            (before.to_owned(), Some(("envoy_response_code", code)))
        }
        _ => (stat.to_owned(), None),
    }
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
    use crate::stats::Scope;

    #[test]
    fn labels_are_taken_out_of_names() {
        let reviews = "outbound|9080||reviews.default.svc.cluster.local";
        let of_listener = Scope {
            http: Some("in.a".to_owned()),
            ..Scope::of("listener", "0.0.0.0_80")
        };
        let cases = [
            (
                Scope::of("cluster", reviews),
                "upstream_rq_total",
                "envoy_cluster_upstream_rq_total",
                "envoy_cluster_name=\"outbound|9080||reviews.default.svc.cluster.local\"",
            ),
            (
                Scope::of("cluster", "a"),
                "upstream_rq_200",
                "envoy_cluster_upstream_rq",
                "envoy_response_code=\"200\",envoy_cluster_name=\"a\"",
            ),
            (
                Scope::of("http", "outbound_0.0.0.0_80"),
                "downstream_rq_5xx",
                "envoy_http_downstream_rq_xx",
                "envoy_response_code_class=\"5\",envoy_http_conn_manager_prefix=\"outbound_0.0.0.0_80\"",
            ),
            (
                of_listener,
                "downstream_rq_completed",
                "envoy_listener_http_downstream_rq_completed",
                "envoy_http_conn_manager_prefix=\"in.a\",envoy_listener_address=\"0.0.0.0_80\"",
            ),
            (
                Scope::of("tcp", "10.0.0.1_3306"),
                "downstream_cx_total",
                "envoy_tcp_downstream_cx_total",
                "envoy_tcp_prefix=\"10.0.0.1_3306\"",
            ),
            (
                Scope::of("tracing", "zipkin"),
                "spans_sent",
                "envoy_tracing_zipkin_spans_sent",
                "",
            ),
            (Scope::plain(), "server.live", "envoy_server_live", ""),
        ];
        for (scope, stat, metric, labels) in cases {
            let name = Name {
                scope,
                stat: stat.to_owned(),
            };
            let expected = (metric.to_owned(), labels.to_owned());
            assert_eq!(labelled(&name), expected, "{name}");
        }
    }
}
