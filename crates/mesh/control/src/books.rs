//! What is counted and measured of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use periplus_resources::Kind;
use periplus_xds::server::Histogram;

use crate::index::Index;

/// Bounds as Istio's.
const DEBOUNCE: &[f64] = &[0.01, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
const INDEX: &[f64] = &[0.01, 0.1, 0.5, 1.0, 3.0, 5.0];

/// The books of a control plane.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pages: Mutex<Pages>,
}

/// What is in them.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Resources that came, went or were others than before, by what they are about.
    pub(crate) updates: BTreeMap<&'static str, u64>,
    /// States, by what had changed.
    pub(crate) triggers: BTreeMap<&'static str, u64>,
    /// Providers of tracing whose service was missing in a state.
    pub(crate) lost_providers: u64,
    pub(crate) debounce: Histogram,
    pub(crate) index: Histogram,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            updates: BTreeMap::new(),
            triggers: BTreeMap::new(),
            lost_providers: 0,
            debounce: Histogram::new(DEBOUNCE),
            index: Histogram::new(INDEX),
        }
    }
}

impl Books {
    pub(crate) fn read(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a state was made of so many other resources than before; none of them if it was the mesh
    /// configuration or the authority that changed.
    pub(crate) fn changed(&self, resources: &BTreeMap<Kind, usize>, is_global: bool) {
        let mut pages = self.read();
        let mut triggers = BTreeSet::new();
        for (kind, count) in resources {
            let about = about(*kind);
            *pages.updates.entry(about).or_default() += *count as u64;
            triggers.insert(about);
        }
        triggers.extend(is_global.then_some("global"));
        for trigger in triggers {
            *pages.triggers.entry(trigger).or_default() += 1;
        }
    }

    /// Notes what became of a state.
    pub(crate) fn indexed(&self, index: &Index, took: Duration) {
        let mut pages = self.read();
        pages.index.took(took);
        pages.lost_providers += index.lost_providers() as u64;
    }
}

/// What Istio calls it.
fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Service | Kind::ServiceEntry => "service",
        Kind::EndpointSlice | Kind::WorkloadEntry | Kind::Pod => "endpoint",
        Kind::Secret | Kind::ConfigMap => "secret",
        _ => "config",
    }
}
