//! The RBAC filters of a proxy: what AuthorizationPolicies say about its workload.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::rbac::v3::permission::{self, Rule};
use envoy_types::pb::envoy::config::rbac::v3::principal::{self, Identifier};
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as EnvoysFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as EnvoysNetworkFilter;
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::{
    AuthorizationPolicy, ConditionKey, Operation, PolicyAction, PolicyCondition, PolicyRule,
    PolicySource, Values,
};
use prost::{Message as _, Name as _};

use super::trust::Trust;
use super::{custom, matching};
use crate::index::{Entry, Index};
use crate::proxy::Proxy;

/// `envoy.extensions.filters.http.rbac.v3.RBAC`, whose policies have an order here: the same policies are
/// always the same bytes, and so the same version of the resource.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Filter {
    #[prost(message, optional, tag = "1")]
    pub(super) rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    pub(super) shadow_rules: Option<Rules>,
    #[prost(string, tag = "3")]
    pub(super) shadow_rules_stat_prefix: String,
}

impl Filter {
    pub(super) fn into_http(self) -> HttpFilter {
        HttpFilter {
            name: "envoy.filters.http.rbac".into(),
            config_type: Some(http_filter::ConfigType::TypedConfig(Any {
                type_url: EnvoysFilter::type_url(),
                value: self.encode_to_vec(),
            })),
            ..HttpFilter::default()
        }
    }

    /// The same for connections.
    pub(super) fn into_network(self) -> listener::Filter {
        let config = NetworkFilter {
            rules: self.rules,
            shadow_rules: self.shadow_rules,
            stat_prefix: NETWORK_STAT_PREFIX.into(),
            shadow_rules_stat_prefix: self.shadow_rules_stat_prefix,
        };
        listener::Filter {
            name: "envoy.filters.network.rbac".into(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(Any {
                type_url: EnvoysNetworkFilter::type_url(),
                value: config.encode_to_vec(),
            })),
        }
    }
}

/// What the counts of filters of connections are called, as in Istio.
pub(super) const NETWORK_STAT_PREFIX: &str = "tcp.";

/// `envoy.config.rbac.v3.RBAC`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Rules {
    #[prost(enumeration = "Action", tag = "1")]
    pub(super) action: i32,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) policies: BTreeMap<String, Policy>,
}

/// `envoy.extensions.filters.network.rbac.v3.RBAC`, with an order too.
#[derive(Clone, PartialEq, prost::Message)]
struct NetworkFilter {
    #[prost(message, optional, tag = "1")]
    rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    shadow_rules: Option<Rules>,
    #[prost(string, tag = "3")]
    stat_prefix: String,
    #[prost(string, tag = "5")]
    shadow_rules_stat_prefix: String,
}

/// What a filter decides about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    Requests,
    Connections,
}

/// The filters of requests, in the order in which they are asked: audit, deny, allow.
pub(super) fn filters(index: &Index, proxy: &Proxy) -> Vec<HttpFilter> {
    let configs = configs(index, proxy, Traffic::Requests);
    configs.map(Filter::into_http).collect()
}

/// The same for connections of whatever protocol.
pub(super) fn network_filters(index: &Index, proxy: &Proxy) -> Vec<listener::Filter> {
    let configs = configs(index, proxy, Traffic::Connections);
    let mut filters = custom::network_filters(index, proxy);
    filters.extend(configs.map(Filter::into_network));
    filters
}

/// The actions of the policies of a proxy that are tried and not enforced.
pub(super) fn tried<'a>(index: &'a Index, proxy: &'a Proxy) -> Vec<&'a PolicyAction> {
    let applying = index.authorization_policies(proxy);
    let tried = applying.filter(|entry| entry.spec.is_dry_run);
    tried.map(|entry| &entry.spec.action).collect()
}

fn configs(index: &Index, proxy: &Proxy, traffic: Traffic) -> impl Iterator<Item = Filter> {
    let applying: Vec<_> = index.authorization_policies(proxy).collect();
    let trust = Trust::of(index.mesh());
    let actions = [PolicyAction::Audit, PolicyAction::Deny, PolicyAction::Allow];
    actions.into_iter().filter_map(move |action| {
        let of_action = applying.iter().filter(|entry| entry.spec.action == action);
        let (tried, enforced): (Vec<_>, Vec<_>) =
            of_action.partition(|entry| entry.spec.is_dry_run);
        if tried.is_empty() && enforced.is_empty() {
            return None;
        }
        let prefix = match action {
            _ if tried.is_empty() => "",
            PolicyAction::Allow => "istio_dry_run_allow_",
            _ => "istio_dry_run_deny_",
        };
        Some(Filter {
            rules: rules(&action, &enforced, traffic, trust),
            shadow_rules: rules(&action, &tried, traffic, trust),
            shadow_rules_stat_prefix: prefix.to_owned(),
        })
    })
}

