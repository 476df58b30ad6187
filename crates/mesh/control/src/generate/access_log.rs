//! The access log of connection managers.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::comparison_filter::Op;
use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, AndFilter, ComparisonFilter, ExtensionFilter, ResponseFlagFilter,
    StatusCodeFilter, access_log, extension_filter,
};
use envoy_types::pb::envoy::config::core::v3::{CelExpressionConfig, RuntimeUInt32};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog as EnvoyFileLog;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::google::protobuf::Any;
use periplus_cel::Expression;
use periplus_resources::{AccessLog as FileLogSpec, AccessLogFormat, LogFilter, StatusFilter};
use prost::{Message, Name as _};

use super::otel_log;
use super::proto::any;
use crate::index::{Index, Log, Side};
use crate::proxy::Proxy;

/// Istio's default, piece by piece: the key in JSON, the operator, and what stands around it in text.
const DEFAULT: [(&str, &str, &str); 24] = [
    ("start_time", "%START_TIME%", "[*] "),
    ("method", "%REQ(:METHOD)%", "\"* "),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "* "),
    ("protocol", "%PROTOCOL%", "*\" "),
    ("response_code", "%RESPONSE_CODE%", "* "),
    ("response_flags", "%RESPONSE_FLAGS%", "* "),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%", "* "),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
        "* ",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
        "\"*\" ",
    ),
    ("bytes_received", "%BYTES_RECEIVED%", "* "),
    ("bytes_sent", "%BYTES_SENT%", "* "),
    ("duration", "%DURATION%", "* "),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        "* ",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%", "\"*\" "),
    ("user_agent", "%REQ(USER-AGENT)%", "\"*\" "),
    ("request_id", "%REQ(X-REQUEST-ID)%", "\"*\" "),
    ("authority", "%REQ(:AUTHORITY)%", "\"*\" "),
    ("upstream_host", "%UPSTREAM_HOST%", "\"*\" "),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%", "* "),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%", "* "),
    (
        "downstream_local_address",
        "%DOWNSTREAM_LOCAL_ADDRESS%",
        "* ",
    ),
    (
        "downstream_remote_address",
        "%DOWNSTREAM_REMOTE_ADDRESS%",
        "* ",
    ),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%", "* "),
    ("route_name", "%ROUTE_NAME%", "*"),
];

/// The logs of a side of a proxy.
pub(super) fn access_logs(index: &Index, proxy: &Proxy, side: Side) -> Vec<AccessLog> {
    let logs = index.logs_of(proxy, side).into_iter();
    let made = logs.map(|(log, filter)| {
        let (name, config) = match log {
            Log::File(log) => ("envoy.access_loggers.file", file_log(log)),
            Log::OpenTelemetry(log) => {
                let config = any(&otel_log::config(log));
                ("envoy.access_loggers.open_telemetry", config)
            }
        };
        AccessLog {
            name: name.to_owned(),
            filter: filter.map(filter_of),
            config_type: Some(access_log::ConfigType::TypedConfig(config)),
        }
    });
    made.collect()
}

/// The same of a listener, as in Istio: of connections that no filter chain takes, which nothing else tells of, such as
/// plaintext where mutual TLS is asked for.
pub(super) fn listener_logs(index: &Index, proxy: &Proxy, side: Side) -> Vec<AccessLog> {
    let logs = access_logs(index, proxy, side).into_iter();
    logs.map(|log| AccessLog {
        filter: Some(without_chain(log.filter)),
        ..log
    })
    .collect()
}

fn without_chain(filter: Option<AccessLogFilter>) -> AccessLogFilter {
    let flags = ResponseFlagFilter {
        flags: vec!["NR".to_owned()],
    };
    let is_without = AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(flags)),
    };
    let Some(filter) = filter else {
        return is_without;
    };
    let filters = vec![is_without, filter];
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::AndFilter(AndFilter { filters })),
    }
}

fn file_log(log: &FileLogSpec) -> Any {
    let (text, json) = match &log.format {
        AccessLogFormat::Text(text) => (
            Some(text_format(text.clone().unwrap_or_else(default_text))),
            None,
        ),
        AccessLogFormat::Json(text) => {
            let object = text
                .as_ref()
                .and_then(|text| serde_json::from_str(text).ok());
            (None, Some(object.map_or_else(default_json, object_of)))
        }
    };
    let config = FileLog {
        path: log.file.clone(),
        log_format: Some(LogFormat {
            json,
            omit_empty_values: log.omits_empty,
            text,
        }),
    };
    Any {
        type_url: EnvoyFileLog::type_url(),
        value: config.encode_to_vec(),
    }
}

fn filter_of(filter: &LogFilter) -> AccessLogFilter {
    match filter {
        LogFilter::Status(status) => status_filter(*status),
        LogFilter::Expression(expression) => expression_filter(expression),
    }
}

fn status_filter(filter: StatusFilter) -> AccessLogFilter {
    let (op, value) = match filter {
        StatusFilter::AtLeast(status) => (Op::Ge, status),
        StatusFilter::Is(status) => (Op::Eq, status),
    };
    let comparison = ComparisonFilter {
        op: op.into(),
        value: Some(RuntimeUInt32 {
            default_value: value,
            runtime_key: "access_log.status".to_owned(),
        }),
    };
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::StatusCodeFilter(StatusCodeFilter {
            comparison: Some(comparison),
        })),
    }
}

