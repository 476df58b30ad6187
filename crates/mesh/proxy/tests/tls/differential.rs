//! TLS beside a real Envoy: the same listeners, clusters and secrets over ADS, the same clients, and the
//! same outcome.

#[path = "../differential_envoy/envoy.rs"]
pub(crate) mod envoy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::rbac::v3::permission::Rule;
use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as http_rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network_rbac;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails as Mode, SetCurrentClientCertDetails,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SpiffeCertValidatorConfig,
};
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use rcgen::KeyUsagePurpose;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::authority::{Authority, Pair, Wish};
use crate::client::{Client, exchange_over};
use crate::inspection::{listener_filter, tcp_chain};
use crate::logs::{lines, of_connections, of_requests};
use crate::world::{TRUE, Told, alpn, inline, mesh_context, originating, terminating};
use crate::xds_support::http::{Message, Origin, get};
use crate::xds_support::{ControlPlane, PATIENCE, free_address};

const SERVER: &str = "spiffe://cluster.local/ns/default/sa/reviews";
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/productpage";
const MODES: [(&str, Mode); 5] = [
    ("sanitize", Mode::Sanitize),
    ("forward", Mode::ForwardOnly),
    ("append", Mode::AppendForward),
    ("set", Mode::SanitizeSet),
    ("always", Mode::AlwaysForwardOnly),
];
const OTHERS: [&str; 7] = [
    "plain",
    "permissive",
    "proxied",
    "right",
    "wrong",
    "edge",
    "spiffe",
];
/// Listeners by the name that a client must have: none is any.
const NAMED: [(&str, Option<&str>); 4] = [
    ("named-any", None),
    ("named-uri", Some(CLIENT)),
    ("named-dns", Some("two.example")),
    ("named-nothing", Some("")),
];
/// The same of TCP: by the client's name, and by that of the server that it asks for.
const TCP_RULES: [&str; 2] = ["tcp-uri", "tcp-server"];
/// Sums that must be the same on both sides.
const COUNTS: [&str; 20] = [
    "http.named-uri.rbac.allowed",
    "http.named-uri.rbac.denied",
    "tcp-uri.rbac.allowed",
    "tcp-uri.rbac.denied",
    "tcp-server.rbac.allowed",
    "tcp-server.rbac.denied",
    "listener.append.ssl.handshake",
    "listener.append.ssl.fail_verify_no_cert",
    "listener.append.ssl.fail_verify_error",
    "listener.append.ssl.fail_verify_san",
    "listener.append.ssl.connection_error",
    "listener.spiffe.ssl.handshake",
    "listener.spiffe.ssl.fail_verify_error",
    "listener.permissive.ssl.handshake",
    "listener.permissive.no_filter_chain_match",
    "cluster.right.ssl.handshake",
    "cluster.wrong.ssl.fail_verify_san",
    "cluster.wrong.upstream_cx_connect_fail",
    "tls_inspector.tls_found",
    "tls_inspector.alpn_found",
];

fn filter(manager: HttpConnectionManager) -> Vec<listener::Filter> {
    vec![listener::Filter {
        name: "hcm".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
    }]
}

fn mutual() -> Option<envoy_types::pb::envoy::config::core::v3::TransportSocket> {
    let context = alpn(
        mesh_context(&["spiffe://cluster.local/"]),
        &["h2", "http/1.1"],
    );
    terminating(context, |tls| tls.require_client_certificate = TRUE)
}

