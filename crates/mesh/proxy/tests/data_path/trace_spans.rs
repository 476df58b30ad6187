//! The spans themselves, compared field by field with captures from Envoy 1.40 (the values that
//! differ from run to run excepted).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use periplus_proxy::snapshot::{CustomTag, CustomTagValue, Tracing, TracingProvider};

use crate::support::collector::{TestSpan, zipkin_spans};
use crate::support::config::{cluster, decorated};
use crate::support::origin::{Origin, ok};
use crate::support::{Collector, Config, forward, pause, route};

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";
const ID: &str = "fbd46b43-c075-9a0d-9a54-97ff56b88bfa";

/// The tags that Istio adds, as literals.
fn istio_tags(tracing: &mut Tracing) {
    tracing.custom_tags = [
        ("istio.canonical_revision", "v1"),
        ("istio.canonical_service", "productpage"),
        ("istio.cluster_id", "Kubernetes"),
        ("istio.mesh_id", "cluster.local"),
        ("istio.namespace", "default"),
    ]
    .map(|(name, value)| CustomTag {
        name: name.into(),
        value: CustomTagValue::Literal(value.into()),
    })
    .to_vec();
}

/// A sidecar of productpage whose outbound route leads to reviews.
fn sidecar(origin: &Origin) -> Config {
    Config::to(origin)
        .cluster(cluster(REVIEWS, &[origin.address]))
        .routes(vec![decorated(
            route("/", forward(REVIEWS)),
            "reviews.default.svc.cluster.local:9080/*",
        )])
}

