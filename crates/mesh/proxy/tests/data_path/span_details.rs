//! What spans tell besides Envoy's tags, and that the page about it names all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use periplus_proxy::snapshot::{
    BackOff, Cluster, Forward, HeaderMatch, Locality, Mirror, MirrorHost, RetryOn, RetryPolicy,
    Route, RouteAction, ValueMatch,
};

use crate::support::collector::TestSpan;
use crate::support::config::{Mesh, cluster, free_address};
use crate::support::origin::{Origin, ok};
use crate::support::{Collector, Config, forward, pause, route};

const REVIEWS: &str = "outbound|9080|v1|reviews.default.svc.cluster.local";

/// A cluster of one endpoint with all that can be told of one.
fn reviews(origin: &Origin) -> Cluster {
    let mut reviews = cluster(REVIEWS, &[origin.address]);
    reviews.localities = vec![Locality {
        region: "eu".into(),
        zone: "eu-1".into(),
        ..Locality::default()
    }];
    reviews.endpoints[0].hostname = "reviews-v1.example".into();
    reviews.endpoints[0].priority = 1;
    let limits = &mut reviews.limits.default;
    limits.max_requests = 100;
    limits.max_pending_requests = 50;
    limits.max_connections = 10;
    limits.max_retries = 3;
    reviews
}

fn retrying() -> Route {
    let policy = RetryPolicy {
        on: RetryOn::SERVER_ERROR,
        retries: 2,
        back_off: BackOff {
            base: Duration::from_millis(2),
            max: Duration::from_millis(2),
        },
        per_try_timeout: None,
        per_try_idle_timeout: None,
        status_codes: Vec::new(),
        headers: Vec::new(),
        request_headers: Vec::new(),
        rate_limited: None,
        host_attempts: 0,
        other_priorities_after: None,
    };
    let mut made = route(
        "/reviews",
        RouteAction::Forward(Forward {
            retry: Some(Box::new(policy)),
            ..Forward::to(REVIEWS)
        }),
    );
    made.name = "reviews-v1".into();
    made.headers = vec![HeaderMatch {
        name: "end-user".into(),
        value: ValueMatch::Exact("jason".into()),
        invert: false,
        missing_is_empty: false,
    }];
    made
}

/// Says 503 once, and 200 from then on.
fn failing_once() -> Origin {
    let asked = Arc::new(AtomicUsize::new(0));
    Origin::new(move |_| {
        Some(match asked.fetch_add(1, Ordering::SeqCst) {
            0 => b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n".to_vec(),
            _ => ok("fine"),
        })
    })
}

const REQUEST: &str = "GET /reviews/0 HTTP/1.1\r\nhost: h.example\r\nend-user: jason\r\n\r\n";

fn detailed(mut config: Config) -> Mesh {
    config.options.span_details = true;
    config.start()
}

/// The attributes of ours.
fn ours(span: &TestSpan) -> BTreeMap<&str, &str> {
    let tags = span.tags.iter();
    tags.map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| name.starts_with("periplus."))
        .collect()
}

fn number(told: &BTreeMap<&str, &str>, name: &str) -> u64 {
    let text = told
        .get(name)
        .unwrap_or_else(|| panic!("no {name}: {told:?}"));
    text.parse().expect("a number")
}

fn assert_told(told: &BTreeMap<&str, &str>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(told.get(name), Some(value), "{name}: {told:?}");
    }
}

/// Two attempts at a sidecar, whose spans do not tell them apart.
fn sidecar() -> Vec<TestSpan> {
    let collector = Collector::otlp();
    let origin = failing_once();
    let config = Config::to(&origin)
        .otlp(&collector)
        .cluster(reviews(&origin))
        .routes(vec![retrying()]);
    let mesh = detailed(config);
    assert_eq!(mesh.client().exchange(REQUEST).status, 200);
    collector.wait(1)
}

/// The same at a gateway.
fn gateway() -> Vec<TestSpan> {
    let collector = Collector::zipkin();
    let origin = failing_once();
    let config = Config::to(&origin)
        .zipkin(&collector)
        .cluster(reviews(&origin))
        .routes(vec![retrying()])
        .gateway();
    let mesh = detailed(config);
    assert_eq!(mesh.client().exchange(REQUEST).status, 200);
    collector.wait(3)
}

