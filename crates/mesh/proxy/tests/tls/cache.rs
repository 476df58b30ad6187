//! The last good configuration on disk, and the secrets that it needs.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use periplus_proxy::Options;
use serde_json::json;

use crate::authority::Authority;
use crate::client::Client;
use crate::world::{NODE, TRUE, Told, World, mesh_context, terminating};
use crate::xds_support::http::Origin;
use crate::xds_support::{ControlPlane, PATIENCE, free_address};

const ID: &str = "spiffe://cluster.local/ns/default/sa/reviews";

#[tokio::test]
async fn no_private_key_is_kept_and_a_start_waits_for_it() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let at = free_address().await;
    let pair = authority.workload(ID);
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .http("in", at, "app", |listener, _| {
            let context = mesh_context(&["spiffe://cluster.local/"]);
            listener.filter_chains[0].transport_socket =
                terminating(context, |tls| tls.require_client_certificate = TRUE);
        })
        .identity(&authority, &pair);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config");
    let options = Options {
        config_cache: Some(file.clone()),
        ..Options::default()
    };
    let client = Client::credulous("x", Some(&pair), &[]);

    let plane = ControlPlane::start().await;
    plane.worlds.set(NODE, told.snapshot());
    let world = World::under(plane, json!([]), options.clone()).await;
    tokio::time::timeout(PATIENCE, world.agent.ready())
        .await
        .expect("it becomes ready");
    let answer = client.get(at, "/").await.expect("an answer");
    assert_eq!(answer.status(), 200);
    // All of it has come, and what comes later is written at most once more.
    let has = |bytes: &[u8], text: &str| {
        let text = text.as_bytes();
        bytes.windows(text.len()).any(|window| window == text)
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let kept = loop {
        let kept = std::fs::read(&file).unwrap_or_default();
        if has(&kept, "routes of in") && has(&kept, "RouteConfiguration") {
            break kept;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing is kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(!has(&kept, "PRIVATE KEY"));
    assert!(!has(&kept, "BEGIN CERTIFICATE"));
    let mode = std::fs::metadata(&file).expect("a file").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    world.agent.shutdown(Duration::from_secs(1)).await;

    // The control plane is there, and has nothing for it yet.
    let world = World::under(ControlPlane::start().await, json!([]), options).await;
    assert_eq!(world.stat("config_cache.loaded").await, 1);
    assert_eq!(world.stat("config_cache.rejected").await, 0);
    client
        .get(at, "/")
        .await
        .expect_err("there is no certificate yet");
    world.tell(&told);
    tokio::time::timeout(PATIENCE, world.agent.ready())
        .await
        .expect("it becomes ready");
    let answer = client.get(at, "/").await.expect("an answer");
    assert_eq!(answer.status(), 200);
}
