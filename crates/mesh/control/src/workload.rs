//! Workloads as the resources describe them: what a proxy beside one, or the gateway of a Gateway, would say of itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use periplus_resources::{Gateway, Kind, Labels, Locality, Meta, did_you_mean};

use crate::index::{Entry, Index};
use crate::proxy::{Interception, Proxy, Role};

/// A workload, or a gateway.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its proxy.
    pub proxy: Proxy,
    /// The account that it runs as; empty if nobody says.
    pub service_account: String,
    /// Its ports, by the names of the service's ports.
    pub ports: BTreeMap<String, u16>,
    /// The resource that describes it.
    pub meta: Meta,
}

impl Workload {
    /// `NAME.NAMESPACE`
    pub fn name(&self) -> String {
        format!("{}.{}", self.proxy.workload, self.proxy.namespace)
    }

    /// `spiffe://…`: who it is to others; none if nobody says what account it runs as.
    pub fn principal(&self, index: &Index) -> Option<String> {
        let account = Some(self.service_account.as_str()).filter(|account| !account.is_empty())?;
        let domain = &index.mesh().trust_domain;
        let namespace = &self.proxy.namespace;
        Some(format!("spiffe://{domain}/ns/{namespace}/sa/{account}"))
    }
}

/// A workload, as far as it matters who it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    pub(crate) meta: &'a Meta,
    /// None of a pod that does not run.
    pub(crate) address: Option<IpAddr>,
    pub(crate) labels: &'a Labels,
    /// Empty if nobody says.
    pub(crate) account: &'a str,
}

