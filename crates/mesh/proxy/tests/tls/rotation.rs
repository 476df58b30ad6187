//! Certificates that change while requests run.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::UInt32Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::authority::{Authority, Pair};
use crate::client::Client;
use crate::world::{TRUE, Told, World, file, mesh_context, originating, terminating};
use crate::xds_support::http::{Origin, get};
use crate::xds_support::{PATIENCE, free_address};

const ID: &str = "spiffe://cluster.local/ns/default/sa/reviews";

/// Two sidecars with mutual TLS between them, whose identity comes by SDS.
async fn two_sidecars(origin: &Origin) -> (Told, SocketAddr, SocketAddr) {
    let (out, inbound) = (free_address().await, free_address().await);
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .cluster("reviews", inbound, |cluster| {
            cluster.transport_socket = originating(mesh_context(&[ID]), |_| ());
        })
        .http("out", out, "reviews", |_, _| ())
        .http("in", inbound, "app", |listener, _| {
            let context = mesh_context(&["spiffe://cluster.local/"]);
            listener.filter_chains[0].transport_socket =
                terminating(context, |tls| tls.require_client_certificate = TRUE);
        });
    (told, out, inbound)
}

/// Sends requests until it is told to end: how many, all of them answered.
fn traffic<F>(done: &Arc<AtomicBool>, request: impl Fn() -> F + Send + 'static) -> JoinHandle<u32>
where
    F: Future<Output = u16> + Send,
{
    let done = done.clone();
    tokio::spawn(async move {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            let status = request().await;
            assert_eq!(status, 200, "after {count} requests");
            count += 1;
        }
        count
    })
}

#[tokio::test]
async fn no_request_fails_while_certificates_change_every_200_ms() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let (told, out, inbound) = two_sidecars(&origin).await;
    let world = World::start(&told.clone().identity(&authority, &authority.workload(ID))).await;
    let done = Arc::new(AtomicBool::new(false));

    // A connection that stands all the time.
    let own = authority.workload(ID);
    let client = Client::credulous("x", Some(&own), &[]);
    let mut long = client.connect(inbound).await.expect("a connection");
    // New connections, with a handshake each; and requests over the two sidecars.
    let direct = traffic(&done, {
        let client = Arc::new(Client::credulous("x", Some(&own), &[]));
        move || {
            let client = client.clone();
            async move { client.get(inbound, "/").await.expect("an answer").status() }
        }
    });
    let meshed = traffic(&done, move || async move {
        get(out, "/").await.expect("an answer").status()
    });

    let begin = Instant::now();
    let mut last = String::new();
    for _ in 0..12 {
        let pair = authority.workload(ID);
        world.tell(&told.clone().identity(&authority, &pair));
        last = pair.chain;
        sleep(Duration::from_millis(200)).await;
    }
    assert!(begin.elapsed() >= Duration::from_secs(2));
    world.plane.ads.proxies();
    done.store(true, Ordering::Relaxed);
    let (direct, meshed) = (
        direct.await.expect("none fails"),
        meshed.await.expect("none fails"),
    );
    assert!(direct > 20 && meshed > 20, "{direct} and {meshed} requests");

    // The connection of before has its old certificate, and goes on.
    let request = "GET /long HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    long.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    long.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A new one has the new certificate.
    shows(&client, inbound, &last).await;
    for counter in [
        "connection_error",
        "fail_verify_error",
        "fail_verify_san",
        "fail_verify_no_cert",
    ] {
        assert_eq!(
            world.stat(&format!("listener.in.ssl.{counter}")).await,
            0,
            "{counter}"
        );
        assert_eq!(
            world.stat(&format!("cluster.reviews.ssl.{counter}")).await,
            0,
            "{counter}"
        );
    }
    assert!(world.stat("sds.update_success").await > 10);
}

