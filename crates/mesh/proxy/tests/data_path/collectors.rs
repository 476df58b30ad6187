//! Collectors of each kind that do well, and that are dead, slow, flapping or lying: requests never notice, what
//! waits is bounded, and what is lost is counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::opentelemetry::proto::common::v1::any_value::Value;
use periplus_proxy::Left;
use periplus_proxy::snapshot::{
    AccessLog, Cluster, ConnectionManager, Http2Options, LogCollector, TracingProvider,
    UpstreamProtocol,
};
use periplus_wire::{otlp, zipkin};
use prost::Message as _;
use socket2::{Domain, Socket, Type};

use crate::otlp_logs::ExportLogsServiceRequest;
use crate::support::config::{Mesh, cluster, tracing};
use crate::support::h2::{H2Origin, Incoming, read};
use crate::support::origin::read_request;
use crate::support::{Config, Origin, pause, wait_for};

/// How spans are reported, or records of access logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ZipkinJson,
    ZipkinProto,
    OtlpHttp,
    OtlpGrpc,
    LogsHttp,
    LogsGrpc,
}

use Kind::{LogsGrpc, LogsHttp, OtlpGrpc, OtlpHttp, ZipkinJson, ZipkinProto};

const KINDS: [Kind; 6] = [
    ZipkinJson,
    ZipkinProto,
    OtlpHttp,
    OtlpGrpc,
    LogsHttp,
    LogsGrpc,
];

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
    /// It says at the first report when to come again, and does well from then on.
    Later,
    /// Somebody in between says at the first report that it is not there.
    Behind,
    /// It has no room, and does not say that this will pass.
    Full,
}

impl Does {
    /// Whether it does well with the report of this number.
    fn is_up(self, number: usize) -> bool {
        match self {
            Self::CloseOnce | Self::Later | Self::Behind => number > 0,
            Self::Recover => number >= 3,
            Self::Flap => !number.is_multiple_of(2),
            _ => true,
        }
    }
}

/// `RESOURCE_EXHAUSTED`, with a `RetryInfo` of one second.
const IN_A_SECOND: &str = "CAgaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAQ";

const REQUESTS: u64 = 20;
/// What may wait at a collector that hangs.
const MOST_PENDING: usize = 5;

impl Kind {
    fn is_zipkin(self) -> bool {
        matches!(self, ZipkinJson | ZipkinProto)
    }

    fn is_grpc(self) -> bool {
        matches!(self, OtlpGrpc | LogsGrpc)
    }

    /// Has a proxy report so.
    fn configure(self, does: Does, config: &mut Config) {
        let (cluster, host) = ("collector".to_owned(), "collector".to_owned());
        let fields = b"x-token: secret\r\n".to_vec();
        let path = match self {
            ZipkinJson | ZipkinProto => "/api/v2/spans",
            OtlpHttp => "/v1/traces",
            OtlpGrpc => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            LogsHttp => "/v1/logs",
            LogsGrpc => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        };
        let path = path.to_owned();
        // Whoever answers in the end must not be given up before.
        let timeout = match does {
            Does::Hang | Does::Half | Does::Flood => Duration::from_millis(500),
            _ => Duration::from_secs(10),
        };
        let provider = match self {
            ZipkinJson | ZipkinProto => TracingProvider::Zipkin {
                cluster,
                host,
                path,
                trace_id_128bit: true,
                shared_span_context: false,
                with_w3c: false,
                is_proto: self == ZipkinProto,
                fields,
            },
            OtlpHttp | OtlpGrpc => TracingProvider::OpenTelemetry {
                cluster,
                host,
                path,
                service_name: "app.default".to_owned(),
                timeout,
                is_grpc: self == OtlpGrpc,
                sampler: None,
                fields,
                resource: Vec::new(),
            },
            LogsHttp | LogsGrpc => {
                let collector = LogCollector {
                    cluster,
                    host,
                    path,
                    timeout,
                    is_grpc: self == LogsGrpc,
                    fields,
                    log_name: Some("of requests".to_owned()),
                    resource: Vec::new(),
                    stat_prefix: "app".to_owned(),
                    flush_after: Duration::from_secs(1),
                    flush_bytes: 64 * 1024,
                };
                // As long as a span.
                let body = "%REQ(:AUTHORITY)% %REQ(USER-AGENT)%";
                let log = AccessLog::of_records(collector, body).expect("a format");
                let log = Arc::new(log);
                config.manager = Box::new(move |manager: &mut ConnectionManager| {
                    manager.access_logs = vec![log.clone()];
                });
                return;
            }
        };
        config.tracing = Some(tracing(provider));
    }