impl Index {
    /// Whom the resources describe.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        let entries = self.workloads().iter().map(|entry| Account {
            meta: &entry.meta,
            address: entry.spec.address.ip(),
            labels: &entry.spec.labels,
            account: &entry.spec.service_account,
        });
        let pods = self.pods().iter().map(|pod| Account {
            meta: &pod.meta,
            address: pod.spec.address,
            labels: &pod.meta.labels,
            account: &pod.spec.service_account,
        });
        entries.chain(pods)
    }

    /// All workloads that have addresses.
    pub fn described(&self) -> Vec<Workload> {
        let entries = self.workloads().iter().filter_map(|entry| {
            let spec = &entry.spec;
            let account = (spec.service_account.as_str(), &spec.ports);
            let mut made = self.make(&entry.meta, &spec.labels, spec.address.ip()?, account);
            made.proxy.locality = spec.locality();
            Some(made)
        });
        let pods = self.pods().iter().filter_map(|pod| {
            let account = (pod.spec.service_account.as_str(), &pod.spec.ports);
            let mut made = self.make(&pod.meta, &pod.meta.labels, pod.spec.address?, account);
            made.proxy.machine.clone_from(&pod.spec.node);
            Some(made)
        });
        entries.chain(pods).collect()
    }

    /// All workloads that have addresses, and the gateways of Gateways, one for each selector.
    pub fn proxies(&self) -> Vec<Workload> {
        let mut all = self.described();
        let mut selectors: Vec<&Labels> = Vec::new();
        let of_istio = self.gateways().iter();
        let of_istio = of_istio.map(|entry| (&entry.spec.selector, self.gateway(entry)));
        for (selector, workload) in of_istio.chain(self.other_gateways()) {
            if !selectors.contains(&selector) {
                selectors.push(selector);
                all.push(workload);
            }
        }
        all
    }

    /// The gateways of Gateway API's Gateways, and the one of all Ingresses, with what selects them.
    fn other_gateways(&self) -> Vec<(&Labels, Workload)> {
        let mut all: Vec<(&Labels, Workload)> = Vec::new();
        for entry in &self.gateway_api().gateways {
            let mut workload = self.gateway(entry);
            let meta = &mut workload.meta;
            match meta.kind {
                // Whoever serves them lives, as in Istio, beside the control plane.
                Kind::Ingress => {
                    meta.namespace.clone_from(&self.mesh().root_namespace);
                    "ingress".clone_into(&mut meta.name);
                    workload.proxy.namespace.clone_from(&meta.namespace);
                }
                // There is one for each of its listeners.
                _ => meta
                    .name
                    .truncate(meta.name.find('~').unwrap_or(meta.name.len())),
            }
            workload.proxy.workload.clone_from(&workload.meta.name);
            if !all.iter().any(|(_, one)| one.meta == workload.meta) {
                all.push((&entry.spec.selector, workload));
            }
        }
        all
    }

    /// The gateway that a Gateway is for: what is known of it that somebody describes with such labels.
    fn gateway(&self, entry: &Entry<Gateway>) -> Workload {
        let (meta, selector) = (&entry.meta, &entry.spec.selector);
        let namespace = entry.spec.namespace.as_ref();
        let described = self.described().into_iter().find(|one| {
            one.proxy.is_selected_by(selector)
                && namespace.is_none_or(|namespace| *namespace == one.proxy.namespace)
        });
        let namespace = namespace.unwrap_or(&meta.namespace);
        let (namespace, labels, account) = match &described {
            Some(one) => (
                &one.proxy.namespace,
                &one.proxy.labels,
                &*one.service_account,
            ),
            None => (namespace, selector, ""),
        };
        let ip = Ipv4Addr::LOCALHOST.into();
        Workload {
            proxy: proxy(Role::Router, (&meta.name, namespace), labels, ip),
            service_account: account.to_owned(),
            ports: BTreeMap::new(),
            meta: meta.clone(),
        }
    }

    /// The gateway of Ingresses, for each of them.
    fn ingresses(&self) -> Vec<Workload> {
        let all = self.other_gateways();
        let mut all = all.iter().map(|(_, one)| one);
        let one = all.find(|one| one.meta.kind == Kind::Ingress);
        let mut metas: Vec<&Meta> = Vec::new();
        for entry in &self.gateway_api().rules {
            if entry.meta.kind == Kind::Ingress && !metas.contains(&&entry.meta) {
                metas.push(&entry.meta);
            }
        }
        let of = |meta: &Meta| {
            let meta = meta.clone();
            one.map(|one| Workload {
                meta,
                ..one.clone()
            })
        };
        metas.into_iter().filter_map(of).collect()
    }

    fn make(
        &self,
        meta: &Meta,
        labels: &Labels,
        ip: IpAddr,
        (account, ports): (&str, &BTreeMap<String, u16>),
    ) -> Workload {
        let mut proxy = proxy(Role::Sidecar, (&meta.name, &meta.namespace), labels, ip);
        // Where a Sidecar says which ports its proxy listens on, clients call it themselves.
        let sidecar = self.sidecar_for(&proxy);
        let has_ports = sidecar.is_some_and(|entry| {
            let mut egress = entry.spec.egress.iter();
            !entry.spec.ingress.is_empty() || egress.any(|egress| egress.port.is_some())
        });
        proxy.interception = (!has_ports).then_some(Interception::Redirect);
        Workload {
            proxy,
            service_account: account.to_owned(),
            ports: ports.clone(),
            meta: meta.clone(),
        }
    }

    /// The workload of a name (`NAME` or `NAME.NAMESPACE`), or the gateway that a Gateway or an Ingress of that name is
    /// for.
    ///
    /// # Errors
    ///
    /// That there is none, or several.
    pub fn find_workload(&self, name: &str) -> Result<Workload, String> {
        let all = self.described();
        let is_it = |meta: &Meta| {
            let full = format!("{}.{}", meta.name, meta.namespace);
            meta.name == name || full == name
        };
        let mut found: Vec<_> = all.iter().filter(|one| is_it(&one.meta)).cloned().collect();
        let gateways = self.gateways().iter().filter(|entry| is_it(&entry.meta));
        found.extend(gateways.map(|entry| self.gateway(entry)));
        let of_api = self.other_gateways().into_iter().map(|(_, one)| one);
        let of_api = of_api.filter(|one| one.meta.kind != Kind::Ingress);
        let others = of_api.chain(self.ingresses());
        found.extend(others.filter(|one| is_it(&one.meta)));
        if let [_] = found.as_slice() {
            return Ok(found.remove(0));
        }
        let list = |workloads: &[Workload]| -> String {
            workloads
                .iter()
                .map(Workload::name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        if !found.is_empty() {
            return Err(format!(
                "`{name}` may be any of {}: write more of it",
                list(&found)
            ));
        }
        let names: Vec<String> = all.iter().map(|one| one.meta.name.clone()).collect();
        let hint = did_you_mean(name, names.iter().map(String::as_str));
        Err(match all.is_empty() {
            true => format!(
                "there is no workload `{name}`: nothing describes any, as WorkloadEntries and Pods with addresses do"
            ),
            false => format!(
                "there is no workload `{name}`{hint}; there are {}",
                list(&all)
            ),
        })
    }
}

fn proxy(role: Role, (name, namespace): (&str, &str), labels: &Labels, ip: IpAddr) -> Proxy {
    let kind = match role {
        Role::Sidecar => "sidecar",
        Role::Router => "router",
    };
    Proxy {
        id: format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        role,
        ip,
        interception: None,
        cluster: format!("{name}.{namespace}"),
        namespace: namespace.to_owned(),
        labels: labels.clone(),
        workload: name.to_owned(),
        mesh_id: "cluster.local".to_owned(),
        cluster_id: "local".to_owned(),
        locality: Locality::of_labels(labels),
        machine: None,
        counts_metrics: true,
        is_proxyless: false,
        captures_dns: false,
    }
}
