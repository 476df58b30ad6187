//! Connections that a service is asked about: the same outcome as with a real Envoy, and the same questions, counts and logs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService, HeaderValue};
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::rbac::v3::permission::Rule;
use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac};
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network_rbac;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern as ValuePattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{MetadataMatcher, StringMatcher, ValueMatcher};
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use envoy_types::pb::google::protobuf::{self, Struct, Value};
use envoy_types::pb::google::rpc::Status;
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response};

use crate::authority::Authority;
use crate::client::Client;
use crate::differential::{envoy, is_ready};
use crate::http2_options::http2_options;
use crate::inspection::listener_filter;
use crate::logs::of_text;
use crate::world::{TRUE, Told, World, mesh_context, tcp_proxy, terminating};
use crate::xds_support::http::get;
use crate::xds_support::{ControlPlane, PATIENCE, eventually, free_address};

const SERVER: &str = "spiffe://cluster.local/ns/default/sa/mongo";
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/reviews";
/// Listeners, what the service says that they ask, and whether their clients get through.
const CASES: [(&str, &str, bool); 11] = [
    ("allow", "allow", true),
    ("told", "told", true),
    ("tls", "allow", true),
    ("tls-told-all", "allow", true),
    ("tls-deny", "deny", false),
    ("deny", "deny", false),
    ("fail", "fail", false),
    ("open", "fail", true),
    ("slow", "slow", false),
    ("matched", "deny", false),
    ("unmatched", "deny", true),
];
/// What logs tell of it.
const FORMAT: &str = "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS% \
    %CONNECTION_TERMINATION_DETAILS% %DOWNSTREAM_PEER_URI_SAN% \
    %DYNAMIC_METADATA(envoy.filters.network.rbac:istio_ext_authz_shadow_engine_result)% \
    %DYNAMIC_METADATA(envoy.filters.network.rbac:istio_ext_authz_shadow_effective_policy_id)% \
    %DYNAMIC_METADATA(envoy.filters.network.ext_authz:level)%";

type Asked = Arc<Mutex<Vec<CheckRequest>>>;

/// Does what `x-ask` says.
struct Authorizer(Asked);

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, tonic::Status> {
        let ask = request.metadata().get("x-ask").expect("what is asked");
        let ask = ask.to_str().expect("text").to_owned();
        let note = |asked| {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(asked);
        };
        note(request.into_inner());
        let code = match ask.as_str() {
            "allow" | "told" => 0,
            "fail" => return Err(tonic::Status::internal("broken")),
            "slow" => std::future::pending().await,
            _ => 7,
        };
        let level = Value {
            kind: Some(ValueKind::StringValue("high".to_owned())),
        };
        Ok(Response::new(CheckResponse {
            status: Some(Status {
                code,
                ..Status::default()
            }),
            dynamic_metadata: (ask == "told").then(|| Struct {
                fields: [("level".to_owned(), level)].into(),
            }),
            ..CheckResponse::default()
        }))
    }
}

/// A service that is asked, and what it was asked.
async fn authorizer() -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let service = AuthorizationServer::new(Authorizer(asked.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    (address, asked)
}

/// An endpoint that says what it hears.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

fn filter(name: &str, config: impl prost::Name) -> listener::Filter {
    listener::Filter {
        name: name.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(config))),
    }
}

fn asking(name: &str, ask: &str, timeout_ms: i32) -> ExtAuthz {
    ExtAuthz {
        stat_prefix: name.to_owned(),
        grpc_service: Some(GrpcService {
            timeout: Some(protobuf::Duration {
                seconds: (timeout_ms / 1000).into(),
                nanos: timeout_ms % 1000 * 1_000_000,
            }),
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: "authorizer".to_owned(),
                ..EnvoyGrpc::default()
            })),
            initial_metadata: vec![HeaderValue {
                key: "x-ask".to_owned(),
                value: ask.to_owned(),
                ..HeaderValue::default()
            }],
            ..GrpcService::default()
        }),
        transport_api_version: ApiVersion::V3.into(),
        ..ExtAuthz::default()
    }
}

