//! gRPC through the proxy, on the wire: deadlines, the proxy's own answers, and what spans say.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use periplus_proxy::snapshot::{
    Cluster, GrpcTimeouts, Http2Options, Route, RouteAction, UpstreamProtocol,
};

use crate::support::config::cluster;
use crate::support::h2::{H2Client, H2Origin, Message, read, run};
use crate::support::{Collector, Config, Origin, forward, route};

const DEADLINE_EXCEEDED: &str = "4";
const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";

/// An origin whose path says the status: `/pkg.Svc/7` fails with it, `/pkg.Svc/trailers-only/7` does
/// so in its head; `/pkg.Svc/hang` never answers.
fn service() -> H2Origin {
    H2Origin::new(|mut incoming| async move {
        let path = incoming.head.uri().path().to_owned();
        let status = path.rsplit('/').next().expect("a last segment").to_owned();
        let _ = read(&mut incoming.body).await;
        if status == "hang" {
            let _ = std::future::poll_fn(|cx| incoming.respond.poll_reset(cx)).await;
            return;
        }
        let mut response = Response::new(());
        let fields = response.headers_mut();
        fields.insert("content-type", "application/grpc".parse().expect("a value"));
        let mut outcome = HeaderMap::new();
        outcome.insert("grpc-status", status.parse().expect("a value"));
        if status != "0" {
            outcome.insert("grpc-message", "no%20way".parse().expect("a value"));
        }
        if path.contains("trailers-only") {
            fields.extend(outcome);
            incoming.answer(response, true);
        } else {
            let mut send = incoming.answer(response, false);
            send.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), false)
                .expect("sent");
            send.send_trailers(outcome).expect("sent");
        }
    })
}

fn http2(origin: &H2Origin) -> Cluster {
    Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options::default()),
        ..cluster("app", &[origin.address])
    }
}

fn config(origin: &H2Origin) -> Config {
    let mut config = Config::to(&Origin::saying(""));
    config.clusters = vec![http2(origin)];
    config
}

fn limited(timeout: Option<Duration>, grpc: GrpcTimeouts) -> Vec<Route> {
    let RouteAction::Forward(mut action) = forward("app") else {
        panic!("it forwards");
    };
    action.timeout = timeout;
    action.grpc = grpc;
    vec![route("/", RouteAction::Forward(action))]
}

/// A unary call; a time limit if there is one.
async fn call(client: &mut H2Client, path: &str, timeout: Option<&str>) -> Message {
    let mut request = client.call(path);
    if let Some(timeout) = timeout {
        let value = timeout.parse().expect("a value");
        request.headers_mut().insert("grpc-timeout", value);
    }
    client
        .exchange(request, b"\0\0\0\0\x02hi")
        .await
        .expect("a response")
}

#[test]
fn a_unary_call_passes_with_all_that_makes_it_grpc() {
    let origin = service();
    let mesh = config(&origin).start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let answer = call(&mut client, "/pkg.Svc/0", Some("3S")).await;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, &b"\0\0\0\0\x02hi"[..])
        );
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.trailer("grpc-status"), Some("0"));

        // A head that is also the end stays one.
        let answer = call(&mut client, "/pkg.Svc/trailers-only/7", None).await;
        assert_eq!(answer.header("grpc-status"), Some("7"));
        assert!(answer.trailers.is_none() && answer.body.is_empty());
    });
    let head = &origin.heads()[0];
    assert_eq!(head.headers()["te"], "trailers");
    assert_eq!(head.headers()["grpc-timeout"], "3S");
    assert_eq!(head.headers()["content-type"], "application/grpc");
}

