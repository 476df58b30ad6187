//! Istio's standard metrics: two proxies tell each other who they are, and count what passes between them.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use periplus_proxy::snapshot::{Cluster, Http2Options, Peer, UpstreamProtocol};

use crate::support::config::{Mesh, cluster, dead_address};
use crate::support::h2::{H2Client, H2Origin, run};
use crate::support::{Config, Origin, forward, route, wait_for};

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

fn text(value: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    }
}

fn workload(name: &str) -> Option<Peer> {
    let labels = Struct {
        fields: HashMap::from([("app".to_owned(), text(name))]),
    };
    let metadata = Struct {
        fields: HashMap::from([
            ("NAMESPACE".to_owned(), text("default")),
            ("WORKLOAD_NAME".to_owned(), text(&format!("{name}-v1"))),
            (
                "LABELS".to_owned(),
                Value {
                    kind: Some(Kind::StructValue(labels)),
                },
            ),
        ]),
    };
    Peer::of_node("sidecar~10.0.0.1~x.default~y", Some(&metadata))
}

fn start(mut config: Config, name: &str) -> Mesh {
    config.node.workload = workload(name);
    config.start()
}

/// The labels and the value of the one series of requests.
fn requests(mesh: &Mesh) -> (HashMap<String, String>, String) {
    let line = wait_for("a series", || {
        let all = mesh.proxy().istio_metrics();
        let line = all
            .lines()
            .find(|line| line.starts_with("istio_requests_total{"));
        line.map(str::to_owned)
    });
    let (labels, value) = line.rsplit_once("} ").expect("labels");
    let labels = labels.trim_start_matches("istio_requests_total{");
    let labels = labels.split("\",").map(|label| {
        let (name, value) = label.split_once("=\"").expect("a label");
        (name.to_owned(), value.trim_end_matches('"').to_owned())
    });
    (labels.collect(), value.to_owned())
}

#[test]
fn both_sides_name_both_workloads() {
    let origin = Origin::saying("hello");
    let inbound = start(Config::to(&origin).inbound(), "reviews");
    let outbound = Config::to(&origin)
        .cluster(cluster(REVIEWS, &[inbound.address]))
        .routes(vec![route("/", forward(REVIEWS))]);
    let outbound = start(outbound, "productpage");
    let mut client = outbound.client();
    for _ in 0..2 {
        let response = client.exchange("GET /x HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
        assert_eq!(response.text(), "hello");
        assert_eq!(response.header("x-envoy-peer-metadata"), None);
        assert_eq!(response.header("x-envoy-peer-metadata-id"), None);
    }
    // What proxies tell each other is nothing for applications.
    let received = origin.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].header("x-envoy-peer-metadata"), None);

    let of_outbound = wait_for("both requests", || {
        let (labels, value) = requests(&outbound);
        (value == "2").then_some(labels)
    });
    let of_inbound = wait_for("both requests", || {
        let (labels, value) = requests(&inbound);
        (value == "2").then_some(labels)
    });
    let expected = [
        ("source_workload", "productpage-v1", "productpage-v1"),
        ("source_canonical_service", "productpage", "productpage"),
        ("source_canonical_revision", "latest", "latest"),
        ("destination_workload", "reviews-v1", "reviews-v1"),
        ("destination_app", "reviews", "reviews"),
        ("destination_workload_namespace", "default", "default"),
        ("reporter", "source", "destination"),
        (
            "destination_service",
            "reviews.default.svc.cluster.local",
            "reviews:9080",
        ),
        // What nothing tells of is what the client calls it.
        ("destination_service_name", "reviews", "reviews:9080"),
        ("response_code", "200", "200"),
        ("connection_security_policy", "unknown", "none"),
    ];
    for (label, source, destination) in expected {
        assert_eq!(of_outbound[label], source, "{label} at the source");
        assert_eq!(of_inbound[label], destination, "{label} at the destination");
    }
    let all = outbound.proxy().istio_metrics();
    let body = all
        .lines()
        .find(|line| line.starts_with("istio_response_bytes_sum"));
    let bytes: u64 = body
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .expect("a sum");
    assert!(bytes > 2 * "hello".len() as u64, "heads count too: {bytes}");
}

