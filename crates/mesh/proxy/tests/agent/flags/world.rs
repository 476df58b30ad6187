//! A proxy in front of what brings each flag about.

use std::path::Path;

use bytes::Bytes;
use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DnsLookupFamily, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::policy::DropOverload;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::trace::v3 as trace;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig as ForwardProxy;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, HttpService};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent, TokenBucket};
use envoy_types::pb::google::protobuf::{self, Any, UInt32Value};
use envoy_types::util::pack_any;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use envoy_types::pb::envoy::config::route::v3::rate_limit::action::{ActionSpecifier, GenericKey};

use super::*;
use crate::overload;
use crate::xds_support::resources::{listener_of, socket};

const FAULT: &str = "envoy.filters.http.fault";
const LIMIT: &str = "envoy.filters.http.local_ratelimit";

fn filter(name: &str, config: impl prost::Name) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(config))),
        ..Default::default()
    }
}

fn ms(ms: i32) -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: 0,
        nanos: ms * 1_000_000,
    })
}

fn always() -> Option<core::RuntimeFractionalPercent> {
    Some(core::RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: 100,
            denominator: 0,
        }),
        ..Default::default()
    })
}

/// A log of path and flags; its filter knows every flag by its name.
fn log_to(file: &Path) -> accesslog::AccessLog {
    let format = "%REQ(:PATH)% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%\n";
    let source = core::data_source::Specifier::InlineString(format.to_owned());
    let config = FileAccessLog {
        path: file.to_str().expect("UTF-8").to_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(core::SubstitutionFormatString {
            format: Some(core::substitution_format_string::Format::TextFormatSource(
                core::DataSource {
                    specifier: Some(source),
                    ..Default::default()
                },
            )),
            ..Default::default()
        })),
    };
    let flags = accesslog::ResponseFlagFilter {
        flags: FLAGS
            .iter()
            .map(|(short, ..)| (*short).to_owned())
            .collect(),
    };
    accesslog::AccessLog {
        name: "log".to_owned(),
        filter: Some(accesslog::AccessLogFilter {
            filter_specifier: Some(
                accesslog::access_log_filter::FilterSpecifier::ResponseFlagFilter(flags),
            ),
        }),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack_any(
            config,
        ))),
    }
}

fn told(file: &Path, more: Vec<hcm::HttpFilter>) -> hcm::HttpConnectionManager {
    let zipkin = trace::ZipkinConfig {
        collector_cluster: "zipkin".to_owned(),
        collector_endpoint: "/api/v2/spans".to_owned(),
        collector_endpoint_version: 1,
        ..Default::default()
    };
    let mut manager = manager("r");
    let router = Router {
        strict_check_headers: vec!["x-envoy-max-retries".to_owned()],
        ..Default::default()
    };
    manager.http_filters = more;
    let router = filter("envoy.filters.http.router", router);
    manager.http_filters.push(router);
    manager.tracing = Some(hcm::http_connection_manager::Tracing {
        provider: Some(trace::tracing::Http {
            name: "envoy.tracers.zipkin".to_owned(),
            config_type: Some(trace::tracing::http::ConfigType::TypedConfig(pack_any(
                zipkin,
            ))),
        }),
        ..Default::default()
    });
    manager.access_log = vec![log_to(file)];
    manager
}

