//! The rules for connections that are passed on as they are.

use std::sync::Arc;

use crate::policy::authz::{ConnectionAuthz, ConnectionAuthzView};
use crate::policy::filter::{OF_SHADOW, Told, leave};
use crate::policy::{Metadata, NETWORK_RBAC, Rbac, RbacCounts, Subject};
use crate::snapshot::TokenBucket;
use crate::stats::{ConnectionLimitStats, Registry};

/// A filter before the TCP proxy.
#[derive(Clone, Debug)]
pub enum ConnectionRules {
    /// `envoy.filters.network.rbac`, with its `stat_prefix`.
    Rbac(Arc<Rbac>, String),
    /// `envoy.filters.network.local_ratelimit`, with its `stat_prefix`: each connection takes a token.
    Limit(Arc<TokenBucket>, String),
    /// `envoy.filters.network.ext_authz`: a service is asked.
    Ask(Arc<ConnectionAuthz>),
}

/// Two are the same if they are one: rules have no other use for equality.
impl PartialEq for ConnectionRules {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rbac(one, _), Self::Rbac(other, _)) => Arc::ptr_eq(one, other),
            (Self::Limit(one, _), Self::Limit(other, _)) => Arc::ptr_eq(one, other),
            (Self::Ask(one), Self::Ask(other)) => Arc::ptr_eq(one, other),
            (Self::Rbac(..) | Self::Limit(..) | Self::Ask(_), _) => false,
        }
    }
}

/// The same with what a worker counts.
#[derive(Debug)]
pub(crate) enum ConnectionRulesView {
    Rbac(RbacOfConnections),
    Limit(Arc<TokenBucket>, Arc<ConnectionLimitStats>),
    Ask(ConnectionAuthzView),
}

#[derive(Debug)]
pub(crate) struct RbacOfConnections {
    rbac: Arc<Rbac>,
    counts: RbacCounts,
    /// The filters behind, or logs, are told what its shadow rules have decided.
    tells: bool,
}

impl ConnectionRulesView {
    pub(crate) fn new(rules: &ConnectionRules, tells: bool, registry: &Registry) -> Self {
        match rules {
            ConnectionRules::Rbac(rbac, prefix) => {
                // Istio's ends in the dot that others lack.
                let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
                Self::Rbac(RbacOfConnections {
                    rbac: rbac.clone(),
                    counts: RbacCounts::new(rbac, rbac, prefix, registry),
                    tells,
                })
            }
            ConnectionRules::Limit(bucket, prefix) => {
                Self::Limit(bucket.clone(), registry.connection_limit(prefix))
            }
            ConnectionRules::Ask(authz) => Self::Ask(ConnectionAuthzView::new(authz, registry)),
        }
    }

    /// Whether a connection may go on, as far as no service decides: else Envoy's words for why it does not, if it
    /// has some. What filters behind learn is added to `left`.
    pub(crate) fn check(
        &self,
        subject: &Subject<'_>,
        left: &mut Metadata,
    ) -> Result<(), Option<String>> {
        match self {
            Self::Rbac(rules) => rules.check(subject, left).map_err(Some),
            Self::Limit(bucket, stats) if !bucket.take() => {
                stats.rate_limited.increment();
                Err(None)
            }
            Self::Limit(..) | Self::Ask(_) => Ok(()),
        }
    }
}

impl RbacOfConnections {
    fn check(&self, subject: &Subject<'_>, left: &mut Metadata) -> Result<(), String> {
        let Self {
            rbac,
            counts,
            tells,
        } = self;
        if let Some(rules) = &rbac.shadow_rules {
            let decision = rules.decide(subject);
            counts.count_shadow(decision);
            if *tells {
                let prefix = &rbac.shadow_stat_prefix;
                let told = Told::new(rules, decision);
                leave(told, prefix, OF_SHADOW, (NETWORK_RBAC, left));
            }
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
}
