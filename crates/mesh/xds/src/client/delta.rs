//! The client's half of the incremental protocol, without I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::session::{invalid, text_of};
use super::{Client, Config, Dialogue, Handler, Named, Rejection};
use crate::type_url::short;

/// Which resources are held in which version, and what has been asked for on the stream of now.
#[derive(Debug)]
pub(super) struct DeltaSession {
    node: Node,
    wildcard_types: Vec<&'static str>,
    named_types: Vec<&'static str>,
    types: BTreeMap<String, TypeState>,
    had_response: bool,
    /// This stream has said who this is.
    is_introduced: bool,
}

#[derive(Debug, Default)]
struct TypeState {
    /// The resources that were accepted, with their versions.
    versions: BTreeMap<String, String>,
    /// What this stream is subscribed to.
    names: BTreeSet<String>,
}

impl DeltaSession {
    /// Begins with what the handler holds already.
    pub(super) fn new(config: &Config, handler: &impl Handler) -> Self {
        let all = config.wildcard_types.iter().chain(&config.named_types);
        let types = all.map(|type_url| {
            let state = TypeState {
                versions: handler.versions(type_url),
                names: BTreeSet::new(),
            };
            ((*type_url).to_owned(), state)
        });
        Self {
            node: config.node.clone(),
            wildcard_types: config.wildcard_types.clone(),
            named_types: config.named_types.clone(),
            types: types.collect(),
            had_response: false,
            is_introduced: false,
        }
    }

    fn take(
        &mut self,
        response: DeltaDiscoveryResponse,
        handler: &mut impl Handler,
    ) -> Result<(), Vec<Rejection>> {
        let type_url = &response.type_url;
        let mut resources = Vec::with_capacity(response.resources.len());
        for resource in response.resources {
            // A resource without a body is there only to be kept alive.
            let Some(body) = resource.resource else {
                continue;
            };
            if body.type_url != *type_url {
                return Err(vec![Rejection {
                    resource: format!("{} {:?}", short(type_url), resource.name),
                    reason: format!("it is of type {:?}", body.type_url),
                }]);
            }
            resources.push(Named {
                name: resource.name,
                version: resource.version,
                body,
            });
        }
        let versions: Vec<_> = resources
            .iter()
            .map(|resource| (resource.name.clone(), resource.version.clone()))
            .collect();
        let version = &response.system_version_info;
        let removed = response.removed_resources;
        handler.apply_delta(type_url, version, resources, &removed)?;
        let state = self.types.entry(type_url.clone()).or_default();
        state.versions.extend(versions);
        for name in &removed {
            state.versions.remove(name);
        }
        Ok(())
    }

    /// The first request of a stream carries the node.
    fn introduce(&mut self, requests: &mut [DeltaDiscoveryRequest]) {
        if !self.is_introduced
            && let Some(first) = requests.first_mut()
        {
            first.node = Some(self.node.clone());
            self.is_introduced = true;
        }
    }

    /// The changes of all subscriptions to what the handler wants.
    fn changed_subscriptions(&mut self, handler: &impl Handler) -> Vec<DeltaDiscoveryRequest> {
        let types = self.named_types.clone().into_iter();
        types
            .filter_map(|type_url| self.changed_names(type_url, handler))
            .collect()
    }

    /// The change of a subscription to what the handler wants, if there is one.
    fn changed_names(
        &mut self,
        type_url: &str,
        handler: &impl Handler,
    ) -> Option<DeltaDiscoveryRequest> {
        let wanted = handler.wanted(type_url);
        let state = self.types.entry(type_url.to_owned()).or_default();
        // Nearly always nothing is other than before.
        if wanted.iter().eq(&state.names) {
            return None;
        }
        let wanted: BTreeSet<String> = wanted.into_iter().collect();
        let added: Vec<String> = wanted.difference(&state.names).cloned().collect();
        let gone: Vec<String> = state.names.difference(&wanted).cloned().collect();
        if added.is_empty() && gone.is_empty() {
            return None;
        }
        // Whoever comes back gets all of it again: the handler has let it go.
        for name in &gone {
            state.versions.remove(name);
        }
        state.names = wanted;
        Some(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: added,
            resource_names_unsubscribe: gone,
            ..DeltaDiscoveryRequest::default()
        })
    }
}

impl Dialogue for DeltaSession {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn reset(&mut self) {
        self.had_response = false;
        self.is_introduced = false;
        for state in self.types.values_mut() {
            state.names.clear();
        }
    }

    fn opening(&mut self, handler: &impl Handler) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for type_url in self.wildcard_types.clone() {
            let state = self.types.entry(type_url.to_owned()).or_default();
            requests.push(DeltaDiscoveryRequest {
                type_url: type_url.to_owned(),
                initial_resource_versions: versions(state.versions.iter()),
                ..DeltaDiscoveryRequest::default()
            });
        }
        for type_url in self.named_types.clone() {
            if let Some(mut request) = self.changed_names(type_url, handler) {
                let state = &self.types[type_url];
                let wanted = |(name, _): &(&String, &String)| state.names.contains(*name);
                request.initial_resource_versions = versions(state.versions.iter().filter(wanted));
                requests.push(request);
            }
        }
        self.introduce(&mut requests);
        requests
    }

    fn subscribe(&mut self, handler: &impl Handler) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = self.changed_subscriptions(handler);
        self.introduce(&mut requests);
        requests
    }

    fn on_response(
        &mut self,
        response: DeltaDiscoveryResponse,
        handler: &mut impl Handler,
    ) -> Vec<DeltaDiscoveryRequest> {
        let type_url = response.type_url.clone();
        if !self.types.contains_key(&type_url) {
            tracing::warn!(%type_url, "the control plane sent resources of a type that was not asked for");
            return Vec::new();
        }
        self.had_response = true;
        let nonce = response.nonce.clone();
        let version = response.system_version_info.clone();
        let outcome = self.take(response, handler);
        // What follows from the response is asked for before it is acknowledged: then the control plane
        // knows what the new clusters still wait for.
        let mut requests = self.changed_subscriptions(handler);
        let error = outcome.err().map(|rejections| {
            let error = text_of(&rejections);
            tracing::warn!(resources = short(&type_url), %version, %error, "refused configuration");
            invalid(error)
        });
        requests.push(DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail: error,
            ..DeltaDiscoveryRequest::default()
        });
        requests
    }

    fn had_response(&self) -> bool {
        self.had_response
    }

    async fn call(
        client: &mut Client,
        requests: ReceiverStream<DeltaDiscoveryRequest>,
    ) -> Result<Response<Streaming<DeltaDiscoveryResponse>>, Status> {
        match client {
            Client::Aggregated(client) => client.delta_aggregated_resources(requests).await,
            Client::Secrets(client) => client.delta_secrets(requests).await,
        }
    }
}

fn versions<'a>(held: impl Iterator<Item = (&'a String, &'a String)>) -> HashMap<String, String> {
    held.map(|(name, version)| (name.clone(), version.clone()))
        .collect()
}
