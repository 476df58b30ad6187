//! Workloads as the resources describe them: what a proxy beside one, or the gateway of a Gateway, would say of itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use periplus_resources::{Labels, Locality, Meta, did_you_mean};

use crate::index::Index;
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
            address: Some(entry.spec.address),
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
        let entries = self.workloads().iter().map(|entry| {
            let spec = &entry.spec;
            let account = (spec.service_account.as_str(), &spec.ports);
            let mut made = self.make(&entry.meta, &spec.labels, spec.address, account);
            made.proxy.locality = spec.locality();
            made
        });
        let pods = self.pods().iter().filter_map(|pod| {
            let account = (pod.spec.service_account.as_str(), &pod.spec.ports);
            Some(self.make(&pod.meta, &pod.meta.labels, pod.spec.address?, account))
        });
        entries.chain(pods).collect()
    }

    /// All workloads that have addresses, and the gateways of Gateways, one for each selector.
    pub fn proxies(&self) -> Vec<Workload> {
        let mut all = self.described();
        let mut selectors: Vec<&Labels> = Vec::new();
        for entry in self.gateways() {
            let selector = &entry.spec.selector;
            if !selectors.contains(&selector) {
                selectors.push(selector);
                all.push(gateway(&entry.meta, selector));
            }
        }
        all
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

    /// The workload of a name (`NAME` or `NAME.NAMESPACE`), or the gateway that a Gateway of that name is for.
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
        found.extend(gateways.map(|entry| gateway(&entry.meta, &entry.spec.selector)));
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

/// The gateway that a Gateway is for.
fn gateway(meta: &Meta, labels: &Labels) -> Workload {
    let place = (meta.name.as_str(), meta.namespace.as_str());
    Workload {
        proxy: proxy(Role::Router, place, labels, Ipv4Addr::LOCALHOST.into()),
        service_account: String::new(),
        ports: BTreeMap::new(),
        meta: meta.clone(),
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
        counts_metrics: true,
        is_proxyless: false,
    }
}
