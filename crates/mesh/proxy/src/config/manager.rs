//! `HttpConnectionManager`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
    ServerHeaderTransformation,
};
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;

use super::check::{At, Refused, decode, duration, flag, ignored, must_be, nothing_else, timeout};
use super::{access_log, filters, http2, route, tracing, upgrade};
use crate::snapshot::{
    CertDetails, ClientCert, Codec, ConnectionManager, EscapedSlashes, ForwardClientCert,
    Http2Options, Paths, RouteTable, ServerHeader,
};

/// A checked connection manager.
#[derive(Clone, Debug)]
pub(crate) struct ManagerSpec {
    pub(crate) routes: RouteSource,
    /// All of it but its routes.
    pub(crate) manager: ConnectionManager,
}

/// Where the routes come from.
#[derive(Clone, Debug)]
pub(crate) enum RouteSource {
    Inline(Arc<RouteTable>),
    /// By RDS over ADS, under this name.
    Named {
        name: String,
        /// How long the listener waits for them at first; `None` for ever.
        fetch_timeout: Option<Duration>,
    },
}

const DEFAULT_SERVER_NAME: &str = "envoy";
const DEFAULT_MAX_HEAD_KB: u32 = 60;
const MAX_HEAD_KB: u32 = 8192;
const DEFAULT_MAX_HEADERS: u32 = 100;
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// `initial_fetch_timeout`, when it is not set.
pub(crate) const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) fn compile(
    mut manager: pb::HttpConnectionManager,
    at: &At<'_>,
) -> Result<ManagerSpec, Refused> {
    let (codec, http2) = codec(&mut manager, at)?;
    let filters = std::mem::take(&mut manager.http_filters);
    let metrics = filters::metric_rules(&filters, &at.field("http_filters"))?;
    let filters = filters::compile(filters, &at.field("http_filters"))?;
    let client_cert = client_cert(&mut manager, at)?;
    check_request_ids(&mut manager, at)?;
    let paths = paths(&mut manager, at)?;
    let routes = route_source(manager.route_specifier.take(), at)?;
    let tracing = match manager.tracing.take() {
        Some(tracing) => tracing::compile(tracing, &at.field("tracing"))?,
        None => None,
    };

    let common = manager
        .common_http_protocol_options
        .take()
        .unwrap_or_default();
    let common = common_options(common, &at.field("common_http_protocol_options"))?;
    let max_head_kb = manager
        .max_request_headers_kb
        .take()
        .map_or(DEFAULT_MAX_HEAD_KB, |v| v.value);
    if !(1..=MAX_HEAD_KB).contains(&max_head_kb) {
        return Err(at
            .field("max_request_headers_kb")
            .refuse(format!("it must be 1 to {MAX_HEAD_KB}")));
    }
    let upgrades = std::mem::take(&mut manager.upgrade_configs);
    let upgrades = upgrade::of_manager(upgrades, &at.field("upgrade_configs"))?;
    let server_header = match ServerHeaderTransformation::try_from(std::mem::take(
        &mut manager.server_header_transformation,
    )) {
        Ok(ServerHeaderTransformation::Overwrite) => ServerHeader::Overwrite,
        Ok(ServerHeaderTransformation::AppendIfAbsent) => ServerHeader::AppendIfAbsent,
        Ok(ServerHeaderTransformation::PassThrough) => ServerHeader::PassThrough,
        Err(_) => {
            return Err(at
                .field("server_header_transformation")
                .refuse("is not known"));
        }
    };
    let server_name = match std::mem::take(&mut manager.server_name) {
        unset if unset.is_empty() => DEFAULT_SERVER_NAME.to_owned(),
        name => name,
    };
    let access_logs = std::mem::take(&mut manager.access_log);
    let access_logs = access_log::compile(access_logs, &at.field("access_log"))?;
    if let Some(options) = manager.access_log_options.take() {
        access_log::at_the_end_only(options, &at.field("access_log_options"))?;
    }
    let compiled = ConnectionManager {
        routes: None,
        stat_prefix: std::mem::take(&mut manager.stat_prefix),
        tracing,
        use_remote_address: flag(manager.use_remote_address.take(), false),
        generate_request_id: flag(manager.generate_request_id.take(), true),
        preserve_external_request_id: std::mem::take(&mut manager.preserve_external_request_id),
        always_set_request_id_in_response: std::mem::take(
            &mut manager.always_set_request_id_in_response,
        ),
        server_name,
        server_header,
        max_request_head_bytes: max_head_kb as usize * 1024,
        max_headers: common.max_headers,
        idle_timeout: common.idle_timeout,
        max_connection_duration: common.max_connection_duration,
        max_requests_per_connection: common.max_requests_per_connection,
        stream_idle_timeout: timeout(
            manager.stream_idle_timeout.take(),
            Some(DEFAULT_STREAM_IDLE_TIMEOUT),
            &at.field("stream_idle_timeout"),
        )?,
        request_headers_timeout: timeout(
            manager.request_headers_timeout.take(),
            None,
            &at.field("request_headers_timeout"),
        )?,
        request_timeout: timeout(
            manager.request_timeout.take(),
            None,
            &at.field("request_timeout"),
        )?,
        max_stream_duration: common.max_stream_duration,
        client_cert,
        paths,
        filters,
        codec,
        http2,
        upgrades,
        access_logs,
        metrics,
    };
    // `100 Continue` comes from the endpoint whether or not this asks for it.
    ignored!(manager: drain_timeout, drain_timeout_jitter,
        delayed_close_timeout, stream_flush_timeout, proxy_100_continue);
    nothing_else(&manager, at)?;
    Ok(ManagerSpec {
        routes,
        manager: compiled,
    })
}

