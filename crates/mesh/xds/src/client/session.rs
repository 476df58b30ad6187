//! The client's half of the protocol, without I/O.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::rpc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Client, Config, Dialogue, Handler, Rejection};
use crate::type_url::short;

/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;
/// How much of a refusal is sent.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// Which versions are in use, and what has been asked for on the stream of now.
#[derive(Debug)]
pub(super) struct Session {
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
    /// The newest version that was accepted.
    version: String,
    /// Of the newest response of this stream.
    nonce: String,
    /// What this stream asked for.
    names: Vec<String>,
}

impl Session {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            node: config.node.clone(),
            wildcard_types: config.wildcard_types.clone(),
            named_types: config.named_types.clone(),
            types: BTreeMap::new(),
            had_response: false,
            is_introduced: false,
        }
    }

    /// Requests for the named types whose names are not what the handler wants.
    fn changed_names(&mut self, handler: &impl Handler) -> Vec<DiscoveryRequest> {
        let mut requests = Vec::new();
        for type_url in self.named_types.clone() {
            let wanted = handler.wanted(type_url);
            let state = self.types.entry(type_url.to_owned()).or_default();
            if state.names != wanted {
                state.names = wanted;
                requests.push(self.request(type_url, None));
            }
        }
        requests
    }

    /// The first request of a stream carries the node.
    fn introduce(&mut self, requests: &mut [DiscoveryRequest]) {
        if !self.is_introduced
            && let Some(first) = requests.first_mut()
        {
            first.node = Some(self.node.clone());
            self.is_introduced = true;
        }
    }

    fn request(&mut self, type_url: &str, error: Option<String>) -> DiscoveryRequest {
        let state = self.types.entry(type_url.to_owned()).or_default();
        DiscoveryRequest {
            version_info: state.version.clone(),
            resource_names: state.names.clone(),
            type_url: type_url.to_owned(),
            response_nonce: state.nonce.clone(),
            error_detail: error.map(invalid),
            ..DiscoveryRequest::default()
        }
    }
}

impl Dialogue for Session {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn reset(&mut self) {
        self.had_response = false;
        self.is_introduced = false;
        for state in self.types.values_mut() {
            state.nonce.clear();
            state.names.clear();
        }
    }

    fn opening(&mut self, handler: &impl Handler) -> Vec<DiscoveryRequest> {
        let mut requests: Vec<_> = self
            .wildcard_types
            .clone()
            .into_iter()
            .map(|type_url| self.request(type_url, None))
            .collect();
        requests.extend(self.changed_names(handler));
        self.introduce(&mut requests);
        requests
    }

    fn subscribe(&mut self, handler: &impl Handler) -> Vec<DiscoveryRequest> {
        let mut requests = self.changed_names(handler);
        self.introduce(&mut requests);
        requests
    }

    fn on_response(
        &mut self,
        response: DiscoveryResponse,
        handler: &mut impl Handler,
    ) -> Vec<DiscoveryRequest> {
        let type_url = response.type_url;
        if !self.types.contains_key(&type_url) {
            tracing::warn!(%type_url, "the control plane sent resources of a type that was not asked for");
            return Vec::new();
        }
        self.had_response = true;

        let foreign = response
            .resources
            .iter()
            .find(|any| any.type_url != type_url);
        let outcome = match foreign {
            Some(any) => Err(vec![Rejection {
                resource: format!("{} response", short(&type_url)),
                reason: format!("it holds a resource of type {:?}", any.type_url),
            }]),
            None => handler.apply(&type_url, &response.version_info, response.resources),
        };
        // What follows from the response is asked for before it is acknowledged: then the control plane
        // knows what the new clusters still wait for. An answer carries the names of its own type.
        let mut requests = self.changed_names(handler);
        requests.retain(|request| request.type_url != type_url);

        let state = self.types.entry(type_url.clone()).or_default();
        state.nonce = response.nonce;
        let error = match outcome {
            Ok(()) => {
                state.version = response.version_info;
                None
            }
            Err(rejections) => {
                let error = text_of(&rejections);
                tracing::warn!(
                    resources = short(&type_url),
                    version = %response.version_info,
                    %error,
                    "refused configuration"
                );
                Some(error)
            }
        };
        requests.push(self.request(&type_url, error));
        requests
    }

    fn had_response(&self) -> bool {
        self.had_response
    }

    async fn call(
        client: &mut Client,
        requests: ReceiverStream<DiscoveryRequest>,
    ) -> Result<Response<Streaming<DiscoveryResponse>>, Status> {
        match client {
            Client::Aggregated(client) => client.stream_aggregated_resources(requests).await,
            Client::Secrets(client) => client.stream_secrets(requests).await,
        }
    }
}

pub(super) fn invalid(message: String) -> rpc::Status {
    rpc::Status {
        code: INVALID_ARGUMENT,
        message,
        details: Vec::new(),
    }
}

pub(super) fn text_of(rejections: &[Rejection]) -> String {
    let mut text = rejections
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    if text.len() > MAX_ERROR_BYTES {
        text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
        text.push_str(" …");
    }
    text
}
