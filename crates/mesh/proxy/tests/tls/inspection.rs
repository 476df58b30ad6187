//! What listener filters find out, and what follows from it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    ProxyProtocolConfig, TransportSocket, proxy_protocol_config, transport_socket,
};
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use envoy_types::pb::google::protobuf;
use envoy_types::util::pack_any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::Authority;
use crate::client::Client;
use crate::world::{
    Told, World, inline_context, originating, plaintext, tcp_proxy, terminating, trusting,
};
use crate::xds_support::free_address;
use crate::xds_support::http::{Origin, exchange, get};

pub(crate) fn listener_filter(config: impl prost::Name) -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: "filter".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(
            pack_any(config),
        )),
        ..Default::default()
    }
}

/// A chain whose bytes go to a cluster.
pub(crate) fn tcp_chain(conditions: listener::FilterChainMatch, to: &str) -> listener::FilterChain {
    listener::FilterChain {
        filter_chain_match: Some(conditions),
        filters: vec![listener::Filter {
            name: "tcp".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(
                tcp_proxy(to),
            ))),
        }],
        ..Default::default()
    }
}

fn named(names: &[&str]) -> listener::FilterChainMatch {
    listener::FilterChainMatch {
        server_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn tls_is_passed_through_to_whom_the_client_asks_for() {
    let authority = Authority::new("root");
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let (at, one_at, two_at) = (
        free_address().await,
        free_address().await,
        free_address().await,
    );
    let serving = |name: &'static str| {
        let context = inline_context(&authority.server(name));
        move |listener: &mut listener::Listener, _| {
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        }
    };
    let told = Told::default()
        .cluster("one", one.address, |_| ())
        .cluster("two", two.address, |_| ())
        .http("one", one_at, "one", serving("a.one.example"))
        .http("two", two_at, "two", serving("b.two.example"))
        .cluster("to-one", one_at, |_| ())
        .cluster("to-two", two_at, |_| ())
        .tcp("l", at, "to-one", |listener| {
            // Without the inspector: it is there all the same, as in Envoy.
            listener.filter_chains = vec![
                tcp_chain(named(&["*.one.example", "c.example"]), "to-one"),
                tcp_chain(named(&["b.two.example"]), "to-two"),
            ];
        });
    let world = World::start(&told).await;
    for (name, expected) in [
        ("a.one.example", "one got 0 bytes"),
        ("b.two.example", "two got 0 bytes"),
    ] {
        let client = Client::of(&authority, name);
        assert_eq!(client.get(at, "/").await.expect("an answer").body, expected);
    }
    assert_eq!(world.stat("tls_inspector.tls_found").await, 2);
    assert_eq!(world.stat("tls_inspector.sni_found").await, 2);
    assert_eq!(world.stat("tls_inspector.alpn_not_found").await, 2);
    assert!(
        Client::of(&authority, "d.example")
            .get(at, "/")
            .await
            .is_err()
    );
    world.wait_stat("listener.l.no_filter_chain_match", 1).await;
    assert!(
        get(at, "/").await.is_err() || world.stat("listener.l.no_filter_chain_match").await == 2
    );
    assert_eq!(world.stat("tls_inspector.tls_not_found").await, 1);
    assert_eq!(world.stat("listener.l.downstream_pre_cx_active").await, 0);
    assert_eq!(world.stat("listener.l.ssl.handshake").await, 0);
}

/// A server that speaks first.
async fn talkative() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220 hello").await.expect("sent");
        }
    });
    address
}

fn inspecting(listener: &mut listener::Listener, on_timeout: bool) {
    listener.listener_filters = vec![
        listener_filter(TlsInspector::default()),
        listener_filter(HttpInspector::default()),
    ];
    listener.listener_filters_timeout = Some(protobuf::Duration {
        seconds: 0,
        nanos: 200_000_000,
    });
    listener.continue_on_listener_filters_timeout = on_timeout;
}

#[tokio::test]
async fn a_protocol_whose_server_speaks_first_does_not_stall() {
    let (patient, strict, free) = (
        free_address().await,
        free_address().await,
        free_address().await,
    );
    let server = talkative().await;
    let told = Told::default()
        .cluster("talkative", server, |_| ())
        .tcp("patient", patient, "talkative", |listener| {
            inspecting(listener, true);
        })
        .tcp("strict", strict, "talkative", |listener| {
            inspecting(listener, false);
        })
        .tcp("free", free, "talkative", |listener| {
            inspecting(listener, false);
            let port = i32::from(free.port());
            for filter in &mut listener.listener_filters {
                filter.filter_disabled = Some(listener::ListenerFilterChainMatchPredicate {
                    rule: Some(Rule::DestinationPortRange(Int32Range {
                        start: port,
                        end: port + 1,
                    })),
                });
            }
        });
    let world = World::start(&told).await;
    for (at, expected) in [
        (patient, &b"220 hello"[..]),
        (free, b"220 hello"),
        (strict, b""),
    ] {
        let mut stream = TcpStream::connect(at).await.expect("a connection");
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.expect("the end");
        assert_eq!(text, expected, "{at}");
    }
    assert_eq!(
        world
            .stat("listener.patient.downstream_pre_cx_timeout")
            .await,
        1
    );
    assert_eq!(
        world
            .stat("listener.strict.downstream_pre_cx_timeout")
            .await,
        1
    );
    assert_eq!(
        world.stat("listener.free.downstream_pre_cx_timeout").await,
        0
    );
    // What came while it was looked at is not lost, nor that nothing more will.
    let mut stream = TcpStream::connect(patient).await.expect("a connection");
    stream.write_all(b"GE").await.expect("sent");
    let mut text = [0; 9];
    stream.read_exact(&mut text).await.expect("a word");
    assert_eq!(&text, b"220 hello");
    let mut stream = TcpStream::connect(strict).await.expect("a connection");
    stream.shutdown().await.expect("shut");
    assert_eq!(stream.read(&mut [0; 1]).await.expect("the end"), 0);
    world
        .wait_stat("listener.strict.downstream_listener_filter_remote_close", 1)
        .await;
}

