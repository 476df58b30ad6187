//! A whole proxy under a control plane: ready when configured, following changes, keeping what is good,
//! and telling about it on the admin pages.

mod authorizer;
mod control_plane;
mod ending;
#[path = "../../../xds/tests/support/fake.rs"]
mod fake;
mod flags;
mod harm;
mod lifecycle;
mod metrics;
mod overload;
mod pages;
mod prometheus;
#[path = "../xds_support/mod.rs"]
mod xds_support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use serde_json::json;
use xds_support::http::{Message, Origin, exchange, get};
use xds_support::resources::{
    a_route, eds_cluster, endpoints, listener, manager, path_prefix, route_configuration,
    to_cluster,
};
use xds_support::{ControlPlane, dead_address, eventually, free_address};

const NODE: &str = "sidecar~127.0.0.1~test.default~default.svc.cluster.local";

async fn start(control_plane: SocketAddr) -> (Agent, SocketAddr) {
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: NODE,
        node_cluster: "test.default",
        metadata: &json!({}),
        control_plane,
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
    });
    let bootstrap = bootstrap::parse("test", &text).expect("valid");
    let agent = Agent::start(bootstrap, Options::default())
        .await
        .expect("start");
    let admin = agent.admin_address().expect("an admin address");
    (agent, admin)
}

fn world(cluster: &str, origin: SocketAddr, at: SocketAddr) -> Snapshot {
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    let to = a_route(path_prefix("/"), to_cluster(cluster));
    let accepts = listener("l", at, TrafficDirection::Outbound, manager("r"));
    Snapshot::default()
        .with(CLUSTER, only(eds_cluster(cluster, |_| ())))
        .with(ENDPOINT, only(endpoints(cluster, &[origin])))
        .with(LISTENER, only(Resource::new("l", &accepts)))
        .with(ROUTE, only(route_configuration("r", vec![to])))
}

async fn page(admin: SocketAddr, path: &str) -> Message {
    get(admin, path).await.expect("an answer")
}

