//! Policies and whom they are for.

use periplus_resources::{AuthorizationPolicy, Labels, Meta, RequestAuthentication};

use super::{Entry, Index};
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
}
