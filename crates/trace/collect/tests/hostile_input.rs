//! Senders that mean harm, or do it: bounded memory, and nobody else disturbed.

mod support;

use std::time::Duration;

use periplus_collect::{Limits, Reason, Receiver};
use periplus_wire::otlp::{encode_json, encode_protobuf};
use support::grpc::{call, client_of};
use support::{Receivers, batch, id_of, post, read_answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
const JSON: &str = "content-type: application/json\r\n";
const THRIFT: &str = "content-type: application/x-thrift\r\n";

#[tokio::test]
async fn bodies_share_a_budget_and_give_it_back() {
    let receivers = Receivers::with_limits(Limits {
        max_inflight_bytes: 100_000,
        ..Limits::default()
    })
    .await;
    // A sender that stops in the middle of a large body holds its share.
    let mut slow = TcpStream::connect(receivers.otlp_http).await.unwrap();
    let head =
        format!("POST /v1/traces HTTP/1.1\r\nhost: t\r\n{JSON}content-length: 99000\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&[b' '; 98_000]).await.unwrap();

    // What does not fit beside it is asked to come again; what fits is served.
    let large = {
        let mut body = vec![b' '; 50_000];
        body.extend_from_slice(b"{}");
        body
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let answer = post(receivers.otlp_http, "/v1/traces", JSON, &large).await;
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), Some("1"));
            break;
        }
        // The server has not read the slow body yet.
        assert!(tokio::time::Instant::now() < deadline, "never busy");
    }
    let small = post(receivers.otlp_http, "/v1/traces", JSON, b"{}").await;
    assert_eq!(small.status, 200);

    drop(slow);
    loop {
        let answer = post(receivers.otlp_http, "/v1/traces", JSON, &large).await;
        if answer.status == 200 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the share is lost");
    }
    let stats = receivers.collector.stats();
    assert!(stats.refused_requests(Receiver::OtlpHttp, Reason::Busy) >= 1);
    assert!(stats.refused_requests(Receiver::OtlpHttp, Reason::Aborted) >= 1);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let receivers = Receivers::with_limits(Limits {
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let mut slow = TcpStream::connect(receivers.otlp_http).await.unwrap();
    let head =
        format!("POST /v1/traces HTTP/1.1\r\nhost: t\r\n{JSON}content-length: 100\r\n\r\n{{");
    slow.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut slow).await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["code"], 4);
    assert_eq!(
        receivers
            .collector
            .stats()
            .refused_requests(Receiver::OtlpHttp, Reason::Timeout),
        1
    );
}

#[tokio::test]
async fn bombs_are_refused_before_they_grow() {
    let receivers = Receivers::with_limits(Limits {
        max_message_bytes: 1 << 20,
        ..Limits::default()
    })
    .await;
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 1 << 28), 1).unwrap();
    assert!(bomb.len() < 1 << 20);
    for (address, path, headers) in [
        (receivers.otlp_http, "/v1/traces", PROTOBUF),
        (receivers.zipkin, "/api/v2/spans", JSON),
        (receivers.jaeger_http, "/api/traces", THRIFT),
    ] {
        let headers = format!("{headers}content-encoding: zstd\r\n");
        let answer = post(address, path, &headers, &bomb).await;
        assert_eq!(answer.status, 413);
    }
}

