//! TLS that a listener terminates.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, TlsParameters,
};
use envoy_types::pb::google::protobuf;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, Pair, Wish};
use crate::client::Client;
use crate::world::{TRUE, Told, World, alpn, inline_context, mesh_context, terminating};
use crate::xds_support::free_address;
use crate::xds_support::http::Origin;

const NAME: &str = "a.example";

/// A listener `l` with TLS before an origin.
async fn serving(
    origin: SocketAddr,
    context: CommonTlsContext,
    edit: impl Fn(&mut DownstreamTlsContext),
) -> (Told, SocketAddr) {
    let at = free_address().await;
    let told =
        Told::default()
            .cluster("app", origin, |_| ())
            .http("l", at, "app", |listener, _| {
                listener.filter_chains[0].transport_socket = terminating(context, edit);
            });
    (told, at)
}

#[tokio::test]
async fn both_versions_of_http_are_served_over_both_versions_of_tls() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let context = alpn(inline_context(&authority.server(NAME)), &["h2", "http/1.1"]);
    let (told, at) = serving(origin.address, context, |_| ()).await;
    let world = World::start(&told).await;
    for (version, counted) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let client = Client::with(&authority, NAME, None, &[version]);
        let answer = client.get(at, "/").await.expect("an answer");
        assert_eq!((answer.status(), &*answer.body), (200, "app got 0 bytes"));
        let received = origin.take().pop().expect("a request");
        assert_eq!(received.header("x-forwarded-proto"), Some("https"));

        let client = client.offering(&["h2"]);
        let stream = client.connect(at).await.expect("a connection");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let request = http::Request::get("https://a.example/two")
            .body(())
            .expect("valid");
        let (response, _) = send.send_request(request, true).expect("sent");
        let response = response.await.expect("a response");
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut text = Bytes::new();
        while let Some(data) = body.data().await {
            text = data.expect("a body");
        }
        assert_eq!(text, "app got 0 bytes");
        // The connection ends with the last of them.
        drop((send, body));
        connection.await.expect("no panic").expect("a clean end");
        let counted = format!("listener.l.ssl.versions.{counted}");
        assert_eq!(world.stat(&counted).await, 2);
    }
    assert_eq!(world.stat("listener.l.ssl.handshake").await, 4);
    assert_eq!(world.stat("listener.l.ssl.no_certificate").await, 4);
    assert_eq!(world.stat("listener.l.ssl.connection_error").await, 0);
    world.wait_stat("listener.l.downstream_cx_active", 0).await;
}

#[tokio::test]
async fn a_client_none_of_whose_protocols_is_known_is_served_without_one() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let context = alpn(inline_context(&authority.server(NAME)), &["h2"]);
    let (told, at) = serving(origin.address, context, |_| ()).await;
    let _world = World::start(&told).await;
    let client = Client::of(&authority, NAME).offering(&["http/0.9"]);
    let stream = client.connect(at).await.expect("a connection");
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    drop(stream);
    let client = client.offering(&[]);
    assert_eq!(client.get(at, "/").await.expect("an answer").status(), 200);
}

/// Whether the proxy lets a client with this certificate through.
async fn passes(authority: &Authority, own: Option<&Pair>, at: SocketAddr) -> bool {
    let client = Client::with(authority, NAME, own, rustls::ALL_VERSIONS);
    match client.get(at, "/").await {
        Ok(answer) => answer.status() == 200,
        Err(_) => false,
    }
}

