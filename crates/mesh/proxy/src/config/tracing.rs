//! `HttpConnectionManager.Tracing`.

use envoy_types::pb::envoy::config::route::v3::Tracing as RouteTracingPb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as pb;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::PathSegment;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_kind::Kind as MetadataKindOf;
use envoy_types::pb::envoy::r#type::tracing::v3 as tag;
use envoy_types::pb::envoy::r#type::tracing::v3::custom_tag::Type as TagType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};

use super::check::{At, Refused, flag, nothing_else};
use super::{fraction, tracers};
use crate::snapshot::{CustomTag, CustomTagValue, RouteTracing, TagFormat, Tracing};
use crate::telemetry::log::Template;

/// In units of 0.01 %.
const ALWAYS: u32 = 10_000;
const DEFAULT_MAX_PATH_TAG_LENGTH: u32 = 256;

/// Without a provider there is no tracer.
pub(super) fn compile(mut tracing: pb::Tracing, at: &At<'_>) -> Result<Option<Tracing>, Refused> {
    // Envoy reads the client's share as a whole number of percents, the others to a hundredth.
    let client_sampling = percent(tracing.client_sampling.take(), &at.field("client_sampling"))?;
    let random_sampling = percent(tracing.random_sampling.take(), &at.field("random_sampling"))?;
    let overall_sampling = percent(
        tracing.overall_sampling.take(),
        &at.field("overall_sampling"),
    )?;
    let custom_tags = std::mem::take(&mut tracing.custom_tags);
    let custom_tags = self::custom_tags(custom_tags, &at.field("custom_tags"))?;
    let max_path_tag_length = tracing.max_path_tag_length.take();
    let max_path_tag_length = max_path_tag_length.map_or(DEFAULT_MAX_PATH_TAG_LENGTH, |v| v.value);
    let spawn_upstream_span = flag(tracing.spawn_upstream_span.take(), false);
    let provider = tracing.provider.take();
    nothing_else(&tracing, at)?;
    let Some(provider) = provider else {
        return Ok(None);
    };
    Ok(Some(Tracing {
        provider: tracers::compile(provider, &at.field("provider"))?,
        client_sampling: client_sampling / 100 * 100,
        random_sampling,
        overall_sampling,
        spawn_upstream_span,
        max_path_tag_length: max_path_tag_length as usize,
        custom_tags,
    }))
}

/// What a route says in place of it.
pub(super) fn compile_route(
    mut tracing: RouteTracingPb,
    at: &At<'_>,
) -> Result<Box<RouteTracing>, Refused> {
    let client_sampling = share(tracing.client_sampling.take(), &at.field("client_sampling"))?;
    let random_sampling = share(tracing.random_sampling.take(), &at.field("random_sampling"))?;
    let overall_sampling = share(
        tracing.overall_sampling.take(),
        &at.field("overall_sampling"),
    )?;
    let at_tags = &at.field("custom_tags");
    let custom_tags = custom_tags(std::mem::take(&mut tracing.custom_tags), at_tags)?;
    nothing_else(&tracing, at)?;
    let of_metadata = |tag: &CustomTag| matches!(tag.value, CustomTagValue::Metadata { .. });
    if let Some(index) = custom_tags.iter().position(of_metadata) {
        let reason = "metadata is supported in the tags of a connection manager only";
        return Err(at_tags.index(index).refuse(reason));
    }
    Ok(Box::new(RouteTracing {
        client_sampling,
        random_sampling,
        overall_sampling,
        custom_tags,
    }))
}

/// In units of 0.01 %; all of them unless something is said.
fn share(given: Option<FractionalPercent>, at: &At<'_>) -> Result<u32, Refused> {
    /// Of a million.
    const UNIT: u32 = 1_000_000 / ALWAYS;
    let Some(given) = given else {
        return Ok(ALWAYS);
    };
    let per_million = fraction::per_million(given, at)?;
    if per_million % UNIT != 0 {
        return Err(at.refuse("a share finer than 0.01 % is not supported"));
    }
    Ok(per_million / UNIT)
}

pub(super) fn custom_tags(
    given: Vec<tag::CustomTag>,
    at: &At<'_>,
) -> Result<Vec<CustomTag>, Refused> {
    let tags = given.into_iter().enumerate();
    let tags = tags.filter_map(|(index, tag)| custom_tag(tag, &at.index(index)).transpose());
    tags.collect()
}

fn percent(percent: Option<Percent>, at: &At<'_>) -> Result<u32, Refused> {
    let Some(percent) = percent else {
        return Ok(ALWAYS);
    };
    if !(0.0..=100.0).contains(&percent.value) {
        return Err(at.refuse(format!(
            "{} is not a share between 0 and 100",
            percent.value
        )));
    }
    Ok((percent.value * 100.0).round() as u32)
}

/// An environment tag without a value is left out, as Envoy does.
fn custom_tag(tag: tag::CustomTag, at: &At<'_>) -> Result<Option<CustomTag>, Refused> {
    if tag.tag.is_empty() {
        return Err(at.field("tag").refuse("it must not be empty"));
    }
    let value = match tag.r#type {
        Some(TagType::Literal(literal)) => CustomTagValue::Literal(literal.value),
        Some(TagType::Environment(environment)) => {
            let value = std::env::var(&environment.name).unwrap_or(environment.default_value);
            if value.is_empty() {
                return Ok(None);
            }
            CustomTagValue::Literal(value)
        }
        Some(TagType::RequestHeader(header)) => CustomTagValue::RequestHeader {
            name: header.name.to_ascii_lowercase(),
            default: Some(header.default_value).filter(|value| !value.is_empty()),
        },
        Some(TagType::Metadata(metadata)) => self::metadata(metadata, &at.field("metadata"))?,
        Some(TagType::Value(format)) => {
            // As in Envoy, what has no value is nothing, and not `-`.
            let template = Template::parse(&format, true);
            let refused = |reason| at.field("value").refuse(reason);
            CustomTagValue::Format(TagFormat(template.map_err(refused)?))
        }
        None => return Err(at.refuse("its source must be given")),
    };
    Ok(Some(CustomTag {
        name: tag.tag,
        value,
    }))
}

/// What filters have found out about a request; of what else there may be metadata, there is none here.
fn metadata(mut given: tag::custom_tag::Metadata, at: &At<'_>) -> Result<CustomTagValue, Refused> {
    let kind = given.kind.take().and_then(|kind| kind.kind);
    if !matches!(kind, None | Some(MetadataKindOf::Request(_))) {
        return Err(at.field("kind").refuse("only request is supported"));
    }
    let at_key = &at.field("metadata_key");
    let key = given.metadata_key.take().unwrap_or_default();
    let segment = |(index, one): (usize, PathSegment)| match one.segment {
        Some(Segment::Key(key)) => Ok(key),
        // Lists have no keys.
        Some(Segment::Index(_)) | None => Err(at_key
            .field("path")
            .index(index)
            .refuse("it must have a key")),
    };
    let path: Vec<_> = key
        .path
        .into_iter()
        .enumerate()
        .map(segment)
        .collect::<Result<_, _>>()?;
    if key.key.is_empty() || path.is_empty() {
        return Err(at_key.refuse("it must have a key and a path"));
    }
    Ok(CustomTagValue::Metadata {
        filter: key.key,
        path,
        default: Some(given.default_value).filter(|value| !value.is_empty()),
    })
}
