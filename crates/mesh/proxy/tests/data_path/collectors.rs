//! Collectors of each kind that do well, and that are dead, slow, flapping or lying: requests never notice, what
//! waits is bounded, and what is lost is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use periplus_proxy::snapshot::{Cluster, Http2Options, TracingProvider, UpstreamProtocol};
use periplus_wire::{otlp, zipkin};

use crate::support::config::{cluster, free_address, tracing};
use crate::support::h2::{H2Origin, Incoming, read};
use crate::support::origin::read_request;
use crate::support::{Config, Origin, pause, wait_for};

/// How spans are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ZipkinJson,
    ZipkinProto,
    OtlpHttp,
    OtlpGrpc,
}

use Kind::{OtlpGrpc, OtlpHttp, ZipkinJson, ZipkinProto};

const KINDS: [Kind; 4] = [ZipkinJson, ZipkinProto, OtlpHttp, OtlpGrpc];

/// What a collector does with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Well,
    /// Nobody is there.
    Nothing,
    /// It closes the connection at the first report, and does well from then on.
    CloseOnce,
    /// It closes the connection at the first few reports, which are large, and does well from then on.
    Recover,
    /// It says that it has failed.
    Fail,
    /// It says something that is no answer.
    Babble,
    /// It begins to answer.
    Half,
    /// It never answers.
    Hang,
    /// It takes its time.
    Dawdle,
    /// It fails at each report when that comes first, and takes it when it comes again.
    Flap,
    /// It answers that all is well, and that it did not want two of the spans.
    Reject,
    /// Its answer does not end.
    Flood,
}

const REQUESTS: u64 = 20;
/// What may wait at a collector that hangs.
const MOST_PENDING: usize = 5;

impl Kind {
    fn provider(self, does: Does) -> TracingProvider {
        let (cluster, host) = ("collector".to_owned(), "collector".to_owned());
        match self {
            ZipkinJson | ZipkinProto => TracingProvider::Zipkin {
                cluster,
                host,
                path: "/api/v2/spans".to_owned(),
                trace_id_128bit: true,
                shared_span_context: false,
                with_w3c: false,
                is_proto: self == ZipkinProto,
                fields: b"x-token: secret\r\n".to_vec(),
            },
            OtlpHttp | OtlpGrpc => TracingProvider::OpenTelemetry {
                cluster,
                host,
                path: match self {
                    OtlpGrpc => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                    _ => "/v1/traces",
                }
                .to_owned(),
                service_name: "app.default".to_owned(),
                // Whoever answers in the end must not be given up before.
                timeout: match does {
                    Does::Hang | Does::Half | Does::Flood => Duration::from_millis(500),
                    _ => Duration::from_secs(10),
                },
                is_grpc: self == OtlpGrpc,
                sampler: None,
                fields: b"x-token: secret\r\n".to_vec(),
                resource: Vec::new(),
            },
        }
    }

    fn counter(self, name: &str) -> String {
        match self {
            ZipkinJson | ZipkinProto => format!("tracing.zipkin.{name}"),
            OtlpHttp | OtlpGrpc => format!("tracing.opentelemetry.{name}"),
        }
    }

    /// How many spans there are in a report.
    fn spans(self, content_type: &str, body: &[u8]) -> usize {
        let expected = match self {
            ZipkinJson => "application/json",
            ZipkinProto | OtlpHttp => "application/x-protobuf",
            OtlpGrpc => "application/grpc",
        };
        assert_eq!(content_type, expected, "{self:?}");
        // More than what collectors of gRPC take.
        assert!(body.len() < 4 * 1024 * 1024, "{self:?} {}", body.len());
        let batch = match self {
            ZipkinJson => zipkin::decode_json(body).expect("JSON"),
            ZipkinProto => zipkin::decode_proto(body).expect("protobuf"),
            OtlpHttp => otlp::decode_protobuf(body).expect("OTLP").batch,
            OtlpGrpc => {
                let length = u32::from_be_bytes(body[1..5].try_into().expect("a length"));
                assert_eq!((body[0], length as usize), (0, body.len() - 5));
                otlp::decode_protobuf(&body[5..]).expect("OTLP").batch
            }
        };
        let spans = batch.groups.iter().flat_map(|group| &group.spans);
        let named = |name: &str| {
            let spans = spans.clone();
            spans.filter(|span| span.name == name).count()
        };
        // What names them is the tracer's.
        match self {
            ZipkinJson | ZipkinProto => named("h.example"),
            OtlpHttp | OtlpGrpc => named("ingress"),
        }
    }
}

