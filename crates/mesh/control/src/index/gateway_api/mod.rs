//! Gateway API in the forms of Istio: a Gateway for each listener, a VirtualService for each route. What is said
//! about the resources is kept beside them.

mod attach;
mod backends;
mod gateways;
mod ingress;
mod listeners;
mod page;
mod policies;
mod rules;
mod status;
mod termination;

use std::collections::{BTreeMap, BTreeSet};

use periplus_resources::gateway_api::{
    BackendTlsPolicy, Gateway as ApiGateway, GatewayClass, ParentKind, ReferenceGrant, Route, Rules,
};
use periplus_resources::{
    At, ConfigMap, ExportTo, Gateway, GatewayRef, Host, HttpRoute, KubernetesIngress, Labels, Meta,
    Semantics, VirtualService,
};

use self::backends::Lookup;
use self::gateways::Standing;
use self::policies::BackendTls;
use self::status::Flaw;
pub use self::status::{Condition, ListenerStatus, ParentStatus, ResourceStatus};
use super::by_host::ByHost;
use super::differing::is_same;
use super::{Entry, Index, Problem};

/// The resources as they are written.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) classes: Vec<Entry<GatewayClass>>,
    pub(super) gateways: Vec<Entry<ApiGateway>>,
    pub(super) routes: Vec<Entry<Route>>,
    pub(super) grants: Vec<Entry<ReferenceGrant>>,
    pub(super) policies: Vec<Entry<BackendTlsPolicy>>,
    pub(super) config_maps: Vec<Entry<ConfigMap>>,
    pub(super) ingresses: Vec<Entry<KubernetesIngress>>,
    /// The labels of namespaces, as far as somebody describes them.
    pub(super) namespaces: BTreeMap<String, Labels>,
}

/// What becomes of them.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    /// One for each listener, named `NAME~LISTENER`.
    pub(crate) gateways: Vec<Entry<Gateway>>,
    /// The rules; of several that are equally specific the first ones count.
    pub(crate) rules: Vec<Entry<VirtualService>>,
    /// Where those of the mesh are in that list, by their hosts.
    of_mesh: ByHost,
    /// How gateways speak TLS to services.
    backend_tls: BackendTls,
    /// By namespace and name of a Gateway: the labels and the namespace of the workloads that serve it.
    pub(super) serving: BTreeMap<(String, String), (Labels, String)>,
    /// What is said about each resource.
    pub(crate) statuses: Vec<ResourceStatus>,
}

impl Lowered {
    /// Whether gateways get the same of both, but for the rules.
    pub(super) fn has_same_gateways(&self, other: &Self) -> bool {
        is_same(&self.gateways, &other.gateways) && self.backend_tls == other.backend_tls
    }
}

/// A route with its rules in their other form.
struct Made<'a> {
    entry: &'a Entry<Route>,
    /// `http`, `tls` and `tcp`.
    http: Vec<HttpRoute>,
    connections: Vec<periplus_resources::ConnectionRoute>,
    unresolved: Vec<Flaw>,
}

