//! The certificate authority of the control plane.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use periplus_identity::tls::{self, TlsStream};
use periplus_identity::{
    Access, CertificateServer, Facts, Home, HomeError, Issuer, KeyError, Lifetimes, NameError,
    Reason, Rotation, Standing, TokenKey, check_trust_domain, private,
};
use periplus_resources::{MeshConfig, Position, Source};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

use crate::gate::Refusals;
use crate::index::Problem;

/// The names that the control plane's own certificate has, as istiod's, and that of this machine.
const NAMES: [&str; 6] = [
    "istiod.istio-system.svc",
    "istiod.istio-system.svc.cluster.local",
    "istio-pilot.istio-system.svc",
    "localhost",
    "127.0.0.1",
    "::1",
];

/// Where certificates come from.
#[derive(Clone, Debug)]
pub struct CertificateOptions {
    /// The directory of keys, for this user alone: `ca`, unless `source` is another, and `token-key.pem`.
    pub directory: PathBuf,
    /// Whose authority it is.
    pub source: CertificateSource,
    /// How long certificates hold.
    pub lifetimes: Lifetimes,
    /// How a root of our own is replaced.
    pub rotation: Rotation,
    /// Who else issues tokens that workloads are known by. Whoever makes these looks after their keys.
    pub issuers: Vec<Arc<Issuer>>,
}

/// Whose authority it is.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// Our own, which is made and renewed here.
    Own,
    /// That in a directory of somebody else, in the layout of Istio's `cacerts`.
    PluggedIn(PathBuf),
}