    fn counter(self, name: &str) -> String {
        match self {
            ZipkinJson | ZipkinProto => format!("tracing.zipkin.{name}"),
            OtlpHttp | OtlpGrpc => format!("tracing.opentelemetry.{name}"),
            LogsHttp | LogsGrpc => {
                let name = match name {
                    "spans_sent" => "logs_written",
                    "spans_dropped" => "logs_dropped",
                    "spans_dropped_most_spans" => "logs_dropped_most_logs",
                    "spans_dropped_most_bytes" => "logs_dropped_most_bytes",
                    other => other,
                };
                format!("access_logs.open_telemetry_access_log.app.{name}")
            }
        }
    }

    /// How many spans, or records, nobody had taken at the end.
    fn left(self, left: &Left) -> u64 {
        match self {
            LogsHttp | LogsGrpc => left.log_lines,
            _ => left.spans,
        }
    }

    /// How many spans, or records, there are in a report.
    fn spans(self, content_type: &str, body: &[u8]) -> usize {
        let expected = match self {
            ZipkinJson => "application/json",
            ZipkinProto | OtlpHttp | LogsHttp => "application/x-protobuf",
            OtlpGrpc | LogsGrpc => "application/grpc",
        };
        assert_eq!(content_type, expected, "{self:?}");
        // More than what collectors of gRPC take.
        assert!(body.len() < 4 * 1024 * 1024, "{self:?} {}", body.len());
        let message = match self.is_grpc() {
            true => {
                let length = u32::from_be_bytes(body[1..5].try_into().expect("a length"));
                assert_eq!((body[0], length as usize), (0, body.len() - 5));
                &body[5..]
            }
            false => body,
        };
        let batch = match self {
            ZipkinJson => zipkin::decode_json(body).expect("JSON"),
            ZipkinProto => zipkin::decode_proto(body).expect("protobuf"),
            OtlpHttp | OtlpGrpc => otlp::decode_protobuf(message).expect("OTLP").batch,
            LogsHttp | LogsGrpc => return records(message),
        };
        let spans = batch.groups.iter().flat_map(|group| &group.spans);
        let named = |name: &str| {
            let spans = spans.clone();
            spans.filter(|span| span.name == name).count()
        };
        // What names them is the tracer's.
        match self {
            ZipkinJson | ZipkinProto => named("h.example"),
            _ => named("ingress"),
        }
    }
}

/// How many records there are in a report.
fn records(message: &[u8]) -> usize {
    let request = ExportLogsServiceRequest::decode(message).expect("OTLP");
    let of_requests = request.records().filter(|(resource, record)| {
        assert_eq!(resource.attributes.len(), 4, "{resource:?}");
        let body = record.body.clone().and_then(|body| body.value);
        matches!(body, Some(Value::StringValue(text)) if text.starts_with("h.example "))
    });
    of_requests.count()
}

/// A collector, and what has come to it.
struct Collector {
    address: SocketAddr,
    seen: Seen,
    /// Its port if nobody listens there: left free, it may be given to somebody who does.
    _held: Option<Socket>,
}

#[derive(Clone, Default)]
struct Seen {
    /// How many spans it has taken.
    taken: Arc<AtomicUsize>,
    /// When reports have come.
    reports: Arc<Mutex<Vec<Instant>>>,
}

impl Seen {
    /// Notes a report: how many there were before.
    fn report(&self) -> usize {
        let mut reports = self.reports.lock().expect("a list");
        reports.push(Instant::now());
        reports.len() - 1
    }

    fn take(&self, spans: usize) {
        self.taken.fetch_add(spans, Ordering::Relaxed);
    }
}

