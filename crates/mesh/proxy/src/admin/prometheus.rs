//! The text format of Prometheus, with what Envoy takes out of names as labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::bootstrap::{HistogramBounds, LabelNames, Tags};
use crate::stats::{Bounds, Distribution, Name, Sums, Value, push_label};

/// The lines of one metric.
#[derive(Default)]
struct Family {
    kind: &'static str,
    lines: String,
}

/// All that there is, with these labels, and histograms with these bounds.
pub(super) fn text(all: &Sums, tags: &Tags, bounds: &HistogramBounds) -> String {
    // Lines of one metric must stand together.
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for (name, value) in all.iter() {
        let (metric, labels) = labelled(name, tags);
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
            Value::Histogram(values) => {
                let shown = (values, &**bounds.of(&name.to_string()));
                add_histogram(&metric, &labels, shown, lines);
            }
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

fn add_histogram(
    metric: &str,
    labels: &str,
    (values, bounds): (&Distribution, &Bounds),
    lines: &mut String,
) {
    let (comma, braces) = match labels {
        "" => ("", String::new()),
        labels => (",", format!("{{{labels}}}")),
    };
    let all = values.count();
    let counts = values.cumulative(bounds).into_iter().chain([all]);
    let bounds = bounds.iter().map(|bound| &*bound.text).chain(["+Inf"]);
    for (bound, count) in bounds.zip(counts) {
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
fn labelled(name: &Name, tags: &Tags) -> (String, String) {
    let (scope, names) = (&name.scope, &tags.names);
    let mut labels = String::new();
    let mut parts = vec![scope.kind];
    let label = match scope.kind {
        "cluster" => names.cluster,
        "http" => names.http,
        "listener" => names.listener,
        "tcp" => names.tcp,
        _ => None,
    };
    let (mut stat, code) = split_code(&name.stat, names);
    if let Some((label, code)) = code {
        push_label(&mut labels, label, code);
    }
    for (label, value) in tags.take_others(&mut stat) {
        push_label(&mut labels, label, &value);
    }
    match label {
        Some(label) => push_label(&mut labels, label, &scope.of),
        None => parts.push(&scope.of),
    }
    if let Some(prefix) = &scope.http {
        parts.push("http");
        match names.listener_http {
            Some(label) => push_label(&mut labels, label, prefix),
            None => parts.push(prefix),
        }
    }
    parts.push(&stat);
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (plain(&parts.join(".")), labels)
}

/// `upstream_rq_200` is `upstream_rq` with a code; `upstream_rq_2xx` is `upstream_rq_xx` with a class, or `upstream_rq`
/// with a whole one.
fn split_code<'a>(stat: &'a str, names: &LabelNames) -> (String, Option<(&'static str, &'a str)>) {
    let split = stat
        .rsplit_once('_')
        .filter(|(before, code)| before.ends_with("_rq") && code.len() == 3);
    match split {
        Some((before, code)) if code.ends_with("xx") => match names.class {
            Some(label) if names.has_whole_classes => (before.to_owned(), Some((label, code))),
            Some(label) => (format!("{before}_xx"), Some((label, &code[..1]))),
            None => (stat.to_owned(), None),
        },
        Some((before, code)) if code.bytes().all(|byte| byte.is_ascii_digit()) => {
            match names.code {
                Some(label) => (before.to_owned(), Some((label, code))),
                None => (stat.to_owned(), None),
            }
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
                "envoy_listener_address=\"0.0.0.0_80\",envoy_http_conn_manager_prefix=\"in.a\"",
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
            assert_eq!(labelled(&name, &Tags::default()), expected, "{name}");
        }
    }

    #[test]
    fn istios_labels_are_those_of_its_bootstrap_file() {
        let text = crate::bootstrap::render(&crate::bootstrap::Spec {
            agent: None,
            node_id: "sidecar~10.0.0.1~a.default~default.svc.cluster.local",
            node_cluster: "a.default",
            metadata: &serde_json::json!({"NAMESPACE": "default"}),
            control_plane: ([127, 0, 0, 1], 15010).into(),
            admin: ([127, 0, 0, 1], 15000).into(),
        });
        let bootstrap = crate::bootstrap::parse("test", &text).expect("valid");
        let of_listener = Scope {
            http: Some("in.a".to_owned()),
            ..Scope::of("listener", "0.0.0.0_80")
        };
        for (scope, stat, metric, labels) in [
            (
                Scope::of("cluster", "xds-grpc"),
                "upstream_cx_active",
                "envoy_cluster_upstream_cx_active",
                "cluster_name=\"xds-grpc\"",
            ),
            (
                of_listener,
                "downstream_rq_2xx",
                "envoy_listener_http_downstream_rq",
                "response_code_class=\"2xx\",listener_address=\"0.0.0.0_80\",\
                 http_conn_manager_listener_prefix=\"in.a\"",
            ),
            (
                Scope::of("cluster", "a"),
                "upstream_rq_503",
                "envoy_cluster_upstream_rq",
                "response_code=\"503\",cluster_name=\"a\"",
            ),
            (
                Scope::of("http", "in"),
                "rbac.allowed",
                "envoy_http_rbac",
                "authz_enforce_result=\"allowed\",http_conn_manager_prefix=\"in\"",
            ),
        ] {
            let name = Name {
                scope,
                stat: stat.to_owned(),
            };
            let expected = (metric.to_owned(), labels.to_owned());
            assert_eq!(labelled(&name, &bootstrap.tags), expected, "{name}");
        }
    }
}