fn request(headers: &str) -> String {
    format!("GET /reviews/0 HTTP/1.1\r\nhost: reviews:9080\r\nx-request-id: {ID}\r\n{headers}\r\n")
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Capture (b1), the tags.
fn outbound_tags() -> BTreeMap<String, String> {
    tags(&[
        ("component", "proxy"),
        ("downstream_cluster", "-"),
        ("guid:x-request-id", ID),
        ("http.method", "GET"),
        ("http.protocol", "HTTP/1.1"),
        ("http.status_code", "200"),
        ("http.url", "http://reviews:9080/reviews/0"),
        ("istio.canonical_revision", "v1"),
        ("istio.canonical_service", "productpage"),
        ("istio.cluster_id", "Kubernetes"),
        ("istio.mesh_id", "cluster.local"),
        ("istio.namespace", "default"),
        (
            "node_id",
            "sidecar~10.0.0.2~productpage-v1-xyz.default~default.svc.cluster.local",
        ),
        ("peer.address", "127.0.0.1"),
        ("request_size", "0"),
        ("response_flags", "-"),
        ("response_size", "4"),
        ("upstream_cluster", REVIEWS),
        ("upstream_cluster.name", REVIEWS),
        ("user_agent", "-"),
        ("zone", "z1"),
    ])
}

/// The fields of a Zipkin span that are not tags.
fn fields(span: &TestSpan) -> serde_json::Value {
    let mut json: serde_json::Value = serde_json::from_str(&span.raw).expect("JSON");
    let object = json.as_object_mut().expect("an object");
    object.remove("tags");
    object["localEndpoint"]
        .as_object_mut()
        .expect("an object")
        .remove("ipv4");
    json
}

#[test]
fn an_outbound_hop_over_zipkin() {
    let collector = Collector::zipkin();
    let origin = Origin::saying("fine");
    let mesh = sidecar(&origin)
        .zipkin(&collector)
        .with_tracing(istio_tags)
        .start();
    let context = "x-b3-traceid: 5c7f54f25cd9a5589d5d5720cf2c0581\r\nx-b3-spanid: 656b1db28f5bc6f0\r\n\
                   x-b3-parentspanid: f2b103f3e010ab4b\r\nx-b3-sampled: 1\r\n";
    mesh.client().exchange(request(context));
    let span = collector.one();
    assert_eq!(span.tags, outbound_tags());
    assert_eq!(
        fields(&span),
        serde_json::json!({
            "annotations": [{"timestamp": span.end_us, "value": "cr"}],
            "duration": span.end_us - span.start_us,
            "id": span.id,
            "kind": "CLIENT",
            "localEndpoint": {"serviceName": "productpage.default", "port": 0},
            "name": "reviews.default.svc.cluster.local:9080/*",
            "parentId": "656b1db28f5bc6f0",
            "timestamp": span.start_us,
            "traceId": "5c7f54f25cd9a5589d5d5720cf2c0581",
        })
    );
    assert_eq!(origin.last().header("x-b3-spanid"), Some(span.id));
    let report = collector.origin.last();
    assert_eq!(report.line(), "POST /api/v2/spans HTTP/1.1");
    assert_eq!(report.header("host").as_deref(), Some("zipkin"));
    assert_eq!(
        report.header("content-type").as_deref(),
        Some("application/json")
    );
}

#[test]
fn an_outbound_hop_over_otlp() {
    let collector = Collector::otlp();
    let origin = Origin::saying("fine");
    let mesh = sidecar(&origin)
        .otlp(&collector)
        .with_tracing(istio_tags)
        .start();
    let context = "traceparent: 00-475de9d4bf322e038cc3ab3a260cd119-d89e0f1ebc73a1dc-01\r\n\
                   tracestate: a=b\r\n";
    mesh.client().exchange(request(context));
    let span = collector.one();
    assert_eq!(span.tags, outbound_tags());
    assert_eq!(span.trace_id, "475de9d4bf322e038cc3ab3a260cd119");
    assert_eq!(span.parent.as_deref(), Some("d89e0f1ebc73a1dc"));
    assert_eq!(span.kind, "CLIENT");
    assert_eq!(span.flags, 769, "sampled, with a remote parent");
    assert_eq!(span.trace_state, "a=b");
    assert!(!span.error_status);
    let report = collector.origin.last();
    assert_eq!(report.line(), "POST /v1/traces HTTP/1.1");
    assert_eq!(
        report.header("content-type").as_deref(),
        Some("application/x-protobuf")
    );
}

#[test]
fn a_root_at_a_gateway_has_a_span_for_the_attempt_too() {
    for otlp in [false, true] {
        let collector = if otlp {
            Collector::otlp()
        } else {
            Collector::zipkin()
        };
        let origin = Origin::saying("fine");
        let mut products = cluster(
            "outbound|9080||productpage.default.svc.cluster.local",
            &[origin.address],
        );
        products.observability_name.push(';');
        let name = products.name.clone();
        let mut config = Config::to(&origin).cluster(products).routes(vec![decorated(
            route("/", forward(&name)),
            "productpage.default.svc.cluster.local:9080/productpage",
        )]);
        config.node.id = "router~10.0.0.1~gw.istio-system~istio-system.svc.cluster.local".into();
        config.node.cluster = "istio-ingressgateway.istio-system".into();
        let config = if otlp {
            config.otlp(&collector)
        } else {
            config.zipkin(&collector)
        };
        let mesh = config.with_tracing(istio_tags).gateway().start();
        mesh.client().exchange(
            "GET /call HTTP/1.1\r\nhost: bookinfo.example.com\r\nuser-agent: test-agent/1.0\r\n\r\n",
        );
        let spans = collector.wait(2);
        let attempt = &spans[0];
        let server = &spans[1];
        assert_eq!(
            (attempt.kind.as_str(), server.kind.as_str()),
            ("CLIENT", "SERVER")
        );
        assert_eq!(server.parent, None);
        assert_eq!(
            server.name,
            "productpage.default.svc.cluster.local:9080/productpage"
        );
        if !otlp {
            assert_eq!(&server.trace_id[16..], server.id);
        }
        assert_eq!(attempt.trace_id, server.trace_id);
        assert_eq!(attempt.parent.as_ref(), Some(&server.id));
        assert_eq!(attempt.name, format!("router {name}; egress"));
        assert!(server.start_us <= attempt.start_us && attempt.end_us <= server.end_us);
        let address = origin.address.to_string();
        let observed = format!("{name};");
        let mut common = tags(&[
            ("component", "proxy"),
            ("http.protocol", "HTTP/1.1"),
            ("http.status_code", "200"),
            ("istio.canonical_revision", "v1"),
            ("istio.canonical_service", "productpage"),
            ("istio.cluster_id", "Kubernetes"),
            ("istio.mesh_id", "cluster.local"),
            ("istio.namespace", "default"),
            ("response_flags", "-"),
            ("upstream_cluster", &name),
            ("upstream_cluster.name", &observed),
        ]);
        let mut expected = common.clone();
        expected.extend(tags(&[
            ("peer.address", &address),
            ("upstream_address", &address),
        ]));
        assert_eq!(attempt.tags, expected);
        let id = server.tag("guid:x-request-id").to_owned();
        common.extend(tags(&[
            ("downstream_cluster", "-"),
            ("guid:x-request-id", &id),
            ("http.method", "GET"),
            ("http.url", "http://bookinfo.example.com/call"),
            (
                "node_id",
                "router~10.0.0.1~gw.istio-system~istio-system.svc.cluster.local",
            ),
            ("peer.address", "127.0.0.1"),
            ("request_size", "0"),
            ("response_size", "4"),
            ("user_agent", "test-agent/1.0"),
            ("zone", "z1"),
        ]));
        assert_eq!(server.tags, common);
        if otlp {
            assert_eq!((server.flags, attempt.flags), (257, 257));
            let sent = origin.last().header("traceparent").expect("context");
            assert!(
                sent.contains(&attempt.id),
                "the attempt is the parent upstream"
            );
        } else {
            assert_eq!(
                origin.last().header("x-b3-spanid"),
                Some(attempt.id.clone())
            );
            assert_eq!(
                origin.last().header("x-b3-parentspanid"),
                Some(server.id.clone())
            );
        }
    }
}

#[test]
fn an_inbound_hop_shares_the_span_of_the_caller_or_makes_its_own() {
    let context = "x-b3-traceid: cb0fc3e65fd2e916bc6423cfab89442f\r\nx-b3-spanid: 91c46786d638e3c6\r\n\
                   x-b3-parentspanid: bc6423cfab89442f\r\nx-b3-sampled: 1\r\n";
    for shared in [true, false] {
        let collector = Collector::zipkin();
        let origin = Origin::saying("fine");
        let mesh = sidecar(&origin)
            .zipkin(&collector)
            .inbound()
            .with_tracing(|tracing| {
                if let TracingProvider::Zipkin {
                    shared_span_context,
                    ..
                } = &mut tracing.provider
                {
                    *shared_span_context = shared;
                }
            })
            .start();
        mesh.client().exchange(request(context));
        let span = collector.one();
        assert_eq!(span.kind, "SERVER");
        assert_eq!(span.shared, shared);
        assert_eq!(span.trace_id, "cb0fc3e65fd2e916bc6423cfab89442f");
        let (sent, parent) = (
            origin.last().header("x-b3-spanid").expect("context"),
            span.parent.clone().expect("a parent"),
        );
        assert_eq!(sent, span.id);
        if shared {
            assert_eq!(span.id, "91c46786d638e3c6");
            assert_eq!(parent, "bc6423cfab89442f");
        } else {
            assert_ne!(span.id, "91c46786d638e3c6");
            assert_eq!(parent, "91c46786d638e3c6");
        }
        let annotations = &fields(&span)["annotations"];
        assert_eq!(annotations[0]["value"], "ss");
    }
}

#[test]
fn names_without_a_decorator_are_the_tracers_own() {
    for (otlp, inbound, expected) in [
        (false, false, "h.example"),
        (false, true, "h.example"),
        (true, false, "egress h.example"),
        (true, true, "ingress"),
    ] {
        let collector = if otlp {
            Collector::otlp()
        } else {
            Collector::zipkin()
        };
        let origin = Origin::saying("fine");
        let config = Config::to(&origin);
        let config = if otlp {
            config.otlp(&collector)
        } else {
            config.zipkin(&collector)
        };
        let mesh = if inbound { config.inbound() } else { config }.start();
        mesh.client().get("/");
        let span = collector.one();
        assert_eq!(span.name, expected);
        assert_eq!(span.kind, if inbound { "SERVER" } else { "CLIENT" });
    }
}

#[test]
fn otlp_calls_4xx_an_error_of_the_client_only() {
    for (inbound, status, error) in [
        (false, 404, true),
        (true, 404, false),
        (false, 503, true),
        (true, 503, true),
        (false, 301, false),
    ] {
        let collector = Collector::otlp();
        let origin = Origin::new(move |_| {
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            Some(text.into_bytes())
        });
        let config = Config::to(&origin).otlp(&collector);
        let mesh = if inbound { config.inbound() } else { config }.start();
        assert_eq!(mesh.client().get("/").status, status);
        let span = collector.one();
        assert_eq!(span.error_status, error, "{status}, inbound: {inbound}");
        assert_eq!(span.tag("error") == "true", status >= 500);
    }
}

#[test]
fn sizes_urls_and_custom_tags() {
    let collector = Collector::zipkin();
    let origin = Origin::new(|request| Some(ok(&"y".repeat(request.body.len() * 2))));
    let tag = |name: &str, value| CustomTag {
        name: name.into(),
        value,
    };
    let header = |name: &str, default: Option<&str>| CustomTagValue::RequestHeader {
        name: name.into(),
        default: default.map(str::to_owned),
    };
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .with_tracing(|tracing| {
            tracing.max_path_tag_length = 10;
            tracing.custom_tags = vec![
                tag("component", CustomTagValue::Literal("mine".into())),
                tag("user", header("end-user", None)),
                tag("absent", header("x-absent", None)),
                tag("default", header("x-absent", Some("none"))),
                tag("http.method", header("x-absent", None)),
            ];
        })
        .start();
    mesh.client().exchange(
        "POST /a/long/path?with=query HTTP/1.1\r\nhost: h.example\r\nend-user: jason\r\n\
         x-forwarded-proto: https\r\nx-envoy-downstream-service-cluster: web\r\n\
         user-agent: \"q\"\\x\r\nx-client-trace-id: mine\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    let span = collector.one();
    for (name, value) in [
        ("request_size", "5"),
        ("response_size", "10"),
        ("http.url", "https://h.example/a/long/pa"),
        ("component", "mine"),
        ("user", "jason"),
        ("absent", ""),
        ("default", "none"),
        ("http.method", "POST"),
        ("downstream_cluster", "web"),
        ("user_agent", "\"q\"\\x"),
        ("guid:x-client-trace-id", "mine"),
        ("http.protocol", "HTTP/1.1"),
    ] {
        assert_eq!(span.tag(name), value, "{name}");
    }
    assert_eq!(
        span.tags
            .iter()
            .filter(|(key, _)| *key == "component")
            .count(),
        1
    );
}

#[test]
fn a_span_lasts_from_the_request_to_the_last_byte() {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_micros() as u64
    };
    let collector = Collector::zipkin();
    let origin = Origin::raw(|mut client, _| {
        while client.head().is_some() {
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na");
            pause(Duration::from_millis(150));
            client.send("b");
        }
    });
    let mesh = Config::to(&origin).zipkin(&collector).start();
    let before = now();
    mesh.client().get("/");
    let after = now();
    let span = collector.one();
    // The wall clock is read once a second; what lies between is counted by the monotonic one.
    assert!(
        span.start_us + 2_000 >= before,
        "{} {before}",
        span.start_us
    );
    assert!(span.end_us <= after + 2_000, "{} {after}", span.end_us);
    assert!(span.end_us - span.start_us >= 150_000);
}

#[test]
fn no_span_is_lost_or_doubled_and_batches_are_large() {
    const REQUESTS: usize = 2000;
    let collector = Collector::zipkin();
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).zipkin(&collector).start();
    let mut client = mesh.client();
    for i in 0..REQUESTS {
        assert_eq!(client.get(&format!("/{i}")).status, 200);
    }
    let spans = collector.wait(REQUESTS);
    let mut urls: Vec<_> = spans.iter().map(|span| span.tag("http.url")).collect();
    urls.sort_unstable();
    urls.dedup();
    assert_eq!((spans.len(), urls.len()), (REQUESTS, REQUESTS));
    let reports = collector.origin.received();
    assert!(reports.len() < REQUESTS / 20, "{} reports", reports.len());
    mesh.wait_stat("tracing.zipkin.spans_sent", REQUESTS as u64);
    mesh.wait_stat("tracing.zipkin.spans_dropped", 0);
    assert_eq!(collector.origin.connections(), 1);
}

