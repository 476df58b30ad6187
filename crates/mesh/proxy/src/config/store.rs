//! The state of the configuration: what was accepted, what still warms, what is in use.
//!
//! A cluster is used once its endpoints and secrets are known, a listener once its routes and secrets are;
//! until then its former form stays in use (make before break). Whoever waits for longer than its
//! `initial_fetch_timeout` is used as it is. Listeners first open when all clusters of the first response are
//! ready, so that no request finds a cluster missing at the start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use periplus_xds::client::Rejection;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};

use super::build::{
    Lookup, build_cluster, build_listener, has_newest_tls, keep_leaving, lookups_of, routes_of,
};
use super::cluster::{ClusterSpec, Discovery};
use super::endpoint::Assignment;
use super::listener::ListenerSpec;
use super::secrets::{Material, Secrets};
use super::slot::{Slot, active, specs};
use super::tables::Tables;
use crate::snapshot::{Cluster, Listener, RouteTable, Snapshot, Transport};

/// Everything that the control plane said, as far as it was accepted.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(super) listeners: BTreeMap<String, Slot<ListenerSpec, Listener>>,
    pub(super) clusters: BTreeMap<String, Slot<ClusterSpec, Cluster>>,
    pub(super) routes: Tables,
    pub(super) assignments: BTreeMap<String, Accepted<Assignment>>,
    pub(super) secrets: Secrets,
    resolved: HashMap<Lookup, Vec<IpAddr>>,
    pub(super) types: BTreeMap<String, TypeState>,
    /// All clusters of the first response have been ready.
    clusters_ready: bool,
    published: Published,
    generation: u64,
}

#[derive(Debug)]
pub(super) struct Accepted<T> {
    pub(super) value: T,
    pub(super) hash: u64,
}

/// What was received of one type.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeState {
    /// Of the newest response that was accepted.
    pub(crate) version: String,
    /// When.
    pub(crate) updated: Option<SystemTime>,
    /// Of the newest response, if it was refused: its version and what was wrong.
    pub(crate) refused: Option<(String, Vec<Rejection>)>,
}

#[derive(Debug, Default)]
struct Published {
    listeners: Vec<Arc<Listener>>,
    clusters: HashMap<String, Arc<Cluster>>,
}

impl Store {
    /// The names of this type that are to be subscribed to, sorted.
    pub(crate) fn wanted(&self, type_url: &str) -> Vec<String> {
        let names: BTreeSet<&String> = match type_url {
            ROUTE => specs(&self.listeners)
                .flat_map(ListenerSpec::route_names)
                .collect(),
            ENDPOINT => specs(&self.clusters)
                .filter_map(|spec| match &spec.discovery {
                    Discovery::Eds { service_name, .. } => Some(service_name),
                    _ => None,
                })
                .collect(),
            SECRET => self.secret_names(None),
            _ => BTreeSet::new(),
        };
        names.into_iter().cloned().collect()
    }

    /// The names to be resolved.
    pub(crate) fn lookups(&self) -> BTreeSet<Lookup> {
        specs(&self.clusters).flat_map(lookups_of).collect()
    }

    /// Takes the addresses of a name; none if it could not be resolved, which leaves the former ones.
    /// Says whether that is news.
    pub(crate) fn resolved(&mut self, lookup: Lookup, addresses: Vec<IpAddr>) -> bool {
        match self.resolved.get_mut(&lookup) {
            None => {
                self.resolved.insert(lookup, addresses);
                true
            }
            Some(known) if addresses.is_empty() || *known == addresses => false,
            Some(known) => {
                *known = addresses;
                true
            }
        }
    }

    /// Moves on what has become ready, and gives the next snapshot if anything changed.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Snapshot> {
        self.advance_clusters(now);
        self.advance_routes(now);
        self.advance_listeners(now);
        let lookups = self.lookups();
        self.resolved.retain(|lookup, _| lookups.contains(lookup));

