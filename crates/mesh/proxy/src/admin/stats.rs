//! `/stats`: counters, gauges and histograms, those of the workers and those of the configuration, by Envoy's
//! names and in its formats.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use axum::http::StatusCode;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET};
use regex::Regex;
use serde_json::{Value as Json, json};

use super::{certificates, state_of};
use crate::agent::{Shared, resident_bytes};
use crate::bootstrap::{HistogramBounds, XDS_CLUSTER};
use crate::stats::{Bound, Bounds, Distribution, QUANTILES, Scope, Sums, Value};

/// Which of them are asked for, and in which form.
#[derive(Debug)]
pub(super) struct Wanted {
    filter: Option<(Regex, bool)>,
    used_only: bool,
    kind: Kind,
    pub(super) format: Format,
    pub(super) buckets: Buckets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Counters,
    Gauges,
    Histograms,
}

/// `format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
    Prometheus,
}

/// `histogram_buckets`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    /// Quantiles.
    Summary,
    Cumulative,
    Disjoint,
}

impl Wanted {
    /// Reads the query of a request; what is not known is refused as Envoy does.
    pub(super) fn of(query: &HashMap<String, String>) -> Result<Self, (StatusCode, String)> {
        let refused = |message: String| (StatusCode::BAD_REQUEST, message);
        let text = |name: &str| query.get(name).map_or("", String::as_str);
        let filter = query.get("filter").map(|filter| Regex::new(filter));
        let filter = filter.transpose();
        let filter = filter.map_err(|error| refused(format!("invalid regex: {error}\n")))?;
        let is_inverted = query.contains_key("invert_filter");
        Ok(Self {
            filter: filter.map(|filter| (filter, !is_inverted)),
            used_only: query.contains_key("usedonly"),
            kind: match text("type") {
                "" | "All" => Kind::All,
                "Counters" => Kind::Counters,
                "Gauges" => Kind::Gauges,
                "Histograms" => Kind::Histograms,
                _ => {
                    return Err(refused(
                        "usage: /stats?type=(All|Counters|Gauges|Histograms)\n".into(),
                    ));
                }
            },
            format: match text("format") {
                "" | "text" => Format::Text,
                "json" => Format::Json,
                "prometheus" => Format::Prometheus,
                _ => {
                    return Err(refused(
                        "usage: /stats?format=(json|prometheus|text)\n".into(),
                    ));
                }
            },
            buckets: match text("histogram_buckets") {
                "" | "summary" => Buckets::Summary,
                "cumulative" => Buckets::Cumulative,
                "disjoint" => Buckets::Disjoint,
                _ => {
                    let usage = "usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n";
                    return Err(refused(usage.into()));
                }
            },
        })
    }

    /// Those that are wanted.
    pub(super) fn collect(&self, shared: &Shared) -> Sums {
        let mut all = collect(shared);
        all.subtract(&shared.baseline());
        let matcher = &shared.bootstrap.stats;
        let needs_name = self.filter.is_some() || !matcher.takes_all();
        all.retain(|name, value| {
            let (kind, is_used) = match value {
                Value::Counter(value) => (Kind::Counters, *value != 0),
                Value::Gauge(value) => (Kind::Gauges, *value != 0),
                Value::Histogram(values) => (Kind::Histograms, values.count() != 0),
            };
            let is_wanted = (is_used || !self.used_only) && [Kind::All, kind].contains(&self.kind);
            if !is_wanted || !needs_name {
                return is_wanted;
            }
            let name = name.to_string();
            let is_asked = |(filter, is): &(Regex, bool)| filter.is_match(&name) == *is;
            matcher.takes(&name) && self.filter.as_ref().is_none_or(is_asked)
        });
        all
    }
}

/// Counts from zero again: what has been counted is taken off whatever is shown.
pub(super) fn reset_counters(shared: &Shared) {
    let all = collect(shared);
    *shared.baseline() = all;
}

/// Envoy's text: numbers by name, then histograms by name.
pub(super) fn text(all: &Sums, buckets: Buckets, bounds: &HistogramBounds) -> String {
    let mut text = String::new();
    for (name, value) in all.numbers() {
        text.extend([&name, ": ", itoa::Buffer::new().format(value), "\n"]);
    }
    for (name, values) in histograms(all) {
        let line = line(values, buckets, bounds.of(&name));
        text.extend([&name, ": ", &line, "\n"]);
    }
    text
}