#[test]
fn an_endpoint_that_says_nothing_is_who_its_metadata_say() {
    let origin = Origin::saying("hello");
    let mut reviews = cluster(REVIEWS, &[origin.address]);
    reviews.endpoints[0].workload = Some("reviews-v9;shop;reviews;;c2".into());
    let config = Config::to(&origin)
        .cluster(reviews)
        .routes(vec![route("/", forward(REVIEWS))]);
    let mesh = start(config, "productpage");
    let request = "GET /x HTTP/1.1\r\nhost: reviews:9080\r\n\r\n";
    assert_eq!(mesh.client().exchange(request).text(), "hello");
    let (labels, _) = requests(&mesh);
    for (label, expected) in [
        ("source_workload", "productpage-v1"),
        ("destination_workload", "reviews-v9"),
        ("destination_workload_namespace", "shop"),
        ("destination_canonical_service", "reviews"),
        ("destination_canonical_revision", "latest"),
        ("destination_cluster", "c2"),
        ("destination_app", "unknown"),
    ] {
        assert_eq!(labels[label], expected, "{label}");
    }
}

#[test]
fn a_node_without_metadata_counts_nothing_and_tells_nothing() {
    let origin = Origin::saying("hello");
    let mesh = Config::to(&origin).start();
    let request = "GET /x HTTP/1.1\r\nhost: a\r\nx-envoy-peer-metadata: mine\r\n\r\n";
    assert_eq!(mesh.client().exchange(request).text(), "hello");
    let received = origin.received();
    let passed = received[0].header("x-envoy-peer-metadata");
    assert_eq!(passed.as_deref(), Some("mine"));
    assert_eq!(mesh.proxy().istio_metrics(), "");
}

#[test]
fn messages_of_grpc_are_counted_while_their_call_goes_on() {
    const MESSAGE: &[u8] = b"\0\0\0\0\x02hi";
    // Each message is answered twice, until there are no more.
    let origin = H2Origin::new(|mut incoming| async move {
        let mut response = http::Response::new(());
        let grpc = "application/grpc".parse().expect("a value");
        response.headers_mut().insert("content-type", grpc);
        let mut send = incoming.answer(response, false);
        while let Some(Ok(_)) = incoming.body.data().await {
            send.send_data(MESSAGE.repeat(2).into(), false)
                .expect("sent");
        }
        let ok = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )]);
        send.send_trailers(ok).expect("sent");
    });
    let grpc = Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options::default()),
        ..cluster(REVIEWS, &[origin.address])
    };
    let config = Config::to(&Origin::saying(""))
        .cluster(grpc)
        .routes(vec![route("/", forward(REVIEWS))]);
    let mesh = start(config, "productpage");
    let counts = || {
        let all = mesh.proxy().istio_metrics();
        let of = |name: &str| -> u64 {
            let lines = all.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            values.sum()
        };
        [
            "istio_request_messages_total{",
            "istio_response_messages_total{",
            "istio_requests_total{",
        ]
        .map(of)
    };
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let request = client.call("/pkg.Svc/Stream");
        let (response, mut send) = client.begin(request).await;
        let mut body = response.await.expect("a head").into_body();
        for _ in 0..3 {
            send.send_data(MESSAGE.into(), false).expect("sent");
            let mut answered = 0;
            while answered < 2 * MESSAGE.len() {
                let data = body.data().await.expect("some").expect("data");
                answered += data.len();
            }
        }
        wait_for("messages of the call", || {
            (counts() == [3, 6, 0]).then_some(())
        });
        send.send_data(MESSAGE.into(), true).expect("sent");
        while body.data().await.is_some() {}
        wait_for("all messages", || (counts() == [4, 8, 1]).then_some(()));
    });
}

