//! `RouteAction.HashPolicy`.

use envoy_types::pb::envoy::config::route::v3::route_action as pb;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier;
use envoy_types::pb::google::protobuf;
use std::time::Duration;

use super::check::{At, Refused, duration};
use super::rewrite::replacement;
use crate::snapshot::{Cookie, HashPolicy, HashSource};

pub(super) fn compile(
    policies: Vec<pb::HashPolicy>,
    at: &At<'_>,
) -> Result<Vec<HashPolicy>, Refused> {
    let mut compiled = Vec::new();
    for (index, policy) in policies.into_iter().enumerate() {
        let is_terminal = policy.terminal;
        if let Some(source) = source(policy.policy_specifier, &at.index(index))? {
            compiled.push(HashPolicy {
                source,
                is_terminal,
            });
        }
    }
    Ok(compiled)
}

/// None if the policy looks at nothing.
fn source(specifier: Option<PolicySpecifier>, at: &At<'_>) -> Result<Option<HashSource>, Refused> {
    let named = |name: String, at: &At<'_>| {
        if name.is_empty() {
            Err(at.refuse("it must not be empty"))
        } else {
            Ok(name)
        }
    };
    Ok(Some(match specifier {
        Some(PolicySpecifier::Header(header)) => {
            let at = &at.field("header");
            let name = named(header.header_name, &at.field("header_name"))?;
            let name = name.to_ascii_lowercase();
            match header.regex_rewrite {
                None => HashSource::Header(name),
                Some(rewrite) => {
                    let rewrite = replacement(rewrite, &at.field("regex_rewrite"))?;
                    HashSource::RewrittenHeader(name, rewrite)
                }
            }
        }
        Some(PolicySpecifier::Cookie(given)) => {
            let attributes = given.attributes.into_iter();
            let attributes = attributes.map(|attribute| (attribute.name, attribute.value));
            let named = (given.name, given.path, attributes.collect());
            HashSource::Cookie(cookie(named, given.ttl, &at.field("cookie"))?)
        }
        Some(PolicySpecifier::ConnectionProperties(properties)) => {
            return Ok(properties.source_ip.then_some(HashSource::SourceIp));
        }
        Some(PolicySpecifier::QueryParameter(parameter)) => {
            let at = &at.field("query_parameter");
            HashSource::QueryParameter(named(parameter.name, &at.field("name"))?)
        }
        Some(PolicySpecifier::FilterState(_)) => {
            return Err(at.field("filter_state").refuse("is not supported"));
        }
        None => return Err(at.refuse("its kind must be given")),
    }))
}

/// A cookie of this name, path and attributes.
pub(super) fn cookie(
    (name, path, attributes): (String, String, Vec<(String, String)>),
    ttl: Option<protobuf::Duration>,
    at: &At<'_>,
) -> Result<Cookie, Refused> {
    let is_plain = |text: &str| {
        !text
            .bytes()
            .any(|byte| byte < b' ' || byte == b';' || byte == 0x7f)
    };
    let name_is_token = !name.is_empty()
        && http::HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).is_ok();
    if !name_is_token {
        return Err(at.field("name").refuse("it must be a token"));
    }
    if !is_plain(&path) {
        return Err(at.field("path").refuse("it has characters that end it"));
    }
    if attributes
        .iter()
        .any(|(name, value)| !is_plain(name) || !is_plain(value))
    {
        return Err(at
            .field("attributes")
            .refuse("one has characters that end it"));
    }
    let ttl = duration(ttl, &at.field("ttl"))?;
    Ok(Cookie {
        name,
        // Envoy takes whole seconds.
        ttl: ttl.map(|ttl| Duration::from_secs(ttl.as_secs())),
        path,
        attributes,
    })
}
