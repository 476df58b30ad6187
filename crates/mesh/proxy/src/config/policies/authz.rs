//! `envoy.filters.http.ext_authz`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService, RuntimeFeatureFlag};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3 as network;
use envoy_types::pb::envoy::r#type::matcher::v3::{ListStringMatcher, MetadataMatcher};

use super::super::check::{At, Refused, flag, ignored, must_be, nothing_else};
use super::super::{fraction, matcher, services};
use super::metadata;
use crate::policy::MetadataMatch;
use crate::policy::authz::{Authz, BodyRule, CheckSettings, ConnectionAuthz, HttpService, Service};
use crate::snapshot::{PerFilter, ValueMatch};

/// How long a service may take where nothing is said, as in Envoy.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);
/// The most of a request's body that can be waited for.
const MOST_BODY: u32 = 1024 * 1024;
/// What a service of HTTP is always told.
const ALWAYS_TOLD: [&str; 4] = ["authorization", ":method", ":path", ":authority"];

/// The filter of an HTTP connection manager.
pub(in super::super) fn authorizer(
    mut filter: pb::ExtAuthz,
    at: &At<'_>,
) -> Result<Authz, Refused> {
    version(std::mem::take(&mut filter.transport_api_version), at)?;
    let mut allowed = names(filter.allowed_headers.take(), &at.field("allowed_headers"))?;
    let (service, of_service) = match filter.services.take() {
        Some(Services::GrpcService(given)) => (grpc(given, &at.field("grpc_service"))?, None),
        Some(Services::HttpService(given)) => http(given, &at.field("http_service"))?,
        None => return Err(at.refuse("grpc_service or http_service must be given")),
    };
    if of_service.is_some() {
        if allowed.is_some() {
            let at = at.field("allowed_headers");
            return Err(at.refuse("it must not be given twice"));
        }
        allowed = of_service;
    }
    if service.http.is_some() {
        let always = ALWAYS_TOLD.map(|name| ValueMatch::Exact(name.to_owned()));
        allowed.get_or_insert_default().extend(always);
    }
    let disallowed = filter.disallowed_headers.take();
    let disallowed = names(disallowed, &at.field("disallowed_headers"))?;
    let enabled = match filter.filter_enabled.take() {
        Some(share) => fraction::of_runtime(share, &at.field("filter_enabled"))?,
        None => 1_000_000,
    };
    let enabled_by = enabled_by(filter.filter_enabled_metadata.take(), at)?;
    let body = match filter.with_request_body.take() {
        Some(rule) => Some(body(
            rule,
            service.http.is_some(),
            &at.field("with_request_body"),
        )?),
        None => None,
    };
    let at_status = &at.field("status_on_error");
    let status = filter
        .status_on_error
        .take()
        .map_or(403, |status| status.code);
    let compiled = Authz {
        service,
        lets_failures_pass: std::mem::take(&mut filter.failure_mode_allow),
        tells_failures: std::mem::take(&mut filter.failure_mode_allow_header_add),
        body,
        status_on_error: match u16::try_from(status) {
            Ok(status @ 200..600) => status,
            _ => return Err(at_status.refuse(format!("{status} is no status of an answer"))),
        },
        enabled,
        enabled_by,
        denies_when_off: off(filter.deny_at_disable.take()),
        allowed,
        disallowed: disallowed.unwrap_or_default(),
        clears_route: std::mem::take(&mut filter.clear_route_cache),
        tells_certificate: std::mem::take(&mut filter.include_peer_certificate),
        tells_server_name: std::mem::take(&mut filter.include_tls_session),
        namespaces: std::mem::take(&mut filter.metadata_context_namespaces),
        context: Default::default(),
        takes_metadata: flag(filter.enable_dynamic_metadata_ingestion.take(), true),
        most_denied_bytes: std::mem::take(&mut filter.max_denied_response_body_bytes) as usize,
        charges_cluster: flag(filter.charge_cluster_response_stats.take(), true),
        stat_prefix: std::mem::take(&mut filter.stat_prefix),
    };
    must_be(
        filter.emit_client_span.take(),
        true,
        &at.field("emit_client_span"),
    )?;
    // Changes that make no valid request are never made.
    ignored!(filter: validate_mutations);
    nothing_else(&filter, at)?;
    Ok(compiled)
}