impl Collector {
    fn start(kind: Kind, does: Does) -> Self {
        let seen = Seen::default();
        let held = (does == Does::Nothing).then(bound);
        let address = match (&held, kind) {
            (Some(socket), _) => socket.local_addr().ok().and_then(|at| at.as_socket()),
            (None, kind) if kind.is_grpc() => Some(over_http2(kind, does, seen.clone())),
            (None, kind) => Some(over_http1(kind, does, seen.clone())),
        };
        Self {
            address: address.expect("an address"),
            seen,
            _held: held,
        }
    }

    fn taken(&self) -> u64 {
        self.seen.taken.load(Ordering::Relaxed) as u64
    }

    fn reports(&self) -> Vec<Instant> {
        self.seen.reports.lock().expect("a list").clone()
    }
}

/// A socket with a port of its own, on which nobody listens.
fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    socket
}

fn over_http1(kind: Kind, does: Does, seen: Seen) -> SocketAddr {
    let origin = Origin::raw(move |mut client, _| {
        while let Some(report) = read_request(&mut client) {
            if !does.is_up(seen.report()) {
                let more = match does {
                    Does::Later => "retry-after: 1\r\n",
                    Does::Behind => "",
                    _ => return,
                };
                client.send(format!(
                    "HTTP/1.1 503 No\r\n{more}content-length: 0\r\n\r\n"
                ));
                continue;
            }
            assert_eq!(report.header("x-token").as_deref(), Some("secret"));
            let content_type = report.header("content-type").unwrap_or_default();
            let spans = kind.spans(&content_type, &report.body);
            match does {
                Does::Well
                | Does::CloseOnce
                | Does::Recover
                | Does::Dawdle
                | Does::Flap
                | Does::Later
                | Does::Behind => {
                    if does == Does::Dawdle {
                        pause(Duration::from_millis(200));
                    }
                    seen.take(spans);
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
                Does::Full => client.send("HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n"),
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

fn over_http2(kind: Kind, does: Does, seen: Seen) -> SocketAddr {
    let serve = move |incoming: Incoming| {
        let seen = seen.clone();
        async move {
            let Incoming {
                head,
                mut body,
                mut respond,
            } = incoming;
            assert_eq!(head.headers()["x-token"], "secret");
            let content_type = head.headers()["content-type"].clone();
            let (body, _) = read(&mut body).await.expect("a report");
            if !does.is_up(seen.report()) {
                let head = http::Response::builder();
                let head = match does {
                    Does::Later => head
                        .header("grpc-status", "8")
                        .header("grpc-status-details-bin", IN_A_SECOND),
                    Does::Behind => head.status(503),
                    _ => {
                        respond.send_reset(h2::Reason::INTERNAL_ERROR);
                        return;
                    }
                };
                let head = head.body(()).expect("a head");
                respond.send_response(head, true).expect("a head");
                return;
            }
            let content_type = content_type.to_str().expect("text");
            let spans = kind.spans(content_type, &body);
            let (message, status) = match does {
                Does::Well
                | Does::CloseOnce
                | Does::Recover
                | Does::Dawdle
                | Does::Flap
                | Does::Later
                | Does::Behind => {
                    if does == Does::Dawdle {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    seen.take(spans);
                    (&[0; 5][..], "0")
                }
                Does::Half | Does::Reject => (&[0, 0, 0, 0, 4, 0x0a, 2, 0x08, 2][..], "0"),
                Does::Flood => (&[b'x'; 100_000][..], "0"),
                Does::Fail => (&[][..], "13"),
                Does::Full => (&[][..], "8"),
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

/// A proxy that reports to such a collector.
fn proxy(kind: Kind, does: Does, collector: &Collector, edit: impl FnOnce(&mut Config)) -> Mesh {
    let mut config = Config::to(&Origin::saying("fine")).inbound();
    kind.configure(does, &mut config);
    config.clusters.push(Cluster {
        protocol: match kind.is_grpc() {
            true => UpstreamProtocol::Http2(Http2Options::default()),
            false => UpstreamProtocol::Http1,
        },
        ..cluster("collector", &[collector.address])
    });
    edit(&mut config);
    config.start()
}

/// Sends requests through one.
fn try_out(kind: Kind, does: Does) {
    let case = format!("{kind:?} {does:?}");
    let collector = Collector::start(kind, does);
    let mesh = proxy(kind, does, &collector, |config| {
        if does == Does::Hang {
            config.options.max_pending_spans = MOST_PENDING;
        }
    });
    let mut client = mesh.client();
    let begin = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").status, 200, "{case}");
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "{case}");
    let expect = |name: &str, value: u64| mesh.wait_stat(&kind.counter(name), value);
    match does {
        Does::Well
        | Does::CloseOnce
        | Does::Recover
        | Does::Dawdle
        | Does::Flap
        | Does::Later
        | Does::Behind => {
            expect("spans_sent", REQUESTS);
            expect("spans_dropped", 0);
            assert_eq!(collector.taken(), REQUESTS, "{case}");
            let reports = collector.reports();
            if does == Does::Later {
                let after = reports[1] - reports[0];
                assert!(after >= Duration::from_secs(1), "{case}: {after:?}");
            }
        }
        // What is over is counted at once, whatever becomes of the rest.
        Does::Hang => {
            expect("spans_dropped", REQUESTS - MOST_PENDING as u64);
            expect("spans_dropped_most_spans", REQUESTS - MOST_PENDING as u64);
            if kind.is_zipkin() {
                // Its reports may take longer than the last ones have time.
                assert_eq!(mesh.shutdown(Duration::ZERO).spans, MOST_PENDING as u64);
            }
        }
        // Zipkin's has no words for it, and what is no answer to a report means nothing.
        Does::Reject if kind.is_zipkin() => {
            expect("spans_sent", REQUESTS);
            expect("spans_dropped", 0);
        }
        Does::Half if kind.is_grpc() => {
            expect("spans_dropped", 2);
            expect("spans_sent", REQUESTS - 2);
        }
        Does::Reject => {
            expect("spans_dropped", 2);
            expect("spans_sent", REQUESTS - 2);
        }
        // What it has refused, or answered with nonsense, must not come again.
        Does::Fail | Does::Full | Does::Babble | Does::Flood => {
            expect("spans_dropped", REQUESTS);
            let dropped = mesh.stat(&kind.counter("reports_dropped"));
            assert_eq!(collector.reports().len() as u64, dropped, "{case}");
            assert_eq!(mesh.stat(&kind.counter("reports_failed")), 0, "{case}");
        }
        // It may be there again soon: what there is room for waits.
        Does::Nothing | Does::Half => {
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
        Does::Later,
        Does::Behind,
        Does::Full,
    ];
    for kind in KINDS {
        std::thread::scope(|scope| {
            for does in all {
                scope.spawn(move || try_out(kind, does));
            }
        });
    }
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
                let mesh = proxy(kind, Does::Recover, &collector, |_| ());
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
                assert_eq!(collector.taken(), REQUESTS, "{kind:?}");
            });
        }
    });
}

#[test]
fn a_collector_that_comes_back_while_the_proxy_ends_gets_everything() {
    std::thread::scope(|scope| {
        for kind in KINDS {
            scope.spawn(move || {
                let collector = Collector::start(kind, Does::Recover);
                let mesh = proxy(kind, Does::Recover, &collector, |_| ());
                let mut client = mesh.client();
                for _ in 0..REQUESTS {
                    assert_eq!(client.get("/").status, 200, "{kind:?}");
                }
                // Two of the three reports that it does not take.
                mesh.wait_stat(&kind.counter("reports_failed"), 1);
                drop(client);
                let left = mesh.shutdown(Duration::from_secs(5));
                assert_eq!(kind.left(&left), 0, "{kind:?}");
                assert_eq!(collector.taken(), REQUESTS, "{kind:?}");
            });
        }
    });
}

#[test]
fn long_headers_take_no_more_memory_than_there_is_for_spans() {
    const REQUESTS: u64 = 100;
    const MOST_BYTES: usize = 1024 * 1024;
    let agent = "x".repeat(50_000);
    // Reports of spans may take longer than this test, and those of records come again for as long.
    for kind in [ZipkinJson, ZipkinProto, LogsHttp, LogsGrpc] {
        let collector = Collector::start(kind, Does::Hang);
        let mesh = proxy(kind, Does::Hang, &collector, |config| {
            config.options.max_pending_span_bytes = MOST_BYTES;
        });
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
