//! Access logs: the same lines as Envoy writes, but for times and ids.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{
    BoolValue, Duration as ProtoDuration, Struct, UInt32Value, Value,
};
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use regex::Regex;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::envoy::{self, Envoy};
use crate::xds_support::http::{Origin, exchange, get};
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener as http_listener, listener_of, manager, path_prefix,
    route_configuration, to_cluster,
};
use crate::xds_support::{ControlPlane, PATIENCE, dead_address, eventually, free_address};
use crate::{envoy_is_ready, expressions};

const LISTENERS: [&str; 6] = ["http", "edge", "expressions", "tcp", "refused", "closed"];

/// Enough for a request to get to the origin.
const SHORTLY: Duration = Duration::from_millis(300);

/// Istio's default, as its control plane sends it.
pub(crate) const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Operators besides Istio's; the names are the keys of an object.
const MORE: [&str; 57] = [
    "REQ(:SCHEME)",
    "REQ(X-FORWARDED-PROTO)",
    "REQ(X-LONG):5",
    "RESP(SERVER)",
    "RESP(:STATUS)",
    "TRAILER(X-NONE)",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS_LONG",
    "BYTES_SENT",
    "DURATION",
    "REQUEST_DURATION",
    "RESPONSE_DURATION",
    "RESPONSE_TX_DURATION",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "GRPC_STATUS",
    "TRACE_ID",
    "DYNAMIC_METADATA(a:b)",
    "FILTER_STATE(x:PLAIN)",
    "ROUTE_NAME",
    "PATH(NQ)",
    "HOSTNAME",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_START",
    "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_PEER_ISSUER",
    "FILTER_CHAIN_NAME",
    "ROUNDTRIP_DURATION",
    "REQUEST_TX_DURATION",
    "COMMON_DURATION(US_TX_END:US_TX_END:ns)",
    "QUERY_PARAM(a)",
    "CEL(request.method)",
    "LOCAL_REPLY_BODY",
    "CONNECTION_ID",
    "UNIQUE_ID",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "COMMON_DURATION(US_CX_BEG:US_CX_END:us)",
    "COMMON_DURATION(US_CX_BEG:US_HS_END:us)",
    "COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)",
    "COMMON_DURATION(US_CX_END:DS_TX_END:us)",
];

/// How the connection to the endpoint came to be, also where there is no request.
const WAY: &str = "%RESPONSE_FLAGS% id=%CONNECTION_ID% id=%UPSTREAM_CONNECTION_ID% \
    us=%UPSTREAM_CONNECTION_POOL_READY_DURATION% us=%COMMON_DURATION(US_CX_BEG:US_CX_END:us)% \
    us=%COMMON_DURATION(US_CX_BEG:US_HS_END:us)% us=%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)% \
    [%LOCAL_REPLY_BODY%] %DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n";

pub(crate) const REQUESTS: [&str; 14] = [
    "GET /ok?a=b HTTP/1.1\r\nhost: a\r\nuser-agent: test\r\nx-long: abcdefghi\r\n",
    "POST /ok HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nx-forwarded-for: 10.0.0.9\r\n",
    "GET /chunked HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 1.2.3.4, 5.6.7.8\r\nx-request-id: mine\r\n",
    "GET /status/500 HTTP/1.1\r\nhost: a\r\n",
    "GET /refused HTTP/1.1\r\nhost: a\r\n",
    "GET /empty HTTP/1.1\r\nhost: a\r\n",
    "GET /missing HTTP/1.1\r\nhost: a\r\n",
    "GET /reset HTTP/1.1\r\nhost: a\r\n",
    "GET /garbage HTTP/1.1\r\nhost: a\r\n",
    "GET /cut HTTP/1.1\r\nhost: a\r\n",
    "GET /nowhere HTTP/1.1\r\nhost: a\r\n",
    "POST /status/503 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-type: application/grpc\r\n",
    "POST /ok/call HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-type: application/grpc\r\n",
    "GET /not-found-by-grpc HTTP/1.1\r\nhost: a\r\n",
];

