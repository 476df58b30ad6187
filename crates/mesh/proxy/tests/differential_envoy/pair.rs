//! Two proxies of one control plane: ours, and Envoy.

use std::net::SocketAddr;
use std::path::Path;

use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::Snapshot;
use serde_json::json;

use crate::envoy::Envoy;
use crate::envoy_is_ready;
use crate::xds_support::http::get;
use crate::xds_support::{ControlPlane, PATIENCE};

pub(crate) struct Pair {
    agent: Agent,
    envoy: Envoy,
    _plane: ControlPlane,
}

impl Pair {
    /// Both, ready: the first on the first of the snapshots, Envoy on the other one.
    pub(crate) async fn start(binary: &Path, snapshots: [Snapshot; 2]) -> Self {
        let plane = ControlPlane::start().await;
        let [ours, envoys] = ["ours", "envoys"].map(|node| {
            bootstrap::render(&bootstrap::Spec {
                agent: None,
                node_id: node,
                node_cluster: "test.default",
                metadata: &json!({}),
                control_plane: plane.address,
                admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            })
        });
        for (node, snapshot) in ["ours", "envoys"].into_iter().zip(snapshots) {
            plane.worlds.set(node, snapshot);
        }
        let parsed = bootstrap::parse("ours", &ours).expect("valid");
        let agent = Agent::start(parsed, Options::default()).await;
        let envoy = Envoy::start(binary, &envoys);
        let agent = agent.expect("start");
        let ready = tokio::time::timeout(PATIENCE, agent.ready()).await;
        let refused = || format!("not ready: {:?}", plane.ads.proxies());
        assert!(ready.is_ok(), "{}", refused());
        envoy_is_ready(&envoy).await;
        assert_eq!(plane.ads.counters().nacks, 0, "{}", refused());
        Self {
            agent,
            envoy,
            _plane: plane,
        }
    }

    /// The admin pages of both.
    pub(crate) fn admins(&self) -> [SocketAddr; 2] {
        let admins = [self.agent.admin_address(), self.envoy.admin()];
        admins.map(|admin| admin.expect("an admin port"))
    }
}

/// A number of a proxy's statistics.
pub(crate) async fn stat(admin: SocketAddr, name: &str) -> Option<u64> {
    let stats = get(admin, "/stats").await.expect("stats").body;
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok();
    stats.lines().find_map(value)
}

/// Waits until a number is what it must become.
pub(crate) async fn becomes(admin: SocketAddr, name: &str, expected: u64) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = stat(admin, name).await;
        if found == Some(expected) {
            return;
        }
        let is_late = tokio::time::Instant::now() > deadline;
        assert!(!is_late, "{name} is {found:?}, not {expected}, at {admin}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A head as lines that are the same whenever it is sent.
pub(crate) fn normal(head: &str) -> Vec<String> {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let changing = ["date", "x-request-id", "x-envoy-upstream-service-time"];
    let mut fields: Vec<String> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let name = name.to_ascii_lowercase();
            // How an upgrade is asked for is said anew, whatever stood beside it.
            let is_upgrade = name == "connection" && value.to_ascii_lowercase().contains("upgrade");
            let value = match value.trim() {
                _ if changing.contains(&&*name) => "<any>",
                _ if is_upgrade => "upgrade",
                value => value,
            };
            format!("{name}: {value}")
        })
        .collect();
    fields.sort();
    [vec![first], fields].concat()
}
