//! A real Prometheus scrapes two proxies under traffic, and the queries of Istio's dashboards and of Kiali have
//! answers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as GivenValue};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const REVIEWS: &str = "reviews.default.svc.cluster.local";
const CLIENT: &str = "sidecar~127.0.0.1~productpage.default~default.svc.cluster.local";
const SERVER: &str = "sidecar~127.0.0.1~reviews.default~default.svc.cluster.local";
/// What the application of the server says of itself, with the mark of an end that is none.
const OF_APPLICATION: &str = "# TYPE orders counter\norders_total 7\n# EOF\n";

/// `PERIPLUS_PROMETHEUS`, or the one on the path.
fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("PERIPLUS_PROMETHEUS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut on_path = std::env::split_paths(&path).map(|directory| directory.join("prometheus"));
    let found = named.or_else(|| on_path.find(|file| file.is_file()));
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "there must be a Prometheus on CI"
    );
    if found.is_none() {
        eprintln!("not run: there is no prometheus");
    }
    found
}

/// A running Prometheus; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    async fn start(binary: PathBuf, targets: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let address = free_address().await;
        let config = json!({
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [{
                "job_name": "mesh",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": targets}],
            }],
        });
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).expect("write");
        let child = Command::new(binary)
            .arg("--config.file")
            .arg(file)
            .arg("--storage.tsdb.path")
            .arg(directory.path().join("data"))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start Prometheus");
        Self {
            child,
            address,
            _directory: directory,
        }
    }

    /// The label sets and values that a query gives.
    async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let path: String = query
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let Ok(answer) = get(self.address, &format!("/api/v1/query?query={path}")).await else {
            return Vec::new();
        };
        let Ok(answer) = serde_json::from_str::<Value>(&answer.body) else {
            return Vec::new();
        };
        assert_ne!(answer["status"], "error", "{query}: {answer}");
        let result = answer["data"]["result"].as_array();
        let value = |one: &Value| {
            let value = one["value"][1].as_str()?.parse().ok()?;
            Some((one["metric"].clone(), value))
        };
        result.into_iter().flatten().filter_map(value).collect()
    }

    /// Waits until each query gives a value that is above zero.
    async fn answer(&self, mut queries: Vec<String>) {
        let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
        loop {
            let mut unanswered = Vec::new();
            for query in queries {
                let found = self.query(&query).await;
                if !found.iter().any(|(_, value)| *value > 0.0) {
                    unanswered.push(query);
                }
            }
            if unanswered.is_empty() {
                return;
            }
            let is_late = tokio::time::Instant::now() > deadline;
            assert!(!is_late, "no data for {unanswered:#?}");
            queries = unanswered;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The queries of Istio's dashboards Mesh, Service and Workload, and those of Kiali's graph and its metrics of
/// Envoy: each of their forms once, with the names of this test for their variables.
fn queries() -> Vec<String> {
    const ALL: &[&str] = &[
        // Mesh
        r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint"}[R])), 0.01)"#,
        r#"sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.."}[R])) / sum(rate(istio_requests_total{reporter=~"source|waypoint"}[R]))"#,
        r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code=~"4.."}[R])), 0.01) or vector(0)"#,
        r#"label_join(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code="200"}[R])) by (destination_workload, destination_workload_namespace, destination_service), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
        r#"label_join(histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[R])) by (le, destination_workload, destination_workload_namespace)), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
        r#"label_join(sum(rate(istio_tcp_received_bytes_total{reporter=~"source|waypoint"}[R])) by (destination_workload, destination_workload_namespace, destination_service), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
        "sum by (component,tag) (istio_build)",
        // Service
        r#"round(sum(irate(istio_requests_total{reporter=~"source",destination_service="SERVICE"}[R])), 0.001)"#,
        r#"sum(irate(istio_requests_total{reporter=~"destination",destination_service="SERVICE",response_code!~"5.*"}[R])) / (sum(irate(istio_requests_total{reporter=~"destination",destination_service="SERVICE"}[R])) or on () vector(1))"#,
        r#"histogram_quantile(0.50, sum(irate(istio_request_duration_milliseconds_bucket{reporter=~"destination",destination_service="SERVICE"}[R])) by (le)) / 1000"#,
        r#"sum(irate(istio_tcp_sent_bytes_total{reporter=~"source", destination_service="db.default.svc.cluster.local"}[R]))"#,
        r#"round(sum(irate(istio_requests_total{connection_security_policy!="mutual_tls",destination_service="SERVICE",reporter=~"destination",source_workload=~"productpage-v1",source_workload_namespace=~"default"}[R])) by (source_workload, source_workload_namespace, response_code), 0.001)"#,
        r#"histogram_quantile(0.95, sum(irate(istio_request_bytes_bucket{reporter=~"destination", connection_security_policy!="mutual_tls", destination_service="SERVICE", source_workload=~"productpage-v1", source_workload_namespace=~"default"}[R])) by (source_workload, source_workload_namespace, le))"#,
        r#"histogram_quantile(0.99, sum(irate(istio_response_bytes_bucket{reporter="destination", connection_security_policy!="mutual_tls", destination_service="SERVICE", destination_workload=~"reviews-v1", destination_workload_namespace=~"default"}[R])) by (destination_workload, destination_workload_namespace, le))"#,
        // Workload
        r#"round(sum(irate(istio_requests_total{reporter=~"destination",destination_workload_namespace=~"default",destination_workload=~"reviews-v1"}[R])), 0.001)"#,
        r#"sum(irate(istio_tcp_sent_bytes_total{reporter=~"source", source_workload_namespace=~"default", source_workload=~"productpage-v1"}[R])) + sum(irate(istio_tcp_received_bytes_total{reporter=~"source", source_workload_namespace=~"default", source_workload=~"productpage-v1"}[R]))"#,
        r#"round(sum(irate(istio_requests_total{destination_principal!~"spiffe.*", source_workload_namespace=~"default", source_workload=~"productpage-v1", reporter="source", destination_service=~"SERVICE"}[R])) by (destination_service, response_code), 0.001)"#,
        r#"histogram_quantile(0.90, sum(irate(istio_request_duration_milliseconds_bucket{reporter="source", connection_security_policy!="mutual_tls", source_workload=~"productpage-v1", source_workload_namespace=~"default", destination_service=~"SERVICE"}[R])) by (destination_service, le)) / 1000"#,
        // Kiali
        r#"sum(rate(istio_requests_total{reporter=~"destination|waypoint",destination_workload_namespace="default"} [60s])) by (source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,destination_cluster,destination_service_namespace,destination_service,destination_service_name,destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision,request_protocol,response_code,grpc_response_status,response_flags) > 0"#,
        r#"sum(rate(istio_requests_total{reporter=~"source|waypoint",source_workload_namespace="default"} [60s])) by (source_cluster,source_workload,destination_service_name,destination_workload,request_protocol,response_code,response_flags) > 0"#,
        r#"sum(rate(istio_tcp_sent_bytes_total{reporter=~"source",source_workload_namespace="default"} [60s])) by (source_workload,destination_service_name,destination_service,response_flags) > 0"#,
        r#"sum(rate(istio_requests_total{reporter="destination",source_workload_namespace="default"} [60s])) by (source_principal,destination_principal,connection_security_policy) > 0"#,
        r#"sum(rate(istio_tcp_connections_opened_total{reporter=~"source",source_workload_namespace="default"} [60s])) by (source_workload) > 0"#,
        r#"sum(rate(istio_tcp_connections_closed_total{reporter=~"source",source_workload_namespace="default"} [60s])) by (source_workload) > 0"#,
        r#"sum(rate(istio_request_duration_milliseconds_sum{reporter="destination"}[60s])) by (destination_workload) / sum(rate(istio_request_duration_milliseconds_count{reporter="destination"}[60s])) by (destination_workload) >= 0"#,
        // Kiali's dashboard of Envoy
        "sum(envoy_cluster_upstream_cx_active) by (cluster_name)",
        "sum(rate(envoy_cluster_upstream_rq_total[R])) by (cluster_name)",
        "sum(envoy_listener_downstream_cx_active) + 1",
        "sum(rate(envoy_listener_http_downstream_rq[R])) by (response_code_class)",
        "sum(envoy_server_memory_allocated)",
        "sum(envoy_server_memory_heap_size)",
        "sum(envoy_server_uptime)",
        // Control plane
        r#"sum(envoy_cluster_upstream_cx_active{cluster_name="xds-grpc"})"#,
        r#"sum(increase(envoy_cluster_upstream_cx_connect_fail{cluster_name="xds-grpc"}[R])) + 1"#,
        r#"sum(increase(envoy_cluster_upstream_rq_pending_failure_eject{cluster_name="xds-grpc"}[R])) + 1"#,
        // The application's own, by the status port
        "orders_total",
        "istio_agent_scrapes_total",
    ];
    let fill = |query: &&str| query.replace("[R]", "[30s]").replace("SERVICE", REVIEWS);
    ALL.iter().map(fill).collect()
}