/// Istio's filters of a provider, before which rules match what it is asked about.
fn custom(name: &str, matching: bool, asking: ExtAuthz) -> Vec<listener::Filter> {
    const PREFIX: &str = "istio-ext-authz-opa-";
    let permission = match matching {
        true => Rule::Any(true),
        false => Rule::DestinationPort(1),
    };
    let policy = Policy {
        permissions: vec![Permission {
            rule: Some(permission),
        }],
        principals: vec![Principal {
            identifier: Some(Identifier::Any(true)),
        }],
        ..Policy::default()
    };
    let rbac = network_rbac::Rbac {
        shadow_rules: Some(Rbac {
            action: Action::Deny.into(),
            policies: [(format!("{PREFIX}ns[default]-policy[ask]-rule[0]"), policy)].into(),
            ..Rbac::default()
        }),
        shadow_rules_stat_prefix: "istio_ext_authz_".to_owned(),
        stat_prefix: format!("{name}."),
        ..network_rbac::Rbac::default()
    };
    let when_matched = MetadataMatcher {
        filter: "envoy.filters.network.rbac".to_owned(),
        path: vec![PathSegment {
            segment: Some(path_segment::Segment::Key(
                "istio_ext_authz_shadow_effective_policy_id".to_owned(),
            )),
        }],
        value: Some(ValueMatcher {
            match_pattern: Some(ValuePattern::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Prefix(PREFIX.to_owned())),
                ..StringMatcher::default()
            })),
        }),
        invert: false,
    };
    let asking = ExtAuthz {
        filter_enabled_metadata: Some(when_matched),
        // As Istio's, which ends in a dot of its own.
        stat_prefix: format!("{name}."),
        ..asking
    };
    vec![
        filter("envoy.filters.network.rbac", rbac),
        filter("envoy.filters.network.ext_authz", asking),
    ]
}

/// What stands before the TCP proxy of a listener.
fn filters(name: &str, ask: &str) -> Vec<listener::Filter> {
    let timeout_ms = if name == "slow" { 100 } else { 10_000 };
    let asking = ExtAuthz {
        failure_mode_allow: name == "open",
        include_peer_certificate: name == "tls-told-all",
        include_tls_session: name == "tls-told-all",
        metadata_context_namespaces: match name {
            "tls-told-all" => vec!["envoy.filters.network.rbac".to_owned()],
            _ => Vec::new(),
        },
        ..asking(name, ask, timeout_ms)
    };
    match name {
        "matched" | "tls-told-all" => custom(name, true, asking),
        "unmatched" => custom(name, false, asking),
        _ => vec![filter("envoy.filters.network.ext_authz", asking)],
    }
}

/// One proxy and what is around it.
struct Side {
    at: BTreeMap<&'static str, SocketAddr>,
    asked: Asked,
    authorizer: SocketAddr,
    echo: SocketAddr,
    logs: tempfile::TempDir,
}

impl Side {
    async fn new() -> Self {
        let mut at = BTreeMap::new();
        for (name, ..) in CASES {
            at.insert(name, free_address().await);
        }
        let (authorizer, asked) = authorizer().await;
        Self {
            at,
            asked,
            authorizer,
            echo: echo().await,
            logs: tempfile::tempdir().expect("a directory"),
        }
    }

    fn told(&self) -> Told {
        let mut told = Told::default().cluster("echo", self.echo, |_| ()).cluster(
            "authorizer",
            self.authorizer,
            |cluster| cluster.typed_extension_protocol_options = http2_options(),
        );
        for (name, ask, _) in CASES {
            told = told.tcp(name, self.at[name], "echo", |listener| {
                let proxy = TcpProxy {
                    access_log: vec![of_text(
                        self.logs.path(),
                        "log",
                        &format!("{name} {FORMAT}\n"),
                    )],
                    ..tcp_proxy("echo")
                };
                let chain = &mut listener.filter_chains[0];
                chain.filters = filters(name, ask);
                chain
                    .filters
                    .push(filter("envoy.filters.network.tcp_proxy", proxy));
                if name.starts_with("tls") {
                    let context = mesh_context(&["spiffe://cluster.local/"]);
                    chain.transport_socket =
                        terminating(context, |tls| tls.require_client_certificate = TRUE);
                    listener.listener_filters = vec![listener_filter(TlsInspector::default())];
                }
            });
        }
        told
    }

