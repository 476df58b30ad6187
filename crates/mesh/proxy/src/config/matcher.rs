//! `RouteMatch`: the conditions on a request.

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use super::check::{At, Refused, flag, nothing_else};
use super::{fraction, policies};
use crate::snapshot::{
    Conditions, FieldName, HeaderMatch, PathMatch, Pattern, QueryMatch, ValueMatch,
};

/// The conditions of a route: on the path, on headers, and others.
pub(super) type Compiled = (PathMatch, Vec<HeaderMatch>, Option<Box<Conditions>>);

pub(super) fn compile(mut condition: pb::RouteMatch, at: &At<'_>) -> Result<Compiled, Refused> {
    let path = match condition.path_specifier.take() {
        Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(prefix),
        Some(PathSpecifier::Path(path)) => PathMatch::Exact(path),
        Some(PathSpecifier::SafeRegex(regex)) => {
            PathMatch::Regex(pattern(&regex, &at.field("safe_regex"))?)
        }
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') {
                let reason = "it must begin with a slash and not end with one";
                return Err(at.field("path_separated_prefix").refuse(reason));
            }
            PathMatch::PathSeparatedPrefix(prefix)
        }
        Some(PathSpecifier::ConnectMatcher(_)) => PathMatch::Connect,
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            return Err(at.field("path_match_policy").refuse("is not supported"));
        }
        None => return Err(at.refuse("a condition on the path must be given")),
    };
    let is_case_sensitive = flag(condition.case_sensitive.take(), true);
    // As in Envoy, an expression says for itself whether letters count in either case.
    let path = match path {
        regex @ PathMatch::Regex(_) => regex,
        path if is_case_sensitive => path,
        path => PathMatch::IgnoringCase(Box::new(path)),
    };
    let at_headers = &at.field("headers");
    let headers = std::mem::take(&mut condition.headers)
        .into_iter()
        .enumerate()
        .map(|(index, matcher)| header(matcher, &at_headers.index(index)))
        .collect::<Result<Vec<_>, _>>()?;
    let conditions = conditions(&mut condition, at)?;
    nothing_else(&condition, at)?;
    Ok((path, headers, conditions))
}

fn conditions(
    condition: &mut pb::RouteMatch,
    at: &At<'_>,
) -> Result<Option<Box<Conditions>>, Refused> {
    let at_query = &at.field("query_parameters");
    let query = std::mem::take(&mut condition.query_parameters)
        .into_iter()
        .enumerate()
        .map(|(index, matcher)| parameter(matcher, &at_query.index(index)))
        .collect::<Result<Vec<_>, _>>()?;
    let at_metadata = &at.field("dynamic_metadata");
    let metadata = std::mem::take(&mut condition.dynamic_metadata)
        .into_iter()
        .enumerate()
        .map(|(index, matcher)| policies::metadata(matcher, &at_metadata.index(index)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut conditions = Conditions {
        query,
        metadata,
        grpc: condition.grpc.take().is_some(),
        ..Conditions::default()
    };
    if let Some(given) = condition.runtime_fraction.take() {
        let share = fraction::of_runtime(given, &at.field("runtime_fraction"))?;
        conditions.per_million = Some(share);
    }
    if let Some(mut given) = condition.tls_context.take() {
        conditions.presented = given.presented.take().map(|flag| flag.value);
        nothing_else(&given, &at.field("tls_context"))?;
    }
    Ok((conditions != Conditions::default()).then(|| Box::new(conditions)))
}

pub(super) fn parameter(
    matcher: pb::QueryParameterMatcher,
    at: &At<'_>,
) -> Result<QueryMatch, Refused> {
    let value = match matcher.query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => None,
        None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => Some(ValueMatch::Present),
        Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
            Some(string(text, &at.field("string_match"))?)
        }
    };
    if matcher.name.is_empty() {
        return Err(at.field("name").refuse("it must not be empty"));
    }
    Ok(QueryMatch {
        name: matcher.name,
        value,
    })
}

pub(super) fn header(matcher: pb::HeaderMatcher, at: &At<'_>) -> Result<HeaderMatch, Refused> {
    let name = matcher.name.to_ascii_lowercase();
    let supported = match name.strip_prefix(':') {
        Some(pseudo) => matches!(pseudo, "method" | "authority" | "path" | "scheme"),
        None => !name.is_empty(),
    };
    if !supported {
        return Err(at
            .field("name")
            .refuse(format!("{name:?} is not supported")));
    }
    let mut invert = matcher.invert_match;
    let value = match matcher.header_match_specifier {
        None => ValueMatch::Present,
        Some(HeaderMatchSpecifier::PresentMatch(present)) => {
            invert ^= !present;
            ValueMatch::Present
        }
        Some(HeaderMatchSpecifier::ExactMatch(text)) => ValueMatch::Exact(text),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => ValueMatch::Prefix(text),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => ValueMatch::Suffix(text),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => ValueMatch::Contains(text),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
            ValueMatch::Regex(pattern(&regex, &at.field("safe_regex_match"))?)
        }
        Some(HeaderMatchSpecifier::StringMatch(text)) => string(text, &at.field("string_match"))?,
        Some(HeaderMatchSpecifier::RangeMatch(range)) => ValueMatch::Range(range.start, range.end),
    };
    Ok(HeaderMatch {
        name: FieldName::from(name.as_str()),
        value,
        invert,
        missing_is_empty: matcher.treat_missing_header_as_empty,
    })
}

pub(super) fn string(matcher: StringMatcher, at: &At<'_>) -> Result<ValueMatch, Refused> {
    let value = match matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => ValueMatch::Exact(text),
        Some(MatchPattern::Prefix(text)) => ValueMatch::Prefix(text),
        Some(MatchPattern::Suffix(text)) => ValueMatch::Suffix(text),
        Some(MatchPattern::Contains(text)) => ValueMatch::Contains(text),
        Some(MatchPattern::SafeRegex(regex)) => {
            ValueMatch::Regex(pattern(&regex, &at.field("safe_regex"))?)
        }
        Some(MatchPattern::Custom(_)) => return Err(at.field("custom").refuse("is not supported")),
        None => return Err(at.refuse("its pattern must be given")),
    };
    // As in Envoy, an expression says for itself whether letters count in either case.
    Ok(match value {
        regex @ ValueMatch::Regex(_) => regex,
        value if matcher.ignore_case => ValueMatch::IgnoringCase(Box::new(value)),
        value => value,
    })
}

fn pattern(matcher: &RegexMatcher, at: &At<'_>) -> Result<Pattern, Refused> {
    Pattern::new(&matcher.regex).map_err(|error| {
        let error = error.lines().last().unwrap_or_default();
        at.field("regex")
            .refuse(format!("{:?} does not compile: {error}", matcher.regex))
    })
}
