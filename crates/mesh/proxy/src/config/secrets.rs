//! The secrets of now, and what contexts make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::check::{At, Refused};
use super::data;
use super::secret::{CertificateSpec, SecretSpec, ValidationSpec};
use crate::tls::{Identity, SanKind, SanMatch, Trusted, Validation};

/// All secrets that have a name, and how often a file has changed.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    named: BTreeMap<SecretId, Named>,
    /// Those that this proxy gets for itself, whether or not it has them by now.
    own: BTreeSet<String>,
    /// The clusters of the bootstrap file that have secrets.
    servers: BTreeSet<String>,
    /// The contents of files, in short.
    files: BTreeMap<String, u64>,
    /// Counts up when a file changes.
    epoch: u64,
}

/// Who has secrets besides the control plane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SecretServer {
    /// A cluster of the bootstrap file.
    pub(crate) cluster: String,
    /// The incremental form of the protocol is spoken.
    pub(crate) is_delta: bool,
}

/// Which secret: servers may have different ones of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SecretId {
    /// Who has it; none for the control plane, the bootstrap file, and the proxy itself.
    pub(crate) server: Option<SecretServer>,
    pub(crate) name: String,
}

impl From<String> for SecretId {
    fn from(name: String) -> Self {
        Self { server: None, name }
    }
}

#[derive(Debug)]
struct Named {
    spec: SecretSpec,
    hash: u64,
    /// It stands in the bootstrap file, and stays.
    is_static: bool,
}

/// Either what is needed, or the name of the secret that has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source<T> {
    Given(T),
    /// By SDS, or from the bootstrap file.
    Named(SecretId),
}

impl Secrets {
    /// Takes a secret.
    pub(super) fn put(&mut self, id: SecretId, spec: SecretSpec, hash: u64, is_static: bool) {
        let named = Named {
            spec,
            hash,
            is_static,
        };
        self.named.insert(id, named);
    }

    /// Whether a secret is the one with this hash.
    pub(super) fn is_known(&self, id: &SecretId, hash: u64) -> bool {
        self.named.get(id).is_some_and(|known| known.hash == hash)
    }

    /// Nobody else may bring a secret of this name.
    pub(super) fn reserve(&mut self, name: &str) {
        self.own.insert(name.to_owned());
    }

    /// Whether this proxy gets it for itself.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// A cluster of the bootstrap file has secrets.
    pub(super) fn add_server(&mut self, cluster: &str) {
        self.servers.insert(cluster.to_owned());
    }

    /// Whether a cluster of the bootstrap file has secrets.
    pub(super) fn is_server(&self, cluster: &str) -> bool {
        self.servers.contains(cluster)
    }

    /// Whether the bootstrap file has it, or this proxy gets it for itself.
    pub(crate) fn is_static(&self, id: &SecretId) -> bool {
        let is_here = id.server.is_none();
        let is_in_file = || self.named.get(id).is_some_and(|known| known.is_static);
        is_here && (self.is_own(&id.name) || is_in_file())
    }

    /// Whether it is there.
    pub(super) fn has(&self, id: &SecretId) -> bool {
        self.named.contains_key(id)
    }

    /// Forgets what came by SDS and nobody wants any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&SecretId) -> bool) {
        self.named
            .retain(|id, known| known.is_static || is_wanted(id));
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&SecretId, &SecretSpec)> {
        self.named.iter().map(|(id, known)| (id, &known.spec))
    }

    /// The files that named secrets are in.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        self.named.values().flat_map(|known| known.spec.files())
    }

    /// Takes what the files have now, by their paths: whether any may have changed since it was read.
    pub(super) fn refresh(&mut self, now: BTreeMap<String, u64>) -> bool {
        let changed = now
            .iter()
            .any(|(path, hash)| self.files.get(path) != Some(hash));
        self.files = now;
        self.epoch += u64::from(changed);
        changed
    }

    fn certificate<'a>(&'a self, source: &'a Source<CertificateSpec>) -> Result<Identity, Refused> {
        let at = At::ROOT.field("tls_certificate");
        match source {
            Source::Given(spec) => spec.load(&at),
            Source::Named(id) => match self.named.get(id).map(|known| &known.spec) {
                Some(SecretSpec::Certificate(spec)) => spec.load(&at),
                _ => Err(at.refuse(format!("secret {:?} is no certificate", id.name))),
            },
        }
    }

    fn validation<'a>(&'a self, source: &'a Source<ValidationSpec>) -> Result<Validation, Refused> {
        let at = At::ROOT.field("validation_context");
        match source {
            Source::Given(spec) => spec.load(&at),
            Source::Named(id) => match self.named.get(id).map(|known| &known.spec) {
                Some(SecretSpec::Validation(spec)) => spec.load(&at),
                _ => Err(at.refuse(format!("secret {:?} is no validation context", id.name))),
            },
        }
    }
}

/// What a context is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Material {
    pub(crate) certificates: Vec<Source<CertificateSpec>>,
    /// Together they say what is expected of a peer: the last one that says something once counts.
    pub(crate) validation: Vec<Source<ValidationSpec>>,
}

