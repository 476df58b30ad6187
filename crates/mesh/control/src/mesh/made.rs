//! What was made for proxies, each resource and each set of them kept once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use periplus_resources::Host;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use prost::{Message, Name};

use crate::generate::{
    Conflict, Generated, Lack, generate, generate_clusters, generate_routes, generate_routing,
    name_table,
};
use crate::index::{Index, Routing, Stale};
use crate::names;
use crate::proxy::Proxy;

/// What a proxy has.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) notes: Arc<Notes>,
    pub(super) lacks: Arc<[Lack]>,
}

/// What is said of listeners and routes that are missing.
#[derive(Debug, Default)]
pub(super) struct Notes {
    others: Vec<String>,
    pub(super) conflicts: Vec<(Conflict, String)>,
}

impl Notes {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let conflicts = self.conflicts.iter().map(|(_, what)| what.as_str());
        self.others.iter().map(String::as_str).chain(conflicts)
    }
}

impl Made {
    /// Whether there are clusters of a service.
    pub(super) fn has_cluster(&self, host: &Host) -> bool {
        let mut clusters = self.snapshot.of_type(CLUSTER).iter();
        clusters.any(|cluster| names::service_of(cluster.name()) == Some(host.as_str()))
    }

    /// All that is missing, and why.
    pub(super) fn told(&self) -> impl Iterator<Item = &str> {
        let notes = self.notes.texts();
        notes.chain(self.lacks.iter().map(|(_, why)| why.as_str()))
    }
}