/// A collector, and how many spans it has taken.
struct Collector {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Collector {
    fn start(kind: Kind, does: Does) -> Self {
        let taken = Arc::<AtomicUsize>::default();
        let (spans, seen) = (taken.clone(), Arc::<AtomicUsize>::default());
        let is_up = move || match does {
            Does::CloseOnce => seen.fetch_add(1, Ordering::Relaxed) > 0,
            Does::Recover => seen.fetch_add(1, Ordering::Relaxed) >= 3,
            Does::Flap => seen.fetch_add(1, Ordering::Relaxed) % 2 > 0,
            _ => true,
        };
        let address = match (does, kind) {
            (Does::Nothing, _) => free_address(),
            (_, OtlpGrpc) => over_http2(does, is_up, spans),
            (_, kind) => over_http1(kind, does, is_up, spans),
        };
        Self { address, taken }
    }
}

fn over_http1(
    kind: Kind,
    does: Does,
    is_up: impl Fn() -> bool + Send + Sync + 'static,
    taken: Arc<AtomicUsize>,
) -> SocketAddr {
    let origin = Origin::raw(move |mut client, _| {
        while let Some(report) = read_request(&mut client) {
            if !is_up() {
                return;
            }
            assert_eq!(report.header("x-token").as_deref(), Some("secret"));
            let content_type = report.header("content-type").unwrap_or_default();
            let spans = kind.spans(&content_type, &report.body);
            match does {
                Does::Well | Does::CloseOnce | Does::Recover | Does::Dawdle | Does::Flap => {
                    if does == Does::Dawdle {
                        pause(Duration::from_millis(200));
                    }
                    taken.fetch_add(spans, Ordering::Relaxed);
                    client.send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
                }
                Does::Reject => {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                        content-length: 4\r\n\r\n";
                    client.send(head);
                    client.send("\n\u{2}\u{8}\u{2}");
                }
                Does::Flood => {
                    client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
                    for _ in 0..8 {
                        client.send(&chunk);
                    }
                    pause(Duration::from_secs(30));
                }
                Does::Fail => client.send("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
                Does::Babble => client.send("220 SMTP ready\r\n\r\n"),
                Does::Half => {
                    client.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
                    return;
                }
                Does::Hang => pause(Duration::from_secs(30)),
                Does::Nothing => return,
            }
        }
    });
    origin.address
}

fn over_http2(
    does: Does,
    is_up: impl Fn() -> bool + Send + Sync + 'static,
    taken: Arc<AtomicUsize>,
) -> SocketAddr {
    let is_up = Arc::new(is_up);
    let serve = move |incoming: Incoming| {
        let (taken, is_up) = (taken.clone(), is_up.clone());
        async move {
            let Incoming {
                head,
                mut body,
                mut respond,
            } = incoming;
            assert_eq!(head.headers()["x-token"], "secret");
            let content_type = head.headers()["content-type"].clone();
            let (body, _) = read(&mut body).await.expect("a report");
            if !is_up() {
                respond.send_reset(h2::Reason::INTERNAL_ERROR);
                return;
            }
            let content_type = content_type.to_str().expect("text");
            let spans = OtlpGrpc.spans(content_type, &body);
            let (message, status) = match does {
                Does::Well | Does::CloseOnce | Does::Recover | Does::Dawdle | Does::Flap => {
                    if does == Does::Dawdle {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    taken.fetch_add(spans, Ordering::Relaxed);
                    (&[0; 5][..], "0")
                }
                Does::Half | Does::Reject => (&[0, 0, 0, 0, 4, 0x0a, 2, 0x08, 2][..], "0"),
                Does::Flood => (&[b'x'; 100_000][..], "0"),
                Does::Fail => (&[][..], "13"),
                Does::Babble => (&b"what?"[..], "0"),
                Does::Hang | Does::Nothing => {
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    return;
                }
            };
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", status.parse().expect("a value"));
            let head = http::Response::new(());
            let mut send = respond.send_response(head, false).expect("a head");
            let message = Bytes::from_static(message);
            send.send_data(message, false).expect("data");
            send.send_trailers(trailers).expect("trailers");
        }
    };
    H2Origin::new(serve).address
}

/// Sends requests through a proxy that reports to such a collector.
fn try_out(kind: Kind, does: Does) {
    let case = format!("{kind:?} {does:?}");
    let collector = Collector::start(kind, does);
    let mut config = Config::to(&Origin::saying("fine")).inbound();
    config.tracing = Some(tracing(kind.provider(does)));
    config.clusters.push(Cluster {
        protocol: match kind {
            OtlpGrpc => UpstreamProtocol::Http2(Http2Options::default()),
            _ => UpstreamProtocol::Http1,
        },
        ..cluster("collector", &[collector.address])
    });
    if does == Does::Hang {
        config.options.max_pending_spans = MOST_PENDING;
    }
    let mesh = config.start();
    let mut client = mesh.client();
    let begin = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").status, 200, "{case}");
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "{case}");
    let expect = |name: &str, value: u64| mesh.wait_stat(&kind.counter(name), value);
    match does {
        Does::Well | Does::CloseOnce | Does::Recover | Does::Dawdle | Does::Flap => {
            expect("spans_sent", REQUESTS);
            expect("spans_dropped", 0);
            let taken = collector.taken.load(Ordering::Relaxed);
            assert_eq!(taken as u64, REQUESTS, "{case}");
        }
        // What is over is counted at once, whatever becomes of the rest.
        Does::Hang => {
            expect("spans_dropped", REQUESTS - MOST_PENDING as u64);
            expect("spans_dropped_most_spans", REQUESTS - MOST_PENDING as u64);
            if matches!(kind, ZipkinJson | ZipkinProto) {
                // Its reports may take longer than the last ones have time.
                assert_eq!(mesh.shutdown(Duration::ZERO).spans, MOST_PENDING as u64);
            }
        }
        // Zipkin's has no words for it, and what is no answer to a report means nothing.
        Does::Reject if matches!(kind, ZipkinJson | ZipkinProto) => {
            expect("spans_sent", REQUESTS);
            expect("spans_dropped", 0);
        }
        Does::Half if kind == OtlpGrpc => {
            expect("spans_dropped", 2);
            expect("spans_sent", REQUESTS - 2);
        }
        Does::Reject => {
            expect("spans_dropped", 2);
            expect("spans_sent", REQUESTS - 2);
        }
        Does::Fail => {
            expect("spans_dropped", REQUESTS);
            expect("reports_dropped", 1);
        }
        Does::Babble if kind == OtlpGrpc => {
            expect("spans_dropped", REQUESTS);
            expect("reports_dropped", 1);
        }
        // It may be there again soon: what there is room for waits.
        Does::Nothing | Does::Babble | Does::Half | Does::Flood => {
            expect("reports_failed", 1);
            assert_eq!(mesh.stat(&kind.counter("spans_dropped")), 0, "{case}");
        }
    }
}

#[test]
fn no_collector_can_do_harm() {
    let all = [
        Does::Well,
        Does::Nothing,
        Does::CloseOnce,
        Does::Fail,
        Does::Babble,
        Does::Half,
        Does::Hang,
        Does::Dawdle,
        Does::Flap,
        Does::Reject,
        Does::Flood,
    ];
    std::thread::scope(|scope| {
        for kind in KINDS {
            for does in all {
                scope.spawn(move || try_out(kind, does));
            }
        }
    });
}

#[test]
fn an_outage_loses_nothing_that_there_is_room_for() {
    const REQUESTS: u64 = 120;
    let agent = "x".repeat(50_000);
    std::thread::scope(|scope| {
        for kind in KINDS {
            let agent = &agent;
            scope.spawn(move || {
                let collector = Collector::start(kind, Does::Recover);
                let mut config = Config::to(&Origin::saying("fine")).inbound();
                config.tracing = Some(tracing(kind.provider(Does::Recover)));
                config.clusters.push(Cluster {
                    protocol: match kind {
                        OtlpGrpc => UpstreamProtocol::Http2(Http2Options::default()),
                        _ => UpstreamProtocol::Http1,
                    },
                    ..cluster("collector", &[collector.address])
                });
                let mesh = config.start();
                let mut client = mesh.client();
                for _ in 0..REQUESTS {
                    let request =
                        format!("GET / HTTP/1.1\r\nhost: h.example\r\nuser-agent: {agent}\r\n\r\n");
                    assert_eq!(client.exchange(request).status, 200, "{kind:?}");
                }
                let stat = |name: &str| mesh.stat(&kind.counter(name));
                mesh.wait_stat(&kind.counter("spans_sent"), REQUESTS);
                assert_eq!(stat("spans_dropped"), 0, "{kind:?}");
                assert_eq!(stat("reports_failed"), 1, "{kind:?}");
                let taken = collector.taken.load(Ordering::Relaxed);
                assert_eq!(taken as u64, REQUESTS, "{kind:?}");
            });
        }
    });
}

#[test]
fn long_headers_take_no_more_memory_than_there_is_for_spans() {
    const REQUESTS: u64 = 100;
    const MOST_BYTES: usize = 1024 * 1024;
    let agent = "x".repeat(50_000);
    // Their reports may take longer than this test.
    for kind in [ZipkinJson, ZipkinProto] {
        let collector = Collector::start(kind, Does::Hang);
        let mut config = Config::to(&Origin::saying("fine")).inbound();
        config.tracing = Some(tracing(kind.provider(Does::Hang)));
        let collector = cluster("collector", &[collector.address]);
        config.clusters.push(collector);
        config.options.max_pending_span_bytes = MOST_BYTES;
        let mesh = config.start();
        let mut client = mesh.client();
        for _ in 0..REQUESTS {
            let request =
                format!("GET / HTTP/1.1\r\nhost: h.example\r\nuser-agent: {agent}\r\n\r\n");
            assert_eq!(client.exchange(request).status, 200, "{kind:?}");
        }
        // As many as have room, and the one that goes over.
        let kept = MOST_BYTES.div_ceil(agent.len()) as u64;
        let stat = |name: &str| mesh.stat(&kind.counter(name));
        let expected = REQUESTS - kept..=REQUESTS - kept + 1;
        // The last span is made after its response.
        wait_for("what is over to be dropped", || {
            let dropped = stat("spans_dropped_most_bytes");
            expected.contains(&dropped).then_some(())
        });
        assert!(expected.contains(&stat("spans_dropped")), "{kind:?}");
        assert_eq!(stat("spans_dropped_most_spans"), 0, "{kind:?}");
    }
}
