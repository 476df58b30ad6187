//! Kubernetes' objects as services of the mesh.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use periplus_resources::{
    EndpointSlice, Endpoints, Host, Ignored, Kind, KubernetesService, Labels, Locality, Location,
    Meta, Pod, Resolution, ServiceEntry, WorkloadEntry,
};

use super::service::{TRAFFIC_DISTRIBUTION, named};
use super::{Entry, Problem, Service, code, in_namespace};
use crate::names::TLS_MODE_LABEL as TLS_MODE;
use crate::proxy::is_subset;

/// Those that make services.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) services: Vec<Entry<KubernetesService>>,
    pub(super) slices: Vec<Entry<EndpointSlice>>,
    pub(super) pods: Vec<Entry<Pod>>,
    /// Where machines are, by their names.
    pub(super) machines: BTreeMap<String, Locality>,
}

/// Pods by namespace and name.
type Pods<'a> = HashMap<(&'a str, &'a str), &'a Entry<Pod>>;

/// A Deployment makes no pods here: Kubernetes does, or processes that are described as WorkloadEntries.
pub(super) fn without_effect(meta: &Meta) -> Problem {
    let message = format!(
        "{meta} is read, but has no effect: describe the workloads that run as Pods with addresses, or as \
         WorkloadEntries with the labels of its template"
    );
    let problem = Problem::warning(&meta.source, meta.source.position, message);
    problem.code(code::WITHOUT_EFFECT)
}

/// What resources say that changes nothing; what Kubernetes itself writes is nobody's mistake.
pub(super) fn ignored(meta: &Meta, ignored: &[Ignored], problems: &mut Vec<Problem>) {
    for one in ignored {
        let message = format!("{meta}: `{}` has no effect: {}", one.field, one.reason);
        let source = &meta.source;
        let problem = match meta.kind {
            Kind::EndpointSlice => Problem::info(source, one.at.0, message),
            _ => Problem::warning(source, one.at.0, message),
        };
        problems.push(problem.code(code::WITHOUT_EFFECT));
    }
}

/// A resource of a kind that the mesh makes nothing of: of Istio's own that is hardly what was meant.
pub(super) fn other(kind: &str, meta: &Meta) -> Problem {
    let (reason, is_of_istio) = match kind {
        "EnvoyFilter" => (
            "proxies are told what Istio's other resources say: for limits of rates see docs/quota.md",
            true,
        ),
        "WasmPlugin" => ("proxies run no WebAssembly", true),
        "WorkloadGroup" => (
            "no workload registers itself: describe each as a WorkloadEntry",
            true,
        ),
        _ => ("it is there for others than the mesh", false),
    };
    let message = format!(
        "{kind} {}/{} is read, and has no effect: {reason}",
        meta.namespace, meta.name
    );
    let source = &meta.source;
    let problem = match is_of_istio {
        true => Problem::warning(source, source.position, message),
        false => Problem::info(source, source.position, message),
    };
    problem.code(code::WITHOUT_EFFECT)
}

impl Objects {
    /// How many endpoints of slices, and pods that are in none, are not ready.
    pub(super) fn unready(&self) -> usize {
        let in_slices = self.slices.iter().flat_map(|slice| {
            let endpoints = slice.spec.endpoints.iter();
            endpoints.map(|endpoint| (slice.meta.namespace.as_str(), endpoint))
        });
        let known: HashSet<_> = in_slices
            .clone()
            .filter_map(|(namespace, endpoint)| Some((namespace, endpoint.pod.as_deref()?)))
            .collect();
        let pods = self.pods.iter().filter(|pod| {
            let name = (pod.meta.namespace.as_str(), pod.meta.name.as_str());
            !pod.spec.is_ready && !known.contains(&name)
        });
        in_slices.filter(|(_, one)| !one.is_ready).count() + pods.count()
    }