pub(crate) fn in_file(
    directory: &Path,
    name: &str,
    format: Option<Format>,
) -> accesslog::AccessLog {
    let path = directory.join(name);
    let config = FileAccessLog {
        path: path.to_str().expect("UTF-8").to_owned(),
        access_log_format: format.map(|format| {
            AccessLogFormat::LogFormat(core::SubstitutionFormatString {
                format: Some(format),
                ..Default::default()
            })
        }),
    };
    accesslog::AccessLog {
        name: name.to_owned(),
        filter: None,
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack_any(
            config,
        ))),
    }
}

pub(crate) fn text(format: &str) -> Option<Format> {
    Some(Format::TextFormatSource(core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(
            format.to_owned(),
        )),
        ..Default::default()
    }))
}

fn object() -> Option<Format> {
    let field = |operator: &str| {
        let kind = Some(Kind::StringValue(format!("%{operator}%")));
        (operator.to_owned(), Value { kind })
    };
    Some(Format::JsonFormat(Struct {
        fields: MORE.map(field).into(),
    }))
}

/// Only errors, for a second file.
pub(crate) fn errors(mut log: accesslog::AccessLog) -> accesslog::AccessLog {
    let comparison = accesslog::ComparisonFilter {
        op: accesslog::comparison_filter::Op::Ge as i32,
        value: Some(core::RuntimeUInt32 {
            default_value: 400,
            runtime_key: "unused".to_owned(),
        }),
    };
    log.filter = Some(accesslog::AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::StatusCodeFilter(
            accesslog::StatusCodeFilter {
                comparison: Some(comparison),
            },
        )),
    });
    log
}

/// Only connections that nothing takes, as Istio's listeners have it.
fn unrouted(mut log: accesslog::AccessLog) -> accesslog::AccessLog {
    let flags = accesslog::ResponseFlagFilter {
        flags: vec!["NR".to_owned()],
    };
    log.filter = Some(accesslog::AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(flags)),
    });
    log
}

const BYTES: &str = "%PATH(NQ)% %REQ(:METHOD)% \
    %DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT% \
    %DOWNSTREAM_HEADER_BYTES_RECEIVED% %DOWNSTREAM_HEADER_BYTES_SENT% \
    %UPSTREAM_WIRE_BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_SENT% \
    %UPSTREAM_HEADER_BYTES_RECEIVED% %UPSTREAM_HEADER_BYTES_SENT%\n";

/// Only requests whose bytes are those of heads and of bodies without chunks.
fn plain(mut log: accesslog::AccessLog) -> accesslog::AccessLog {
    let regex = RegexMatcher {
        regex: "/(ok|status|cut|empty|missing|nowhere|refused).*".to_owned(),
        ..Default::default()
    };
    let of_path = route::HeaderMatcher {
        name: ":path".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex)),
            ignore_case: false,
        })),
        ..Default::default()
    };
    log.filter = Some(accesslog::AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::HeaderFilter(accesslog::HeaderFilter {
            header: Some(of_path),
        })),
    });
    log
}

/// The logs of a listener.
pub(crate) fn of_requests(directory: &Path, name: &str) -> Vec<accesslog::AccessLog> {
    vec![
        in_file(directory, &format!("{name}-default"), None),
        in_file(directory, &format!("{name}-istio"), text(ISTIO)),
        in_file(directory, &format!("{name}-json"), object()),
        errors(in_file(directory, &format!("{name}-errors"), None)),
        plain(in_file(directory, &format!("{name}-bytes"), text(BYTES))),
        in_file(directory, &format!("{name}-way"), text(WAY)),
    ]
}