/// The rules of policies of one action. Those that ask a provider match what it is to be asked about.
pub(super) fn rules(
    action: &PolicyAction,
    entries: &[&&Entry<AuthorizationPolicy>],
    traffic: Traffic,
    trust: Trust<'_>,
) -> Option<Rules> {
    if entries.is_empty() {
        return None;
    }
    let of_requests = match (traffic, action) {
        (Traffic::Requests, _) => OfRequests::Known,
        // What is less is allowed, and what is more is denied.
        (Traffic::Connections, PolicyAction::Allow) => OfRequests::NeverHolds,
        (Traffic::Connections, _) => OfRequests::LeftOut,
    };
    let prefix = match action {
        PolicyAction::Custom(provider) => custom::prefix(provider),
        _ => String::new(),
    };
    let action = match action {
        PolicyAction::Allow => Action::Allow,
        PolicyAction::Deny | PolicyAction::Custom(_) => Action::Deny,
        PolicyAction::Audit => Action::Log,
    };
    let mut policies = BTreeMap::new();
    for entry in entries {
        let namespace = &entry.meta.namespace;
        let name = |rule: usize| {
            let policy = &entry.meta.name;
            format!("{prefix}ns[{namespace}]-policy[{policy}]-rule[{rule}]")
        };
        for (index, rule) in entry.spec.rules.iter().enumerate() {
            if let Some(policy) = policy(rule, (namespace, trust), of_requests) {
                policies.insert(name(index), policy);
            }
        }
        if entry.spec.rules.is_empty() {
            policies.insert(name(0), that_never_matches());
        }
    }
    Some(Rules {
        action: action.into(),
        policies,
    })
}

/// What becomes of conditions that only requests can meet, as in Istio.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OfRequests {
    Known,
    /// The rule that has such a condition is left out.
    NeverHolds,
    /// The condition is left out.
    LeftOut,
}

/// A rule has conditions that make no sense where it is to hold.
struct Senseless;

impl OfRequests {
    /// The values of such a condition.
    fn values(self, values: &Values) -> Result<&Values, Senseless> {
        const NONE: &Values = &Values {
            one_of: Vec::new(),
            none_of: Vec::new(),
        };
        match self {
            Self::Known => Ok(values),
            Self::NeverHolds if *values == *NONE => Ok(values),
            Self::NeverHolds => Err(Senseless),
            Self::LeftOut => Ok(NONE),
        }
    }
}

fn that_never_matches() -> Policy {
    let anything = permission(Rule::Any(true));
    let anybody = principal(Identifier::Any(true));
    Policy {
        permissions: vec![permission(Rule::NotRule(Box::new(anything)))],
        principals: vec![principal(Identifier::NotId(Box::new(anybody)))],
        ..Policy::default()
    }
}

