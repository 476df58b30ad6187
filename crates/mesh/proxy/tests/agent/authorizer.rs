//! What services that are asked about requests, and clients, cannot do: say where bodies end, and have somebody decide
//! about a part of one.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::Buffer;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListStringMatcher, RegexMatcher, StringMatcher,
};
use envoy_types::pb::google::protobuf;
use envoy_types::util::pack_any;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What is asked for, and what the service says about it.
const CASES: [(&str, &str); 5] = [
    ("/", "content-length: 0\r\n"),
    ("/set", "content-length: 0\r\n"),
    ("/coded", "transfer-encoding: chunked\r\n\r\n0\r\n"),
    (
        "/removed",
        "content-length: 0\r\nx-envoy-auth-headers-to-remove: Content-Length, transfer-encoding\r\n",
    ),
    (
        "/upgraded",
        "content-length: 0\r\nupgrade: websocket\r\nx-told: yes\r\n",
    ),
];

/// A service that lets everything pass, and says what the path asks for.
async fn authorizer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut input = Vec::new();
                while stream.read_buf(&mut input).await.is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&input).into_owned();
                    if !text.contains("\r\n\r\n") {
                        continue;
                    }
                    input.clear();
                    let path = text.split(' ').nth(1).expect("a path");
                    let (_, says) = CASES
                        .iter()
                        .find(|(case, _)| *case == path)
                        .expect("a case");
                    let answer = format!("HTTP/1.1 200 OK\r\n{says}\r\n");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn asking_over_http(with_request_body: Option<BufferSettings>) -> HttpFilter {
    let anything = MatchPattern::SafeRegex(RegexMatcher {
        regex: ".*".to_owned(),
        ..Default::default()
    });
    let service = HttpService {
        server_uri: Some(core::HttpUri {
            uri: "http://authorizer".to_owned(),
            timeout: Some(protobuf::Duration {
                seconds: 10,
                nanos: 0,
            }),
            http_upstream_type: Some(HttpUpstreamType::Cluster("authorizer".to_owned())),
        }),
        authorization_response: Some(AuthorizationResponse {
            allowed_upstream_headers: Some(ListStringMatcher {
                patterns: vec![StringMatcher {
                    match_pattern: Some(anything),
                    ..Default::default()
                }],
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let config = ExtAuthz {
        services: Some(Services::HttpService(service)),
        transport_api_version: core::ApiVersion::V3.into(),
        with_request_body,
        ..Default::default()
    };
    HttpFilter {
        name: "envoy.filters.http.ext_authz".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(config))),
        ..Default::default()
    }
}

/// A proxy with such a filter, where it listens, and the endpoint behind it.
async fn behind(filter: HttpFilter) -> (Agent, SocketAddr, Origin, SocketAddr) {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("one").await;
    let at = free_address().await;
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    let to = a_route(path_prefix("/"), to_cluster("c"));
    let mut asks = manager("r");
    asks.http_filters.insert(0, filter);
    let accepts = listener("l", at, TrafficDirection::Outbound, asks);
    let clusters = ["c", "authorizer"].map(|name| eds_cluster(name, |_| ()));
    let assignments = [
        endpoints("c", &[origin.address]),
        endpoints("authorizer", &[authorizer().await]),
    ];
    let world = Snapshot::default()
        .with(CLUSTER, ResourceSet::from_iter(clusters))
        .with(ENDPOINT, ResourceSet::from_iter(assignments))
        .with(LISTENER, only(Resource::new("l", &accepts)))
        .with(ROUTE, only(route_configuration("r", vec![to])));
    plane.worlds.set(NODE, world);
    let (agent, admin) = start(plane.address).await;
    agent.ready().await;
    (agent, admin, origin, at)
}

#[tokio::test]
async fn a_body_that_looks_like_a_request_stays_a_body_whatever_the_service_says() {
    let (agent, admin, origin, at) = Box::pin(behind(asking_over_http(None))).await;

    let hidden = "GET /hidden HTTP/1.1\r\nhost: test\r\n\r\n";
    let length = hidden.len();
    for (path, _) in CASES {
        let framings = [
            format!("content-length: {length}\r\n\r\n{hidden}"),
            format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        ];
        for framed in framings {
            let request =
                format!("POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{framed}");
            let answer = exchange(at, &request).await.expect("an answer");
            assert_eq!(answer.body, format!("one got {length} bytes"), "{request}");
            let received = origin.take();
            let [only] = &received[..] else {
                panic!("{request} has become {received:?}");
            };
            assert_eq!(only.body, hidden, "{path}");
            assert_eq!(only.header("upgrade"), None, "{path}");
            let told = (path == "/upgraded").then_some("yes");
            assert_eq!(only.header("x-told"), told, "{path}");
        }
    }
    let stats = page(admin, "/stats?filter=ext_authz.ignored_framing_headers").await;
    // One of the answer to each, and two more names: to be removed, and to become.
    let expected = 2 * (1 + 1 + 1 + 3 + 2);
    assert!(
        stats.body.contains(&format!("headers: {expected}\n")),
        "{}",
        stats.body
    );
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn nobody_decides_about_a_part_of_a_body_that_is_to_be_whole() {
    const MOST: u32 = 8192;
    let whole = BufferSettings {
        max_request_bytes: MOST,
        ..Default::default()
    };
    let buffer = Buffer {
        max_request_bytes: Some(protobuf::UInt32Value { value: MOST }),
    };
    let buffer = HttpFilter {
        name: "envoy.filters.http.buffer".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(buffer))),
        ..Default::default()
    };
    for filter in [asking_over_http(Some(whole)), buffer] {
        let name = filter.name.clone();
        let (agent, _, origin, at) = Box::pin(behind(filter)).await;
        // Each byte takes twenty on the wire, which is more than is kept for one.
        for (count, status) in [(100, 200), (6000, 413)] {
            let chunks = "000000000000001\r\nx\r\n".repeat(count);
            let head = "POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n";
            let request = format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
            let answer = exchange(at, &request).await.expect("an answer");
            assert_eq!(answer.status(), status, "{name} {count}");
            assert_eq!(origin.take().len(), usize::from(status == 200), "{name}");
        }
        agent.shutdown(Duration::from_secs(1)).await;
    }
}
