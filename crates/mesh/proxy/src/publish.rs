use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::snapshot::{Cluster, Snapshot};

/// The one place where the configuration side hands a snapshot to the workers.
#[derive(Debug)]
pub struct Published {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
    /// Clusters whose endpoints must be checked before they are used.
    warming: watch::Sender<Vec<Arc<Cluster>>>,
    /// Counts up when one of them may be ready.
    checked: watch::Sender<u64>,
}

impl Published {
    /// Publishes the first snapshot.
    pub fn new(first: Snapshot) -> Arc<Self> {
        let generation = watch::Sender::new(first.generation);
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(first),
            generation,
            warming: watch::Sender::default(),
            checked: watch::Sender::default(),
        })
    }

    /// Replaces the snapshot; workers see it at their next request, listeners change at once.
    pub fn publish(&self, next: Snapshot) {
        let generation = next.generation;
        self.snapshot.store(Arc::new(next));
        self.generation.send_replace(generation);
    }

    /// Has the endpoints of these clusters checked, in place of those that were given before.
    pub(crate) fn warm(&self, clusters: Vec<Arc<Cluster>>) {
        self.warming.send_if_modified(|warming| {
            let pairs = warming.iter().zip(&clusters);
            let is_same = warming.len() == clusters.len()
                && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b));
            if !is_same {
                *warming = clusters;
            }
            !is_same
        });
    }

    /// The clusters whose endpoints must be checked before they are used.
    pub(crate) fn warming(&self) -> watch::Receiver<Vec<Arc<Cluster>>> {
        self.warming.subscribe()
    }

    /// All endpoints of a cluster have been checked.
    pub(crate) fn note_checked(&self) {
        self.checked.send_modify(|checked| *checked += 1);
    }

    /// Wakes whoever waits for clusters to be ready.
    pub(crate) fn checked(&self) -> watch::Receiver<u64> {
        self.checked.subscribe()
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
