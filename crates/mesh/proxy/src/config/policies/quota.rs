//! `envoy.filters.http.ratelimit`.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{ApiVersion, RuntimeFractionalPercent};
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::rate_limit::XRateLimitHeadersRfcVersion;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;

use super::super::check::{At, Refused, duration, nothing_else};
use super::super::{filters, fraction, limits, services};
use crate::policy::quota::Quota;

/// How long the service may take where nothing is said, as in Envoy.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(20);
const ALL: u32 = 1_000_000;

/// The filter of an HTTP connection manager.
pub(in super::super) fn quota(mut filter: pb::RateLimit, at: &At<'_>) -> Result<Quota, Refused> {
    let domain = std::mem::take(&mut filter.domain);
    if domain.is_empty() {
        return Err(at.field("domain").refuse("it must be given"));
    }
    match std::mem::take(&mut filter.request_type).as_str() {
        "" | "both" | "external" => {}
        other => {
            let reason = format!("{other:?} is not supported, as no request is internal");
            return Err(at.field("request_type").refuse(reason));
        }
    }
    let at_service = &at.field("rate_limit_service");
    let Some(mut service) = filter.rate_limit_service.take() else {
        return Err(at_service.refuse("it must be given"));
    };
    let version = std::mem::take(&mut service.transport_api_version);
    if ![ApiVersion::Auto as i32, ApiVersion::V3 as i32].contains(&version) {
        let at = at_service.field("transport_api_version");
        return Err(at.refuse("only V3 is supported"));
    }
    let Some(grpc) = service.grpc_service.take() else {
        return Err(at_service.field("grpc_service").refuse("it must be given"));
    };
    let grpc = services::grpc(grpc, &at_service.field("grpc_service"))?;
    nothing_else(&service, at_service)?;
    let timeout = duration(filter.timeout.take(), &at.field("timeout"))?;
    let share = |given: Option<RuntimeFractionalPercent>, name, unset| match given {
        Some(given) => fraction::of_runtime(given, &at.field(name)),
        None => Ok(unset),
    };
    let denies = match std::mem::take(&mut filter.failure_mode_deny) {
        true => ALL,
        false => 0,
    };
    let tells = std::mem::take(&mut filter.enable_x_ratelimit_headers);
    let compiled = Quota {
        domain,
        cluster: grpc.cluster,
        host: grpc.host,
        fields: grpc.fields,
        // Zero is no limit.
        timeout: Some(timeout.unwrap_or(DEFAULT_TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        rules: limits::compile(
            std::mem::take(&mut filter.rate_limits),
            &at.field("rate_limits"),
        )?,
        stage: std::mem::take(&mut filter.stage),
        enabled: share(filter.filter_enabled.take(), "filter_enabled", ALL)?,
        enforced: share(filter.filter_enforced.take(), "filter_enforced", ALL)?,
        denied_on_failure: share(
            filter.failure_mode_deny_percent.take(),
            "failure_mode_deny_percent",
            denies,
        )?,
        status: status(filter.rate_limited_status.take(), 400, 429),
        status_on_error: status(filter.status_on_error.take(), 200, 500),
        is_exhausted: std::mem::take(&mut filter.rate_limited_as_resource_exhausted),
        tells: match XRateLimitHeadersRfcVersion::try_from(tells) {
            Ok(XRateLimitHeadersRfcVersion::Off) => false,
            Ok(XRateLimitHeadersRfcVersion::DraftVersion03) => true,
            Err(_) => {
                let at = at.field("enable_x_ratelimit_headers");
                return Err(at.refuse("is not known"));
            }
        },
        marks: !std::mem::take(&mut filter.disable_x_envoy_ratelimited_header),
        tells_when: std::mem::take(&mut filter.enable_retry_after_header),
        response: filters::fields(
            std::mem::take(&mut filter.response_headers_to_add),
            &at.field("response_headers_to_add"),
        )?,
        stat_prefix: std::mem::take(&mut filter.stat_prefix),
    };
    nothing_else(&filter, at)?;
    Ok(compiled)
}

/// As in Envoy, what is none of its answers is not said.
fn status(given: Option<HttpStatus>, least: u16, unset: u16) -> u16 {
    let code = given.and_then(|status| u16::try_from(status.code).ok());
    code.filter(|code| (least..600).contains(code))
        .unwrap_or(unset)
}