    /// The services, with the workloads behind them.
    pub(super) fn services(&self, workloads: &[Entry<WorkloadEntry>]) -> Vec<Service> {
        let mut pods = Pods::new();
        for pod in &self.pods {
            let name = (pod.meta.namespace.as_str(), pod.meta.name.as_str());
            pods.entry(name).or_insert(pod);
        }
        let make = |entry| self.service(entry, &pods, workloads);
        self.services.iter().filter_map(make).collect()
    }

    fn service(
        &self,
        entry: &Entry<KubernetesService>,
        pods: &Pods<'_>,
        workloads: &[Entry<WorkloadEntry>],
    ) -> Option<Service> {
        let Entry { meta, spec } = entry;
        let host = Host::parse(&meta.name).ok()?.resolve(&meta.namespace);
        let resolution = match (&spec.external_name, spec.is_headless) {
            (Some(_), _) => Resolution::Dns,
            (None, true) => Resolution::OfClient,
            (None, false) => Resolution::Static,
        };
        let endpoints = match spec.external_name {
            Some(_) => Vec::new(),
            None => self.endpoints(entry, pods, workloads),
        };
        let endpoints: Arc<[WorkloadEntry]> = endpoints.into();
        Some(Service {
            host: host.clone(),
            spec: ServiceEntry {
                hosts: vec![host],
                addresses: spec.addresses.clone(),
                subnets: Vec::new(),
                ports: spec.ports.clone(),
                location: match spec.external_name {
                    Some(_) => Location::External,
                    None => Location::Internal,
                },
                resolution,
                endpoints: match &spec.selector {
                    Some(selector) if spec.external_name.is_none() => {
                        Endpoints::Selected(selector.clone())
                    }
                    _ => Endpoints::Listed(Arc::clone(&endpoints)),
                },
                export_to: spec.export_to.clone(),
                names: Vec::new(),
                alias: spec.external_name.clone(),
            },
            endpoints,
            is_of_machine: spec.is_of_machine,
            meta: {
                let mut meta = meta.clone();
                // What the service itself says goes before its annotation.
                let told = spec.traffic_distribution.iter();
                let told = told.map(|it| (TRAFFIC_DISTRIBUTION.to_owned(), it.clone()));
                meta.annotations.extend(told);
                meta
            },
        })
    }

    /// Its EndpointSlices, else the pods that it selects; and the WorkloadEntries that it selects, as in Istio.
    fn endpoints(
        &self,
        service: &Entry<KubernetesService>,
        pods: &Pods<'_>,
        workloads: &[Entry<WorkloadEntry>],
    ) -> Vec<WorkloadEntry> {
        let Entry { meta, spec } = service;
        let namespace = &meta.namespace;
        let slices = in_namespace(&self.slices, namespace).iter();
        let slices =
            slices.filter(|slice| slice.spec.service.as_deref() == Some(meta.name.as_str()));
        let slices: Vec<_> = slices.collect();
        let selects = |labels: &Labels| {
            let selector = spec.selector.as_ref();
            selector.is_some_and(|selector| is_subset(selector, labels))
        };
        let mut endpoints: Vec<WorkloadEntry> = match slices.is_empty() {
            false => slices
                .iter()
                .flat_map(|slice| self.of_slice(spec, slice, pods))
                .collect(),
            true => in_namespace(&self.pods, namespace)
                .iter()
                .filter(|pod| selects(&pod.meta.labels))
                .filter_map(|pod| self.of_pod(spec, pod))
                .collect(),
        };
        let selected = in_namespace(workloads, namespace).iter();
        let selected = selected.filter(|workload| selects(&workload.spec.labels));
        endpoints.extend(selected.map(named));
        endpoints
    }
}