impl Objects {
    pub(super) fn lower(mut self, index: &Index, problems: &mut Vec<Problem>) -> Lowered {
        let mut lowered = Lowered::default();
        let classes = gateways::classes(&self.classes, &mut lowered.statuses);
        let known = (self.classes.as_slice(), classes.as_slice());
        // The oldest first, as far as it is known.
        self.routes.sort_by_key(|route| age(&route.meta));
        self.policies.sort_by_key(|policy| age(&policy.meta));
        let lookup = Lookup {
            index,
            grants: &self.grants,
        };
        let references = (lookup, self.config_maps.as_slice());
        let mut standing = gateways::stand(&self.gateways, known, references, problems);
        let foreign = foreign(&self.gateways, &standing);
        let mut statuses = Vec::new();
        for entry in &self.routes {
            let made = Made::new(entry, lookup);
            let parents = made.attach(
                (index, &self.namespaces),
                (&mut standing, &foreign),
                &mut lowered.rules,
                problems,
            );
            problems.extend(made.unresolved.iter().map(|flaw| flaw.warning(&entry.meta)));
            statuses.push(ResourceStatus {
                meta: entry.meta.clone(),
                conditions: Vec::new(),
                listeners: Vec::new(),
                parents,
            });
        }
        for one in &standing {
            lowered.gateways.extend(one.lower());
            let meta = &one.entry.meta;
            let place = (meta.namespace.clone(), meta.name.clone());
            lowered.serving.insert(place, one.proxies.clone());
            lowered.statuses.push(one.status(problems));
        }
        lowered.statuses.append(&mut statuses);
        let said = (&mut lowered.statuses, &mut *problems);
        lowered.backend_tls = policies::lower(&self.policies, &self.config_maps, index, said);
        let (gateways, rules) = ingress::lower(&self.ingresses, index, problems);
        lowered.gateways.extend(gateways);
        lowered.rules.extend(rules);
        let of_mesh = lowered.rules.iter().enumerate();
        let of_mesh = of_mesh.filter(|(_, rule)| rule.spec.gateways.contains(&GatewayRef::Mesh));
        let of_mesh = of_mesh.flat_map(|(at, one)| one.spec.hosts.iter().map(move |it| (at, it)));
        lowered.of_mesh = of_mesh.collect();
        lowered
    }
}

/// What resources are sorted by to have the oldest first; those that nobody has dated come last.
pub(super) fn age(meta: &Meta) -> impl Ord + use<> {
    let created = meta.created.clone();
    (
        created.is_none(),
        created,
        meta.namespace.clone(),
        meta.name.clone(),
    )
}

