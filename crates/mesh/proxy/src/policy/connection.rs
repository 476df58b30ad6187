//! The rules for connections that are passed on as they are.

use std::sync::Arc;

use crate::policy::{Rbac, RbacCounts, Subject};
use crate::snapshot::TokenBucket;
use crate::stats::{ConnectionLimitStats, Registry};

/// A filter before the TCP proxy.
#[derive(Clone, Debug)]
pub enum ConnectionRules {
    /// `envoy.filters.network.rbac`, with its `stat_prefix`.
    Rbac(Arc<Rbac>, String),
    /// `envoy.filters.network.local_ratelimit`, with its `stat_prefix`: each connection takes a token.
    Limit(Arc<TokenBucket>, String),
}

/// Two are the same if they are one: rules have no other use for equality.
impl PartialEq for ConnectionRules {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rbac(one, _), Self::Rbac(other, _)) => Arc::ptr_eq(one, other),
            (Self::Limit(one, _), Self::Limit(other, _)) => Arc::ptr_eq(one, other),
            (Self::Rbac(..), Self::Limit(..)) | (Self::Limit(..), Self::Rbac(..)) => false,
        }
    }
}

/// The same with what a worker counts.
#[derive(Debug)]
pub(crate) enum ConnectionRulesView {
    Rbac(Arc<Rbac>, RbacCounts),
    Limit(Arc<TokenBucket>, Arc<ConnectionLimitStats>),
}

impl ConnectionRulesView {
    pub(crate) fn new(rules: &ConnectionRules, registry: &Registry) -> Self {
        match rules {
            ConnectionRules::Rbac(rbac, prefix) => {
                Self::Rbac(rbac.clone(), RbacCounts::new(rbac, rbac, prefix, registry))
            }
            ConnectionRules::Limit(bucket, prefix) => {
                Self::Limit(bucket.clone(), registry.connection_limit(prefix))
            }
        }
    }

    /// Whether a connection may go on: else Envoy's words for why it does not, if it has some.
    pub(crate) fn check(&self, subject: &Subject<'_>) -> Result<(), Option<String>> {
        match self {
            Self::Rbac(rbac, counts) => check(rbac, counts, subject).map_err(Some),
            Self::Limit(bucket, _) if bucket.take() => Ok(()),
            Self::Limit(_, stats) => {
                stats.rate_limited.increment();
                Err(None)
            }
        }
    }
}

fn check(rbac: &Rbac, counts: &RbacCounts, subject: &Subject<'_>) -> Result<(), String> {
    if let Some(rules) = &rbac.shadow_rules {
        counts.count_shadow(rules.decide(subject));
    }
    let Some(rules) = &rbac.rules else {
        return Ok(());
    };
    let decision = rules.decide(subject);
    counts.count(decision);
    match decision.allowed {
        true => Ok(()),
        false => Err(rules.details(decision)),
    }
}
