//! The Zipkin server's metrics, under its names: flat JSON on `/metrics`, Prometheus' text on
//! `/prometheus`. Ours, which say more, have a port of their own.

use std::fmt::Write as _;

use axum::Router;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;

use super::requests::Requests;
use crate::{Collector, Reason, Receiver, Stats};

#[derive(Clone)]
pub(super) struct State {
    pub(super) collector: Collector,
    pub(super) requests: Requests,
}

pub(super) fn routes(state: State) -> Router {
    Router::new()
        .route("/metrics", get(json))
        .route("/actuator/metrics", get(json))
        .route("/prometheus", get(prometheus))
        .route("/actuator/prometheus", get(prometheus))
        .with_state(state)
}

const RECEIVERS: [Receiver; 2] = [Receiver::Zipkin, Receiver::ZipkinGrpc];

/// What Zipkin counts of a transport, by name.
fn counters(stats: &Stats, receiver: Receiver) -> [(&'static str, u64); 5] {
    let refused = |of: fn(&Stats, Receiver, Reason) -> u64| {
        (Reason::ALL.into_iter())
            .map(|reason| of(stats, receiver, reason))
            .sum::<u64>()
    };
    let messages_dropped = refused(Stats::refused_requests);
    let spans_dropped = refused(Stats::refused_spans);
    [
        (
            "messages",
            stats.accepted_requests(receiver) + messages_dropped,
        ),
        ("messages_dropped", messages_dropped),
        ("bytes", stats.body_bytes(receiver)),
        ("spans", stats.accepted_spans(receiver) + spans_dropped),
        ("spans_dropped", spans_dropped),
    ]
}

/// The sizes of the last message.
fn gauges(stats: &Stats, receiver: Receiver) -> [(&'static str, u64); 2] {
    [
        ("message_spans", stats.last_spans(receiver)),
        ("message_bytes", stats.last_bytes(receiver)),
    ]
}

async fn json(extract::State(state): extract::State<State>) -> Response {
    let stats = state.collector.stats();
    let mut values = serde_json::Map::new();
    for receiver in RECEIVERS {
        let transport = receiver.transport();
        for (name, value) in counters(stats, receiver) {
            let key = format!("counter.zipkin_collector.{name}.{transport}");
            values.insert(key, value.into());
        }
        for (name, value) in gauges(stats, receiver) {
            let key = format!("gauge.zipkin_collector.{name}.{transport}");
            values.insert(key, value.into());
        }
    }
    axum::Json(values).into_response()
}

/// Writing to a string cannot fail, so the results of `writeln!` say nothing.
async fn prometheus(extract::State(state): extract::State<State>) -> Response {
    let stats = state.collector.stats();
    let mut text = String::new();
    let of_all = |of: &dyn Fn(Receiver) -> u64| RECEIVERS.map(|it| (it.transport(), of(it)));
    for (i, help) in [
        "cumulative amount of messages received",
        "cumulative amount of messages received that were later dropped",
        "cumulative amount of bytes received",
        "cumulative amount of spans received",
        "cumulative amount of spans received that were later dropped",
    ]
    .into_iter()
    .enumerate()
    {
        let name = counters(stats, Receiver::Zipkin)[i].0;
        let name = format!("zipkin_collector_{name}_total");
        let values = of_all(&|receiver| counters(stats, receiver)[i].1);
        family(&mut text, &name, "counter", help, values);
    }
    for (i, help) in [
        "count of spans per message, of the last one",
        "size of a message in bytes, of the last one",
    ]
    .into_iter()
    .enumerate()
    {
        let name = gauges(stats, Receiver::Zipkin)[i].0;
        let name = format!("zipkin_collector_{name}");
        let values = of_all(&|receiver| gauges(stats, receiver)[i].1);
        family(&mut text, &name, "gauge", help, values);
    }
    let name = "http_server_requests_seconds";
    let _ = writeln!(
        text,
        "# HELP {name} Response time histogram\n# TYPE {name} summary"
    );
    for (request, answered) in state.requests.snapshot() {
        let labels = format!(
            "{{method=\"{}\",status=\"{}\",uri=\"{}\"}}",
            request.method, request.status, request.uri
        );
        let seconds = answered.time.as_secs_f64();
        let _ = writeln!(text, "{name}_count{labels} {}", answered.count);
        let _ = writeln!(text, "{name}_sum{labels} {seconds}");
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, values: [(&str, u64); 2]) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (transport, value) in values {
        let _ = writeln!(text, "{name}{{transport=\"{transport}\"}} {value}");
    }
}
