//! The control plane as a whole: files in, xDS out.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use periplus_identity::tls::TlsStream;
use periplus_identity::{Authority, CertificateServer};
use periplus_resources::Kind;
use periplus_xds::server::{AdsServer, Limits};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::certificates::{CertificateOptions, Certificates, CertificatesError};
use crate::collectors::Collectors;
use crate::files::{self, Change, Debounce, Files, Scan, Watcher, plural};
use crate::gate::{Gatekeeper, Refusals};
use crate::index::{Index, Problem, Severity};
use crate::issuers::IssuerKeys;
use crate::mesh::{Mesh, State};
use crate::monitoring::Monitoring;

/// Where the control plane reads.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directories of resources.
    pub directories: Vec<PathBuf>,
    /// The file of the mesh configuration.
    pub mesh_config: Option<PathBuf>,
    /// When changed files are read.
    pub debounce: Debounce,
    /// Where the certificates of workloads come from; without it there are none.
    pub certificates: Option<CertificateOptions>,
}

/// Why there is no control plane.
#[derive(Debug, Error)]
#[error(transparent)]
pub enum LoadError {
    /// There is nothing to read.
    Files(#[from] files::LoadError),
    /// There is no certificate authority.
    Certificates(#[from] CertificatesError),
}

/// A control plane over files.
pub struct ControlPlane {
    files: Files,
    watcher: Watcher,
    mesh: Arc<Mesh>,
    ads: AdsServer,
    certificates: Option<Certificates>,
    refusals: Arc<Refusals>,
    collectors: Arc<Collectors>,
    issuers: Arc<IssuerKeys>,
}

impl ControlPlane {
    /// Reads the files for the first time and says what is in them.
    ///
    /// # Errors
    ///
    /// When there is nothing to read. Files that are wrong are no error: they are reported, and taken
    /// once they are right.
    pub fn load(options: Options) -> Result<Self, LoadError> {
        // Before the first scan, so that nothing goes unnoticed between the two.
        let mut watcher = Watcher::new(options.debounce);
        watcher.watch(options.directories.iter().cloned().collect());
        let files = Files::load(options.directories, options.mesh_config)?;
        watcher.watch(files.directories());
        let certificates = options
            .certificates
            .as_ref()
            .map(|options| Certificates::open(options, files.mesh_config()));
        let certificates = certificates.transpose()?;
        let issuers = Arc::<IssuerKeys>::default();
        let state = state_of(&files, certificates.as_ref(), &issuers);
        tracing::info!("{}", summary(&files, &state.index));
        for problem in &state.problems {
            report(problem);
        }
        let mesh = Arc::new(Mesh::new(state));
        let ads = AdsServer::new(Arc::clone(&mesh) as _, Limits::default());
        Ok(Self {
            files,
            watcher,
            mesh,
            ads,
            certificates,
            refusals: Arc::default(),
            collectors: Arc::default(),
            issuers,
        })
    }

    /// The ADS server; clones share their state.
    pub fn ads(&self) -> AdsServer {
        self.ads.clone()
    }

    /// The same for proxies alone that are who they say, if there is an authority that knows them: for the port with
    /// TLS.
    pub fn guarded_ads(&self) -> Option<AdsServer> {
        let certificates = self.certificates()?;
        let refusals = Arc::clone(&self.refusals);
        let gate = Gatekeeper::new(certificates, self.mesh(), refusals);
        Some(self.ads.behind(Arc::new(gate)))
    }

    /// What proxies call for their certificates, if there is an authority: beside ADS on the same port, and with
    /// its TLS on another.
    pub fn certificates(&self) -> Option<CertificateServer> {
        self.certificates.as_ref().map(Certificates::server)
    }

    /// Accepts connections over TLS with a certificate of the authority, if there is one.
    pub fn secure(&self, listener: TcpListener) -> Option<ReceiverStream<io::Result<TlsStream>>> {
        let certificates = self.certificates.as_ref()?;
        Some(certificates.secure(listener))
    }

    /// Whose keys of tokens are to be looked up: whoever runs the control plane does.
    pub fn issuers(&self) -> Arc<IssuerKeys> {
        Arc::clone(&self.issuers)
    }

    /// Waits until the keys of each issuer were looked up once, or so long: who connects before that would refuse good
    /// tokens.
    pub async fn settle(&mut self, patience: Duration) {
        // Those that have not come by then come later.
        let _ = timeout(patience, self.issuers.settled()).await;
        self.rescan();
    }

    /// The newest state.
    pub fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.mesh)
    }

    /// The HTTP interface for operators.
    pub fn monitoring(&self) -> axum::Router {
        let files = self.files.places();
        let certificates = self.certificates.as_ref();
        let authority = certificates.map(|it| it.oversee(Arc::clone(&self.refusals)));
        let looked_at = (Arc::clone(&self.collectors), self.issuers());
        Monitoring::new(self.mesh(), looked_at, self.ads(), authority, files).router()
    }

