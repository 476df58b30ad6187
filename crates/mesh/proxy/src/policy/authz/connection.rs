//! A service that is asked whether a connection may go on: `envoy.filters.network.ext_authz`.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{Peer, TlsSession};
use serde_json::Value;

use crate::clock::Micros;
use crate::errand::{Answer, Errand, Trouble};
use crate::policy::authz::ask::Question;
use crate::policy::authz::{Service, Verdict, grpc};
use crate::policy::{Metadata, MetadataMatch, Subject};
use crate::stats::{ConnectionAuthzStats, Registry};

/// The name under which metadata is left.
const FILTER: &str = "envoy.filters.network.ext_authz";

/// Envoy's `ExtAuthz` of connections.
#[derive(Debug)]
pub struct ConnectionAuthz {
    pub(crate) service: Service,
    /// `failure_mode_allow`: a connection goes on if there is no answer.
    pub(crate) lets_failures_pass: bool,
    /// `filter_enabled_metadata`.
    pub(crate) enabled_by: Option<MetadataMatch>,
    /// `include_peer_certificate`.
    pub(crate) tells_certificate: bool,
    /// `include_tls_session`.
    pub(crate) tells_server_name: bool,
    /// `metadata_context_namespaces`.
    pub(crate) namespaces: Vec<String>,
    /// `stat_prefix`.
    pub(crate) stat_prefix: String,
}

/// The same with what a worker counts.
#[derive(Debug)]
pub(crate) struct ConnectionAuthzView {
    authz: Arc<ConnectionAuthz>,
    stats: Arc<ConnectionAuthzStats>,
}

impl ConnectionAuthzView {
    pub(crate) fn new(authz: &Arc<ConnectionAuthz>, registry: &Registry) -> Self {
        let prefix = format!("ext_authz.{}", authz.stat_prefix);
        Self {
            authz: authz.clone(),
            stats: registry.connection_authz(&prefix),
        }
    }

    /// What is asked about a connection that comes from there: nothing if filters before have found out that it may
    /// go on without.
    pub(crate) fn question(&self, from: SocketAddr, subject: &Subject<'_>) -> Option<Question> {
        let authz = &*self.authz;
        let is_for = |asked: &MetadataMatch| asked.holds(subject.metadata);
        if !authz.enabled_by.as_ref().is_none_or(is_for) {
            self.stats.disabled.increment();
            return None;
        }
        let secured = subject.secured;
        let peer = secured.and_then(|secured| secured.peer.as_ref());
        let own = secured.and_then(|secured| secured.own.as_deref());
        let server_name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        let attributes = AttributeContext {
            source: Some(grpc::source(from, peer, authz.tells_certificate)),
            destination: Some(Peer {
                service: server_name(subject.server_name),
                ..grpc::peer(subject.destination, own)
            }),
            metadata_context: Some(grpc::metadata(Some(subject.metadata), &authz.namespaces)),
            tls_session: authz.tells_server_name.then(|| TlsSession {
                sni: server_name(secured.and_then(|secured| secured.server_name.as_deref())),
            }),
            ..AttributeContext::default()
        };
        Some(grpc::asking(&authz.service, attributes))
    }

    /// The errand that asks it, which is counted: [`Self::settle`] or [`Self::abandon`] is to follow.
    pub(crate) fn errand<'a>(&'a self, question: &'a Question) -> Errand<'a> {
        self.stats.total.increment();
        self.stats.active.increment();
        self.authz.service.errand(question)
    }

    /// The connection has ended meanwhile.
    pub(crate) fn abandon(&self) {
        self.stats.active.decrement();
    }

    /// What filters behind learn if the connection may go on, else Envoy's words for why not.
    pub(crate) fn settle(
        &self,
        asked: Result<(), Trouble>,
        answer: &Answer,
        took: Micros,
    ) -> Result<Metadata, &'static str> {
        let stats = &self.stats;
        stats.active.decrement();
        let verdict = match asked {
            Err(trouble) => Verdict::Failed(trouble.to_string(), None),
            Ok(()) => grpc::verdict(answer),
        };
        match verdict {
            Verdict::Allowed(changes) => {
                stats.ok.increment();
                let took_ms = Value::Number((took / 1000).into());
                let took = ("ext_authz_duration".to_owned(), took_ms);
                let mut metadata = Metadata::default();
                for (key, value) in changes.metadata.into_iter().chain([took]) {
                    metadata.set(FILTER, &Rc::from(key), Rc::new(value));
                }
                Ok(metadata)
            }
            Verdict::Denied(_) => {
                stats.denied.increment();
                stats.cx_closed.increment();
                Err("ext_authz_denied")
            }
            Verdict::Failed(reason, _) => {
                let cluster = &self.authz.service.cluster;
                tracing::debug!(cluster, reason, "no leave could be asked for");
                stats.error.increment();
                if self.authz.lets_failures_pass {
                    stats.failure_mode_allowed.increment();
                    return Ok(Metadata::default());
                }
                stats.cx_closed.increment();
                Err("ext_authz_error")
            }
        }
    }
}