/// Certificates of a few seconds are replaced before they expire, with a handshake for each request: none fails, until
/// nobody replaces them any more.
#[expect(deprecated, reason = "the short form does")]
#[tokio::test]
async fn certificates_that_expire_under_load_are_replaced_in_time_and_of_no_use_afterwards() {
    const LIFE: Duration = Duration::from_secs(4);
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let (out, inbound) = (free_address().await, free_address().await);
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .cluster("reviews", inbound, |cluster| {
            cluster.common_http_protocol_options = Some(HttpProtocolOptions {
                max_requests_per_connection: Some(UInt32Value { value: 1 }),
                ..Default::default()
            });
            // A session that is resumed is one whose certificates nobody looks at again.
            cluster.transport_socket = originating(mesh_context(&[ID]), |tls| {
                tls.max_session_keys = Some(UInt32Value { value: 0 });
            });
        })
        .http("out", out, "reviews", |_, _| ())
        .http("in", inbound, "app", |listener, _| {
            let context = mesh_context(&["spiffe://cluster.local/"]);
            listener.filter_chains[0].transport_socket =
                terminating(context, |tls| tls.require_client_certificate = TRUE);
        });
    let short_lived = || {
        let pair = authority.short_lived(ID, LIFE);
        told.clone().identity(&authority, &pair)
    };
    let world = World::start(&short_lived()).await;
    let begin = Instant::now();
    let done = Arc::new(AtomicBool::new(false));
    let meshed = traffic(&done, move || async move {
        get(out, "/").await.expect("an answer").status()
    });
    while begin.elapsed() < LIFE + Duration::from_millis(1500) {
        sleep(Duration::from_millis(500)).await;
        world.tell(&short_lived());
    }
    done.store(true, Ordering::Relaxed);
    assert!(meshed.await.expect("none fails") > 10);
    let failures = async || {
        world.stat("cluster.reviews.ssl.fail_verify_error").await
            + world.stat("cluster.reviews.ssl.connection_error").await
    };
    assert_eq!(failures().await, 0);
    let deadline = Instant::now() + PATIENCE;
    while get(out, "/").await.expect("an answer").status() == 200 {
        assert!(Instant::now() < deadline, "they never expire");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(failures().await > 0, "which is counted");
}

/// Waits until a server shows this certificate.
pub(crate) async fn shows(client: &Client, at: SocketAddr, chain: &str) {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let expected = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stream = client.connect(at).await.expect("a connection");
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .expect("a certificate");
        if shown[0] == expected {
            return;
        }
        assert!(Instant::now() < deadline, "still the former certificate");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_root_that_is_taken_away_is_trusted_no_more() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let origin = Origin::start("app").await;
    let (told, _, inbound) = two_sidecars(&origin).await;
    let world = World::start(&told.clone().identity(&old, &old.workload(ID))).await;
    let own = old.workload(ID);
    // The client keeps its session: it must not bring it past the new root.
    let client = Client::credulous("x", Some(&own), &[]);
    assert_eq!(
        client.get(inbound, "/").await.expect("an answer").status(),
        200
    );
    world.tell(&told.identity(&new, &new.workload(ID)));
    let deadline = Instant::now() + PATIENCE;
    while client.get(inbound, "/").await.is_ok() {
        assert!(Instant::now() < deadline, "the old root is still trusted");
        sleep(Duration::from_millis(10)).await;
    }
    world
        .wait_stat("listener.in.ssl.fail_verify_error", 1)
        .await;
    assert_eq!(world.stat("listener.in.ssl.connection_error").await, 0);
}

fn write(directory: &Path, pair: &Pair) {
    std::fs::write(directory.join("cert.pem"), &pair.chain).expect("written");
    std::fs::write(directory.join("key.pem"), &pair.key).expect("written");
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_not_before_they_fit() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (first, second) = (authority.server("a"), authority.server("a"));
    write(path, &first);
    let at = free_address().await;
    let told = Told::default().cluster("app", origin.address, |_| ()).http(
        "l",
        at,
        "app",
        |listener, _| {
            let context = tls::CommonTlsContext {
                tls_certificates: vec![tls::TlsCertificate {
                    certificate_chain: file(&path.join("cert.pem")),
                    private_key: file(&path.join("key.pem")),
                    ..Default::default()
                }],
                ..Default::default()
            };
            listener.filter_chains[0].transport_socket = terminating(context, |_| ());
        },
    );
    let world = World::start(&told).await;
    let client = Client::of(&authority, "a");
    shows(&client, at, &first.chain).await;
    // A certificate without its key is not used.
    std::fs::write(path.join("cert.pem"), &second.chain).expect("written");
    sleep(Duration::from_millis(1500)).await;
    shows(&client, at, &first.chain).await;
    std::fs::write(path.join("key.pem"), &second.key).expect("written");
    shows(&client, at, &second.chain).await;
    // One that is gone changes nothing.
    std::fs::remove_file(path.join("key.pem")).expect("removed");
    sleep(Duration::from_millis(1500)).await;
    shows(&client, at, &second.chain).await;
    assert_eq!(world.stat("listener.l.ssl.connection_error").await, 0);
}