fn policy(rule: &PolicyRule, place: (&str, Trust<'_>), of_requests: OfRequests) -> Option<Policy> {
    let anything = [Operation::default()];
    let anybody = [PolicySource::default()];
    let to = if rule.to.is_empty() {
        &anything[..]
    } else {
        &rule.to
    };
    let from = if rule.from.is_empty() {
        &anybody[..]
    } else {
        &rule.from
    };
    let permissions = to
        .iter()
        .map(|one| permissions(one, &rule.when, of_requests));
    let principals = from
        .iter()
        .map(|one| principals(one, &rule.when, place, of_requests));
    Some(Policy {
        permissions: permissions.collect::<Result<_, _>>().ok()?,
        principals: principals.collect::<Result<_, _>>().ok()?,
        ..Policy::default()
    })
}

fn permissions(
    operation: &Operation,
    when: &[PolicyCondition],
    of_requests: OfRequests,
) -> Result<Permission, Senseless> {
    let mut all = Vec::new();
    let mut add = |values: &Values, rule: &dyn Fn(&str) -> Rule| {
        let one_of = |values: &[String]| {
            let rules = values.iter().map(|value| permission(rule(value))).collect();
            permission(Rule::OrRules(permission::Set { rules }))
        };
        if !values.one_of.is_empty() {
            all.push(one_of(&values.one_of));
        }
        if !values.none_of.is_empty() {
            all.push(permission(Rule::NotRule(Box::new(one_of(&values.none_of)))));
        }
    };
    add(of_requests.values(&operation.hosts)?, &|host| {
        Rule::Header(matching::host(host))
    });
    add(of_requests.values(&operation.methods)?, &|method| {
        Rule::Header(matching::header(":method", method))
    });
    add(of_requests.values(&operation.paths)?, &matching::path);
    add(&operation.ports, &matching::port);
    for condition in when {
        match condition.key {
            ConditionKey::DestinationIp => add(&condition.values, &|block| {
                Rule::DestinationIp(matching::block(block))
            }),
            ConditionKey::DestinationPort => add(&condition.values, &matching::port),
            ConditionKey::Sni => add(&condition.values, &|name| {
                Rule::RequestedServerName(matching::text(name))
            }),
            _ => {}
        }
    }
    if all.is_empty() {
        all.push(permission(Rule::Any(true)));
    }
    Ok(permission(Rule::AndRules(permission::Set { rules: all })))
}

fn principals(
    source: &PolicySource,
    when: &[PolicyCondition],
    (namespace, trust): (&str, Trust<'_>),
    of_requests: OfRequests,
) -> Result<Principal, Senseless> {
    let mut all = Vec::new();
    let mut add = |values: &Values, identifier: &dyn Fn(&str) -> Identifier| {
        let one_of = |values: &[String]| {
            let ids = values.iter().map(|value| principal(identifier(value)));
            let ids = ids.collect();
            principal(Identifier::OrIds(principal::Set { ids }))
        };
        if !values.one_of.is_empty() {
            all.push(one_of(&values.one_of));
        }
        if !values.none_of.is_empty() {
            all.push(principal(Identifier::NotId(Box::new(one_of(
                &values.none_of,
            )))));
        }
    };
    let account = |account: &str| matching::service_account(account, namespace);
    add(&trust.principals(&source.principals), &matching::principal);
    add(
        of_requests.values(&source.request_principals)?,
        &matching::request_principal,
    );
    add(&source.namespaces, &matching::namespace);
    add(&source.service_accounts, &account);
    add(
        &trust.expanded(&source.trust_domains),
        &matching::trust_domain,
    );
    add(&source.remote_ip_blocks, &|block| {
        Identifier::RemoteIp(matching::block(block))
    });
    add(&source.ip_blocks, &|block| {
        Identifier::DirectRemoteIp(matching::block(block))
    });
    for PolicyCondition { key, values } in when {
        match key {
            ConditionKey::RequestHeader(name) => add(of_requests.values(values)?, &|value| {
                Identifier::Header(matching::header(name, value))
            }),
            ConditionKey::SourceIp => add(values, &|block| {
                Identifier::DirectRemoteIp(matching::block(block))
            }),
            ConditionKey::RemoteIp => add(values, &|block| {
                Identifier::RemoteIp(matching::block(block))
            }),
            ConditionKey::SourceNamespace => add(values, &matching::namespace),
            ConditionKey::SourcePrincipal => {
                add(&trust.principals(values), &matching::principal);
            }
            ConditionKey::SourceServiceAccount => add(values, &account),
            ConditionKey::SourceTrustDomain => {
                add(&trust.expanded(values), &matching::trust_domain);
            }
            ConditionKey::RequestPrincipal => {
                add(of_requests.values(values)?, &matching::request_principal);
            }
            ConditionKey::RequestAudiences => {
                add(of_requests.values(values)?, &|value| {
                    matching::claim(&["aud"], value)
                });
            }
            ConditionKey::RequestPresenter => {
                add(of_requests.values(values)?, &|value| {
                    matching::claim(&["azp"], value)
                });
            }
            ConditionKey::RequestClaim(path) => {
                let path: Vec<_> = path.iter().map(String::as_str).collect();
                add(of_requests.values(values)?, &|value| {
                    matching::claim(&path, value)
                });
            }
            ConditionKey::DestinationIp | ConditionKey::DestinationPort | ConditionKey::Sni => {}
        }
    }
    if all.is_empty() {
        all.push(principal(Identifier::Any(true)));
    }
    Ok(principal(Identifier::AndIds(principal::Set { ids: all })))
}

fn permission(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn principal(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}
