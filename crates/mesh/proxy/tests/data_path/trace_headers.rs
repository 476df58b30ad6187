//! What a request says about its trace, before and after the proxy; and what Envoy adds besides.

use periplus_proxy::snapshot::{Sampler, ServerHeader, Tracing, TracingProvider};

use crate::support::config::{Mesh, cluster, decorated, forward_within};
use crate::support::origin::{Origin, Received, ok};
use crate::support::{Collector, Config, forward, route};

const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";
const SPAN: &str = "a2fb4a1d1a96d312";
/// Of another trace.
const OTHER: &str = "11111111111111112222222222222222";

/// Sends a request with these headers and returns it as it reached the origin.
fn send(mesh: &Mesh, origin: &Origin, headers: &str) -> Received {
    let request = format!("GET /x HTTP/1.1\r\nhost: h.example\r\n{headers}\r\n");
    assert_eq!(mesh.client().exchange(request).status, 200);
    origin.last()
}

fn sidecar() -> (Mesh, Origin) {
    let origin = Origin::saying("fine");
    let collector = Collector::zipkin();
    (Config::to(&origin).zipkin(&collector).start(), origin)
}

fn get(request: &Received, name: &str) -> String {
    request.header(name).unwrap_or_else(|| "(absent)".into())
}

#[test]
fn the_seven_headers_of_istio_reach_the_application() {
    let (mesh, origin) = sidecar();
    let request = send(
        &mesh,
        &origin,
        &format!(
            "x-request-id: 11111111-2222-9333-8444-555555555555\r\nx-b3-traceid: {TRACE}\r\n\
             x-b3-spanid: {SPAN}\r\nx-b3-parentspanid: 0000000000000001\r\nx-b3-sampled: 1\r\n\
             x-b3-flags: 1\r\nx-ot-span-context: opaque;stuff\r\n"
        ),
    );
    assert_eq!(
        get(&request, "x-request-id"),
        "11111111-2222-9333-8444-555555555555"
    );
    assert_eq!(get(&request, "x-b3-traceid"), TRACE);
    assert_ne!(get(&request, "x-b3-spanid"), SPAN);
    assert_eq!(get(&request, "x-b3-spanid").len(), 16);
    assert_eq!(get(&request, "x-b3-parentspanid"), SPAN);
    assert_eq!(get(&request, "x-b3-sampled"), "1");
    assert_eq!(get(&request, "x-b3-flags"), "1", "never touched");
    assert_eq!(
        get(&request, "x-ot-span-context"),
        "opaque;stuff",
        "never touched"
    );
}

#[test]
fn a_request_without_context_begins_a_trace() {
    let (mesh, origin) = sidecar();
    let request = send(&mesh, &origin, "");
    let (trace, span) = (get(&request, "x-b3-traceid"), get(&request, "x-b3-spanid"));
    assert_eq!(trace.len(), 32);
    assert_eq!(
        &trace[16..],
        span,
        "the root's id is the low half of the trace's"
    );
    assert_eq!(get(&request, "x-b3-sampled"), "1");
    assert_eq!(request.header("x-b3-parentspanid"), None);
    let id = get(&request, "x-request-id");
    assert_eq!(
        (id.len(), &id[14..15]),
        (36, "9"),
        "{id} says that it is sampled"
    );
}

#[test]
fn the_context_of_malformed_headers_passes_untouched() {
    let (mesh, origin) = sidecar();
    for headers in [
        "x-b3-traceid: nonsense\r\nx-b3-spanid: 1\r\nx-b3-sampled: 1\r\n",
        "b3: nonsense\r\n",
    ] {
        let request = send(&mesh, &origin, headers);
        for line in headers.lines() {
            assert!(request.head.contains(line), "{}", request.head);
        }
        // By name: a random x-request-id may have these two digits as well.
        let b3 = |head: &str| {
            let names = head.lines().map(|line| line.trim_start_matches("x-"));
            names.filter(|name| name.starts_with("b3")).count()
        };
        assert_eq!(b3(&request.head), b3(headers));
    }
}

#[test]
fn b3_in_one_header_stays_in_one_header() {
    let (mesh, origin) = sidecar();
    let stale = format!("b3: {TRACE}-{SPAN}-d\r\nx-b3-traceid: stale\r\n");
    let request = send(&mesh, &origin, &stale);
    let b3 = get(&request, "b3");
    assert!(
        b3.starts_with(&format!("{TRACE}-")) && b3.ends_with(&format!("-1-{SPAN}")),
        "{b3}"
    );
    assert_eq!(get(&request, "x-b3-traceid"), "stale");
    assert_eq!(request.header("x-b3-sampled"), None);
}