#[test]
fn the_proxys_own_answers_are_grpc_to_a_grpc_client() {
    let closed = crate::support::config::dead_address();
    let mut config = config(&service());
    config.clusters.push(cluster("empty", &[]));
    config.clusters.push(Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options::default()),
        ..cluster("closed", &[closed])
    });
    config.routes = vec![
        route("/none", forward("empty")),
        route("/closed", forward("closed")),
        route("/missing", forward("nobody")),
        route(
            "/denied",
            RouteAction::Respond {
                status: 403,
                body: "not: ü 100%".into(),
            },
        ),
        route(
            "/auth",
            RouteAction::Respond {
                status: 401,
                body: String::new(),
            },
        ),
        route(
            "/teapot",
            RouteAction::Respond {
                status: 418,
                body: String::new(),
            },
        ),
    ];
    let mesh = config.start();
    let connect = "upstream connect error or disconnect/reset before headers. reset reason: \
                   remote connection failure";
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        for (path, status, message) in [
            ("/none/x", UNAVAILABLE, Some("no healthy upstream")),
            ("/closed/x", UNAVAILABLE, Some(connect)),
            ("/missing/x", UNAVAILABLE, None),
            ("/nowhere/x", UNIMPLEMENTED, None),
            ("/denied/x", "7", Some("not: %C3%BC 100%25")),
            ("/auth/x", "16", None),
            ("/teapot/x", "2", None),
        ] {
            let answer = call(&mut client, path, None).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/grpc"),
                "{path}"
            );
            assert_eq!(answer.header("grpc-status"), Some(status), "{path}");
            assert_eq!(answer.header("grpc-message"), message, "{path}");
            assert_eq!(answer.header("content-length"), None, "{path}");
            assert!(
                answer.body.is_empty() && answer.trailers.is_none(),
                "{path}"
            );
        }
        // Whoever is none gets the status.
        let mut request = client.request("POST", "/denied");
        let value = "application/grpc-web".parse().expect("a value");
        request.headers_mut().insert("content-type", value);
        let answer = client.exchange(request, b"x").await.expect("a response");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (403, "not: ü 100%")
        );
    });
    // Over HTTP/1.1 too.
    let answer = mesh.client().exchange(
        "POST /denied/x HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc+proto\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status").as_deref(), Some("7"));
    assert_eq!(answer.header("content-length").as_deref(), Some("0"));
}

#[test]
fn deadlines_of_both_forms() {
    let second = Duration::from_secs(1);
    let none = GrpcTimeouts::default();
    let header = GrpcTimeouts {
        max: Some(Duration::ZERO),
        ..none
    };
    let cut = GrpcTimeouts {
        max: Some(second / 5),
        ..none
    };
    let offset = GrpcTimeouts {
        offset: second * 9 / 10,
        ..header
    };
    let stream = GrpcTimeouts {
        stream_max: Some(Duration::ZERO),
        ..none
    };
    let stream_cut = GrpcTimeouts {
        stream_max: Some(second / 5),
        ..none
    };
    let route_timeout = ("14", "upstream request timeout", "UT");
    let stream_timeout = (DEADLINE_EXCEEDED, "downstream duration timeout", "-");
    // The route's timeout, what it makes of the header, the header, how it ends, what the endpoint
    // was told.
    for (timeout, grpc, asked, ending, told) in [
        (
            Some(second / 5),
            none,
            Some("60S"),
            route_timeout,
            Some("60S"),
        ),
        (
            Some(second * 60),
            header,
            Some("200m"),
            route_timeout,
            Some("200m"),
        ),
        (
            Some(second * 60),
            cut,
            Some("60S"),
            route_timeout,
            Some("200m"),
        ),
        (Some(second * 60), cut, None, route_timeout, Some("200m")),
        (
            Some(second * 60),
            offset,
            Some("1100m"),
            route_timeout,
            Some("200m"),
        ),
        (None, stream, Some("200m"), stream_timeout, Some("200m")),
        (None, stream_cut, Some("1H"), stream_timeout, Some("1H")),
    ] {
        let origin = service();
        let collector = Collector::otlp();
        let mesh = config(&origin)
            .otlp(&collector)
            .routes(limited(timeout, grpc))
            .start();
        run(async {
            let mut client = H2Client::connect(mesh.address).await;
            let begin = std::time::Instant::now();
            let answer = call(&mut client, "/pkg.Svc/hang", asked).await;
            let took = begin.elapsed();
            let name = format!("{grpc:?} {asked:?}");
            assert!(took >= second / 6 && took < second * 10, "{name}: {took:?}");
            assert_eq!(answer.header("grpc-status"), Some(ending.0), "{name}");
            assert_eq!(answer.header("grpc-message"), Some(ending.1), "{name}");
        });
        let fields = origin.heads()[0].headers().clone();
        let field = |name: &str| fields.get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(field("grpc-timeout"), told);
        let expected = timeout.map(|_| "200");
        assert_eq!(
            field("x-envoy-expected-rq-timeout-ms"),
            expected,
            "{grpc:?}"
        );
        let span = collector.one();
        assert_eq!(span.tag("response_flags"), ending.2);
        assert_eq!(span.tag("grpc.status_code"), ending.0);
        assert_eq!((span.tag("error"), span.error_status), ("true", true));
    }
    // Without a limit of the route's, a header is the endpoint's own matter.
    let origin = service();
    let mesh = config(&origin).routes(limited(None, none)).start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        assert_eq!(
            call(&mut client, "/a/0", Some("1n"))
                .await
                .trailer("grpc-status"),
            Some("0")
        );
    });
    mesh.wait_stat("http.test.downstream_rq_max_duration_reached", 0);
}