/// What was made, before it is compared with what others have.
#[derive(Default)]
pub(super) struct Encoded {
    /// All of these types.
    whole: Vec<(&'static str, Vec<Resource>)>,
    /// Of these types some, which stand in place of what there was of these services.
    parts: Vec<(&'static str, Vec<Resource>)>,
    hosts: Vec<Host>,
    /// None if they stay what they were.
    notes: Option<Notes>,
    /// Those of the services, or all of them.
    lacks: Vec<Lack>,
    is_all: bool,
    pub(super) missing_secrets: u64,
}

impl Encoded {
    pub(super) fn of(index: &Index, proxy: &Proxy) -> Self {
        let made = generate(index, proxy);
        let mut whole = clusters(&made);
        whole.extend(routing(&made));
        whole.push((SECRET, encoded(&made.secrets, |m| &m.name)));
        whole.extend(names_for(index, proxy));
        Self {
            whole,
            notes: Some(Notes {
                others: made.notes,
                conflicts: made.conflicts,
            }),
            lacks: made.lacks,
            is_all: true,
            missing_secrets: made.missing_secrets,
            ..Self::default()
        }
    }

    /// What is missing of what was made, and why.
    pub(super) fn told(&self) -> impl Iterator<Item = &str> {
        let notes = self.notes.iter().flat_map(Notes::texts);
        notes.chain(self.lacks.iter().map(|(_, why)| why.as_str()))
    }

    /// What is stale of what a proxy has.
    pub(super) fn of_stale(index: &Index, proxy: &Proxy, stale: &Stale<'_>) -> Self {
        let (hosts, rerouted) = match stale {
            Stale::All => return Self::of(index, proxy),
            // What clients without a proxy take is made in one piece.
            Stale::Some(..) if proxy.is_proxyless => return Self::of(index, proxy),
            Stale::Some(hosts, rerouted) => (hosts, rerouted),
        };
        let (mut whole, notes) = match rerouted {
            Routing::Same => (Vec::new(), None),
            Routing::Routes => {
                let routes = generate_routes(index, proxy);
                (vec![(ROUTE, encoded(&routes, |m| &m.name))], None)
            }
            Routing::All => {
                let mut made = generate_routing(index, proxy);
                let notes = Notes {
                    others: std::mem::take(&mut made.notes),
                    conflicts: std::mem::take(&mut made.conflicts),
                };
                (routing(&made), Some(notes))
            }
        };
        let made = match hosts.is_empty() {
            true => None,
            false => {
                let are_some_new = *rerouted == Routing::All;
                Some(generate_clusters(index, proxy, hosts, are_some_new))
            }
        };
        whole.extend(names_for(index, proxy));
        Self {
            whole,
            parts: made.as_ref().map(clusters).unwrap_or_default(),
            hosts: hosts.iter().map(|host| (*host).clone()).collect(),
            notes,
            missing_secrets: made.as_ref().map_or(0, |made| made.missing_secrets),
            lacks: made.map(|made| made.lacks).unwrap_or_default(),
            is_all: false,
        }
    }
}

/// The names that a proxy's workload may ask for: one resource, which has none itself.
fn names_for(index: &Index, proxy: &Proxy) -> Option<(&'static str, Vec<Resource>)> {
    let table = proxy.captures_dns.then(|| name_table(index, proxy))?;
    Some((NAME_TABLE, vec![Resource::new("", &table)]))
}

fn clusters(made: &Generated) -> Vec<(&'static str, Vec<Resource>)> {
    vec![
        (CLUSTER, encoded(&made.clusters, |m| &m.name)),
        (ENDPOINT, encoded(&made.endpoints, |m| &m.cluster_name)),
    ]
}

fn routing(made: &Generated) -> Vec<(&'static str, Vec<Resource>)> {
    vec![
        (LISTENER, encoded(&made.listeners, |m| &m.name)),
        (ROUTE, encoded(&made.routes, |m| &m.name)),
    ]
}

fn encoded<M: Message + Name>(messages: &[M], name: fn(&M) -> &str) -> Vec<Resource> {
    let messages = messages.iter();
    messages.map(|it| Resource::new(name(it), it)).collect()
}

/// Equal resources of several proxies are kept once, and so are sets of the same resources.
#[derive(Debug, Default)]
pub(super) struct Shared {
    resources: HashMap<(&'static str, String, u64), Arc<Resource>>,
    /// By a hash of what is in them.
    sets: HashMap<u64, ResourceSet>,
}

impl Shared {
    /// Takes what was made for one proxy, or for all of its class.
    pub(super) fn take(&mut self, encoded: Encoded, before: Option<&Made>) -> Made {
        let mut made = self.take_for_all(encoded, &[before]);
        made.remove(0)
    }

    /// Takes what was made for several classes at once, each of which had something before; what is the same as before
    /// stays what it was.
    pub(super) fn take_for_all(&mut self, encoded: Encoded, before: &[Option<&Made>]) -> Vec<Made> {
        let whole: Vec<_> = encoded
            .whole
            .into_iter()
            .map(|(type_url, resources)| {
                let set = resources.into_iter().map(|one| self.share(type_url, one));
                let set = set.collect();
                (type_url, self.share_set(set))
            })
            .collect();
        let mut parts: Vec<Part> = encoded
            .parts
            .into_iter()
            .map(|(type_url, resources)| {
                let resources = resources.into_iter().map(|one| self.share(type_url, one));
                Part {
                    type_url,
                    resources: resources.collect(),
                    replaced: Vec::new(),
                }
            })
            .collect();
        let notes: Option<Arc<Notes>> = encoded.notes.map(Arc::new);
        let (lacks, is_all): (Arc<[Lack]>, _) = (encoded.lacks.into(), encoded.is_all);
        let take = |before: &Option<&Made>| {
            let mut snapshot = before.map_or_else(nothing, |it| (*it.snapshot).clone());
            for (type_url, set) in &whole {
                snapshot = replace(snapshot, type_url, set);
            }
            for part in &mut parts {
                let set = part.replace(snapshot.of_type(part.type_url), &encoded.hosts, self);
                snapshot = replace(snapshot, part.type_url, &set);
            }
            let had = before.map(|made| Arc::clone(&made.lacks));
            let before = before.map(|made| Arc::clone(&made.notes));
            Made {
                snapshot: Arc::new(snapshot),
                notes: notes.clone().or(before).unwrap_or_default(),
                lacks: match is_all {
                    true => Arc::clone(&lacks),
                    false => replace_lacks(had.unwrap_or_default(), &encoded.hosts, &lacks),
                },
            }
        };
        before.iter().map(take).collect()
    }

    fn share(&mut self, type_url: &'static str, resource: Resource) -> Arc<Resource> {
        let key = (type_url, resource.name().to_owned(), resource.version());
        let kept = self.resources.entry(key);
        Arc::clone(kept.or_insert_with(|| Arc::new(resource)))
    }

    /// The set of the same resources that somebody has, if somebody has.
    fn share_set(&mut self, set: ResourceSet) -> ResourceSet {
        let mut hasher = DefaultHasher::new();
        for resource in set.iter() {
            Arc::as_ptr(resource).hash(&mut hasher);
        }
        let kept = self.sets.entry(hasher.finish());
        let kept = kept.or_insert_with(|| set.clone());
        match is_equal(kept, &set) {
            true => kept.clone(),
            false => set,
        }
    }

    /// Lets go what nobody has any more.
    pub(super) fn sweep(&mut self) {
        self.sets.retain(|_, set| !set.is_only_here());
        self.resources
            .retain(|_, resource| Arc::strong_count(resource) > 1);
    }
}

/// Resources of a type that stand in place of others.
struct Part {
    type_url: &'static str,
    resources: Vec<Arc<Resource>>,
    /// What they were put into, and what came of it.
    replaced: Vec<(ResourceSet, ResourceSet)>,
}

impl Part {
    /// The set with these resources in place of those of the services.
    fn replace(&mut self, set: &ResourceSet, hosts: &[Host], shared: &mut Shared) -> ResourceSet {
        let known = self.replaced.iter().find(|(before, _)| before.is_same(set));
        if let Some((_, after)) = known {
            return after.clone();
        }
        let is_replaced = |one: &&Arc<Resource>| {
            let service = names::service_of(one.name());
            service.is_some_and(|name| hosts.iter().any(|host| host.as_str() == name))
        };
        let others = set.iter().filter(|one| !is_replaced(one));
        let after = others.chain(&self.resources).cloned().collect();
        let after = shared.share_set(after);
        self.replaced.push((set.clone(), after.clone()));
        after
    }
}

/// These in place of those of the services, in the order of all services.
fn replace_lacks(had: Arc<[Lack]>, hosts: &[Host], lacks: &[Lack]) -> Arc<[Lack]> {
    if lacks.is_empty() && !had.iter().any(|(host, _)| hosts.contains(host)) {
        return had;
    }
    let others = had.iter().filter(|(host, _)| !hosts.contains(host));
    let mut all: Vec<Lack> = others.chain(lacks).cloned().collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all.into()
}

fn nothing() -> Snapshot {
    let types = [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, NAME_TABLE];
    let types = types.into_iter();
    types.fold(Snapshot::default(), |all, it| {
        all.with(it, ResourceSet::default())
    })
}

fn replace(snapshot: Snapshot, type_url: &str, set: &ResourceSet) -> Snapshot {
    match is_equal(snapshot.of_type(type_url), set) {
        true => snapshot,
        false => snapshot.with(type_url, set.clone()),
    }
}

/// Whether both have the very same resources.
fn is_equal(a: &ResourceSet, b: &ResourceSet) -> bool {
    a.is_same(b) || a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Whether two proxies have the very same.
pub(super) fn is_same(a: &Arc<Snapshot>, b: &Arc<Snapshot>) -> bool {
    let is_equal = |((_, a), (_, b)): ((&str, &ResourceSet), _)| is_equal(a, b);
    Arc::ptr_eq(a, b) || a.types().zip(b.types()).all(is_equal)
}