impl Material {
    /// The secrets that it refers to: those with certificates, and those with validation contexts.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&SecretId, bool)> {
        let certificates = self.certificates.iter().filter_map(Source::id);
        let validation = self.validation.iter().filter_map(Source::id);
        certificates
            .map(|id| (id, true))
            .chain(validation.map(|id| (id, false)))
    }

    /// The files that it refers to without a name.
    pub(crate) fn files(&self) -> impl Iterator<Item = &String> {
        let certificates = self.certificates.iter().filter_map(Source::given);
        let validation = self.validation.iter().filter_map(Source::given);
        certificates
            .flat_map(CertificateSpec::files)
            .chain(validation.flat_map(ValidationSpec::files))
    }

    /// Whether all secrets are there.
    pub(crate) fn is_there(&self, secrets: &Secrets) -> bool {
        self.secrets().all(|(id, _)| secrets.has(id))
    }

    /// Changes whenever something that it is made of does.
    fn version(&self, secrets: &Secrets) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut has_files = self.files().next().is_some();
        for (id, _) in self.secrets() {
            if let Some(known) = secrets.named.get(id) {
                known.hash.hash(&mut hasher);
                has_files |= !known.spec.files().is_empty();
            }
        }
        if has_files {
            secrets.epoch.hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(super) fn identities(&self, secrets: &Secrets) -> Result<Vec<Identity>, Refused> {
        let sources = self.certificates.iter();
        sources.map(|source| secrets.certificate(source)).collect()
    }

    /// What of it needs no secret is fit for use.
    pub(super) fn check(&self, at: &At<'_>) -> Result<(), Refused> {
        if self.validation.iter().any(|source| source.id().is_some()) {
            return Ok(());
        }
        let checked = self.expected(&Secrets::default());
        checked.map(|_| ()).map_err(|refused| Refused {
            field: at.field(&refused.field).to_string(),
            reason: refused.reason,
        })
    }

    pub(super) fn expected(&self, secrets: &Secrets) -> Result<Validation, Refused> {
        let mut whole = Validation::default();
        for source in &self.validation {
            let part = secrets.validation(source)?;
            let kind = |trusted: &Trusted| std::mem::discriminant(trusted);
            let kinds = [&whole.trusted, &part.trusted].map(|one| one.as_ref().map(kind));
            if let [Some(one), Some(other)] = kinds
                && one != other
            {
                let reason = "its two parts have trusted_ca and custom_validator_config: only one of both can say whom \
                              to trust";
                let at = At::ROOT.field("combined_validation_context");
                return Err(at.refuse(reason));
            }
            whole.trusted = part.trusted.or(whole.trusted);
            whole.revoked = part.revoked.or(whole.revoked);
            whole.sans.extend(part.sans);
            whole.hashes.extend(part.hashes);
            whole.keys.extend(part.keys);
            whole.accepts_untrusted |= part.accepts_untrusted;
            whole.hides_roots |= part.hides_roots;
        }
        if whole.trusted.is_none() && !whole.sans.is_empty() {
            // Anybody can write any name into a certificate of their own.
            let reason = "names are asked for, but no root: add trusted_ca";
            return Err(At::ROOT.field("validation_context").refuse(reason));
        }
        let of_others = |san: &SanMatch| san.kind != SanKind::Uri;
        if whole.asks_for_an_id() && whole.sans.iter().any(of_others) {
            let reason = "with custom_validator_config only names of type URI can be asked for";
            return Err(At::ROOT.field("validation_context").refuse(reason));
        }
        Ok(whole)
    }
}

impl<T> Source<T> {
    fn id(&self) -> Option<&SecretId> {
        match self {
            Self::Given(_) => None,
            Self::Named(id) => Some(id),
        }
    }

    fn given(&self) -> Option<&T> {
        match self {
            Self::Given(given) => Some(given),
            Self::Named(_) => None,
        }
    }
}

/// What was made of some material last, so that it is made again only if that changes: a new context
/// knows none of the sessions of the former one.
#[derive(Debug)]
pub(crate) struct Made<T>(Mutex<Option<(u64, Arc<T>)>>);

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Made<T> {
    /// What is made of the material as it is now; none while secrets are missing. Of material that
    /// cannot be used, such as a half-written file, nothing is made: the former stays.
    pub(super) fn of(
        &self,
        material: &Material,
        secrets: &Secrets,
        make: impl FnOnce() -> Result<T, Refused>,
    ) -> Option<Arc<T>> {
        if !material.is_there(secrets) {
            return None;
        }
        let version = material.version(secrets);
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, known)) = &*made
            && *of == version
        {
            return Some(known.clone());
        }
        match make() {
            Ok(new) => *made = Some((version, Arc::new(new))),
            Err(refused) => {
                tracing::warn!(%refused, "a TLS context is not usable, the former one stays");
                if let Some((of, _)) = &mut *made {
                    *of = version;
                }
            }
        }
        made.as_ref().map(|(_, made)| made.clone())
    }
}

/// The contents of files, in short; one that cannot be read is left out.
pub(crate) fn look_at(paths: BTreeSet<String>) -> BTreeMap<String, u64> {
    let content = |path: String| {
        let bytes = data::read(&path).ok()?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Some((path, hasher.finish()))
    };
    paths.into_iter().filter_map(content).collect()
}
