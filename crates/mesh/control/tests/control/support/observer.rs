//! A proxy that only takes down what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::{Config, Handler, Rejection, run};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use prost::Message;

use super::plane::Plane;

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) endpoints: BTreeMap<String, ClusterLoadAssignment>,
    pub(crate) listeners: BTreeMap<String, Listener>,
    pub(crate) routes: BTreeMap<String, RouteConfiguration>,
    /// How many responses of each type.
    pub(crate) pushes: BTreeMap<&'static str, usize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Observer(Arc<Mutex<Seen>>);

impl Observer {
    /// Connects as this node and stays.
    pub(crate) fn connect(plane: &Plane, node: Node) -> Self {
        let observer = Self::default();
        let config = Config::new(format!("http://{}", plane.xds), node);
        let mut handler = observer.clone();
        tokio::spawn(async move { run(&config, &mut handler).await });
        observer
    }

    pub(crate) fn seen(&self) -> Seen {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until what was sent is such.
    pub(crate) async fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        super::wait_until(what, || {
            let seen = self.seen();
            if wanted(&seen) {
                Ok(seen)
            } else {
                Err(seen.pushes)
            }
        })
        .await
    }
}

impl Handler for Observer {
    fn apply(
        &mut self,
        type_url: &str,
        _version: &str,
        resources: Vec<Any>,
    ) -> Result<(), Vec<Rejection>> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match type_url {
            CLUSTER => {
                seen.clusters = decode(&resources, |cluster: &Cluster| &cluster.name);
                "CDS"
            }
            LISTENER => {
                seen.listeners = decode(&resources, |listener: &Listener| &listener.name);
                "LDS"
            }
            ENDPOINT => {
                let decoded = decode(&resources, |e: &ClusterLoadAssignment| &e.cluster_name);
                seen.endpoints.extend(decoded);
                "EDS"
            }
            _ => {
                seen.routes
                    .extend(decode(&resources, |r: &RouteConfiguration| &r.name));
                "RDS"
            }
        };
        *seen.pushes.entry(name).or_default() += 1;
        Ok(())
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        let seen = self.seen();
        match type_url {
            ENDPOINT => {
                let eds = seen
                    .clusters
                    .values()
                    .filter(|c| c.eds_cluster_config.is_some());
                eds.map(|cluster| cluster.name.clone()).collect()
            }
            ROUTE => {
                // The only ones that the listeners of these tests name.
                let names = seen.listeners.values().filter_map(|listener| {
                    let text = super::render::render_listener(listener);
                    ["http_proxy", "http.8080"]
                        .into_iter()
                        .find(|name| text.contains(&format!("route_config_name: \"{name}\"")))
                });
                names
                    .map(str::to_owned)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

fn decode<M: Message + Default>(
    resources: &[Any],
    name: impl Fn(&M) -> &str,
) -> BTreeMap<String, M> {
    let decode = |any: &Any| {
        let message = M::decode(any.value.as_slice()).expect("a message of its type");
        (name(&message).to_owned(), message)
    };
    resources.iter().map(decode).collect()
}