/// What one proxy is told.
fn told(
    at: &BTreeMap<&'static str, SocketAddr>,
    (origin, other): (SocketAddr, SocketAddr),
    people: &People,
    logs: &Path,
) -> Told {
    let upstream = |ids: &'static [&'static str]| {
        move |cluster: &mut envoy_types::pb::envoy::config::cluster::v3::Cluster| {
            cluster.transport_socket = originating(mesh_context(ids), |tls| {
                tls.sni = "outbound_.80_._.reviews.default.svc.cluster.local".to_owned();
            });
        }
    };
    let named = |name: &'static str| {
        move |listener: &mut listener::Listener, _: HttpConnectionManager| {
            listener.stat_prefix = name.to_owned();
        }
    };
    let logged = |name: &'static str| {
        move |listener: &mut listener::Listener, mut manager: HttpConnectionManager| {
            listener.stat_prefix = name.to_owned();
            manager.access_log = of_requests(logs, name);
            listener.filter_chains[0].filters = filter(manager);
        }
    };
    let mut told = Told::default()
        .cluster("origin", origin, |_| ())
        .cluster("other", other, |_| ())
        .cluster("right", at["append"], upstream(&[SERVER]))
        .cluster("wrong", at["append"], upstream(&["spiffe://elsewhere/"]))
        .http("plain", at["plain"], "origin", named("plain"))
        .http("right", at["right"], "right", logged("right"))
        .http("wrong", at["wrong"], "wrong", logged("wrong"))
        .http(
            "proxied",
            at["proxied"],
            "origin",
            |listener, mut manager| {
                listener.stat_prefix = "proxied".to_owned();
                listener.listener_filters = vec![listener_filter(ProxyProtocol::default())];
                manager.use_remote_address = TRUE;
                listener.filter_chains[0].filters = filter(manager);
            },
        )
        .http("edge", at["edge"], "origin", |listener, mut manager| {
            listener.stat_prefix = "edge".to_owned();
            manager.use_remote_address = TRUE;
            listener.filter_chains[0].filters = filter(manager);
            listener.filter_chains[0].transport_socket = terminating(mesh_context(&[]), |_| ());
        })
        .http("spiffe", at["spiffe"], "origin", |listener, _| {
            listener.stat_prefix = "spiffe".to_owned();
            let mut context = mesh_context(&[]);
            context.validation_context_type = Some(people.by_domain());
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        })
        .http(
            "permissive",
            at["permissive"],
            "origin",
            |listener, manager| {
                permissive(listener, &manager);
            },
        );
    for (name, mode) in MODES {
        told = told.http(name, at[name], "origin", |listener, mut manager| {
            listener.stat_prefix = name.to_owned();
            // Without it Envoy's logs do not know the name that was asked for.
            listener.listener_filters = vec![listener_filter(TlsInspector::default())];
            listener.filter_chains[0].transport_socket = mutual();
            manager.access_log = of_requests(logs, name);
            listener.access_log = of_connections(logs, &format!("{name}-connections"));
            manager.forward_client_cert_details = mode as i32;
            manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
                subject: TRUE,
                cert: name == "set",
                chain: name == "set",
                dns: true,
                uri: true,
                ..Default::default()
            });
            listener.filter_chains[0].filters = filter(manager);
        });
    }
    for (name, wanted) in NAMED {
        told = told.http(name, at[name], "origin", |listener, mut manager| {
            listener.stat_prefix = name.to_owned();
            listener.filter_chains[0].transport_socket = terminating(mesh_context(&[]), |_| ());
            manager.stat_prefix = name.to_owned();
            let rbac = http_rbac::Rbac {
                rules: Some(rules(anything(), named_like(wanted))),
                ..Default::default()
            };
            let rbac = HttpFilter {
                name: "rbac".to_owned(),
                config_type: Some(http_filter::ConfigType::TypedConfig(pack_any(rbac))),
                ..Default::default()
            };
            manager.http_filters.insert(0, rbac);
            listener.filter_chains[0].filters = filter(manager);
        });
    }
    for name in TCP_RULES {
        told = told.tcp(name, at[name], "origin", |listener| {
            listener.stat_prefix = name.to_owned();
            listener.listener_filters = vec![listener_filter(TlsInspector::default())];
            let chain = &mut listener.filter_chains[0];
            chain.transport_socket = terminating(mesh_context(&[]), |_| ());
            let rules = match name {
                "tcp-uri" => rules(anything(), named_like(Some(CLIENT))),
                _ => rules(
                    Rule::RequestedServerName(exact("a.example")),
                    Identifier::Any(true),
                ),
            };
            let rbac = network_rbac::Rbac {
                rules: Some(rules),
                stat_prefix: name.to_owned(),
                ..Default::default()
            };
            let rbac = listener::Filter {
                name: "rbac".to_owned(),
                config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(rbac))),
            };
            chain.filters.insert(0, rbac);
        });
    }
    told
}

fn anything() -> Rule {
    Rule::Any(true)
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
        ..Default::default()
    }
}

fn named_like(name: Option<&str>) -> Identifier {
    Identifier::Authenticated(Authenticated {
        principal_name: name.map(exact),
    })
}

