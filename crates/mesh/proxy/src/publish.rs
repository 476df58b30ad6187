use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::snapshot::Snapshot;

/// The one place where the configuration side hands a snapshot to the workers.
#[derive(Debug)]
pub struct Published {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
}

impl Published {
    /// Publishes the first snapshot.
    pub fn new(first: Snapshot) -> Arc<Self> {
        let generation = watch::Sender::new(first.generation);
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(first),
            generation,
        })
    }

    /// Replaces the snapshot; workers see it at their next request, listeners change at once.
    pub fn publish(&self, next: Snapshot) {
        let generation = next.generation;
        self.snapshot.store(Arc::new(next));
        self.generation.send_replace(generation);
    }

    /// The snapshot of now. A worker keeps an `arc_swap::Cache` over [`Published::swap`] instead.
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The cell itself, for an `arc_swap::Cache` per worker.
    pub fn swap(&self) -> &ArcSwap<Snapshot> {
        &self.snapshot
    }

    /// Wakes whoever must act on a new generation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
