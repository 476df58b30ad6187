//! Requests that are tried again: on which endpoint, with which body, how often, and what is counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use periplus_proxy::snapshot::{BackOff, Forward, RetryBudget, RetryOn, RetryPolicy, RouteAction};

use crate::support::config::{Mesh, cluster};
use crate::support::origin::{Origin, ok, read_request};
use crate::support::{Config, pause, route};

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

fn policy(retries: u32) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn::SERVER_ERROR,
        retries,
        per_try_timeout: None,
        per_try_idle_timeout: None,
        status_codes: Vec::new(),
        headers: Vec::new(),
        request_headers: Vec::new(),
        back_off: BackOff {
            base: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        rate_limited: None,
        host_attempts: 5,
        other_priorities_after: None,
    }
}

fn retrying(policy: RetryPolicy) -> RouteAction {
    RouteAction::Forward(Forward {
        timeout: Some(Duration::from_secs(15)),
        retry: Some(Box::new(policy)),
        ..Forward::to("app")
    })
}

fn mesh(origin: &Origin, policy: RetryPolicy) -> Mesh {
    let routes = vec![route("/", retrying(policy))];
    Config::to(origin).routes(routes).start()
}

/// An origin that is unavailable to all attempts before this one.
fn from_attempt(number: u32) -> Origin {
    Origin::new(move |request| {
        let attempt = request.header("x-envoy-attempt-count");
        let attempt: u32 = attempt.expect("it is told").parse().expect("a number");
        Some(if attempt < number {
            UNAVAILABLE.to_vec()
        } else {
            ok("fine")
        })
    })
}

fn stats(mesh: &Mesh, names: &[&str]) -> Vec<u64> {
    let stat = |name: &&str| mesh.stat(&format!("cluster.app.{name}"));
    names.iter().map(stat).collect()
}

const COUNTS: [&str; 4] = [
    "upstream_rq_retry",
    "upstream_rq_retry_success",
    "upstream_rq_retry_limit_exceeded",
    "upstream_rq_retry_overflow",
];

#[test]
fn another_endpoint_gets_the_request() {
    let (bad, good) = (
        Origin::new(|_| Some(UNAVAILABLE.to_vec())),
        Origin::saying("good"),
    );
    let mut config = Config::to(&good).routes(vec![route("/", retrying(policy(1)))]);
    config.clusters = vec![cluster("app", &[bad.address, good.address])];
    let mesh = config.start();
    let mut client = mesh.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "good");
    }
    let tried = bad.received().len() as u64;
    // A request that is tried again takes two turns of the two, so that the next begins where it began.
    assert!((19..=20).contains(&tried), "{tried} of 20");
    assert_eq!(stats(&mesh, &COUNTS), [tried, tried, 0, 0]);
    assert_eq!(mesh.stat("cluster.app.upstream_rq_total"), 20 + tried);
    // The client has the answer a moment before the request is over.
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
}

#[test]
fn attempts_are_limited_and_the_last_response_counts() {
    for (retries, status) in [(0, 503), (1, 503), (2, 200), (3, 200)] {
        let origin = from_attempt(3);
        let mesh = mesh(&origin, policy(retries));
        let response = mesh.client().get("/");
        assert_eq!(response.status, status, "{retries} retries");
        let attempts = u64::from(retries).min(2);
        let failed = u64::from(status == 503);
        let succeeded = u64::from(status == 200);
        assert_eq!(stats(&mesh, &COUNTS), [attempts, succeeded, failed, 0]);
        assert_eq!(origin.received().len() as u64, attempts + 1);
    }
}

#[test]
fn a_circuit_breaker_limits_the_retries_under_way() {
    let budget = |per_million, least| Some(RetryBudget { per_million, least });
    for (max_retries, retry_budget, is_retried) in [
        (0, None, false),
        (1, None, true),
        (1, budget(0, 0), false),
        (0, budget(0, 1), true),
        // One request is under way: half of it is no retry, and all of it is one.
        (0, budget(500_000, 0), false),
        (0, budget(1_000_000, 0), true),
    ] {
        let origin = from_attempt(2);
        let mut config = Config::to(&origin).routes(vec![route("/", retrying(policy(1)))]);
        let limits = &mut config.clusters[0].limits.default;
        limits.max_retries = max_retries;
        limits.retry_budget = retry_budget;
        limits.max_requests = 1000;
        let mesh = config.start();
        let response = mesh.client().get("/");
        let case = format!("{max_retries} {retry_budget:?}");
        if is_retried {
            assert_eq!(response.status, 200, "{case}");
            assert_eq!(stats(&mesh, &COUNTS), [1, 1, 0, 0], "{case}");
        } else {
            assert_eq!(
                (response.status, response.text().as_str()),
                (503, "busy"),
                "{case}"
            );
            assert_eq!(stats(&mesh, &COUNTS), [0, 0, 0, 1], "{case}");
        }
    }
}

