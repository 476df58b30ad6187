//! `envoy.filters.http.local_ratelimit`.

use std::collections::HashSet;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::{
    LocalRateLimitDescriptor, VhRateLimitsOptions, XRateLimitHeadersRfcVersion,
};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as pb;
use envoy_types::pb::envoy::r#type::v3 as types;

use crate::config::check::{At, Refused, duration, flag, nothing_else};
use crate::config::{edits, fraction, limits};
use crate::snapshot::{
    AppendAction, Descriptor, LimitField, OfHost, Part, RateLimit, TokenBucket, Wildcard,
};

/// As in Envoy, a bucket is not filled more often.
const SHORTEST: Duration = Duration::from_millis(50);
/// The most descriptors with a bucket of their own,
const MOST_DESCRIPTORS: usize = 1024;
/// and how many of the values of one that is for any have one unless something is said, as with Envoy.
const DEFAULT_OF_VALUES: usize = 20;

pub(super) fn compile(mut limit: pb::LocalRateLimit, at: &At<'_>) -> Result<RateLimit, Refused> {
    let share = |given: Option<_>, name| match given {
        Some(given) => fraction::of_runtime(given, &at.field(name)),
        None => Ok(0),
    };
    let tells = XRateLimitHeadersRfcVersion::try_from(std::mem::take(
        &mut limit.enable_x_ratelimit_headers,
    ));
    let of_host = VhRateLimitsOptions::try_from(std::mem::take(&mut limit.vh_rate_limits));
    let status = limit.status.take().map_or(0, |status| status.code);
    let stage = std::mem::take(&mut limit.stage);
    let most = limit.max_dynamic_descriptors.take();
    let most = most.map_or(DEFAULT_OF_VALUES, |most| most.value as usize);
    let (fixed, wildcards) = descriptors(
        std::mem::take(&mut limit.descriptors),
        most,
        &at.field("descriptors"),
    )?;
    if most == 0 || (most > MOST_DESCRIPTORS && !wildcards.is_empty()) {
        let at = at.field("max_dynamic_descriptors");
        return Err(at.refuse(format!("it must be 1 to {MOST_DESCRIPTORS}")));
    }
    let compiled = RateLimit {
        stat_prefix: std::mem::take(&mut limit.stat_prefix),
        // As in Envoy, what is no error is none of its answers.
        status: u16::try_from(status)
            .ok()
            .filter(|status| (400..600).contains(status))
            .unwrap_or(429),
        is_exhausted: std::mem::take(&mut limit.rate_limited_as_resource_exhausted),
        bucket: match limit.token_bucket.take() {
            Some(given) => Some(bucket(given, &at.field("token_bucket"))?),
            None => None,
        },
        takes_from_both: flag(limit.always_consume_default_token_bucket.take(), true),
        enabled: share(limit.filter_enabled.take(), "filter_enabled")?,
        enforced: share(limit.filter_enforced.take(), "filter_enforced")?,
        response: fields(
            std::mem::take(&mut limit.response_headers_to_add),
            &at.field("response_headers_to_add"),
        )?,
        request: fields(
            std::mem::take(&mut limit.request_headers_to_add_when_not_enforced),
            &at.field("request_headers_to_add_when_not_enforced"),
        )?,
        descriptors: fixed,
        wildcards,
        rules: limits::compile(
            std::mem::take(&mut limit.rate_limits),
            &at.field("rate_limits"),
        )?,
        stage,
        tells: match tells {
            Ok(XRateLimitHeadersRfcVersion::Off) => false,
            Ok(XRateLimitHeadersRfcVersion::DraftVersion03) => true,
            Err(_) => {
                return Err(at
                    .field("enable_x_ratelimit_headers")
                    .refuse("is not known"));
            }
        },
        of_host: match of_host {
            Ok(VhRateLimitsOptions::Override) => OfHost::Override,
            Ok(VhRateLimitsOptions::Include) => OfHost::Include,
            Ok(VhRateLimitsOptions::Ignore) => OfHost::Ignore,
            Err(_) => return Err(at.field("vh_rate_limits").refuse("is not known")),
        },
    };
    if compiled.stat_prefix.is_empty() {
        return Err(at.field("stat_prefix").refuse("it must be given"));
    }
    nothing_else(&limit, at)?;
    Ok(compiled)
}