/// Starts a proxy with its two ports.
async fn start(
    plane: SocketAddr,
    (node, workload): (&str, &str),
    application: Option<SocketAddr>,
) -> Agent {
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: node,
        node_cluster: workload,
        metadata: &json!({
            "NAMESPACE": "default",
            "WORKLOAD_NAME": format!("{workload}-v1"),
            "CLUSTER_ID": "Kubernetes",
            "LABELS": {"app": workload, "version": "v1"},
        }),
        control_plane: plane,
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
    });
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let annotations = application.map(|at| json!({"port": at.port().to_string()}).to_string());
    let options = Options {
        metrics_address: Some(any),
        status_address: Some(any),
        application_metrics: annotations
            .map(|text| text.parse().expect("Istio's form"))
            .unwrap_or_default(),
        ..Options::default()
    };
    let bootstrap = bootstrap::parse("test", &text).expect("valid");
    Agent::start(bootstrap, options).await.expect("start")
}

/// What answers each request with the same text.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{OF_APPLICATION}",
                    OF_APPLICATION.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// A client's side with requests and with connections, to this address for both.
fn client_world(to: SocketAddr, database: SocketAddr, at: [SocketAddr; 2]) -> Snapshot {
    let reviews = format!("outbound|9080||{REVIEWS}");
    let db = "outbound|3306||db.default.svc.cluster.local";
    let route = a_route(path_prefix("/"), to_cluster(&reviews));
    let http = listener("http", at[0], TrafficDirection::Outbound, manager("r"));
    let tcp = tcp_proxy::TcpProxy {
        stat_prefix: db.to_owned(),
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(
            db.to_owned(),
        )),
        ..Default::default()
    };
    let filter = "envoy.filters.network.tcp_proxy";
    let tcp =
        xds_support::resources::listener_of("tcp", at[1], TrafficDirection::Outbound, filter, tcp);
    let all = ResourceSet::from_iter::<Vec<Resource>>;
    Snapshot::default()
        .with(
            CLUSTER,
            all(vec![eds_cluster(&reviews, |_| ()), eds_cluster(db, |_| ())]),
        )
        .with(
            ENDPOINT,
            all(vec![endpoints(&reviews, &[to]), endpoints(db, &[database])]),
        )
        .with(
            LISTENER,
            all(vec![
                Resource::new("http", &http),
                Resource::new("tcp", &tcp),
            ]),
        )
        .with(ROUTE, all(vec![route_configuration("r", vec![route])]))
}