/// The filter of a filter chain.
pub(in super::super) fn connection_authorizer(
    mut filter: network::ExtAuthz,
    at: &At<'_>,
) -> Result<ConnectionAuthz, Refused> {
    let stat_prefix = std::mem::take(&mut filter.stat_prefix);
    if stat_prefix.is_empty() {
        return Err(at.field("stat_prefix").refuse("it must not be empty"));
    }
    version(std::mem::take(&mut filter.transport_api_version), at)?;
    let at_service = &at.field("grpc_service");
    let service = filter.grpc_service.take();
    let service = service.ok_or_else(|| at_service.refuse("it must be given"))?;
    let compiled = ConnectionAuthz {
        service: grpc(service, at_service)?,
        lets_failures_pass: std::mem::take(&mut filter.failure_mode_allow),
        enabled_by: enabled_by(filter.filter_enabled_metadata.take(), at)?,
        tells_certificate: std::mem::take(&mut filter.include_peer_certificate),
        tells_server_name: std::mem::take(&mut filter.include_tls_session),
        namespaces: std::mem::take(&mut filter.metadata_context_namespaces),
        stat_prefix,
    };
    nothing_else(&filter, at)?;
    Ok(compiled)
}

fn version(version: i32, at: &At<'_>) -> Result<(), Refused> {
    if [ApiVersion::Auto as i32, ApiVersion::V3 as i32].contains(&version) {
        return Ok(());
    }
    let at = at.field("transport_api_version");
    Err(at.refuse("only V3 is supported"))
}

fn enabled_by(
    asked: Option<MetadataMatcher>,
    at: &At<'_>,
) -> Result<Option<MetadataMatch>, Refused> {
    let at = &at.field("filter_enabled_metadata");
    asked.map(|asked| metadata::compile(asked, at)).transpose()
}

/// What a route says of it.
pub(in super::super) fn authorizer_of_route(
    given: pb::ExtAuthzPerRoute,
    at: &At<'_>,
) -> Result<PerFilter, Refused> {
    let mut settings = match given.r#override {
        Some(Override::Disabled(true)) => return Ok(PerFilter::Off),
        Some(Override::Disabled(false)) => {
            return Err(at.field("disabled").refuse("it must be true"));
        }
        Some(Override::CheckSettings(settings)) => settings,
        None => return Err(at.refuse("disabled or check_settings must be given")),
    };
    let at = &at.field("check_settings");
    let at_body = &at.field("with_request_body");
    let is_off = std::mem::take(&mut settings.disable_request_body_buffering);
    let body = match settings.with_request_body.take() {
        Some(_) if is_off => {
            let reason = "it must not be given with disable_request_body_buffering";
            return Err(at_body.refuse(reason));
        }
        Some(rule) => Some(Some(body(rule, false, at_body)?)),
        None => is_off.then_some(None),
    };
    let context = std::mem::take(&mut settings.context_extensions);
    must_be(
        settings.emit_client_span.take(),
        true,
        &at.field("emit_client_span"),
    )?;
    nothing_else(&settings, at)?;
    Ok(PerFilter::Check(Arc::new(CheckSettings {
        context: context.into_iter().collect(),
        body,
    })))
}

fn off(given: Option<RuntimeFeatureFlag>) -> bool {
    let default = given.and_then(|given| given.default_value);
    default.is_some_and(|value| value.value)
}

fn service(given: services::Service) -> Service {
    Service {
        cluster: given.cluster,
        host: given.host,
        timeout: given.timeout.filter(|timeout| !timeout.is_zero()),
        fields: given.fields,
        http: None,
    }
}

fn grpc(given: GrpcService, at: &At<'_>) -> Result<Service, Refused> {
    let mut given = services::grpc(given, at)?;
    given.timeout.get_or_insert(DEFAULT_TIMEOUT);
    Ok(service(given))
}