/// One request at work, and one that is refused for it.
fn refused() -> Vec<TestSpan> {
    let collector = Collector::zipkin();
    let origin = Origin::new(|request| {
        if request.path() == "/hold" {
            pause(Duration::from_millis(300));
        }
        Some(ok("fine"))
    });
    let mut config = Config::to(&origin).zipkin(&collector);
    config.clusters[0].limits.default.max_requests = 1;
    let mesh = detailed(config);
    let mut holder = mesh.client();
    holder.send("GET /hold HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.nth(1);
    assert_eq!(mesh.client().get("/").status, 503);
    collector.wait(1)
}

/// A request that waits for the only connection.
fn queued() -> Vec<TestSpan> {
    let collector = Collector::zipkin();
    let origin = Origin::new(|_| {
        pause(Duration::from_millis(100));
        Some(ok("fine"))
    });
    let mut config = Config::to(&origin).zipkin(&collector);
    config.clusters[0].limits.default.max_connections = 1;
    let mesh = detailed(config);
    let mut clients = [mesh.client(), mesh.client()];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response(false).expect("a response").status, 200);
    }
    collector.wait(2)
}

/// An application that asks somebody else without saying why.
fn without_context() -> (String, Vec<TestSpan>) {
    const ID: &str = "fbd46b43-c075-9a0d-9a54-97ff56b88bfa";
    let collector = Collector::zipkin();
    let details = Origin::saying("details");
    let (inbound, outbound) = (free_address(), free_address());
    let application = Origin::new(move |_| {
        let answer = crate::support::Client::connect(outbound).get("/");
        Some(ok(&answer.text()))
    });
    let mut out = Config::to(&details).zipkin(&collector);
    let mut r#in = Config::to(&application).zipkin(&collector).inbound();
    r#in.clusters[0].name = "in".into();
    r#in.routes = vec![route("/", forward("in"))];
    out.clusters.push(r#in.clusters[0].clone());
    out.options.workers = 2;
    let mesh = detailed(out);
    let listeners = vec![
        mesh.config.listener("out", outbound),
        r#in.listener("in", inbound),
    ];
    mesh.published.publish(mesh.config.snapshot(2, listeners));
    mesh.applied(2);
    let answer = crate::support::Client::connect(inbound).exchange(format!(
        "GET / HTTP/1.1\r\nhost: h\r\nx-request-id: {ID}\r\n\
         traceparent: 00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01\r\n\r\n"
    ));
    assert_eq!(answer.text(), "details");
    (ID.to_owned(), collector.wait(2))
}

/// A request with a copy.
fn mirrored() -> Vec<TestSpan> {
    let collector = Collector::zipkin();
    let origin = Origin::saying("fine");
    let shadow = Origin::saying("fine");
    let action = RouteAction::Forward(Forward {
        mirrors: vec![Mirror {
            cluster: "shadow".into(),
            per_million: None,
            is_traced: true,
            host: MirrorHost::Suffixed,
        }],
        ..Forward::to("app")
    });
    let config = Config::to(&origin)
        .zipkin(&collector)
        .cluster(cluster("shadow", &[shadow.address]))
        .routes(vec![route("/", action)]);
    let mesh = detailed(config);
    assert_eq!(mesh.client().get("/").status, 200);
    collector.wait(2)
}

#[test]
fn a_request_tells_its_route_its_endpoint_its_attempts_and_its_times() {
    let spans = sidecar();
    let told = ours(&spans[0]);
    assert_told(
        &told,
        &[
            ("periplus.route.name", "reviews-v1"),
            ("periplus.route.host", "any"),
            (
                "periplus.route.match",
                "prefix /reviews, header end-user = jason",
            ),
            ("periplus.upstream.subset", "v1"),
            ("periplus.upstream.hostname", "reviews-v1.example"),
            ("periplus.upstream.locality", "eu/eu-1"),
            ("periplus.upstream.priority", "1"),
            ("periplus.attempts", "2"),
            ("periplus.breaker.requests", "1"),
            ("periplus.breaker.requests.limit", "100"),
            ("periplus.breaker.pending.limit", "50"),
            ("periplus.breaker.connections", "0"),
            ("periplus.breaker.connections.limit", "10"),
            ("periplus.breaker.retries", "1"),
            ("periplus.breaker.retries.limit", "3"),
            ("periplus.pool.requests", "1"),
        ],
    );
    let endpoint = told["periplus.upstream.endpoint"];
    let before = told["periplus.attempts.before"];
    assert!(
        before.starts_with(&format!("{endpoint}: 503, next after ")),
        "{before}"
    );
    let (first, last) = (
        number(&told, "periplus.time.first_byte_us"),
        number(&told, "periplus.time.last_byte_us"),
    );
    assert!(first <= last, "{told:?}");
    assert!(last <= spans[0].end_us - spans[0].start_us, "{told:?}");
    assert!(!told.contains_key("periplus.response_flags"));
}

#[test]
fn where_attempts_have_spans_each_tells_of_itself() {
    let spans = gateway();
    let (attempts, requests): (Vec<_>, Vec<_>) =
        spans.iter().partition(|span| span.kind == "CLIENT");
    for attempt in &attempts {
        let told = ours(attempt);
        assert_told(&told, &[("periplus.upstream.locality", "eu/eu-1")]);
        assert!(number(&told, "periplus.time.first_byte_us") > 0);
        assert!(!told.contains_key("periplus.route.name"), "{told:?}");
    }
    let connecting = |span: &&TestSpan| number(&ours(span), "periplus.time.connecting_us");
    // A connection whose response was dropped is not used again.
    assert!(
        attempts.iter().all(|span| connecting(span) > 0),
        "{attempts:?}"
    );
    let told = ours(requests[0]);
    assert_told(&told, &[("periplus.attempts", "2")]);
    assert!(!told.contains_key("periplus.upstream.endpoint"), "{told:?}");
}

#[test]
fn a_refusal_tells_what_was_in_use() {
    let spans = refused();
    let told = ours(&spans[0]);
    assert_told(
        &told,
        &[
            ("periplus.response_flags", "a circuit breaker is open"),
            ("periplus.breaker.requests", "1"),
            ("periplus.breaker.requests.limit", "1"),
        ],
    );
    assert!(!told.contains_key("periplus.breaker.retries"), "no limit");
}

#[test]
fn time_in_the_queue_is_not_time_to_connect() {
    let spans = queued();
    let mut times: Vec<_> = spans
        .iter()
        .map(|span| {
            let told = ours(span);
            let time = |name: &str| number(&told, &format!("periplus.time.{name}_us"));
            (time("queued"), time("connecting"))
        })
        .collect();
    times.sort_unstable();
    let [(none, opened), (waited, reused)] = times[..] else {
        panic!("{times:?}");
    };
    assert!(none == 0 && opened > 0 && reused == 0, "{times:?}");
    assert!(waited > 10_000, "{times:?}");
}

#[test]
fn a_request_without_context_tells_what_may_have_led_to_it() {
    let (id, spans) = without_context();
    let (client, server): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.kind == "CLIENT");
    let told = ours(client[0]);
    assert_eq!(number(&told, "periplus.inbound.in_flight"), 1);
    let candidates: serde_json::Value =
        serde_json::from_str(told["periplus.inbound.candidates"]).expect("JSON");
    assert_eq!(
        candidates,
        serde_json::json!([{
            "trace_id": server[0].trace_id,
            "span_id": server[0].id,
            "request_id": id,
            "start_us": server[0].start_us,
        }])
    );
    let told = ours(server[0]);
    assert!(!told.contains_key("periplus.inbound.in_flight"));
    // Its own context came in headers that Zipkin's provider does not read.
    assert_eq!(told["periplus.context.ignored"], "w3c");
}

#[test]
fn the_page_names_what_spans_tell_and_nothing_else() {
    let all = [
        sidecar(),
        gateway(),
        refused(),
        queued(),
        without_context().1,
        mirrored(),
    ]
    .concat();
    let told: BTreeSet<&str> = all.iter().flat_map(|span| ours(span).into_keys()).collect();
    let page = include_str!("../../../../../docs/semantic-conventions.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: BTreeSet<&str> = rows
        .filter_map(|row| row.split('`').next())
        .filter(|name| name.starts_with("periplus."))
        .collect();
    assert_eq!(told, named);
}

#[test]
fn without_the_flag_nothing_of_it_is_told() {
    let collector = Collector::zipkin();
    let origin = failing_once();
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .cluster(reviews(&origin))
        .routes(vec![retrying()])
        .start();
    assert_eq!(mesh.client().exchange(REQUEST).status, 200);
    assert_eq!(ours(&collector.one()), BTreeMap::new());
}
