//! A session that is resumed is worth no more than a new one would be.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::google::protobuf::UInt32Value;
use rustls::version::{TLS12, TLS13};
use tokio::time::{Instant, sleep, sleep_until};

use crate::authority::Authority;
use crate::client::Client;
use crate::world::{
    TRUE, Told, World, inline_context, mesh_context, originating, terminating, trusting,
};
use crate::xds_support::http::{Origin, get};
use crate::xds_support::{PATIENCE, free_address};

const ID: &str = "spiffe://cluster.local/ns/default/sa/client";
/// Of the certificates that expire: two handshakes must be possible before.
const LIFE: Duration = Duration::from_secs(4);

/// A listener that asks for certificates with such an id.
fn asking(origin: SocketAddr, at: SocketAddr, ids: &str) -> Told {
    let context = mesh_context(&[ids]);
    Told::default()
        .cluster("app", origin, |_| ())
        .http("in", at, "app", |listener, _| {
            listener.filter_chains[0].transport_socket =
                terminating(context, |tls| tls.require_client_certificate = TRUE);
        })
}

/// Both protocols, each with a session that was resumed once.
async fn resuming(world: &World, at: SocketAddr, client: impl Fn(usize) -> Client) -> [Client; 2] {
    let clients = [client(0), client(1)];
    for client in &clients {
        for _ in 0..2 {
            client.get(at, "/").await.expect("an answer");
        }
    }
    assert_eq!(world.stat("listener.in.ssl.session_reused").await, 2);
    clients
}

/// Whether a request is answered; a connection that ends without an answer is none that was let in.
async fn is_let_in(client: &Client, at: SocketAddr) -> bool {
    let answer = client.get(at, "/").await;
    answer.is_ok_and(|answer| answer.status() == 200)
}

fn of_version(index: usize) -> &'static rustls::SupportedProtocolVersion {
    [&TLS12, &TLS13][index]
}

#[tokio::test]
async fn a_session_does_not_outlive_the_certificate_of_its_client() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let at = free_address().await;
    let own = authority.workload("spiffe://cluster.local/ns/default/sa/server");
    let told = asking(origin.address, at, "spiffe://cluster.local/");
    let world = World::start(&told.identity(&authority, &own)).await;
    let expires = Instant::now() + LIFE;
    let short = authority.short_lived(ID, LIFE);
    let client = |index| Client::credulous_with("x", Some(&short), &[of_version(index)]);
    let clients = resuming(&world, at, client).await;

    // Its last second is over one second later.
    sleep_until(expires + Duration::from_secs(1)).await;
    for (index, client) in clients.iter().enumerate() {
        assert!(!is_let_in(client, at).await, "version {index}");
        let refused = index as u64 + 1;
        world
            .wait_stat("listener.in.ssl.fail_verify_error", refused)
            .await;
    }
}

#[tokio::test]
async fn a_session_does_not_outlive_the_roots_and_trust_domains_that_allowed_it() {
    let [authority, other] = ["root", "other"].map(Authority::new);
    let origin = Origin::start("app").await;
    let at = free_address().await;
    let own = authority.workload("spiffe://cluster.local/ns/default/sa/server");
    let cases = [
        ("spiffe://cluster.local/", &other, "fail_verify_error"),
        ("spiffe://other.domain/", &authority, "fail_verify_san"),
    ];
    for (ids, roots, counter) in cases {
        let before = asking(origin.address, at, "spiffe://cluster.local/");
        let world = World::start(&before.identity(&authority, &own)).await;
        let pair = authority.workload(ID);
        let client = |index| Client::credulous_with("x", Some(&pair), &[of_version(index)]);
        let clients = resuming(&world, at, client).await;

        world.tell(&asking(origin.address, at, ids).identity(roots, &own));
        let deadline = Instant::now() + PATIENCE;
        for client in &clients {
            while is_let_in(client, at).await {
                assert!(Instant::now() < deadline, "{counter}: it is still let in");
                sleep(Duration::from_millis(5)).await;
            }
        }
        world
            .wait_stat(&format!("listener.in.ssl.{counter}"), 2)
            .await;
    }
}

#[expect(deprecated, reason = "the short form does")]
#[tokio::test]
async fn a_session_does_not_outlive_the_certificate_of_its_endpoint() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let (out, inbound) = (free_address().await, free_address().await);
    let expires = Instant::now() + LIFE;
    let short = authority.short_lived(ID, LIFE);
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .cluster("short", inbound, |cluster| {
            // A connection for each request.
            cluster.max_requests_per_connection = Some(UInt32Value { value: 1 });
            cluster.transport_socket = originating(trusting(&authority), |_| ());
        })
        .http("out", out, "short", |_, _| ())
        .http("in", inbound, "app", |listener, _| {
            listener.filter_chains[0].transport_socket =
                terminating(inline_context(&short), |_| ());
        });
    let world = World::start(&told).await;
    let status = || async { get(out, "/").await.expect("an answer").status() };
    assert_eq!((status().await, status().await), (200, 200));
    assert_eq!(world.stat("cluster.short.ssl.session_reused").await, 1);

    sleep_until(expires + Duration::from_secs(1)).await;
    assert_eq!(status().await, 503);
    let refused = world.stat("cluster.short.ssl.fail_verify_error").await;
    assert!(refused > 0);
}
