//! The state of the configuration: what was accepted, what still warms, what is in use.
//!
//! A cluster is used once its endpoints are known, a listener once its routes are; until then its former
//! form stays in use (make before break). Whoever waits for longer than its `initial_fetch_timeout` is used
//! as it is. Listeners first open when all clusters of the first response are ready, so that no request
//! finds a cluster missing at the start.

mod apply_secrets;
mod rejections;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use envoy_types::pb::envoy::config::cluster::v3::Cluster as EnvoyCluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as EnvoyListener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::Rejection;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};

use self::rejections::{duplicate, hash_of, rejection, unnamed};
use super::build::{
    Lookup, build_cluster, build_listener, fetch_deadline, has_newest_tls, lookups_of, routes_of,
};
use super::check::{At, decode};
use super::cluster::{self, ClusterSpec, Discovery};
use super::endpoint::{self, Assignment};
use super::listener::{self, ListenerSpec};
use super::route;
use super::secrets::{Material, Secrets};
use super::slot::{Slot, active, put, specs};
use super::tls::Names;
use crate::snapshot::{Cluster, Listener, RouteTable, Snapshot};

/// Everything that the control plane said, as far as it was accepted.
#[derive(Debug, Default)]
pub(crate) struct Store {
    listeners: BTreeMap<String, Slot<ListenerSpec, Listener>>,
    clusters: BTreeMap<String, Slot<ClusterSpec, Cluster>>,
    routes: BTreeMap<String, Accepted<Arc<RouteTable>>>,
    assignments: BTreeMap<String, Accepted<Assignment>>,
    secrets: Secrets,
    resolved: HashMap<Lookup, Vec<IpAddr>>,
    types: BTreeMap<String, TypeState>,
    /// All clusters of the first response have been ready.
    clusters_ready: bool,
    published: Published,
    generation: u64,
}