pub(crate) fn bucket(mut given: types::TokenBucket, at: &At<'_>) -> Result<TokenBucket, Refused> {
    let most = std::mem::take(&mut given.max_tokens);
    let per_fill = given
        .tokens_per_fill
        .take()
        .map_or(1, |tokens| tokens.value);
    let interval = duration(given.fill_interval.take(), &at.field("fill_interval"))?;
    if most == 0 || per_fill == 0 {
        return Err(at.refuse("max_tokens and tokens_per_fill must be at least 1"));
    }
    let Some(interval) = interval.filter(|interval| *interval >= SHORTEST) else {
        let reason = format!("it must be at least {SHORTEST:?}");
        return Err(at.field("fill_interval").refuse(reason));
    };
    nothing_else(&given, at)?;
    Ok(TokenBucket::new(most, per_fill, interval))
}

/// Those with all of their values, and those that have at most so many buckets for the values that come.
type Descriptors = (Vec<(Descriptor, TokenBucket)>, Vec<Wildcard>);

fn descriptors(
    given: Vec<LocalRateLimitDescriptor>,
    most: usize,
    at: &At<'_>,
) -> Result<Descriptors, Refused> {
    if given.len() > MOST_DESCRIPTORS {
        return Err(at.refuse(format!("there must be at most {MOST_DESCRIPTORS}")));
    }
    let mut known = HashSet::new();
    let (mut fixed, mut wildcards) = (Vec::with_capacity(given.len()), Vec::new());
    for (index, mut one) in given.into_iter().enumerate() {
        let at = &at.index(index);
        let entries = std::mem::take(&mut one.entries).into_iter();
        let entries: Descriptor = entries.map(|entry| (entry.key, entry.value)).collect();
        if entries.iter().any(|(key, _)| key.is_empty()) {
            return Err(at.field("entries").refuse("each needs a key"));
        }
        if entries.is_empty() || !known.insert(entries.clone()) {
            let reason = "there must be some, other ones than those of the descriptors before";
            return Err(at.field("entries").refuse(reason));
        }
        let Some(given) = one.token_bucket.take() else {
            return Err(at.field("token_bucket").refuse("it must be given"));
        };
        let bucket = bucket(given, &at.field("token_bucket"))?;
        nothing_else(&one, at)?;
        match entries.iter().any(|(_, value)| value.is_empty()) {
            true => wildcards.push(Wildcard::new(entries, bucket, most)),
            false => fixed.push((entries, bucket)),
        }
    }
    Ok((fixed, wildcards))
}

pub(crate) fn fields(
    given: Vec<HeaderValueOption>,
    at: &At<'_>,
) -> Result<Vec<LimitField>, Refused> {
    let additions = edits::additions(given, at)?.into_iter().enumerate();
    let field = |(index, addition): (usize, crate::snapshot::Addition)| {
        let at = &at.index(index);
        let value = match addition.value.0.as_slice() {
            [] => String::new(),
            [Part::Text(text)] => text.clone(),
            _ => return Err(at.field("header").refuse("formats are not supported here")),
        };
        let replaces = match addition.action {
            AppendAction::Append => false,
            AppendAction::Overwrite => true,
            AppendAction::AddIfAbsent | AppendAction::OverwriteIfExists => {
                let reason = "only APPEND_IF_EXISTS_OR_ADD and OVERWRITE_IF_EXISTS_OR_ADD are supported here";
                return Err(at.field("append_action").refuse(reason));
            }
        };
        Ok(LimitField {
            name: addition.name,
            value,
            replaces,
        })
    };
    additions.map(field).collect()
}
