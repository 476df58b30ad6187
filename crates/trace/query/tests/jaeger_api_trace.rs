//! `GET /api/traces/{traceID}`: the projection of OTLP's model to Jaeger's, and the adjusters.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};
use serde_json::{Value as Json, json};
use support::{BOOKINFO_ID, Server, group, span, with_attributes};

async fn trace(server: &Server, id: &str) -> Json {
    let answer = server.get(&format!("/api/traces/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut envelope = answer.json();
    assert_eq!(envelope["data"].as_array().unwrap().len(), 1);
    assert_eq!(envelope["errors"], Json::Null);
    envelope["data"][0].take()
}

#[tokio::test]
async fn the_bookinfo_trace_looks_as_jaeger_shows_it() {
    let server = Server::with_bookinfo().await;
    let answer = server
        .get(&format!("/api/traces/{BOOKINFO_ID}?prettyPrint=true"))
        .await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    insta::assert_snapshot!(answer.text());
}

#[tokio::test]
async fn short_and_upper_case_ids_are_found() {
    let server = Server::start().await;
    server
        .add_spans("shop", vec![span(0xab, 1, 0, "op", 0)])
        .await;
    for id in ["ab", "AB", "00000000000000ab", &format!("{:0>32}", "ab")] {
        assert_eq!(
            trace(&server, id).await["traceID"],
            "00000000000000ab",
            "{id}"
        );
    }
}

#[tokio::test]
async fn every_part_of_a_span_has_its_place() {
    let server = Server::start().await;
    let mut full = with_attributes(
        span(1, 2, 1, "full", 0),
        vec![
            Attribute::new("zero", Value::Empty),
            Attribute::new("text", "t"),
            Attribute::new("bool", true),
            Attribute::new("int", 9_007_199_254_740_991_i64),
            Attribute::new("big", -9_007_199_254_740_992_i64),
            Attribute::new("double", 72.5),
            Attribute::new("nan", f64::NAN),
            Attribute::new("bytes", Value::Bytes(vec![0, 0, 0x30, 0x39])),
            Attribute::new(
                "list",
                Value::Array(vec![1_i64.into(), "x".into(), Value::Bytes(vec![1])]),
            ),
            Attribute::new(
                "map",
                Value::Map(vec![
                    Attribute::new("b", 1.5),
                    Attribute::new("a", Value::Empty),
                ]),
            ),
        ],
    );
    full.end_unix_nano = full.start_unix_nano + 1_999;
    full.kind = SpanKind::Producer;
    full.trace_state = "vendor=1".to_owned();
    full.status = Status {
        code: StatusCode::Error,
        message: "it broke".to_owned(),
    };
    let at = full.start_unix_nano;
    full.events = vec![
        Event {
            time_unix_nano: at + 1_500,
            name: "exception".to_owned(),
            attributes: vec![
                Attribute::new("exception.type", "E"),
                Attribute::new("a", 1_i64),
            ],
            ..Event::default()
        },
        Event {
            time_unix_nano: at,
            name: "lost".to_owned(),
            attributes: vec![Attribute::new("event", "kept")],
            ..Event::default()
        },
    ];
    let link = |trace: u64, span: u64, kind: &str| Link {
        trace_id: TraceId::from_halves(0, trace),
        span_id: SpanId::from_u64(span),
        attributes: vec![Attribute::new("opentracing.ref_type", kind)],
        ..Link::default()
    };
    full.links = vec![
        link(7, 8, "follows_from"),
        link(7, 9, "child_of"),
        link(1, 1, "follows_from"),
        link(0, 5, "child_of"),
    ];
    let resource = Arc::new(Resource {
        attributes: vec![
            Attribute::new("service.name", "shop"),
            Attribute::new("host.name", "h1"),
            Attribute::new("ip", 2_130_706_433_i64),
        ],
        ..Resource::default()
    });
    let scope = Arc::new(Scope {
        name: "lib".to_owned(),
        version: "1.2".to_owned(),
        attributes: vec![Attribute::new("gone", "x")],
        ..Scope::default()
    });
    server
        .add(Batch {
            groups: vec![
                SpanGroup {
                    resource: resource.clone(),
                    scope: Arc::default(),
                    spans: vec![span(1, 1, 0, "root", 0)],
                },
                SpanGroup {
                    resource,
                    scope,
                    spans: vec![full],
                },
            ],
        })
        .await;
    let answer = server.get("/api/traces/1?prettyPrint=1").await;
    insta::assert_snapshot!(answer.text());
}

#[tokio::test]
async fn equal_processes_share_a_number() {
    let server = Server::start().await;
    let groups = vec![
        group("a", vec![span(1, 1, 0, "one", 0)]),
        group("b", vec![span(1, 2, 1, "two", 0)]),
        group("a", vec![span(1, 3, 1, "three", 0)]),
    ];
    for group in groups {
        server
            .add(Batch {
                groups: vec![group],
            })
            .await;
    }
    let trace = trace(&server, "1").await;
    let of = |index: usize| trace["spans"][index]["processID"].clone();
    assert_eq!(
        [of(0), of(1), of(2)],
        [json!("p1"), json!("p2"), json!("p1")]
    );
    assert_eq!(
        trace["processes"],
        json!({
            "p1": {"serviceName": "a", "tags": []},
            "p2": {"serviceName": "b", "tags": []},
        })
    );
    assert_eq!(trace["warnings"], Json::Null);
}

#[tokio::test]
async fn a_resource_without_attributes_has_jaegers_name() {
    let server = Server::start().await;
    let mut group = group("", vec![span(1, 1, 0, "one", 0)]);
    group.resource = Arc::default();
    server
        .add(Batch {
            groups: vec![group],
        })
        .await;
    let trace = trace(&server, "1").await;
    assert_eq!(
        trace["processes"]["p1"]["serviceName"],
        "OTLPResourceNoServiceName"
    );
}

#[tokio::test]
async fn a_shared_id_is_split_between_client_and_server() {
    let server = Server::start().await;
    let mut client = span(1, 0xa, 0, "call", 0);
    client.kind = SpanKind::Client;
    let mut shared = span(1, 0xa, 0, "call", 0);
    shared.kind = SpanKind::Server;
    let child = span(1, 0xb, 0xa, "work", 0);
    server.add_spans("caller", vec![client]).await;
    server.add_spans("callee", vec![shared, child]).await;
    let adjusted = trace(&server, "1").await;
    let parent = |span: &Json| span["references"][0]["spanID"].clone();
    let spans = adjusted["spans"].as_array().unwrap();
    let by_name_and_process = |name: &str, process: &str| {
        spans
            .iter()
            .find(|span| span["operationName"] == name && span["processID"] == process)
            .unwrap()
    };
    let client = by_name_and_process("call", "p1");
    let server_half = by_name_and_process("call", "p2");
    let child = by_name_and_process("work", "p2");
    assert_eq!(client["spanID"], "000000000000000a");
    assert_ne!(server_half["spanID"], "000000000000000a");
    assert_eq!(parent(server_half), "000000000000000a");
    assert_eq!(parent(child), server_half["spanID"]);

    let raw = server.get("/api/traces/1?raw=true").await.json();
    let ids: Vec<_> = raw["data"][0]["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| span["spanID"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        ["000000000000000a", "000000000000000a", "000000000000000b"]
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_trace_is_in_its_warnings() {
    let server = Server::start().await;
    let mut early = span(1, 2, 1, "early", 0);
    early.start_unix_nano -= 5_200_000;
    early.end_unix_nano = early.start_unix_nano + 500_000;
    server
        .add_spans(
            "a",
            vec![span(1, 1, 0, "root", 0), span(1, 3, 0x99, "orphan", 0)],
        )
        .await;
    server.add_spans("b", vec![early]).await;
    let trace = trace(&server, "1").await;
    let warnings: Vec<_> = trace["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| span["warnings"].clone())
        .collect();
    assert_eq!(
        warnings,
        [
            Json::Null,
            json!([
                "parent span ID=0000000000000099 is not in the trace; skipping clock skew adjustment"
            ]),
            json!(["clock skew adjustment disabled; not applying calculated delta of 5.45ms"]),
        ]
    );
}

#[tokio::test]
async fn identical_copies_are_shown_once_and_raw_shows_all() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.add_spans("a", vec![span(1, 1, 0, "root", 0)]).await;
    }
    assert_eq!(
        trace(&server, "1").await["spans"].as_array().unwrap().len(),
        1
    );
    let raw = server.get("/api/traces/1?raw=T").await.json();
    assert_eq!(raw["data"][0]["spans"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_trace_of_ten_thousand_spans_comes_back_whole() {
    let server = Server::start().await;
    let spans = (1..=10_008)
        .map(|id| span(1, id, id / 4, "op", id))
        .collect();
    server.add_spans("a", spans).await;
    assert_eq!(
        trace(&server, "1").await["spans"].as_array().unwrap().len(),
        10_008
    );
}

#[tokio::test]
async fn an_upload_is_transformed_and_not_stored() {
    let server = Server::start().await;
    let answer = server
        .send("POST", "/api/transform", "", support::BOOKINFO.as_bytes())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let transformed = answer.json();
    assert_eq!(transformed["data"][0]["traceID"], BOOKINFO_ID);
    assert_eq!(transformed["data"][0]["spans"].as_array().unwrap().len(), 9);
    assert_eq!(server.get("/api/services").await.json()["data"], json!([]));

    let bad = server.send("POST", "/api/transform", "", b"{").await;
    assert_eq!(bad.status, 400);
    assert!(
        bad.message().starts_with("cannot unmarshal OTLP : "),
        "{}",
        bad.text()
    );
}