#[derive(Debug)]
struct Accepted<T> {
    value: T,
    hash: u64,
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
    /// Takes the resources of a response. Those that are right are taken even if others are not.
    pub(crate) fn apply(
        &mut self,
        type_url: &str,
        version: &str,
        resources: &[Any],
        now: Instant,
    ) -> Result<(), Vec<Rejection>> {
        let mut rejections = Vec::new();
        match type_url {
            CLUSTER => self.apply_clusters(resources, now, &mut rejections),
            LISTENER => self.apply_listeners(resources, now, &mut rejections),
            ROUTE => self.apply_routes(resources, &mut rejections),
            ENDPOINT => self.apply_assignments(resources, &mut rejections),
            SECRET => self.apply_secrets(resources, &mut rejections),
            _ => rejections.push(Rejection {
                resource: format!("resources of type {type_url:?}"),
                reason: "the type is not supported".to_owned(),
            }),
        }
        let state = self.types.entry(type_url.to_owned()).or_default();
        if rejections.is_empty() {
            state.version = version.to_owned();
            state.updated = Some(SystemTime::now());
            state.refused = None;
            return Ok(());
        }
        state.refused = Some((version.to_owned(), rejections.clone()));
        Err(rejections)
    }

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
            SECRET => self.secret_names(),
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
        self.advance_listeners(now);
        self.forget_unused();

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
        listeners.chain(clusters).min()
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

    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.routes.values().map(|accepted| &accepted.value)
    }

    pub(crate) fn types(&self) -> &BTreeMap<String, TypeState> {
        &self.types
    }

    fn apply_clusters(&mut self, resources: &[Any], now: Instant, rejections: &mut Vec<Rejection>) {
        let mut named = BTreeSet::new();
        for (index, body) in resources.iter().enumerate() {
            let cluster: EnvoyCluster = match decode(body, &At::ROOT) {
                Ok(cluster) => cluster,
                Err(refused) => {
                    rejections.push(unnamed("cluster", index, &refused));
                    continue;
                }
            };
            let name = cluster.name.clone();
            if !named.insert(name.clone()) {
                rejections.push(duplicate("cluster", &name));
                continue;
            }
            let hash = hash_of(body);
            if self
                .clusters
                .get(&name)
                .is_some_and(|slot| slot.hash == hash)
            {
                continue;
            }
            let is_static = |name: &str| self.secrets.is_static(name);
            let names = &Names {
                is_static: &is_static,
            };
            match cluster::compile(cluster, names) {
                Ok(spec) => {
                    let give_up = fetch_deadline(&spec, now);
                    put(&mut self.clusters, name, spec, hash, give_up);
                }
                Err(refused) => rejections.push(rejection("cluster", &name, &refused)),
            }
        }
        self.clusters.retain(|name, _| named.contains(name));
    }

    fn apply_listeners(
        &mut self,
        resources: &[Any],
        now: Instant,
        rejections: &mut Vec<Rejection>,
    ) {
        let mut named = BTreeSet::new();
        let mut changed = Vec::new();
        for (index, body) in resources.iter().enumerate() {
            let listener: EnvoyListener = match decode(body, &At::ROOT) {
                Ok(listener) => listener,
                Err(refused) => {
                    rejections.push(unnamed("listener", index, &refused));
                    continue;
                }
            };
            let name = listener.name.clone();
            if name.is_empty() || !named.insert(name.clone()) {
                rejections.push(duplicate("listener", &name));
                continue;
            }
            let hash = hash_of(body);
            if self
                .listeners
                .get(&name)
                .is_some_and(|slot| slot.hash == hash)
            {
                continue;
            }
            let is_static = |name: &str| self.secrets.is_static(name);
            let names = &Names {
                is_static: &is_static,
            };
            match listener::compile(listener, names) {
                Ok(spec) => changed.push((name, hash, spec)),
                Err(refused) => rejections.push(rejection("listener", &name, &refused)),
            }
        }
        self.listeners.retain(|name, _| named.contains(name));
        for (name, hash, spec) in changed {
            if let Some(other) = self.listener_at(&spec, &name) {
                let reason = format!("{} belongs to listener {other:?} already", spec.address);
                let refused = At::ROOT.field("address").refuse(reason);
                rejections.push(rejection("listener", &name, &refused));
                continue;
            }
            let give_up = spec.fetch_timeout().map(|wait| now + wait);
            put(&mut self.listeners, name, spec, hash, give_up);
        }
    }

    /// Another listener at the same address.
    fn listener_at(&self, spec: &ListenerSpec, name: &str) -> Option<&String> {
        let mut others = self.listeners.iter().filter(|(other, _)| *other != name);
        let holds = |slot: &Slot<ListenerSpec, Listener>| {
            let newest = slot.warming.as_ref().map(|warming| &warming.spec);
            let newest = newest.or(slot.active.as_ref().map(|active| &active.spec));
            newest.is_some_and(|other| other.address == spec.address)
        };
        others.find(|(_, slot)| holds(slot)).map(|(other, _)| other)
    }

    fn apply_routes(&mut self, resources: &[Any], rejections: &mut Vec<Rejection>) {
        for (index, body) in resources.iter().enumerate() {
            let config: RouteConfiguration = match decode(body, &At::ROOT) {
                Ok(config) => config,
                Err(refused) => {
                    rejections.push(unnamed("route configuration", index, &refused));
                    continue;
                }
            };
            let hash = hash_of(body);
            let name = config.name.clone();
            if self
                .routes
                .get(&name)
                .is_some_and(|known| known.hash == hash)
            {
                continue;
            }
            match route::compile(config, &At::ROOT) {
                Ok(table) => {
                    let value = Arc::new(table);
                    self.routes.insert(name, Accepted { value, hash });
                }
                Err(refused) => rejections.push(rejection("route configuration", &name, &refused)),
            }
        }
    }

    fn apply_assignments(&mut self, resources: &[Any], rejections: &mut Vec<Rejection>) {
        for (index, body) in resources.iter().enumerate() {
            let assignment: ClusterLoadAssignment = match decode(body, &At::ROOT) {
                Ok(assignment) => assignment,
                Err(refused) => {
                    rejections.push(unnamed("endpoints", index, &refused));
                    continue;
                }
            };
            let hash = hash_of(body);
            let name = assignment.cluster_name.clone();
            if self
                .assignments
                .get(&name)
                .is_some_and(|known| known.hash == hash)
            {
                continue;
            }
            let compiled = endpoint::compile(assignment, &At::ROOT).and_then(Assignment::resolved);
            match compiled {
                Ok(value) => {
                    self.assignments.insert(name, Accepted { value, hash });
                }
                Err(refused) => rejections.push(rejection("endpoints of cluster", &name, &refused)),
            }
        }
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
            let build = |spec: &ClusterSpec| {
                let assigned = match &spec.discovery {
                    Discovery::Eds { service_name, .. } => assignments.get(service_name),
                    _ => None,
                };
                let assigned = assigned.map(|accepted| &accepted.value);
                build_cluster(spec, assigned, resolved, secrets)
            };
            slot.promote(now, is_ready, build);
            if let Some(active) = &mut slot.active {
                let built = build(&active.spec);
                if built != *active.built {
                    active.built = Arc::new(built);
                }
            }
        }
        let have_arrived = self.types.contains_key(CLUSTER);
        self.clusters_ready |=
            have_arrived && self.clusters.values().all(|slot| slot.active.is_some());
    }

    fn advance_listeners(&mut self, now: Instant) {
        if !self.clusters_ready {
            return;
        }
        let (routes, secrets) = (&self.routes, &self.secrets);
        let named = |name: &str| routes.get(name).map(|known| Arc::clone(&known.value));
        let build = |spec: &ListenerSpec| build_listener(spec, named, secrets);
        for slot in self.listeners.values_mut() {
            let is_ready = |spec: &ListenerSpec| {
                let mut tls = spec.tls();
                spec.route_names().all(|name| routes.contains_key(name))
                    && tls.all(|tls| tls.context.material.is_there(secrets))
            };
            slot.promote(now, is_ready, build);
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

    /// Drops routes, endpoints, secrets and addresses that nothing refers to any more.
    fn forget_unused(&mut self) {
        let wanted = self.wanted(ROUTE);
        self.routes
            .retain(|name, _| wanted.binary_search(name).is_ok());
        let wanted = self.wanted(ENDPOINT);
        self.assignments
            .retain(|name, _| wanted.binary_search(name).is_ok());
        let wanted = self.wanted(SECRET);
        self.secrets.retain(&wanted);
        let lookups = self.lookups();
        self.resolved.retain(|lookup, _| lookups.contains(lookup));
    }
}