#[test]
fn b3_and_w3c_travel_together_if_asked() {
    let collector = Collector::zipkin();
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .with_tracing(|tracing| {
            if let TracingProvider::Zipkin { with_w3c, .. } = &mut tracing.provider {
                *with_w3c = true;
            }
        })
        .start();
    let parent = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=b\r\n");
    let request = send(&mesh, &origin, &parent);
    let span = get(&request, "x-b3-spanid");
    assert_eq!(get(&request, "x-b3-traceid"), TRACE);
    assert_eq!(get(&request, "x-b3-parentspanid"), SPAN);
    assert_eq!(
        get(&request, "traceparent"),
        format!("00-{TRACE}-{span}-01")
    );
    assert_eq!(get(&request, "tracestate"), "a=b");
}

#[test]
fn zipkin_alone_leaves_w3c_as_it_is() {
    let (mesh, origin) = sidecar();
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let request = send(&mesh, &origin, &format!("traceparent: {parent}\r\n"));
    assert_eq!(get(&request, "traceparent"), parent);
    assert_ne!(get(&request, "x-b3-traceid"), TRACE);
}

#[test]
fn the_opentelemetry_provider_speaks_w3c() {
    let collector = Collector::otlp();
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).otlp(&collector).start();
    let request = send(&mesh, &origin, "");
    let parent = get(&request, "traceparent");
    assert!(
        parent.starts_with("00-") && parent.ends_with("-01"),
        "{parent}"
    );
    assert_eq!(get(&request, "tracestate"), "", "injected even if empty");

    let incoming = format!(
        "traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\ntracestate: b=2\r\n\
         x-b3-traceid: kept\r\n"
    );
    let request = send(&mesh, &origin, &incoming);
    let parent = get(&request, "traceparent");
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && !parent.contains(SPAN),
        "{parent}"
    );
    assert_eq!(get(&request, "tracestate"), "a=1,b=2");
    assert_eq!(get(&request, "x-b3-traceid"), "kept");

    let request = send(&mesh, &origin, "traceparent: bad\r\ntracestate: a=1\r\n");
    assert_eq!(get(&request, "traceparent"), "bad");
    assert_eq!(get(&request, "tracestate"), "a=1");
}

#[test]
fn the_opentelemetry_provider_speaks_b3_too_if_asked() {
    // Zipkin's before it and Zipkin's behind it: one trace.
    let origin = Origin::saying("fine");
    let collector = Collector::zipkin();
    let last = Config::to(&origin).zipkin(&collector).inbound().start();
    let otlp = Collector::otlp();
    let mut middle = Config::to(&origin).otlp(&otlp).inbound();
    middle.clusters[0] = cluster("app", &[last.address]);
    middle.options.otel_b3 = true;
    let middle = middle.start();
    for (headers, single) in [
        (
            format!("x-b3-traceid: {TRACE}\r\nx-b3-spanid: {SPAN}\r\nx-b3-sampled: 1\r\n"),
            false,
        ),
        (format!("b3: {TRACE}-{SPAN}-1\r\n"), true),
        (
            format!(
                "traceparent: 00-{TRACE}-{SPAN}-01\r\nx-b3-traceid: {OTHER}\r\nx-b3-spanid: {SPAN}\r\n"
            ),
            false,
        ),
    ] {
        let request = send(&middle, &origin, &headers);
        let id = if single {
            get(&request, "b3").split('-').next().map(str::to_owned)
        } else {
            Some(get(&request, "x-b3-traceid"))
        };
        assert_eq!(id.as_deref(), Some(TRACE), "{headers}");
        let traceparent = get(&request, "traceparent");
        assert!(
            traceparent.starts_with(&format!("00-{TRACE}-")),
            "{traceparent}"
        );
        assert!(!traceparent.contains(SPAN), "{traceparent}");
    }
    // What came to none has one in both forms.
    let request = send(&middle, &origin, "");
    let id = get(&request, "x-b3-traceid");
    assert!(
        get(&request, "traceparent").starts_with(&format!("00-{id}-")),
        "{request:?}"
    );
    for spans in [otlp.wait(4), collector.wait(4)] {
        let of_trace = spans.iter().filter(|span| span.trace_id == TRACE);
        assert_eq!(of_trace.count(), 3, "{spans:#?}");
    }
    assert!(
        otlp.spans()
            .iter()
            .all(|span| span.tag("periplus.context.ignored").is_empty())
    );
}

