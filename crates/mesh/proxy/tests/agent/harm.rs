//! What is around the proxy fails, and clients ask for whatever comes to their minds: requests never notice, memory
//! stays bounded, and losses are counted.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::trace::v3 as trace;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::util::pack_any;
use periplus_xds::istio_stats::{MetricConfig, PluginConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// More than Istio's metrics have series for.
const PATHS: usize = 2500;
/// The most series of one worker, and what is over.
const MOST_SERIES: usize = 2001;
/// Requests that are sent at once.
const AT_ONCE: usize = 50;

/// Metrics by path, a log on a full disk, spans for nobody.
fn manager_of_harm() -> hcm::HttpConnectionManager {
    let mut manager = manager("r");
    let by_path = MetricConfig {
        dimensions: BTreeMap::from([("path".to_owned(), "request.url_path".to_owned())]),
        ..MetricConfig::default()
    };
    let config = PluginConfig {
        metrics: vec![by_path],
        ..PluginConfig::default()
    };
    let stats = hcm::HttpFilter {
        name: "istio.stats".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config.packed())),
        ..Default::default()
    };
    manager.http_filters.insert(0, stats);
    let log = FileAccessLog {
        path: "/dev/full".to_owned(),
        ..Default::default()
    };
    manager.access_log = vec![accesslog::AccessLog {
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack_any(
            log,
        ))),
        ..Default::default()
    }];
    let zipkin = trace::ZipkinConfig {
        collector_cluster: "dead".to_owned(),
        collector_endpoint: "/api/v2/spans".to_owned(),
        collector_endpoint_version: 1,
        ..Default::default()
    };
    manager.tracing = Some(hcm::http_connection_manager::Tracing {
        provider: Some(trace::tracing::Http {
            name: "envoy.tracers.zipkin".to_owned(),
            config_type: Some(trace::tracing::http::ConfigType::TypedConfig(pack_any(
                zipkin,
            ))),
        }),
        ..Default::default()
    });
    manager
}

#[tokio::test]
async fn a_full_disk_a_dead_collector_and_no_end_of_paths_are_nothing_to_requests() {
    let plane = ControlPlane::start().await;
    let [at, nobody] = [free_address().await, free_address().await];
    let direct = route::Route {
        r#match: Some(path_prefix("/")),
        action: Some(route::route::Action::DirectResponse(
            route::DirectResponseAction {
                status: 204,
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    let accepts = listener("l", at, TrafficDirection::Inbound, manager_of_harm());
    let world = Snapshot::default()
        .with(CLUSTER, only(eds_cluster("dead", |_| ())))
        .with(ENDPOINT, only(endpoints("dead", &[nobody])))
        .with(LISTENER, only(Resource::new("l", &accepts)))
        .with(ROUTE, only(route_configuration("r", vec![direct])));
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
    let options = Options {
        workers: 1,
        ..Options::default()
    };
    let agent = Agent::start(bootstrap, options).await.expect("start");
    agent.ready().await;
    let admin = agent.admin_address().expect("an admin address");

    let mut client = TcpStream::connect(at).await.expect("connects");
    for first in (0..PATHS).step_by(AT_ONCE) {
        let all = first..first + AT_ONCE;
        let requests: String = all
            .map(|number| format!("GET /path/{number}?{number} HTTP/1.1\r\nhost: h\r\n\r\n"))
            .collect();
        client.write_all(requests.as_bytes()).await.expect("sent");
        let mut answers = String::new();
        while answers.matches("\r\n\r\n").count() < AT_ONCE {
            let mut part = [0; 4096];
            let count = client.read(&mut part).await.expect("answers");
            assert!(count > 0, "the connection is closed");
            answers.push_str(&String::from_utf8_lossy(&part[..count]));
        }
        assert_eq!(
            answers.matches("HTTP/1.1 204 ").count(),
            AT_ONCE,
            "{answers}"
        );
    }

    for name in [
        "access_log.lines_dropped",
        "tracing.zipkin.spans_dropped",
        "http.test.downstream_rq_2xx",
    ] {
        let line = format!("{name}: {PATHS}\n");
        let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
        loop {
            let stats = page(admin, "/stats").await.body;
            if stats.contains(&line) {
                break;
            }
            let found = stats.lines().find(|line| line.starts_with(name));
            let is_late = tokio::time::Instant::now() > deadline;
            assert!(!is_late, "{found:?} instead of {line}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let metrics = page(admin, "/stats/prometheus").await.body;
    let of_requests = |line: &&str| line.starts_with("istio_requests_total{");
    let series: Vec<_> = metrics.lines().filter(of_requests).collect();
    assert_eq!(series.len(), MOST_SERIES);
    let counted: usize = series
        .iter()
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
        .sum();
    assert_eq!(counted, PATHS);
    assert!(series.iter().any(|line| line.contains("path=\"/path/17\"")));
    agent.shutdown(Duration::from_millis(100)).await;
}
