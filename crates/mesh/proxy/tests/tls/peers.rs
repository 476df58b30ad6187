//! Connections of TCP whose both ends say who they are, as Istio's proxies do: between two sidecars, and with others that
//! have agreed on it and do something else.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3::{Metadata, TrafficDirection};
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use periplus_proxy::{Options, bootstrap};
use periplus_xds::istio_peers;
use prost::Message as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, Pair};
use crate::client::Client;
use crate::differential::envoy::{self, Envoy};
use crate::differential::is_ready;
use crate::world::{NODE, TRUE, Told, World, alpn, labels, mesh_context, originating, terminating};
use crate::xds_support::http::get;
use crate::xds_support::{ControlPlane, PATIENCE, dead_address, free_address};

const MAGIC: [u8; 4] = [0x3d, 0x23, 0x04, 0x67];
const SERVICE: &str = "outbound|9000||reviews.default.svc.cluster.local";
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/productpage";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/reviews";
const BANNER: &[u8] = b"220 ready\n";
/// What both ends of the mesh offer.
const OFFERED: [&str; 2] = ["istio-peer-exchange", "istio"];

/// A server that speaks first, and then says whatever it hears.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(BANNER).await;
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

async fn sidecar(workload: &str, told: &Told) -> World {
    let plane = ControlPlane::start().await;
    plane.worlds.set(NODE, told.snapshot());
    let metadata = serde_json::json!({
        "NAMESPACE": "default",
        "WORKLOAD_NAME": format!("{workload}-v1"),
        "CLUSTER_ID": "c1",
        "LABELS": {"app": workload, "version": "v1"},
    });
    let edit = |file: &mut serde_json::Value| file["node"]["metadata"] = metadata;
    let world = World::edited(plane, Options::default(), edit).await;
    let ready = timeout(PATIENCE, world.agent.ready()).await;
    ready.expect("the proxy becomes ready");
    world
}

fn exchange() -> Filter {
    Filter {
        name: istio_peers::FILTER.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(
            istio_peers::of_connections(),
        )),
    }
}

/// The sidecar of the server.
async fn inbound(app: SocketAddr, authority: &Authority, offered: &[&str]) -> (World, SocketAddr) {
    let at = free_address().await;
    let told = Told::default().cluster("app", app, |_| ());
    let told = told.tcp("in", at, "app", |listener| secure(listener, offered));
    let own = authority.workload(SERVER);
    (
        sidecar("reviews", &told.identity(authority, &own)).await,
        at,
    )
}

fn secure(listener: &mut Listener, offered: &[&str]) {
    let context = alpn(mesh_context(&["spiffe://cluster.local/"]), offered);
    let chain = &mut listener.filter_chains[0];
    chain.transport_socket = terminating(context, |tls| tls.require_client_certificate = TRUE);
    chain.filters.insert(0, exchange());
}

/// The sidecar of the client; `workload` is what the endpoint's metadata say.
async fn outbound(
    to: SocketAddr,
    workload: Option<&str>,
    authority: Option<&Authority>,
) -> (World, SocketAddr) {
    let at = free_address().await;
    let told = Told::default()
        .assigned(&known(to, workload), |cluster| {
            if authority.is_some() {
                mutual(cluster);
            }
        })
        .tcp("out", at, SERVICE, |listener| {
            listener.traffic_direction = TrafficDirection::Outbound as i32;
        });
    let told = match authority {
        Some(authority) => told.identity(authority, &authority.workload(CLIENT)),
        None => told,
    };
    (sidecar("productpage", &told).await, at)
}

fn mutual(cluster: &mut cluster::Cluster) {
    let context = alpn(mesh_context(&["spiffe://cluster.local/"]), &OFFERED);
    cluster.transport_socket = originating(context, |tls| {
        tls.sni = "outbound_.9000_._.reviews.default.svc.cluster.local".to_owned();
    });
    cluster.filters = vec![cluster::Filter {
        name: istio_peers::FILTER.to_owned(),
        typed_config: Some(istio_peers::of_connections()),
        ..Default::default()
    }];
}