#[test]
fn no_more_traces_begin_in_a_second_than_may() {
    const MOST: u32 = 5;
    const REQUESTS: u64 = 60;
    let origin = Origin::saying("fine");
    let collector = Collector::zipkin();
    let mut config = Config::to(&origin).zipkin(&collector);
    config.options.max_traces_per_second = std::num::NonZeroU32::new(MOST);
    let mesh = config.start();
    let begin = std::time::Instant::now();
    let sampled = || u64::from(get(&origin.last(), "x-b3-sampled") == "1");
    let mut traced = 0;
    for _ in 0..REQUESTS {
        send(&mesh, &origin, "");
        traced += sampled();
    }
    let most = u64::from(MOST) * (begin.elapsed().as_secs() + 2);
    assert!(
        (u64::from(MOST)..=most).contains(&traced),
        "{traced} of {most}"
    );
    mesh.wait_stat("http.test.tracing.rate_limited", REQUESTS - traced);
    // What a caller has decided is decided.
    for sampled_by_caller in ["1", "0"] {
        let headers = format!(
            "x-b3-traceid: {TRACE}\r\nx-b3-spanid: {SPAN}\r\nx-b3-sampled: {sampled_by_caller}\r\n"
        );
        for _ in 0..10 {
            let request = send(&mesh, &origin, &headers);
            assert_eq!(get(&request, "x-b3-sampled"), sampled_by_caller);
        }
    }
    assert_eq!(
        mesh.stat("http.test.tracing.rate_limited"),
        REQUESTS - traced
    );
}

#[test]
fn samplers_of_opentelemetry_decide_about_what_is_traced_at_all() {
    let ratio = |share| Some((share, 100));
    let sampled = "-01";
    for (random, is_parent_based, share, caller, expected) in [
        (100, false, None, "00", true),
        (100, false, ratio(0), "01", false),
        (100, false, ratio(100), "00", true),
        (100, true, ratio(0), "01", true),
        (100, true, ratio(100), "00", false),
        (100, true, ratio(0), "", false),
        (100, true, None, "", true),
        (0, false, None, "", false),
        (0, false, None, "00", false),
        (0, false, None, "01", false),
        (0, true, None, "01", false),
    ] {
        let origin = Origin::saying("fine");
        let collector = Collector::otlp();
        let mut config = Config::to(&origin).otlp(&collector);
        if let Some(Tracing {
            provider: TracingProvider::OpenTelemetry { sampler, .. },
            random_sampling,
            ..
        }) = &mut config.tracing
        {
            *random_sampling *= random;
            *random_sampling /= 100;
            *sampler = Some(Sampler {
                is_parent_based,
                ratio: share,
            });
        }
        let mesh = config.start();
        let headers = match caller {
            "" => String::new(),
            flags => format!("traceparent: 00-{TRACE}-{SPAN}-{flags}\r\n"),
        };
        let traceparent = get(&send(&mesh, &origin, &headers), "traceparent");
        let case = format!("{random} {is_parent_based} {share:?} {caller}: {traceparent}");
        assert_eq!(traceparent.ends_with(sampled), expected, "{case}");
    }
}

#[test]
fn trap_18_the_request_id_says_what_was_decided_and_unsampled_requests_make_no_span() {
    let collector = Collector::zipkin();
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .with_tracing(|tracing| tracing.random_sampling = 0)
        .start();
    let request = send(&mesh, &origin, "");
    assert_eq!(get(&request, "x-b3-sampled"), "0");
    assert_eq!(&get(&request, "x-request-id")[14..15], "4");
    let request = send(&mesh, &origin, "x-b3-sampled: 1\r\n");
    assert_eq!(get(&request, "x-b3-sampled"), "1", "the caller decides");
    let request = send(&mesh, &origin, "x-client-trace-id: me\r\n");
    assert_eq!(
        get(&request, "x-b3-sampled"),
        "1",
        "the client asked for it"
    );
    assert_eq!(&get(&request, "x-request-id")[14..15], "b");
    assert_eq!(collector.wait(2).len(), 2);
    mesh.wait_stat("http.test.tracing.not_traceable", 2);
    mesh.wait_stat("http.test.tracing.client_enabled", 1);
}

