//! Who may ask for whose configuration, where that is asked: on the port with TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_identity::{Caller, CertificateServer, PeerId, Reason, ServiceAccount};
use periplus_xds::server::{Admission, Gate};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use crate::mesh::Mesh;
use crate::proxy::{Proxy, Role, metadata};

/// It is somebody, but not the workload of the node.
const FOREIGN_NODE: &str = "foreign_node";
/// Why streams are refused, by their names in metrics.
const REASONS: [&str; 8] = [
    Reason::NoCredentials.name(),
    Reason::BadToken.name(),
    Reason::NoKeys.name(),
    Reason::ExpiredToken.name(),
    Reason::ForeignAudience.name(),
    Reason::ForeignCertificate.name(),
    Reason::Contradiction.name(),
    FOREIGN_NODE,
];
/// Each reason is logged once in so much time: the counters have them all.
const QUIET: Duration = Duration::from_secs(1);

/// Lets proxies in that are who they say: by the token or the certificate of their account.
pub(crate) struct Gatekeeper {
    certificates: CertificateServer,
    mesh: Arc<Mesh>,
    refusals: Arc<Refusals>,
}

/// How many streams were refused, by reason, and when that was logged last.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<&'static str, (u64, Option<Instant>)>>);

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, (u64, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each reason with its count.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let known = self.lock();
        let count = |reason: &&'static str| {
            let count = known.get(reason).map_or(0, |(count, _)| *count);
            (*reason, count)
        };
        REASONS.iter().map(count).collect()
    }

    fn note(&self, reason: &'static str, node: &str, from: Option<SocketAddr>, status: &Status) {
        let mut known = self.lock();
        let (count, logged) = known.entry(reason).or_default();
        *count += 1;
        let now = Instant::now();
        if logged.is_some_and(|at| now.duration_since(at) < QUIET) {
            return;
        }
        *logged = Some(now);
        drop(known);
        let peer = from.map(|from| from.to_string());
        tracing::warn!(
            reason,
            node,
            peer = peer.as_deref().unwrap_or("unknown"),
            "refused a proxy: {}",
            status.message()
        );
    }
}

impl Gatekeeper {
    pub(crate) fn new(
        certificates: CertificateServer,
        mesh: Arc<Mesh>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            certificates,
            mesh,
            refusals,
        }
    }
}

impl Gate for Gatekeeper {
    fn open(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Admission, Status> {
        let caller = self.certificates.caller(metadata, extensions);
        let Caller { account, address } = caller.map_err(|(reason, status)| {
            let from = extensions.get::<PeerId>().map(|peer| peer.address);
            self.refusals.note(reason.name(), "", from, &status);
            status
        })?;
        let (mesh, refusals) = (Arc::clone(&self.mesh), Arc::clone(&self.refusals));
        Ok(Box::new(move |node| {
            check(&mesh, &account, node).map_err(|reason| {
                let status = Status::permission_denied(reason);
                refusals.note(FOREIGN_NODE, &node.id, address, &status);
                status
            })
        }))
    }
}

/// Whether an account may have the configuration of a node: it must be of its namespace, be the account that it
/// names, and that of the workload that the resources describe under its name or at its place.
fn check(mesh: &Mesh, account: &ServiceAccount, node: &Node) -> Result<(), String> {
    let proxy = Proxy::from_node(node)?;
    let refuse = |why: String| {
        let id = &proxy.id;
        Err(format!(
            "{account} may not ask for the configuration of {id}: {why}"
        ))
    };
    if proxy.namespace != account.namespace() {
        return refuse(format!("it is of the namespace `{}`", proxy.namespace));
    }
    if let Some(told) = metadata(node, "SERVICE_ACCOUNT")
        && told != account.name()
    {
        return refuse(format!("it runs as `{told}`, as its own metadata say"));
    }
    if proxy.role == Role::Router {
        return Ok(());
    }
    let state = mesh.state();
    let mut others = state.index.accounts().filter(|one| {
        let is_there = (one.address, one.labels) == (Some(proxy.ip), &proxy.labels);
        let is_it = one.meta.name == proxy.workload || is_there;
        let is_other = !one.account.is_empty() && one.account != account.name();
        one.meta.namespace == proxy.namespace && is_it && is_other
    });
    match others.next() {
        None => Ok(()),
        Some(one) => refuse(format!(
            "{} ({}) runs as `{}`",
            one.meta, one.meta.source, one.account
        )),
    }
}
