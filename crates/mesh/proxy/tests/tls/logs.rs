//! What access logs tell of TLS: the same lines as Envoy's, but for times and numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::util::pack_any;
use regex::Regex;

use crate::world::inline;

/// Who both sides of a connection are, and how they came together.
const OPERATORS: [&str; 49] = [
    "CONNECTION_ID",
    "UNIQUE_ID",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "RESPONSE_CODE_DETAILS",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "FILTER_CHAIN_NAME",
    "LOCAL_REPLY_BODY",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CERT_V_END(%s)",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_CERT_V_START(%s)",
    "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_LOCAL_URI_SAN",
    "COMMON_DURATION(DS_RX_BEG:US_CX_BEG:us)",
    "COMMON_DURATION(US_CX_BEG:US_CX_END)",
    "COMMON_DURATION(US_CX_BEG:US_HS_END:ns)",
    "COMMON_DURATION(US_CX_END:US_TX_BEG:us)",
    "COMMON_DURATION(US_HS_END:US_TX_BEG:us)",
    "COMMON_DURATION(US_TX_BEG:US_TX_END:us)",
    "COMMON_DURATION(US_TX_BEG:DS_TX_END:ns)",
];

/// What is told of connections too, those that have not become ones of TLS among them.
const OF_CONNECTIONS: [&str; 11] = [
    "CONNECTION_ID",
    "UNIQUE_ID",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "RESPONSE_CODE_DETAILS",
    "FILTER_CHAIN_NAME",
    "LOCAL_REPLY_BODY",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "COMMON_DURATION(US_CX_BEG:US_CX_END)",
];

/// The log of a connection manager, in a file of its own.
pub(crate) fn of_requests(directory: &Path, name: &str) -> Vec<accesslog::AccessLog> {
    log(directory, name, &OPERATORS)
}

/// That of a listener.
pub(crate) fn of_connections(directory: &Path, name: &str) -> Vec<accesslog::AccessLog> {
    log(directory, name, &OF_CONNECTIONS)
}

fn log(directory: &Path, name: &str, operators: &[&str]) -> Vec<accesslog::AccessLog> {
    let field = |operator: &str| {
        let kind = Some(Kind::StringValue(format!("%{operator}%")));
        (operator.to_owned(), Value { kind })
    };
    let fields = operators.iter().map(|operator| field(operator)).collect();
    let format = core::SubstitutionFormatString {
        format: Some(core::substitution_format_string::Format::JsonFormat(
            Struct { fields },
        )),
        ..Default::default()
    };
    vec![in_file(directory, name, format)]
}

/// A log of lines of text, in a file.
pub(crate) fn of_text(directory: &Path, name: &str, text: &str) -> accesslog::AccessLog {
    let text = inline(text).expect("a source");
    let format = core::SubstitutionFormatString {
        format: Some(core::substitution_format_string::Format::TextFormatSource(
            text,
        )),
        ..Default::default()
    };
    in_file(directory, name, format)
}

fn in_file(
    directory: &Path,
    name: &str,
    format: core::SubstitutionFormatString,
) -> accesslog::AccessLog {
    let config = FileAccessLog {
        path: directory.join(name).to_str().expect("UTF-8").to_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    accesslog::AccessLog {
        name: name.to_owned(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack_any(
            config,
        ))),
        ..Default::default()
    }
}

/// What two proxies cannot have in common.
static MASKS: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
    [
        (r#"(_ID|DURATION[^"]*)":[1-9]\d*"#, "$1\":<number>"),
        (r#"(DURATION[^"]*)":0,"#, "$1\":<number>,"),
        (
            r#"("UNIQUE_ID":")[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"#,
            "$1<id>",
        ),
        // The libraries prefer others, and as a client Envoy's speaks TLS 1.2 unless told otherwise.
        (
            r#"(_TLS_CIPHER":")(TLS_AES|ECDHE-ECDSA-AES)[^"]*""#,
            "$1<cipher>\"",
        ),
        (r#"(_TLS_VERSION":"TLSv1)\.[23]""#, "$1<version>\""),
        // BoringSSL's words are not rustls's.
        (r#"(_DETAILS":"[^"]*\|TLS_error:)[^"]*}""#, "$1<why>}\""),
    ]
    .map(|(pattern, mask)| (Regex::new(pattern).expect("valid"), mask))
});

/// All lines of the files, in order, with how often each is there.
pub(crate) fn lines(directory: &Path) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        for line in std::fs::read_to_string(&path).expect("UTF-8").lines() {
            let mut line = format!("{name}: {line}");
            for (pattern, mask) in &*MASKS {
                line = pattern.replace_all(&line, *mask).into_owned();
            }
            // BoringSSL's words are not rustls's.
            if let Some((begin, rest)) = line.split_once("FAILURE_REASON\":\"")
                && let Some((_, end)) = rest.split_once('"')
            {
                line = format!("{begin}FAILURE_REASON\":\"<why>\"{end}");
            }
            *all.entry(line).or_default() += 1;
        }
    }
    all
}
