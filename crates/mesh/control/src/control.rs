//! The control plane as a whole: files in, xDS out.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_identity::tls::TlsStream;
use periplus_identity::{Authority, CertificateServer};
use periplus_resources::Kind;
use periplus_xds::server::{AdsServer, Limits};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::books::Books;
use crate::certificates::{CertificateOptions, Certificates, CertificatesError};
use crate::collectors::Collectors;
use crate::files::{self, Change, Debounce, WatchedFiles, plural};
use crate::gate::{Gatekeeper, Refusals};
use crate::index::{Index, Problem, Severity};
use crate::issuers::IssuerKeys;
use crate::mesh::{Mesh, State};
use crate::monitoring::Monitoring;
use crate::source::{Look, Source};

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

/// A control plane over a source of resources.
pub struct ControlPlane {
    source: Box<dyn Source>,
    mesh: Arc<Mesh>,
    ads: AdsServer,
    certificates: Option<Certificates>,
    refusals: Arc<Refusals>,
    collectors: Arc<Collectors>,
    books: Arc<Books>,
    issuers: Arc<IssuerKeys>,
}

impl ControlPlane {
    /// Reads files for the first time and says what is in them.
    ///
    /// # Errors
    ///
    /// When there is nothing to read. Files that are wrong are no error: they are reported, and taken
    /// once they are right.
    pub fn load(options: Options) -> Result<Self, LoadError> {
        let files = WatchedFiles::load(options.directories, options.mesh_config, options.debounce)?;
        Ok(Self::over(files, options.certificates.as_ref())?)
    }

    /// A control plane over another source; without certificates there is no authority.
    ///
    /// # Errors
    ///
    /// When there is no certificate authority although there should be.
    pub fn over(
        source: impl Source,
        certificates: Option<&CertificateOptions>,
    ) -> Result<Self, CertificatesError> {
        let certificates =
            certificates.map(|options| Certificates::open(options, source.mesh_config()));
        let certificates = certificates.transpose()?;
        let books = Arc::<Books>::default();
        let issuers = Arc::<IssuerKeys>::default();
        let state = state_of(&source, certificates.as_ref(), &books, &issuers);
        tracing::info!("{}", summary(source.report().files, &state.index));
        for problem in &state.problems {
            report(problem);
        }
        let mesh = Arc::new(Mesh::new(state));
        let ads = AdsServer::new(Arc::clone(&mesh) as _, Limits::default());
        Ok(Self {
            source: Box::new(source),
            mesh,
            ads,
            certificates,
            refusals: Arc::default(),
            collectors: Arc::default(),
            books,
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
        self.look(Instant::now());
    }

    /// The newest state.
    pub fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.mesh)
    }

    /// The HTTP interface for operators.
    pub fn monitoring(&self) -> axum::Router {
        let certificates = self.certificates.as_ref();
        let monitoring = Monitoring {
            mesh: self.mesh(),
            collectors: Arc::clone(&self.collectors),
            ads: self.ads(),
            authority: certificates.map(|it| it.oversee(Arc::clone(&self.refusals))),
            started: Instant::now(),
            files: self.source.report().places,
            books: Arc::clone(&self.books),
            issuers: self.issuers(),
        };
        monitoring.router()
    }

    /// Follows the source for ever; ends when the future is dropped.
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
        let follow = async move {
            let mut plane = self;
            loop {
                let noticed = tokio::select! {
                    noticed = plane.source.changed() => noticed,
                    () = changed(authorities.as_mut()) => Instant::now(),
                    () = issuers.changed() => Instant::now(),
                };
                // It reads files and computes: whoever serves streams goes on meanwhile.
                let looked = tokio::task::spawn_blocking(move || {
                    plane.look(noticed);
                    plane
                });
                plane = match looked.await {
                    Ok(plane) => plane,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                };
            }
        };
        tokio::select! {
            never = keep => never,
            never = follow => never,
            never = collectors.watch(mesh) => never,
        }
    }

    /// Looks at the source and publishes what is different.
    fn look(&mut self, noticed: Instant) {
        let waited = noticed.elapsed();
        let Look { is_other, changes } = self.source.look();
        let known = self.mesh.state();
        let revoked = self.certificates.as_ref().map(Certificates::revoked);
        let revokes = revoked.unwrap_or_default() != *known.index.revoked();
        let has_other_keys = Some(&self.issuers.found()) != known.index.issuer_keys();
        if !is_other && !revokes && !has_other_keys {
            return;
        }
        let mut resources = BTreeMap::new();
        for (kind, count) in changes.iter().flat_map(Change::counts) {
            *resources.entry(kind).or_default() += count;
        }
        let is_global = revokes || has_other_keys || changes.iter().any(Change::is_of_mesh_config);
        self.books.changed(&resources, is_global);
        self.books.read().debounce.took(waited);
        let state = state_of(
            &*self.source,
            self.certificates.as_ref(),
            &self.books,
            &self.issuers,
        );
        let before: HashSet<&Problem> = known.problems.iter().collect();
        let news = state.problems.iter();
        let news = news.filter(|problem| !before.contains(problem));
        let news: Vec<_> = news.cloned().collect();
        let connected = self.ads.node_ids();
        let is_connected = |id: &str| connected.contains(id);
        let notified = self.mesh.publish_since(noticed, state, is_connected);
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

/// The state of the source, with what else is known. Issuers that are new in it are looked for from now on.
fn state_of(
    source: &dyn Source,
    certificates: Option<&Certificates>,
    books: &Books,
    issuers: &IssuerKeys,
) -> State {
    let began = Instant::now();
    let mesh = source.mesh_config().clone();
    let index = match certificates {
        Some(certificates) => {
            Index::certified(source.resources(), mesh).revoking(certificates.revoked())
        }
        None => Index::new(source.resources(), mesh),
    };
    issuers.want(&index);
    let index = index.knowing(issuers.found());
    books.indexed(&index, began.elapsed());
    let report = source.report();
    let stale = certificates.and_then(|it| it.outdated(source.mesh_config()));
    let errors = report.problems.into_iter().chain(stale);
    let problems = errors.chain(index.problems().iter().cloned()).collect();
    let problems = Problem::sorted(problems);
    State {
        index,
        problems,
        closed: report.closed,
        last_good: report.last_good,
    }
}

fn report(problem: &Problem) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
        Severity::Info => tracing::debug!("{problem}"),
    }
}

fn summary(files: usize, index: &Index) -> String {
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
    let files = count(files, "file", "files");
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