    /// Whether a client gets through.
    async fn passes(&self, name: &str, client: &Client) -> bool {
        let tcp = TcpStream::connect(self.at[name]).await.expect("it accepts");
        if name.starts_with("tls") {
            talk(client.connect_over(tcp).await.expect("a handshake")).await
        } else {
            talk(tcp).await
        }
    }

    /// What was asked, but for the numbers of ports.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        for question in asked.drain(..) {
            let mut attributes = question.attributes.expect("attributes");
            let to = port(attributes.destination.as_mut());
            assert_ne!(port(attributes.source.as_mut()), 0);
            let name = self.at.iter().find(|(_, at)| u32::from(at.port()) == to);
            let name = name.expect("one of the listeners").0;
            let known = attributes.metadata_context.as_mut();
            let known: BTreeMap<_, _> = known
                .into_iter()
                .flat_map(|known| std::mem::take(&mut known.filter_metadata))
                .map(|(filter, left)| (filter, left.fields.into_iter().collect::<BTreeMap<_, _>>()))
                .collect();
            lines.push(format!("{name}: {attributes:?} {known:?}"));
        }
        lines
    }

    /// The lines of the log, sorted, once there is one of each connection.
    async fn log(&self) -> Vec<String> {
        let path = self.logs.path().join("log");
        let lines = || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            (lines.len() == CASES.len()).then_some(lines)
        };
        eventually("the log of each connection", lines).await
    }
}

async fn talk(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> bool {
    let mut heard = [0; 5];
    let written = stream.write_all(b"hello").await;
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut heard)).await;
    let is_heard = written.is_ok() && read.expect("an end").is_ok();
    assert!(!is_heard || heard == *b"hello");
    is_heard
}

/// Takes the number of the port out of an address.
fn port(peer: Option<&mut Peer>) -> u32 {
    use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
    let address = peer.and_then(|peer| peer.address.as_mut());
    let Some(Kind::SocketAddress(address)) = address.and_then(|one| one.address.as_mut()) else {
        panic!("no address");
    };
    match address.port_specifier.replace(PortSpecifier::PortValue(0)) {
        Some(PortSpecifier::PortValue(port)) => port,
        other => panic!("{other:?}"),
    }
}