#[test]
fn an_edge_replaces_the_request_id_and_a_sidecar_keeps_it() {
    let id = "11111111-2222-9333-8444-555555555555";
    let origin = Origin::saying("fine");
    let sidecar = Config::to(&origin).start();
    let line = format!("x-request-id: {id}\r\n");
    assert_eq!(get(&send(&sidecar, &origin, &line), "x-request-id"), id);
    let fresh = get(
        &send(&sidecar, &origin, "x-request-id:\r\n"),
        "x-request-id",
    );
    assert_eq!(fresh.len(), 36, "an empty one counts as none");

    let edge = Config::to(&origin).gateway().start();
    assert_ne!(get(&send(&edge, &origin, &line), "x-request-id"), id);
    let preserving = Config::to(&origin)
        .gateway()
        .with_manager(|manager| manager.preserve_external_request_id = true)
        .start();
    let kept = get(&send(&preserving, &origin, &line), "x-request-id");
    assert_eq!(
        kept, "11111111-2222-4333-8444-555555555555",
        "without its reason"
    );

    let silent = Config::to(&origin)
        .with_manager(|manager| manager.generate_request_id = false)
        .start();
    assert_eq!(send(&silent, &origin, "").header("x-request-id"), None);
}

#[test]
fn a_gateway_says_who_the_client_is() {
    let origin = Origin::saying("fine");
    let edge = Config::to(&origin).gateway().start();
    let request = send(
        &edge,
        &origin,
        "x-forwarded-for: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-For: 9.9.9.9\r\nx-forwarded-proto: https\r\n\
         x-envoy-external-address: 6.6.6.6\r\n",
    );
    let forwarded = get(&request, "x-forwarded-for");
    assert!(
        forwarded.starts_with("1.2.3.4, 5.6.7.8,9.9.9.9,"),
        "{forwarded}"
    );
    assert_eq!(get(&request, "x-forwarded-proto"), "http");
    assert_eq!(get(&request, "x-envoy-external-address"), "127.0.0.1");

    let sidecar = Config::to(&origin).start();
    let request = send(&sidecar, &origin, "");
    assert_eq!(request.header("x-forwarded-for"), None);
    assert_eq!(get(&request, "x-forwarded-proto"), "http");
    let request = send(&sidecar, &origin, "x-forwarded-proto: https\r\n");
    assert_eq!(get(&request, "x-forwarded-proto"), "https");
}

#[test]
fn clients_cannot_speak_for_the_mesh() {
    let internal = [
        "x-envoy-internal",
        "x-envoy-force-trace",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-ip-tags",
        "x-envoy-original-url",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-retriable-status-codes",
        "x-envoy-retriable-header-names",
    ];
    let external = [
        "x-envoy-downstream-service-cluster",
        "x-envoy-downstream-service-node",
        "x-envoy-decorator-operation",
        "x-envoy-original-path",
    ];
    let kept = ["x-envoy-peer-metadata", "x-envoy-upstream-service-time"];
    let headers: String = internal
        .iter()
        .chain(&external)
        .chain(&kept)
        .map(|name| format!("{name}: v\r\n"))
        .collect();
    let origin = Origin::saying("fine");
    let routes = || vec![route("/", forward_within("app", None))];
    let sidecar = Config::to(&origin).routes(routes()).start();
    let edge = Config::to(&origin).routes(routes()).gateway().start();
    let from_sidecar = send(&sidecar, &origin, &headers);
    let from_edge = send(&edge, &origin, &headers);
    for name in internal {
        assert_eq!(from_sidecar.header(name), None, "{name}");
        assert_eq!(from_edge.header(name), None, "{name}");
    }
    for name in external {
        assert_eq!(get(&from_sidecar, name), "v", "{name}");
        assert_eq!(from_edge.header(name), None, "{name}");
    }
    for name in kept {
        assert_eq!(get(&from_edge, name), "v", "{name}");
    }
}

#[test]
fn attempts_and_timeouts_are_told_upstream() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).start();
    let request = send(&mesh, &origin, "x-envoy-attempt-count: 7\r\n");
    assert_eq!(get(&request, "x-envoy-attempt-count"), "1");
    assert_eq!(get(&request, "x-envoy-expected-rq-timeout-ms"), "15000");
    let endless = Config::to(&origin)
        .routes(vec![route("/", forward_within("app", None))])
        .start();
    let request = send(&endless, &origin, "");
    assert_eq!(request.header("x-envoy-expected-rq-timeout-ms"), None);
}