#[tokio::test]
async fn an_announced_size_over_the_limit_is_refused_before_the_body() {
    let receivers = Receivers::start().await;
    let mut stream = TcpStream::connect(receivers.zipkin).await.unwrap();
    let head = format!(
        "POST /api/v2/spans HTTP/1.1\r\nhost: t\r\n{JSON}content-length: 99999999999\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 413);
}

#[tokio::test]
async fn broken_http_disturbs_nobody() {
    let receivers = Receivers::start().await;
    let head = "POST /v1/traces HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n";
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\r\n\r\n\r\n\0\0\0".to_vec(),
        format!("{head}content-length: -1\r\n\r\n").into_bytes(),
        format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nxx").into_bytes(),
        format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        format!("{head}x: {}\r\n\r\n", "y".repeat(200_000)).into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_vec(),
    ] {
        for address in receivers.addresses() {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may close before all is written.
            let _ = stream.write_all(&bytes).await;
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
                .await
                .unwrap_or_else(|_| panic!("still open after {bytes:?}"));
            let text = String::from_utf8_lossy(&rest);
            assert!(!text.starts_with("HTTP/1.1 2"), "{text}");
        }
    }
    let body = encode_json(&batch(1, 1));
    let answer = post(receivers.otlp_http, "/v1/traces", JSON, &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(receivers.trace(&id_of(1)).await.span_count(), 1);
}

/// The clock jumps ahead whenever nothing else happens, so that nobody waits in earnest.
#[tokio::test(start_paused = true)]
async fn connections_that_say_nothing_are_closed() {
    let receivers = Receivers::start().await;
    for address in receivers.addresses() {
        for said in [
            "",
            "P",
            "POST /v1/traces HTTP/1.1\r\nhost:",
            "PRI * HTTP/2.0\r\n",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            // A reset is an end, too.
            let _ = stream.read_to_end(&mut rest).await;
            let text = String::from_utf8_lossy(&rest);
            assert!(!text.starts_with("HTTP/1.1 2"), "{said:?}: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_at_last() {
    let receivers = Receivers::start().await;
    let mut stream = TcpStream::connect(receivers.zipkin).await.unwrap();
    let request = "POST /api/v2/spans HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\n[]";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 202);
    let since = tokio::time::Instant::now();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert!(
        since.elapsed() >= Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn a_flood_of_rubbish_leaves_others_alone() {
    let receivers = Receivers::start().await;
    let flood: Vec<_> = (0..8)
        .map(|worker| {
            let address = receivers.otlp_http;
            tokio::spawn(async move {
                for round in 0..50_u8 {
                    let body: Vec<u8> = (0..1_000_u32)
                        .map(|i| (i as u8).wrapping_mul(worker).wrapping_add(round))
                        .collect();
                    let answer = post(address, "/v1/traces", PROTOBUF, &body).await;
                    assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
                }
            })
        })
        .collect();
    for trace in 1..=50 {
        let body = encode_protobuf(&batch(trace, 10));
        let answer = post(receivers.otlp_http, "/v1/traces", PROTOBUF, &body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(receivers.trace(&id_of(trace)).await.span_count(), 10);
    }
    for task in flood {
        task.await.unwrap();
    }
}

/// Rubbish that begins as a batch does, and announces more than there is.
#[tokio::test]
async fn a_malformed_flood_on_jaegers_ports_leaves_others_alone() {
    const POST_SPANS: &str = "/jaeger.api_v2.CollectorService/PostSpans";
    let receivers = Receivers::start().await;
    let rubbish = |begin: &[u8], round: u32| {
        let mut body = begin.to_vec();
        body.extend((0..20_000_u32).map(|i| (i.wrapping_mul(round) >> 3) as u8));
        body
    };
    let http = receivers.jaeger_http;
    let begins: [&'static [u8]; 4] = [
        b"\x0f\x00\x02\x0c\x7f\xff\xff\xff",
        b"\x0f\x00\x02\x0c\x00\x00\x10\x00",
        b"\x0c\x00\x01\x0b\x00\x01\x7f\xff\xff\xff",
        b"\x0c\x00\x09\x0c\x00\x09\x0c\x00\x09",
    ];
    let mut flood: Vec<_> = begins
        .into_iter()
        .map(|begin| {
            tokio::spawn(async move {
                for round in 0..50 {
                    let body = rubbish(begin, round);
                    let answer = post(http, "/api/traces", THRIFT, &body).await;
                    assert_eq!(answer.status, 400);
                }
            })
        })
        .collect();
    let mut client = client_of(receivers.jaeger_grpc).await;
    flood.push(tokio::spawn(async move {
        for round in 0..50 {
            let body = rubbish(b"\x0a\xff\xff\xff\x7f\x0a\x10", round);
            let status = call(&mut client, POST_SPANS, body.into())
                .await
                .unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
        }
    }));
    for trace in 1..=50 {
        let body = encode_protobuf(&batch(trace, 10));
        let answer = post(receivers.otlp_http, "/v1/traces", PROTOBUF, &body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(receivers.trace(&id_of(trace)).await.span_count(), 10);
    }
    for task in flood {
        task.await.unwrap();
    }
    let stats = receivers.collector.stats();
    let refused = |receiver| stats.refused_requests(receiver, Reason::Malformed);
    assert_eq!(refused(Receiver::JaegerHttp), 200);
    assert_eq!(refused(Receiver::JaegerGrpc), 50);
    // What was announced would be gigabytes.
    let most = peak_memory_mib();
    assert!(most < 300, "{most} MiB");
}

/// The most memory that this process has had.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.expect("a peak").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") / 1024
}

/// Every decoder of Zipkin's port at once: rubbish that begins as its format does.
#[tokio::test]
async fn a_malformed_flood_on_zipkins_port_leaves_others_alone() {
    let receivers = Receivers::start().await;
    let address = receivers.zipkin;
    let flood = [
        (
            "/api/v2/spans",
            JSON,
            &b"[{\"traceId\":\"1\",\"id\":\"2\",\"tags\":{"[..],
        ),
        ("/api/v2/spans", PROTOBUF, b"\x0a\xff\xff\x03\x0a\x10"),
        ("/api/v1/spans", JSON, b"[{\"annotations\":[[[[[[[["),
        (
            "/api/v1/spans",
            THRIFT,
            b"\x0c\x7f\xff\xff\xff\x0f\x00\x06\x0c\x7f\xff\xff\xff",
        ),
    ];
    let flood = flood.map(|(path, headers, begin)| {
        tokio::spawn(async move {
            for round in 0..50_u32 {
                let mut body = begin.to_vec();
                body.extend((0..2_000_u32).map(|i| (i.wrapping_mul(round) >> 3) as u8));
                let answer = post(address, path, headers, &body).await;
                assert_eq!(answer.status, 400, "{path} {headers}");
            }
        })
    });
    for trace in 1..=50 {
        let body = periplus_wire::zipkin::encode_json(&batch(trace, 10));
        let answer = post(address, "/api/v2/spans", JSON, &body).await;
        assert_eq!(answer.status, 202);
        assert_eq!(receivers.trace(&id_of(trace)).await.span_count(), 10);
    }
    for task in flood {
        task.await.unwrap();
    }
    let stats = receivers.collector.stats();
    let refused = stats.refused_requests(Receiver::Zipkin, Reason::Malformed);
    assert_eq!(refused, 200);
    assert_eq!(stats.accepted_spans(Receiver::Zipkin), 500);
}

#[tokio::test]
async fn every_cut_of_a_good_request_is_refused_cleanly() {
    let receivers = Receivers::start().await;
    let good = encode_json(&batch(1, 1));
    for end in 1..good.len() {
        let answer = post(receivers.otlp_http, "/v1/traces", JSON, &good[..end]).await;
        assert_eq!(answer.status, 400, "cut at {end}");
        assert_eq!(answer.json()["code"], 3);
    }
}
