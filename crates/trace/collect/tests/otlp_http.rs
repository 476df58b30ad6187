//! OTLP/HTTP (OTLP specification 1.x, "OTLP/HTTP"): `POST /v1/traces`.

mod support;

use std::io::Write;
use std::sync::Arc;

use periplus_collect::{Limits, Reason, Receiver};
use periplus_model::{SpanId, TraceId};
use periplus_store::StoreError;
use periplus_wire::otlp::{encode_json, encode_protobuf};
use serde_json::json;
use support::{Receivers, Refusing, batch, id_of, post, send};

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn protobuf_is_stored_and_answered_in_protobuf() {
    let receivers = Receivers::start().await;
    let body = encode_protobuf(&batch(1, 3));
    let answer = post(receivers.otlp_http, "/v1/traces", PROTOBUF, &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(answer.body, b"", "partial_success stays unset");
    let trace = receivers.trace(&id_of(1)).await;
    assert_eq!(trace.span_count(), 3);
    assert_eq!(trace.groups[0].spans, batch(1, 3).groups[0].spans);
    let stats = receivers.collector.stats();
    assert_eq!(stats.accepted_spans(Receiver::OtlpHttp), 3);
    assert_eq!(stats.accepted_requests(Receiver::OtlpHttp), 1);
    assert_eq!(stats.body_bytes(Receiver::OtlpHttp), body.len() as u64);
}

#[tokio::test]
async fn json_is_stored_and_answered_in_json() {
    let receivers = Receivers::start().await;
    let headers = "content-type: Application/JSON; charset=utf-8\r\n";
    let body = encode_json(&batch(1, 2));
    let answer = post(receivers.otlp_http, "/v1/traces", headers, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), "{}");
    assert_eq!(receivers.trace(&id_of(1)).await.span_count(), 2);
}

#[tokio::test]
async fn every_content_encoding_is_read() {
    let receivers = Receivers::start().await;
    let plain = encode_protobuf(&batch(1, 1));
    let level = flate2::Compression::default();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
    gzip.write_all(&plain).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
    zlib.write_all(&plain).unwrap();
    let zlib = zlib.finish().unwrap();
    for (encoding, body) in [
        ("identity", plain.clone()),
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.clone()),
        ("zlib", zlib),
        ("zstd", zstd::encode_all(plain.as_slice(), 3).unwrap()),
    ] {
        let headers = format!("{PROTOBUF}content-encoding: {encoding}\r\n");
        let answer = post(receivers.otlp_http, "/v1/traces", &headers, &body).await;
        assert_eq!(answer.status, 200, "{encoding}");
    }
    assert_eq!(
        receivers
            .collector
            .stats()
            .accepted_spans(Receiver::OtlpHttp),
        5
    );
}

