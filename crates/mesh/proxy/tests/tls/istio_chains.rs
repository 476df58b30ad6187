//! The inbound filter chains that Istio makes for a port: PERMISSIVE, STRICT and DISABLE.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use envoy_types::util::pack_any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, Pair};
use crate::client::{Client, exchange_over};
use crate::inspection::{listener_filter, tcp_chain};
use crate::world::{TRUE, Told, World, alpn, inline_context, mesh_context, terminating};
use crate::xds_support::free_address;
use crate::xds_support::http::Origin;
use crate::xds_support::resources::manager;

const ID: &str = "spiffe://cluster.local/ns/default/sa/reviews";
const HTTP_ALPN: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const TCP_ALPN: [&str; 2] = ["istio-peer-exchange", "istio"];
const ALL_ALPN: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// What a port is said to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Http,
    Tcp,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Permissive,
    Strict,
    Disable,
}

/// What a chain does with its connections.
#[derive(Clone, Copy)]
enum Service {
    Http,
    Tcp,
}

fn conditions(port: u16, transport: &str, protocols: &[&str]) -> listener::FilterChainMatch {
    listener::FilterChainMatch {
        destination_port: Some(UInt32Value { value: port.into() }),
        transport_protocol: transport.to_owned(),
        application_protocols: protocols.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn chain(
    conditions: listener::FilterChainMatch,
    service: Service,
    socket: Option<TransportSocket>,
) -> listener::FilterChain {
    let mut chain = tcp_chain(conditions, "app");
    if let Service::Http = service {
        let manager = manager("routes of virtualInbound");
        chain.filters[0].config_type =
            Some(listener::filter::ConfigType::TypedConfig(pack_any(manager)));
    }
    chain.transport_socket = socket;
    chain
}

/// The table of Istio.
fn chains(mode: Mode, kind: Port, port: u16) -> Vec<listener::FilterChain> {
    use Service::{Http, Tcp};
    let mutual = |names: &[&str]| {
        let context = alpn(mesh_context(&["spiffe://cluster.local/"]), names);
        terminating(context, |tls| tls.require_client_certificate = TRUE)
    };
    // What the mesh offers to HTTP and to TCP servers.
    let (of_http, of_tcp) = (&["h2", "http/1.1"][..], &TCP_ALPN[..]);
    let on = |transport: &str, names: &[&str]| conditions(port, transport, names);
    match (mode, kind) {
        (Mode::Permissive, Port::Http) => vec![
            chain(on("tls", &ALL_ALPN), Http, mutual(of_http)),
            chain(on("raw_buffer", &[]), Http, None),
        ],
        (Mode::Permissive, Port::Tcp) => vec![
            chain(on("tls", &ALL_ALPN), Tcp, mutual(of_tcp)),
            chain(on("tls", &[]), Tcp, None),
            chain(on("raw_buffer", &[]), Tcp, None),
        ],
        (Mode::Permissive, Port::Unknown) => vec![
            chain(on("tls", &HTTP_ALPN), Http, mutual(of_http)),
            chain(on("raw_buffer", &["http/1.1", "h2c"]), Http, None),
            chain(on("tls", &TCP_ALPN), Tcp, mutual(of_tcp)),
            chain(on("raw_buffer", &[]), Tcp, None),
            chain(on("tls", &[]), Tcp, None),
        ],
        (Mode::Strict, Port::Http) => vec![chain(on("tls", &[]), Http, mutual(of_http))],
        (Mode::Strict, Port::Tcp) => vec![chain(on("tls", &[]), Tcp, mutual(of_tcp))],
        (Mode::Strict, Port::Unknown) => vec![
            chain(on("tls", &HTTP_ALPN), Http, mutual(of_http)),
            chain(on("tls", &[]), Tcp, mutual(of_tcp)),
        ],
        (Mode::Disable, Port::Http) => vec![chain(on("raw_buffer", &[]), Http, None)],
        (Mode::Disable, Port::Tcp) => vec![chain(on("raw_buffer", &[]), Tcp, None)],
        (Mode::Disable, Port::Unknown) => vec![
            chain(on("raw_buffer", &["http/1.1", "h2c"]), Http, None),
            chain(on("raw_buffer", &[]), Tcp, None),
        ],
    }
}

/// A workload's sidecar in one mode.
async fn sidecar(
    mode: Mode,
    kind: Port,
    app: SocketAddr,
    authority: &Authority,
    own: &Pair,
) -> (World, SocketAddr) {
    let at = free_address().await;
    let told = Told::default().cluster("app", app, |_| ()).http(
        "virtualInbound",
        at,
        "app",
        |listener, _| {
            listener.filter_chains = chains(mode, kind, at.port());
            listener.listener_filters = vec![
                listener_filter(OriginalDst::default()),
                listener_filter(TlsInspector::default()),
                listener_filter(HttpInspector::default()),
            ];
            listener.listener_filters_timeout = Some(Duration {
                seconds: 0,
                nanos: 300_000_000,
            });
            listener.continue_on_listener_filters_timeout = true;
        },
    );
    let world = World::start(&told.identity(authority, own)).await;
    (world, at)
}

/// Whether the sidecar terminated the connection as HTTP: it leaves its mark then.
fn was_http(origin: &Origin) -> bool {
    let request = origin.take().pop().expect("a request");
    request.header("x-request-id").is_some()
}

#[tokio::test]
async fn each_mode_takes_what_istio_says_it_takes() {
    let authority = Authority::new("root");
    let own = authority.workload(ID);
    for kind in [Port::Http, Port::Tcp, Port::Unknown] {
        for mode in [Mode::Permissive, Mode::Strict, Mode::Disable] {
            let origin = Origin::start("app").await;
            let (world, at) = sidecar(mode, kind, origin.address, &authority, &own).await;
            // A client of the mesh, as the sidecar of an HTTP client or of a TCP client says it.
            for (protocol, is_http) in [
                ("istio-http/1.1", kind != Port::Tcp),
                ("istio", kind == Port::Http),
            ] {
                let client = Client::credulous("reviews", Some(&own), &[protocol]);
                let answer = client.get(at, "/").await;
                if mode == Mode::Disable {
                    assert!(answer.is_err(), "{mode:?} {kind:?} {protocol}: {answer:?}");
                    continue;
                }
                let answer = answer.unwrap_or_else(|e| panic!("{mode:?} {kind:?} {protocol}: {e}"));
                assert_eq!(answer.status(), 200);
                assert_eq!(was_http(&origin), is_http, "{mode:?} {kind:?} {protocol}");
            }
            // One of HTTP/2 is understood wherever HTTP is expected.
            let expects_http = kind != Port::Tcp;
            if mode != Mode::Disable && expects_http {
                let client = Client::credulous("reviews", Some(&own), &["istio-h2", "istio", "h2"]);
                let status = client.get_http2(at, "/").await;
                assert_eq!(status.expect("an answer"), 200, "{mode:?} {kind:?}");
                assert!(was_http(&origin), "{mode:?} {kind:?}");
            }
            let terminated = world.stat("listener.virtualInbound.ssl.handshake").await;
            let expected = if expects_http { 3 } else { 2 };
            assert_eq!(terminated, if mode == Mode::Disable { 0 } else { expected });
            // A client outside of the mesh.
            let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
            let stream = TcpStream::connect(at).await.expect("a connection");
            let plain = exchange_over(stream, request).await;
            match (mode, plain) {
                (Mode::Strict, plain) => {
                    let refused = plain.as_ref().map_or(true, |answer| answer.line.is_empty());
                    assert!(refused, "{kind:?}: {plain:?}");
                }
                (_, plain) => {
                    assert_eq!(plain.expect("an answer").status(), 200, "{mode:?} {kind:?}");
                    assert_eq!(was_http(&origin), kind != Port::Tcp, "{mode:?} {kind:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_applications_own_tls_passes_through_what_is_permissive() {
    let authority = Authority::new("root");
    let own = authority.workload(ID);
    let origin = Origin::start("app").await;
    // The application terminates TLS itself: another listener of the same proxy plays it.
    let app = free_address().await;
    let told = Told::default()
        .cluster("origin", origin.address, |_| ())
        .http("app", app, "origin", |listener, _| {
            let context = inline_context(&authority.server("a.example"));
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        });
    let _app = World::start(&told).await;
    for kind in [Port::Tcp, Port::Unknown] {
        let (world, at) = sidecar(Mode::Permissive, kind, app, &authority, &own).await;
        let client = Client::of(&authority, "a.example").offering(&["http/1.1"]);
        assert_eq!(client.get(at, "/").await.expect("an answer").status(), 200);
        assert_eq!(world.stat("listener.virtualInbound.ssl.handshake").await, 0);
    }
    // In STRICT mode it is no client of the mesh.
    let (world, at) = sidecar(Mode::Strict, Port::Tcp, app, &authority, &own).await;
    let client = Client::credulous("a.example", None, &[]);
    assert!(client.get(at, "/").await.is_err());
    world
        .wait_stat("listener.virtualInbound.ssl.fail_verify_no_cert", 1)
        .await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_in_permissive_mode() {
    let authority = Authority::new("root");
    let own = authority.workload(ID);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let app = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220 ready").await.expect("sent");
        }
    });
    let (_world, at) = sidecar(Mode::Permissive, Port::Unknown, app, &authority, &own).await;
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("the end");
    assert_eq!(text, b"220 ready");
}
