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

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Node;
    use periplus_resources::{MeshConfig, parse_resources};

    use super::*;

    /// As in Istio, a Gateway is one of the policy's own namespace, whatever that is; labels in the root namespace are those
    /// of all.
    #[test]
    fn a_policy_for_a_gateway_is_for_that_of_its_own_namespace() {
        let policy = |namespace: &str, target: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {target}, namespace: \
                 {namespace}}}\nspec: {}\n---\n",
                match target {
                    "gateway" =>
                        "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: api}]}",
                    _ => "{selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: api}}}",
                }
            )
        };
        let places = ["istio-system", "edge"];
        let text: String = places
            .iter()
            .flat_map(|place| ["gateway", "labels"].map(|target| policy(place, target)))
            .collect();
        let parsed = parse_resources("a.yaml", &text);
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let index = Index::new(&parsed.resources, MeshConfig::default());
        for (namespace, name, expected) in [
            (
                "edge",
                "api",
                &["edge/gateway", "edge/labels", "istio-system/labels"][..],
            ),
            (
                "istio-system",
                "api",
                &["istio-system/gateway", "istio-system/labels"],
            ),
            ("shop", "api", &["istio-system/labels"]),
            ("edge", "other", &[]),
        ] {
            let node = Node {
                id: format!("router~10.0.0.1~a.{namespace}~{namespace}.svc.cluster.local"),
                ..Node::default()
            };
            let mut proxy = Proxy::from_node(&node).expect("a proxy");
            let label = periplus_resources::GATEWAY_NAME_LABEL.to_owned();
            proxy.labels = [(label, name.to_owned())].into();
            let found = index.authorization_policies(&proxy);
            let mut found: Vec<_> = found
                .map(|entry| format!("{}/{}", entry.meta.namespace, entry.meta.name))
                .collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{namespace} {name}");
        }
    }
}