fn routes() -> Vec<route::Route> {
    let to = |path: &str, cluster: &str| a_route(path_prefix(path), to_cluster(cluster));
    let with = |path: &str, edit: fn(&mut route::RouteAction)| {
        let mut action = to_cluster("c");
        edit(&mut action);
        a_route(path_prefix(path), action)
    };
    let filtered = |path: &str, name: &str, config: Any| {
        let mut made = to(path, "c");
        made.typed_per_filter_config.insert(name.to_owned(), config);
        made
    };
    let mut again = to_cluster("refused");
    again.retry_policy = Some(route::RetryPolicy {
        retry_on: "connect-failure".to_owned(),
        num_retries: Some(UInt32Value { value: 1 }),
        ..Default::default()
    });
    let delay = HttpFault {
        delay: Some(FaultDelay {
            percentage: always().and_then(|share| share.default_value),
            fault_delay_secifier: ms(1).map(FaultDelaySecifier::FixedDelay),
        }),
        ..Default::default()
    };
    let abort = HttpFault {
        abort: Some(FaultAbort {
            percentage: always().and_then(|share| share.default_value),
            error_type: Some(ErrorType::HttpStatus(418)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let limit = LocalRateLimit {
        stat_prefix: "route".to_owned(),
        token_bucket: Some(TokenBucket {
            max_tokens: 1,
            tokens_per_fill: Some(UInt32Value { value: 1 }),
            fill_interval: Some(protobuf::Duration {
                seconds: 3600,
                nanos: 0,
            }),
        }),
        filter_enabled: always(),
        filter_enforced: always(),
        ..Default::default()
    };
    // One that lets everything pass, and says so to the endpoint.
    let lenient = LocalRateLimit {
        filter_enforced: None,
        request_headers_to_add_when_not_enforced: vec![core::HeaderValueOption {
            header: Some(core::HeaderValue {
                key: "x-envoy-max-retries".to_owned(),
                value: "many".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..limit.clone()
    };
    vec![
        to("/uh", "empty"),
        to("/urx", "refused"),
        to("/uf", "refused"),
        to("/uo", "full"),
        to("/nc", "missing"),
        to("/df", "named"),
        to("/ur", "streams"),
        to("/om", "streams"),
        to("/do", "dropped"),
        to("/udo", "unserved"),
        with("/slow/ut", |action| action.timeout = ms(50)),
        with("/slow/si", |action| action.idle_timeout = ms(50)),
        filtered("/di", FAULT, pack_any(delay)),
        filtered("/fi", FAULT, pack_any(abort)),
        filtered("/rl", LIMIT, pack_any(limit)),
        filtered("/ih", LIMIT, pack_any(lenient)),
        with("/quota", |action| {
            let key = GenericKey {
                descriptor_value: "all".to_owned(),
                ..Default::default()
            };
            action.rate_limits = vec![route::RateLimit {
                actions: vec![route::rate_limit::Action {
                    action_specifier: Some(ActionSpecifier::GenericKey(key)),
                }],
                ..Default::default()
            }];
        }),
        to("/dpe", "c"),
        to("/slow/umsdr", "brief"),
        to("/slow", "c"),
        to("/reset", "c"),
        to("/garbage", "c"),
        to("/status", "c"),
    ]
    .into_iter()
    .map(|mut made| {
        if made.r#match == Some(path_prefix("/urx")) {
            made.action = Some(route::route::Action::Route(again.clone()));
        }
        made
    })
    .collect()
}

/// Names are looked up where nobody answers.
fn unanswered() -> DnsCacheConfig {
    let resolvers = CaresDnsResolverConfig {
        resolvers: socket(SocketAddr::from(([127, 0, 0, 1], 1)))
            .into_iter()
            .collect(),
        ..Default::default()
    };
    DnsCacheConfig {
        name: "names".to_owned(),
        dns_lookup_family: DnsLookupFamily::V4Only as i32,
        dns_query_timeout: ms(500),
        typed_dns_resolver_config: Some(core::TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(pack_any(resolvers)),
        }),
        ..Default::default()
    }
}

/// A cluster whose endpoints are the hosts that requests name.
fn named(name: &str) -> Resource {
    let config = ClusterConfig {
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(
            unanswered(),
        )),
        ..Default::default()
    };
    let cluster = Cluster {
        name: name.to_owned(),
        lb_policy: LbPolicy::ClusterProvided as i32,
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
            name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
            typed_config: Some(pack_any(config)),
        })),
        ..Default::default()
    };
    Resource::new(name, &cluster)
}

/// Endpoints that a share of the requests, of a million, is kept from.
fn dropping(name: &str, at: SocketAddr, share: u32) -> Resource {
    let made = endpoints(name, &[at]);
    let mut assignment = ClusterLoadAssignment::decode(&*made.body().value).expect("an assignment");
    assignment.policy = Some(Policy {
        drop_overloads: vec![DropOverload {
            category: "all".to_owned(),
            drop_percentage: Some(FractionalPercent {
                numerator: share,
                denominator: 2,
            }),
        }],
        ..Default::default()
    });
    Resource::new(name, &assignment)
}

pub(super) struct World {
    pub(super) admin: SocketAddr,
    pub(super) out: SocketAddr,
    pub(super) guarded: SocketAddr,
    tcp: SocketAddr,
    pub(super) collector: Origin,
}

impl World {
    #[expect(deprecated, reason = "the short forms of HTTP/2 and of conditions do")]
    pub(super) async fn start(plane: &ControlPlane, log: &Path) -> (Self, Agent) {
        let [out, guarded, tcp] = [
            free_address().await,
            free_address().await,
            free_address().await,
        ];
        let (origin, collector) = (Origin::start("one").await, Origin::start("zipkin").await);
        let authz = ExtAuthz {
            services: Some(Services::HttpService(HttpService {
                server_uri: Some(core::HttpUri {
                    uri: "http://authorizer".to_owned(),
                    timeout: ms(900),
                    http_upstream_type: Some(HttpUpstreamType::Cluster("c".to_owned())),
                }),
                ..Default::default()
            })),
            transport_api_version: core::ApiVersion::V3.into(),
            ..Default::default()
        };
        let limit = LocalRateLimit {
            stat_prefix: "all".to_owned(),
            ..Default::default()
        };
        let quota = RateLimit {
            domain: "test".to_owned(),
            failure_mode_deny: true,
            rate_limit_service: Some(RateLimitServiceConfig {
                grpc_service: Some(core::GrpcService {
                    target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                        cluster_name: "refused".to_owned(),
                        ..Default::default()
                    })),
                    ..Default::default()
                }),
                transport_api_version: core::ApiVersion::V3.into(),
            }),
            ..Default::default()
        };
        let health = HealthCheck {
            pass_through_mode: Some(protobuf::BoolValue { value: false }),
            headers: vec![route::HeaderMatcher {
                name: ":path".to_owned(),
                header_match_specifier: Some(HeaderMatchSpecifier::ExactMatch("/lh".to_owned())),
                ..Default::default()
            }],
            cluster_min_healthy_percentages: [("empty".to_owned(), Percent { value: 50.0 })].into(),
            ..Default::default()
        };
        let filters = vec![
            filter("envoy.filters.http.health_check", health),
            filter(FAULT, HttpFault::default()),
            filter(LIMIT, limit),
            filter("envoy.filters.http.ratelimit", quota),
            filter(
                "envoy.filters.http.dynamic_forward_proxy",
                ForwardProxy {
                    implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(
                        unanswered(),
                    )),
                    ..Default::default()
                },
            ),
        ];
        let proxied = tcp_proxy::TcpProxy {
            stat_prefix: "tcp".to_owned(),
            cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(
                "c".to_owned(),
            )),
            max_downstream_connection_duration: ms(50),
            access_log: vec![log_to(log)],
            ..Default::default()
        };
        let outbound = TrafficDirection::Outbound;
        let guard = vec![filter("envoy.filters.http.ext_authz", authz)];
        let listeners = [
            ("out", listener("out", out, outbound, told(log, filters))),
            (
                "guarded",
                listener("guarded", guarded, outbound, told(log, guard)),
            ),
            (
                "tcp",
                listener_of(
                    "tcp",
                    tcp,
                    outbound,
                    "envoy.filters.network.tcp_proxy",
                    proxied,
                ),
            ),
        ]
        .map(|(name, made)| Resource::new(name, &made));
        let full = |cluster: &mut Cluster| {
            cluster.circuit_breakers = Some(CircuitBreakers {
                thresholds: vec![Thresholds {
                    max_requests: Some(UInt32Value { value: 0 }),
                    ..Default::default()
                }],
                ..Default::default()
            });
        };
        let brief = |cluster: &mut Cluster| {
            cluster.common_http_protocol_options = Some(core::HttpProtocolOptions {
                max_stream_duration: ms(50),
                ..Default::default()
            });
        };
        let over_http2 = |cluster: &mut Cluster| {
            cluster.http2_protocol_options = Some(Default::default());
        };
        let clusters = ["c", "zipkin", "empty", "refused", "dropped", "unserved"]
            .map(|name| eds_cluster(name, |_| ()))
            .into_iter()
            .chain([
                eds_cluster("full", full),
                eds_cluster("streams", over_http2),
                eds_cluster("brief", brief),
                named("named"),
            ]);
        let assignments = [
            endpoints("c", &[origin.address]),
            endpoints("zipkin", &[collector.address]),
            endpoints("empty", &[]),
            endpoints("brief", &[origin.address]),
            endpoints("refused", &[dead_address()]),
            endpoints("full", &[origin.address]),
            endpoints("streams", &[overload::endless().await]),
            dropping("dropped", origin.address, 999_999),
            dropping("unserved", origin.address, 1_000_000),
        ];
        let world = Snapshot::default()
            .with(CLUSTER, ResourceSet::from_iter(clusters))
            .with(ENDPOINT, ResourceSet::from_iter(assignments))
            .with(LISTENER, ResourceSet::from_iter(listeners))
            .with(
                ROUTE,
                ResourceSet::from_iter([route_configuration("r", routes())]),
            );
        plane.worlds.set(NODE, world);
        let text = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: NODE,
            node_cluster: "test.default",
            metadata: &json!({"NAMESPACE": "default"}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        let mut file: Value = serde_json::from_str(&text).expect("JSON");
        // More than eight connections are too many.
        file["overload_manager"] = overload::from_half_of(16, "reset_high_memory_stream");
        file["overload_manager"]["buffer_factory_config"] =
            json!({"minimum_account_to_track_power_of_two": 16});
        let bootstrap = bootstrap::parse("test", &file.to_string()).expect("valid");
        let agent = Agent::start(bootstrap, Options::default())
            .await
            .expect("start");
        agent.ready().await;
        let admin = agent.admin_address().expect("an admin address");
        let world = Self {
            admin,
            out,
            guarded,
            tcp,
            collector,
        };
        (world, agent)
    }

    async fn wait_active(&self, count: u64) {
        let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
        let expected = format!("http.test.downstream_rq_active: {count}\n");
        let path = "/stats?filter=^http.test.downstream_rq_active$";
        while page(self.admin, path).await.body != expected {
            assert!(tokio::time::Instant::now() < deadline, "not {count} active");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn bring_about(&self, flag: &str, how: &How) {
        match how {
            Get(path, status) => {
                let at = if flag == "UAEX" {
                    self.guarded
                } else {
                    self.out
                };
                // The first one takes what there is.
                let times = if matches!(flag, "RL" | "IH") { 2 } else { 1 };
                let mut answer = Message::default();
                for _ in 0..times {
                    answer = get(at, path).await.expect("an answer");
                }
                assert_eq!(answer.status(), *status, "{flag}: {answer:?}");
            }
            Send(_, text) => {
                let answer = exchange(self.out, text).await.expect("an answer");
                assert_eq!(answer.status(), 400, "{flag}: {answer:?}");
            }
            Leave(path) => {
                let mut stream = TcpStream::connect(self.out).await.expect("connects");
                let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
                stream.write_all(request.as_bytes()).await.expect("sent");
                self.wait_active(1).await;
                drop(stream);
                self.wait_active(0).await;
            }
            Reset(path) | Hold(path) => self.stream(path, matches!(how, Hold(_))).await,
            Tcp => {
                let mut stream = TcpStream::connect(self.tcp).await.expect("connects");
                // However it ends, it ends.
                let _ = stream.read(&mut [0; 1]).await;
            }
            Never(_) => {}
        }
    }

    async fn stream(&self, path: &str, holds: bool) {
        let stream = TcpStream::connect(self.out).await.expect("connects");
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(1024)
            .handshake::<_, Bytes>(stream)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        let mut client = client.ready().await.expect("ready");
        let request = http::Request::get(format!("http://a{path}")).body(());
        let (response, mut send) = client
            .send_request(request.expect("valid"), true)
            .expect("sent");
        if !holds {
            self.wait_active(1).await;
            send.send_reset(h2::Reason::CANCEL);
            self.wait_active(0).await;
            return;
        }
        let mut body = response.await.expect("a head").into_body();
        body.data().await.expect("some").expect("of the body");
        let mut many = Vec::new();
        for _ in 0..8 {
            many.push(TcpStream::connect(self.out).await.expect("connects"));
        }
        self.wait_active(0).await;
    }

    /// The flags of the spans that there are.
    pub(super) fn of_spans(&self, seen: &mut BTreeSet<(String, String)>) {
        for report in self.collector.take() {
            let spans: Vec<Value> = serde_json::from_str(&report.body).expect("a report");
            for span in spans {
                let tag = |name: &str| span["tags"][name].as_str().unwrap_or("-").to_owned();
                let url = tag("http.url");
                let path = url
                    .strip_prefix("http://")
                    .and_then(|url| url.split_once('/'));
                let path = path.map_or(String::new(), |(_, path)| format!("/{path}"));
                seen.insert((path, tag("response_flags")));
            }
        }
    }
}
