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
use crate::config::secrets::{Material, SecretId, SecretServer, Secrets};
use crate::config::slot::specs;
use crate::config::store::Store;

impl Store {
    /// Takes a secret that stands in the bootstrap file.
    pub(crate) fn put_static_secret(&mut self, given: Secret) -> Result<(), Refused> {
        let name = given.name.clone();
        let spec = secret::compile(given)?;
        // It stays what it is, so that nothing is compared with it.
        self.secrets.put(name.into(), spec, 0, true);
        Ok(())
    }

    /// These clusters of the bootstrap file have secrets.
    pub(crate) fn add_secret_servers<'a>(&mut self, clusters: impl Iterator<Item = &'a String>) {
        for cluster in clusters {
            self.secrets.add_server(cluster);
        }
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
        self.secrets.put(name.into(), spec, hasher.finish(), true);
        Ok(())
    }

    /// Takes secrets of another server than the control plane.
    pub(crate) fn apply_secrets_of(
        &mut self,
        server: &SecretServer,
        resources: &[Any],
    ) -> Result<(), Vec<Rejection>> {
        let mut rejections = Vec::new();
        self.apply_secrets(Some(server), resources, &mut rejections);
        match rejections.as_slice() {
            [] => Ok(()),
            _ => Err(rejections),
        }
    }

    pub(super) fn apply_secrets(
        &mut self,
        server: Option<&SecretServer>,
        resources: &[Any],
        rejections: &mut Vec<Rejection>,
    ) {
        for (index, body) in resources.iter().enumerate() {
            let Some((given, hash)) = read::<Secret>(body, ("secret", index), rejections) else {
                continue;
            };
            let id = SecretId {
                server: server.cloned(),
                name: given.name.clone(),
            };
            if self.secrets.is_known(&id, hash) {
                continue;
            }
            if id.name.is_empty() || self.secrets.is_static(&id) {
                rejections.push(duplicate("secret", &id.name));
                continue;
            }
            let compiled = secret::compile(given);
            match compiled.and_then(|spec| self.check_kind(&id, spec)) {
                Ok(spec) => self.secrets.put(id, spec, hash, false),
                Err(refused) => rejections.push(rejection("secret", &id.name, &refused)),
            }
        }
    }

    /// Whether a secret is what those that refer to it expect.
    fn check_kind(&self, id: &SecretId, spec: SecretSpec) -> Result<SecretSpec, Refused> {
        let is_certificate = matches!(spec, SecretSpec::Certificate(_));
        let misused = self
            .materials()
            .flat_map(Material::secrets)
            .any(|(known, certificate)| known == id && certificate != is_certificate);
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

    /// The secrets that are to be subscribed to, of whatever server.
    fn wanted_secrets(&self) -> impl Iterator<Item = &SecretId> {
        let secrets = self.materials().flat_map(Material::secrets);
        let secrets = secrets.map(|(id, _)| id);
        secrets.filter(|id| !self.secrets.is_static(id))
    }

    /// The names that are to be subscribed to at a server, the control plane if there is none.
    pub(crate) fn secret_names(&self, server: Option<&SecretServer>) -> BTreeSet<&String> {
        let of_server = |id: &&SecretId| id.server.as_ref() == server;
        let wanted = self.wanted_secrets().filter(of_server);
        wanted.map(|id| &id.name).collect()
    }

    /// The servers that have a secret which is wanted.
    pub(crate) fn secret_servers(&self) -> BTreeSet<SecretServer> {
        self.wanted_secrets()
            .filter_map(|id| id.server.clone())
            .collect()
    }

    /// Lets go what came from a server, the control plane if there is none, and nobody refers to any more. It must be
    /// told at once which are wanted now: it would not send again what it believes to be held.
    pub(crate) fn forget_secrets(&mut self, server: Option<&SecretServer>) {
        let wanted: BTreeSet<SecretId> = self.wanted_secrets().cloned().collect();
        self.secrets
            .retain(|id| id.server.as_ref() != server || wanted.contains(id));
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

    /// The secrets that are wanted and have not come.
    pub(crate) fn missing_secrets(&self) -> BTreeSet<&SecretId> {
        let wanted = self.wanted_secrets();
        wanted.filter(|id| !self.secrets.has(id)).collect()
    }
}
