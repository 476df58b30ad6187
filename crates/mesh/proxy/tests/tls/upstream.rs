//! TLS to the endpoints of a cluster, between two listeners of one proxy: `out` is the sidecar of the
//! client, `in` that of the server.

#![expect(
    deprecated,
    reason = "control planes still send the older forms of some fields"
)]

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, SetCurrentClientCertDetails,
};
use envoy_types::util::pack_any;

use crate::authority::{Authority, Wish};
use crate::world::{
    TRUE, Told, World, alpn, certificate, inline_context, mesh_context, originating, terminating,
    trusting,
};
use crate::xds_support::http::{Message, Origin, exchange, get};
use crate::xds_support::{PATIENCE, free_address};

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/productpage";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/reviews";

/// Two sidecars in one proxy.
struct Pairing {
    out: SocketAddr,
    inbound: SocketAddr,
    told: Told,
}

/// `socket` is that of the cluster, `server` the context of the server's sidecar.
async fn pairing(
    origin: SocketAddr,
    edit: impl FnOnce(&mut cluster::Cluster),
    server: impl FnOnce(
        &mut envoy_types::pb::envoy::config::listener::v3::Listener,
        hcm::HttpConnectionManager,
    ),
) -> Pairing {
    let (out, inbound) = (free_address().await, free_address().await);
    let told = Told::default()
        .cluster("app", origin, |_| ())
        .cluster("reviews", inbound, edit)
        .http("out", out, "reviews", |_, _| ())
        .http("in", inbound, "app", server);
    Pairing { out, inbound, told }
}

fn manager_filter(manager: hcm::HttpConnectionManager) -> Filter {
    Filter {
        name: "hcm".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(manager))),
    }
}

/// Mutual TLS as Istio tells it, with the ids of the servers that the client expects.
fn mutual(ids: &'static [&'static str]) -> impl FnOnce(&mut cluster::Cluster) {
    move |cluster| {
        let context = alpn(mesh_context(ids), &["istio-peer-exchange", "istio"]);
        cluster.transport_socket = originating(context, |tls| {
            tls.sni = "outbound_.9080_._.reviews.default.svc.cluster.local".to_owned();
        });
    }
}

#[tokio::test]
async fn two_sidecars_speak_mutual_tls_and_tell_who_they_are() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    for (mode, sent, expected) in [
        (ForwardClientCertDetails::Sanitize, Some("By=x"), None),
        (
            ForwardClientCertDetails::ForwardOnly,
            Some("By=x"),
            Some("By=x"),
        ),
        (
            ForwardClientCertDetails::AppendForward,
            None,
            Some("ELEMENT"),
        ),
        (
            ForwardClientCertDetails::AppendForward,
            Some("By=x"),
            Some("By=x,ELEMENT"),
        ),
        (
            ForwardClientCertDetails::SanitizeSet,
            Some("By=x"),
            Some("ELEMENT"),
        ),
        (
            ForwardClientCertDetails::AlwaysForwardOnly,
            Some("By=x"),
            Some("By=x"),
        ),
    ] {
        let set = |manager: &mut hcm::HttpConnectionManager, mode| {
            manager.forward_client_cert_details = mode as i32;
            manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
                subject: TRUE,
                uri: true,
                ..Default::default()
            });
        };
        // Both ends have one certificate here: a proxy has one identity.
        let pair = pairing(
            origin.address,
            mutual(&[SERVER]),
            |listener, mut manager| {
                let context = mesh_context(&["spiffe://cluster.local/"]);
                listener.filter_chains[0].transport_socket =
                    terminating(context, |tls| tls.require_client_certificate = TRUE);
                set(&mut manager, mode);
                listener.filter_chains[0].filters = vec![manager_filter(manager)];
            },
        )
        .await;
        // The client's sidecar passes on what its application says.
        let told = pair
            .told
            .clone()
            .http("trusting", free_address().await, "app", |_, _| ());
        let world = World::start(&told.identity(&authority, &authority.workload(SERVER))).await;
        let header = sent.map_or(String::new(), |v| {
            format!("x-forwarded-client-cert: {v}\r\n")
        });
        let request =
            format!("GET / HTTP/1.1\r\nhost: reviews\r\n{header}connection: close\r\n\r\n");
        let mut direct = request.clone();
        if sent.is_some() {
            // The plaintext sidecar would take it away, as it must.
            direct = request;
        }
        let client = crate::client::Client::credulous(
            "outbound_.9080_._.reviews.default.svc.cluster.local",
            Some(&authority.workload(CLIENT)),
            &["istio"],
        );
        let answer = client
            .exchange(pair.inbound, &direct)
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let received = origin.take().pop().expect("a request");
        let value = received
            .header("x-forwarded-client-cert")
            .map(str::to_owned);
        let Some(expected) = expected else {
            assert_eq!(value, None, "{mode:?}");
            continue;
        };
        let value = value.expect("the header");
        let hash = value.split("Hash=").nth(1).map_or("", |rest| &rest[..64]);
        let element = format!("By={SERVER};Hash={hash};Subject=\"CN=test\";URI={CLIENT}");
        assert_eq!(value, expected.replace("ELEMENT", &element), "{mode:?}");
        // Over both sidecars the server sees the identity of this proxy, and never the lie.
        let answer = exchange(pair.out, &direct).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let received = origin.take().pop().expect("a request");
        let value = received
            .header("x-forwarded-client-cert")
            .unwrap_or_default();
        let tells = matches!(
            mode,
            ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet
        );
        assert_eq!(
            value.contains(&format!("URI={SERVER}")),
            tells,
            "{mode:?}: {value}"
        );
        assert!(!value.contains("By=x"), "{value}");
        assert_eq!(world.stat("cluster.reviews.ssl.handshake").await, 1);
        assert_eq!(world.stat("listener.in.ssl.handshake").await, 2);
    }
}