fn histograms(all: &Sums) -> Vec<(String, &Distribution)> {
    let mut found = Vec::new();
    for (name, value) in all.iter() {
        if let Value::Histogram(values) = value {
            found.push((name.to_string(), values));
        }
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Where Envoy has the values of the last interval there is always none here: only sums are kept.
fn line(values: &Distribution, buckets: Buckets, bounds: &Bounds) -> String {
    if values.count() == 0 {
        return "No recorded values".to_owned();
    }
    let parts: Vec<_> = match buckets {
        Buckets::Summary => QUANTILES
            .iter()
            .filter_map(|quantile| {
                let value = values.quantile(*quantile)?;
                Some(format!("P{}(nan,{value})", percent(*quantile)))
            })
            .collect(),
        Buckets::Cumulative | Buckets::Disjoint => {
            let counts = bounds.iter().zip(counts(values, buckets, bounds));
            counts
                .map(|(bound, count)| format!("B{}(0,{count})", bound.short))
                .collect()
        }
    };
    parts.join(" ")
}

/// As a number of JSON, and as text: whole ones without a point.
fn percent(thousandths: u64) -> Json {
    match thousandths % 10 {
        0 => (thousandths / 10).into(),
        _ => (thousandths as f64 / 10.0).into(),
    }
}

/// How many are in the bucket below each bound, or in that and those before.
fn counts(values: &Distribution, buckets: Buckets, bounds: &Bounds) -> Vec<u64> {
    let mut counts = values.cumulative(bounds);
    if buckets == Buckets::Disjoint {
        let mut before = 0;
        for count in &mut counts {
            let less = std::mem::replace(&mut before, *count);
            *count -= less;
        }
    }
    counts
}

/// Envoy's JSON.
pub(super) fn json(all: &Sums, buckets: Buckets, bounds: &HistogramBounds) -> Json {
    let numbers = all.numbers().into_iter();
    let mut stats: Vec<_> = numbers
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let histograms = histograms(all);
    if !histograms.is_empty() {
        let of_each = |show: &dyn Fn(&str, &Distribution) -> Json, key: &str| -> Vec<_> {
            histograms
                .iter()
                .map(|(name, values)| json!({"name": name, key: show(name, values)}))
                .collect()
        };
        stats.push(match buckets {
            Buckets::Summary => {
                let show = |_: &str, values: &Distribution| -> Json {
                    let cumulative = QUANTILES.map(|quantile| values.quantile(quantile));
                    let both = |value| json!({"interval": null, "cumulative": value});
                    cumulative.map(both).to_vec().into()
                };
                json!({"histograms": {
                    "supported_quantiles": QUANTILES.map(percent),
                    "computed_quantiles": of_each(&show, "values"),
                }})
            }
            Buckets::Cumulative | Buckets::Disjoint => {
                let show = |name: &str, values: &Distribution| -> Json {
                    let bounds = bounds.of(name);
                    let counts = bounds.iter().zip(counts(values, buckets, bounds));
                    let bucket = |(bound, count): (&Bound, u64)| {
                        let bound = bound.value;
                        json!({"upper_bound": bound, "interval": 0, "cumulative": count})
                    };
                    counts.map(bucket).collect()
                };
                json!({"histograms": of_each(&show, "buckets")})
            }
        });
    }
    json!({"stats": stats})
}

/// All of them, sorted by name.
fn collect(shared: &Shared) -> Sums {
    let (mut all, connections) = (shared.proxy.sums(), shared.proxy.connections());
    let state = match state_of(shared) {
        "LIVE" => 0,
        "DRAINING" => 1,
        _ => 2,
    };
    let resident = resident_bytes().unwrap_or_default();
    for (name, value) in [
        ("server.uptime", shared.started.elapsed().as_secs()),
        ("server.live", u64::from(shared.is_ready())),
        ("server.state", state),
        ("server.concurrency", shared.workers as u64),
        ("server.total_connections", connections as u64),
        // The allocator does not say; what the kernel has given is the most that can be allocated.
        ("server.memory_allocated", resident),
        ("server.memory_heap_size", resident),
        ("server.memory_physical_size", resident),
    ] {
        all.gauge(name, value);
    }

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
    let left = |end: SystemTime| end.duration_since(SystemTime::now()).unwrap_or_default();
    let until_expiry = state.identity.expires.map_or(0, |end| left(end).as_secs());
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
        ("identity.seconds_until_expiry", until_expiry),
    ] {
        all.gauge(name, value);
    }
    for (server, error) in &state.secret_servers {
        let name = format!("sds.{}.connected_state", server.cluster);
        all.gauge(&name, u64::from(error.is_none()));
    }
    let control_plane = Scope::of("cluster", XDS_CLUSTER);
    for (name, value) in [
        (
            "upstream_cx_active",
            Value::Gauge(u64::from(state.connected)),
        ),
        (
            "upstream_cx_total",
            Value::Counter(state.streams + state.failed_streams),
        ),
        (
            "upstream_cx_connect_fail",
            Value::Counter(state.failed_streams),
        ),
        (
            "upstream_rq_pending_failure_eject",
            Value::Counter(state.failed_streams),
        ),
        (
            "upstream_rq_active",
            Value::Gauge(u64::from(state.connected)),
        ),
        ("upstream_rq_total", Value::Counter(state.streams)),
    ] {
        all.add(&control_plane, name, value);
    }
    for (name, value) in [
        ("identity.renewed", state.identity.renewed),
        ("identity.failed", state.identity.failed),
        ("config_cache.rejected", state.cache.rejected),
        ("config_cache.written", state.cache.written),
        ("config_cache.write_failed", state.cache.write_failed),
    ] {
        all.counter(name, value);
    }
    for (name, value) in shared.names.stats() {
        all.counter(name, value);
    }
    for (name, refused) in [
        ("http.admin.downstream_rq_overflow", &shared.refused_pages),
        (
            "listener.admin.downstream_cx_overflow",
            &shared.refused_connections,
        ),
    ] {
        all.counter(name, refused.load(Ordering::Relaxed));
    }
    let names = shared.names.is_on().then_some((NAME_TABLE, "nds"));
    for (type_url, prefix) in [
        (CLUSTER, "cluster_manager.cds"),
        (LISTENER, "listener_manager.lds"),
        (ROUTE, "rds"),
        (ENDPOINT, "eds"),
        (SECRET, "sds"),
    ]
    .into_iter()
    .chain(names)
    {
        let (accepted, refused) = state.updates.get(type_url).copied().unwrap_or_default();
        all.counter(&format!("{prefix}.update_success"), accepted);
        all.counter(&format!("{prefix}.update_rejected"), refused);
    }
    all.gauge(
        "server.days_until_first_cert_expiring",
        certificates::days_until_first_expires(&state),
    );
    for (name, value) in state.pressures.stats() {
        match name.ends_with("failed_updates") {
            true => all.counter(&name, value),
            false => all.gauge(&name, value),
        }
    }
    all
}