impl Objects {
    /// The endpoints of a slice, as far as the service wants them.
    fn of_slice<'a>(
        &'a self,
        service: &'a KubernetesService,
        slice: &'a Entry<EndpointSlice>,
        pods: &'a Pods<'_>,
    ) -> impl Iterator<Item = WorkloadEntry> + 'a {
        // A port without a name is the only one of its service.
        let name = |name: &String| match (name.as_str(), service.ports.as_slice()) {
            ("", [only]) => only.name.clone(),
            _ => name.clone(),
        };
        let ports = slice.spec.ports.iter();
        let ports: BTreeMap<_, _> = ports.map(|(port, number)| (name(port), *number)).collect();
        let ready = slice.spec.endpoints.iter();
        // As in Istio, who leaves is not asked even where those are that are not ready.
        let ready = ready.filter(|one| one.is_ready || service.publishes_unready && !one.is_ending);
        ready.map(move |endpoint| {
            let namespace = slice.meta.namespace.as_str();
            let name = endpoint.pod.as_deref();
            let pod = name.and_then(|name| pods.get(&(namespace, name)).copied());
            WorkloadEntry {
                name: pod.map(workload_of).unwrap_or_default(),
                address: endpoint.address.into(),
                ports: ports.clone(),
                labels: pod.map(labels_of).unwrap_or_default(),
                weight: 1,
                service_account: pod
                    .map(|pod| pod.spec.service_account.clone())
                    .unwrap_or_default(),
                locality: self.place(pod, endpoint.node.as_deref(), endpoint.zone.as_deref()),
                machine: endpoint.node.clone().or_else(|| pod?.spec.node.clone()),
            }
        })
    }

    /// A pod that runs and is ready.
    fn of_pod(&self, service: &KubernetesService, pod: &Entry<Pod>) -> Option<WorkloadEntry> {
        let is_there = pod.spec.is_ready || service.publishes_unready;
        let named = service.target_names.iter();
        let named = named.filter_map(|(port, target)| {
            let number = pod.spec.ports.get(target)?;
            Some((port.clone(), *number))
        });
        Some(WorkloadEntry {
            name: workload_of(pod),
            address: pod.spec.address.filter(|_| is_there)?.into(),
            ports: named.collect(),
            labels: labels_of(pod),
            weight: 1,
            service_account: pod.spec.service_account.clone(),
            locality: self.place(Some(pod), None, None),
            machine: pod.spec.node.clone(),
        })
    }

    /// Where an endpoint is: as its pod's label says, else where its machine is, else in a zone of a machine that is known.
    fn place(
        &self,
        pod: Option<&Entry<Pod>>,
        machine: Option<&str>,
        zone: Option<&str>,
    ) -> Option<Locality> {
        if pod.is_some_and(|pod| !Locality::of_labels(&pod.meta.labels).is_unknown()) {
            return None;
        }
        let of_pod = || pod.and_then(|pod| pod.spec.node.as_deref());
        let machine = machine.or_else(of_pod);
        let place = machine.and_then(|name| self.machines.get(name));
        let in_zone = || {
            let zone = zone?;
            let found = self.machines.values().find(|place| place.zone == zone)?;
            Some(Locality {
                sub_zone: String::new(),
                ..found.clone()
            })
        };
        let place = place.cloned().or_else(in_zone);
        place.filter(|place| !place.is_unknown())
    }
}

/// The name of the Deployment or the StatefulSet that a pod is of, as far as its own tells it, else that.
fn workload_of(pod: &Entry<Pod>) -> String {
    let Meta { name, labels, .. } = &pod.meta;
    let of_deployment = labels.get("pod-template-hash").and_then(|hash| {
        let (before, _) = name.rsplit_once('-')?;
        before.strip_suffix(hash.as_str())?.strip_suffix('-')
    });
    let of_set = || {
        let own = labels.get("statefulset.kubernetes.io/pod-name")?;
        let (before, _) = name.rsplit_once('-')?;
        (own == name).then_some(before)
    };
    of_deployment.or_else(of_set).unwrap_or(name).to_owned()
}

/// As in Istio, a pod has a proxy that speaks mutual TLS only if whoever has put it there says so.
fn labels_of(pod: &Entry<Pod>) -> Labels {
    let mut labels = pod.meta.labels.clone();
    let mode = labels.entry(TLS_MODE.to_owned());
    mode.or_insert_with(|| "disabled".to_owned());
    labels
}
