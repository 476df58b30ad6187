//! The mesh, prepared so that each route tells the rule that it comes from.

use periplus_control::{Described, Index, Proxy, Service, generate};
use periplus_proxy::explain::{self, Explainer};
use periplus_resources::{Host, Meta, Resource, Spec};

use super::report::{Decision, Origin};

/// The mesh, and where its rules are written.
pub(super) struct Scene {
    pub(super) index: Index,
    rules: Vec<Origin>,
}

impl Scene {
    /// Rules are named for their places: names mean nothing to matching, and routes keep them.
    pub(super) fn new(mut described: Described) -> Self {
        let mut rules = Vec::new();
        for Resource { meta, spec } in &mut described.resources {
            let Spec::VirtualService(service) = spec else {
                continue;
            };
            for route in &mut service.http {
                route.name = format!("@{}", rules.len());
                for condition in &mut route.matches {
                    condition.name.clear();
                }
                rules.push(Origin {
                    resource: meta.to_string(),
                    source: format!("{}:{}", meta.source.file, route.at.0.line),
                });
            }
        }
        Self {
            index: described.index(),
            rules,
        }
    }

    /// What a proxy runs on.
    pub(super) fn explainer(&self, proxy: &Proxy) -> anyhow::Result<Explainer> {
        let generated = generate(&self.index, proxy);
        Explainer::new(generated.packed()).map_err(|rejections| {
            let reasons: Vec<String> = rejections.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(
                "the proxy of {} would refuse its resources: {}",
                proxy.id,
                reasons.join("; ")
            )
        })
    }

    /// The rule of a route's name; none of the routes that nobody has written.
    pub(super) fn rule(&self, name: &str) -> Option<Origin> {
        let number: usize = name.strip_prefix('@')?.parse().ok()?;
        self.rules.get(number).cloned()
    }

    /// The service of a name, or of the beginning of one: `reviews`, `reviews.default`, ….
    pub(super) fn service_called(&self, host: &Host) -> Option<&Service> {
        let exact = self.index.service(host);
        exact.or_else(|| {
            let prefix = format!("{host}.");
            let mut services = self.index.services();
            services.find(|service| {
                let rest = service.host.as_str().strip_prefix(&prefix);
                rest.is_some_and(|rest| rest.ends_with("svc.cluster.local"))
            })
        })
    }

    /// A decision, and where its policy is written.
    pub(super) fn decision(&self, decision: &explain::Decision) -> Decision {
        let (namespace, name) = policy_of(&decision.policy);
        let policy = self.index.authorization_policy(namespace, name);
        Decision {
            action: decision.action,
            allowed: decision.allowed,
            is_dry_run: decision.is_dry_run,
            policy: policy.map(|entry| origin(&entry.meta)),
        }
    }
}

/// Namespace and name of `…ns[NAMESPACE]-policy[NAME]-rule[N]`.
fn policy_of(name: &str) -> (&str, &str) {
    let between = |begin: &str| -> Option<&str> {
        let (_, rest) = name.split_once(begin)?;
        rest.split_once(']').map(|(text, _)| text)
    };
    let parts = between("ns[").zip(between("policy["));
    parts.unwrap_or(("", ""))
}

/// Where a resource is written.
pub(super) fn origin(meta: &Meta) -> Origin {
    Origin {
        resource: meta.to_string(),
        source: meta.source.to_string(),
    }
}