fn world(
    directory: &Path,
    at: &BTreeMap<&'static str, SocketAddr>,
    origin: SocketAddr,
    nobody: SocketAddr,
) -> Snapshot {
    let http = |name: &'static str, is_edge: bool| {
        let manager = HttpConnectionManager {
            use_remote_address: Some(BoolValue { value: is_edge }),
            delayed_close_timeout: Some(ProtoDuration {
                seconds: 0,
                nanos: 10_000_000,
            }),
            access_log: match name {
                "expressions" => expressions::logs(directory),
                _ => of_requests(directory, name),
            },
            ..manager("routes")
        };
        http_listener(name, at[name], TrafficDirection::Outbound, manager)
    };
    let tcp = |name: &'static str, cluster: &str| {
        let proxy = TcpProxy {
            stat_prefix: name.to_owned(),
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            access_log: vec![
                in_file(directory, &format!("{name}-istio"), text(ISTIO)),
                in_file(directory, &format!("{name}-way"), text(WAY)),
            ]
            .into_iter()
            .chain(expressions::of_status(directory))
            .collect(),
            ..Default::default()
        };
        let filter = "envoy.filters.network.tcp_proxy";
        listener_of(name, at[name], TrafficDirection::Outbound, filter, proxy)
    };
    let mut closed = tcp("closed", "origin");
    closed.filter_chains[0].filter_chain_match = Some(listener::FilterChainMatch {
        destination_port: Some(UInt32Value { value: 1 }),
        ..Default::default()
    });
    closed.access_log = vec![unrouted(in_file(directory, "unrouted", text(ISTIO)))];
    let listeners = [
        http("http", false),
        http("edge", true),
        http("expressions", false),
        tcp("tcp", "origin"),
        tcp("refused", "refused"),
        closed,
    ];
    let clusters = ["origin", "refused", "empty"];
    let endpoint = |name| match name {
        "origin" => vec![origin],
        "refused" => vec![nobody],
        _ => Vec::new(),
    };
    let named = |name: &str, cluster: &str| route::Route {
        name: name.to_owned(),
        ..a_route(path_prefix(&format!("/{name}")), to_cluster(cluster))
    };
    let routes = [
        "ok",
        "chunked",
        "status",
        "reset",
        "garbage",
        "cut",
        "slow",
        "not-found-by-grpc",
    ]
    .map(|name| named(name, "origin"));
    let others = ["refused", "empty", "missing"].map(|name| named(name, name));
    let routes = routes.into_iter().chain(others).collect();
    Snapshot::default()
        .with(
            CLUSTER,
            ResourceSet::from_iter(clusters.map(|name| eds_cluster(name, |_| ()))),
        )
        .with(
            ENDPOINT,
            ResourceSet::from_iter(clusters.map(|name| endpoints(name, &endpoint(name)))),
        )
        .with(
            LISTENER,
            listeners
                .iter()
                .map(|listener| Resource::new(&listener.name, listener))
                .collect(),
        )
        .with(
            ROUTE,
            ResourceSet::from_iter([route_configuration("routes", routes)]),
        )
}

