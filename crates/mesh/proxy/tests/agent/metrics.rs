//! Istio's metrics: what a mesh wants of them, and the messages of gRPC.

use std::collections::BTreeMap;

use bytes::Bytes;
use envoy_types::pb::envoy::config::listener::v3::filter;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::xds_support::resources::listener_of;

/// Istio's message, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PluginConfig {
    #[prost(bool, tag = "6")]
    disable_host_header_fallback: bool,
    #[prost(message, repeated, tag = "8")]
    metrics: Vec<MetricConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MetricConfig {
    #[prost(btree_map = "string, string", tag = "1")]
    dimensions: BTreeMap<String, String>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    tags_to_remove: Vec<String>,
    #[prost(bool, tag = "5")]
    drop: bool,
}

/// Two labels of all metrics are not there, one has another value; one metric is left out on each side.
fn wanted() -> Any {
    let set = [
        ("request_method", "request.method"),
        ("team", "request.headers['x-team']"),
        ("port", "string(destination.port)"),
        ("source_app", "'shop'"),
        (
            "class",
            "response.code >= 400 ? 'bad' : 'fine ' + request.method",
        ),
        ("server", "response.headers['server']"),
    ];
    let of_all = MetricConfig {
        dimensions: set
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        tags_to_remove: ["source_principal", "response_code"]
            .map(str::to_owned)
            .into(),
        ..MetricConfig::default()
    };
    let off = |name: &str| MetricConfig {
        name: name.to_owned(),
        drop: true,
        ..MetricConfig::default()
    };
    let config = PluginConfig {
        disable_host_header_fallback: true,
        metrics: vec![of_all, off("request_bytes"), off("tcp_sent_bytes_total")],
    };
    Any {
        type_url: "type.googleapis.com/stats.PluginConfig".to_owned(),
        value: config.encode_to_vec(),
    }
}

/// Over HTTP/2: three messages for each call.
async fn grpc_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        while let Some(Ok(data)) = request.body_mut().data().await {
                            let flow = request.body_mut().flow_control();
                            flow.release_capacity(data.len()).expect("of what came");
                        }
                        let mut response = http::Response::new(());
                        let kind = "application/grpc".parse().expect("a value");
                        response.headers_mut().insert("content-type", kind);
                        let mut send = respond.send_response(response, false).expect("sent");
                        send.send_data(messages(3), false).expect("sent");
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().expect("a value"));
                        send.send_trailers(trailers).expect("sent");
                    });
                }
            });
        }
    });
    address
}

fn messages(count: usize) -> Bytes {
    b"\0\0\0\0\x04abcd".repeat(count).into()
}

fn stats_before_last(listener: &mut Listener) {
    let stats = Filter {
        name: "istio.stats".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(wanted())),
    };
    listener.filter_chains[0].filters.insert(0, stats);
}

async fn call(at: SocketAddr) {
    let stream = TcpStream::connect(at).await.expect("connects");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut client = client.ready().await.expect("ready");
    let request = http::Request::post("http://a/grpc.Service/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("valid");
    let (response, mut send) = client.send_request(request, false).expect("sent");
    send.send_data(messages(2), true).expect("sent");
    let mut body = response.await.expect("a head").into_body();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control()
            .release_capacity(data.len())
            .expect("of what came");
    }
    body.trailers().await.expect("trailers");
}

