//! Zipkin v2 (`POST /api/v2/spans`): what the Zipkin server answers.

mod support;

use std::io::Write;
use std::sync::Arc;

use periplus_collect::{Limits, Reason, Receiver};
use periplus_model::{SpanId, SpanKind, Value};
use periplus_store::{SpanStore as _, StoreError};
use support::{Receivers, Refusing, exchange, post, send};

const JSON: &str = "content-type: application/json\r\n";
const PATH: &str = "/api/v2/spans";

/// The root span and its attempt, as Envoy 1.40 reports them.
const ENVOY: &str = include_str!("fixtures/envoy-gateway.zipkin.json");
const ENVOY_ID: &str = "5c7f54f25cd9a5589d5d5720cf2c0581";

#[tokio::test]
async fn what_envoy_sends_is_stored() {
    let receivers = Receivers::start().await;
    // Envoy's request, byte for byte but for the body: chunked, no user-agent, extra headers.
    let mut request = b"POST /api/v2/spans HTTP/1.1\r\nhost: zipkin\r\ncontent-type: application/json\r\n\
        x-envoy-internal: true\r\nx-forwarded-for: 127.0.0.1\r\nx-envoy-expected-rq-timeout-ms: 5000\r\n\
        transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for chunk in ENVOY.as_bytes().chunks(700) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = exchange(receivers.zipkin, &request).await;
    assert_eq!(
        answer.status, 202,
        "Envoy counts any other status as dropped"
    );
    assert_eq!(answer.body, b"");

    let trace = receivers.trace(ENVOY_ID).await;
    assert_eq!(trace.span_count(), 2);
    let spans: Vec<_> = trace
        .groups
        .iter()
        .flat_map(|group| group.spans.iter().map(move |span| (group, span)))
        .collect();
    let (group, root) = spans[0];
    assert_eq!(
        group.resource.service_name(),
        "istio-ingressgateway.istio-system"
    );
    assert_eq!(
        root.name,
        "productpage.default.svc.cluster.local:9080/productpage"
    );
    assert_eq!(root.kind, SpanKind::Server);
    assert_eq!(root.parent_span_id, None);
    assert_eq!(root.start_unix_nano, 1_795_332_552_157_501_000);
    assert_eq!(root.duration_nano(), 74_392_000);
    assert_eq!(
        root.attribute("http.status_code").and_then(Value::as_str),
        Some("200")
    );
    let (_, attempt) = spans[1];
    assert_eq!(attempt.kind, SpanKind::Client);
    assert_eq!(
        attempt.parent_span_id,
        Some(SpanId::from_u64(0x9d5d_5720_cf2c_0581))
    );
    assert_eq!(
        receivers.collector.stats().accepted_spans(Receiver::Zipkin),
        2
    );
}

#[tokio::test]
async fn any_type_but_protobuf_is_json_and_gzip_is_read() {
    let receivers = Receivers::start().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(ENVOY.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for (headers, body) in [
        ("", ENVOY.as_bytes()),
        ("content-type: text/plain\r\n", ENVOY.as_bytes()),
        ("content-encoding: gzip\r\n", &gzip),
    ] {
        let answer = post(receivers.zipkin, PATH, headers, body).await;
        assert_eq!(answer.status, 202, "{headers}: {}", answer.text());
    }
    let answer = post(receivers.zipkin, "/zipkin/api/v2/spans", JSON, b"[]").await;
    assert_eq!(answer.status, 202);
    let protobuf = "content-type: application/x-protobuf\r\n";
    let answer = post(receivers.zipkin, PATH, protobuf, b"").await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn nothing_is_accepted_too() {
    let receivers = Receivers::start().await;
    for body in ["", "[]"] {
        let answer = post(receivers.zipkin, PATH, JSON, body.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (202, ""), "{body:?}");
    }
}

#[tokio::test]
async fn bad_input_gets_zipkins_words() {
    let receivers = Receivers::start().await;
    for (headers, body, text) in [
        ("", "{}", Some("Expected a JSON_V2 encoded list\n")),
        ("", "hello", Some("Expected a JSON_V2 encoded list\n")),
        (
            "",
            r#"[{"traceId":"1","id":"2","binaryAnnotations":[]}]"#,
            Some("Expected a JSON_V2 encoded list, but received: JSON_V1\n"),
        ),
        (
            "content-encoding: gzip\r\n",
            "[]",
            Some("Cannot gunzip spans"),
        ),
        ("", r#"[{"traceId":"xyz","id":"2"}]"#, None),
        ("", r#"[{"traceId":"1"}]"#, None),
        ("", "[{", None),
        ("", "[1]", None),
    ] {
        let answer = post(receivers.zipkin, PATH, headers, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer
                .header("content-type")
                .unwrap()
                .starts_with("text/plain"),
            "{body}"
        );
        match text {
            Some(text) => assert_eq!(answer.text(), text, "{body}"),
            None => assert!(!answer.text().is_empty(), "{body}"),
        }
    }
    let stats = receivers.collector.stats();
    assert_eq!(
        stats.refused_requests(Receiver::Zipkin, Reason::Malformed),
        7
    );
    assert_eq!(
        stats.refused_requests(Receiver::Zipkin, Reason::CorruptEncoding),
        1
    );
}

#[tokio::test]
async fn one_bad_span_refuses_its_batch() {
    let receivers = Receivers::start().await;
    let body = r#"[{"traceId":"1","id":"2"},{"traceId":"1","id":"nothex"}]"#;
    let answer = post(receivers.zipkin, PATH, JSON, body.as_bytes()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(receivers.store.stats().spans, 0);
}

#[tokio::test]
async fn a_busy_store_asks_for_a_retry() {
    let store = Arc::new(Refusing(|| StoreError::Busy {
        reason: "no memory".to_owned(),
    }));
    let receivers = Receivers::with(Limits::default(), store).await;
    let answer = post(receivers.zipkin, PATH, JSON, ENVOY.as_bytes()).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn health_and_other_paths() {
    let receivers = Receivers::start().await;
    let health = send(receivers.zipkin, "GET", "/health", "", b"").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["status"], "UP");
    let other = post(receivers.zipkin, "/api/v1/spans", JSON, b"[]").await;
    assert_eq!(other.status, 404);
    assert!(other.text().contains("POST /api/v2/spans"));
    let method = send(receivers.zipkin, "PUT", PATH, "", b"").await;
    assert_eq!(method.status, 405);
}
