//! The control plane comes, goes, comes back, and never answers; the proxy goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::fake::{Fake, Plane};
use super::*;

async fn start_with(
    control_plane: SocketAddr,
    api_type: &str,
    cache: Option<&Path>,
) -> (Agent, SocketAddr) {
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: NODE,
        node_cluster: "test.default",
        metadata: &json!({}),
        control_plane,
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
    });
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    file["dynamic_resources"]["ads_config"]["api_type"] = json!(api_type);
    let bootstrap = bootstrap::parse("test", &file.to_string()).expect("valid");
    let options = Options {
        config_cache: cache.map(Path::to_owned),
        ..Options::default()
    };
    let agent = Agent::start(bootstrap, options).await.expect("start");
    let admin = agent.admin_address().expect("an admin address");
    (agent, admin)
}

/// Offers what [`world`] does, resource by resource.
fn offer(plane: &Plane, version: &str, snapshot: &Snapshot) {
    for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE] {
        for resource in snapshot.of_type(type_url).iter() {
            plane.set(type_url, resource.name(), version, resource.body().clone());
        }
    }
}

async fn stat(admin: SocketAddr, name: &str) -> u64 {
    let text = page(admin, &format!("/stats?filter=^{name}$")).await.body;
    let value = text
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text:?}"))
}

