//! Role based access control: policies and the decision that they lead to.

use std::sync::Arc;

use crate::policy::{Asked, Condition, Program, Programs, Subject};
use crate::stats::{EnforcedStats, Registry, ShadowStats};

/// Envoy's RBAC filter.
#[derive(Debug)]
pub struct Rbac {
    /// `rules`: those that are enforced.
    pub(crate) rules: Option<Rules>,
    /// `shadow_rules`: those whose decision is only told.
    pub(crate) shadow_rules: Option<Rules>,
    /// `rules_stat_prefix`.
    pub(crate) stat_prefix: String,
    /// `shadow_rules_stat_prefix`.
    pub(crate) shadow_stat_prefix: String,
    /// `track_per_rule_stats`.
    pub(crate) counts_policies: bool,
}

/// Two are the same if they are one: filters have no other use for equality.
impl PartialEq for Rbac {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Rbac {}

/// What Istio calls the rules that say which requests a service is asked about.
const ASKS: &str = "istio_ext_authz_";

impl Rbac {
    /// Whether its shadow rules say which requests a service is asked about: theirs is no dry run.
    pub(crate) fn asks(&self) -> bool {
        self.shadow_stat_prefix == ASKS
    }
}

/// What happens when a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is allowed, and nothing else is.
    Allow,
    /// It is denied, and everything else is allowed.
    Deny,
    /// It is allowed in any case.
    Log,
}

/// Envoy's `RBAC`.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) action: Action,
    /// The names of policies, in their order: the first that matches decides.
    names: Vec<String>,
    /// For each policy: one of its permissions and one of its principals must hold.
    conditions: Programs,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// The place of the policy that matched; [`MOST_POLICIES`] if none did.
    policy: u16,
}

/// What is told where no policy has matched.
pub(crate) const NO_POLICY: &str = "none";

/// The most policies of a filter.
pub(crate) const MOST_POLICIES: u16 = u16::MAX;

impl Rules {
    /// These policies, in the order of their names.
    pub(crate) fn new(action: Action, policies: Vec<(String, Program)>) -> Self {
        let (names, conditions): (_, Vec<_>) = policies.into_iter().unzip();
        Self {
            action,
            names,
            conditions: conditions.into_iter().collect(),
        }
    }

    /// Whether a request or a connection is allowed.
    pub(crate) fn decide(&self, subject: &Subject<'_>) -> Decision {
        let asked = Asked::of(subject);
        let policy = self.conditions.first(&asked);
        Decision {
            allowed: match self.action {
                Action::Allow => policy.is_some(),
                Action::Deny => policy.is_none(),
                Action::Log => true,
            },
            policy: policy
                .and_then(|at| u16::try_from(at).ok())
                .unwrap_or(MOST_POLICIES),
        }
    }

    /// The same where nobody has looked at the request's tokens; none, and the policy, if what they say decides.
    pub(crate) fn decide_untold(&self, subject: &Subject<'_>) -> Result<Decision, &str> {
        let asked = Asked::of(subject);
        let mut undecided = None;
        for (at, name) in self.names.iter().enumerate() {
            match self.conditions.holds_untold(at, &asked) {
                // What it says is said whatever the token says, so that there is nothing to find out.
                Some(true) => return Ok(self.decide(subject)),
                None => undecided = undecided.or(Some(name.as_str())),
                Some(false) => {}
            }
        }
        match undecided {
            Some(name) if self.action != Action::Log => Err(name),
            _ => Ok(self.decide(subject)),
        }
    }

    /// Whether a policy asks for a header.
    pub(crate) fn asks_for_headers(&self) -> bool {
        let is_of_header = |condition: &Condition| {
            matches!(condition, Condition::Header(_) | Condition::Method(..))
        };
        self.conditions.tests().any(is_of_header)
    }

    /// Envoy's words for a denial, without blanks as it is for logs.
    pub(crate) fn details(&self, decision: Decision) -> String {
        let policy = self.name(decision).replace(char::is_whitespace, "_");
        format!("rbac_access_denied_matched_policy[{policy}]")
    }

    /// The name of a decision's policy, `none` if none matched.
    pub(crate) fn name(&self, decision: Decision) -> &str {
        let name = self.names.get(usize::from(decision.policy));
        name.map_or(NO_POLICY, String::as_str)
    }
}

/// The counts of one filter.
#[derive(Debug)]
pub(crate) struct RbacCounts {
    enforced: Arc<EnforcedStats>,
    shadow: Arc<ShadowStats>,
    /// By policy, if they are counted.
    by_policy: Vec<Arc<EnforcedStats>>,
    by_shadow_policy: Vec<Arc<ShadowStats>>,
}

impl RbacCounts {
    /// `prefix` is that of all counts, such as `http.inbound`; what comes behind it is said by `named`, the filter
    /// whose rules these are or, as in Envoy, in whose place they stand for a route.
    pub(crate) fn new(rbac: &Rbac, named: &Rbac, prefix: &str, registry: &Registry) -> Self {
        let under = |own: &str| match own {
            "" => format!("{prefix}.rbac"),
            own => format!("{prefix}.rbac.{}", own.trim_end_matches('.')),
        };
        let (enforced, shadow) = (under(&named.stat_prefix), under(&named.shadow_stat_prefix));
        let counted = |rules: &Option<Rules>, under: &str| {
            let rules = rules.as_ref().filter(|_| rbac.counts_policies);
            let names = rules.into_iter().flat_map(|rules| &rules.names);
            names
                .map(|name| format!("{under}.policy.{name}"))
                .collect::<Vec<_>>()
        };
        let by_policy = counted(&rbac.rules, &enforced).into_iter();
        let by_shadow_policy = counted(&rbac.shadow_rules, &shadow).into_iter();
        Self {
            by_policy: by_policy.map(|name| registry.enforced(&name)).collect(),
            by_shadow_policy: by_shadow_policy
                .map(|name| registry.shadow(&name))
                .collect(),
            enforced: registry.enforced(&enforced),
            shadow: registry.shadow(&shadow),
        }
    }

    pub(crate) fn count(&self, decision: Decision) {
        let of_policy = self.by_policy.get(usize::from(decision.policy));
        for stats in std::iter::once(&self.enforced).chain(of_policy) {
            match decision.allowed {
                true => stats.allowed.increment(),
                false => stats.denied.increment(),
            }
        }
    }

    pub(crate) fn count_shadow(&self, decision: Decision) {
        let policies = &self.by_shadow_policy;
        let of_policy = policies.get(usize::from(decision.policy));
        for stats in std::iter::once(&self.shadow).chain(of_policy) {
            match decision.allowed {
                true => stats.shadow_allowed.increment(),
                false => stats.shadow_denied.increment(),
            }
        }
    }
}