#[tokio::test]
async fn empty_requests_succeed() {
    let receivers = Receivers::start().await;
    for (headers, body) in [
        (PROTOBUF, &b""[..]),
        (JSON, b"{}"),
        (JSON, br#"{"resourceSpans":[]}"#),
    ] {
        let answer = post(receivers.otlp_http, "/v1/traces", headers, body).await;
        assert_eq!(answer.status, 200, "{headers}");
    }
}

#[tokio::test]
async fn a_bad_span_is_refused_and_the_rest_is_kept() {
    let receivers = Receivers::start().await;
    let mut mixed = batch(1, 3);
    mixed.groups[0].spans[0].span_id = SpanId::ZERO;
    mixed.groups[0].spans[2].trace_id = TraceId::ZERO;
    let answer = post(
        receivers.otlp_http,
        "/v1/traces",
        JSON,
        &encode_json(&mixed),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "2");
    let message = partial["errorMessage"].as_str().unwrap();
    assert!(
        message.contains("spans[0]") && message.contains("spans[2]"),
        "{message}"
    );

    let answer = post(
        receivers.otlp_http,
        "/v1/traces",
        PROTOBUF,
        &encode_protobuf(&mixed),
    )
    .await;
    assert_eq!(answer.status, 200);
    // ExportTraceServiceResponse.partial_success (with a length of two bytes), rejected_spans = 2
    assert_eq!((answer.body[0], &answer.body[3..5]), (0x0a, &[0x08, 2][..]));

    assert_eq!(receivers.trace(&id_of(1)).await.span_count(), 2);
    let stats = receivers.collector.stats();
    assert_eq!(stats.accepted_spans(Receiver::OtlpHttp), 2);
    assert_eq!(
        stats.refused_spans(Receiver::OtlpHttp, Reason::Malformed),
        4
    );
    assert_eq!(
        stats.refused_requests(Receiver::OtlpHttp, Reason::Malformed),
        0
    );
}

#[tokio::test]
async fn errors_come_as_a_status_in_the_encoding_of_the_request() {
    let receivers = Receivers::with_limits(Limits {
        max_body_bytes: 1_000,
        max_message_bytes: 2_000,
        ..Limits::default()
    })
    .await;
    let bomb = zstd::encode_all(vec![0; 3_000].as_slice(), 3).unwrap();
    let zipped = |name: &str| format!("{JSON}content-encoding: {name}\r\n");
    for (headers, body, status, code, reason) in [
        (JSON.to_owned(), b"{".to_vec(), 400, 3, Reason::Malformed),
        (JSON.to_owned(), b"".to_vec(), 400, 3, Reason::Malformed),
        (JSON.to_owned(), b"[]".to_vec(), 400, 3, Reason::Malformed),
        (JSON.to_owned(), vec![b' '; 1_001], 413, 8, Reason::TooLarge),
        (zipped("zstd"), bomb, 413, 8, Reason::TooLarge),
        (
            zipped("gzip"),
            b"no gzip".to_vec(),
            400,
            3,
            Reason::CorruptEncoding,
        ),
        (
            zipped("br"),
            b"{}".to_vec(),
            400,
            3,
            Reason::UnsupportedEncoding,
        ),
    ] {
        let before = receivers
            .collector
            .stats()
            .refused_requests(Receiver::OtlpHttp, reason);
        let answer = post(receivers.otlp_http, "/v1/traces", &headers, &body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["code"], code, "{}", answer.text());
        assert!(!answer.json()["message"].as_str().unwrap().is_empty());
        assert_eq!(
            receivers
                .collector
                .stats()
                .refused_requests(Receiver::OtlpHttp, reason),
            before + 1
        );
    }
    let answer = post(receivers.otlp_http, "/v1/traces", PROTOBUF, b"\xff").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(&answer.body[..3], b"\x08\x03\x12", "google.rpc.Status");
}

#[tokio::test]
async fn other_types_paths_and_methods_are_named() {
    let receivers = Receivers::start().await;
    for headers in [
        "",
        "content-type: text/plain\r\n",
        "content-type: application/x-protobufx\r\n",
    ] {
        let answer = post(receivers.otlp_http, "/v1/traces", headers, b"x").await;
        assert_eq!(answer.status, 415, "{headers}");
        assert_eq!(
            answer.text(),
            "415 unsupported media type, supported: [application/json, application/x-protobuf]"
        );
    }
    let answer = send(receivers.otlp_http, "GET", "/v1/traces", "", b"").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.text(), "405 method not allowed, supported: [POST]");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
    for path in ["/", "/v1/metrics", "/v1/logs", "/v1/traces/"] {
        let answer = post(receivers.otlp_http, path, JSON, b"{}").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().contains("POST /v1/traces"), "{path}");
    }
}

#[tokio::test]
async fn a_busy_store_asks_for_a_retry() {
    let store = Arc::new(Refusing(|| StoreError::Busy {
        reason: "no memory".to_owned(),
    }));
    let receivers = Receivers::with(Limits::default(), store).await;
    let body = encode_json(&batch(1, 2));
    let answer = post(receivers.otlp_http, "/v1/traces", JSON, &body).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.json(),
        json!({"code": 14, "message": "the store is busy: no memory; send again later"})
    );
    let stats = receivers.collector.stats();
    assert_eq!(stats.refused_spans(Receiver::OtlpHttp, Reason::Busy), 2);
    assert_eq!(stats.accepted_spans(Receiver::OtlpHttp), 0);
}

#[tokio::test]
async fn a_failing_store_is_a_final_error_without_its_secrets() {
    let store = Arc::new(Refusing(|| StoreError::Io {
        action: "writing",
        source: std::io::Error::other("/secret/path"),
    }));
    let receivers = Receivers::with(Limits::default(), store).await;
    let body = encode_json(&batch(1, 2));
    let answer = post(receivers.otlp_http, "/v1/traces", JSON, &body).await;
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains("secret"), "{}", answer.text());
}

#[tokio::test]
async fn pages_of_allowed_origins_may_post() {
    let receivers = Receivers::start().await;
    let preflight = |origin: &str| {
        let headers = format!(
            "origin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: content-type,x-custom\r\n"
        );
        async move { send(receivers.otlp_http, "OPTIONS", "/v1/traces", &headers, b"").await }
    };
    for origin in ["http://localhost:3000", "https://shop.example"] {
        let answer = preflight(origin).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("content-type,x-custom")
        );
    }
    let foreign = preflight("https://evil.example").await;
    assert_eq!(foreign.header("access-control-allow-origin"), None);

    let headers = format!("{JSON}origin: https://shop.example\r\n");
    let answer = post(receivers.otlp_http, "/v1/traces", &headers, b"{}").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://shop.example")
    );
}

#[tokio::test]
async fn chunked_bodies_and_kept_connections_work() {
    use tokio::io::AsyncWriteExt;
    let receivers = Receivers::start().await;
    let mut stream = tokio::net::TcpStream::connect(receivers.otlp_http)
        .await
        .unwrap();
    for trace in 1..=3 {
        let body = encode_json(&batch(trace, 1));
        let mut request = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: test\r\n{JSON}transfer-encoding: chunked\r\n\r\n"
        )
        .into_bytes();
        for chunk in body.chunks(100) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        stream.write_all(&request).await.unwrap();
        let answer = support::read_answer(&mut stream).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(receivers.trace(&id_of(trace)).await.span_count(), 1);
    }
}
