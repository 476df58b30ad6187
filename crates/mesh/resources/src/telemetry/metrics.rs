//! `metrics`: what is wanted of the metrics that proxies count.

use std::collections::BTreeMap;

use periplus_cel::Expression;

use super::{METRICS, MODES, MetricRule, PROVIDER};
use crate::mesh_config::check_metrics_provider;
use crate::telemetry::TelemetryMode;
use crate::view::{Shape, View};

const OVERRIDE: Shape = Shape {
    known: &["match", "disabled", "tagOverrides"],
    refused: &[],
};
const MATCH: Shape = Shape {
    known: &["metric", "mode"],
    refused: &[(
        "customMetric",
        "there are no metrics but Istio's own, use `metric`",
    )],
};
const TAG: Shape = Shape {
    known: &["operation", "value"],
    refused: &[],
};

/// What Prometheus calls Istio's metrics, without `istio_`.
const ALL: [&str; 10] = [
    "requests_total",
    "request_duration_milliseconds",
    "request_bytes",
    "response_bytes",
    "request_messages_total",
    "response_messages_total",
    "tcp_connections_opened_total",
    "tcp_connections_closed_total",
    "tcp_received_bytes_total",
    "tcp_sent_bytes_total",
];

/// What they are called in resources, in the same order.
const NAMES: [(&str, usize); 10] = [
    ("REQUEST_COUNT", 0),
    ("REQUEST_DURATION", 1),
    ("REQUEST_SIZE", 2),
    ("RESPONSE_SIZE", 3),
    ("GRPC_REQUEST_MESSAGES", 4),
    ("GRPC_RESPONSE_MESSAGES", 5),
    ("TCP_OPENED_CONNECTIONS", 6),
    ("TCP_CLOSED_CONNECTIONS", 7),
    ("TCP_RECEIVED_BYTES", 8),
    ("TCP_SENT_BYTES", 9),
];

impl MetricRule {
    /// The rules of one of `metrics`. They are scraped from each proxy, whatever its providers are called.
    pub(super) fn read_all(view: &View<'_>) -> Option<Vec<Self>> {
        let object = view.object(&METRICS)?;
        for provider in object.items("providers") {
            let name = provider.object(&PROVIDER)?.require("name")?.text()?;
            check_metrics_provider(&provider, &name)?;
        }
        object.items("overrides").iter().map(Self::read).collect()
    }

    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&OVERRIDE)?;
        let matched = object.optional("match", |view| {
            let object = view.object(&MATCH)?;
            let mut choices: Vec<_> = NAMES.map(|(name, at)| (name, vec![ALL[at]])).into();
            choices.push(("ALL_METRICS", ALL.to_vec()));
            let metrics = object.optional("metric", |metric| metric.choice(&choices))?;
            let mode = object.optional("mode", |mode| mode.choice(&MODES))?;
            Some((metrics, mode))
        })?;
        let (metrics, mode) = matched.unwrap_or_default();
        let mut tags = BTreeMap::new();
        if let Some(view) = object.get("tagOverrides") {
            for (key, view) in view.entries() {
                tags.insert(key.text.clone(), read_tag(&key.text, &view)?);
            }
        }
        Some(Self {
            mode: mode.unwrap_or(TelemetryMode::ClientAndServer),
            metrics: metrics.unwrap_or_else(|| ALL.to_vec()),
            is_disabled: object.optional("disabled", View::bool)?,
            tags,
        })
    }
}

/// The expression of a label's value, or none if it is left out.
fn read_tag(name: &str, view: &View<'_>) -> Option<Option<String>> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = |first: u8| first.is_ascii_alphabetic() || first == b'_';
    if !name.bytes().all(is_word) || !name.bytes().next().is_some_and(starts_well) {
        view.fail(format!(
            "`{name}` is no name for a label: letters, digits and `_`, no digit first"
        ));
        return None;
    }
    let object = view.object(&TAG)?;
    let operations = [("UPSERT", false), ("REMOVE", true)];
    let removes = object.optional("operation", |view| view.choice(&operations))?;
    if removes == Some(true) {
        if let Some(value) = object.get("value") {
            value.fail("a label that is removed has no value, leave this out");
            return None;
        }
        return Some(None);
    }
    let value = object.require("value")?;
    let text = value.some_text()?;
    if let Err(refused) = Expression::parse(&text) {
        value.fail(format!("`{text}`: {refused}"));
        return None;
    }
    Some(Some(text))
}
