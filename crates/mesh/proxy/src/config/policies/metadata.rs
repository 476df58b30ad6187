//! `MetadataMatcher`: what filters have found out.

use envoy_types::pb::envoy::config::rbac::v3::{MetadataSource, SourcedMetadata};
use envoy_types::pb::envoy::r#type::matcher::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{double_matcher, list_matcher};

use super::super::check::{At, Refused};
use super::super::matcher;
use super::rule::{check_depth, not_empty};
use crate::policy::{MetadataMatch, ValueTest};

pub(in super::super) fn compile(
    asked: pb::MetadataMatcher,
    at: &At<'_>,
) -> Result<MetadataMatch, Refused> {
    if asked.filter.is_empty() {
        return Err(at.field("filter").refuse("it must not be empty"));
    }
    not_empty(&asked.path, &at.field("path"))?;
    let segment = |segment: pb::metadata_matcher::PathSegment| match segment.segment {
        Some(Segment::Key(key)) if !key.is_empty() => Ok(key),
        _ => Err(at.field("path").refuse("each segment must be a key")),
    };
    let at_value = &at.field("value");
    let value = asked
        .value
        .ok_or_else(|| at_value.refuse("it must be given"))?;
    Ok(MetadataMatch {
        path: asked
            .path
            .into_iter()
            .map(segment)
            .collect::<Result<_, _>>()?,
        value: self::value(value, 0, at_value)?,
        filter: asked.filter,
        invert: asked.invert,
    })
}

/// The same, if it is about what filters have found out, and not about the route.
pub(super) fn sourced(asked: SourcedMetadata, at: &At<'_>) -> Result<MetadataMatch, Refused> {
    if asked.metadata_source != MetadataSource::Dynamic as i32 {
        let at = at.field("metadata_source");
        return Err(at.refuse("only DYNAMIC is supported"));
    }
    let at = &at.field("metadata_matcher");
    let given = asked.metadata_matcher;
    compile(given.ok_or_else(|| at.refuse("it must be given"))?, at)
}

fn value(value: pb::ValueMatcher, depth: usize, at: &At<'_>) -> Result<ValueTest, Refused> {
    check_depth(depth, at)?;
    Ok(match value.match_pattern {
        Some(MatchPattern::NullMatch(_)) => ValueTest::Null,
        Some(MatchPattern::DoubleMatch(number)) => match number.match_pattern {
            Some(double_matcher::MatchPattern::Exact(number)) => ValueTest::Number(number),
            Some(double_matcher::MatchPattern::Range(range)) => {
                ValueTest::Range(range.start, range.end)
            }
            None => return Err(at.field("double_match").refuse("it must be given")),
        },
        Some(MatchPattern::StringMatch(text)) => {
            ValueTest::Text(matcher::string(text, &at.field("string_match"))?)
        }
        Some(MatchPattern::BoolMatch(expected)) => ValueTest::Bool(expected),
        Some(MatchPattern::PresentMatch(true)) => ValueTest::Present,
        Some(MatchPattern::PresentMatch(false)) => {
            let reason = "false is not supported, invert says the same";
            return Err(at.field("present_match").refuse(reason));
        }
        Some(MatchPattern::ListMatch(list)) => {
            let at = &at.field("list_match");
            let Some(list_matcher::MatchPattern::OneOf(element)) = list.match_pattern else {
                return Err(at.refuse("one_of must be given"));
            };
            let element = self::value(*element, depth + 1, &at.field("one_of"))?;
            ValueTest::OneOf(Box::new(element))
        }
        Some(MatchPattern::OrMatch(alternatives)) => {
            let at = &at.field("or_match");
            let alternatives = alternatives.value_matchers.into_iter();
            let tests = alternatives.map(|one| self::value(one, depth + 1, at));
            ValueTest::Any(tests.collect::<Result<_, _>>()?)
        }
        None => return Err(at.refuse("a pattern must be given")),
    })
}
