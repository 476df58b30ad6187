//! `rate_limits` of routes and virtual hosts: how descriptors are made.

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::rate_limit::Action;
use envoy_types::pb::envoy::config::route::v3::rate_limit::action::ActionSpecifier;

use super::check::{At, Refused, flag, nothing_else};
use super::matcher;
use crate::snapshot::{LimitAction, LimitRule};

/// The rules that count: those that a runtime could turn off are off, as in Envoy's local rate limits.
pub(super) fn compile(given: Vec<pb::RateLimit>, at: &At<'_>) -> Result<Vec<LimitRule>, Refused> {
    let mut rules = Vec::with_capacity(given.len());
    for (index, mut one) in given.into_iter().enumerate() {
        let at = &at.index(index);
        let at_actions = &at.field("actions");
        let actions = std::mem::take(&mut one.actions).into_iter().enumerate();
        let actions = actions
            .map(|(index, given)| action(given, &at_actions.index(index)))
            .collect::<Result<Vec<_>, _>>()?;
        let rule = LimitRule {
            stage: one.stage.take().map_or(0, |stage| stage.value),
            actions,
        };
        let is_off = !std::mem::take(&mut one.disable_key).is_empty();
        nothing_else(&one, at)?;
        if !is_off {
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn action(given: Action, at: &At<'_>) -> Result<LimitAction, Refused> {
    let or = |given: String, unset: &str| match given {
        none if none.is_empty() => unset.to_owned(),
        given => given,
    };
    let Some(specifier) = given.action_specifier else {
        return Err(at.refuse("it must be given"));
    };
    Ok(match specifier {
        ActionSpecifier::SourceCluster(_) => LimitAction::SourceCluster,
        ActionSpecifier::DestinationCluster(_) => LimitAction::DestinationCluster,
        ActionSpecifier::RemoteAddress(_) => LimitAction::RemoteAddress,
        ActionSpecifier::GenericKey(mut key) => {
            let value = std::mem::take(&mut key.descriptor_value);
            let name = or(std::mem::take(&mut key.descriptor_key), "generic_key");
            nothing_else(&key, &at.field("generic_key"))?;
            LimitAction::Fixed(name, value)
        }
        ActionSpecifier::RequestHeaders(mut header) => {
            let action = LimitAction::Header {
                name: std::mem::take(&mut header.header_name).to_ascii_lowercase(),
                key: std::mem::take(&mut header.descriptor_key),
                skips: std::mem::take(&mut header.skip_if_absent),
            };
            nothing_else(&header, &at.field("request_headers"))?;
            action
        }
        ActionSpecifier::QueryParameters(mut query) => {
            let action = LimitAction::Query {
                name: std::mem::take(&mut query.query_parameter_name),
                key: std::mem::take(&mut query.descriptor_key),
                skips: std::mem::take(&mut query.skip_if_absent),
            };
            nothing_else(&query, &at.field("query_parameters"))?;
            action
        }
        ActionSpecifier::HeaderValueMatch(mut given) => {
            let at = &at.field("header_value_match");
            let at_headers = &at.field("headers");
            let headers = std::mem::take(&mut given.headers).into_iter().enumerate();
            let conditions = headers
                .map(|(index, header)| matcher::header(header, &at_headers.index(index)))
                .collect::<Result<Vec<_>, _>>()?;
            let action = LimitAction::Headers {
                key: or(std::mem::take(&mut given.descriptor_key), "header_match"),
                value: std::mem::take(&mut given.descriptor_value),
                expected: flag(given.expect_match.take(), true),
                conditions,
            };
            nothing_else(&given, at)?;
            action
        }
        ActionSpecifier::QueryParameterValueMatch(mut given) => {
            let at = &at.field("query_parameter_value_match");
            let at_query = &at.field("query_parameters");
            let query = std::mem::take(&mut given.query_parameters).into_iter();
            let conditions = query
                .enumerate()
                .map(|(index, one)| matcher::parameter(one, &at_query.index(index)))
                .collect::<Result<Vec<_>, _>>()?;
            let action = LimitAction::Queries {
                key: or(std::mem::take(&mut given.descriptor_key), "query_match"),
                value: std::mem::take(&mut given.descriptor_value),
                expected: flag(given.expect_match.take(), true),
                conditions,
            };
            nothing_else(&given, at)?;
            action
        }
        ActionSpecifier::DynamicMetadata(_)
        | ActionSpecifier::Metadata(_)
        | ActionSpecifier::Extension(_)
        | ActionSpecifier::MaskedRemoteAddress(_)
        | ActionSpecifier::RemoteAddressMatch(_) => {
            let reason = "only generic_key, request_headers, query_parameters, remote_address, \
                          header_value_match, query_parameter_value_match, source_cluster and \
                          destination_cluster are supported";
            return Err(at.refuse(reason));
        }
    })
}
