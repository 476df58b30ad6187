//! Policies and whom they are for, and the issuers of tokens whose keys are looked up at themselves.

use std::time::Duration;

use periplus_resources::{AuthorizationPolicy, JwksSource, Labels, Meta, RequestAuthentication};

use super::{Entry, Index};
use crate::issuers::{Found, Wanted};
use crate::proxy::Proxy;

impl Index {
    /// The policies for a proxy's workload: those of the root namespace and of its own that select it.
    pub fn authorization_policies(
        &self,
        proxy: &Proxy,
    ) -> impl Iterator<Item = &Entry<AuthorizationPolicy>> {
        let policies = self.authorization_policies.iter();
        policies.filter(|Entry { meta, spec }| {
            self.is_for(meta, (&spec.selector, !spec.targets.is_empty()), proxy)
        })
    }

    /// The policies of a name.
    pub fn authorization_policy(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<&Entry<AuthorizationPolicy>> {
        let mut policies = self.authorization_policies.iter();
        policies.find(|entry| entry.meta.namespace == namespace && entry.meta.name == name)
    }

    /// All rules about tokens.
    pub fn request_authentications(&self) -> &[Entry<RequestAuthentication>] {
        &self.request_authentications
    }

    /// Those for a proxy's workload.
    pub fn request_authentications_of(
        &self,
        proxy: &Proxy,
    ) -> impl Iterator<Item = &Entry<RequestAuthentication>> {
        let all = self.request_authentications.iter();
        all.filter(|Entry { meta, spec }| {
            self.is_for(meta, (&spec.selector, !spec.targets.is_empty()), proxy)
        })
    }

    /// Whether something about workloads is about that of a proxy.
    fn is_for(&self, meta: &Meta, (selector, is_here): (&Labels, bool), proxy: &Proxy) -> bool {
        let is_of_all = meta.namespace == self.mesh.root_namespace && !is_here;
        (is_of_all || meta.namespace == proxy.namespace) && proxy.is_selected_by(selector)
    }

    /// The same with what somebody has found out about the keys of issuers. Without it nobody looks them up, as where
    /// only files are read.
    #[must_use]
    pub(crate) fn knowing(self, keys: Found) -> Self {
        Self {
            issuer_keys: Some(keys),
            ..self
        }
    }

    /// What is known of the keys of issuers, if somebody looks them up.
    pub(crate) fn issuer_keys(&self) -> Option<&Found> {
        self.issuer_keys.as_ref()
    }

    /// The RequestAuthentications that leave it to the issuer to say where its keys are, with these issuers.
    pub(crate) fn discovering(
        &self,
    ) -> impl Iterator<Item = (&Entry<RequestAuthentication>, &str)> {
        let all = self.request_authentications.iter().flat_map(|entry| {
            let rules = entry.spec.rules.iter();
            rules.map(move |rule| (entry, rule))
        });
        all.filter(|(_, rule)| matches!(rule.keys, JwksSource::Discovered { .. }))
            .map(|(entry, rule)| (entry, rule.issuer.as_str()))
    }

    /// Those issuers, and the longest time that a fetch may take according to any of the resources.
    pub(crate) fn wanted_keys(&self) -> Wanted {
        let mut wanted = Wanted::new();
        let entries = self.request_authentications.iter();
        for rule in entries.flat_map(|entry| &entry.spec.rules) {
            if let JwksSource::Discovered { timeout } = rule.keys {
                let longest = wanted.entry(rule.issuer.clone()).or_insert(Duration::ZERO);
                *longest = timeout.max(*longest);
            }
        }
        wanted
    }
}