/// What Istio says of the service in its clusters.
fn reviews() -> Metadata {
    let text = |text: &str| Kind::StringValue(text.to_owned());
    let object = |fields: Vec<(&str, Kind)>| Struct {
        fields: fields
            .into_iter()
            .map(|(name, kind)| (name.to_owned(), GivenValue { kind: Some(kind) }))
            .collect(),
    };
    let service = object(vec![
        ("host", text(REVIEWS)),
        ("name", text("reviews")),
        ("namespace", text("default")),
    ]);
    let values = vec![GivenValue {
        kind: Some(Kind::StructValue(service)),
    }];
    let said = object(vec![("services", Kind::ListValue(ListValue { values }))]);
    Metadata {
        filter_metadata: [("istio".to_owned(), said)].into(),
        ..Metadata::default()
    }
}

/// The server's side.
fn server_world(application: SocketAddr, at: SocketAddr) -> Snapshot {
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    let cluster = "inbound|9080||";
    let to = a_route(path_prefix("/"), to_cluster(cluster));
    let accepts = listener("in", at, TrafficDirection::Inbound, manager("r"));
    Snapshot::default()
        .with(
            CLUSTER,
            only(eds_cluster(cluster, |it| it.metadata = Some(reviews()))),
        )
        .with(ENDPOINT, only(endpoints(cluster, &[application])))
        .with(LISTENER, only(Resource::new("in", &accepts)))
        .with(ROUTE, only(route_configuration("r", vec![to])))
}