async fn answers(at: SocketAddr, body: &str) {
    let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
    loop {
        let answer = get(at, "/").await;
        if answer.as_ref().is_ok_and(|answer| answer.body == body) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "still waiting for {body:?}: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn from_nothing_to_ready_and_through_changes() {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("one").await;
    let at = free_address().await;
    let (agent, admin) = start(plane.address).await;
    let unready = page(admin, "/ready").await;
    assert_eq!(
        (unready.status(), unready.body.as_str()),
        (503, "PRE_INITIALIZING\n")
    );

    plane.worlds.set(NODE, world("c", origin.address, at));
    agent.ready().await;
    assert_eq!(page(admin, "/ready").await.body, "LIVE\n");
    assert_eq!(
        get(at, "/").await.expect("an answer").body,
        "one got 0 bytes"
    );
    assert_eq!(origin.take().len(), 1);
    assert_eq!(page(admin, "/listeners").await.body, format!("l::{at}\n"));
    let clusters = page(admin, "/clusters").await.body;
    assert!(
        clusters.contains(&format!("c::{}::health_flags::healthy\n", origin.address)),
        "{clusters}"
    );
    let stats = page(admin, "/stats?filter=^listener_manager").await.body;
    assert!(
        stats.contains("listener_manager.lds.update_success: 1\n"),
        "{stats}"
    );
    assert!(
        stats.contains("listener_manager.total_listeners_active: 1\n"),
        "{stats}"
    );
    let metrics = page(admin, "/stats/prometheus").await.body;
    assert!(metrics.contains("envoy_server_live 1\n"), "{metrics}");
    assert_eq!(page(admin, "/nothing").await.status(), 404);

    // No request is lost while clusters come and go.
    let two = Origin::start("two").await;
    let done = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn({
        let done = done.clone();
        async move {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                let answer = get(at, "/").await.expect("an answer");
                assert_eq!(
                    answer.status(),
                    200,
                    "after {sent} requests: {}",
                    answer.body
                );
                sent += 1;
            }
            sent
        }
    });
    for round in 0..10 {
        let (cluster, to, body) = match round % 2 {
            0 => ("d", two.address, "two got 0 bytes"),
            _ => ("c", origin.address, "one got 0 bytes"),
        };
        plane.worlds.set(NODE, world(cluster, to, at));
        answers(at, body).await;
        plane.in_sync(NODE).await;
    }
    done.store(true, Ordering::Relaxed);
    assert!(traffic.await.expect("no request was lost") > 10);
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_is_refused_is_told_and_changes_nothing() {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("one").await;
    let at = free_address().await;
    plane.worlds.set(NODE, world("c", origin.address, at));
    let (agent, admin) = start(plane.address).await;
    agent.ready().await;

    let mut unsupported = manager("r");
    unsupported.skip_xff_append = true;
    let refused = listener("l", at, TrafficDirection::Outbound, unsupported);
    let bad = world("c", origin.address, at).with(
        LISTENER,
        ResourceSet::from_iter([Resource::new("l", &refused)]),
    );
    plane.worlds.set(NODE, bad);
    let nack = eventually("the refusal", || {
        plane
            .ads
            .proxies()
            .pop()?
            .types
            .get(LISTENER)?
            .last_error
            .clone()
    })
    .await;
    let expected = "listener \"l\": filter_chains[0].filters[0].skip_xff_append: is not supported";
    assert_eq!(nack.message, expected);
    assert_eq!(get(at, "/").await.expect("an answer").status(), 200);
    assert_eq!(page(admin, "/ready").await.status(), 200);
    let dump: serde_json::Value =
        serde_json::from_str(&page(admin, "/config_dump").await.body).expect("JSON");
    let types = dump["control_plane"]["types"].as_array().expect("types");
    let listeners = types
        .iter()
        .find(|known| known["type"] == "LDS")
        .expect("listeners");
    assert_eq!(listeners["error_state"]["details"][0], expected);
    assert_eq!(
        dump["configs"][2]["dynamic_listeners"][0]["active_state"]["listener"]["name"],
        "l"
    );
    let stats = page(admin, "/stats").await.body;
    assert!(
        stats.contains("listener_manager.lds.update_rejected: 1\n"),
        "{stats}"
    );
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_proxy_can_be_told_to_be_not_ready() {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("one").await;
    let at = free_address().await;
    plane.worlds.set(NODE, world("c", origin.address, at));
    let (agent, admin) = start(plane.address).await;
    agent.ready().await;
    for (path, status, state) in [("fail", 503, "DRAINING\n"), ("ok", 200, "LIVE\n")] {
        let request = format!(
            "POST /healthcheck/{path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(
            exchange(admin, &request).await.expect("an answer").body,
            "OK\n"
        );
        let ready = page(admin, "/ready").await;
        assert_eq!((ready.status(), ready.body.as_str()), (status, state));
        // Requests that come all the same are served.
        assert_eq!(get(at, "/").await.expect("an answer").status(), 200);
    }
    agent.shutdown(Duration::from_secs(1)).await;
}

async fn post(admin: SocketAddr, path: &str) -> Message {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    exchange(admin, &request).await.expect("an answer")
}

#[tokio::test]
async fn what_is_waited_for_is_told_and_counters_begin_anew() {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("one").await;
    let at = free_address().await;
    let whole = world("c", origin.address, at);
    let without_endpoints = whole.clone().with(ENDPOINT, ResourceSet::default());
    plane.worlds.set(NODE, without_endpoints);
    let (agent, admin) = start(plane.address).await;
    let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
    let waiting = loop {
        let dump = page(admin, "/init_dump").await.body;
        let dump: serde_json::Value = serde_json::from_str(&dump).expect("JSON");
        let names = &dump["unready_targets_dumps"][0]["target_names"];
        if names
            .as_array()
            .is_some_and(|names| names.contains(&json!("Cluster c")))
        {
            break dump;
        }
        assert!(tokio::time::Instant::now() < deadline, "{dump}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let name = &waiting["unready_targets_dumps"][0]["name"];
    assert_eq!(name, "init manager Server", "{waiting}");
    plane.worlds.set(NODE, whole);
    agent.ready().await;
    assert_eq!(page(admin, "/init_dump").await.body, "{}");
    let runtime = page(admin, "/runtime").await;
    assert_eq!(runtime.header("content-type"), Some("application/json"));
    let runtime: serde_json::Value = serde_json::from_str(&runtime.body).expect("JSON");
    assert_eq!(runtime, json!({"entries": {}, "layers": []}));

    let counted = async || {
        let stats = page(
            admin,
            "/stats?filter=^http.test.downstream_rq_total$|^server.live$",
        )
        .await;
        stats.body
    };
    get(at, "/").await.expect("an answer");
    get(at, "/").await.expect("an answer");
    assert_eq!(
        counted().await,
        "http.test.downstream_rq_total: 2\nserver.live: 1\n"
    );
    assert_eq!(page(admin, "/reset_counters").await.status(), 405);
    assert_eq!(post(admin, "/reset_counters").await.body, "OK\n");
    assert_eq!(
        counted().await,
        "http.test.downstream_rq_total: 0\nserver.live: 1\n"
    );
    get(at, "/").await.expect("an answer");
    assert_eq!(
        counted().await,
        "http.test.downstream_rq_total: 1\nserver.live: 1\n"
    );

    assert_eq!(page(admin, "/logging").await.status(), 405);
    let refused = post(admin, "/logging").await;
    let expected = "this program's log cannot be changed while it runs\n";
    assert_eq!((refused.status(), refused.body.as_str()), (501, expected));
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn quitting_is_asked_for_by_post() {
    let plane = ControlPlane::start().await;
    let (agent, admin) = start(plane.address).await;
    assert_eq!(page(admin, "/quitquitquit").await.status(), 405);
    let request =
        "POST /quitquitquit HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(
        exchange(admin, request).await.expect("an answer").body,
        "OK\n"
    );
    agent.quit_requested().await;
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_taken_admin_port_is_an_error_that_names_it() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let address = taken.local_addr().expect("address");
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: NODE,
        node_cluster: "test.default",
        metadata: &json!({}),
        control_plane: address,
        admin: address,
    });
    let bootstrap = bootstrap::parse("test", &text).expect("valid");
    let error = Agent::start(bootstrap, Options::default())
        .await
        .expect_err("taken");
    let expected = format!(
        "cannot listen on {address} for the admin pages (admin.address in the bootstrap file)"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_listener_that_cannot_bind_is_named_and_tried_again() {
    let plane = ControlPlane::start().await;
    let origin = Origin::start("one").await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let at = taken.local_addr().expect("address");
    plane.worlds.set(NODE, world("c", origin.address, at));
    let (agent, admin) = start(plane.address).await;
    let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
    loop {
        let dump = page(admin, "/config_dump").await.body;
        let dump: serde_json::Value = serde_json::from_str(&dump).expect("JSON");
        let state = &dump["configs"][2]["dynamic_listeners"][0]["error_state"]["details"];
        let expected = format!("cannot listen on {at}: ");
        if state
            .as_str()
            .is_some_and(|details| details.starts_with(&expected))
        {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no error is told: {dump:#}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(page(admin, "/ready").await.status(), 503);
    drop(taken);
    agent.ready().await;
    answers(at, "one got 0 bytes").await;
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn endpoints_are_found_by_their_names() {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::{
        ClusterDiscoveryType, DiscoveryType, DnsLookupFamily,
    };
    let origin = Origin::start("one").await;
    let port = origin.address.port();
    for kind in [DiscoveryType::StrictDns, DiscoveryType::LogicalDns] {
        let plane = ControlPlane::start().await;
        let at = free_address().await;
        let named = eds_cluster("c", |cluster| {
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
            cluster.eds_cluster_config = None;
            cluster.dns_lookup_family = DnsLookupFamily::V4Only as i32;
            cluster.load_assignment = Some(named_endpoint("localhost", port));
        });
        let world = world("c", origin.address, at)
            .with(CLUSTER, ResourceSet::from_iter([named]))
            .with(ENDPOINT, ResourceSet::default());
        plane.worlds.set(NODE, world);
        let (agent, admin) = start(plane.address).await;
        // The name is looked up before the listener opens: no request is lost to that.
        agent.ready().await;
        let answer = get(at, "/").await.expect("an answer");
        assert_eq!(answer.body, "one got 0 bytes", "{kind:?}");
        let clusters = page(admin, "/clusters").await.body;
        let endpoint = format!("c::127.0.0.1:{port}::health_flags::healthy\n");
        assert!(clusters.contains(&endpoint), "{kind:?}: {clusters}");
        agent.shutdown(Duration::from_secs(1)).await;
    }
}

/// One endpoint whose address is looked up.
fn named_endpoint(name: &str, port: u16) -> ClusterLoadAssignment {
    use envoy_types::pb::envoy::config::core::v3::address::Address;
    use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
    use prost::Message as _;

    let by_address = endpoints("c", &[([127, 0, 0, 1], port).into()]);
    let bytes = by_address.body().value.as_slice();
    let mut made = ClusterLoadAssignment::decode(bytes).expect("valid");
    let endpoint = &mut made.endpoints[0].lb_endpoints[0];
    if let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier
        && let Some(address) = &mut endpoint.address
        && let Some(Address::SocketAddress(socket)) = &mut address.address
    {
        name.clone_into(&mut socket.address);
    }
    made
}
