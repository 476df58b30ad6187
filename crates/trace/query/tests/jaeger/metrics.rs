//! `/api/metrics`, `/api/deep-dependencies` and `/api/quality-metrics`: what is computed from the
//! spans themselves.

use std::sync::Arc;

use periplus_model::{Span, SpanKind, Status, StatusCode};
use serde_json::{Value as Json, json};

use crate::support::{BOOKINFO_START_US, Server, embedded, span};

/// The milliseconds at which the spans' window of ten seconds has ended.
const END_MS: u64 = BOOKINFO_START_US / 10_000_000 * 10_000 + 10_000;

fn call(trace: u64, name: &str, kind: SpanKind, millis: u64, failed: bool) -> Span {
    let mut span = span(trace, 1, 0, name, 0);
    span.kind = kind;
    span.end_unix_nano = span.start_unix_nano + millis * 1_000_000;
    if failed {
        span.status = Status {
            code: StatusCode::Error,
            ..Status::default()
        };
    }
    span
}

fn values(family: &Json) -> Vec<(Json, Json)> {
    (family["metrics"].as_array().unwrap().iter())
        .map(|metric| {
            let points = metric["metricPoints"].as_array().unwrap();
            let last = points.last().unwrap();
            (
                metric["labels"].clone(),
                last["gaugeValue"]["doubleValue"].clone(),
            )
        })
        .collect()
}

#[tokio::test]
async fn the_monitor_page_gets_rates_errors_and_latencies() {
    the_monitor_page_works(Server::over(Arc::new(embedded())).await).await;
    the_monitor_page_works(Server::start().await).await;
}

async fn the_monitor_page_works(server: Server) {
    let server_side = |i, failed| call(i, "get", SpanKind::Server, 100, failed);
    let mut spans: Vec<Span> = (1..=8).map(|i| server_side(i, i <= 2)).collect();
    spans.push(call(9, "put", SpanKind::Server, 400, false));
    spans.push(call(10, "out", SpanKind::Client, 400, true));
    server.add_spans("shop", spans).await;
    server
        .add_spans("other", vec![server_side(11, false)])
        .await;

    let ask = |what: &str, more: &str| {
        let path = format!(
            "/api/metrics/{what}?service=shop&endTs={END_MS}&lookback=60000&step=60000\
             &ratePer=10000{more}"
        );
        let server = &server;
        async move { server.get(&path).await.json() }
    };
    let calls = ask("calls", "").await;
    assert_eq!(
        calls,
        json!({
            "name": "service_call_rate",
            "type": "GAUGE",
            "help": "calls/sec, grouped by service",
            "metrics": [{
                "labels": [{"name": "service_name", "value": "shop"}],
                "metricPoints": [
                    {"gaugeValue": {"doubleValue": 0.0}, "timestamp": "2026-11-22T07:28:20Z"},
                    {"gaugeValue": {"doubleValue": 0.9}, "timestamp": "2026-11-22T07:29:20Z"},
                ],
            }],
        })
    );
    let operation = |name: &str| json!([{"name": "operation", "value": name}, {"name": "service_name", "value": "shop"}]);
    let by_operation = ask("calls", "&groupByOperation=true").await;
    assert_eq!(by_operation["name"], "service_operation_call_rate");
    assert_eq!(
        by_operation["help"],
        "calls/sec, grouped by service & operation"
    );
    assert_eq!(
        values(&by_operation),
        [
            (operation("get"), json!(0.8)),
            (operation("put"), json!(0.1))
        ]
    );
    let errors = ask("errors", "&groupByOperation=1").await;
    assert_eq!(errors["name"], "service_operation_error_rate");
    assert_eq!(
        values(&errors),
        [
            (operation("get"), json!(0.25)),
            (operation("put"), json!(0.0))
        ]
    );
    let latencies = ask("latencies", "&quantile=0.5").await;
    assert_eq!(latencies["name"], "service_latencies");
    assert_eq!(
        latencies["help"],
        "0.50th quantile latency, grouped by service"
    );
    let points = latencies["metrics"][0]["metricPoints"].as_array().unwrap();
    assert_eq!(points[0]["gaugeValue"]["doubleValue"], "NaN");
    let median = points[1]["gaugeValue"]["doubleValue"].as_f64().unwrap();
    assert!(
        (98.0..102.0).contains(&median),
        "{median} is not about 100 ms"
    );
    let p99 = ask(
        "latencies",
        "&quantile=0.99&spanKind=server&spanKind=client",
    )
    .await;
    let p99 = values(&p99)[0].1.as_f64().unwrap();
    assert!((390.0..410.0).contains(&p99), "{p99} is not about 400 ms");
    assert_eq!(
        ask("calls", "&spanKind=producer").await["metrics"],
        json!([])
    );

    let step = server.get("/api/metrics/minstep").await;
    assert_eq!(
        step.text(),
        r#"{"data":10000,"total":0,"limit":0,"offset":0,"errors":null}"#
    );
    let nothing = server.get("/api/metrics/nothing").await;
    assert_eq!(nothing.status, 404);
}

#[tokio::test]
async fn ways_through_a_service_are_found_in_its_traces() {
    let server = Server::with_bookinfo().await;
    let window = "start=1795332550000000&end=1795332570000000";
    let path = format!("/api/deep-dependencies?service=reviews.default&{window}");
    let json = server.get(&path).await.json();
    let paths: Vec<Vec<&str>> = (json["dependencies"].as_array().unwrap().iter())
        .map(|dependency| {
            assert_eq!(
                dependency["attributes"],
                json!([{"key": "exemplar_trace_id", "value": crate::support::BOOKINFO_ID}])
            );
            (dependency["path"].as_array().unwrap().iter())
                .map(|step| step["service"].as_str().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(
        paths,
        [[
            "istio-ingressgateway.istio-system",
            "productpage.default",
            "reviews.default",
            "ratings.default"
        ]]
    );
    for path in ["/api/deep-dependencies", "/api/quality-metrics"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.message(), "parameter 'service' is required");
    }
}

#[tokio::test]
async fn quality_is_counted_with_examples() {
    let server = Server::start().await;
    let good = span(1, 1, 0, "good", 0);
    let orphan = span(2, 2, 9, "orphan", 0);
    server.add_spans("shop", vec![good, orphan]).await;
    let window = "start=1795332550000000&end=1795332570000000";
    let path = format!("/api/quality-metrics?service=shop&{window}");
    let json = server.get(&path).await.json();
    assert_eq!(json["scores"][0]["max"], 100);
    assert_eq!(json["scores"][0]["value"], 83.3);
    let parents = &json["metrics"][0];
    assert_eq!(parents["name"], "HasParent");
    assert_eq!(parents["passCount"], 1);
    assert_eq!(parents["failureCount"], 1);
    assert_eq!(
        parents["failureExamples"],
        json!([{"traceID": format!("{:032x}", 2), "spanIDs": ["0000000000000002"]}])
    );
    assert_eq!(json["metrics"][1]["failureCount"], 0);
}