        let listeners: Vec<_> = active(&self.listeners)
            .map(|(_, built)| Arc::clone(built))
            .collect();
        let clusters: HashMap<_, _> = active(&self.clusters)
            .map(|(name, built)| (name.clone(), Arc::clone(built)))
            .collect();
        let same_listeners = listeners.len() == self.published.listeners.len()
            && listeners
                .iter()
                .zip(&self.published.listeners)
                .all(|(a, b)| Arc::ptr_eq(a, b));
        let same_clusters = clusters.len() == self.published.clusters.len()
            && clusters.iter().all(|(name, cluster)| {
                let before = self.published.clusters.get(name);
                before.is_some_and(|before| Arc::ptr_eq(before, cluster))
            });
        if same_listeners && same_clusters {
            return None;
        }
        self.published = Published {
            listeners: listeners.clone(),
            clusters: clusters.clone(),
        };
        self.generation += 1;
        Some(Snapshot {
            generation: self.generation,
            listeners,
            clusters,
        })
    }

    /// Everything that was accepted as if nothing of it had to wait: without the endpoints, addresses and secrets that
    /// have not come.
    pub(crate) fn as_told(
        &mut self,
        now: Instant,
    ) -> (Vec<Arc<Listener>>, HashMap<String, Arc<Cluster>>) {
        self.routes.advance(now, |_| true);
        let clusters = specs(&self.clusters).map(|spec| {
            let assigned = match &spec.discovery {
                Discovery::Eds { service_name, .. } => self.assignments.get(service_name),
                _ => None,
            };
            let assigned = assigned.map(|accepted| &accepted.value);
            let built = build_cluster(spec, assigned, &self.resolved, &self.secrets);
            (built.name.clone(), Arc::new(built))
        });
        let clusters = clusters.collect();
        let named = |name: &str| self.routes.get(name).cloned();
        let listeners = specs(&self.listeners);
        let listeners = listeners.map(|spec| Arc::new(build_listener(spec, named, &self.secrets)));
        (listeners.collect(), clusters)
    }

    /// Clusters that wait for nothing but the checks of their endpoints.
    pub(crate) fn to_check(&self) -> Vec<Arc<Cluster>> {
        let warming = self.clusters.values().filter_map(|slot| {
            let warming = slot.warming.as_ref()?;
            warming.built.clone()
        });
        warming.collect()
    }

    /// When something that warms is used as it is.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let listeners = self
            .listeners
            .values()
            .filter_map(|slot| slot.warming.as_ref()?.give_up);
        let clusters = self
            .clusters
            .values()
            .filter_map(|slot| slot.warming.as_ref()?.give_up);
        let routes = self.routes.next_deadline();
        listeners.chain(clusters).chain(routes).min()
    }

    /// Whether listeners and clusters have arrived, and all that arrived is in use.
    pub(crate) fn is_complete(&self) -> bool {
        let has_arrived = |type_url: &str| {
            self.types
                .get(type_url)
                .is_some_and(|state| state.updated.is_some())
        };
        has_arrived(CLUSTER)
            && has_arrived(LISTENER)
            && self.listeners.values().all(|slot| slot.active.is_some())
    }

    /// The newest generation that [`Store::advance`] gave out.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn listeners(&self) -> &BTreeMap<String, Slot<ListenerSpec, Listener>> {
        &self.listeners
    }

    pub(crate) fn clusters(&self) -> &BTreeMap<String, Slot<ClusterSpec, Cluster>> {
        &self.clusters
    }

    pub(crate) fn types(&self) -> &BTreeMap<String, TypeState> {
        &self.types
    }

    fn advance_clusters(&mut self, now: Instant) {
        let assignments = &self.assignments;
        let resolved = &self.resolved;
        let secrets = &self.secrets;
        for slot in self.clusters.values_mut() {
            let has_endpoints = |spec: &ClusterSpec| match &spec.discovery {
                Discovery::Static(_) | Discovery::OriginalDestination(_) => true,
                Discovery::Eds { service_name, .. } => assignments.contains_key(service_name),
                Discovery::Dns { .. } => {
                    lookups_of(spec).all(|lookup| resolved.contains_key(&lookup))
                }
            };
            let has_secrets = |material: &Material| material.is_there(secrets);
            let is_ready = |spec: &ClusterSpec| {
                let mut tls = spec.transports.tls();
                has_endpoints(spec) && tls.all(|tls| has_secrets(&tls.context.material))
            };
            let build = |spec: &ClusterSpec, before: Option<&Cluster>| {
                let assigned = match &spec.discovery {
                    Discovery::Eds { service_name, .. } => assignments.get(service_name),
                    _ => None,
                };
                let assigned = assigned.map(|accepted| &accepted.value);
                let mut built = build_cluster(spec, assigned, resolved, secrets);
                if let Some(before) = before {
                    let renew = |transport: &Transport| spec.transports.renew(transport, secrets);
                    keep_leaving(&mut built, before, renew);
                }
                built
            };
            let build_next = |spec: &ClusterSpec, before: Option<&Cluster>| {
                let built = build(spec, before);
                if let Some(before) = before {
                    built.members.adopt(&built, before.members());
                }
                built
            };
            let are_checked = |built: &Cluster| built.members().are_checked();
            slot.promote(now, is_ready, build_next, Cluster::eq, are_checked);
            if let Some(active) = &mut slot.active {
                let built = build(&active.spec, Some(&active.built));
                if built != *active.built {
                    built.members.adopt(&built, active.built.members());
                    active.built = Arc::new(built);
                }
            }
        }
        let have_arrived = self.types.contains_key(CLUSTER);
        self.clusters_ready |=
            have_arrived && self.clusters.values().all(|slot| slot.active.is_some());
    }

    /// Takes new routes into use once the clusters that they lead to are ready: until then the former ones
    /// serve, so that no request finds a cluster that still warms.
    fn advance_routes(&mut self, now: Instant) {
        let clusters = &self.clusters;
        self.routes.advance(now, |name| !warms(clusters, name));
    }

    fn advance_listeners(&mut self, now: Instant) {
        if !self.clusters_ready {
            return;
        }
        let (routes, secrets) = (&self.routes, &self.secrets);
        let named = |name: &str| routes.get(name).cloned();
        let clusters = &self.clusters;
        let build = |spec: &ListenerSpec| build_listener(spec, named, secrets);
        for slot in self.listeners.values_mut() {
            let has_active = slot.active.is_some();
            let is_ready = |spec: &ListenerSpec| {
                let mut own = spec.clusters();
                let may_wait = has_active && own.any(|name| warms(clusters, name));
                let mut tls = spec.tls();
                !may_wait
                    && spec.route_names().all(|name| routes.get(name).is_some())
                    && tls.all(|tls| tls.context.material.is_there(secrets))
            };
            let build_next = |spec: &ListenerSpec, before: Option<&Listener>| {
                let built = build(spec);
                if let Some(before) = before {
                    built.adopt_keys(before);
                }
                built
            };
            slot.promote(now, is_ready, build_next, |_, _| false, |_| true);
            if let Some(active) = &mut slot.active {
                let address = |table: Arc<RouteTable>| Arc::as_ptr(&table);
                let newest = active.spec.route_sources();
                let newest = newest.map(|source| routes_of(source, named).map(address));
                let in_use = active.built.managers();
                let in_use = in_use.map(|manager| manager.routes.as_ref().map(Arc::as_ptr));
                if !newest.eq(in_use) || !has_newest_tls(&active.spec, &active.built, secrets) {
                    active.built = Arc::new(build(&active.spec));
                }
            }
        }
    }

    /// Drops routes, endpoints and secrets that nothing refers to any more. Whoever calls it tells the control plane at
    /// once which are wanted now: it would not send again what it believes to be held.
    pub(crate) fn forget_unused(&mut self) {
        let wanted = self.wanted(ROUTE);
        self.routes
            .retain(|name| wanted.binary_search(name).is_ok());
        let wanted = self.wanted(ENDPOINT);
        self.assignments
            .retain(|name, _| wanted.binary_search(name).is_ok());
        self.forget_secrets(None);
    }
}

/// Whether a cluster is known and cannot be used yet.
fn warms(clusters: &BTreeMap<String, Slot<ClusterSpec, Cluster>>, name: &str) -> bool {
    let slot = clusters.get(name);
    slot.is_some_and(|slot| slot.active.is_none())
}
