//! `RetryPolicy`.

use std::num::NonZeroU32;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeaderFormat, retry_host_predicate, retry_priority,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use prost::Name;

use super::check::{At, Refused, decode, duration, nothing_else, timeout as timeout_of};
use super::matcher;
use crate::snapshot::{BackOff, HeaderMatch, RateLimited, ResetHeader, RetryOn, RetryPolicy};

const DEFAULT_BASE: Duration = Duration::from_millis(25);
const DEFAULT_RATE_LIMITED_MAX: Duration = Duration::from_secs(300);
const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";

/// A policy; none if it never tries again.
pub(super) fn compile(
    mut policy: pb::RetryPolicy,
    at: &At<'_>,
) -> Result<Option<Box<RetryPolicy>>, Refused> {
    let on = RetryOn::parse(&std::mem::take(&mut policy.retry_on)).map_err(|name| {
        at.field("retry_on")
            .refuse(format!("{name:?} is not known"))
    })?;
    let retries = policy.num_retries.take().map_or(1, |retries| retries.value);
    let per_try = duration(policy.per_try_timeout.take(), &at.field("per_try_timeout"))?;
    let codes = std::mem::take(&mut policy.retriable_status_codes);
    let status_codes = codes
        .into_iter()
        .map(|code| {
            u16::try_from(code)
                .ok()
                .filter(|code| (100..600).contains(code))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            at.field("retriable_status_codes")
                .refuse("each must be 100 to 599")
        })?;
    let headers = conditions(
        std::mem::take(&mut policy.retriable_headers),
        &at.field("retriable_headers"),
    )?;
    let request_headers = conditions(
        std::mem::take(&mut policy.retriable_request_headers),
        &at.field("retriable_request_headers"),
    )?;
    let compiled = RetryPolicy {
        on,
        retries,
        per_try_timeout: per_try.filter(|time| !time.is_zero()),
        per_try_idle_timeout: timeout_of(
            policy.per_try_idle_timeout.take(),
            None,
            &at.field("per_try_idle_timeout"),
        )?,
        status_codes,
        headers,
        request_headers,
        back_off: back_off(policy.retry_back_off.take(), &at.field("retry_back_off"))?,
        rate_limited: match policy.rate_limited_retry_back_off.take() {
            Some(config) => Some(rate_limited(
                config,
                &at.field("rate_limited_retry_back_off"),
            )?),
            None => None,
        },
        host_attempts: host_attempts(&mut policy, at)?,
        other_priorities_after: other_priorities(
            policy.retry_priority.take(),
            &at.field("retry_priority"),
        )?,
    };
    nothing_else(&policy, at)?;
    let limits_time = compiled.per_try_timeout.is_some() || compiled.per_try_idle_timeout.is_some();
    Ok((!on.is_empty() || limits_time).then(|| Box::new(compiled)))
}

fn conditions(matchers: Vec<pb::HeaderMatcher>, at: &At<'_>) -> Result<Vec<HeaderMatch>, Refused> {
    let matchers = matchers.into_iter().enumerate();
    matchers
        .map(|(index, condition)| matcher::header(condition, &at.index(index)))
        .collect()
}

fn back_off(
    config: Option<pb::retry_policy::RetryBackOff>,
    at: &At<'_>,
) -> Result<BackOff, Refused> {
    let mut config = config.unwrap_or_default();
    let base = duration(config.base_interval.take(), &at.field("base_interval"))?;
    let base = base.unwrap_or(DEFAULT_BASE);
    let max = duration(config.max_interval.take(), &at.field("max_interval"))?;
    // Envoy rounds up to whole milliseconds.
    let base = Duration::from_millis(base.as_millis().max(1) as u64);
    let max = max.unwrap_or(10 * base);
    if max < base {
        return Err(at
            .field("max_interval")
            .refuse("it must not be less than base_interval"));
    }
    Ok(BackOff { base, max })
}

fn rate_limited(mut config: RateLimitedRetryBackOff, at: &At<'_>) -> Result<RateLimited, Refused> {
    let at_headers = &at.field("reset_headers");
    let mut headers = Vec::new();
    for (index, header) in std::mem::take(&mut config.reset_headers)
        .into_iter()
        .enumerate()
    {
        let is_moment = match ResetHeaderFormat::try_from(header.format) {
            Ok(ResetHeaderFormat::Seconds) => false,
            Ok(ResetHeaderFormat::UnixTimestamp) => true,
            Err(_) => return Err(at_headers.index(index).refuse("its format is not known")),
        };
        headers.push(ResetHeader {
            name: header.name.to_ascii_lowercase(),
            is_moment,
        });
    }
    if headers.is_empty() {
        return Err(at_headers.refuse("there must be at least one"));
    }
    let max = duration(config.max_interval.take(), &at.field("max_interval"))?;
    nothing_else(&config, at)?;
    Ok(RateLimited {
        headers,
        max: max.unwrap_or(DEFAULT_RATE_LIMITED_MAX),
    })
}

/// After how many attempts other priorities are chosen.
fn other_priorities(
    priority: Option<pb::retry_policy::RetryPriority>,
    at: &At<'_>,
) -> Result<Option<NonZeroU32>, Refused> {
    let Some(priority) = priority else {
        return Ok(None);
    };
    let config = match &priority.config_type {
        Some(retry_priority::ConfigType::TypedConfig(config))
            if config.type_url == PreviousPrioritiesConfig::type_url() =>
        {
            config
        }
        _ => return Err(at.refuse(format!("{:?} is not supported", priority.name))),
    };
    let at = &at.field("typed_config");
    let config: PreviousPrioritiesConfig = decode(config, at)?;
    let every = u32::try_from(config.update_frequency)
        .ok()
        .and_then(NonZeroU32::new);
    let reason = "it must be greater than 0";
    every
        .map(Some)
        .ok_or_else(|| at.field("update_frequency").refuse(reason))
}

/// How often another endpoint is chosen: only if those before are to be avoided.
fn host_attempts(policy: &mut pb::RetryPolicy, at: &At<'_>) -> Result<u32, Refused> {
    let at_predicates = &at.field("retry_host_predicate");
    let mut avoids_previous = false;
    for (index, predicate) in std::mem::take(&mut policy.retry_host_predicate)
        .into_iter()
        .enumerate()
    {
        let is_previous = match &predicate.config_type {
            Some(retry_host_predicate::ConfigType::TypedConfig(config)) => {
                config.type_url == PreviousHostsPredicate::type_url()
            }
            None => predicate.name == PREVIOUS_HOSTS,
        };
        if !is_previous {
            let reason = format!("{:?} is not supported", predicate.name);
            return Err(at_predicates.index(index).refuse(reason));
        }
        avoids_previous = true;
    }
    let attempts = std::mem::take(&mut policy.host_selection_retry_max_attempts);
    let attempts = match u32::try_from(attempts) {
        Ok(0) => 1,
        Ok(attempts) => attempts,
        Err(_) => {
            let at = at.field("host_selection_retry_max_attempts");
            return Err(at.refuse("it must not be negative"));
        }
    };
    Ok(if avoids_previous { attempts } else { 0 })
}