#[test]
fn bodies_are_sent_again_as_far_as_they_are_kept() {
    let head = "POST / HTTP/1.1\r\nhost: h\r\n";
    let large = "x".repeat(100_000);
    let cases = [
        (
            format!("{head}content-length: 5\r\n\r\nhello"),
            Some("hello".to_owned()),
        ),
        (
            format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            Some("hello".to_owned()),
        ),
        (
            format!("{head}content-length: 0\r\n\r\n"),
            Some(String::new()),
        ),
        (format!("{head}content-length: 100000\r\n\r\n{large}"), None),
    ];
    for (request, body) in cases {
        let origin = from_attempt(2);
        let mesh = mesh(&origin, policy(1));
        let response = mesh.client().exchange(&request);
        let bodies: Vec<_> = origin
            .received()
            .into_iter()
            .map(|seen| seen.body)
            .collect();
        match body {
            Some(body) => {
                assert_eq!(response.status, 200, "{request}");
                assert_eq!(bodies, [body.as_bytes(), body.as_bytes()], "{request}");
            }
            None => {
                assert_eq!(response.status, 503);
                assert_eq!(bodies.len(), 1);
                assert_eq!(mesh.stat("cluster.app.retry_or_shadow_abandoned"), 1);
            }
        }
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up() {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            pause(Duration::from_millis(500));
        }
        Some(ok("quick"))
    });
    let mut policy = policy(1);
    policy.per_try_timeout = Some(Duration::from_millis(100));
    let mesh = mesh(&origin, policy);
    assert_eq!(mesh.client().get("/").text(), "quick");
    assert_eq!(mesh.stat("cluster.app.upstream_rq_per_try_timeout"), 1);
    let told = origin.received();
    let told = told
        .iter()
        .map(|seen| seen.header("x-envoy-expected-rq-timeout-ms"));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [Some("100".to_owned()), Some("100".to_owned())]
    );
}

/// An origin that sends these bytes for each request, and then closes.
fn closing(bytes: &'static [u8]) -> Origin {
    Origin::raw(move |mut client, origin| {
        if let Some(request) = read_request(&mut client) {
            origin.note(request);
            client.send(bytes);
        }
    })
}

#[test]
fn nothing_follows_a_response_that_has_begun() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun";
    let malformed = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno length\r\n";
    let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    for (bytes, attempts) in [(&cut[..], 1), (malformed, 1), (interim, 1), (b"", 3)] {
        let origin = closing(bytes);
        let mesh = mesh(&origin, policy(2));
        let mut client = mesh.client();
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n");
        client.shutdown();
        let answer = client.rest();
        let answer = String::from_utf8_lossy(&answer);
        let case = format!("{:?}: {answer:?}", String::from_utf8_lossy(bytes));
        let finals = answer.matches("HTTP/1.1 ").count() - answer.matches("HTTP/1.1 103").count();
        assert_eq!(finals, 1, "{case}");
        assert_eq!(origin.received().len(), attempts, "{case}");
    }
}

#[test]
fn the_time_for_an_attempt_is_over_when_its_response_begins() {
    let slow = |pause_ms: u64| {
        Origin::raw(move |mut client, origin| {
            while let Some(request) = read_request(&mut client) {
                origin.note(request);
                client.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun");
                pause(Duration::from_millis(pause_ms));
                client.send("ended");
            }
        })
    };
    let limited = |timeout_ms| {
        RouteAction::Forward(Forward {
            timeout: Some(Duration::from_millis(timeout_ms)),
            retry: Some(Box::new(RetryPolicy {
                per_try_timeout: Some(Duration::from_millis(100)),
                ..policy(2)
            })),
            ..Forward::to("app")
        })
    };
    let origin = slow(400);
    let routes = vec![route("/", limited(10_000))];
    let mesh = Config::to(&origin).routes(routes).start();
    let mut client = mesh.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), "begunended");
    }
    assert_eq!(mesh.stat("cluster.app.upstream_rq_per_try_timeout"), 0);
    assert_eq!(origin.received().len(), 2);

    // The route's time counts to the end.
    let origin = slow(3_000);
    let routes = vec![route("/", limited(300))];
    let mesh = Config::to(&origin).routes(routes).start();
    let mut client = mesh.client();
    client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n");
    assert!(client.rest().ends_with(b"\r\n\r\nbegun"));
    assert_eq!(mesh.stat("cluster.app.upstream_rq_timeout"), 1);
    assert_eq!(origin.received().len(), 1);
}

/// Whoever has got a part of a response gets the rest of the same one.
#[test]
fn interim_responses_end_retries() {
    for is_bridged in [false, true] {
        let origin = Origin::new(|_| {
            let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
            Some([hints, UNAVAILABLE].concat())
        });
        let mut policy = policy(2);
        if is_bridged {
            policy.per_try_idle_timeout = Some(Duration::from_secs(10));
        }
        let mesh = mesh(&origin, policy);
        let mut client = mesh.client();
        client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        let hints = client.head().expect("interim");
        assert!(hints.starts_with("HTTP/1.1 103 "), "{hints}");
        assert_eq!(client.response(false).expect("final").status, 503);
        assert_eq!(origin.received().len(), 1);
    }
}