fn expression_filter(expression: &Expression) -> AccessLogFilter {
    let may_make_texts = expression.makes_texts().then(|| CelExpressionConfig {
        enable_string_conversion: true,
        enable_string_concat: true,
        ..Default::default()
    });
    let config = ExpressionFilter {
        expression: expression.text().to_owned(),
        cel_config: may_make_texts,
    };
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ExtensionFilter(ExtensionFilter {
            name: "envoy.access_loggers.extension_filters.cel".to_owned(),
            config_type: Some(extension_filter::ConfigType::TypedConfig(any(&config))),
        })),
    }
}

/// `FileAccessLog`, as far as it is used. The generated types have their maps in no certain order: each
/// encoding would be another version of the listener.
#[derive(Clone, PartialEq, Message)]
struct FileLog {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "5")]
    log_format: Option<LogFormat>,
}

/// `SubstitutionFormatString`
#[derive(Clone, PartialEq, Message)]
struct LogFormat {
    #[prost(message, optional, tag = "2")]
    json: Option<JsonObject>,
    #[prost(bool, tag = "3")]
    omit_empty_values: bool,
    #[prost(message, optional, tag = "5")]
    text: Option<Inline>,
}

/// `DataSource`
#[derive(Clone, PartialEq, Message)]
struct Inline {
    #[prost(string, tag = "3")]
    inline_string: String,
}

/// `google.protobuf.Struct`
#[derive(Clone, PartialEq, Message)]
struct JsonObject {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, JsonValue>,
}

/// `google.protobuf.Value`
#[derive(Clone, PartialEq, Message)]
struct JsonValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Object(JsonObject),
    #[prost(message, tag = "6")]
    List(JsonList),
}

/// `google.protobuf.ListValue`
#[derive(Clone, PartialEq, Message)]
struct JsonList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<JsonValue>,
}

/// A line without an end gets one, as in Istio.
fn text_format(mut text: String) -> Inline {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Inline {
        inline_string: text,
    }
}

pub(super) fn default_text() -> String {
    let pieces = DEFAULT.iter();
    let pieces = pieces.map(|(_, operator, around)| around.replace('*', operator));
    pieces.chain(["\n".to_owned()]).collect()
}

fn default_json() -> JsonObject {
    let field = |(key, operator, _): &(&str, &str, &str)| {
        let kind = Some(Kind::Text((*operator).to_owned()));
        ((*key).to_owned(), JsonValue { kind })
    };
    JsonObject {
        fields: DEFAULT.iter().map(field).collect(),
    }
}

fn object_of(object: serde_json::Map<String, serde_json::Value>) -> JsonObject {
    let field = |(key, value)| (key, value_of(value));
    JsonObject {
        fields: object.into_iter().map(field).collect(),
    }
}

fn value_of(value: serde_json::Value) -> JsonValue {
    let kind = match value {
        serde_json::Value::Null => Kind::Null(0),
        serde_json::Value::Bool(value) => Kind::Bool(value),
        serde_json::Value::Number(number) => Kind::Number(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::Text(text),
        serde_json::Value::Array(values) => Kind::List(JsonList {
            values: values.into_iter().map(value_of).collect(),
        }),
        serde_json::Value::Object(object) => Kind::Object(object_of(object)),
    };
    JsonValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
    use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
    use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log;
    use envoy_types::pb::google::protobuf::value;

    use super::*;

    fn read(format: LogFormat) -> Format {
        let log = FileLog {
            path: "/dev/stdout".to_owned(),
            log_format: Some(format),
        };
        let log = EnvoyFileLog::decode(&*log.encode_to_vec()).expect("Envoy's message");
        assert_eq!(log.path, "/dev/stdout");
        match log.access_log_format {
            Some(file_access_log::AccessLogFormat::LogFormat(format)) => {
                format.format.expect("a format")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_default_line_is_that_of_istio() {
        let text = Some(text_format(default_text()));
        let Format::TextFormatSource(source) = read(LogFormat {
            text,
            ..LogFormat::default()
        }) else {
            panic!("a text");
        };
        let expected = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
            %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
            \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
            %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
            \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
            %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
            %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";
        assert_eq!(
            source.specifier,
            Some(Specifier::InlineString(expected.to_owned()))
        );
    }

    #[test]
    fn json_is_what_envoy_reads() {
        let given = r#"{"a": "%PROTOCOL%", "b": {"c": [1.5, true, null]}}"#;
        let object = object_of(serde_json::from_str(given).expect("JSON"));
        let Format::JsonFormat(read) = read(LogFormat {
            json: Some(object),
            ..LogFormat::default()
        }) else {
            panic!("an object");
        };
        let text = read.fields["a"].kind.clone();
        assert_eq!(
            text,
            Some(value::Kind::StringValue("%PROTOCOL%".to_owned()))
        );
        let Some(value::Kind::StructValue(inner)) = &read.fields["b"].kind else {
            panic!("an object within");
        };
        let Some(value::Kind::ListValue(list)) = &inner.fields["c"].kind else {
            panic!("a list");
        };
        assert_eq!(list.values.len(), 3);
        assert_eq!(list.values[0].kind, Some(value::Kind::NumberValue(1.5)));
        assert_eq!(default_json().fields.len(), DEFAULT.len());
    }
}
