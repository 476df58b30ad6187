//! A control plane in the test's own process: a source of snapshots, and the resources in them.

pub(crate) mod http;
pub(crate) mod resources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_xds::Snapshot;
use periplus_xds::server::{AdsServer, Generation, Limits, NodeRefused, Source};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest that any test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Snapshots by node id.
#[derive(Debug, Default)]
pub(crate) struct Worlds {
    by_node: Mutex<BTreeMap<String, Arc<Snapshot>>>,
    generation: watch::Sender<Generation>,
}

impl Worlds {
    pub(crate) fn set(&self, node: &str, snapshot: Snapshot) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        by_node.insert(node.to_owned(), Arc::new(snapshot));
        self.generation.send_replace(Generation::default());
    }
}

impl Source for Worlds {
    fn snapshot(&self, node: &Node) -> Result<Arc<Snapshot>, NodeRefused> {
        let by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        by_node.get(&node.id).cloned().ok_or_else(|| NodeRefused {
            node: node.id.clone(),
            reason: "the test has no configuration for it".to_owned(),
        })
    }

    fn subscribe(&self) -> watch::Receiver<Generation> {
        self.generation.subscribe()
    }
}

/// A control plane on a free port of loopback.
pub(crate) struct ControlPlane {
    pub(crate) worlds: Arc<Worlds>,
    pub(crate) ads: AdsServer,
    pub(crate) address: SocketAddr,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let worlds = Arc::<Worlds>::default();
        let ads = AdsServer::new(worlds.clone(), Limits::default());
        let serving = ads.clone();
        tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
        Self {
            worlds,
            ads,
            address,
        }
    }

    /// Waits until the node acknowledged all that it was sent.
    pub(crate) async fn in_sync(&self, node: &str) {
        eventually(&format!("{node} to be in sync"), || {
            let proxies = self.ads.proxies();
            let proxy = proxies.iter().find(|proxy| proxy.node.id == node)?;
            let synced = proxy.types.len() == 4
                && proxy.types.values().all(|t| t.acked_nonce == t.sent_nonce);
            synced.then_some(())
        })
        .await;
    }
}

/// Waits until the condition gives a value.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "still waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A port that nobody will ever listen on: it is held, as others could be given it.
pub(crate) fn dead_address() -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a port");
    let address = socket.local_addr().expect("an address");
    // As long as the test runs.
    std::mem::forget(socket);
    address
}

/// A port that nobody listens on yet. It lies below those that the system gives to outgoing connections: one of
/// them could take it before it is listened on.
pub(crate) async fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    // Tests that run beside each other begin in different places.
    let begin = std::process::id().wrapping_mul(101);
    for _ in 0..COUNT {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + next % COUNT).expect("below 65,536");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).await.is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
