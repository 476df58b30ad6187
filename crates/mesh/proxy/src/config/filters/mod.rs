//! HTTP filters: those of a connection manager, and what routes want of them.

mod buffer;
mod cors;
mod fault;
mod health;
mod limit;
mod session;

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::{Buffer, BufferPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::{Cors, CorsPolicy};
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig as ForwardProxy;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, ExtAuthzPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use envoy_types::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::{JwtAuthentication, PerRouteConfig};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::{StatefulSession, StatefulSessionPerRoute};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::google::protobuf::Any;
use prost::Name;

pub(super) use self::limit::{bucket, fields};
use super::check::{At, Refused, decode, ignored, must_be, nothing_else};
use super::{istio, metrics, names, policies};
use crate::policy::MOST_FILTERS;
use crate::snapshot::{Filter, HttpFilter, MetricRules, PerFilter, PerFilters, Required};

/// The filters of a connection manager, without the router, which must be the last one.
pub(super) fn compile(
    filters: Vec<pb::HttpFilter>,
    at: &At<'_>,
) -> Result<Vec<HttpFilter>, Refused> {
    const NO_ROUTER: &str = "the router must be the last filter";
    let mut compiled: Vec<HttpFilter> = Vec::new();
    let count = filters.len();
    for (index, filter) in filters.into_iter().enumerate() {
        let at = &at.index(index);
        let config = match filter.config_type {
            Some(ConfigType::TypedConfig(config)) => config,
            Some(ConfigType::ConfigDiscovery(_)) => {
                return Err(at.field("config_discovery").refuse("is not supported"));
            }
            None if filter.disabled => continue,
            None => return Err(at.field("typed_config").refuse("it must be given")),
        };
        if config.type_url == Router::type_url() && !filter.disabled {
            if index + 1 != count {
                return Err(at.refuse(NO_ROUTER));
            }
            let checked = router(decode(&config, at)?, &at.field("typed_config"))?;
            if !checked.is_empty() && compiled.iter().any(|one| may_set_headers(&one.filter)) {
                let own = |filter| HttpFilter {
                    name: String::new(),
                    disabled: false,
                    filter,
                };
                let checked: Arc<[String]> = checked.into();
                compiled.insert(0, own(Filter::Forget(checked.clone())));
                compiled.push(own(Filter::Strict(checked)));
            }
            if compiled.len() > MOST_FILTERS {
                let reason = format!("{count} filters, at most {MOST_FILTERS} are supported");
                return Err(at.refuse(reason));
            }
            return Ok(compiled);
        }
        match of_type(&config, &at.field("typed_config"))? {
            Known::Filter(of_type) => compiled.push(HttpFilter {
                name: filter.name,
                disabled: filter.disabled,
                filter: of_type,
            }),
            Known::NoEffect => {}
            Known::PerRoute(_) => {
                return Err(at.refuse("this configuration is one for routes"));
            }
            // One that is off for all routes cannot be turned on: routes with its configuration are refused.
            Known::No if filter.is_optional || filter.disabled => {}
            Known::No => return Err(unknown(&filter.name, &config, at)),
        }
    }
    Err(at.refuse(NO_ROUTER))
}

/// What they say of Istio's metrics.
pub(super) fn metric_rules(
    filters: &[pb::HttpFilter],
    at: &At<'_>,
) -> Result<Option<Arc<MetricRules>>, Refused> {
    for (index, filter) in filters.iter().enumerate() {
        if let Some(ConfigType::TypedConfig(config)) = &filter.config_type
            && metrics::is_one(config)
            && !filter.disabled
        {
            let at = at.index(index);
            return metrics::compile(config, &at.field("typed_config"));
        }
    }
    Ok(None)
}

fn unknown(name: &str, config: &Any, at: &At<'_>) -> Refused {
    let of_type = istio::type_of(config);
    at.refuse(format!("filter {name:?} ({of_type}) is not supported"))
}

/// What a type of configuration belongs to.
enum Known {
    Filter(Filter),
    /// What routes say of a filter is another message than its own.
    PerRoute(PerFilter),
    /// It counts only, or does what is done in any case.
    NoEffect,
    No,
}

fn of_type(config: &Any, at: &At<'_>) -> Result<Known, Refused> {
    let url = &config.type_url;
    Ok(if *url == HttpFault::type_url() {
        let fault = fault::compile(decode(config, at)?, at)?;
        Known::Filter(Filter::Fault(Arc::new(fault)))
    } else if *url == Cors::type_url() {
        let _: Cors = decode(config, at)?;
        Known::Filter(Filter::Cors(Arc::new(cors::without_policy())))
    } else if *url == CorsPolicy::type_url() {
        let policy = cors::compile(decode(config, at)?, at)?;
        Known::Filter(Filter::Cors(Arc::new(policy)))
    } else if *url == LocalRateLimit::type_url() {
        let limit = limit::compile(decode(config, at)?, at)?;
        Known::Filter(Filter::Limit(Arc::new(limit)))
    } else if *url == RateLimit::type_url() {
        let quota = policies::quota(decode(config, at)?, at)?;
        Known::Filter(Filter::Quota(Arc::new(quota)))
    } else if *url == Rbac::type_url() {
        let rbac = policies::requests(decode(config, at)?, at)?;
        Known::Filter(Filter::Rbac(Arc::new(rbac)))
    } else if *url == RbacPerRoute::type_url() {
        Known::PerRoute(policies::requests_of_route(decode(config, at)?, at)?)
    } else if *url == JwtAuthentication::type_url() {
        let jwt = policies::tokens(decode(config, at)?, at)?;
        Known::Filter(Filter::Jwt(Arc::new(jwt), Required::ByRules))
    } else if *url == PerRouteConfig::type_url() {
        Known::PerRoute(policies::tokens_of_route(decode(config, at)?, at)?)
    } else if *url == ExtAuthz::type_url() {
        let authz = policies::authorizer(decode(config, at)?, at)?;
        Known::Filter(Filter::Authz(Arc::new(authz)))
    } else if *url == ExtAuthzPerRoute::type_url() {
        Known::PerRoute(policies::authorizer_of_route(decode(config, at)?, at)?)
    } else if *url == StatefulSession::type_url() {
        let session = session::compile(decode(config, at)?, at)?;
        Known::Filter(Filter::Session(Arc::new(session)))
    } else if *url == StatefulSessionPerRoute::type_url() {
        Known::PerRoute(session::of_route(decode(config, at)?, at)?)
    } else if *url == Buffer::type_url() {
        Known::Filter(buffer::compile(decode(config, at)?, at)?)
    } else if *url == BufferPerRoute::type_url() {
        Known::PerRoute(buffer::of_route(decode(config, at)?, at)?)
    } else if *url == ForwardProxy::type_url() {
        let cache = names::filter(decode(config, at)?, at)?;
        Known::Filter(Filter::Names(cache))
    } else if *url == HealthCheck::type_url() {
        let health = health::compile(decode(config, at)?, at)?;
        Known::Filter(Filter::Health(Arc::new(health)))
    } else if *url == GrpcStats::type_url()
        || metrics::is_one(config)
        || istio::is_http(config, at)?
    {
        Known::NoEffect
    } else {
        Known::No
    })
}

/// Whether a filter may put headers into requests.
fn may_set_headers(filter: &Filter) -> bool {
    matches!(
        filter,
        Filter::Limit(_) | Filter::Jwt(..) | Filter::Authz(_) | Filter::Quota(_)
    )
}

/// The headers that the router may be told to check. As in Envoy, they are removed before from what comes from
/// outside, and whatever comes does: only what filters set there is to be checked.
const CHECKED: [&str; 5] = [
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
];

/// Which headers it checks.
fn router(mut router: Router, at: &At<'_>) -> Result<Vec<String>, Refused> {
    let checked = std::mem::take(&mut router.strict_check_headers);
    if let Some(index) = checked
        .iter()
        .position(|name| !CHECKED.contains(&name.as_str()))
    {
        let at = at.field("strict_check_headers");
        let reason = format!("{:?} is none of {}", checked[index], CHECKED.join(", "));
        return Err(at.index(index).refuse(reason));
    }
    ignored!(router: dynamic_stats, upstream_log, upstream_log_options,
        suppress_grpc_request_failure_code_stats);
    must_be(
        router.reject_connect_request_early_data.take(),
        false,
        &at.field("reject_connect_request_early_data"),
    )?;
    nothing_else(&router, at)?;
    Ok(checked)
}

/// `typed_per_filter_config` of one level of the routes.
pub(super) fn per_filter(
    configs: HashMap<String, Any>,
    at: &At<'_>,
) -> Result<PerFilters, Refused> {
    let mut compiled = PerFilters::with_capacity(configs.len());
    for (name, config) in configs {
        let at = &at.field(&name);
        if let Some(wanted) = wanted(&name, config, at)? {
            compiled.insert(name, wanted);
        }
    }
    Ok(compiled)
}

fn wanted(name: &str, config: Any, at: &At<'_>) -> Result<Option<PerFilter>, Refused> {
    let (config, is_optional) = if config.type_url == FilterConfig::type_url() {
        let wrapped: FilterConfig = decode(&config, at)?;
        match wrapped.config {
            _ if wrapped.disabled => return Ok(Some(PerFilter::Off)),
            None => return Ok(Some(PerFilter::On)),
            Some(config) => (config, wrapped.is_optional),
        }
    } else {
        (config, false)
    };
    match of_type(&config, at)? {
        // As in Envoy, what they say for one route is another message.
        Known::Filter(
            Filter::Rbac(_)
            | Filter::Jwt(..)
            | Filter::Authz(_)
            | Filter::Quota(_)
            | Filter::Session(_)
            | Filter::Buffer(_)
            | Filter::Names(_)
            | Filter::Health(_),
        ) => Err(at.refuse("this configuration is one for all routes")),
        Known::Filter(filter) => Ok(Some(PerFilter::Own(filter))),
        Known::PerRoute(wanted) => Ok(Some(wanted)),
        Known::NoEffect => Ok(None),
        Known::No if is_optional => Ok(None),
        Known::No => Err(unknown(name, &config, at)),
    }
}