    /// Follows the files for ever; ends when the future is dropped.
    pub async fn run(mut self) -> std::convert::Infallible {
        let home = self.certificates.as_mut().and_then(Certificates::take_home);
        let keep = async {
            match home {
                Some(home) => home.keep().await,
                None => std::future::pending().await,
            }
        };
        let (collectors, mesh) = (Arc::clone(&self.collectors), self.mesh());
        let issuers = self.issuers();
        let mut authorities = self.certificates().map(|server| server.authorities());
        let follow = async {
            loop {
                tokio::select! {
                    () = self.watcher.changed() => {}
                    () = changed(authorities.as_mut()) => {}
                    () = issuers.changed() => {}
                }
                self.rescan();
            }
        };
        tokio::select! {
            never = keep => never,
            never = follow => never,
            never = collectors.watch(mesh) => never,
        }
    }

    /// Looks at the files and publishes what is different.
    fn rescan(&mut self) {
        let Scan { touched, changes } = self.files.scan();
        self.watcher.watch(self.files.directories());
        let known = self.mesh.state();
        let revoked = self.certificates.as_ref().map(Certificates::revoked);
        let revokes = revoked.unwrap_or_default() != *known.index.revoked();
        let has_other_keys = Some(&self.issuers.found()) != known.index.issuer_keys();
        if !touched && !revokes && !has_other_keys {
            return;
        }
        let state = state_of(&self.files, self.certificates.as_ref(), &self.issuers);
        let news: Vec<_> = state
            .problems
            .iter()
            .filter(|problem| !known.problems.contains(problem))
            .cloned()
            .collect();
        let connected = self.ads.node_ids();
        let notified = self.mesh.publish(state, |id| connected.contains(id));
        if revokes {
            tracing::info!(notified, "other certificates are revoked from now on");
        }
        if has_other_keys {
            tracing::info!(notified, "tokens are checked with other keys from now on");
        }
        if changes.is_empty() {
            return;
        }
        tracing::info!("{}", line(&changes, notified));
        for problem in &news {
            report(problem);
        }
    }
}

/// Another authority signs, or the same has other lists of revoked certificates.
async fn changed(authorities: Option<&mut watch::Receiver<Arc<Authority>>>) {
    if let Some(authorities) = authorities
        && authorities.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// The state of the files, with what else is known. Issuers that are new in it are looked for from now on.
fn state_of(files: &Files, certificates: Option<&Certificates>, issuers: &IssuerKeys) -> State {
    let mesh = files.mesh_config().clone();
    let index = match certificates {
        Some(certificates) => {
            Index::certified(files.resources(), mesh).revoking(certificates.revoked())
        }
        None => Index::new(files.resources(), mesh),
    };
    issuers.want(&index);
    let index = index.knowing(issuers.found());
    let errors = files.errors().map(Problem::from);
    let stale = certificates.and_then(|it| it.outdated(files.mesh_config()));
    let errors = errors.chain(stale);
    let problems = errors.chain(index.problems().iter().cloned()).collect();
    let problems = Problem::sorted(problems);
    let closed = files.closed();
    State {
        index,
        problems,
        closed,
    }
}

fn report(problem: &Problem) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
        Severity::Info => tracing::debug!("{problem}"),
    }
}

fn summary(files: &Files, index: &Index) -> String {
    let count = |n: usize, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let kind = |n: usize, kind: Kind| count(n, kind.name(), &plural(kind));
    let mut parts = vec![
        count(index.services().count(), "service", "services"),
        count(index.workloads().len(), "workload", "workloads"),
        kind(index.virtual_services().len(), Kind::VirtualService),
        kind(index.destination_rules().len(), Kind::DestinationRule),
        kind(index.gateways().len(), Kind::Gateway),
        kind(index.sidecars().len(), Kind::Sidecar),
    ];
    match index.statuses().len() {
        0 => {}
        n => parts.push(count(
            n,
            "resource of Gateway API",
            "resources of Gateway API",
        )),
    }
    let tracing = match index.mesh().tracing_provider() {
        Some(provider) => format!("spans go to {}", provider.service),
        None => "no tracing provider".to_owned(),
    };
    let files = count(files.count(), "file", "files");
    format!("loaded {} from {files}; {tracing}", parts.join(", "))
}

/// One line for everything that one scan has found.
fn line(changes: &[Change], notified: usize) -> String {
    const MOST: usize = 5;
    let mut parts: Vec<_> = changes.iter().take(MOST).map(Change::to_string).collect();
    if changes.len() > MOST {
        parts.push(format!("{} more files", changes.len() - MOST));
    }
    let proxies = match notified {
        0 if changes.iter().all(|change| !change.took_effect()) => return parts.join("; "),
        0 => "no proxy needs to know".to_owned(),
        1 => "1 proxy notified".to_owned(),
        n => format!("{n} proxies notified"),
    };
    format!("{}, {proxies}", parts.join("; "))
}
