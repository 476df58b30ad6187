//! Secrets by the incremental form of ADS.

use std::net::SocketAddr;

use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::Resource;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use serde_json::{Value, json};

use crate::authority::{Authority, Pair};
use crate::client::Client;
use crate::fake::Plane;
use crate::world::{NODE, TRUE, Told, certificate_secret, mesh_context, terminating};
use crate::xds_support::http::{Origin, get};
use crate::xds_support::{PATIENCE, free_address};

const ID: &str = "spiffe://cluster.local/ns/default/sa/reviews";
const NEXT: &str = "spiffe://cluster.local/ns/default/sa/ratings";

async fn start(control_plane: SocketAddr) -> Agent {
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: NODE,
        node_cluster: "test.default",
        metadata: &json!({}),
        control_plane,
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
    });
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    file["dynamic_resources"]["ads_config"]["api_type"] = json!("DELTA_GRPC");
    let bootstrap = bootstrap::parse("test", &file.to_string()).expect("valid");
    Agent::start(bootstrap, Options::default())
        .await
        .expect("start")
}

fn offer(plane: &Plane, version: &str, resource: &Resource) {
    let body = resource.body().clone();
    plane.set(SECRET, resource.name(), version, body);
}

/// Waits until a page of the admin port says something.
async fn says(admin: SocketAddr, path: &str, text: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let page = get(admin, path).await.expect("an answer").body;
        if page.contains(text) {
            return;
        }
        let is_late = tokio::time::Instant::now() >= deadline;
        assert!(!is_late, "{path} does not say {text}:\n{page}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn serves(at: SocketAddr, pair: &Pair) {
    let client = Client::credulous("x", Some(pair), &[]);
    let answer = client.get(at, "/").await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn secrets_come_change_and_stay_by_the_incremental_form() {
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
    let plane = Plane::default();
    let snapshot = told.snapshot();
    for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET] {
        for resource in snapshot.of_type(type_url).iter() {
            plane.set(type_url, resource.name(), "1", resource.body().clone());
        }
    }
    let server = plane.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let control_plane = server.address;
    let agent = start(control_plane).await;
    let admin = agent.admin_address().expect("an admin address");
    tokio::time::timeout(PATIENCE, agent.ready())
        .await
        .expect("it becomes ready");
    serves(at, &pair).await;
    says(admin, "/certs", ID).await;

    let next = certificate_secret("default", &authority.workload(NEXT));
    offer(&plane, "2", &next);
    says(admin, "/certs", NEXT).await;
    serves(at, &pair).await;

    // What is taken away stays for as long as a listener wants it.
    plane.remove(SECRET, "default");
    let offered = certificate_secret("unwanted", &pair);
    offer(&plane, "1", &offered);
    says(admin, "/stats", "sds.update_success: 3").await;
    serves(at, &pair).await;

    // After a lost stream only what has changed comes.
    drop(server);
    says(admin, "/stats", "control_plane.connected_state: 0").await;
    offer(&plane, "3", &certificate_secret("default", &pair));
    let _server = plane.serve(control_plane).await;
    says(admin, "/certs", ID).await;
    serves(at, &pair).await;
    assert_eq!(plane.sent("ROOTCA"), 1);
    assert_eq!(plane.sent("default"), 3);
    assert_eq!(plane.sent("unwanted"), 0);
    says(admin, "/stats", "sds.update_rejected: 0").await;
}
