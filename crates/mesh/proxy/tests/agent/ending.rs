//! The end of a proxy: what is still under way then is told of, like everything before.

use std::path::Path;

use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
use envoy_types::util::pack_any;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::xds_support::PATIENCE;
use crate::xds_support::resources::listener_of;

/// Everything that is logged of requests and connections.
fn log_to(file: &Path) -> Vec<accesslog::AccessLog> {
    let format = "%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                  %BYTES_RECEIVED%\n";
    let source = core::data_source::Specifier::InlineString(format.to_owned());
    let text = core::substitution_format_string::Format::TextFormatSource(core::DataSource {
        specifier: Some(source),
        ..Default::default()
    });
    let config = FileAccessLog {
        path: file.to_str().expect("UTF-8").to_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(core::SubstitutionFormatString {
            format: Some(text),
            ..Default::default()
        })),
    };
    let config = accesslog::access_log::ConfigType::TypedConfig(pack_any(config));
    vec![accesslog::AccessLog {
        name: "log".to_owned(),
        config_type: Some(config),
        ..Default::default()
    }]
}

struct World {
    admin: SocketAddr,
    http: SocketAddr,
    tcp: SocketAddr,
    agent: Agent,
    log: tempfile::TempDir,
    _plane: ControlPlane,
    _origin: Origin,
}

impl World {
    /// A listener of HTTP and one of TCP before the same origin, with logs and Istio's metrics.
    async fn start() -> Self {
        let (plane, origin) = (ControlPlane::start().await, Origin::start("one").await);
        let (http, tcp) = (free_address().await, free_address().await);
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let mut manager = manager("r");
        manager.access_log = log_to(&log);
        let cluster = tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster("c".to_owned());
        let proxied = tcp_proxy::TcpProxy {
            stat_prefix: "tcp".to_owned(),
            cluster_specifier: Some(cluster),
            access_log: log_to(&log),
            ..Default::default()
        };
        let outbound = TrafficDirection::Outbound;
        let tcp_filter = "envoy.filters.network.tcp_proxy";
        let listeners = [
            ("http", listener("http", http, outbound, manager)),
            (
                "tcp",
                listener_of("tcp", tcp, outbound, tcp_filter, proxied),
            ),
        ]
        .map(|(name, made)| Resource::new(name, &made));
        let only = |resource: Resource| ResourceSet::from_iter([resource]);
        let to = a_route(path_prefix("/"), to_cluster("c"));
        let world = Snapshot::default()
            .with(CLUSTER, only(eds_cluster("c", |_| ())))
            .with(ENDPOINT, only(endpoints("c", &[origin.address])))
            .with(LISTENER, ResourceSet::from_iter(listeners))
            .with(ROUTE, only(route_configuration("r", vec![to])));
        plane.worlds.set(NODE, world);
        let text = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: NODE,
            node_cluster: "test.default",
            metadata: &json!({"NAMESPACE": "default"}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        let bootstrap = bootstrap::parse("test", &text).expect("valid");
        let agent = Agent::start(bootstrap, Options::default()).await;
        let agent = agent.expect("start");
        agent.ready().await;
        Self {
            admin: agent.admin_address().expect("an admin address"),
            http,
            tcp,
            agent,
            log: directory,
            _plane: plane,
            _origin: origin,
        }
    }

    async fn wait_stat(&self, name: &str, value: u64) {
        let path = format!("/stats?filter=^{name}$");
        let expected = format!("{name}: {value}\n");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while page(self.admin, &path).await.body != expected {
            assert!(tokio::time::Instant::now() < deadline, "not {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

const SLOW: &str = "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn what_is_under_way_at_the_end_is_told_of() {
    let world = World::start().await;
    let mut waits = TcpStream::connect(world.http).await.expect("connects");
    waits.write_all(SLOW.as_bytes()).await.expect("sent");
    let stream = TcpStream::connect(world.http).await.expect("connects");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("ready");
    let request = http::Request::get("http://a/slow").body(());
    let request = request.expect("valid");
    let (response, _body): (_, h2::SendStream<bytes::Bytes>) =
        client.send_request(request, true).expect("sent");
    let mut bytes = TcpStream::connect(world.tcp).await.expect("connects");
    bytes.write_all(SLOW.as_bytes()).await.expect("sent");
    // One that has nothing under way is nobody's exchange.
    let _idle = TcpStream::connect(world.http).await.expect("connects");
    world.wait_stat("http.test.downstream_rq_active", 2).await;
    let received = SLOW.len() as u64;
    world
        .wait_stat("tcp.tcp.downstream_cx_rx_bytes_total", received)
        .await;

    let left = world.agent.shutdown(Duration::from_millis(100)).await;
    assert_eq!(left.connections, 4);
    assert!(matches!(waits.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert!(matches!(bytes.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    // Whoever waits for a stream sees that the connection has ended, and may ask another proxy.
    let error = response.await.expect_err("no answer");
    assert!(!error.is_reset(), "{error}");
    let _ = connection.await.expect("it ends");
    let log = std::fs::read_to_string(world.log.path().join("log")).expect("a log");
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            format!("- 0 - - {received}"),
            "HTTP/1.1 0 DC downstream_local_disconnect 0".to_owned(),
            "HTTP/2 0 DC downstream_local_disconnect 0".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_proxy_that_ends_tells_how_it_stands_and_does_what_it_is_told() {
    let world = World::start().await;
    let answer = get(world.http, "/").await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let mut waits = TcpStream::connect(world.http).await.expect("connects");
    waits.write_all(SLOW.as_bytes()).await.expect("sent");
    world.wait_stat("http.test.downstream_rq_active", 1).await;
    let (admin, http) = (world.admin, world.http);
    let ends = tokio::spawn(world.agent.shutdown(Duration::from_secs(5)));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while page(admin, "/ready").await.status() == 200 {
        assert!(tokio::time::Instant::now() < deadline, "still ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = page(admin, "/stats").await.body;
    let has = |line: &str| stats.lines().any(|known| known == line);
    assert!(has("http.test.downstream_rq_total: 2"), "{stats}");
    assert!(has("http.test.downstream_rq_active: 1"), "{stats}");
    assert!(has("server.total_connections: 1"), "{stats}");
    let metrics = page(admin, "/stats/prometheus").await.body;
    assert!(metrics.contains("\nistio_requests_total{"), "{metrics}");
    assert_eq!(post(admin, "/drain_listeners").await.status(), 200);
    while TcpStream::connect(http).await.is_ok() {
        assert!(!ends.is_finished(), "the listener is open to the end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ends.await.expect("it ends").connections, 1);
}
