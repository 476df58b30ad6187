//! The calls of real clients, as they make them: Grafana's Jaeger data source, Kiali, and Jaeger's UI
//! of several versions.

use std::time::{SystemTime, UNIX_EPOCH};

use periplus_model::{Attribute, Resource, Scope, Span, SpanGroup, SpanKind, Status, StatusCode};
use serde_json::{Value as Json, json};

use crate::grpc::{Client, FindTraces, GetTraceV2, Names, Nothing, Query, Spans, Time};
use crate::support::{Server, group, span};

fn now_nano() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

/// A minute ago: what clients find that do not say when.
fn recent(trace: u64, id: u64, parent: u64, name: &str) -> Span {
    let start_unix_nano = now_nano() - 60_000_000_000;
    Span {
        start_unix_nano,
        end_unix_nano: start_unix_nano + 20_000_000,
        ..span(trace, id, parent, name, 0)
    }
}

/// A shop behind a front, whose call failed once.
async fn shop() -> Server {
    let server = Server::start().await;
    let mut failed = recent(0x1a, 2, 1, "GET /cart");
    failed.kind = SpanKind::Server;
    failed.attributes = vec![Attribute::new("http.status_code", 500_i64)];
    failed.status = Status {
        code: StatusCode::Error,
        ..Status::default()
    };
    server
        .add_spans("front.shop", vec![recent(0x1a, 1, 0, "GET /")])
        .await;
    server.add_spans("cart/v1.shop", vec![failed]).await;
    server
        .add_spans("front.shop", vec![recent(0x1b, 1, 0, "GET /")])
        .await;
    server
}

