//! A cluster whose endpoints are watched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::Published;
use crate::balance::Host;
use crate::health::{check, detect};
use crate::snapshot::{Cluster, Endpoint, HealthCheck};

/// A cluster in its versions: the one in use, and the one that still warms.
#[derive(Debug)]
pub(super) struct Watched {
    versions: RefCell<Vec<Arc<Cluster>>>,
    checks: RefCell<HashMap<SocketAddr, AbortHandle>>,
    /// What the checks run on.
    rules: RefCell<Option<Arc<HealthCheck>>>,
    detector: RefCell<Option<AbortHandle>>,
    published: Arc<Published>,
}

/// An endpoint with its state.
pub(super) struct Subject {
    pub(super) cluster: Arc<Cluster>,
    pub(super) endpoint: Endpoint,
    pub(super) host: Arc<Host>,
}

impl Watched {
    /// `versions` are never empty.
    pub(super) fn new(versions: Vec<Arc<Cluster>>, published: &Arc<Published>) -> Rc<Self> {
        let watched = Rc::new(Self {
            versions: RefCell::new(Vec::new()),
            checks: RefCell::default(),
            rules: RefCell::default(),
            detector: RefCell::default(),
            published: published.clone(),
        });
        watched.change(versions);
        watched
    }

    /// The cluster has changed.
    pub(super) fn change(self: &Rc<Self>, versions: Vec<Arc<Cluster>>) {
        let same = {
            let before = self.versions.borrow();
            let pairs = before.iter().zip(&versions);
            before.len() == versions.len() && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if same {
            return;
        }
        *self.versions.borrow_mut() = versions;
        // A flag may have changed while a version was made of the one before.
        self.refresh();
        self.start_checks();
        let detects = self.newest().outlier_detection.is_some();
        let mut detector = self.detector.borrow_mut();
        match (&*detector, detects) {
            (None, true) => {
                let task = tokio::task::spawn_local(detect::run(self.clone()));
                *detector = Some(task.abort_handle());
            }
            (Some(task), false) => {
                task.abort();
                *detector = None;
            }
            _ => {}
        }
    }

    /// One task for each endpoint that is to be checked.
    fn start_checks(self: &Rc<Self>) {
        let newest = self.newest();
        let mut checks = self.checks.borrow_mut();
        let has_changed = *self.rules.borrow() != newest.health_check;
        if has_changed {
            self.rules.borrow_mut().clone_from(&newest.health_check);
            for (_, task) in checks.drain() {
                task.abort();
            }
        }
        let versions = self.versions.borrow();
        let endpoints = versions.iter().flat_map(|version| &version.endpoints);
        let mut wanted: Vec<SocketAddr> = endpoints
            .filter(|endpoint| newest.health_check.is_some() && !endpoint.is_unchecked)
            .map(|endpoint| endpoint.address)
            .collect();
        wanted.sort_unstable();
        checks.retain(|address, task| {
            let is_wanted = wanted.binary_search(address).is_ok();
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for address in wanted {
            checks.entry(address).or_insert_with(|| {
                let task = tokio::task::spawn_local(check::run(self.clone(), address));
                task.abort_handle()
            });
        }
    }

    /// The cluster has gone.
    pub(super) fn stop(&self) {
        let checks = self.checks.take().into_values();
        for task in checks.chain(self.detector.take()) {
            task.abort();
        }
    }

    /// The newest version.
    pub(super) fn newest(&self) -> Arc<Cluster> {
        let versions = self.versions.borrow();
        versions.last().expect("versions are never empty").clone()
    }

    /// The endpoint at an address, as the newest version has it that has it.
    pub(super) fn subject(&self, address: SocketAddr) -> Option<Subject> {
        let versions = self.versions.borrow();
        versions.iter().rev().find_map(|cluster| {
            let mut endpoints = cluster.endpoints.iter();
            let endpoint = endpoints.find(|endpoint| endpoint.address == address)?;
            Some(Subject {
                cluster: cluster.clone(),
                endpoint: endpoint.clone(),
                host: cluster.members().host_at(address)?.clone(),
            })
        })
    }

    /// A flag has changed: the workers get new plans.
    pub(super) fn refresh(&self) {
        for version in &*self.versions.borrow() {
            version.members().refresh(version);
        }
    }

    /// An endpoint was checked for the first time: a cluster that warms may be ready.
    pub(super) fn note_first_check(&self) {
        let is_done = |cluster: &Arc<Cluster>| cluster.members().are_checked();
        if self.versions.borrow().iter().any(is_done) {
            self.published.note_checked();
        }
    }
}