#[expect(deprecated, reason = "the short form of HTTP/2 does")]
#[tokio::test]
async fn labels_and_metrics_are_those_that_the_mesh_wants() {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("one").await;
    let [http, tcp] = [free_address().await, free_address().await];
    let mut manager = manager("r");
    let stats = hcm::HttpFilter {
        name: "istio.stats".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(wanted())),
        ..Default::default()
    };
    manager.http_filters.insert(0, stats);
    let proxied = tcp_proxy::TcpProxy {
        stat_prefix: "tcp".to_owned(),
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(
            "c".to_owned(),
        )),
        ..Default::default()
    };
    let filter = "envoy.filters.network.tcp_proxy";
    let outbound = TrafficDirection::Outbound;
    let mut of_tcp = listener_of("tcp", tcp, outbound, filter, proxied);
    stats_before_last(&mut of_tcp);
    let all = ResourceSet::from_iter::<Vec<Resource>>;
    let over_http2 = eds_cluster("grpc", |cluster| {
        cluster.http2_protocol_options = Some(Default::default());
    });
    let routes = vec![
        a_route(path_prefix("/grpc"), to_cluster("grpc")),
        a_route(path_prefix("/"), to_cluster("c")),
    ];
    let world = Snapshot::default()
        .with(CLUSTER, all(vec![eds_cluster("c", |_| ()), over_http2]))
        .with(
            ENDPOINT,
            all(vec![
                endpoints("c", &[origin.address]),
                endpoints("grpc", &[grpc_server().await]),
            ]),
        )
        .with(
            LISTENER,
            all(vec![
                Resource::new("http", &listener("http", http, outbound, manager)),
                Resource::new("tcp", &of_tcp),
            ]),
        )
        .with(ROUTE, all(vec![route_configuration("r", routes)]));
    plane.worlds.set(NODE, world);
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: NODE,
        node_cluster: "test.default",
        metadata: &json!({"NAMESPACE": "default", "LABELS": {"app": "web"}}),
        control_plane: plane.address,
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
    });
    let bootstrap = bootstrap::parse("test", &text).expect("valid");
    let agent = Agent::start(bootstrap, Options::default())
        .await
        .expect("start");
    agent.ready().await;
    let admin = agent.admin_address().expect("an admin address");

    for team in ["x-team: a\r\n", "x-team: a\r\n", ""] {
        let request = format!("GET /x?y HTTP/1.1\r\nhost: h\r\n{team}connection: close\r\n\r\n");
        assert_eq!(
            exchange(http, &request).await.expect("an answer").status(),
            200
        );
    }
    call(http).await;
    let mut stream = TcpStream::connect(tcp).await.expect("connects");
    stream
        .write_all(b"GET /reset HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("sent");
    // However it ends, it ends.
    let _ = stream.read(&mut [0; 1]).await;

    let port = format!(",port=\"{}\"", http.port());
    let tcp_port = format!(",port=\"{}\"", tcp.port());
    let expected: [(&str, &[&str], &str); 6] = [
        (
            "istio_requests_total{",
            &[
                "request_method=\"GET\"",
                "team=\"a\"",
                &port,
                "class=\"fine GET\"",
                "server=\"envoy\"",
            ],
            " 2",
        ),
        (
            "istio_requests_total{",
            &[
                "request_method=\"GET\"",
                "team=\"unknown\"",
                // Not `h`, which is only what the client has said.
                "destination_service=\"unknown\"",
            ],
            " 1",
        ),
        (
            "istio_response_bytes_count{",
            &["request_method=\"POST\"", "source_app=\"shop\""],
            " 1",
        ),
        (
            "istio_request_messages_total{",
            &["source_app=\"shop\""],
            " 2",
        ),
        (
            "istio_response_messages_total{",
            &["source_app=\"shop\""],
            " 3",
        ),
        (
            "istio_tcp_connections_opened_total{",
            &[
                "request_method=\"unknown\"",
                "class=\"unknown\"",
                &tcp_port,
                "source_app=\"shop\"",
            ],
            " 1",
        ),
    ];
    let metrics = eventually_metrics(admin, &expected).await;
    let ours = metrics
        .lines()
        .filter(|line| line.starts_with("istio_") && line.contains("reporter="));
    for line in ours {
        assert!(
            !line.contains("source_principal=") && !line.contains("response_code="),
            "{line}"
        );
        assert!(line.contains("source_app=\"shop\""), "{line}");
    }
    assert!(!metrics.contains("istio_request_bytes"), "{metrics}");
    assert!(!metrics.contains("istio_tcp_sent_bytes_total"), "{metrics}");
    let messages = metrics
        .lines()
        .find(|line| line.starts_with("istio_request_messages_total{"));
    assert!(
        !messages.expect("a line").contains("request_protocol="),
        "{messages:?}"
    );
    agent.shutdown(Duration::from_millis(100)).await;
}

/// The page, once it has a line for each of these.
async fn eventually_metrics(admin: SocketAddr, expected: &[(&str, &[&str], &str)]) -> String {
    let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
    loop {
        let metrics = page(admin, "/stats/prometheus").await.body;
        let is_there = |(name, labels, value): &&(&str, &[&str], &str)| {
            metrics.lines().any(|line| {
                line.starts_with(name)
                    && line.ends_with(value)
                    && labels.iter().all(|label| line.contains(label))
            })
        };
        let Some(missing) = expected.iter().find(|line| !is_there(line)) else {
            return metrics;
        };
        assert!(
            tokio::time::Instant::now() < deadline,
            "{missing:?} is not in {metrics}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
