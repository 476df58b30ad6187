//! Pure functions from the index and a proxy to the proxy's xDS resources, under Istio's names.

mod cluster;
mod gateway;
mod inbound;
mod listener;
mod outbound;
mod policy;
mod proto;
mod route;
mod tracing;

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use periplus_resources::{Host, Meta};

use self::cluster::Clusters;
use crate::index::Index;
use crate::proxy::{Proxy, Role};

/// All resources of one proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// LDS.
    pub listeners: Vec<Listener>,
    /// RDS.
    pub routes: Vec<RouteConfiguration>,
    /// CDS.
    pub clusters: Vec<Cluster>,
    /// EDS.
    pub endpoints: Vec<ClusterLoadAssignment>,
    /// Why something is missing that the proxy may expect.
    pub notes: Vec<String>,
}

/// Makes the resources of a proxy.
pub fn generate(index: &Index, proxy: &Proxy) -> Generated {
    let mut made = Generated::default();
    let mut clusters = Clusters::new(index, proxy);
    match proxy.role {
        Role::Sidecar => match index.sidecar_for(proxy) {
            Some(sidecar) => {
                inbound::add(index, proxy, &sidecar.spec, &mut made);
                outbound::add(index, proxy, &sidecar.spec, &mut made);
                let egress = &sidecar.spec.egress;
                clusters.add_visible(|namespace: &str, host: &Host| {
                    let mut imported = egress.iter().flat_map(|listener| &listener.hosts);
                    imported.any(|import| import.covers(namespace, host))
                });
            }
            None => made.notes.push(format!(
                "no Sidecar in namespace {} selects its workload: it has no listeners",
                proxy.namespace
            )),
        },
        Role::Router => {
            gateway::add(index, proxy, &mut made);
            clusters.add_visible(|_, _| true);
        }
    }
    // Spans must arrive whatever the proxy may reach otherwise.
    if let Some(provider) = index.mesh().tracing_provider() {
        clusters.add(&provider.service);
    }
    clusters.finish(&mut made);
    made
}

/// Kubernetes' path of a resource; the first version stands for all.
pub(crate) fn config_path(meta: &Meta) -> String {
    format!(
        "/apis/networking.istio.io/v1/namespaces/{}/{}/{}",
        meta.namespace,
        meta.kind.path_name(),
        meta.name
    )
}

/// Groups by a key, in the order of the keys.
fn group_by<K: Ord, T>(items: impl IntoIterator<Item = (K, T)>) -> BTreeMap<K, Vec<T>> {
    let mut groups: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for (key, item) in items {
        groups.entry(key).or_default().push(item);
    }
    groups
}