/// Why there is no authority.
#[derive(Debug, Error)]
#[error(transparent)]
pub enum CertificatesError {
    /// A directory.
    Directory(#[from] private::FileError),
    /// The authority.
    Home(#[from] HomeError),
    /// The key of tokens.
    Key(#[from] KeyError),
    /// A trust domain.
    Name(#[from] NameError),
}

#[derive(Debug)]
pub(crate) struct Certificates {
    /// Until somebody looks after it.
    home: Option<Home>,
    server: CertificateServer,
    trust_domain: String,
    aliases: Vec<String>,
    /// The root is our own, and replaces itself.
    is_own: bool,
}

/// What operators are shown of the authority.
pub(crate) struct Overseen {
    pub(crate) server: CertificateServer,
    /// Whom the port with TLS has refused.
    pub(crate) refusals: Arc<Refusals>,
    /// The root is our own, and replaces itself.
    pub(crate) is_own: bool,
}

impl Certificates {
    pub(crate) fn open(
        options: &CertificateOptions,
        mesh: &MeshConfig,
    ) -> Result<Self, CertificatesError> {
        let directory = &options.directory;
        private::make_directory(directory)?;
        let trust_domain = mesh.trust_domain.clone();
        // The server counts on it.
        for domain in std::iter::once(&trust_domain).chain(&mesh.trust_domain_aliases) {
            check_trust_domain(domain)?;
        }
        let home = match &options.source {
            CertificateSource::Own => {
                Home::own(&directory.join("ca"), &trust_domain, options.rotation)
            }
            CertificateSource::PluggedIn(other) => Home::plugged_in(other, &trust_domain),
        }?;
        let access = Access {
            trust_domain: trust_domain.clone(),
            aliases: mesh.trust_domain_aliases.clone(),
            tokens: Arc::new(TokenKey::load_or_create(&directory.join("token-key.pem"))?),
            issuers: options.issuers.clone(),
            lifetimes: options.lifetimes,
        };
        Ok(Self {
            server: CertificateServer::new(home.authority(), access),
            home: Some(home),
            trust_domain,
            aliases: mesh.trust_domain_aliases.clone(),
            is_own: matches!(options.source, CertificateSource::Own),
        })
    }

    pub(crate) fn oversee(&self, refusals: Arc<Refusals>) -> Overseen {
        Overseen {
            server: self.server(),
            refusals,
            is_own: self.is_own,
        }
    }

    pub(crate) fn server(&self) -> CertificateServer {
        self.server.clone()
    }

    /// The authority's lists of revoked certificates, in PEM; empty if there are none.
    pub(crate) fn revoked(&self) -> Arc<str> {
        Arc::clone(self.server.authority().revoked_pem())
    }

    pub(crate) fn take_home(&mut self) -> Option<Home> {
        self.home.take()
    }

    pub(crate) fn secure(&self, listener: TcpListener) -> ReceiverStream<io::Result<TlsStream>> {
        let names = NAMES.map(str::to_owned).to_vec();
        let counts = self.server.counts();
        tls::accept(listener, self.server.authorities(), names, counts)
    }

    /// The names of workloads are not changed while they have certificates with others.
    pub(crate) fn outdated(&self, mesh: &MeshConfig) -> Option<Problem> {
        let same =
            mesh.trust_domain == self.trust_domain && mesh.trust_domain_aliases == self.aliases;
        let position = Position { line: 1, column: 1 };
        let source = Source {
            file: mesh.file.clone(),
            position,
        };
        let message = format!(
            "certificates still have the trust domain `{}`: changes of `trustDomain` and \
             `trustDomainAliases` take effect when the control plane starts again",
            self.trust_domain
        );
        (!same).then(|| Problem::error(&source, position, message))
    }
}

/// What the authority is, what it has done, and how many streams of proxies were refused, by reason; each certificate and
/// each list of revoked ones with its end; and whether other issuers of tokens give their keys.
pub(crate) fn page(overseen: &Overseen) -> Value {
    let server = &overseen.server;
    let (authority, counts) = (server.authority(), server.counts());
    let now = SystemTime::now();
    let unix = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    let left = |time: SystemTime| time.duration_since(now).unwrap_or_default().as_secs();
    let show = |facts: &Facts| {
        json!({
            "serial": facts.serial,
            "subject": facts.subject,
            "notBefore": unix(facts.not_before),
            "notAfter": unix(facts.not_after),
            "secondsLeft": left(facts.not_after),
            "endsSoon": facts.ends_soon(now),
        })
    };
    let refused: serde_json::Map<_, _> = Reason::ALL
        .iter()
        .map(|reason| (reason.name().to_owned(), json!(counts.refused(*reason))))
        .collect();
    json!({
        "authority": show(authority.facts()),
        "replacesItself": overseen.is_own,
        "intermediates": (authority.between_facts().iter())
            .filter(|facts| *facts != authority.facts())
            .map(show)
            .collect::<Vec<_>>(),
        "serving": counts.serving().as_ref().map(show),
        "roots": authority.root_facts().iter().map(show).collect::<Vec<_>>(),
        "revocationLists": authority.revocation_lists().iter().map(|list| json!({
            "issuer": list.issuer,
            "thisUpdate": unix(list.this_update),
            "nextUpdate": unix(list.next_update),
            "secondsLeft": left(list.next_update),
            "endsSoon": list.ends_soon(now),
        })).collect::<Vec<_>>(),
        "issuers": server.issuers().map(|issuer| {
            let Standing { since, trouble } = issuer.standing();
            json!({
                "issuer": issuer.name(),
                "keysSince": since.map(unix),
                "trouble": trouble,
            })
        }).collect::<Vec<_>>(),
        "requests": counts.requests(),
        "issued": counts.issued(),
        "refused": refused,
        "streamsRefused": overseen.refusals.counts().into_iter().collect::<BTreeMap<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_domains_that_cannot_be_certified_are_refused_at_the_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let lifetimes = Lifetimes::default();
        let options = CertificateOptions {
            directory: directory.path().join("identity"),
            source: CertificateSource::Own,
            lifetimes,
            rotation: Rotation::default(),
            issuers: Vec::new(),
        };
        let named = |name: &str| MeshConfig {
            trust_domain: name.to_owned(),
            ..MeshConfig::default()
        };
        let aliased = MeshConfig {
            trust_domain_aliases: vec!["old.".to_owned()],
            ..MeshConfig::default()
        };
        for (mesh, expected) in [(named("-x"), "`-x`"), (aliased, "`old.`")] {
            let error = Certificates::open(&options, &mesh).expect_err("no name");
            assert!(error.to_string().contains(expected), "{error}");
        }
        Certificates::open(&options, &named("mesh.example")).expect("a name");
    }
}
