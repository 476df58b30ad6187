//! What rules do beside forwarding: retries, faults, redirects, changes of headers.

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, RuntimeFractionalPercent,
};
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
};
use envoy_types::pb::envoy::config::route::v3::{RedirectAction, RetryPolicy};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use periplus_resources::{Abort, CorsPolicy, Fault, HeaderOperations, Redirect, Retries};

use super::condition::{regex_rewrite, string_matcher};
use super::proto::{any, boolean, duration, uint32};

/// The name of the filter that injects faults, in each connection manager.
pub(super) const FAULT: &str = "envoy.filters.http.fault";

/// The name of the filter that answers pages of other origins, in each connection manager.
pub(super) const CORS: &str = "envoy.filters.http.cors";

/// Istio's reasons where a rule gives none.
const DEFAULT_REASONS: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// How often another endpoint is chosen in place of one that has had the request, as in Istio.
const HOST_ATTEMPTS: i64 = 5;

/// The headers to add, and those to remove.
pub(super) fn header_operations(
    operations: &HeaderOperations,
) -> (Vec<HeaderValueOption>, Vec<String>) {
    let option = |(name, value): &(String, String), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.clone(),
            value: value.clone(),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    };
    let set = operations.set.iter();
    let set = set.map(|field| option(field, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations.add.iter();
    let add = add.map(|field| option(field, HeaderAppendAction::AppendIfExistsOrAdd));
    (set.chain(add).collect(), operations.remove.clone())
}

/// When a request is tried again; no policy if never.
pub(super) fn retry_policy(retries: &Retries) -> Option<RetryPolicy> {
    if retries.attempts == 0 {
        return None;
    }
    let list = retries.on.as_deref().unwrap_or(DEFAULT_REASONS);
    let names = list.split(',').map(str::trim);
    let (codes, mut names): (Vec<&str>, Vec<&str>) =
        names.partition(|name| name.parse::<u32>().is_ok());
    const CODES: &str = "retriable-status-codes";
    if !codes.is_empty() && !names.contains(&CODES) {
        names.push(CODES);
    }
    let predicate = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(
            &PreviousHostsPredicate::default(),
        ))),
    };
    let elsewhere = RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(any(
            &PreviousPrioritiesConfig {
                update_frequency: 2,
            },
        ))),
    };
    let avoids = retries.ignores_previous_hosts;
    Some(RetryPolicy {
        retry_on: names.join(","),
        num_retries: uint32(retries.attempts),
        per_try_timeout: retries.per_try_timeout.and_then(duration),
        retriable_status_codes: codes.iter().filter_map(|code| code.parse().ok()).collect(),
        retry_host_predicate: avoids.then_some(predicate).into_iter().collect(),
        retry_priority: retries.goes_elsewhere.then_some(elsewhere),
        host_selection_retry_max_attempts: if avoids { HOST_ATTEMPTS } else { 0 },
        retry_back_off: retries.back_off.map(|base| RetryBackOff {
            base_interval: duration(base),
            ..RetryBackOff::default()
        }),
        ..RetryPolicy::default()
    })
}

/// All of a million.
pub(super) const WHOLE: u32 = 1_000_000;

fn share(of_million: u32) -> Option<FractionalPercent> {
    Some(FractionalPercent {
        numerator: of_million,
        denominator: DenominatorType::Million.into(),
    })
}

/// The same where a runtime could change it.
pub(super) fn runtime_share(of_million: u32) -> Option<RuntimeFractionalPercent> {
    Some(RuntimeFractionalPercent {
        default_value: share(of_million),
        ..RuntimeFractionalPercent::default()
    })
}

/// What the CORS filter tells the pages that ask a route.
pub(super) fn cors(policy: &CorsPolicy) -> v3::CorsPolicy {
    let max_age = policy.max_age.map(|time| time.as_secs().to_string());
    v3::CorsPolicy {
        allow_origin_string_match: policy.origins.iter().map(string_matcher).collect(),
        allow_methods: policy.methods.join(","),
        allow_headers: policy.headers.join(","),
        expose_headers: policy.exposed.join(","),
        max_age: max_age.unwrap_or_default(),
        allow_credentials: policy.credentials.and_then(boolean),
        filter_enabled: runtime_share(WHOLE),
        forward_not_matching_preflights: boolean(!policy.stops_others),
        ..v3::CorsPolicy::default()
    }
}

/// What the fault filter does to the requests of a route.
pub(super) fn fault(fault: &Fault) -> HttpFault {
    HttpFault {
        delay: fault.delay.and_then(|(time, of_million)| {
            Some(FaultDelay {
                percentage: share(of_million),
                fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(time)?)),
            })
        }),
        abort: fault.abort.map(|(abort, of_million)| FaultAbort {
            percentage: share(of_million),
            error_type: Some(match abort {
                Abort::Http(status) => ErrorType::HttpStatus(status.into()),
                Abort::Grpc(code) => ErrorType::GrpcStatus(code.into()),
            }),
            ..FaultAbort::default()
        }),
        ..HttpFault::default()
    }
}

/// Where a client is sent that came by a port, with TLS or without.
pub(super) fn redirect(redirect: &Redirect, came_by: (u16, bool)) -> RedirectAction {
    let code = match redirect.status {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    RedirectAction {
        host_redirect: redirect.authority.clone().unwrap_or_default(),
        port_redirect: redirect_port(redirect, came_by).unwrap_or(0).into(),
        response_code: code.into(),
        scheme_rewrite_specifier: redirect
            .scheme
            .clone()
            .map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: match (&redirect.uri, &redirect.prefix, &redirect.regex) {
            (Some(path), ..) => Some(PathRewriteSpecifier::PathRedirect(path.clone())),
            (_, Some(prefix), _) => Some(PathRewriteSpecifier::PrefixRewrite(prefix.clone())),
            (.., Some(regex)) => Some(PathRewriteSpecifier::RegexRewrite(regex_rewrite(regex))),
            (None, None, None) => None,
        },
        ..RedirectAction::default()
    }
}

/// The port that has to be written; none where it is that of the request, or goes without saying.
fn redirect_port(redirect: &Redirect, (came_by, is_secure): (u16, bool)) -> Option<u16> {
    if !redirect.derives_port {
        return redirect.port.or(redirect.keeps_port.then_some(came_by));
    }
    let usual = |scheme: &str| match scheme {
        "https" => 443,
        _ => 80,
    };
    let own = if is_secure { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref();
    let port = redirect.port.or(scheme.map(usual)).unwrap_or(came_by);
    // A host that stays has the port of the request, unless that is the usual one.
    let is_bare = redirect.authority.is_some() || came_by == usual(own) && redirect.port.is_none();
    let goes_without_saying = is_bare && port == usual(scheme.unwrap_or(own));
    (!goes_without_saying).then_some(port)
}
