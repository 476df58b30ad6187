//! Secrets: those that come by SDS, those of the bootstrap file, and the files that they are in.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::Rejection;
use prost::Message as _;

use super::rejections::{duplicate, read, rejection};
use crate::config::check::{At, Refused};
use crate::config::cluster::ClusterSpec;
use crate::config::listener::ListenerSpec;
use crate::config::secret::{self, SecretSpec};
use crate::config::secrets::{Material, Secrets};
use crate::config::slot::specs;
use crate::config::store::Store;

impl Store {
    /// Takes a secret that stands in the bootstrap file.
    pub(crate) fn put_static_secret(&mut self, given: Secret) -> Result<(), Refused> {
        let name = given.name.clone();
        let spec = secret::compile(given)?;
        // It stays what it is, so that nothing is compared with it.
        self.secrets.put(name, spec, 0, true);
        Ok(())
    }

    /// Secrets of these names are this proxy's own.
    pub(crate) fn reserve_secrets(&mut self, names: &[&str]) {
        for name in names {
            self.secrets.reserve(name);
        }
    }

    /// Takes one of them, in place of the former one.
    pub(crate) fn put_own_secret(&mut self, given: Secret) -> Result<(), Refused> {
        let mut hasher = DefaultHasher::new();
        given.encode_to_vec().hash(&mut hasher);
        let name = given.name.clone();
        let spec = secret::compile(given)?;
        self.secrets.put(name, spec, hasher.finish(), true);
        Ok(())
    }

    pub(super) fn apply_secrets(&mut self, resources: &[Any], rejections: &mut Vec<Rejection>) {
        for (index, body) in resources.iter().enumerate() {
            let Some((given, hash)) = read::<Secret>(body, ("secret", index), rejections) else {
                continue;
            };
            let name = given.name.clone();
            if self.secrets.is_known(&name, hash) {
                continue;
            }
            if name.is_empty() || self.secrets.is_static(&name) {
                rejections.push(duplicate("secret", &name));
                continue;
            }
            let compiled = secret::compile(given);
            match compiled.and_then(|spec| self.check_kind(&name, spec)) {
                Ok(spec) => self.secrets.put(name, spec, hash, false),
                Err(refused) => rejections.push(rejection("secret", &name, &refused)),
            }
        }
    }

    /// Whether a secret is what those that refer to it expect.
    fn check_kind(&self, name: &str, spec: SecretSpec) -> Result<SecretSpec, Refused> {
        let is_certificate = matches!(spec, SecretSpec::Certificate(_));
        let misused = self
            .materials()
            .flat_map(Material::names)
            .any(|(known, certificate)| known == name && certificate != is_certificate);
        if !misused {
            return Ok(spec);
        }
        let (field, wanted) = if is_certificate {
            ("tls_certificate", "a validation context")
        } else {
            ("validation_context", "a certificate")
        };
        Err(At::ROOT
            .field(field)
            .refuse(format!("{wanted} is wanted under this name")))
    }

    /// The names that are to be subscribed to.
    pub(in crate::config) fn secret_names(&self) -> BTreeSet<&String> {
        let names = self.materials().flat_map(Material::names);
        let names = names.map(|(name, _)| name);
        names.filter(|name| !self.secrets.is_static(name)).collect()
    }

    /// What all TLS contexts are made of.
    fn materials(&self) -> impl Iterator<Item = &Material> {
        let listeners = specs(&self.listeners).flat_map(ListenerSpec::tls);
        let listeners = listeners.map(|tls| &tls.context.material);
        let clusters = specs(&self.clusters).flat_map(|spec: &ClusterSpec| spec.transports.tls());
        listeners.chain(clusters.map(|tls| &tls.context.material))
    }

    /// The files that are read again when they change.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let given = self.materials().flat_map(Material::files);
        given.chain(self.secrets.files()).cloned().collect()
    }

    /// Takes what is in the files now, in short: whether that is news.
    pub(crate) fn look_at_files(&mut self, now: BTreeMap<String, u64>) -> bool {
        self.secrets.refresh(now)
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The names of secrets that are wanted and have not come.
    pub(crate) fn missing_secrets(&self) -> Vec<&String> {
        let names = self.secret_names().into_iter();
        names.filter(|name| !self.secrets.has(name)).collect()
    }
}