/// One policy that allows something to somebody.
fn rules(what: Rule, who: Identifier) -> Rbac {
    let policy = Policy {
        permissions: vec![Permission { rule: Some(what) }],
        principals: vec![Principal {
            identifier: Some(who),
        }],
        ..Default::default()
    };
    Rbac {
        policies: [("only".to_owned(), policy)].into(),
        ..Default::default()
    }
}

/// A port that takes the mesh's TLS, an application's own, and plaintext.
fn permissive(listener: &mut listener::Listener, manager: &HttpConnectionManager) {
    let on = |transport: &str, names: &[&str], protocols: &[&str]| listener::FilterChainMatch {
        transport_protocol: transport.to_owned(),
        server_names: names.iter().map(|name| (*name).to_owned()).collect(),
        application_protocols: protocols.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let http = |conditions, socket| listener::FilterChain {
        filter_chain_match: Some(conditions),
        filters: filter(manager.clone()),
        transport_socket: socket,
        ..Default::default()
    };
    listener.stat_prefix = "permissive".to_owned();
    listener.listener_filters = vec![
        listener_filter(TlsInspector::default()),
        listener_filter(HttpInspector::default()),
    ];
    listener.filter_chains = vec![
        http(on("tls", &[], &["istio", "istio-http/1.1"]), mutual()),
        http(on("tls", &["*.mesh.example"], &[]), mutual()),
        tcp_chain(on("raw_buffer", &[], &["http/1.0"]), "other"),
        http(on("raw_buffer", &[], &["http/1.1", "h2c"]), None),
    ];
}

/// One proxy and what is around it.
struct Side {
    at: BTreeMap<&'static str, SocketAddr>,
    origin: Origin,
    other: Origin,
    logs: tempfile::TempDir,
}

impl Side {
    async fn new() -> Self {
        let mut at = BTreeMap::new();
        let named = NAMED.map(|(name, _)| name).into_iter().chain(TCP_RULES);
        let modes = MODES.map(|(name, _)| name).into_iter();
        for name in modes.chain(OTHERS).chain(named) {
            at.insert(name, free_address().await);
        }
        Self {
            at,
            origin: Origin::start("origin").await,
            other: Origin::start("other").await,
            logs: tempfile::tempdir().expect("a directory"),
        }
    }

    /// What a client is answered, and what the origin has seen of it.
    fn line(&self, case: &str, answer: &std::io::Result<Message>) -> String {
        let seen: Vec<String> = self.origin.take().iter().map(describe).collect();
        let answer = match answer {
            Ok(answer) if answer.status() == 503 => {
                let body = answer.body.split("TLS").next().unwrap_or_default();
                format!("503 {body}")
            }
            Ok(answer) if answer.status() > 0 => format!("{} {}", answer.status(), answer.body),
            // How a connection is refused is seen by chance: the alert may be overtaken by a reset.
            _ => "refused".to_owned(),
        };
        format!(
            "{case}: {answer}; the origin saw {seen:?}; {} elsewhere",
            self.other.take().len()
        )
    }

    async fn run(&self, people: &People) -> Vec<String> {
        let mut lines = Vec::new();
        let request =
            |more: &str| format!("GET / HTTP/1.1\r\nhost: a\r\n{more}connection: close\r\n\r\n");
        let lying = request("x-forwarded-client-cert: By=x;URI=y\r\n");
        for (name, _) in MODES {
            let client = people.client("good", "a.example", &["http/1.1"]);
            let answer = client.exchange(self.at[name], &lying).await;
            lines.push(self.line(&format!("{name} with a lie"), &answer));
        }
        for name in ["plain", "edge"] {
            let client = people.client("good", "a.example", &[]);
            let answer = match name {
                "plain" => {
                    let stream = TcpStream::connect(self.at[name])
                        .await
                        .expect("a connection");
                    exchange_over(stream, &lying).await
                }
                _ => client.exchange(self.at[name], &lying).await,
            };
            lines.push(self.line(name, &answer));
        }
        for who in people.pairs.keys() {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let client = people.of_version(who, version);
                let answer = client.exchange(self.at["append"], &request("")).await;
                lines.push(self.line(&format!("{who} over {:?}", version.version), &answer));
            }
        }
        for who in people.pairs.keys() {
            let client = people.client(who, "a.example", &["http/1.1"]);
            let answer = client.exchange(self.at["spiffe"], &request("")).await;
            lines.push(self.line(&format!("spiffe: {who}"), &answer));
        }
        let named = NAMED.map(|(name, _)| name).into_iter().chain(TCP_RULES);
        for name in named {
            for (who, server) in [
                ("good", "a.example"),
                ("good", "b.example"),
                ("nobody", "a.example"),
                ("stranger", "a.example"),
            ] {
                let client = people.client(who, server, &["http/1.1"]);
                let answer = client.exchange(self.at[name], &request("")).await;
                lines.push(self.line(&format!("{name}: {who} to {server}"), &answer));
            }
        }
        for (name, offered) in [
            ("a.example", &["istio"][..]),
            ("a.example", &["h2", "istio-http/1.1"]),
            ("a.mesh.example", &["http/1.1"]),
            ("a.b.mesh.example", &[]),
            ("mesh.example", &[]),
            ("a.example", &["http/1.1"]),
        ] {
            let client = people.client("good", name, offered);
            let answer = client.exchange(self.at["permissive"], &request("")).await;
            lines.push(self.line(&format!("permissive {name} {offered:?}"), &answer));
        }
        for text in [
            request(""),
            request("").replace("1.1", "1.0"),
            "hello\r\n\r\n".to_owned(),
        ] {
            let stream = TcpStream::connect(self.at["permissive"])
                .await
                .expect("a connection");
            let answer = exchange_over(stream, &text).await;
            lines.push(self.line(&format!("permissive {:?}", &text[..5]), &answer));
        }
        for name in ["right", "wrong"] {
            let answer = get(self.at[name], "/").await;
            lines.push(self.line(name, &answer));
        }
        for header in [
            "PROXY TCP4 203.0.113.7 203.0.113.8 1000 80\r\n",
            "PROXY TCP6 2001:db8::7 2001:db8::8 1000 80\r\n",
            "PROXY UNKNOWN\r\n",
            "PROXY TCP4 203.0.113.7\r\n",
            "",
        ] {
            let mut stream = TcpStream::connect(self.at["proxied"])
                .await
                .expect("a connection");
            let _ = stream.write_all(header.as_bytes()).await;
            let answer = exchange_over(stream, &request("")).await;
            lines.push(self.line(&format!("proxied {header:?}"), &answer));
        }
        lines
    }
}