fn ids(answer: &Json) -> Vec<String> {
    let traces = answer["data"].as_array().unwrap().iter();
    let mut ids: Vec<_> = traces
        .map(|trace| trace["traceID"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

const A: &str = "000000000000001a";
const B: &str = "000000000000001b";

#[tokio::test]
async fn grafana() {
    let server = shop().await;
    let services = server.get("/api/services").await.json();
    assert_eq!(services["data"], json!(["cart/v1.shop", "front.shop"]));
    // The name is joined into the path as it is, or escaped.
    for service in ["cart/v1.shop", "cart%2Fv1.shop"] {
        let path = format!("/api/services/{service}/operations");
        assert_eq!(server.get(&path).await.json()["data"], json!(["GET /cart"]));
    }
    // No times: the last two days. Tags from logfmt, all texts.
    for (query, found) in [
        (
            "service=front.shop&operation=&minDuration=&maxDuration=&limit=20",
            vec![A, B],
        ),
        (
            "service=front.shop&operation=GET%20%2F&limit=1500",
            vec![A, B],
        ),
        ("service=front.shop&limit=1", vec![B]),
        (
            "service=cart%2Fv1.shop&tags=%7B%22error%22%3A%22true%22%2C\
             %22http.status_code%22%3A%22500%22%7D&minDuration=1ms&maxDuration=5s&limit=20",
            vec![A],
        ),
    ] {
        let answer = server.get(&format!("/api/traces?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        if found.len() == 1 && query.ends_with("limit=1") {
            assert_eq!(ids(&answer.json()).len(), 1, "{query}");
        } else {
            assert_eq!(ids(&answer.json()), found, "{query}");
        }
    }
    // Times in milliseconds where microseconds are meant: hints, which hide nothing.
    let millis = now_nano() / 1_000_000;
    let path = format!("/api/traces/1a?start={}&end={millis}", millis - 3_600_000);
    assert_eq!(server.get(&path).await.json()["data"][0]["traceID"], A);
    assert_eq!(server.get("/api/traces/2f").await.status, 404);
    let path = format!("/api/dependencies?endTs={millis}&lookback=3600000");
    let links = server.get(&path).await.json();
    assert_eq!(
        links["data"],
        json!([{"parent": "front.shop", "child": "cart/v1.shop", "callCount": 1}])
    );

    // With the toggle for v3: a plus in the zone that nobody escapes.
    assert_eq!(
        server.get("/api/v3/services").await.json()["services"],
        json!(["cart/v1.shop", "front.shop"])
    );
    assert_eq!(
        server
            .get("/api/v3/operations?service=cart%2Fv1.shop")
            .await
            .json(),
        json!({"operations": [{"name": "GET /cart", "spanKind": "server"}]})
    );
    let path = "/api/v3/traces/1a?start_time=2026-01-01T00:00:00+02:00\
                &end_time=2036-01-01T00:00:00.5+02:00";
    let trace = server.get(path).await.json();
    let failed = &trace["result"]["resourceSpans"][1]["scopeSpans"][0]["spans"][0];
    assert_eq!(failed["kind"], 2, "{trace}");
    assert_eq!(failed["status"]["code"], 2, "{trace}");
}

#[tokio::test]
async fn kiali_over_http() {
    let server = shop().await;
    let (start, end) = (now_nano() / 1_000 - 600_000_000, now_nano() / 1_000);
    for (tags, found) in [
        ("%7B%7D", vec![A, B]),
        ("%7B%22error%22%3A%22true%22%7D", vec![]),
    ] {
        let path = format!(
            "/api/traces?end={end}&limit=100&minDuration=1000us&service=front.shop&start={start}&tags={tags}"
        );
        assert_eq!(ids(&server.get(&path).await.json()), found, "{tags}");
    }
    let missing = server.get("/api/traces/ffff").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["errors"][0]["msg"], "trace not found");
}

#[tokio::test]
async fn kiali_over_grpc() {
    let server = shop().await;
    let mut client = Client::connect(server.grpc).await;
    let names: Names = client
        .once("jaeger.api_v2.QueryService/GetServices", Nothing {})
        .await
        .unwrap();
    assert_eq!(names.names, ["cart/v1.shop", "front.shop"]);
    let query = Query {
        service_name: "cart/v1.shop".to_owned(),
        tags: [("error".to_owned(), "true".to_owned())].into(),
        start_time_min: Time::nano(now_nano() - 600_000_000_000),
        start_time_max: Time::nano(now_nano()),
        duration_min: Time::nano(1_000_000),
        // Kiali does not say how many.
        search_depth: 0,
        ..Query::default()
    };
    let request = FindTraces { query: Some(query) };
    let found: Vec<Spans> = client
        .stream("jaeger.api_v2.QueryService/FindTraces", request)
        .await
        .unwrap();
    let [chunk] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(chunk.spans.len(), 2, "the whole trace");
    let processes: Vec<_> = (chunk.spans.iter())
        .map(|span| span.process.as_ref().unwrap().service_name.as_str())
        .collect();
    assert_eq!(processes, ["front.shop", "cart/v1.shop"]);
    let failed = &chunk.spans[1];
    let tags: Vec<_> = failed.tags.iter().map(|tag| tag.key.as_str()).collect();
    assert!(
        tags.contains(&"error") && tags.contains(&"span.kind"),
        "{tags:?}"
    );
    let request = GetTraceV2 {
        trace_id: [[0; 8], 0x1b_u64.to_be_bytes()].concat(),
        raw_traces: false,
    };
    let found: Vec<Spans> = client
        .stream("jaeger.api_v2.QueryService/GetTrace", request)
        .await
        .unwrap();
    assert_eq!(found[0].spans[0].operation_name, "GET /");
}

#[tokio::test]
async fn jaegers_ui_of_several_versions() {
    let server = shop().await;
    let (start, end) = (now_nano() / 1_000 - 600_000_000, now_nano() / 1_000);
    // 1.x: operations by service; to 2.19: with kinds.
    for path in [
        "/api/services/front.shop/operations",
        "/api/operations?service=front.shop&spanKind=",
    ] {
        assert_eq!(server.get(path).await.json()["total"], 1, "{path}");
    }
    let path = format!(
        "/api/traces?end={end}&limit=20&lookback=1h&maxDuration&minDuration&service=front.shop&start={start}"
    );
    assert_eq!(ids(&server.get(&path).await.json()), [A, B]);
    // A lookup by ids, one of which is gone.
    let answer = server.get("/api/traces?traceID=1a&traceID=2f").await.json();
    assert_eq!(ids(&answer), [A]);
    assert_eq!(
        answer["errors"],
        json!([{"msg": "trace not found", "traceID": "000000000000002f"}])
    );
    // From 2.20: summaries in v3, the trace itself as ever.
    let minutes_ago = "2026-01-01T00:00:00.000Z";
    let path = format!(
        "/api/v3/trace-summaries?query.serviceName=front.shop&query.startTimeMin={minutes_ago}\
         &query.startTimeMax=2099-01-01T00%3A00%3A00.000Z&query.searchDepth=20"
    );
    let summaries = server.get(&path).await.json();
    assert_eq!(summaries["summaries"].as_array().unwrap().len(), 2);
    assert_eq!(summaries["summaries"][0]["rootOperationName"], "GET /");
    for more in ["prettyPrint=true", "raw=true&prettyPrint=true"] {
        let answer = server.get(&format!("/api/traces/1A?{more}")).await;
        assert_eq!(answer.json()["data"][0]["traceID"], A, "{more}");
        assert!(answer.text().contains("\n    \"data\""), "{more}");
    }
    // Monitor, as it asks for each of its three graphs.
    for what in ["calls", "errors", "latencies"] {
        let path = format!(
            "/api/metrics/{what}?quantile=0.95&endTs={}&lookback=3600000&step=60000&ratePer=600000\
             &service=front.shop&spanKind=unspecified&groupByOperation=false",
            end / 1_000
        );
        let answer = server.get(&path).await;
        assert!(matches!(answer.status, 200 | 501), "{}", answer.text());
    }
    // An upload: OTLP in, Jaeger's JSON out.
    let batch = periplus_model::Batch {
        groups: vec![
            group("up", vec![span(7, 1, 0, "load", 0)]),
            SpanGroup {
                resource: Resource::default().into(),
                scope: Scope::default().into(),
                spans: vec![span(7, 2, 1, "bare", 0)],
            },
        ],
    };
    let otlp = periplus_wire::otlp::encode_json(&batch);
    let answer = server
        .send("POST", "/api/transform", "", &otlp)
        .await
        .json();
    assert_eq!(answer["data"][0]["spans"].as_array().unwrap().len(), 2);
}