async fn refused(out: SocketAddr) -> Message {
    tokio::time::timeout(PATIENCE, get(out, "/"))
        .await
        .expect("in time")
        .expect("an answer")
}

#[tokio::test]
async fn an_endpoint_that_cannot_prove_who_it_is_gets_no_request() {
    let (authority, foreign) = (Authority::new("root"), Authority::new("another"));
    let origin = Origin::start("app").await;
    let expired = Wish {
        uri: Some(SERVER),
        expires: Err(Duration::from_secs(60)),
        ..Wish::default()
    };
    for (pair, counter) in [
        (
            authority.workload("spiffe://cluster.local/ns/default/sa/ratings"),
            "fail_verify_san",
        ),
        (foreign.workload(SERVER), "fail_verify_error"),
        (authority.issue(&expired), "fail_verify_error"),
    ] {
        let pairing = pairing(origin.address, mutual(&[SERVER]), |listener, _| {
            listener.filter_chains[0].transport_socket = terminating(inline_context(&pair), |_| ());
        })
        .await;
        let told = pairing
            .told
            .identity(&authority, &authority.workload(CLIENT));
        let world = World::start(&told).await;
        let answer = refused(pairing.out).await;
        assert_eq!(answer.status(), 503);
        // Why is for the mesh to know: it stands on the span.
        let expected = "upstream connect error or disconnect/reset before headers. reset reason: \
                        remote connection failure";
        assert_eq!(answer.body, expected);
        let counter = format!("cluster.reviews.ssl.{counter}");
        assert_eq!(world.stat(&counter).await, 1);
        assert_eq!(
            world.stat("cluster.reviews.upstream_cx_connect_fail").await,
            1
        );
        assert!(origin.take().is_empty());
    }
}

#[tokio::test]
async fn what_the_server_says_no_to_is_told() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    // The client has no certificate, which TLS 1.2 tells during the handshake.
    let pairing = pairing(
        origin.address,
        |cluster| {
            let mut context = trusting(&authority);
            context.tls_params = Some(super::world::up_to_1_2());
            cluster.transport_socket = originating(context, |_| ());
        },
        |listener, _| {
            let mut context = trusting(&authority);
            context.tls_certificates = vec![certificate(&authority.workload(SERVER))];
            listener.filter_chains[0].transport_socket =
                terminating(context, |tls| tls.require_client_certificate = TRUE);
        },
    )
    .await;
    let world = World::start(&pairing.told).await;
    let answer = refused(pairing.out).await;
    assert_eq!(answer.status(), 503);
    world
        .wait_stat("listener.in.ssl.fail_verify_no_cert", 1)
        .await;
    assert_eq!(world.stat("cluster.reviews.ssl.connection_error").await, 1);
}