/// What two proxies cannot have in common, and what is told in other words.
static MASKS: LazyLock<[(Regex, &str); 12]> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>"),
        (
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "<uuid>",
        ),
        // `DURATION` and the endpoint's share stand behind the two counts of bytes.
        (r#"(\d+ \d+) \d+ (\d+|-) ""#, "$1 <ms> <ms> \""),
        (r#"(DURATION":)\d+"#, "$1<ms>"),
        (r#"(:us\)":)\d+"#, "$1<us>"),
        (r"us=\d+", "us=<time>"),
        (r#"(CONNECTION_ID":|id=)[1-9]\d*"#, "$1<id>"),
        // What is no request is answered with another text.
        (r#"(DPE .*?0) (?:11|29) "#, "$1 <text> "),
        (r#"BYTES_SENT":(?:11|29),"#, "BYTES_SENT\":<text>,"),
        // BoringSSL's and the kernel's words are not ours.
        (r"\|delayed_connect_error:_Connection_refused", ""),
        ("\"delayed_connect_error:_Connection_refused\"", "\"-\""),
        (r"127\.0\.0\.1:[1-9]\d*", "<address>"),
    ]
    .map(|(pattern, mask)| (Regex::new(pattern).expect("valid"), mask))
});

fn lines(directory: &Path, ports: &[(u16, &str)]) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        for line in std::fs::read_to_string(&path).expect("UTF-8").lines() {
            all.push(format!("{name}: {}", masked(line, ports)));
        }
    }
    all.sort();
    all
}

/// A line without what two proxies cannot have in common.
pub(crate) fn masked(line: &str, ports: &[(u16, &str)]) -> String {
    let mut line = line.to_owned();
    for (port, name) in ports {
        line = line.replace(&format!("127.0.0.1:{port}"), name);
        line = line.replace(&format!("PORT\":{port}"), &format!("PORT\":<{name}>"));
    }
    for (pattern, mask) in &*MASKS {
        line = pattern.replace_all(&line, *mask).into_owned();
    }
    line
}

struct Side {
    bootstrap: String,
    at: BTreeMap<&'static str, SocketAddr>,
    logs: tempfile::TempDir,
}

async fn drive(at: &BTreeMap<&'static str, SocketAddr>) {
    for listener in ["http", "edge", "expressions"] {
        for request in REQUESTS {
            let body = if request.starts_with("POST") {
                "abc"
            } else {
                ""
            };
            let request = format!("{request}connection: close\r\n\r\n{body}");
            // Some are answered with a reset.
            let _ = exchange(at[listener], &request).await;
        }
        let _ = exchange(at[listener], "this is not HTTP\r\n\r\n").await;
        // One that is left without an answer.
        let mut left = TcpStream::connect(at[listener]).await.expect("connects");
        let request = b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n";
        left.write_all(request).await.expect("sent");
        tokio::time::sleep(SHORTLY).await;
    }
    for listener in ["tcp", "refused", "closed"] {
        // The origin closes after it.
        let _ = get(at[listener], "/cut").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_logs_are_those_of_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let plane = ControlPlane::start().await;
    let (origin, nobody) = (Origin::start("origin").await, dead_address());
    let mut sides = Vec::new();
    for node in ["ours", "envoys"] {
        let logs = tempfile::tempdir().expect("a directory");
        let mut at = BTreeMap::new();
        for name in LISTENERS {
            at.insert(name, free_address().await);
        }
        plane
            .worlds
            .set(node, world(logs.path(), &at, origin.address, nobody));
        let bootstrap = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: node,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        sides.push(Side {
            bootstrap,
            at,
            logs,
        });
    }
    let parsed = bootstrap::parse("ours", &sides[0].bootstrap).expect("valid");
    let agent = Agent::start(parsed, Options::default())
        .await
        .expect("start");
    let envoy = Envoy::start(&binary, &sides[1].bootstrap);
    tokio::time::timeout(PATIENCE, agent.ready())
        .await
        .expect("the agent does not get ready");
    envoy_is_ready(&envoy).await;
    for side in &sides {
        drive(&side.at).await;
    }
    let all = |side: &Side| {
        let own = side
            .at
            .iter()
            .map(|(name, address)| (address.port(), *name));
        let others = [(origin.address.port(), "origin"), (nobody.port(), "nobody")];
        lines(side.logs.path(), &own.chain(others).collect::<Vec<_>>())
    };
    // Four lines of each request, one more of each error and of some by their path, two of each connection that a chain
    // takes, one of the other; one of each request by `true`.
    let mut expected = 2 * (4 * 16 + 9 + 10) + 5 + 16;
    for side in &sides {
        // The others have at least as many as ours.
        expected = eventually("all lines", || {
            let count = all(side).len();
            (count >= expected).then_some(count)
        })
        .await;
    }
    let (ours, envoys) = (all(&sides[0]), all(&sides[1]));

    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let missing = these.iter().filter(|line| !those.contains(line));
        missing.cloned().collect()
    };
    let differences = (only(&ours, &envoys), only(&envoys, &ours));
    assert!(
        differences.0.is_empty() && differences.1.is_empty(),
        "ours only: {:#?}\nEnvoy only: {:#?}",
        differences.0,
        differences.1
    );
    assert_eq!(ours.len(), envoys.len());
    agent.shutdown(Duration::from_secs(1)).await;
}