#[test]
fn connections_are_counted_while_they_last() {
    let origin = Origin::raw(|mut client, _| {
        client.exactly(4);
        client.send("answer");
        client.rest();
    });
    let config = Config::to(&origin)
        .cluster(cluster(REVIEWS, &[origin.address]))
        .tcp(|proxy| proxy.clusters[0].name = REVIEWS.into());
    let mesh = start(config, "productpage");
    let mut client = mesh.client();
    client.send("ping");
    assert_eq!(client.exactly(6).expect("an answer"), b"answer");
    let value = |name: &str| {
        let all = mesh.proxy().istio_metrics();
        let mut lines = all.lines();
        let line = lines.find(|line| line.starts_with(name))?;
        assert!(
            line.contains("request_protocol=\"tcp\",response_flags=\"-\""),
            "{line}"
        );
        assert!(
            line.contains("destination_service_name=\"reviews\""),
            "{line}"
        );
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let is = |name: &str, expected: u64| {
        wait_for(name, || (value(name) == Some(expected)).then_some(()));
    };
    is("istio_tcp_connections_opened_total{", 1);
    is("istio_tcp_received_bytes_total{", 4);
    is("istio_tcp_sent_bytes_total{", 6);
    assert_eq!(value("istio_tcp_connections_closed_total{"), Some(0));
    client.shutdown();
    client.rest();
    is("istio_tcp_connections_closed_total{", 1);
}

#[test]
fn connections_are_opened_and_closed_under_the_same_labels() {
    // Nobody listens there.
    let nobody = dead_address();
    let config = Config::to(&Origin::saying("")).tcp(|proxy| {
        proxy.clusters[0].name = "nobody".into();
    });
    let mesh = start(config.cluster(cluster("nobody", &[nobody])), "productpage");
    assert!(mesh.client().rest().is_empty());
    // And one that its client resets.
    let origin = Origin::raw(|mut client, _| while client.more().is_some() {});
    let reset = start(Config::to(&origin).tcp(|_| ()), "productpage");
    let client = reset.client();
    reset.wait_stat("cluster.app.upstream_cx_active", 1);
    let socket = socket2::SockRef::from(&client.stream);
    let at_once = Some(std::time::Duration::ZERO);
    socket.set_linger(at_once).expect("linger");
    drop(client);
    for (mesh, flags) in [(&mesh, "UF,URX"), (&reset, "-")] {
        let label = format!("response_flags=\"{flags}\"");
        for name in [
            "istio_tcp_connections_opened_total{",
            "istio_tcp_connections_closed_total{",
        ] {
            let lines = wait_for(name, || {
                let all = mesh.proxy().istio_metrics();
                let lines = all.lines().filter(|line| line.starts_with(name));
                let lines: Vec<_> = lines.map(str::to_owned).collect();
                let is_counted = lines.iter().any(|line| line.ends_with(" 1"));
                is_counted.then_some(lines)
            });
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains(&label), "{lines:?}");
        }
    }
}

#[test]
fn the_outcome_of_calls_is_told_of_calls_alone() {
    for (is_grpc, head, expected) in [
        (true, "503 Service Unavailable\r\n", "14"),
        (true, "200 OK\r\n", "2"),
        (true, "200 OK\r\ngrpc-status: 5\r\n", "5"),
        (false, "503 Service Unavailable\r\n", ""),
        (false, "200 OK\r\ngrpc-status: 5\r\n", ""),
    ] {
        let answer = format!("HTTP/1.1 {head}content-length: 0\r\n\r\n");
        let origin = Origin::new(move |_| Some(answer.clone().into_bytes()));
        let mesh = start(Config::to(&origin), "productpage");
        let kind = if is_grpc {
            "application/grpc"
        } else {
            "text/plain"
        };
        mesh.client().exchange(format!(
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: {kind}\r\ncontent-length: 0\r\n\r\n"
        ));
        let (labels, _) = requests(&mesh);
        let told = labels.get("grpc_response_status").map(String::as_str);
        assert_eq!(told, Some(expected), "{is_grpc} {head}");
    }
}

#[test]
fn the_build_is_told_before_the_first_request() {
    let told = |mesh: &Mesh| mesh.proxy().istio_metrics();
    let counts = start(Config::to(&Origin::saying("ok")), "productpage");
    assert!(told(&counts).contains("istio_build{component=\"proxy\""));
    let does_not = Config::to(&Origin::saying("ok")).start();
    assert_eq!(told(&does_not), "");
}
