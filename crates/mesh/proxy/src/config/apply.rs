//! Taking the resources of a response.

mod rejections;
mod secrets;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use envoy_types::pb::envoy::config::cluster::v3::Cluster as EnvoyCluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as EnvoyListener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::Rejection;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};

use self::rejections::{duplicate, read, rejection};
use super::build::fetch_deadline;
use super::check::At;
use super::cluster;
use super::endpoint::{self, Assignment};
use super::listener::{self, ListenerSpec};
use super::route;
use super::slot::{Slot, put};
use super::store::{Accepted, Store};
use super::tables::PATIENCE;
use super::tls::Names;
use crate::snapshot::Listener;

/// How much of a type the resources of a response are.
///
/// Routes, endpoints and secrets stay for as long as somebody refers to them, whatever this says: Envoy too
/// keeps those that a response takes away.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// All of it.
    Whole,
    /// What has changed; these have gone.
    Changes(&'a [String]),
}

impl Extent<'_> {
    fn keeps(self, name: &String, named: &BTreeSet<String>) -> bool {
        match self {
            Self::Whole => named.contains(name),
            Self::Changes(removed) => named.contains(name) || !removed.contains(name),
        }
    }
}

impl Store {
    /// Takes the resources of a response. Those that are right are taken even if others are not.
    pub(crate) fn apply(
        &mut self,
        type_url: &str,
        version: &str,
        (resources, extent): (&[Any], Extent<'_>),
        now: Instant,
    ) -> Result<(), Vec<Rejection>> {
        let mut rejections = Vec::new();
        match type_url {
            CLUSTER => self.apply_clusters(resources, extent, now, &mut rejections),
            LISTENER => self.apply_listeners(resources, extent, now, &mut rejections),
            ROUTE => self.apply_routes(resources, now, &mut rejections),
            ENDPOINT => self.apply_assignments(resources, &mut rejections),
            SECRET => self.apply_secrets(None, resources, &mut rejections),
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

    /// Whether this is what was taken last under its name.
    pub(crate) fn has_taken(&self, type_url: &str, name: &str, body: &Any) -> bool {
        let hash = rejections::hash_of(body);
        let is_it = |known: Option<u64>| known == Some(hash);
        match type_url {
            CLUSTER => is_it(self.clusters.get(name).map(|slot| slot.hash)),
            LISTENER => is_it(self.listeners.get(name).map(|slot| slot.hash)),
            ENDPOINT => is_it(self.assignments.get(name).map(|known| known.hash)),
            ROUTE => self.routes.has(name, hash),
            _ => false,
        }
    }

    /// Whether there is a cluster or listener of this name, the newest form of it or an older one.
    pub(crate) fn is_there(&self, type_url: &str, name: &str) -> bool {
        match type_url {
            CLUSTER => self.clusters.contains_key(name),
            _ => self.listeners.contains_key(name),
        }
    }

    fn apply_clusters(
        &mut self,
        resources: &[Any],
        extent: Extent<'_>,
        now: Instant,
        rejections: &mut Vec<Rejection>,
    ) {
        let mut named = BTreeSet::new();
        for (index, body) in resources.iter().enumerate() {
            let Some((cluster, hash)) = read::<EnvoyCluster>(body, ("cluster", index), rejections)
            else {
                continue;
            };
            let name = cluster.name.clone();
            if !named.insert(name.clone()) {
                rejections.push(duplicate("cluster", &name));
                continue;
            }
            if self
                .clusters
                .get(&name)
                .is_some_and(|slot| slot.hash == hash)
            {
                continue;
            }
            let names = &Names {
                is_static: &|name| self.secrets.is_static(&name.to_owned().into()),
                is_own: &|name| self.secrets.is_own(name),
                is_server: &|cluster| self.secrets.is_server(cluster),
            };
            match cluster::compile(cluster, names) {
                Ok(spec) => {
                    let give_up = fetch_deadline(&spec, now);
                    put(&mut self.clusters, name, spec, hash, give_up);
                }
                Err(refused) => rejections.push(rejection("cluster", &name, &refused)),
            }
        }
        self.clusters.retain(|name, _| extent.keeps(name, &named));
    }

    fn apply_listeners(
        &mut self,
        resources: &[Any],
        extent: Extent<'_>,
        now: Instant,
        rejections: &mut Vec<Rejection>,
    ) {
        let mut named = BTreeSet::new();
        let mut changed = Vec::new();
        for (index, body) in resources.iter().enumerate() {
            let Some((listener, hash)) =
                read::<EnvoyListener>(body, ("listener", index), rejections)
            else {
                continue;
            };
            let name = listener.name.clone();
            if name.is_empty() || !named.insert(name.clone()) {
                rejections.push(duplicate("listener", &name));
                continue;
            }
            if self
                .listeners
                .get(&name)
                .is_some_and(|slot| slot.hash == hash)
            {
                continue;
            }
            let names = &Names {
                is_static: &|name| self.secrets.is_static(&name.to_owned().into()),
                is_own: &|name| self.secrets.is_own(name),
                is_server: &|cluster| self.secrets.is_server(cluster),
            };
            match listener::compile(listener, names) {
                Ok(spec) => changed.push((name, hash, spec)),
                Err(refused) => rejections.push(rejection("listener", &name, &refused)),
            }
        }
        self.listeners.retain(|name, _| extent.keeps(name, &named));
        for (name, hash, spec) in changed {
            if let Some(other) = self.listener_at(&spec, &name) {
                let reason = format!("{} belongs to listener {other:?} already", spec.address);
                let refused = At::ROOT.field("address").refuse(reason);
                rejections.push(rejection("listener", &name, &refused));
                continue;
            }
            let wait = if spec.fetches() {
                spec.fetch_timeout()
            } else {
                // For the clusters that it leads to.
                Some(PATIENCE)
            };
            let give_up = wait.map(|wait| now + wait);
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

    fn apply_routes(&mut self, resources: &[Any], now: Instant, rejections: &mut Vec<Rejection>) {
        for (index, body) in resources.iter().enumerate() {
            let Some((config, hash)) =
                read::<RouteConfiguration>(body, ("route configuration", index), rejections)
            else {
                continue;
            };
            let name = config.name.clone();
            if self.routes.has(&name, hash) {
                continue;
            }
            match route::compile(config, &At::ROOT) {
                Ok(table) => self.routes.put(name, Arc::new(table), hash, now),
                Err(refused) => rejections.push(rejection("route configuration", &name, &refused)),
            }
        }
    }

    fn apply_assignments(&mut self, resources: &[Any], rejections: &mut Vec<Rejection>) {
        for (index, body) in resources.iter().enumerate() {
            let Some((assignment, hash)) =
                read::<ClusterLoadAssignment>(body, ("endpoints", index), rejections)
            else {
                continue;
            };
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
}
