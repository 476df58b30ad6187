//! What PeerAuthentications ask of those that connect to a workload.

use std::sync::Arc;

use periplus_resources::{ClientTls, Labels, Meta, MutualTls, PeerAuthentication};

use super::{Entry, Index, Problem, code};
use crate::proxy::is_subset;

const NO_AUTHORITY: &str = "this control plane has no certificate authority, so that proxies have no \
                            certificates: start it with --identity-dir DIR";

impl Index {
    /// The same with these lists of certificates, in PEM, that nobody is to believe any more.
    #[must_use]
    pub fn revoking(self, lists: Arc<str>) -> Self {
        Self {
            revoked: lists,
            ..self
        }
    }

    /// The lists of certificates that nobody is to believe, in PEM; empty if there are none.
    pub(crate) fn revoked(&self) -> &Arc<str> {
        &self.revoked
    }

    /// Whether proxies have certificates of this control plane's authority.
    pub(crate) fn has_authority(&self) -> bool {
        self.has_authority
    }

    /// Whether proxies speak mutual TLS to each other where nobody says something else.
    pub(crate) fn has_auto_mtls(&self) -> bool {
        self.has_authority && self.mesh().auto_mtls
    }

    /// What is asked at a port of a workload: the port's own mode, else that of the workload, of its namespace, of
    /// the mesh. At each of these, the oldest resource counts.
    pub(crate) fn mutual_tls_of(&self, namespace: &str, labels: &Labels, port: u16) -> MutualTls {
        self.decided_mutual_tls(namespace, labels, port).0
    }

    /// The same, and the resource that says so, if one does.
    pub(super) fn decided_mutual_tls(
        &self,
        namespace: &str,
        labels: &Labels,
        port: u16,
    ) -> (MutualTls, Option<&Meta>) {
        if !self.has_authority {
            return (MutualTls::Disable, None);
        }
        let of_workload = self.peer_authentications.iter().find(|entry| {
            entry.meta.namespace == namespace
                && !entry.spec.selector.is_empty()
                && is_subset(&entry.spec.selector, labels)
        });
        let of_all = |namespace: &str| {
            let entry = self.peer_authentication_of(namespace)?;
            Some((entry.spec.mode?, Some(&entry.meta)))
        };
        of_workload
            .and_then(|entry| {
                let of_port = entry.spec.ports.get(&port).copied().flatten();
                Some((of_port.or(entry.spec.mode)?, Some(&entry.meta)))
            })
            .or_else(|| of_all(namespace))
            .or_else(|| of_all(&self.mesh().root_namespace))
            .unwrap_or((MutualTls::Permissive, None))
    }

    /// The resource that is for all of a namespace.
    fn peer_authentication_of(&self, namespace: &str) -> Option<&Entry<PeerAuthentication>> {
        let mut all = self.peer_authentications.iter();
        all.find(|entry| entry.meta.namespace == namespace && entry.spec.selector.is_empty())
    }
}

/// Resources without effect.
pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for entry in &index.peer_authentications {
        let source = &entry.meta.source;
        let asks = |mode: Option<MutualTls>| mode == Some(MutualTls::Strict);
        let spec = &entry.spec;
        if !index.has_authority && (asks(spec.mode) || spec.ports.values().any(|it| asks(*it))) {
            let message = format!("{} has no effect: {NO_AUTHORITY}", entry.meta);
            let problem = Problem::error(source, source.position, message);
            problems.push(problem.code(code::NO_AUTHORITY));
        }
        let first = index.peer_authentication_of(&entry.meta.namespace);
        if let Some(first) = first.filter(|_| spec.selector.is_empty())
            && first.meta.name != entry.meta.name
        {
            let message = format!(
                "{} is for all of namespace {} too, and older or first by name: {} has no effect, give it a selector or remove it",
                first.meta, entry.meta.namespace, entry.meta
            );
            let problem = Problem::warning(source, source.position, message);
            problems.push(problem.code(code::INEFFECTIVE_POLICY));
        }
    }
    for entry in index.destination_rules() {
        let subsets = entry.spec.subsets.iter().map(|subset| &subset.policy);
        let mut policies = std::iter::once(&entry.spec.policy).chain(subsets);
        let is_mesh = |tls: &ClientTls| matches!(tls, ClientTls::Mesh { .. });
        if !index.has_authority && policies.any(|policy| policy.tls.as_ref().is_some_and(is_mesh)) {
            let source = &entry.meta.source;
            let message = format!(
                "ISTIO_MUTUAL of {} has no effect: {NO_AUTHORITY}",
                entry.meta
            );
            let problem = Problem::error(source, source.position, message);
            problems.push(problem.code(code::NO_AUTHORITY));
        }
    }
}

#[cfg(test)]
mod tests {
    use periplus_resources::{MeshConfig, parse_resources};

    use super::*;

    /// At each place the oldest counts, then the first by name; one that nobody has dated is younger than all others.
    #[test]
    fn the_oldest_of_a_place_counts() {
        const SOME: [(&str, &str, &str); 3] = [
            ("a", "", "STRICT"),
            ("b", "2024-05-01T00:00:00Z", "DISABLE"),
            ("c", "2023-05-01T00:00:00Z", "PERMISSIVE"),
        ];
        for selector in ["", "selector: {matchLabels: {app: shop}}, "] {
            for (names, expected) in [
                (&["a"][..], MutualTls::Strict),
                (&["a", "b"], MutualTls::Disable),
                (&["a", "b", "c"], MutualTls::Permissive),
                (&["a", "d"], MutualTls::Strict),
            ] {
                let some = SOME.into_iter().chain([("d", "", "DISABLE")]);
                let some = some.filter(|(name, ..)| names.contains(name));
                let text: String = some
                    .map(|(name, created, mode)| {
                        let created = match created {
                            "" => String::new(),
                            created => format!(", creationTimestamp: '{created}'"),
                        };
                        format!(
                            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                             metadata: {{name: {name}{created}}}\n\
                             spec: {{{selector}mtls: {{mode: {mode}}}}}\n---\n"
                        )
                    })
                    .collect();
                let parsed = parse_resources("a.yaml", &text);
                assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
                let index = Index::certified(&parsed.resources, MeshConfig::default());
                let labels = Labels::from([("app".to_owned(), "shop".to_owned())]);
                let mode = index.mutual_tls_of("default", &labels, 80);
                assert_eq!(mode, expected, "{names:?} {selector}");
            }
        }
    }
}
