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
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// More than Istio's metrics have series for; `PERIPLUS_HARM_PATHS` may say how many more.
const PATHS: usize = 2500;
/// How many spans may wait for a collector that is not there.
const MOST_SPANS: usize = 200;
/// By how much the memory of this process may grow.
const MOST_GROWTH: usize = 160 * 1024 * 1024;
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

/// The memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4096
}

/// A proxy that listens at `at`, and reports spans to `collector`.
async fn start(
    plane: &ControlPlane,
    at: SocketAddr,
    manager: hcm::HttpConnectionManager,
    collector: SocketAddr,
    options: Options,
) -> Agent {
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    let accepts = listener("l", at, TrafficDirection::Inbound, manager);
    let world = Snapshot::default()
        .with(CLUSTER, only(eds_cluster("dead", |_| ())))
        .with(ENDPOINT, only(endpoints("dead", &[collector])))
        .with(LISTENER, only(Resource::new("l", &accepts)))
        .with(ROUTE, only(answering()));
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
    Agent::start(bootstrap, options).await.expect("start")
}

/// Answers everything with 204.
fn answering() -> Resource {
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
    route_configuration("r", vec![direct])
}

#[tokio::test]
async fn header_bombs_take_no_more_memory_than_there_is_whoever_hangs() {
    const BOMBS: usize = 1500;
    let plane = ControlPlane::start().await;
    let at = free_address().await;
    // Nobody reads the pipe, and the collector never answers.
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let reader = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .expect("open");
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let collector = hanging.local_addr().expect("an address");
    let mut manager = manager_of_harm();
    for log in &mut manager.access_log {
        log.config_type = Some(accesslog::access_log::ConfigType::TypedConfig(pack_any(
            FileAccessLog {
                path: pipe.to_str().expect("UTF-8").to_owned(),
                ..Default::default()
            },
        )));
    }
    let options = Options {
        workers: 1,
        ..Options::default()
    };
    let agent = Box::pin(start(&plane, at, manager, collector, options)).await;
    agent.ready().await;
    let admin = agent.admin_address().expect("an admin address");

    // Everything is as long as it may be, and of each request its own.
    let before = resident();
    let mut client = TcpStream::connect(at).await.expect("connects");
    let long = "x".repeat(14_000);
    for number in 0..BOMBS {
        let request = format!(
            "GET /{number}{long} HTTP/1.1\r\nhost: {number}{long}\r\nuser-agent: {number}{long}\r\n\
             x-forwarded-for: {number}{long}\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut part = [0; 1024];
            let count = client.read(&mut part).await.expect("an answer");
            assert!(count > 0, "the connection is closed");
            answer.extend_from_slice(&part[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 204 "), "{number}");
    }
    let growth = resident().saturating_sub(before);
    assert!(
        growth < MOST_GROWTH,
        "{growth} bytes more after {BOMBS} bombs"
    );
    let count = |stats: &str, name: &str| -> usize {
        let line = stats.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| {
            value.trim_start_matches(": ").parse().expect("a number")
        })
    };
    // A request is counted behind its answer.
    let stats = loop {
        let stats = page(admin, "/stats").await.body;
        match count(&stats, "http.test.downstream_rq_2xx") {
            BOMBS => break stats,
            fewer => assert!(fewer < BOMBS, "{fewer}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // What there is no room for is lost, and counted.
    for lost in ["access_log.lines_dropped", "tracing.zipkin.spans_dropped"] {
        assert!(
            (1..=BOMBS).contains(&count(&stats, lost)),
            "{lost}: {stats}"
        );
    }
    let page = page(admin, "/stats/prometheus").await.body;
    assert!(page.len() < MOST_SERIES * 64 * 1024, "{} bytes", page.len());
    // Nor does anybody who hangs keep the proxy from its end.
    let begin = std::time::Instant::now();
    agent.shutdown(Duration::from_millis(100)).await;
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    drop((reader, hanging));
}

#[tokio::test]
async fn a_full_disk_a_dead_collector_and_no_end_of_paths_are_nothing_to_requests() {
    let plane = ControlPlane::start().await;
    let [at, nobody] = [free_address().await, dead_address()];
    let options = Options {
        workers: 1,
        max_pending_spans: MOST_SPANS,
        ..Options::default()
    };
    let agent = Box::pin(start(&plane, at, manager_of_harm(), nobody, options)).await;
    agent.ready().await;
    let admin = agent.admin_address().expect("an admin address");

    let paths = std::env::var("PERIPLUS_HARM_PATHS");
    let paths = paths.map_or(PATHS, |text| text.parse().expect("a number"));
    let before = resident();
    let mut client = TcpStream::connect(at).await.expect("connects");
    for first in (0..paths).step_by(AT_ONCE) {
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

    for (name, count) in [
        ("access_log.lines_dropped", paths),
        ("tracing.zipkin.spans_dropped", paths - MOST_SPANS),
        ("http.test.downstream_rq_2xx", paths),
    ] {
        let line = format!("{name}: {count}\n");
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
    assert_eq!(counted, paths);
    assert!(series.iter().any(|line| line.contains("path=\"/path/17\"")));
    let growth = resident().saturating_sub(before);
    assert!(
        growth < MOST_GROWTH,
        "{growth} bytes more with {paths} paths"
    );
    agent.shutdown(Duration::from_millis(100)).await;
}