#[test]
fn every_status_on_the_span() {
    let origin = service();
    for inbound in [false, true] {
        for otlp in [false, true] {
            let collector = if otlp {
                Collector::otlp()
            } else {
                Collector::zipkin()
            };
            let mut config = config(&origin);
            if inbound {
                config = config.inbound();
            }
            let config = if otlp {
                config.otlp(&collector)
            } else {
                config.zipkin(&collector)
            };
            let mesh = config.start();
            run(async {
                let mut client = H2Client::connect(mesh.address).await;
                for code in 0..17 {
                    let kind = if code % 2 == 0 {
                        "trailers"
                    } else {
                        "trailers-only"
                    };
                    call(&mut client, &format!("/pkg.Svc/{kind}/{code}"), Some("3S")).await;
                }
            });
            let spans = collector.wait(17);
            for code in 0..17_u32 {
                let code_text = code.to_string();
                let span = spans
                    .iter()
                    .find(|span| span.tag("grpc.status_code") == code_text)
                    .unwrap_or_else(|| panic!("no span of {code}: {spans:#?}"));
                let failure = matches!(code, 2 | 4 | 8 | 12..=15);
                assert_eq!(
                    span.tag("error"),
                    if failure { "true" } else { "" },
                    "{code}"
                );
                let is_error = if inbound {
                    failure && code != 8
                } else {
                    code != 0
                };
                assert_eq!(span.error_status, otlp && is_error, "{code}");
                assert_eq!(span.tag("http.status_code"), "200");
                assert_eq!(span.tag("http.protocol"), "HTTP/2");
                assert_eq!(
                    span.tag("grpc.message"),
                    if code == 0 { "" } else { "no%20way" }
                );
                assert!(span.tag("grpc.path").ends_with(&format!("/{code}")));
                assert_eq!(span.tag("grpc.authority"), "h.example");
                assert_eq!(span.tag("grpc.content_type"), "application/grpc");
                assert_eq!(span.tag("grpc.timeout"), "3S");
                assert_eq!(span.tag("http.method"), "POST");
                assert_eq!(span.tag("request_size"), "7");
                let sent = if code % 2 == 0 { "7" } else { "0" };
                assert_eq!(span.tag("response_size"), sent);
            }
        }
    }
}

#[test]
fn the_span_of_the_attempt_has_the_status_alone() {
    let collector = Collector::otlp();
    let mesh = config(&service()).otlp(&collector).gateway().start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        call(&mut client, "/pkg.Svc/14", None).await;
    });
    let spans = collector.wait(2);
    let attempt = spans
        .iter()
        .find(|span| span.kind == "CLIENT")
        .expect("the attempt");
    assert_eq!(attempt.tag("grpc.status_code"), "14");
    assert_eq!(attempt.tag("grpc.message"), "no%20way");
    assert_eq!((attempt.tag("error"), attempt.error_status), ("true", true));
    assert_eq!(attempt.tag("http.protocol"), "HTTP/2");
    assert!(!attempt.tags.contains_key("grpc.path"));
}