/// The Gateways of other controllers.
fn foreign(all: &[Entry<ApiGateway>], ours: &[Standing<'_>]) -> BTreeSet<(String, String)> {
    let name = |meta: &Meta| (meta.namespace.clone(), meta.name.clone());
    let ours: BTreeSet<_> = ours.iter().map(|one| name(&one.entry.meta)).collect();
    let all = all.iter().map(|entry| name(&entry.meta));
    all.filter(|name| !ours.contains(name)).collect()
}

impl<'a> Made<'a> {
    fn new(entry: &'a Entry<Route>, lookup: Lookup<'_>) -> Self {
        let meta = &entry.meta;
        let mut made = Self {
            entry,
            http: Vec::new(),
            connections: Vec::new(),
            unresolved: Vec::new(),
        };
        match &entry.spec.rules {
            Rules::Requests(rules) => {
                for rule in rules {
                    let rules = rules::of_requests(lookup, meta, rule, &mut made.unresolved);
                    made.http.extend(rules);
                }
            }
            Rules::Connections(backends) => {
                let destinations = lookup.destinations(meta, backends, &mut made.unresolved);
                let names = &entry.spec.hostnames;
                let at = At(meta.source.position);
                let rule = rules::of_connections(names, destinations, at);
                made.connections.push(rule);
            }
        }
        made
    }

    /// Attaches the route to each of its parents, and says what comes of it.
    fn attach(
        &self,
        (index, namespaces): (&Index, &BTreeMap<String, Labels>),
        (standing, foreign): (&mut [Standing<'_>], &BTreeSet<(String, String)>),
        rules: &mut Vec<Entry<VirtualService>>,
        problems: &mut Vec<Problem>,
    ) -> Vec<ParentStatus> {
        let meta = &self.entry.meta;
        let mut statuses = Vec::new();
        let mut gateways: Vec<GatewayRef> = Vec::new();
        if self.entry.spec.parents.is_empty() {
            let source = &meta.source;
            let message = format!("{meta} has no effect: it has no `parentRefs`");
            problems.push(Problem::warning(source, source.position, message));
        }
        for parent in &self.entry.spec.parents {
            let accepted = match parent.kind {
                ParentKind::Gateway => {
                    let named = (parent.namespace.clone(), parent.name.clone());
                    if foreign.contains(&named) {
                        continue;
                    }
                    attach::to_gateway(self.entry, parent, standing, namespaces).map(|found| {
                        for (namespace, name) in found {
                            let gateway = GatewayRef::Named {
                                namespace,
                                name,
                                at: parent.at,
                            };
                            if !gateways.contains(&gateway) {
                                gateways.push(gateway);
                            }
                        }
                    })
                }
                ParentKind::Service | ParentKind::ServiceEntry => {
                    attach::to_services(self.entry, parent, index).map(|hosts| {
                        rules.push(self.of_mesh(
                            hosts,
                            parent.namespace == meta.namespace,
                            parent.port,
                        ));
                    })
                }
            };
            let flaw = accepted.err();
            problems.extend(flaw.iter().map(|flaw| flaw.error(meta)));
            statuses.push(ParentStatus {
                parent: parent.clone(),
                conditions: vec![
                    Condition::unless("Accepted", flaw.as_ref()),
                    Condition::unless("ResolvedRefs", self.unresolved.first()),
                ],
            });
        }
        if !gateways.is_empty() {
            rules.push(self.at_gateways(gateways));
        }
        statuses
    }

    /// The rules at some listeners.
    fn at_gateways(&self, gateways: Vec<GatewayRef>) -> Entry<VirtualService> {
        let mut hosts = self.entry.spec.hostnames.clone();
        if hosts.is_empty() {
            hosts.extend(Host::parse("*"));
        }
        let (tls, tcp) = match self.entry.meta.kind {
            periplus_resources::Kind::TlsRoute => (self.connections.clone(), Vec::new()),
            _ => (Vec::new(), self.connections.clone()),
        };
        Entry {
            meta: self.entry.meta.clone(),
            spec: VirtualService {
                hosts,
                gateways,
                http: self.http.clone(),
                tls,
                tcp,
                export_to: ExportTo::All,
                semantics: Semantics::GatewayApi,
            },
        }
    }

    /// The rules for requests to some services: of all clients if the route is the services' own, else of those in its
    /// own namespace.
    fn of_mesh(&self, hosts: Vec<Host>, is_own: bool, port: Option<u16>) -> Entry<VirtualService> {
        let mut http = self.http.clone();
        for condition in http.iter_mut().flat_map(|rule| &mut rule.matches) {
            condition.port = port;
        }
        Entry {
            meta: self.entry.meta.clone(),
            spec: VirtualService {
                hosts,
                gateways: vec![GatewayRef::Mesh],
                http,
                tls: Vec::new(),
                tcp: Vec::new(),
                export_to: match is_own {
                    true => ExportTo::All,
                    false => ExportTo::Namespaces(vec![".".to_owned()]),
                },
                semantics: Semantics::GatewayApi,
            },
        }
    }
}

impl Index {
    /// The rules of Gateway API for the port of a service, as clients in a namespace have them: those that are in
    /// their own namespace stand in place of all others.
    pub(crate) fn mesh_routes(
        &self,
        namespace: &str,
        host: &Host,
        port: u16,
    ) -> Vec<&Entry<VirtualService>> {
        let is_for_port = |entry: &Entry<VirtualService>| {
            let mut matches = entry.spec.http.iter().flat_map(|rule| &rule.matches);
            matches.any(|condition| condition.port.is_none_or(|own| own == port))
        };
        let api = &self.gateway_api;
        let rules = api.of_mesh.places(host).filter_map(|at| api.rules.get(at));
        let rules = rules.filter(|entry| {
            let spec = &entry.spec;
            spec.hosts.contains(host)
                && spec.export_to.reaches(&entry.meta.namespace, namespace)
                && is_for_port(entry)
        });
        let (own, others): (Vec<_>, Vec<_>) =
            rules.partition(|entry| entry.meta.namespace == namespace);
        match own.is_empty() {
            true => others,
            false => own,
        }
    }

    /// What is said about the resources of Gateway API.
    pub fn statuses(&self) -> &[ResourceStatus] {
        &self.gateway_api.statuses
    }
}