#[test]
fn responses_say_how_long_the_upstream_took_and_who_serves() {
    let origin = Origin::new(|request| {
        Some(match request.path() {
            "/x" => b"HTTP/1.1 200 OK\r\nserver: app\r\ndate: yesterday\r\n\
                      x-envoy-upstream-service-time: 77\r\nx-request-id: app\r\n\
                      content-length: 0\r\n\r\n"
                .to_vec(),
            _ => ok("plain"),
        })
    });
    let mesh = Config::to(&origin).start();
    let response = mesh.client().get("/x");
    assert_eq!(response.header("server").as_deref(), Some("envoy"));
    assert_eq!(response.header("date").as_deref(), Some("yesterday"));
    assert_ne!(
        response.header("x-envoy-upstream-service-time").as_deref(),
        Some("77")
    );
    assert_eq!(response.header("x-request-id").as_deref(), Some("app"));
    let response = mesh.client().get("/plain");
    let date = response.header("date").expect("a date");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");

    for (mode, with, without) in [
        (ServerHeader::AppendIfAbsent, Some("app"), Some("envoy")),
        (ServerHeader::PassThrough, Some("app"), None),
    ] {
        let mesh = Config::to(&origin)
            .with_manager(move |manager| manager.server_header = mode)
            .start();
        assert_eq!(mesh.client().get("/x").header("server").as_deref(), with);
        assert_eq!(mesh.client().get("/").header("server").as_deref(), without);
    }

    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.always_set_request_id_in_response = true)
        .start();
    let response = mesh.client().get("/x");
    assert_eq!(
        response.header("x-request-id"),
        origin.last().header("x-request-id")
    );
}

#[test]
fn the_name_of_an_operation_travels_from_outbound_to_inbound_and_back() {
    let collector = Collector::zipkin();
    let origin = Origin::new(|request| {
        Some(match request.path() {
            "/named" => b"HTTP/1.1 200 OK\r\nx-envoy-decorator-operation: of the app\r\n\
                          content-length: 0\r\n\r\n"
                .to_vec(),
            _ => ok("fine"),
        })
    });
    let routes = || vec![decorated(route("/", forward("app")), "of the route")];
    let outbound = Config::to(&origin)
        .zipkin(&collector)
        .routes(routes())
        .start();
    let request = send(
        &outbound,
        &origin,
        "x-envoy-decorator-operation: of the caller\r\n",
    );
    assert_eq!(get(&request, "x-envoy-decorator-operation"), "of the route");
    let response = outbound.client().get("/named");
    assert_eq!(response.header("x-envoy-decorator-operation"), None);

    let plain = Config::to(&origin).zipkin(&collector).start();
    let request = send(
        &plain,
        &origin,
        "x-envoy-decorator-operation: of the caller\r\n",
    );
    assert_eq!(
        get(&request, "x-envoy-decorator-operation"),
        "of the caller"
    );

    let inbound = Config::to(&origin)
        .zipkin(&collector)
        .inbound()
        .routes(routes())
        .start();
    let mut client = inbound.client();
    let response = client.exchange(
        "GET /x HTTP/1.1\r\nhost: h\r\nx-envoy-decorator-operation: of the caller\r\n\r\n",
    );
    assert_eq!(response.header("x-envoy-decorator-operation"), None);
    assert_eq!(origin.last().header("x-envoy-decorator-operation"), None);
    let response = client.get("/named");
    assert_eq!(
        response.header("x-envoy-decorator-operation").as_deref(),
        Some("of the route"),
        "instead of the application's"
    );

    let mut names: Vec<_> = collector
        .wait(5)
        .into_iter()
        .map(|span| span.name)
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "h.example",
            "of the app",
            "of the caller",
            "of the route",
            "of the route"
        ]
    );
}

#[test]
fn without_tracing_context_passes_untouched() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).start();
    let headers = format!("x-b3-traceid: {TRACE}\r\nx-b3-spanid: {SPAN}\r\ntraceparent: x\r\n");
    let request = send(&mesh, &origin, &headers);
    assert_eq!(get(&request, "x-b3-spanid"), SPAN);
    assert_eq!(get(&request, "traceparent"), "x");
    let id = get(&request, "x-request-id");
    assert_eq!(&id[14..15], "4");
}