#[tokio::test]
async fn clients_must_show_a_certificate_that_is_expected() {
    let (authority, foreign) = (Authority::new("root"), Authority::new("root"));
    let origin = Origin::start("app").await;
    let mut context = mesh_context(&["spiffe://cluster.local/", "spiffe://td2/ns/"]);
    context.tls_certificates = vec![crate::world::certificate(&authority.server(NAME))];
    context.tls_certificate_sds_secret_configs.clear();
    let (told, at) = serving(origin.address, context, |tls| {
        tls.require_client_certificate = TRUE;
    })
    .await;
    let world = World::start(&told.identity(&authority, &authority.server(NAME))).await;
    let good = "spiffe://cluster.local/ns/default/sa/reviews";
    assert!(passes(&authority, Some(&authority.workload(good)), at).await);
    let alias = authority.workload("spiffe://td2/ns/x/sa/y");
    assert!(passes(&authority, Some(&alias), at).await);
    assert_eq!(world.stat("listener.l.ssl.handshake").await, 2);
    let expired = authority.issue(&Wish {
        uri: Some(good),
        expires: Err(Duration::from_secs(60)),
        ..Wish::default()
    });
    for (own, counter) in [
        (None, "fail_verify_no_cert"),
        (Some(foreign.workload(good)), "fail_verify_error"),
        (Some(expired), "fail_verify_error"),
        (
            Some(authority.workload("spiffe://cluster.localhost/ns/default/sa/reviews")),
            "fail_verify_san",
        ),
        (Some(authority.server("cluster.local")), "fail_verify_san"),
    ] {
        let counter = format!("listener.l.ssl.{counter}");
        let before = world.stat(&counter).await;
        assert!(!passes(&authority, own.as_ref(), at).await, "{counter}");
        world.wait_stat(&counter, before + 1).await;
    }
    assert_eq!(world.stat("listener.l.ssl.handshake").await, 2);
    assert_eq!(world.stat("listener.l.ssl.connection_error").await, 0);
    assert_eq!(origin.take().len(), 2);
}

#[tokio::test]
async fn a_certificate_is_checked_even_if_none_is_required() {
    let (authority, foreign) = (Authority::new("root"), Authority::new("root"));
    let origin = Origin::start("app").await;
    let mut context = crate::world::trusting(&authority);
    context.tls_certificates = vec![crate::world::certificate(&authority.server(NAME))];
    let (told, at) = serving(origin.address, context, |_| ()).await;
    let world = World::start(&told).await;
    assert!(passes(&authority, None, at).await);
    assert_eq!(world.stat("listener.l.ssl.no_certificate").await, 1);
    assert!(passes(&authority, Some(&authority.server("c")), at).await);
    assert!(!passes(&authority, Some(&foreign.server("c")), at).await);
    world.wait_stat("listener.l.ssl.fail_verify_error", 1).await;
}

#[tokio::test]
async fn sessions_are_resumed_unless_that_is_turned_off() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    for (turned_off, expected) in [(false, 3), (true, 0)] {
        let context = inline_context(&authority.server(NAME));
        let (told, at) = serving(origin.address, context, |tls| {
            use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType::DisableStatelessSessionResumption;
            tls.disable_stateful_session_resumption = turned_off;
            tls.session_ticket_keys_type = Some(DisableStatelessSessionResumption(turned_off));
        })
        .await;
        let world = World::start(&told).await;
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&authority, NAME, None, &[version]);
            for _ in 0..(if turned_off { 2 } else { 1 }) {
                client.get(at, "/").await.expect("an answer");
            }
            if !turned_off {
                client.get(at, "/").await.expect("an answer");
                if version.version == rustls::ProtocolVersion::TLSv1_3 {
                    client.get(at, "/").await.expect("an answer");
                }
            }
        }
        assert_eq!(world.stat("listener.l.ssl.session_reused").await, expected);
    }
}

#[tokio::test]
async fn versions_and_suites_are_those_that_are_allowed() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let mut context = inline_context(&authority.server(NAME));
    context.tls_params = Some(TlsParameters {
        tls_maximum_protocol_version: TlsProtocol::TlSv12 as i32,
        cipher_suites: vec![
            "AES256-GCM-SHA384".to_owned(),
            "[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-RSA-AES256-GCM-SHA384]".to_owned(),
        ],
        ecdh_curves: vec!["P-256".to_owned()],
        ..Default::default()
    });
    let (told, at) = serving(origin.address, context, |_| ()).await;
    let world = World::start(&told).await;
    let client = Client::with(&authority, NAME, None, &[&TLS13]);
    assert!(client.get(at, "/").await.is_err());
    world.wait_stat("listener.l.ssl.connection_error", 1).await;
    let stream = Client::of(&authority, NAME)
        .connect(at)
        .await
        .expect("TLS 1.2");
    let (_, connection) = stream.get_ref();
    let suite = connection
        .negotiated_cipher_suite()
        .expect("a suite")
        .suite();
    assert_eq!(
        suite,
        rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    );
    let group = connection.negotiated_key_exchange_group().expect("a group");
    assert_eq!(group.name(), rustls::NamedGroup::secp256r1);
}

