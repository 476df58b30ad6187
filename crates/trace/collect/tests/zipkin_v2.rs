//! Zipkin over HTTP (`POST /api/v2/spans`, `POST /api/v1/spans`): what the Zipkin server answers.

mod support;

use std::io::Write;
use std::sync::Arc;

use periplus_collect::{Limits, Reason, Receiver};
use periplus_model::{SpanId, SpanKind, Value};
use periplus_store::{SpanStore as _, StoreError};
use support::{Receivers, Refusing, exchange, post, send};

const JSON: &str = "content-type: application/json\r\n";
const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
const THRIFT: &str = "Content-Type: Application/X-Thrift; charset=utf-8\r\n";
const PATH: &str = "/api/v2/spans";
const PATH_1: &str = "/api/v1/spans";

/// A call of version 1, as both of its sides report it.
const VERSION_1: &str = r#"[{"traceId":"000000000000000a","id":"000000000000000b","name":"get",
    "annotations":[
        {"timestamp":1000,"value":"cs","endpoint":{"serviceName":"web"}},
        {"timestamp":1002,"value":"sr","endpoint":{"serviceName":"app"}},
        {"timestamp":1008,"value":"ss","endpoint":{"serviceName":"app"}},
        {"timestamp":1010,"value":"cr","endpoint":{"serviceName":"web"}}],
    "binaryAnnotations":[
        {"key":"http.status_code","value":200,"endpoint":{"serviceName":"web"}},
        {"key":"sa","value":true,"endpoint":{"serviceName":"app"}}]}]"#;

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
}

#[tokio::test]
async fn protobuf_is_read_by_its_type() {
    let receivers = Receivers::start().await;
    let batch = periplus_wire::zipkin::decode_json(ENVOY.as_bytes()).unwrap();
    let body = periplus_wire::zipkin::encode_proto(&batch);
    for path in [PATH, "/zipkin/api/v2/spans"] {
        let answer = post(receivers.zipkin, path, PROTOBUF, &body).await;
        assert_eq!((answer.status, answer.text()), (202, ""), "{path}");
    }
    assert_eq!(receivers.trace(ENVOY_ID).await.span_count(), 4);
    let answer = post(receivers.zipkin, PATH, PROTOBUF, ENVOY.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.text()),
        (400, "Expected a PROTO3 encoded list\n")
    );
}

#[tokio::test]
async fn a_debugged_report_marks_its_spans() {
    let receivers = Receivers::start().await;
    let headers = "x-b3-flags: 1\r\n";
    let answer = post(receivers.zipkin, PATH, headers, ENVOY.as_bytes()).await;
    assert_eq!(answer.status, 202);
    let trace = receivers.trace(ENVOY_ID).await;
    let spans = trace.groups.iter().flat_map(|group| &group.spans);
    for span in spans {
        assert_eq!(span.attribute("zipkin.debug"), Some(&Value::Bool(true)));
    }
}

