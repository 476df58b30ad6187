//! All resources of the mesh, by what asks for them. Built anew after each change.

mod analysis;
mod by_host;
mod change;
mod checks;
pub(crate) mod code;
mod delegates;
mod differing;
mod gateway_api;
mod kubernetes;
mod mutual_tls;
mod named;
mod pod_config;
mod policies;
mod problem;
mod rules;
mod secrets;
mod service;
mod services;
mod targets;
mod telemetry;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use periplus_resources::{
    AuthorizationPolicy, DestinationRule, ExtensionProvider, Gateway, Host, Kind, Locality,
    MeshConfig, Meta, MutualTls, PeerAuthentication, Pod, RequestAuthentication, Resource, Sidecar,
    Spec, Telemetry, VirtualService, WorkloadEntry,
};

use self::by_host::ByHost;
pub(crate) use self::change::{Change, Routing, Stale};
pub use self::code::{CODES, Code};
pub(crate) use self::code::{SCHEMA, SHARED_MESH_HOST};
use self::gateway_api::Lowered;
pub use self::gateway_api::{Condition, ListenerStatus, ParentStatus, ResourceStatus};
use self::kubernetes::Objects;
pub use self::named::RuleAt;
use self::pod_config::PodConfigs;
pub(crate) use self::problem::attribute;
pub use self::problem::{About, Problem, Severity};
pub use self::rules::ConnectionRules;
pub(crate) use self::secrets::AUTHORITIES;
use self::secrets::Secrets;
pub use self::service::Service;
use self::service::TRAFFIC_DISTRIBUTION;
pub(crate) use self::service::{MACHINE, Session};
use self::services::Services;
pub(crate) use self::telemetry::{Log, Side, Traced};
use self::view::Asked;
use crate::issuers::Found;
use crate::proxy::Proxy;

/// A resource of one kind with its name and origin.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// Its name and origin.
    pub meta: Meta,
    /// What it says.
    pub spec: T,
}

/// The mesh as the resources describe it. Immutable.
#[derive(Debug, Default)]
pub struct Index {
    services: Services,
    /// Some of them have clients that stay with an endpoint.
    has_sessions: bool,
    /// The services that have an endpoint there, by host and place among those of the host.
    by_address: HashMap<IpAddr, Vec<(Host, usize)>>,
    workloads: Vec<Entry<WorkloadEntry>>,
    pods: Vec<Entry<Pod>>,
    pod_configs: PodConfigs,
    virtual_services: Vec<Entry<VirtualService>>,
    /// Where they are in that list, by their hosts; the same for the next one.
    routed: ByHost,
    destination_rules: Vec<Entry<DestinationRule>>,
    ruled: ByHost,
    gateways: Vec<Entry<Gateway>>,
    sidecars: Vec<Entry<Sidecar>>,
    authorization_policies: Vec<Entry<AuthorizationPolicy>>,
    peer_authentications: Vec<Entry<PeerAuthentication>>,
    request_authentications: Vec<Entry<RequestAuthentication>>,
    telemetries: Vec<Entry<Telemetry>>,
    secrets: Secrets,
    gateway_api: Lowered,
    mesh: MeshConfig,
    has_authority: bool,
    /// By what clients are told apart.
    asked: Asked,
    /// The authority's lists of revoked certificates, in PEM.
    revoked: Arc<str>,
    issuer_keys: Option<Found>,
    problems: Vec<Problem>,
    /// How many endpoints and pods are not ready.
    unready: usize,
}

