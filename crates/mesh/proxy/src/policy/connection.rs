//! The rules for connections that are passed on as they are.

use std::sync::Arc;

use crate::policy::{Rbac, RbacCounts, Subject};
use crate::stats::Registry;

/// `envoy.filters.network.rbac`.
#[derive(Clone, Debug)]
pub struct ConnectionRules {
    pub(crate) rbac: Arc<Rbac>,
    /// `stat_prefix`.
    pub(crate) stat_prefix: String,
}

/// Two are the same if they are one: rules have no other use for equality.
impl PartialEq for ConnectionRules {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rbac, &other.rbac)
    }
}

/// The same with what a worker counts.
#[derive(Debug)]
pub(crate) struct ConnectionRulesView {
    rbac: Arc<Rbac>,
    counts: RbacCounts,
}

impl ConnectionRulesView {
    pub(crate) fn new(rules: &ConnectionRules, registry: &Registry) -> Self {
        Self {
            counts: RbacCounts::new(&rules.rbac, &rules.stat_prefix, registry),
            rbac: rules.rbac.clone(),
        }
    }

    /// Whether a connection may go on: else the policy that says no, or `none`.
    pub(crate) fn check(&self, subject: &Subject<'_>) -> Result<(), &str> {
        if let Some(rules) = &self.rbac.shadow_rules {
            self.counts.count_shadow(rules.decide(subject));
        }
        let Some(rules) = &self.rbac.rules else {
            return Ok(());
        };
        let decision = rules.decide(subject);
        self.counts.count(decision);
        match decision.allowed {
            true => Ok(()),
            false => Err(rules.name(decision)),
        }
    }
}