#[tokio::test]
async fn http2_goes_over_tls_and_connections_are_used_again() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let pairing = pairing(
        origin.address,
        |cluster| {
            cluster.http2_protocol_options = Some(Default::default());
            cluster.transport_socket = originating(trusting(&authority), |_| ());
        },
        |listener, _| {
            let context = alpn(inline_context(&authority.server("x")), &["h2", "http/1.1"]);
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        },
    )
    .await;
    let world = World::start(&pairing.told).await;
    for _ in 0..5 {
        assert_eq!(
            get(pairing.out, "/").await.expect("an answer").status(),
            200
        );
    }
    assert_eq!(
        world.stat("cluster.reviews.upstream_cx_http2_total").await,
        1
    );
    assert_eq!(world.stat("cluster.reviews.ssl.handshake").await, 1);
    assert_eq!(world.stat("http.test.downstream_cx_http2_total").await, 1);
}

#[tokio::test]
async fn idle_connections_are_used_again_and_new_ones_resume() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let pairing = pairing(
        origin.address,
        |cluster| {
            cluster.transport_socket =
                originating(trusting(&authority), |tls| tls.sni = "x".to_owned());
        },
        |listener, _| {
            let context = inline_context(&authority.server("x"));
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        },
    )
    .await;
    let world = World::start(&pairing.told).await;
    for _ in 0..5 {
        assert_eq!(
            get(pairing.out, "/").await.expect("an answer").status(),
            200
        );
    }
    assert_eq!(world.stat("cluster.reviews.ssl.handshake").await, 1);
    // A slow request keeps its connection, so that the next one needs another.
    let slow = tokio::spawn(async move { get(pairing.out, "/slow").await });
    crate::xds_support::eventually("the slow request", || {
        origin
            .take()
            .iter()
            .find(|request| request.line.contains("/slow"))
            .map(|_| ())
    })
    .await;
    assert_eq!(
        get(pairing.out, "/").await.expect("an answer").status(),
        200
    );
    assert_eq!(world.stat("cluster.reviews.ssl.handshake").await, 2);
    assert_eq!(world.stat("cluster.reviews.ssl.session_reused").await, 1);
    slow.abort();
}

#[tokio::test]
async fn endpoints_choose_their_transport_by_their_metadata() {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;

    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let told_with = |mode: &'static str, at: SocketAddr, inbound: SocketAddr| {
        let labels = super::world::labels("tlsMode", "istio");
        Told::default()
            .cluster("app", origin.address, |_| ())
            .labelled("reviews", inbound, ("tlsMode", mode), |cluster| {
                cluster.transport_socket_matches = vec![
                    TransportSocketMatch {
                        name: "tlsMode-istio".to_owned(),
                        r#match: Some(labels),
                        transport_socket: originating(trusting(&authority), |_| ()),
                    },
                    TransportSocketMatch {
                        name: "tlsMode-disabled".to_owned(),
                        r#match: Some(Default::default()),
                        transport_socket: Some(super::world::plaintext()),
                    },
                ];
            })
            .http("out", at, "reviews", |_, _| ())
            .http("in", inbound, "app", |listener, _| {
                if mode == "istio" {
                    let context = inline_context(&authority.server("x"));
                    listener.filter_chains[0].transport_socket = terminating(context, |_| ());
                }
            })
    };
    let (out, inbound) = (free_address().await, free_address().await);
    let world = World::start(&told_with("istio", out, inbound)).await;
    assert_eq!(get(out, "/").await.expect("an answer").status(), 200);
    assert_eq!(world.stat("cluster.reviews.ssl.handshake").await, 1);
    // Connections of before are not used for an endpoint that speaks plaintext now.
    world.tell(&told_with("disabled", out, inbound));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !matches!(get(out, "/").await, Ok(answer) if answer.status() == 200
        && world.stat("listener.in.downstream_cx_total").await > 1)
    {
        assert!(tokio::time::Instant::now() < deadline, "no plaintext");
    }
    assert_eq!(world.stat("cluster.reviews.ssl.handshake").await, 1);
}
