//! The RBAC filters, of requests and of connections.

use std::sync::Arc;

use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::config::rbac::v3::rbac::AuditLoggingOptions;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as http;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network;

use super::super::check::{At, Refused, ignored, nothing_else};
use super::rule::not_empty;
use super::{principal, rule};
use crate::policy::{Action, Combination, Expression, MOST_POLICIES, Program, Rbac, Rules};
use crate::snapshot::{Filter, PerFilter};

/// The filter of an HTTP connection manager.
pub(in super::super) fn requests(mut filter: http::Rbac, at: &At<'_>) -> Result<Rbac, Refused> {
    let rules = optional_rules(filter.rules.take(), &at.field("rules"))?;
    let shadow_rules = optional_rules(filter.shadow_rules.take(), &at.field("shadow_rules"))?;
    let compiled = Rbac {
        rules,
        shadow_rules,
        stat_prefix: std::mem::take(&mut filter.rules_stat_prefix),
        shadow_stat_prefix: std::mem::take(&mut filter.shadow_rules_stat_prefix),
        counts_policies: std::mem::take(&mut filter.track_per_rule_stats),
    };
    nothing_else(&filter, at)?;
    Ok(compiled)
}

/// What a route says of it: other rules, or none at all.
pub(in super::super) fn requests_of_route(
    mut given: http::RbacPerRoute,
    at: &At<'_>,
) -> Result<PerFilter, Refused> {
    let rbac = given.rbac.take();
    nothing_else(&given, at)?;
    Ok(match rbac {
        Some(rbac) => PerFilter::Own(Filter::Rbac(Arc::new(requests(rbac, &at.field("rbac"))?))),
        None => PerFilter::Off,
    })
}

/// The filter of a filter chain; with the prefix of its counts.
pub(in super::super) fn connections(
    mut filter: network::Rbac,
    at: &At<'_>,
) -> Result<(Rbac, String), Refused> {
    let stat_prefix = std::mem::take(&mut filter.stat_prefix);
    if stat_prefix.is_empty() {
        return Err(at.field("stat_prefix").refuse("it must not be empty"));
    }
    let rules = optional_rules(filter.rules.take(), &at.field("rules"))?;
    let shadow_rules = optional_rules(filter.shadow_rules.take(), &at.field("shadow_rules"))?;
    for (field, rules) in [("rules", &rules), ("shadow_rules", &shadow_rules)] {
        if rules.as_ref().is_some_and(Rules::asks_for_headers) {
            let reason = "a connection has no header that a policy could ask for";
            return Err(at.field(field).refuse(reason));
        }
    }
    let compiled = Rbac {
        rules,
        shadow_rules,
        stat_prefix: String::new(),
        shadow_stat_prefix: std::mem::take(&mut filter.shadow_rules_stat_prefix),
        counts_policies: false,
    };
    if filter.enforcement_type != network::rbac::EnforcementType::OneTimeOnFirstByte as i32 {
        let at = at.field("enforcement_type");
        return Err(at.refuse("only ONE_TIME_ON_FIRST_BYTE is supported"));
    }
    nothing_else(&filter, at)?;
    Ok((compiled, stat_prefix))
}

fn optional_rules(rules: Option<pb::Rbac>, at: &At<'_>) -> Result<Option<Rules>, Refused> {
    rules.map(|rules| self::rules(rules, at)).transpose()
}

fn rules(mut rules: pb::Rbac, at: &At<'_>) -> Result<Rules, Refused> {
    let action = match pb::rbac::Action::try_from(std::mem::take(&mut rules.action)) {
        Ok(pb::rbac::Action::Allow) => Action::Allow,
        Ok(pb::rbac::Action::Deny) => Action::Deny,
        Ok(pb::rbac::Action::Log) => Action::Log,
        Err(_) => return Err(at.field("action").refuse("is not known")),
    };
    if let Some(mut audit) = rules.audit_logging_options.take() {
        // Without loggers, nobody would be told.
        if audit.logger_configs.is_empty() {
            ignored!(audit: audit_condition);
        }
        nothing_else::<AuditLoggingOptions>(&audit, &at.field("audit_logging_options"))?;
    }
    let at_policies = &at.field("policies");
    let mut policies: Vec<_> = std::mem::take(&mut rules.policies).into_iter().collect();
    if policies.len() > usize::from(MOST_POLICIES) {
        let count = policies.len();
        let reason = format!("there are {count}, at most {MOST_POLICIES} are supported");
        return Err(at_policies.refuse(reason));
    }
    policies.sort_by(|one, other| one.0.cmp(&other.0));
    let policies = policies
        .into_iter()
        .map(|(name, policy)| {
            let key = format!("[{name:?}]");
            let condition = self::policy(policy, &at_policies.key(&key))?;
            Ok((name, condition))
        })
        .collect::<Result<_, _>>()?;
    nothing_else(&rules, at)?;
    Ok(Rules::new(action, policies))
}

fn policy(mut policy: pb::Policy, at: &At<'_>) -> Result<Program, Refused> {
    let permissions = std::mem::take(&mut policy.permissions);
    let principals = std::mem::take(&mut policy.principals);
    let at_permissions = &at.field("permissions");
    let at_principals = &at.field("principals");
    not_empty(&permissions, at_permissions)?;
    not_empty(&principals, at_principals)?;
    let mut condition = Expression::default();
    condition.combine(Combination::All, |both| {
        both.combine(Combination::Any, |into| {
            let mut permissions = permissions.into_iter().enumerate();
            permissions
                .try_for_each(|(i, one)| rule::compile(one, 0, into, &at_permissions.index(i)))
        })?;
        both.combine(Combination::Any, |into| {
            let mut principals = principals.into_iter().enumerate();
            principals
                .try_for_each(|(i, one)| principal::compile(one, 0, into, &at_principals.index(i)))
        })
    })?;
    nothing_else(&policy, at)?;
    Ok(condition.compile())
}