impl Index {
    /// Builds the index. Of several resources with one kind, namespace and name the first counts.
    pub fn new<'a>(resources: impl IntoIterator<Item = &'a Resource>, mesh: MeshConfig) -> Self {
        Self::build(resources, mesh, false)
    }

    /// The same where proxies have certificates of the control plane's authority.
    pub fn certified<'a>(
        resources: impl IntoIterator<Item = &'a Resource>,
        mesh: MeshConfig,
    ) -> Self {
        Self::build(resources, mesh, true)
    }

    fn build<'a>(
        resources: impl IntoIterator<Item = &'a Resource>,
        mesh: MeshConfig,
        has_authority: bool,
    ) -> Self {
        let mut index = Self {
            mesh,
            has_authority,
            ..Self::default()
        };
        let resources: Vec<&Resource> = resources.into_iter().collect();
        let mut unique: BTreeMap<(Kind, &str, &str), &Resource> = BTreeMap::new();
        for &resource in &resources {
            let meta = &resource.meta;
            if let Spec::Other(kind) = &resource.spec {
                // Of several with one name each says for itself that it does nothing.
                index.problems.push(kubernetes::other(kind, meta));
                continue;
            }
            let key = (meta.kind, meta.namespace.as_str(), meta.name.as_str());
            match unique.get(&key) {
                Some(first) => index.problems.push(Problem::error(
                    &meta.source,
                    meta.source.position,
                    format!(
                        "{meta} is already defined at {}: this one is ignored, rename or remove it",
                        first.meta.source
                    ),
                )
                .code(code::DUPLICATE)),
                None => {
                    unique.insert(key, resource);
                }
            }
        }
        // Sorted by namespace and name: where Istio would prefer the oldest, the first one counts, unless it is sorted
        // by age below.
        let mut service_entries = Vec::new();
        let mut preferences: BTreeMap<String, String> = BTreeMap::new();
        let mut objects = Objects::default();
        let mut of_api = gateway_api::Objects::default();
        for resource in unique.into_values() {
            let meta = resource.meta.clone();
            let seen = &index.mesh.export_to;
            match resource.spec.clone() {
                Spec::ServiceEntry(mut spec) => {
                    spec.export_to.or(&seen.services);
                    service_entries.push(Entry { meta, spec });
                }
                Spec::WorkloadEntry(spec) => index.workloads.push(Entry { meta, spec }),
                Spec::Sidecar(spec) => index.sidecars.push(Entry { meta, spec }),
                Spec::VirtualService(mut spec) => {
                    spec.export_to.or(&seen.virtual_services);
                    index.virtual_services.push(Entry { meta, spec });
                }
                Spec::DestinationRule(mut spec) => {
                    spec.export_to.or(&seen.destination_rules);
                    index.destination_rules.push(Entry { meta, spec: *spec });
                }
                Spec::Gateway(spec) => index.gateways.push(Entry { meta, spec }),
                Spec::AuthorizationPolicy(spec) => {
                    index.authorization_policies.push(Entry { meta, spec });
                }
                Spec::PeerAuthentication(spec) => {
                    index.peer_authentications.push(Entry { meta, spec });
                }
                Spec::RequestAuthentication(spec) => {
                    index.request_authentications.push(Entry { meta, spec });
                }
                Spec::Telemetry(spec) => index.telemetries.push(Entry { meta, spec }),
                Spec::Service(mut spec) => {
                    spec.export_to.or(&seen.services);
                    objects.services.push(Entry { meta, spec });
                }
                Spec::EndpointSlice(spec) => objects.slices.push(Entry { meta, spec }),
                Spec::Pod(spec) => objects.pods.push(Entry { meta, spec }),
                // What they name is said by those who refer to them.
                Spec::Namespace => {
                    let preferred = meta.annotations.get(TRAFFIC_DISTRIBUTION);
                    preferences.extend(preferred.map(|it| (meta.name.clone(), it.clone())));
                    of_api.namespaces.insert(meta.name, meta.labels);
                }
                Spec::Node => {
                    let place = Locality::of_machine(&meta.labels);
                    objects.machines.insert(meta.name, place);
                }
                Spec::ServiceAccount | Spec::ProxyConfig => {}
                Spec::GatewayClass(spec) => of_api.classes.push(Entry { meta, spec }),
                Spec::ApiGateway(spec) => of_api.gateways.push(Entry { meta, spec }),
                Spec::Route(spec) => of_api.routes.push(Entry { meta, spec }),
                Spec::ReferenceGrant(spec) => of_api.grants.push(Entry { meta, spec }),
                Spec::BackendTlsPolicy(spec) => of_api.policies.push(Entry { meta, spec }),
                Spec::ConfigMap(spec) => of_api.config_maps.push(Entry { meta, spec }),
                Spec::Secret(spec) => index.secrets.add(Entry { meta, spec }),
                Spec::Ingress(spec) => of_api.ingresses.push(Entry { meta, spec }),
                Spec::Deployment => index.problems.push(kubernetes::without_effect(&meta)),
                Spec::Other(_) => {}
            }
        }
        // As in Istio, the oldest counts where several could.
        by_age(&mut service_entries);
        by_age(&mut index.virtual_services);
        delegates::merge(&mut index.virtual_services, &mut index.problems);
        by_age(&mut index.destination_rules);
        by_age(&mut index.gateways);
        // Of Sidecars, the oldest of a namespace: they stand together.
        let in_namespace = |one: &Entry<Sidecar>| {
            let meta = &one.meta;
            (meta.namespace.clone(), gateway_api::age(meta))
        };
        index.sidecars.sort_by_cached_key(in_namespace);
        by_age(&mut index.telemetries);
        by_age(&mut index.peer_authentications);
        let routed = index.virtual_services.iter().enumerate();
        let routed = routed.flat_map(|(at, one)| one.spec.hosts.iter().map(move |host| (at, host)));
        index.routed = routed.collect();
        let ruled = index.destination_rules.iter().enumerate();
        index.ruled = ruled.map(|(at, one)| (at, &one.spec.host)).collect();
        let of_kubernetes = objects.services(&index.workloads).into_iter();
        let of_kubernetes = of_kubernetes.map(|one| (one.meta.clone(), vec![one]));
        let of_istio: Vec<_> = service_entries
            .iter()
            .map(|entry| (entry.meta.clone(), Service::of(entry, &index.workloads)))
            .collect();
        for (meta, services) in of_kubernetes.chain(of_istio) {
            for mut service in services {
                // What a service says of itself goes before what its namespace says.
                if let Some(preferred) = preferences.get(&meta.namespace) {
                    let own = service
                        .meta
                        .annotations
                        .entry(TRAFFIC_DISTRIBUTION.to_owned());
                    own.or_insert_with(|| preferred.clone());
                }
                let of_host = index.services.entry(service.host.clone()).or_default();
                let mut known = of_host.iter();
                let known = known.find(|one| one.meta.namespace == meta.namespace);
                if let Some(first) = known {
                    let message = format!(
                        "host `{}` is already that of {}: this one is ignored",
                        service.host, first.meta
                    );
                    let source = &meta.source;
                    let problem = Problem::error(source, source.position, message);
                    index.problems.push(problem.code(code::DUPLICATE_HOST));
                    continue;
                }
                of_host.push(service);
            }
        }
        let services = index.services.values();
        for (place, service) in services.flat_map(|of_host| of_host.iter().enumerate()) {
            index.has_sessions |= service.session().is_some();
            let addresses: BTreeSet<IpAddr> = (service.endpoints.iter())
                .filter_map(|endpoint| endpoint.address.ip())
                .collect();
            for address in addresses {
                let services = index.by_address.entry(address).or_default();
                services.push((service.host.clone(), place));
            }
        }
        index.unready = objects.unready();
        index.pods = objects.pods;
        index.pod_configs = PodConfigs::of(&index.pods, &index.mesh, &mut index.problems);
        analysis::analyse(&mut index);
        let mut problems = Vec::new();
        index.gateway_api = of_api.lower(&index, &mut problems);
        targets::resolve(&mut index, &mut problems);
        index.problems.append(&mut problems);
        index.asked = Asked::of(&index);
        for resource in &resources {
            checks::check_annotations(&resource.meta, &mut index.problems);
            kubernetes::ignored(&resource.meta, &resource.ignored, &mut index.problems);
        }
        let metas = resources.iter().map(|resource| &resource.meta);
        checks::check_networks(metas.clone(), &mut index.problems);
        let metas = metas.filter(|meta| meta.kind != Kind::Other);
        problem::attribute(&mut index.problems, metas);
        index
    }

    /// The mesh configuration.
    pub fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// Whether clients of some service stay with the endpoint that they had first.
    pub(crate) fn has_sessions(&self) -> bool {
        self.has_sessions
    }

    /// The workloads.
    pub fn workloads(&self) -> &[Entry<WorkloadEntry>] {
        &self.workloads
    }

    /// Kubernetes' workloads.
    pub fn pods(&self) -> &[Entry<Pod>] {
        &self.pods
    }

    /// How many endpoints and pods are not ready.
    pub(crate) fn unready(&self) -> usize {
        self.unready
    }

    /// The routing rules.
    pub fn virtual_services(&self) -> &[Entry<VirtualService>] {
        &self.virtual_services
    }

    /// The rules about connections.
    pub fn destination_rules(&self) -> &[Entry<DestinationRule>] {
        &self.destination_rules
    }

    /// What Gateway API's resources come to.
    pub(crate) fn gateway_api(&self) -> &Lowered {
        &self.gateway_api
    }

    /// The gateways' listeners.
    pub fn gateways(&self) -> &[Entry<Gateway>] {
        &self.gateways
    }

    /// The sidecars' listeners.
    pub fn sidecars(&self) -> &[Entry<Sidecar>] {
        &self.sidecars
    }

    /// What is asked of those that connect to a port of a workload, and the PeerAuthentication that says so; none if
    /// nobody says anything.
    pub fn mutual_tls(&self, proxy: &Proxy, port: u16) -> (MutualTls, Option<&Meta>) {
        self.decided_mutual_tls(&proxy.namespace, &proxy.labels, port)
    }

    /// How much of the requests that a proxy's workload sends (or, at a gateway, gets) is traced, in percent, and by
    /// which provider; none if they are not traced.
    pub fn traced(&self, proxy: &Proxy) -> Option<(&ExtensionProvider, f64)> {
        let traced = self.tracing_of(proxy, Side::Client)?;
        Some((traced.provider, traced.sampling))
    }

    /// What is wrong with how the resources fit together.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The Sidecar for a proxy: one that selects its workload, else that of its namespace, else that
    /// of the root namespace.
    pub fn sidecar_for(&self, proxy: &Proxy) -> Option<&Entry<Sidecar>> {
        let in_namespace = |namespace: &str, selecting: bool| {
            let mut own = in_namespace(&self.sidecars, namespace).iter();
            own.find(|sidecar| match &sidecar.spec.selector {
                Some(selector) => selecting && proxy.is_selected_by(selector),
                None => !selecting,
            })
        };
        in_namespace(&proxy.namespace, true)
            .or_else(|| in_namespace(&proxy.namespace, false))
            .or_else(|| in_namespace(&self.mesh.root_namespace, false))
    }
}

/// Those of a namespace, of entries that are sorted by it.
fn in_namespace<'a, T>(entries: &'a [Entry<T>], namespace: &str) -> &'a [Entry<T>] {
    let first = entries.partition_point(|entry| entry.meta.namespace.as_str() < namespace);
    let entries = &entries[first..];
    let count = entries.partition_point(|entry| entry.meta.namespace == namespace);
    &entries[..count]
}

/// The oldest first; where nobody has dated them, by namespace and name.
fn by_age<T>(entries: &mut [Entry<T>]) {
    entries.sort_by_cached_key(|entry| gateway_api::age(&entry.meta));
}