fn codec(
    manager: &mut pb::HttpConnectionManager,
    at: &At<'_>,
) -> Result<(Codec, Http2Options), Refused> {
    let codec = match CodecType::try_from(std::mem::take(&mut manager.codec_type)) {
        Ok(CodecType::Auto) => Codec::Auto,
        Ok(CodecType::Http1) => Codec::Http1,
        Ok(CodecType::Http2) => Codec::Http2,
        Ok(CodecType::Http3) => {
            return Err(at.field("codec_type").refuse("HTTP3 is not supported"));
        }
        Err(_) => return Err(at.field("codec_type").refuse("is not known")),
    };
    // HTTP/3 is not spoken, so that what holds for it never applies.
    ignored!(manager: http3_protocol_options);
    if let Some(options) = manager.http_protocol_options.take() {
        http1_options(options, &at.field("http_protocol_options"))?;
    }
    let http2 = match manager.http2_protocol_options.take() {
        Some(options) => http2::compile(options, &at.field("http2_protocol_options"))?,
        None => Http2Options::default(),
    };
    must_be(
        manager.stream_error_on_invalid_http_message.take(),
        false,
        &at.field("stream_error_on_invalid_http_message"),
    )?;
    Ok((codec, http2))
}

/// Accepts HTTP/1 options that ask for what is done anyway.
pub(crate) fn http1_options(
    mut options: core::Http1ProtocolOptions,
    at: &At<'_>,
) -> Result<(), Refused> {
    must_be(
        options.allow_absolute_url.take(),
        true,
        &at.field("allow_absolute_url"),
    )?;
    // HTTP/1.0, methods of any name and trailers are served whether or not this asks for it.
    ignored!(options: use_balsa_parser, accept_http_10, allow_custom_methods, enable_trailers);
    nothing_else(&options, at)
}

/// What holds for both versions.
struct CommonOptions {
    idle_timeout: Option<Duration>,
    max_connection_duration: Option<Duration>,
    max_requests_per_connection: Option<u32>,
    max_stream_duration: Option<Duration>,
    max_headers: usize,
}

fn common_options(
    mut options: core::HttpProtocolOptions,
    at: &At<'_>,
) -> Result<CommonOptions, Refused> {
    let max_connection_duration = timeout(
        options.max_connection_duration.take(),
        None,
        &at.field("max_connection_duration"),
    )?;
    let max_requests = options.max_requests_per_connection.take();
    let max_stream_duration = timeout(
        options.max_stream_duration.take(),
        None,
        &at.field("max_stream_duration"),
    )?;
    let idle_timeout = timeout(
        options.idle_timeout.take(),
        Some(DEFAULT_IDLE_TIMEOUT),
        &at.field("idle_timeout"),
    )?;
    let max_headers = options
        .max_headers_count
        .take()
        .map_or(DEFAULT_MAX_HEADERS, |v| v.value);
    if max_headers == 0 {
        return Err(at
            .field("max_headers_count")
            .refuse("it must be at least 1"));
    }
    nothing_else(&options, at)?;
    Ok(CommonOptions {
        idle_timeout,
        max_connection_duration,
        // Zero is no limit.
        max_requests_per_connection: max_requests.map(|most| most.value).filter(|most| *most > 0),
        max_stream_duration,
        max_headers: max_headers as usize,
    })
}