#[tokio::test]
async fn deflate_and_zstd_are_read_though_zipkin_does_not() {
    let receivers = Receivers::start().await;
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(ENVOY.as_bytes()).unwrap();
    let zlib = zlib.finish().unwrap();
    let zstd = zstd::encode_all(ENVOY.as_bytes(), 1).unwrap();
    for (name, body) in [("deflate", zlib), ("zstd", zstd)] {
        let headers = format!("content-encoding: {name}\r\n");
        let answer = post(receivers.zipkin, PATH, &headers, &body).await;
        assert_eq!(answer.status, 202, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_accepted_too() {
    let receivers = Receivers::start().await;
    for (path, headers) in [
        (PATH, JSON),
        (PATH, PROTOBUF),
        (PATH_1, JSON),
        (PATH_1, THRIFT),
    ] {
        for body in ["", "[]"] {
            let answer = post(receivers.zipkin, path, headers, body.as_bytes()).await;
            assert_eq!(
                (answer.status, answer.text()),
                (202, ""),
                "{path} {headers} {body:?}"
            );
        }
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
async fn other_paths_and_methods() {
    let receivers = Receivers::start().await;
    let other = post(receivers.zipkin, "/api/v3/spans", JSON, b"[]").await;
    assert_eq!(other.status, 404);
    assert!(other.text().contains("POST /api/v2/spans"));
    let method = send(receivers.zipkin, "PUT", PATH, "", b"").await;
    assert_eq!(method.status, 405);
    let trace = send(receivers.zipkin, "TRACE", PATH_1, "", b"").await;
    assert_eq!(trace.status, 405);
}

#[tokio::test]
async fn version_1_is_read_as_json() {
    let receivers = Receivers::start().await;
    for path in [PATH_1, "/zipkin/api/v1/spans"] {
        let answer = post(receivers.zipkin, path, "", VERSION_1.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (202, ""), "{path}");
    }
    let trace = receivers.trace("a").await;
    assert_eq!(trace.span_count(), 4);
    let client = &trace.groups[0].spans[0];
    assert_eq!(client.kind, SpanKind::Client);
    assert_eq!(client.duration_nano(), 10_000);
    let status = client.attribute("http.status_code").and_then(Value::as_str);
    assert_eq!(status, Some("200"), "which Zipkin loses");
}

#[tokio::test]
async fn what_belongs_elsewhere_is_told_where() {
    let receivers = Receivers::start().await;
    for (path, headers, body, text) in [
        (
            PATH,
            JSON,
            VERSION_1,
            "Expected a JSON_V2 encoded list, but received: JSON_V1\n",
        ),
        (
            PATH_1,
            JSON,
            ENVOY,
            "Expected a JSON_V1 encoded list, but received: JSON_V2\n",
        ),
        (PATH_1, THRIFT, ENVOY, "Expected a THRIFT encoded list\n"),
        (PATH_1, JSON, "{}", "Expected a JSON_V1 encoded list\n"),
    ] {
        let answer = post(receivers.zipkin, path, headers, body.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (400, text), "{path}");
    }
    assert_eq!(receivers.store.stats().spans, 0);
}

#[tokio::test]
async fn metrics_have_zipkins_names() {
    let receivers = Receivers::start().await;
    post(receivers.zipkin, PATH, JSON, ENVOY.as_bytes()).await;
    post(receivers.zipkin, PATH, JSON, b"rubbish").await;
    let metrics = send(receivers.zipkin, "GET", "/metrics", "", b"")
        .await
        .json();
    for (name, value) in [
        ("counter.zipkin_collector.messages.http", 2),
        ("counter.zipkin_collector.messages_dropped.http", 1),
        ("counter.zipkin_collector.spans.http", 2),
        ("counter.zipkin_collector.spans_dropped.http", 0),
        ("counter.zipkin_collector.messages.grpc", 0),
        ("gauge.zipkin_collector.message_spans.http", 2),
        ("gauge.zipkin_collector.message_bytes.http", 7),
    ] {
        assert_eq!(metrics[name], value, "{name} in {metrics}");
    }
    let text = send(receivers.zipkin, "GET", "/prometheus", "", b"").await;
    let text = text.text();
    for line in [
        "# TYPE zipkin_collector_messages_total counter",
        r#"zipkin_collector_messages_total{transport="http"} 2"#,
        r#"zipkin_collector_messages_dropped_total{transport="http"} 1"#,
        r#"zipkin_collector_message_spans{transport="http"} 2"#,
        r#"http_server_requests_seconds_count{method="POST",status="202",uri="/api/v2/spans"} 1"#,
        r#"http_server_requests_seconds_count{method="POST",status="400",uri="/api/v2/spans"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("uri=\"/metrics\""), "{text}");
}

#[tokio::test]
async fn pages_of_known_origins_may_read_and_post() {
    let receivers = Receivers::start().await;
    let headers = "origin: https://shop.example\r\naccess-control-request-method: POST\r\n\
        access-control-request-headers: content-type\r\n";
    let preflight = send(receivers.zipkin, "OPTIONS", PATH, headers, b"").await;
    assert_eq!(preflight.status, 204);
    let allowed = preflight.header("access-control-allow-methods");
    assert_eq!(allowed, Some("GET, POST"));
    let answer = post(
        receivers.zipkin,
        PATH,
        "origin: http://localhost:3000\r\n",
        b"[]",
    )
    .await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    let exposed = answer.header("access-control-expose-headers");
    assert_eq!(exposed, Some("grpc-status, grpc-message"));
    let foreign = post(
        receivers.zipkin,
        PATH,
        "origin: https://evil.example\r\n",
        b"[]",
    )
    .await;
    assert_eq!(foreign.header("access-control-allow-origin"), None);
}