async fn wait_stat(admin: SocketAddr, name: &str, least: u64) {
    let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
    loop {
        let value = stat(admin, name).await;
        if value >= least {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{name} is still {value}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn serve(plane: &Plane) -> Fake {
    plane.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// Sends requests until told to stop: how many, each of which must have been answered with 200.
fn load(at: SocketAddr) -> (Arc<AtomicBool>, Arc<AtomicU64>, tokio::task::JoinHandle<()>) {
    let (done, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let task = tokio::spawn({
        let (done, sent) = (done.clone(), sent.clone());
        async move {
            while !done.load(Ordering::Relaxed) {
                let answer = get(at, "/").await.expect("an answer");
                assert_eq!(answer.status(), 200, "{}", answer.body);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (done, sent, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_is_killed_and_restarted_under_load() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let at = free_address().await;
    let plane = Plane::default();
    offer(&plane, "1", &world("c", one.address, at));
    let server = serve(&plane).await;
    let address = server.address;
    let (agent, admin) = start_with(address, "DELTA_GRPC", None).await;
    agent.ready().await;
    assert_eq!(stat(admin, "control_plane.connected_state").await, 1);
    let (done, sent, traffic) = load(at);
    let mut server = Some(server);
    for round in 0..4_u32 {
        drop(server.take());
        let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
        while stat(admin, "control_plane.connected_state").await == 1 {
            assert!(tokio::time::Instant::now() < deadline, "it does not notice");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let before = sent.load(Ordering::Relaxed);
        eventually("requests without a control plane", || {
            (sent.load(Ordering::Relaxed) > before + 5).then_some(())
        })
        .await;
        // Meanwhile another cluster has taken the place of the first.
        let (cluster, gone, to, body) = match round % 2 {
            0 => ("d", "c", two.address, "two got 0 bytes"),
            _ => ("c", "d", one.address, "one got 0 bytes"),
        };
        offer(&plane, &format!("round {round}"), &world(cluster, to, at));
        server = Some(plane.serve(address).await);
        answers(at, body).await;
        // Nothing leads there any more.
        plane.remove(CLUSTER, gone);
        plane.remove(ENDPOINT, gone);
    }
    done.store(true, Ordering::Relaxed);
    traffic.await.expect("no request was lost");
    assert_eq!(stat(admin, "cluster_manager.cds.update_rejected").await, 0);
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_configuration_is_started_on_without_a_control_plane() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = directory.path().join("config");
        let origin = Origin::start("one").await;
        let at = free_address().await;
        let snapshot = world("c", origin.address, at);
        let delta = Plane::default();
        offer(&delta, "1", &snapshot);
        let (whole, incremental) = (ControlPlane::start().await, serve(&delta).await);
        whole.worlds.set(NODE, snapshot);
        let is_delta = api_type == "DELTA_GRPC";
        let address = if is_delta {
            incremental.address
        } else {
            whole.address
        };
        let (agent, admin) = start_with(address, api_type, Some(&cache)).await;
        agent.ready().await;
        assert_eq!(stat(admin, "config_cache.loaded").await, 0);
        wait_stat(admin, "config_cache.written", 1).await;
        // Written once more if the last response came later than the first file.
        tokio::time::sleep(Duration::from_millis(600)).await;
        agent.shutdown(Duration::from_secs(1)).await;

        // Nobody is there, and nothing of it is asked for.
        let nowhere = free_address().await;
        let (agent, admin) = start_with(nowhere, api_type, Some(&cache)).await;
        tokio::time::timeout(xds_support::PATIENCE, agent.ready())
            .await
            .expect("ready");
        answers(at, "one got 0 bytes").await;
        assert_eq!(stat(admin, "config_cache.loaded").await, 1);
        assert_eq!(stat(admin, "control_plane.connected_state").await, 0);
        agent.shutdown(Duration::from_secs(1)).await;

        if is_delta {
            // What is on disk is not sent again.
            let before = delta.sent("l");
            let (agent, admin) = start_with(address, api_type, Some(&cache)).await;
            agent.ready().await;
            wait_stat(admin, "cluster_manager.cds.update_success", 1).await;
            let first = delta
                .requests()
                .into_iter()
                .rev()
                .find(|one| one.node.is_some());
            let held = first.expect("a stream").initial_resource_versions;
            assert_eq!(held.get("c").map(String::as_str), Some("1"));
            answers(at, "one got 0 bytes").await;
            assert_eq!(delta.sent("l"), before);
            agent.shutdown(Duration::from_secs(1)).await;
        }

        // A damaged file is as good as none.
        let mut bytes = std::fs::read(&cache).expect("the file");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&cache, bytes).expect("write");
        let (agent, admin) = start_with(address, api_type, Some(&cache)).await;
        agent.ready().await;
        assert_eq!(stat(admin, "config_cache.loaded").await, 0);
        assert_eq!(stat(admin, "config_cache.rejected").await, 1);
        answers(at, "one got 0 bytes").await;
        agent.shutdown(Duration::from_secs(1)).await;
    }
}

/// One cluster that is refused must not keep the others off the disk, nor off the page of what is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_good_of_a_refused_response_is_kept() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = directory.path().join("config");
        let origin = Origin::start("one").await;
        let at = free_address().await;
        let clusters = ResourceSet::from_iter([
            eds_cluster("c", |_| ()),
            eds_cluster("bad", |cluster| cluster.lb_policy = 99),
        ]);
        let snapshot = world("c", origin.address, at).with(CLUSTER, clusters);
        let delta = Plane::default();
        offer(&delta, "1", &snapshot);
        let (whole, incremental) = (ControlPlane::start().await, serve(&delta).await);
        whole.worlds.set(NODE, snapshot);
        let address = match api_type {
            "GRPC" => whole.address,
            _ => incremental.address,
        };
        let (agent, admin) = start_with(address, api_type, Some(&cache)).await;
        answers(at, "one got 0 bytes").await;
        wait_stat(admin, "cluster_manager.cds.update_rejected", 1).await;
        let dump = page(admin, "/config_dump?resource=dynamic_active_clusters").await;
        assert!(dump.body.contains(r#""name":"c""#), "{}", dump.body);
        assert!(!dump.body.contains(r#""name":"bad""#), "{}", dump.body);
        wait_stat(admin, "config_cache.written", 1).await;
        // Written once more if the last response came later than the first file.
        tokio::time::sleep(Duration::from_millis(600)).await;
        agent.shutdown(Duration::from_secs(1)).await;

        let (agent, admin) = start_with(free_address().await, api_type, Some(&cache)).await;
        answers(at, "one got 0 bytes").await;
        assert_eq!(stat(admin, "config_cache.loaded").await, 1);
        agent.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_never_answers_stops_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = directory.path().join("config");
    let origin = Origin::start("one").await;
    let at = free_address().await;
    let plane = Plane::default();
    offer(&plane, "1", &world("c", origin.address, at));
    let server = serve(&plane).await;
    let (agent, admin) = start_with(server.address, "DELTA_GRPC", Some(&cache)).await;
    agent.ready().await;
    wait_stat(admin, "config_cache.written", 1).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    agent.shutdown(Duration::from_secs(1)).await;

    plane.be_silent(true);
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let (agent, admin) = start_with(server.address, api_type, Some(&cache)).await;
        agent.ready().await;
        answers(at, "one got 0 bytes").await;
        wait_stat(admin, "control_plane.connected_state", 1).await;
        agent.shutdown(Duration::from_secs(1)).await;
        // Without a file there is nothing to serve, and that is said.
        let (agent, admin) = start_with(server.address, api_type, None).await;
        wait_stat(admin, "control_plane.connected_state", 1).await;
        assert_eq!(page(admin, "/ready").await.status(), 503);
        agent.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_cluster_whose_endpoints_are_checked_is_used_once_they_are() {
    use envoy_types::pb::envoy::config::core::v3::health_check::{HealthChecker, HttpHealthCheck};
    use envoy_types::pb::google::protobuf::{Duration as Time, UInt32Value};

    let plane = ControlPlane::start().await;
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let at = free_address().await;
    plane.worlds.set(NODE, world("c", one.address, at));
    let (agent, admin) = start(plane.address).await;
    agent.ready().await;
    let (done, _, traffic) = load(at);
    let number = |value| Some(UInt32Value { value });
    let checked = eds_cluster("c", |cluster| {
        cluster.health_checks = vec![envoy_types::pb::envoy::config::core::v3::HealthCheck {
            timeout: Some(Time {
                seconds: 5,
                nanos: 0,
            }),
            interval: Some(Time {
                seconds: 0,
                nanos: 20_000_000,
            }),
            no_traffic_interval: Some(Time {
                seconds: 0,
                nanos: 20_000_000,
            }),
            unhealthy_threshold: number(2),
            healthy_threshold: number(1),
            health_checker: Some(HealthChecker::HttpHealthCheck(HttpHealthCheck {
                path: "/healthz".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        }];
    });
    // Another endpoint and checks at once: no request may find an endpoint that was not checked yet.
    let with_checks = |to| {
        let only = |resource: Resource| ResourceSet::from_iter([resource]);
        world("c", to, at).with(CLUSTER, only(checked.clone()))
    };
    plane.worlds.set(NODE, with_checks(two.address));
    answers(at, "two got 0 bytes").await;
    wait_stat(admin, "cluster.c.health_check.success", 2).await;
    // The endpoint leaves the configuration, and serves for as long as it passes its checks.
    plane.worlds.set(NODE, with_checks(one.address));
    wait_stat(admin, "cluster.c.membership_total", 2).await;
    done.store(true, Ordering::Relaxed);
    traffic.await.expect("no request was lost");
    agent.shutdown(Duration::from_secs(1)).await;
}
