//! The conditions of rules as Envoy's matchers.

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    MetadataMatcher, RegexMatchAndSubstitute, RegexMatcher, StringMatcher, value_matcher,
};
use envoy_types::pb::google::protobuf::BoolValue;
use periplus_resources::{HttpMatch, StringMatch, claim_path};

use super::matching;

/// What a route asks of requests.
pub(super) fn route_match(condition: &HttpMatch) -> RouteMatch {
    let pseudo = [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ];
    let pseudo = pseudo.into_iter().filter_map(|(name, condition)| {
        let condition = condition.as_ref()?;
        Some(header_matcher(name, Some(condition)))
    });
    let is_header = |(name, _): &&(String, _)| claim_path(name).is_none();
    let claims = condition.headers.iter();
    let claims = claims.filter_map(|(name, value)| claim(name, value.as_ref()));
    let without_claims = condition.without_headers.iter();
    let without_claims = without_claims.filter_map(|(name, value)| {
        Some(MetadataMatcher {
            invert: true,
            ..claim(name, value.as_ref())?
        })
    });
    let headers = condition.headers.iter().filter(is_header);
    let headers = headers.map(|(name, condition)| header_matcher(name, condition.as_ref()));
    let without = condition.without_headers.iter().filter(is_header);
    let without = without.map(|(name, condition)| HeaderMatcher {
        invert_match: true,
        // A header that is not there has no such value either.
        treat_missing_header_as_empty: condition.is_some(),
        ..header_matcher(name, condition.as_ref())
    });
    let query = condition.query.iter();
    let query = query.map(|(name, condition)| QueryParameterMatcher {
        name: name.clone(),
        query_parameter_match_specifier: Some(match condition {
            None => QueryParameterMatchSpecifier::PresentMatch(true),
            Some(condition) => QueryParameterMatchSpecifier::StringMatch(string_matcher(condition)),
        }),
    });
    RouteMatch {
        path_specifier: Some(match &condition.uri {
            Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
            Some(StringMatch::Prefix(prefix))
                if condition.is_of_whole_segments && prefix != "/" =>
            {
                PathSpecifier::PathSeparatedPrefix(prefix.clone())
            }
            Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
            Some(StringMatch::Regex(pattern)) => PathSpecifier::SafeRegex(regex(pattern)),
            None => PathSpecifier::Prefix("/".into()),
        }),
        headers: pseudo.chain(headers).chain(without).collect(),
        query_parameters: query.collect(),
        dynamic_metadata: claims.chain(without_claims).collect(),
        case_sensitive: condition
            .ignores_uri_case
            .then_some(BoolValue { value: false }),
        ..RouteMatch::default()
    }
}

/// A condition on what a token says, if it is one.
fn claim(name: &str, condition: Option<&StringMatch>) -> Option<MetadataMatcher> {
    let path = claim_path(name)?;
    Some(match condition {
        Some(condition) => matching::claim_of_tokens(&path, &string_matcher(condition)),
        None => matching::payload(&path, value_matcher::MatchPattern::PresentMatch(true)),
    })
}

fn header_matcher(name: &str, condition: Option<&StringMatch>) -> HeaderMatcher {
    let specifier = match condition {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(condition) => HeaderMatchSpecifier::StringMatch(string_matcher(condition)),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

pub(super) fn string_matcher(condition: &StringMatch) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(match condition {
            StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
            StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
            StringMatch::Regex(pattern) => MatchPattern::SafeRegex(regex(pattern)),
        }),
        ..StringMatcher::default()
    }
}

/// Envoy's default engine is RE2; it matches the whole text.
fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        ..RegexMatcher::default()
    }
}

/// An expression, and what becomes of what it matches.
pub(super) fn regex_rewrite((pattern, by): &(String, String)) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(regex(pattern)),
        substitution: by.clone(),
    }
}
