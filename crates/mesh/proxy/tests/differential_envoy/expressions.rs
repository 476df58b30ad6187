//! Expressions of CEL as filters of access logs: a file for each, whose lines have to be the same.

use std::path::Path;

use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::extension_filter;
use envoy_types::pb::envoy::config::core::v3::CelExpressionConfig;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::util::pack_any;

use crate::access_logs::{in_file, text};

/// What is logged only.
pub(crate) const EXPRESSIONS: [&str; 37] = [
    "true",
    "response.code >= 400",
    "response.code >= 400 && response.code < 500",
    "response.code != 200",
    "response.code < 500",
    "response.grpc_status == 2",
    "response.grpc_status == 14",
    "response.code in [404, 503]",
    "response.code - 100 == 400 || -response.code == -404",
    "has(response.code)",
    "request.url_path.startsWith('/ok')",
    "request.url_path == '/ok'",
    "request.path == '/ok?a=b'",
    "request.query == 'a=b'",
    "request.query == ''",
    "request.path.matches('st[a-z]*/[0-9]+$')",
    "request.method == 'POST' || request.useragent == 'test'",
    "!has(request.useragent) || !(request.useragent.startsWith('te'))",
    "'user-agent' in request.headers",
    "request.headers['X-Long'].contains('def')",
    "request.headers['x-none'] == 'x' || true",
    "request.headers['x-none'] == 'x' && true",
    "response.headers['server'] == 'envoy'",
    "request.host == 'a' && request.scheme == 'http'",
    "request.protocol == 'HTTP/1.1'",
    "request.size > 0",
    "response.size > 0",
    "size(request.id) == 36",
    "connection.mtls",
    "!connection.mtls && connection.requested_server_name == ''",
    "destination.port > 1 && destination.address.startsWith('127.0.0.1:')",
    "source.address.startsWith('127.0.0.1:')",
    "has(upstream.address)",
    "upstream.port > 1",
    "xds.route_name == 'refused' || xds.cluster_name == 'empty'",
    "response.code_details.endsWith('_found')",
    "(response.code > 399 ? 'bad' : 'good') == 'b' + 'ad' && string(response.code) != '404'",
];

/// The logs of all of them.
pub(crate) fn logs(directory: &Path) -> Vec<accesslog::AccessLog> {
    let all = EXPRESSIONS.iter().enumerate();
    all.map(|(index, expression)| log(directory, index, expression))
        .collect()
}

/// The logs of those that ask for the status alone.
pub(crate) fn of_status(directory: &Path) -> Vec<accesslog::AccessLog> {
    let all = EXPRESSIONS.iter().enumerate();
    let of_status = all.filter(|(_, expression)| expression.starts_with("response.code "));
    of_status
        .map(|(index, expression)| log(directory, index, expression))
        .collect()
}

fn log(directory: &Path, index: usize, expression: &str) -> accesslog::AccessLog {
    let line = format!("{expression}: %REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%\n");
    let mut log = in_file(directory, &format!("expression-{index}"), text(&line));
    let config = ExpressionFilter {
        expression: expression.to_owned(),
        cel_config: Some(CelExpressionConfig {
            enable_string_conversion: true,
            enable_string_concat: true,
            ..Default::default()
        }),
    };
    log.filter = Some(accesslog::AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ExtensionFilter(
            accesslog::ExtensionFilter {
                name: "envoy.access_loggers.extension_filters.cel".to_owned(),
                config_type: Some(extension_filter::ConfigType::TypedConfig(pack_any(config))),
            },
        )),
    });
    log
}