/// The service, and the names of the fields that it is told of.
fn http(
    mut given: pb::HttpService,
    at: &At<'_>,
) -> Result<(Service, Option<Vec<ValueMatch>>), Refused> {
    let uri = given.server_uri.take().unwrap_or_default();
    let (mut target, _) = services::http(uri, &at.field("server_uri"))?;
    let at_timeout = &at.field("server_uri");
    if target.timeout.is_none() {
        return Err(at_timeout.field("timeout").refuse("it must be given"));
    }
    let path_prefix = std::mem::take(&mut given.path_prefix);
    let path_override = std::mem::take(&mut given.path_override);
    for (name, path) in [
        ("path_prefix", &path_prefix),
        ("path_override", &path_override),
    ] {
        if !path.is_empty() && http::uri::PathAndQuery::try_from(path.as_str()).is_err()
            || path.contains(' ')
        {
            return Err(at.field(name).refuse(format!("{path:?} is no path")));
        }
        if !path.is_empty() && !path.starts_with('/') {
            return Err(at.field(name).refuse("it must begin with a slash"));
        }
    }
    if !path_prefix.is_empty() && !path_override.is_empty() {
        return Err(at.refuse("path_prefix and path_override exclude each other"));
    }
    let mut asked = given.authorization_request.take().unwrap_or_default();
    let at_asked = &at.field("authorization_request");
    let at_added = &at_asked.field("headers_to_add");
    for (index, field) in std::mem::take(&mut asked.headers_to_add)
        .into_iter()
        .enumerate()
    {
        services::append_fixed(field, &mut target.fields, &at_added.index(index))?;
    }
    #[expect(deprecated, reason = "Istio still says it here")]
    let allowed = asked.allowed_headers.take();
    let allowed = names(allowed, &at_asked.field("allowed_headers"))?;
    nothing_else(&asked, at_asked)?;
    let mut answer = given.authorization_response.take().unwrap_or_default();
    let at_answer = &at.field("authorization_response");
    let list = |given: Option<ListStringMatcher>, name| {
        Ok(names(given, &at_answer.field(name))?.unwrap_or_default())
    };
    let http = HttpService {
        path_prefix,
        path_override,
        upstream: list(
            answer.allowed_upstream_headers.take(),
            "allowed_upstream_headers",
        )?,
        upstream_added: list(
            answer.allowed_upstream_headers_to_append.take(),
            "allowed_upstream_headers_to_append",
        )?,
        client: list(
            answer.allowed_client_headers.take(),
            "allowed_client_headers",
        )?,
        client_on_success: list(
            answer.allowed_client_headers_on_success.take(),
            "allowed_client_headers_on_success",
        )?,
        metadata: list(
            answer.dynamic_metadata_from_headers.take(),
            "dynamic_metadata_from_headers",
        )?,
    };
    nothing_else(&answer, at_answer)?;
    nothing_else(&given, at)?;
    let service = Service {
        http: Some(http),
        ..service(target)
    };
    Ok((service, allowed))
}

fn body(rule: pb::BufferSettings, is_http: bool, at: &At<'_>) -> Result<BodyRule, Refused> {
    if !(1..=MOST_BODY).contains(&rule.max_request_bytes) {
        let reason = format!(
            "{} is not between 1 and {MOST_BODY}",
            rule.max_request_bytes
        );
        return Err(at.field("max_request_bytes").refuse(reason));
    }
    Ok(BodyRule {
        most: rule.max_request_bytes as usize,
        may_be_cut: rule.allow_partial_message,
        as_bytes: is_http || rule.pack_as_bytes,
    })
}

/// Names of fields, which are compared in lower case.
fn names(list: Option<ListStringMatcher>, at: &At<'_>) -> Result<Option<Vec<ValueMatch>>, Refused> {
    let Some(list) = list else {
        return Ok(None);
    };
    let at = &at.field("patterns");
    let patterns = list.patterns.into_iter().enumerate();
    let compiled = patterns.map(
        |(index, one)| match matcher::string(one, &at.index(index))? {
            ValueMatch::Exact(name) => Ok(ValueMatch::Exact(name.to_ascii_lowercase())),
            other => Ok(other),
        },
    );
    compiled.collect::<Result<_, _>>().map(Some)
}
