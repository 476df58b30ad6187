//! A source whose content a test sets, and a server for it on a port of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_xds::Snapshot;
use periplus_xds::server::{AdsServer, Generation, Limits, NodeRefused, Source};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// The longest that any test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The same snapshot for each node, except for a node `refused`.
#[derive(Debug)]
pub(crate) struct Fixed {
    snapshot: Mutex<Arc<Snapshot>>,
    generation: watch::Sender<Generation>,
}

impl Fixed {
    pub(crate) fn new(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            snapshot: Mutex::new(Arc::new(snapshot)),
            generation: watch::Sender::new(Generation::default()),
        })
    }

    pub(crate) fn set(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.generation.send_replace(Generation::default());
    }
}

impl Source for Fixed {
    fn snapshot(&self, node: &Node) -> Result<Arc<Snapshot>, NodeRefused> {
        if node.id == "refused" {
            return Err(NodeRefused {
                node: node.id.clone(),
                reason: "its name is on the list".to_owned(),
            });
        }
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(&snapshot))
    }

    fn subscribe(&self) -> watch::Receiver<Generation> {
        self.generation.subscribe()
    }
}

/// A server on a free port of loopback, or on the address of one that was stopped.
pub(crate) struct Running {
    pub(crate) ads: AdsServer,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(
        source: Arc<dyn Source>,
        limits: Limits,
        at: Option<SocketAddr>,
    ) -> Self {
        let address = at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(address).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let ads = AdsServer::new(source, limits);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = ads.clone();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            serving.serve(listener, shutdown).await.expect("serve");
        });
        Self {
            ads,
            address,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.expect("the server ends");
    }
}

/// Waits until the condition gives a value.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "still waiting for {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
