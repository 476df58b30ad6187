//! External authorization: a service is asked whether a request may go on, over gRPC or HTTP.

mod ask;
mod change;
mod connection;
mod grpc;
mod http;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use self::ask::{Asked, AuthzView, refuse_unasked, run, tell_of_framing, while_there};
pub(crate) use self::connection::{ConnectionAuthz, ConnectionAuthzView};
use crate::exchange::Said;
use crate::policy::MetadataMatch;
use crate::snapshot::ValueMatch;

/// The name under which metadata is left.
pub(crate) const FILTER: &str = "envoy.filters.http.ext_authz";

/// Envoy's `ExtAuthz`, with what a route says of it.
#[derive(Clone, Debug)]
pub struct Authz {
    pub(crate) service: Service,
    /// `failure_mode_allow`: a request goes on if there is no answer.
    pub(crate) lets_failures_pass: bool,
    /// `failure_mode_allow_header_add`: the endpoint is told of it.
    pub(crate) tells_failures: bool,
    /// `with_request_body`.
    pub(crate) body: Option<BodyRule>,
    /// `status_on_error`.
    pub(crate) status_on_error: u16,
    /// `filter_enabled`, of a million.
    pub(crate) enabled: u32,
    /// `filter_enabled_metadata`.
    pub(crate) enabled_by: Option<MetadataMatch>,
    /// `deny_at_disable`: requests that nobody is asked about are refused.
    pub(crate) denies_when_off: bool,
    /// `allowed_headers`: the service is told of these fields; of all if there is none.
    pub(crate) allowed: Option<Vec<ValueMatch>>,
    /// `disallowed_headers`.
    pub(crate) disallowed: Vec<ValueMatch>,
    /// `clear_route_cache`: the route is chosen again where the service changes what it is chosen by.
    pub(crate) clears_route: bool,
    /// `include_peer_certificate`.
    pub(crate) tells_certificate: bool,
    /// `include_tls_session`.
    pub(crate) tells_server_name: bool,
    /// `metadata_context_namespaces`.
    pub(crate) namespaces: Vec<String>,
    /// `context_extensions` of the route.
    pub(crate) context: BTreeMap<String, String>,
    /// `enable_dynamic_metadata_ingestion`.
    pub(crate) takes_metadata: bool,
    /// `max_denied_response_body_bytes`.
    pub(crate) most_denied_bytes: usize,
    /// `charge_cluster_response_stats`: a refusal counts as an answer of the request's cluster.
    pub(crate) charges_cluster: bool,
    /// `stat_prefix`.
    pub(crate) stat_prefix: String,
}

/// Two are the same if they are one: filters have no other use for equality.
impl PartialEq for Authz {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Authz {}

/// How much of a request's body the service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRule {
    /// `max_request_bytes`.
    pub(crate) most: usize,
    /// `allow_partial_message`: what is over the limit is left out; else it is too much.
    pub(crate) may_be_cut: bool,
    /// `pack_as_bytes`.
    pub(crate) as_bytes: bool,
}

/// What a route says of it: `CheckSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckSettings {
    /// `context_extensions`.
    pub(crate) context: BTreeMap<String, String>,
    /// `with_request_body`, or `disable_request_body_buffering`.
    pub(crate) body: Option<Option<BodyRule>>,
}

impl CheckSettings {
    /// The same with what a less specific level says about what this one leaves open.
    pub(crate) fn over(&self, below: &Self) -> Self {
        let mut context = below.context.clone();
        context.extend(self.context.clone());
        Self {
            context,
            body: self.body,
        }
    }

    /// The filter as a route wants it.
    pub(crate) fn apply(&self, authz: &Authz) -> Authz {
        Authz {
            context: self.context.clone(),
            body: self.body.unwrap_or(authz.body),
            ..authz.clone()
        }
    }
}

/// The service that is asked.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) cluster: String,
    pub(crate) host: String,
    pub(crate) timeout: Option<Duration>,
    /// The lines of fields that every question has.
    pub(crate) fields: Vec<u8>,
    /// HTTP is spoken, else gRPC.
    pub(crate) http: Option<HttpService>,
}

/// What is special about a service of HTTP.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpService {
    pub(crate) path_prefix: String,
    pub(crate) path_override: String,
    /// `allowed_upstream_headers`: fields of an answer that replace those of the request,
    pub(crate) upstream: Vec<ValueMatch>,
    /// `allowed_upstream_headers_to_append`: that are added to it,
    pub(crate) upstream_added: Vec<ValueMatch>,
    /// `allowed_client_headers`: that a client gets who is refused; all if there are none,
    pub(crate) client: Vec<ValueMatch>,
    /// `allowed_client_headers_on_success`: that a client gets besides the response,
    pub(crate) client_on_success: Vec<ValueMatch>,
    /// `dynamic_metadata_from_headers`: that become metadata.
    pub(crate) metadata: Vec<ValueMatch>,
}

/// What the service says.
#[derive(Debug)]
pub(crate) enum Verdict {
    Allowed(Changes),
    Denied(Denial),
    /// It says nothing that could be used: why, and what the client is to be told all the same.
    Failed(String, Option<Denial>),
}

/// What is done to a request that goes on.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) request: Vec<Change>,
    pub(crate) removed: Vec<String>,
    pub(crate) response: Vec<Said>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) query_removed: Vec<String>,
    /// What the filters behind learn.
    pub(crate) metadata: Vec<(String, serde_json::Value)>,
}

/// A change of a field of the request; its name is in lower case.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
    pub(crate) how: How,
}

/// What becomes of a field that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It goes.
    Set,
    /// It stays.
    Add,
    /// Its value and the new one are one list; nothing comes if it is not there.
    Join,
}

/// How a request is refused.
#[derive(Debug, Default)]
pub(crate) struct Denial {
    /// 0 is what is configured.
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: String,
}

/// Whether a name is one of those.
pub(crate) fn is_one_of(names: &[ValueMatch], name: &str) -> bool {
    names.iter().any(|one| one.matches(name.as_bytes()))
}