fn known(at: SocketAddr, workload: Option<&str>) -> endpoint::ClusterLoadAssignment {
    let address = crate::xds_support::resources::socket(at);
    let endpoint = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address,
                ..Default::default()
            },
        )),
        metadata: workload.map(|said| Metadata {
            filter_metadata: [("istio".to_owned(), labels("workload", said))].into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: SERVICE.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// One of Istio's metrics of a world that is not zero and has these labels, once there is one: all of its labels, and its
/// value.
async fn metric(
    world: &World,
    name: &str,
    wanted: &[(&str, &str)],
) -> (BTreeMap<String, String>, u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = get(world.admin, "/stats/prometheus")
            .await
            .expect("a page")
            .body;
        let lines = page
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        for line in lines {
            let (all, value) = line.rsplit_once("} ").expect("a value");
            let all = all.trim_end_matches('"').split("\",").map(|label| {
                let (name, value) = label.split_once("=\"").expect("a label");
                (name.to_owned(), value.to_owned())
            });
            let all: BTreeMap<_, _> = all.collect();
            let has = |(name, value): &(&str, &str)| all.get(*name).is_some_and(|it| it == value);
            let value = value.parse().expect("a number");
            if wanted.iter().all(has) && value > 0 {
                return (all, value);
            }
        }
        assert!(
            Instant::now() < deadline,
            "no {name} with {wanted:?}:\n{page}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const OPENED: &str = "istio_tcp_connections_opened_total";
const CLOSED: &str = "istio_tcp_connections_closed_total";
const RECEIVED: &str = "istio_tcp_received_bytes_total";
const SENT: &str = "istio_tcp_sent_bytes_total";

/// Hears the banner, says something, hears it back, and ends.
async fn talk(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut banner = vec![0; BANNER.len()];
    let heard = timeout(PATIENCE, stream.read_exact(&mut banner)).await;
    heard.expect("no stall").expect("a banner");
    assert_eq!(banner, BANNER);
    stream.write_all(b"hello").await.expect("sent");
    let mut echo = [0; 5];
    let heard = timeout(PATIENCE, stream.read_exact(&mut echo)).await;
    heard.expect("no stall").expect("an echo");
    assert_eq!(&echo, b"hello");
    stream.shutdown().await.expect("the end");
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    end.expect("no stall").expect("the end");
    assert_eq!(rest, b"");
}

async fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.expect("a connection")
}

#[tokio::test]
async fn both_sides_name_both_workloads() {
    let authority = Authority::new("root");
    let (server, at) = inbound(application().await, &authority, &OFFERED).await;
    let (client, out) = outbound(at, None, Some(&authority)).await;
    talk(connect(out).await).await;
    for (world, reporter, policy) in [
        (&client, "source", "unknown"),
        (&server, "destination", "mutual_tls"),
    ] {
        let wanted = [("reporter", reporter)];
        for (name, expected) in [(OPENED, 1), (CLOSED, 1), (RECEIVED, 5), (SENT, 15)] {
            let (all, value) = metric(world, name, &wanted).await;
            assert_eq!(value, expected, "{name} at the {reporter}");
            for (label, expected) in [
                ("source_workload", "productpage-v1"),
                ("source_canonical_service", "productpage"),
                ("source_app", "productpage"),
                ("source_cluster", "c1"),
                ("source_principal", CLIENT),
                ("destination_workload", "reviews-v1"),
                ("destination_workload_namespace", "default"),
                ("destination_version", "v1"),
                ("destination_principal", SERVER),
                ("request_protocol", "tcp"),
                ("connection_security_policy", policy),
            ] {
                assert_eq!(all[label], expected, "{label} of {name} at the {reporter}");
            }
        }
    }
    let of_cluster = format!("cluster.{SERVICE}.metadata_exchange");
    for (world, prefix) in [
        (&client, of_cluster.as_str()),
        (&server, "metadata_exchange"),
    ] {
        for (name, expected) in [
            ("alpn_protocol_found", 1),
            ("alpn_protocol_not_found", 0),
            ("metadata_added", 1),
            ("initial_header_not_found", 0),
            ("header_not_found", 0),
        ] {
            let name = format!("{prefix}.{name}");
            assert_eq!(world.stat(&name).await, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn without_it_the_endpoints_metadata_tell_the_source() {
    let said = "reviews-v1;shop;reviews;v1;c2";
    // In plaintext, over TLS to a sidecar that does not agree on it, and to nobody.
    let authority = Authority::new("root");
    let app = application().await;
    let (server, secured) = inbound(app, &authority, &["istio"]).await;
    let nobody = dead_address();
    for (to, authority) in [(app, None), (secured, Some(&authority)), (nobody, None)] {
        let (client, out) = outbound(to, Some(said), authority).await;
        match to == nobody {
            true => drop(connect(out).await),
            false => talk(connect(out).await).await,
        }
        let (all, _) = metric(&client, CLOSED, &[("reporter", "source")]).await;
        // A proven namespace is believed before one that is said.
        let namespace = match authority {
            Some(_) => "default",
            None => "shop",
        };
        for (label, expected) in [
            ("destination_workload", "reviews-v1"),
            ("destination_workload_namespace", namespace),
            ("destination_canonical_service", "reviews"),
            ("destination_canonical_revision", "v1"),
            ("destination_cluster", "c2"),
            ("destination_app", "unknown"),
            ("source_workload", "productpage-v1"),
        ] {
            assert_eq!(all[label], expected, "{label}");
        }
        assert_eq!(all["response_flags"].contains("UF"), to == nobody);
        if authority.is_some() {
            let name = format!("cluster.{SERVICE}.metadata_exchange.alpn_protocol_not_found");
            assert_eq!(client.stat(&name).await, 1);
        }
    }
    let (all, _) = metric(&server, OPENED, &[]).await;
    assert_eq!(all["source_workload"], "unknown");
    assert_eq!(all["source_principal"], CLIENT);
}

fn of_length(length: u32, rest: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &length.to_be_bytes(), rest].concat()
}

fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

/// As Istio's proxies say it, and a type of something else.
fn message(of_type: &str, workload: &str) -> Vec<u8> {
    let object = |fields: &[(&str, Value)]| Struct {
        fields: fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    };
    let value = |object| Value {
        kind: Some(Kind::StructValue(object)),
    };
    let own = object(&[
        ("NAME", text(&format!("{workload}-5f7b"))),
        ("NAMESPACE", text("shop")),
        ("WORKLOAD_NAME", text(workload)),
        (
            "OWNER",
            text("kubernetes://apis/apps/v1/namespaces/shop/deployments/x"),
        ),
        ("CLUSTER_ID", text("Kubernetes")),
        ("LABELS", value(object(&[("app", text("x"))]))),
    ]);
    let said = object(&[
        ("x-envoy-peer-metadata", value(own)),
        (
            "x-envoy-peer-metadata-id",
            text("sidecar~10.0.0.1~x.shop~shop.svc.cluster.local"),
        ),
    ]);
    let any = Any {
        type_url: format!("type.googleapis.com/{of_type}"),
        value: said.encode_to_vec(),
    };
    let any = any.encode_to_vec();
    of_length(u32::try_from(any.len()).expect("short"), &any)
}

/// What a proxy says of itself.
async fn greeting(stream: &mut (impl AsyncReadExt + Unpin)) -> HashMap<String, Value> {
    let heard = async {
        let mut magic = [0; 4];
        stream.read_exact(&mut magic).await?;
        assert_eq!(magic, MAGIC);
        let mut any = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut any).await?;
        Ok::<_, std::io::Error>(any)
    };
    let any = timeout(PATIENCE, heard)
        .await
        .expect("in time")
        .expect("a message");
    let any = Any::decode(&*any).expect("an Any");
    assert_eq!(any.type_url, "type.googleapis.com/google.protobuf.Struct");
    Struct::decode(&*any.value).expect("a Struct").fields
}

/// How a connection begins whose client has agreed to say who it is, and what comes of it.
struct Odd {
    says: Vec<u8>,
    /// What the other end gets of that; none if the connection ends.
    passed: Option<&'static [u8]>,
    /// What is counted: heads and messages that were not found.
    counted: [u64; 2],
    source: &'static str,
}

fn odd_ones() -> Vec<Odd> {
    let odd = |says: &[u8], passed, counted| Odd {
        says: says.to_vec(),
        passed,
        counted,
        source: "unknown",
    };
    let of_another_type = message("google.protobuf.Empty", "x-v1");
    let known = [message("google.protobuf.Struct", "x-v1"), b"hi".to_vec()].concat();
    vec![
        odd(
            b"GET / HTTP/1.1\r\n\r\n",
            Some(b"GET / HTTP/1.1\r\n\r\n"),
            [1, 0],
        ),
        odd(b"hi", Some(b"hi"), [1, 0]),
        // Half a head, and nothing: what the server says is heard all the same.
        odd(&MAGIC, Some(&MAGIC), [1, 0]),
        odd(b"", Some(b""), [1, 0]),
        odd(&of_length(9, b"message"), Some(b""), [0, 1]),
        odd(&of_length(u32::MAX, b"hello"), None, [0, 1]),
        odd(&of_length(8193, b""), None, [0, 1]),
        // As with Istio's proxies, what follows the head of a message that is none goes on.
        odd(&of_length(2, b"\xff\xffhi"), Some(b"\xff\xffhi"), [0, 1]),
        odd(&of_length(0, b"hi"), Some(b"hi"), [0, 1]),
        odd(&of_another_type, Some(b""), [0, 1]),
        Odd {
            says: known,
            passed: Some(b"hi"),
            counted: [0, 0],
            source: "x-v1",
        },
    ]
}

#[tokio::test]
async fn a_client_that_says_something_else_is_served() {
    let authority = Authority::new("root");
    let own = authority.workload(CLIENT);
    let app = application().await;
    for odd in odd_ones() {
        let (server, at) = inbound(app, &authority, &OFFERED).await;
        let client = Client::credulous("reviews", Some(&own), &OFFERED);
        let mut stream = client.connect(at).await.expect("a handshake");
        stream.write_all(&odd.says).await.expect("sent");
        if let Some(passed) = odd.passed {
            let said = greeting(&mut stream).await;
            assert_eq!(said["x-envoy-peer-metadata-id"], text(NODE));
            let Some(Kind::StructValue(own)) = &said["x-envoy-peer-metadata"].kind else {
                panic!("{said:?}");
            };
            assert_eq!(own.fields["WORKLOAD_NAME"], text("reviews-v1"));
            let mut banner = vec![0; BANNER.len()];
            let heard = timeout(PATIENCE, stream.read_exact(&mut banner)).await;
            heard.expect("no stall").expect("a banner");
            stream.shutdown().await.expect("the end");
            let mut rest = Vec::new();
            let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
            end.expect("no stall").expect("the end");
            // Of a head that never came the first bytes go on, as with Istio's proxies.
            assert_eq!(rest, passed, "{:?}", odd.says);
        } else {
            let mut rest = Vec::new();
            let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
            drop(end.expect("it ends"));
        }
        let (all, value) = metric(&server, OPENED, &[]).await;
        assert_eq!((all["source_workload"].as_str(), value), (odd.source, 1));
        for (name, expected) in [
            ("initial_header_not_found", odd.counted[0]),
            ("header_not_found", odd.counted[1]),
        ] {
            let found = server.stat(&format!("metadata_exchange.{name}")).await;
            assert_eq!(found, expected, "{name} of {:?}", odd.says);
        }
    }
}

/// A server that agrees to say who it is.
fn acceptor(own: &Pair) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.expect("a pair");
    config.alpn_protocols = vec![istio_peers::PROTOCOL.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// One that says this, and then whatever it hears but what that begins with.
async fn server(own: &Pair, says: Vec<u8>) -> SocketAddr {
    let acceptor = acceptor(own);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            stream.write_all(&says).await.expect("sent");
            greeting(&mut stream).await;
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_says_something_else_is_heard() {
    let authority = Authority::new("root");
    let own = authority.workload(SERVER);
    // What it says behind half of something is the rest of that.
    let halves = [MAGIC.to_vec(), of_length(9, b"message")];
    let all = odd_ones().into_iter();
    let all = all.filter(|odd| !halves.contains(&odd.says));
    for odd in all {
        let at = server(&own, odd.says.clone()).await;
        let (client, out) = outbound(at, Some("told-v1;shop;told;;c2"), Some(&authority)).await;
        let mut stream = connect(out).await;
        let mut heard = Vec::new();
        if odd.passed.is_some() {
            stream.write_all(b"hello").await.expect("sent");
            stream.shutdown().await.expect("the end");
        }
        let end = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        let end = end.expect("no stall");
        let workload = match odd.source {
            "unknown" => "told-v1",
            known => known,
        };
        match odd.passed {
            Some(passed) => assert_eq!(heard, [passed, b"hello"].concat(), "{:?}", odd.says),
            None => drop(end.expect_err("it does not end as if all were well")),
        }
        let (all, _) = metric(&client, CLOSED, &[]).await;
        assert_eq!(all["destination_workload"], workload, "{:?}", odd.says);
        for (name, expected) in [
            ("initial_header_not_found", odd.counted[0]),
            ("header_not_found", odd.counted[1]),
        ] {
            let name = format!("cluster.{SERVICE}.metadata_exchange.{name}");
            assert_eq!(
                client.stat(&name).await,
                expected,
                "{name} of {:?}",
                odd.says
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_before_it_has_said_who_it_is_is_not_taken_for_one_that_has_ended() {
    let authority = Authority::new("root");
    let acceptor = acceptor(&authority.workload(SERVER));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = acceptor.accept(stream).await.expect("a handshake");
        stream.write_all(&MAGIC).await.expect("sent");
        greeting(&mut stream).await;
        let (stream, _) = stream.get_ref();
        stream.set_zero_linger().expect("a socket");
    });
    let (client, out) = outbound(at, None, Some(&authority)).await;
    let mut heard = Vec::new();
    let end = timeout(PATIENCE, connect(out).await.read_to_end(&mut heard)).await;
    end.expect("no stall").expect_err("it is reset");
    assert!(heard.is_empty(), "{heard:?}");
    let (all, _) = metric(&client, CLOSED, &[]).await;
    assert_eq!(all["response_flags"], "UC");
}

/// An Envoy has no such filter, and does not agree on what it is not told to offer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_at_the_other_end_is_served() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let authority = Authority::new("root");
    let app = application().await;
    let (ours, at) = inbound(app, &authority, &OFFERED).await;
    let (envoys_in, envoys_out) = (free_address().await, free_address().await);
    let told = Told::default()
        .cluster("app", app, |_| ())
        .cluster(SERVICE, at, |cluster| {
            mutual(cluster);
            let context = alpn(mesh_context(&["spiffe://cluster.local/"]), &["istio"]);
            cluster.transport_socket = originating(context, |_| ());
            cluster.filters.clear();
        })
        .tcp("in", envoys_in, "app", |listener| {
            secure(listener, &["istio"]);
            listener.filter_chains[0].filters.remove(0);
        })
        .tcp("out", envoys_out, SERVICE, |_| ())
        .identity(&authority, &authority.workload(SERVER));
    let plane = ControlPlane::start().await;
    plane.worlds.set(NODE, told.snapshot());
    let envoy = Envoy::start(
        &binary,
        &bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: NODE,
            node_cluster: "test.default",
            metadata: &serde_json::json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        }),
    );
    is_ready(&envoy).await;
    // From it to ours, and from ours to it.
    talk(connect(envoys_out).await).await;
    let (all, _) = metric(&ours, CLOSED, &[]).await;
    assert_eq!(all["source_workload"], "unknown");
    assert_eq!(
        ours.stat("metadata_exchange.alpn_protocol_not_found").await,
        1
    );
    let said = Some("reviews-v1;default;reviews;v1;c1");
    let (client, out) = outbound(envoys_in, said, Some(&authority)).await;
    talk(connect(out).await).await;
    let (all, _) = metric(&client, CLOSED, &[]).await;
    assert_eq!(all["destination_workload"], "reviews-v1");
}