fn describe(request: &Message) -> String {
    let value = |name| request.header(name).unwrap_or("-").to_owned();
    [
        "x-forwarded-client-cert",
        "x-forwarded-proto",
        "x-forwarded-for",
    ]
    .map(value)
    .join(" ")
}

/// Who connects.
struct People {
    pairs: BTreeMap<&'static str, Option<Pair>>,
    /// The roots of trust domains.
    domains: [(&'static str, String); 2],
}

impl People {
    fn new(authority: &Authority) -> Self {
        let wish = Wish {
            dns: &["one.example", "two.example"],
            uri: Some(CLIENT),
            ..Wish::default()
        };
        let expired = Wish {
            uri: Some(CLIENT),
            expires: Err(Duration::from_secs(3600)),
            ..Wish::default()
        };
        let foreign = Authority::new("root");
        let partner = Authority::new("partner");
        let svid = |of: &Authority, uri: &str, usages: &[KeyUsagePurpose]| {
            let wish = Wish {
                uri: Some(uri),
                usages,
                ..Wish::default()
            };
            Some(of.issue(&wish))
        };
        let sign = &[KeyUsagePurpose::DigitalSignature][..];
        let sign_others = &[
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        Self {
            domains: [
                ("cluster.local", authority.pem.clone()),
                ("partner.example", partner.pem.clone()),
            ],
            pairs: [
                ("good", Some(authority.issue(&wish))),
                ("nobody", None),
                ("foreign", Some(foreign.workload(CLIENT))),
                ("expired", Some(authority.issue(&expired))),
                (
                    "stranger",
                    Some(authority.workload("spiffe://elsewhere/ns/a/sa/b")),
                ),
                ("svid", svid(authority, CLIENT, sign)),
                (
                    "partner",
                    svid(&partner, "spiffe://partner.example/a", sign),
                ),
                ("crossed", svid(&partner, CLIENT, sign)),
                (
                    "crossed back",
                    svid(authority, "spiffe://partner.example/a", sign),
                ),
                (
                    "of no domain",
                    svid(authority, "spiffe://elsewhere/a", sign),
                ),
                ("no path", svid(authority, "spiffe://cluster.local", sign)),
                (
                    "another URI",
                    svid(authority, "https://cluster.local/a", sign),
                ),
                ("may sign", svid(authority, CLIENT, sign_others)),
            ]
            .into(),
        }
    }

    /// An id counts by the roots of its own trust domain.
    fn by_domain(&self) -> ValidationContextType {
        let domain = |(name, pem): &(&str, String)| TrustDomain {
            name: (*name).to_owned(),
            trust_bundle: inline(pem),
            ..Default::default()
        };
        let config = SpiffeCertValidatorConfig {
            trust_domains: self.domains.iter().map(domain).collect(),
            ..Default::default()
        };
        ValidationContextType::ValidationContext(CertificateValidationContext {
            custom_validator_config: Some(TypedExtensionConfig {
                name: "envoy.tls.cert_validator.spiffe".to_owned(),
                typed_config: Some(pack_any(config)),
            }),
            ..Default::default()
        })
    }

    fn client(&self, who: &str, name: &str, offered: &[&str]) -> Client {
        Client::credulous(name, self.pairs[who].as_ref(), offered)
    }

    fn of_version(&self, who: &str, version: &'static rustls::SupportedProtocolVersion) -> Client {
        Client::credulous_with("a.example", self.pairs[who].as_ref(), &[version])
    }
}

/// The counts, once those that a proxy has to count are there.
async fn counts(admin: SocketAddr) -> Vec<String> {
    let stats = get(admin, "/stats").await.expect("stats").body;
    let count = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or("none")
            .to_owned()
    };
    COUNTS
        .map(|name| format!("{name}: {}", count(name)))
        .to_vec()
}

/// Waits until an Envoy does what it is told.
pub(crate) async fn is_ready(envoy: &envoy::Envoy) {
    let deadline = Instant::now() + PATIENCE;
    let is_ready =
        |admin| async move { get(admin, "/ready").await.is_ok_and(|a| a.status() == 200) };
    while !match envoy.admin() {
        Some(admin) => is_ready(admin).await,
        None => false,
    } {
        assert!(Instant::now() < deadline, "Envoy says:\n{}", envoy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_clients_are_served_in_the_same_way_as_by_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let authority = Authority::new("root");
    let people = People::new(&authority);
    let own = authority.workload(SERVER);
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
        let origins = (side.origin.address, side.other.address);
        let told = told(&side.at, origins, &people, side.logs.path());
        plane
            .worlds
            .set(node, told.identity(&authority, &own).snapshot());
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
    let deadline = Instant::now() + PATIENCE;
    assert_eq!(plane.ads.counters().nacks, 0, "{:?}", plane.ads.proxies());

    let (our_lines, envoy_lines) = tokio::join!(ours.run(&people), envoys.run(&people));
    assert_eq!(our_lines, envoy_lines, "ours, and Envoy's");
    let admins = (
        agent.admin_address().expect("ours"),
        envoy.admin().expect("Envoy's"),
    );
    loop {
        let (our_counts, envoy_counts) = (counts(admins.0).await, counts(admins.1).await);
        if our_counts == envoy_counts {
            let missing = our_counts.iter().find(|line| line.ends_with(": none"));
            assert_eq!(missing, None, "a count that nobody has");
            break;
        }
        let is_late = Instant::now() > deadline;
        assert!(
            !is_late,
            "ours {our_counts:#?}, and Envoy's {envoy_counts:#?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    loop {
        let (our_lines, envoy_lines) = (lines(ours.logs.path()), lines(envoys.logs.path()));
        if our_lines == envoy_lines {
            break;
        }
        let only = |these: &BTreeMap<_, _>, those: &BTreeMap<_, _>| -> Vec<_> {
            let differs = |line: &(&String, &usize)| those.get(line.0) != Some(line.1);
            let others = these.iter().filter(differs);
            others
                .map(|(line, count)| format!("{count} {line}"))
                .collect()
        };
        let is_late = Instant::now() > deadline;
        assert!(
            !is_late,
            "ours {:#?}, and Envoy's {:#?}",
            only(&our_lines, &envoy_lines),
            only(&envoy_lines, &our_lines)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