fn proxy_protocol(edit: impl FnOnce(&mut ProxyProtocol)) -> Vec<listener::ListenerFilter> {
    let mut config = ProxyProtocol::default();
    edit(&mut config);
    vec![listener_filter(config)]
}

#[tokio::test]
async fn the_header_of_another_proxy_says_who_the_client_is() {
    let origin = Origin::start("app").await;
    let (at, optional, only_2) = (
        free_address().await,
        free_address().await,
        free_address().await,
    );
    let edge = |filters: Vec<listener::ListenerFilter>| {
        move |listener: &mut listener::Listener, mut manager: envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager| {
            listener.listener_filters = filters;
            manager.use_remote_address = crate::world::TRUE;
            listener.filter_chains[0].filters = vec![listener::Filter {
                name: "hcm".to_owned(),
                config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
            }];
        }
    };
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .http("l", at, "app", edge(proxy_protocol(|_| ())))
        .http(
            "optional",
            optional,
            "app",
            edge(proxy_protocol(|p| {
                p.allow_requests_without_proxy_protocol = true;
            })),
        )
        .http(
            "only2",
            only_2,
            "app",
            edge(proxy_protocol(|p| {
                p.disallowed_versions = vec![proxy_protocol_config::Version::V1 as i32];
            })),
        );
    let world = World::start(&told).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let v1 = format!("PROXY TCP4 203.0.113.7 203.0.113.8 1000 80\r\n{request}");
    assert_eq!(exchange(at, &v1).await.expect("an answer").status(), 200);
    let received = origin.take().pop().expect("a request");
    assert_eq!(received.header("x-forwarded-for"), Some("203.0.113.7"));

    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24".to_vec();
    v2.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    v2.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8]);
    v2.extend([3, 232, 0, 80]);
    // In two parts, so that it must be waited for.
    let mut stream = TcpStream::connect(only_2).await.expect("a connection");
    stream.write_all(&v2[..20]).await.expect("sent");
    stream.flush().await.expect("flushed");
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.write_all(&v2[20..]).await.expect("sent");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = origin.take().pop().expect("a request");
    assert_eq!(received.header("x-forwarded-for"), Some("2001:db8::7"));

    assert_eq!(
        exchange(optional, request)
            .await
            .expect("an answer")
            .status(),
        200
    );
    for (listener, at, text, counter) in [
        ("l", at, request, "proxy_proto.not_found_disallowed"),
        ("l", at, "PROXY TCP4 x\r\n", "proxy_proto.versions.v1.error"),
        ("only2", only_2, &*v1, "proxy_proto.versions.v1.disallowed"),
    ] {
        let counter_before = world.stat(counter).await;
        let answer = exchange(at, text).await;
        let is_closed = match &answer {
            Ok(answer) => answer.line.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(is_closed, "{listener} {text:?}: {answer:?}");
        world.wait_stat(counter, counter_before + 1).await;
    }
    assert_eq!(world.stat("proxy_proto.versions.v1.found").await, 1);
    assert_eq!(world.stat("proxy_proto.versions.v2.found").await, 1);
    assert_eq!(world.stat("proxy_proto.not_found_allowed").await, 1);
    assert_eq!(
        world
            .stat("listener.l.downstream_listener_filter_error")
            .await,
        2
    );
}

/// A transport socket that sends a PROXY header first.
pub(crate) fn with_header(
    version: proxy_protocol_config::Version,
    inner: Option<TransportSocket>,
) -> Option<TransportSocket> {
    let wrapper = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig {
            version: version as i32,
            ..Default::default()
        }),
        transport_socket: inner,
        ..Default::default()
    };
    Some(TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_any(wrapper))),
    })
}

#[tokio::test]
async fn an_endpoint_is_told_who_the_client_is_before_tls() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let (out, relay, inbound) = (
        free_address().await,
        free_address().await,
        free_address().await,
    );
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let plain_at = plain.local_addr().expect("an address");
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .cluster("in", inbound, |cluster| {
            let tls = originating(trusting(&authority), |_| ());
            cluster.transport_socket = with_header(proxy_protocol_config::Version::V2, tls);
        })
        .cluster("plain", plain_at, |cluster| {
            let inner = Some(plaintext());
            cluster.transport_socket = with_header(proxy_protocol_config::Version::V1, inner);
        })
        .http("out", out, "in", |_, _| ())
        .tcp("relay", relay, "plain", |_| ())
        .http("in", inbound, "app", |listener, _| {
            listener.listener_filters = proxy_protocol(|_| ());
            let context = inline_context(&authority.server("x"));
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        });
    let world = World::start(&told).await;
    for count in 1..3 {
        assert_eq!(get(out, "/").await.expect("an answer").status(), 200);
        // Each client has a connection of its own.
        assert_eq!(world.stat("cluster.in.ssl.handshake").await, count);
    }
    assert_eq!(world.stat("proxy_proto.versions.v2.found").await, 2);
    let client = TcpStream::connect(relay).await.expect("a connection");
    let from = client.local_addr().expect("an address");
    let (mut accepted, _) = plain.accept().await.expect("a connection");
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
        from.port(),
        relay.port()
    );
    let mut line = vec![0; expected.len()];
    accepted.read_exact(&mut line).await.expect("the header");
    assert_eq!(String::from_utf8(line).expect("text"), expected);
}