/// Who is believed about the certificates of clients.
fn client_cert(
    manager: &mut pb::HttpConnectionManager,
    at: &At<'_>,
) -> Result<ClientCert, Refused> {
    let mode = std::mem::take(&mut manager.forward_client_cert_details);
    let mode = match ForwardClientCertDetails::try_from(mode) {
        Ok(ForwardClientCertDetails::Sanitize) => ForwardClientCert::Sanitize,
        Ok(ForwardClientCertDetails::ForwardOnly) => ForwardClientCert::ForwardOnly,
        Ok(ForwardClientCertDetails::AppendForward) => ForwardClientCert::AppendForward,
        Ok(ForwardClientCertDetails::SanitizeSet) => ForwardClientCert::SanitizeSet,
        Ok(ForwardClientCertDetails::AlwaysForwardOnly) => ForwardClientCert::AlwaysForwardOnly,
        Err(_) => {
            let at = at.field("forward_client_cert_details");
            return Err(at.refuse("is not known"));
        }
    };
    let details = manager.set_current_client_cert_details.take();
    let mut given = details.unwrap_or_default();
    let details = CertDetails {
        subject: flag(given.subject.take(), false),
        cert: std::mem::take(&mut given.cert),
        chain: std::mem::take(&mut given.chain),
        dns: std::mem::take(&mut given.dns),
        uri: std::mem::take(&mut given.uri),
    };
    nothing_else(&given, &at.field("set_current_client_cert_details"))?;
    Ok(ClientCert { mode, details })
}

fn check_request_ids(manager: &mut pb::HttpConnectionManager, at: &At<'_>) -> Result<(), Refused> {
    if let Some(extension) = manager.request_id_extension.take()
        && let Some(config) = extension.typed_config
    {
        let at = at.field("request_id_extension");
        uuid(decode(&config, &at)?, &at)?;
    }
    Ok(())
}

fn uuid(config: UuidRequestIdConfig, at: &At<'_>) -> Result<(), Refused> {
    must_be(
        config.pack_trace_reason,
        true,
        &at.field("pack_trace_reason"),
    )?;
    must_be(
        config.use_request_id_for_trace_sampling,
        true,
        &at.field("use_request_id_for_trace_sampling"),
    )
}

/// What is done to paths.
fn paths(manager: &mut pb::HttpConnectionManager, at: &At<'_>) -> Result<Paths, Refused> {
    let action = std::mem::take(&mut manager.path_with_escaped_slashes_action);
    let escaped_slashes = match PathWithEscapedSlashesAction::try_from(action) {
        Ok(
            PathWithEscapedSlashesAction::ImplementationSpecificDefault
            | PathWithEscapedSlashesAction::KeepUnchanged,
        ) => EscapedSlashes::Keep,
        Ok(PathWithEscapedSlashesAction::RejectRequest) => EscapedSlashes::Reject,
        Ok(PathWithEscapedSlashesAction::UnescapeAndRedirect) => EscapedSlashes::Redirect,
        Ok(PathWithEscapedSlashesAction::UnescapeAndForward) => EscapedSlashes::Forward,
        Err(_) => {
            let at = at.field("path_with_escaped_slashes_action");
            return Err(at.refuse("is not known"));
        }
    };
    Ok(Paths {
        normalizes: flag(manager.normalize_path.take(), false),
        merges_slashes: std::mem::take(&mut manager.merge_slashes),
        escaped_slashes,
    })
}

fn route_source(specifier: Option<RouteSpecifier>, at: &At<'_>) -> Result<RouteSource, Refused> {
    match specifier {
        Some(RouteSpecifier::RouteConfig(config)) => {
            let table = route::compile(config, &at.field("route_config"))?;
            Ok(RouteSource::Inline(Arc::new(table)))
        }
        Some(RouteSpecifier::Rds(rds)) => {
            let at = at.field("rds");
            if rds.route_config_name.is_empty() {
                return Err(at.field("route_config_name").refuse("it must not be empty"));
            }
            Ok(RouteSource::Named {
                name: rds.route_config_name,
                fetch_timeout: over_ads(rds.config_source, &at.field("config_source"))?,
            })
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            Err(at.field("scoped_routes").refuse("is not supported"))
        }
        None => Err(at.refuse("one of rds and route_config must be given")),
    }
}

/// Accepts a source that is the ADS stream itself; its fetch timeout.
pub(crate) fn over_ads(
    source: Option<core::ConfigSource>,
    at: &At<'_>,
) -> Result<Option<Duration>, Refused> {
    let mut source = source.unwrap_or_default();
    match source.config_source_specifier.take() {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => {}
        _ => return Err(at.refuse("only ads is supported")),
    }
    fetch_timeout_of(Some(source), at)
}

/// How long to wait for what comes from a source that is understood otherwise; none for ever.
pub(crate) fn fetch_timeout_of(
    source: Option<core::ConfigSource>,
    at: &At<'_>,
) -> Result<Option<Duration>, Refused> {
    let mut source = source.unwrap_or_default();
    source.config_source_specifier = None;
    let at_timeout = at.field("initial_fetch_timeout");
    let fetch_timeout = match duration(source.initial_fetch_timeout.take(), &at_timeout)? {
        None => Some(DEFAULT_FETCH_TIMEOUT),
        Some(Duration::ZERO) => None,
        given => given,
    };
    ignored!(source: resource_api_version);
    nothing_else(&source, at)?;
    Ok(fetch_timeout)
}