#[tokio::test]
async fn what_is_no_handshake_is_counted_and_ends_in_time() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let (at, other) = (free_address().await, free_address().await);
    let socket = || terminating(inline_context(&authority.server(NAME)), |_| ());
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .http("l", at, "app", |listener, _| {
            listener.filter_chains[0].transport_socket = socket();
            listener.filter_chains[0].transport_socket_connect_timeout = Some(protobuf::Duration {
                seconds: 0,
                nanos: 200_000_000,
            });
        })
        .http("sni", other, "app", |listener, _| {
            listener.filter_chains[0].transport_socket =
                terminating(inline_context(&authority.server(NAME)), |tls| {
                    tls.require_sni = TRUE;
                });
        });
    let world = World::start(&told).await;

    let mut plain = TcpStream::connect(at).await.expect("a connection");
    plain
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    // The alert, if the reset does not overtake it.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    world.wait_stat("listener.l.ssl.connection_error", 1).await;

    let mut silent = TcpStream::connect(at).await.expect("a connection");
    assert_eq!(silent.read(&mut [0; 1]).await.expect("the end"), 0);
    world
        .wait_stat(
            "listener.l.downstream_cx_transport_socket_connect_timeout",
            1,
        )
        .await;

    let mut half = TcpStream::connect(at).await.expect("a connection");
    half.write_all(b"\x16\x03\x01\x02\x00\x01")
        .await
        .expect("sent");
    half.shutdown().await.expect("shut");
    assert_eq!(half.read(&mut [0; 1]).await.expect("the end"), 0);
    world.wait_stat("listener.l.ssl.connection_error", 2).await;

    let nameless = Client::credulous("127.0.0.1", None, &[]);
    assert!(nameless.connect(other).await.is_err());
    world
        .wait_stat("listener.sni.ssl.connection_error", 1)
        .await;
    let named = Client::of(&authority, NAME);
    assert_eq!(
        named.get(other, "/").await.expect("an answer").status(),
        200
    );
}

/// Sends back what it gets until the end, then says good-bye.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write)
                    .await
                    .expect("echoed");
                write.write_all(b"bye").await.expect("sent");
            });
        }
    });
    address
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_end_is_passed_on() {
    let authority = Authority::new("root");
    let at = free_address().await;
    let told = Told::default().cluster("echo", echo().await, |_| ()).tcp(
        "l",
        at,
        "echo",
        |listener: &mut listener::Listener| {
            let context = inline_context(&authority.server(NAME));
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        },
    );
    let world = World::start(&told).await;
    let client = Client::of(&authority, NAME);

    // More than all buffers together, read late: nothing is lost, and all of it waits somewhere.
    let stream = client.connect(at).await.expect("a connection");
    let sent: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let expected = [&sent[..], b"bye"].concat();
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await.expect("sent");
        // A half-close: `close_notify` one way only.
        write.shutdown().await.expect("shut");
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut received = Vec::new();
    // An end without `close_notify` would be an error here.
    read.read_to_end(&mut received).await.expect("a clean end");
    writing.await.expect("written");
    assert!(received == expected, "{} bytes came back", received.len());

    // Who ends without saying so ends all the same.
    let mut stream = client.connect(at).await.expect("a connection");
    stream.write_all(b"hello").await.expect("sent");
    stream.flush().await.expect("flushed");
    let (mut tcp, mut connection) = stream.into_inner();
    tcp.shutdown().await.expect("shut");
    let mut records = Vec::new();
    tcp.read_to_end(&mut records).await.expect("the end");
    connection.read_tls(&mut &records[..]).expect("records");
    connection.process_new_packets().expect("valid");
    let mut text = [0; 8];
    std::io::Read::read_exact(&mut connection.reader(), &mut text).expect("the echo");
    assert_eq!(&text, b"hellobye");
    world.wait_stat("listener.l.downstream_cx_active", 0).await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_no_body() {
    let authority = Authority::new("root");
    // An origin whose response ends with its connection, which it resets.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
        stream.write_all(answer).await.expect("sent");
    });
    let (told, at) = serving(address, inline_context(&authority.server(NAME)), |_| ()).await;
    let _world = World::start(&told).await;
    let error = Client::of(&authority, NAME)
        .get(at, "/")
        .await
        .expect_err("the end must not look clean");
    let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
    assert!(kinds.contains(&error.kind()), "{error}");
}