/// The counts of those filters that are not zero.
async fn counts(admin: SocketAddr) -> BTreeMap<String, String> {
    let page = get(admin, "/stats").await.expect("stats").body;
    let lines = page.lines().filter_map(|line| line.split_once(": "));
    let lines = lines.filter(|(name, value)| {
        *value != "0" && (name.starts_with("ext_authz.") || name.contains("rbac."))
    });
    lines
        .map(|(name, value)| {
            // Envoy counts each piece of the client's bytes that it does not ask about.
            let value = if name.ends_with(".disabled") {
                "some"
            } else {
                value
            };
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_asked_about_as_by_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let authority = Authority::new("root");
    let own = authority.workload(SERVER);
    let client = Client::credulous("mongo.example", Some(&authority.workload(CLIENT)), &[]);
    let plane = ControlPlane::start().await;
    let (ours, envoys) = (Side::new().await, Side::new().await);
    let bootstrap = |node| {
        bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: node,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    };
    for (node, side) in [("ours", &ours), ("envoys", &envoys)] {
        let told = side.told().identity(&authority, &own);
        plane.worlds.set(node, told.snapshot());
    }
    let envoy = envoy::Envoy::start(&binary, &bootstrap("envoys"));
    let parsed = bootstrap::parse("ours", &bootstrap("ours")).expect("valid");
    let agent = Agent::start(parsed, Options::default())
        .await
        .expect("start");
    tokio::time::timeout(PATIENCE, agent.ready())
        .await
        .expect("ready");
    is_ready(&envoy).await;
    assert_eq!(plane.ads.counters().nacks, 0, "{:?}", plane.ads.proxies());

    for (name, ask, expected) in CASES {
        for side in [&ours, &envoys] {
            assert_eq!(side.passes(name, &client).await, expected, "{name} {ask}");
        }
    }
    let (our_log, envoys_log) = (ours.log().await, envoys.log().await);
    assert_eq!(our_log, envoys_log, "ours, and Envoy's");
    let (our_questions, envoys_questions) = (ours.asked(), envoys.asked());
    for (ours, envoys) in our_questions.iter().zip(&envoys_questions) {
        assert_eq!(ours, envoys, "ours, and Envoy's");
    }
    assert_eq!(our_questions.len(), envoys_questions.len());
    let admins = [agent.admin_address(), envoy.admin()].map(|admin| admin.expect("a port"));
    let (our_counts, envoys_counts) = (counts(admins[0]).await, counts(admins[1]).await);
    assert_eq!(our_counts, envoys_counts, "ours, and Envoy's");

    let of = |name: &str| our_log.iter().find(|line| line.starts_with(name));
    let denied = "deny UAEX UnauthorizedExternalService ext_authz_denied - - - - -";
    assert_eq!(of("deny ").map(String::as_str), Some(denied));
    // Nobody was asked about what no rule matches.
    assert_eq!(our_questions.len(), CASES.len() - 1);
    assert!(our_counts.len() > 20, "{our_counts:#?}");
    agent.shutdown(Duration::from_secs(1)).await;
}

/// One listener whose service does not answer, and who waits for it: a log, the service, and a proxy.
async fn waiting(edit: impl FnOnce(&mut TcpProxy)) -> (World, SocketAddr, tempfile::TempDir) {
    let at = free_address().await;
    let (authorizer, _) = authorizer().await;
    let logs = tempfile::tempdir().expect("a directory");
    let mut proxy = tcp_proxy("echo");
    proxy.access_log = vec![of_text(logs.path(), "log", "%RESPONSE_FLAGS%\n")];
    edit(&mut proxy);
    let told = Told::default()
        .cluster("echo", echo().await, |_| ())
        .cluster("authorizer", authorizer, |cluster| {
            cluster.typed_extension_protocol_options = http2_options();
        })
        .tcp("slow", at, "echo", |listener| {
            let asking = asking("slow", "slow", 600_000);
            listener.filter_chains[0].filters = vec![
                filter("envoy.filters.network.ext_authz", asking),
                filter("envoy.filters.network.tcp_proxy", proxy),
            ];
        });
    (World::start(&told).await, at, logs)
}

async fn logged(logs: &tempfile::TempDir) -> String {
    let path = logs.path().join("log");
    let text = || {
        std::fs::read_to_string(&path)
            .ok()
            .filter(|text| !text.is_empty())
    };
    eventually("the log", text).await
}

/// Nobody asks on for a client that has gone, and none is connected meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_is_not_asked_about_any_more() {
    let (world, at, logs) = waiting(|_| ()).await;
    let stream = TcpStream::connect(at).await.expect("it accepts");
    world.wait_stat("ext_authz.slow.active", 1).await;
    assert_eq!(world.stat("cluster.echo.upstream_cx_total").await, 0);
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(stream);
    world.wait_stat("ext_authz.slow.active", 0).await;
    assert_eq!(logged(&logs).await, "DC\n");
    assert_eq!(world.stat("ext_authz.slow.error").await, 0);
    world.agent.shutdown(Duration::from_secs(1)).await;
}

/// A connection's longest duration holds for the question too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_lasts_no_longer_than_its_connection() {
    let (world, at, logs) = waiting(|proxy| {
        proxy.max_downstream_connection_duration = Some(protobuf::Duration {
            seconds: 0,
            nanos: 200_000_000,
        });
    })
    .await;
    let mut stream = TcpStream::connect(at).await.expect("it accepts");
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await;
    assert_eq!(read.expect("an end").unwrap_or(0), 0);
    assert_eq!(logged(&logs).await, "DT\n");
    world.wait_stat("ext_authz.slow.active", 0).await;
    world.agent.shutdown(Duration::from_secs(1)).await;
}