/// Requests and connections, one after the other, for as long as it is not aborted.
async fn traffic(http: SocketAddr, tcp: SocketAddr) {
    loop {
        for path in ["/ok", "/status/404"] {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: reviews:9080\r\nconnection: close\r\n\r\n");
            // Whether it was answered shows in the metrics.
            let _ = exchange(http, &request).await;
        }
        if let Ok(mut stream) = TcpStream::connect(tcp).await {
            let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_has_data_for_istios_dashboards_and_kiali() {
    let Some(binary) = binary() else {
        return;
    };
    let plane = ControlPlane::start().await;
    let origin = Origin::start("reviews").await;
    let application = application().await;
    let at = [
        free_address().await,
        free_address().await,
        free_address().await,
    ];
    plane
        .worlds
        .set(CLIENT, client_world(at[2], application, [at[0], at[1]]));
    plane
        .worlds
        .set(SERVER, server_world(origin.address, at[2]));
    let client = start(plane.address, (CLIENT, "productpage"), None).await;
    let server = start(plane.address, (SERVER, "reviews"), Some(application)).await;
    client.ready().await;
    server.ready().await;
    let load = tokio::spawn(traffic(at[0], at[1]));
    let ports = [client.metrics_address(), server.status_address()].map(|it| it.expect("a port"));
    let prometheus = Prometheus::start(binary, &ports).await;

    prometheus.answer(vec!["sum(up) == 2".to_owned()]).await;
    prometheus.answer(queries()).await;
    // Who talks to whom is the same from both sides.
    for reporter in ["source", "destination"] {
        let query = format!(
            "sum(rate(istio_requests_total{{reporter=\"{reporter}\"}}[30s])) by (source_workload,destination_workload,destination_service,destination_service_name)"
        );
        let edges: BTreeSet<_> = prometheus
            .query(&query)
            .await
            .into_iter()
            .map(|(labels, _)| labels.to_string())
            .collect();
        let edge = json!({
            "destination_service": REVIEWS,
            "destination_service_name": "reviews",
            "destination_workload": "reviews-v1",
            "source_workload": "productpage-v1",
        });
        assert_eq!(edges, BTreeSet::from([edge.to_string()]), "{reporter}");
    }
    load.abort();
    client.shutdown(Duration::from_secs(1)).await;
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_status_port_merges_the_applications_metrics_and_counts_those_it_cannot_have() {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("reviews").await;
    let at = free_address().await;
    let nobody = dead_address();
    let agent = start(plane.address, (SERVER, "reviews"), Some(nobody)).await;
    let status = agent.status_address().expect("a port");
    assert_eq!(page(status, "/healthz/ready").await.status(), 503);
    plane.worlds.set(SERVER, server_world(origin.address, at));
    agent.ready().await;
    assert_eq!(page(status, "/healthz/ready").await.status(), 200);
    for (path, failures) in [("/metrics", 1), ("/stats/prometheus", 2)] {
        let answer = page(status, path).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.body.contains("envoy_server_live 1\n"), "{answer:?}");
        let failed =
            format!("istio_agent_scrape_failures_total{{type=\"application\"}} {failures}\n");
        assert!(answer.body.contains(&failed), "{answer:?}");
    }
    // Prometheus's port has that and nothing else.
    let metrics = agent.metrics_address().expect("a port");
    let answer = page(metrics, "/stats/prometheus?filter=^server.live").await;
    assert!(
        answer.body.starts_with("# TYPE envoy_server_live"),
        "{answer:?}"
    );
    assert_eq!(page(metrics, "/config_dump").await.status(), 404);
    let request =
        "POST /quitquitquit HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(
        exchange(metrics, request)
            .await
            .expect("an answer")
            .status(),
        404
    );
    assert_eq!(
        exchange(status, request).await.expect("an answer").body,
        "OK\n"
    );
    agent.quit_requested().await;
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_proxy_does_not_scrape_itself() {
    let own = free_address().await;
    let options = Options {
        status_address: Some(own),
        application_metrics: json!({"port": own.port().to_string()})
            .to_string()
            .parse()
            .expect("Istio's form"),
        ..Options::default()
    };
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: NODE,
        node_cluster: "test.default",
        metadata: &json!({}),
        control_plane: own,
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
    });
    let bootstrap = bootstrap::parse("test", &text).expect("valid");
    let error = Agent::start(bootstrap, options).await.expect_err("its own");
    let expected = format!(
        "the application's metrics cannot be on port {}, which is the proxy's own",
        own.port()
    );
    assert_eq!(error.to_string(), expected);
}