#[test]
fn spans_that_cannot_be_reported_are_dropped_and_counted() {
    let origin = Origin::saying("fine");
    let refusing = Collector::answering("500 Oops", zipkin_spans);
    let mesh = Config::to(&origin).zipkin(&refusing).start();
    mesh.client().get("/");
    mesh.wait_stat("tracing.zipkin.spans_dropped", 1);
    mesh.wait_stat("tracing.zipkin.reports_dropped", 1);
    assert_eq!(refusing.spans().len(), 1, "refused for good");

    let mut config = Config::to(&origin).zipkin(&refusing);
    config.clusters.pop();
    let mesh = config.start();
    mesh.client().get("/");
    mesh.wait_stat("tracing.zipkin.spans_dropped", 1);
    mesh.wait_stat("tracing.zipkin.reports_skipped_no_cluster", 1);
}

#[test]
fn a_collector_that_hangs_delays_nobody_and_memory_is_bounded() {
    let origin = Origin::saying("fine");
    let hanging = Origin::new(|_| {
        pause(Duration::from_secs(60));
        None
    });
    let collector = Collector::zipkin();
    let mut config = Config::to(&origin).zipkin(&collector);
    config.clusters.pop();
    config.clusters.push(cluster("zipkin", &[hanging.address]));
    config.options.max_pending_spans = 300;
    let mesh = config.start();
    let mut client = mesh.client();
    for _ in 0..1000 {
        assert_eq!(client.get("/").status, 200);
    }
    mesh.wait_stat("tracing.zipkin.spans_dropped", 700);
}
