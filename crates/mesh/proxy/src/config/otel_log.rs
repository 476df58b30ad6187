//! `OpenTelemetryAccessLogConfig`: records of OpenTelemetry's in place of lines.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::ApiVersion;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::opentelemetry::proto::common::v1::any_value::Value as Given;
use envoy_types::pb::opentelemetry::proto::common::v1::{AnyValue, KeyValue};
use periplus_wire::export::otlp_logs::text;
use prost::Message as _;

use super::access_log::template;
use super::check::{At, Refused, duration, ignored, nothing_else};
use super::collector::Collector;
use super::{tracers, tracing};
use crate::telemetry::LogCollector;
use crate::telemetry::log::{Record, Value};

/// The method of OTLP over gRPC.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Envoy's defaults.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
const FLUSH_BYTES: u32 = 16 * 1024;
/// The most values within each other.
const MOST_DEPTH: usize = 16;

pub(super) fn compile(
    mut config: OpenTelemetryAccessLogConfig,
    at: &At<'_>,
) -> Result<(LogCollector, Record), Refused> {
    let common = config.common_config.take().unwrap_or_default();
    take_common(&mut config, common, &at.field("common_config"))?;
    let services = (config.http_service.take(), config.grpc_service.take());
    let collector = Collector::compile(services, EXPORT, at)?;
    let log_name = std::mem::take(&mut config.log_name);
    let has_labels = !std::mem::take(&mut config.disable_builtin_labels);
    let detectors = std::mem::take(&mut config.resource_detectors);
    let detected = tracers::detect_all(detectors, &at.field("resource_detectors"))?;
    let mut resource: Vec<(String, Vec<u8>)> = detected
        .into_iter()
        .map(|(key, value)| {
            let mut encoded = Vec::new();
            text(&mut encoded, |out| out.extend_from_slice(value.as_bytes()));
            (key, encoded)
        })
        .collect();
    let attributes = config.resource_attributes.take().unwrap_or_default().values;
    for (index, given) in attributes.into_iter().enumerate() {
        let at = &at.field("resource_attributes");
        let (key, value) = keyed(given, &at.field("values").index(index))?;
        resource.retain(|(known, _)| *known != key);
        resource.push((key, value.encode_to_vec()));
    }
    let flush_after = duration(
        config.buffer_flush_interval.take(),
        &at.field("buffer_flush_interval"),
    )?;
    let flush_bytes = config.buffer_size_bytes.take();
    let flush_bytes = flush_bytes.map_or(FLUSH_BYTES, |bytes| bytes.value);
    let record = record(&mut config, at)?;
    let collector = LogCollector {
        cluster: collector.cluster,
        host: collector.host,
        path: collector.path,
        timeout: collector.timeout,
        is_grpc: collector.is_grpc,
        fields: collector.fields,
        log_name: has_labels.then_some(log_name),
        resource,
        stat_prefix: std::mem::take(&mut config.stat_prefix),
        flush_after: flush_after.unwrap_or(FLUSH_AFTER),
        flush_bytes: flush_bytes as usize,
    };
    // No filter here has a state.
    ignored!(config: filter_state_objects_to_log);
    nothing_else(&config, at)?;
    Ok((collector, record))
}

/// The older form of some fields: those beside it go before.
fn take_common(
    config: &mut OpenTelemetryAccessLogConfig,
    mut common: CommonGrpcAccessLogConfig,
    at: &At<'_>,
) -> Result<(), Refused> {
    if let Some(service) = common.grpc_service.take() {
        if config.grpc_service.is_some() || config.http_service.is_some() {
            let reason = "it excludes the grpc_service and the http_service beside common_config";
            return Err(at.field("grpc_service").refuse(reason));
        }
        config.grpc_service = Some(service);
    }
    let log_name = std::mem::take(&mut common.log_name);
    if config.log_name.is_empty() {
        config.log_name = log_name;
    }
    let interval = common.buffer_flush_interval.take();
    config.buffer_flush_interval = config.buffer_flush_interval.take().or(interval);
    let size = common.buffer_size_bytes.take();
    config.buffer_size_bytes = config.buffer_size_bytes.take().or(size);
    if common.transport_api_version == i32::from(ApiVersion::V3) {
        common.transport_api_version = 0;
    }
    // What a collector may take later is sent again, as OTLP says; no filter here has a state.
    ignored!(common: grpc_stream_retry_policy, filter_state_objects_to_log);
    nothing_else(&common, at)
}

fn record(config: &mut OpenTelemetryAccessLogConfig, at: &At<'_>) -> Result<Record, Refused> {
    let body = config.body.take().filter(|body| body.value.is_some());
    let body = body.map(|body| value(body, MOST_DEPTH, &at.field("body")));
    let attributes = config.attributes.take().unwrap_or_default().values;
    let tags = std::mem::take(&mut config.custom_tags);
    let tags = tracing::custom_tags(tags, &at.field("custom_tags"))?;
    Ok(Record {
        body: body.transpose()?,
        attributes: members(attributes, MOST_DEPTH, &at.field("attributes"))?,
        tags: tags.into_iter().map(Into::into).collect(),
    })
}

fn members(
    given: Vec<KeyValue>,
    depth: usize,
    at: &At<'_>,
) -> Result<Vec<(String, Value)>, Refused> {
    let at = &at.field("values");
    let members = given.into_iter().enumerate();
    let member = |(index, member): (usize, KeyValue)| {
        let at = &at.index(index);
        let (key, given) = keyed(member, at)?;
        Ok((key, value(given, depth, &at.field("value"))?))
    };
    members.map(member).collect()
}

/// A key, which stands where it is used, and its value.
fn keyed(given: KeyValue, at: &At<'_>) -> Result<(String, AnyValue), Refused> {
    let KeyValue {
        key,
        value,
        key_strindex,
    } = given;
    if key_strindex != 0 {
        return Err(at.field("key_strindex").refuse("is not supported"));
    }
    Ok((key, value.unwrap_or_default()))
}

fn value(given: AnyValue, depth: usize, at: &At<'_>) -> Result<Value, Refused> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| at.refuse(format!("more than {MOST_DEPTH} values within each other")))?;
    match given.value {
        Some(Given::StringValue(text)) => {
            let at = &at.field("string_value");
            Ok(Value::Text(template(&text, false, at)?))
        }
        Some(Given::ArrayValue(list)) => {
            let at = &at.field("array_value");
            let at = &at.field("values");
            let values = list.values.into_iter().enumerate();
            let values = values.map(|(index, one)| value(one, depth, &at.index(index)));
            Ok(Value::List(values.collect::<Result<_, _>>()?))
        }
        Some(Given::KvlistValue(list)) => {
            let at = &at.field("kvlist_value");
            Ok(Value::Map(members(list.values, depth, at)?))
        }
        _ => Err(at.refuse("only texts, lists and lists of keys with values are supported")),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
    use envoy_types::pb::envoy::config::core::v3::{GrpcService, HttpService};
    use envoy_types::pb::google::protobuf::{self, UInt32Value};
    use envoy_types::pb::opentelemetry::proto::common::v1::{ArrayValue, KeyValueList};

    use super::*;

    fn any(value: Given) -> Option<AnyValue> {
        Some(AnyValue { value: Some(value) })
    }

    fn service() -> Option<GrpcService> {
        Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: "logs".to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        })
    }

    fn list(key: &str, value: Option<AnyValue>) -> Option<KeyValueList> {
        let key = key.to_owned();
        let values = vec![KeyValue {
            key,
            value,
            ..KeyValue::default()
        }];
        Some(KeyValueList { values })
    }

    fn common() -> CommonGrpcAccessLogConfig {
        CommonGrpcAccessLogConfig {
            log_name: "older".to_owned(),
            grpc_service: service(),
            transport_api_version: ApiVersion::V3.into(),
            buffer_flush_interval: Some(protobuf::Duration {
                seconds: 3,
                nanos: 0,
            }),
            buffer_size_bytes: Some(UInt32Value { value: 7 }),
            ..CommonGrpcAccessLogConfig::default()
        }
    }

    #[test]
    fn the_older_form_says_the_same_and_less() {
        let mut config = OpenTelemetryAccessLogConfig {
            common_config: Some(common()),
            stat_prefix: "p".to_owned(),
            resource_attributes: list("team", any(Given::StringValue("shop".to_owned()))),
            ..OpenTelemetryAccessLogConfig::default()
        };
        let mut expected = LogCollector {
            cluster: "logs".to_owned(),
            host: "logs".to_owned(),
            path: EXPORT.to_owned(),
            timeout: Duration::from_secs(10),
            is_grpc: true,
            fields: Vec::new(),
            log_name: Some("older".to_owned()),
            resource: vec![("team".to_owned(), b"\x0a\x04shop".to_vec())],
            stat_prefix: "p".to_owned(),
            flush_after: Duration::from_secs(3),
            flush_bytes: 7,
        };
        let (collector, record) = compile(config.clone(), &At::ROOT).expect("accepted");
        assert_eq!(collector, expected);
        let nothing = Record {
            body: None,
            attributes: Vec::new(),
            tags: Vec::new(),
        };
        assert_eq!(record, nothing);

        config.log_name = "newer".to_owned();
        config.buffer_size_bytes = Some(UInt32Value { value: 0 });
        config.disable_builtin_labels = true;
        expected.flush_bytes = 0;
        expected.log_name = None;
        let (collector, _) = compile(config, &At::ROOT).expect("accepted");
        assert_eq!(collector, expected);
    }

    #[test]
    fn what_cannot_be_reported_is_refused_by_field() {
        type Change = fn(&mut OpenTelemetryAccessLogConfig);
        let cases: [(Change, &str); 10] = [
            (
                |config| config.grpc_service = None,
                "http_service or grpc_service must be given",
            ),
            (
                |config| config.http_service = Some(HttpService::default()),
                "http_service and grpc_service exclude each other",
            ),
            (
                |config| config.common_config = Some(common()),
                "common_config.grpc_service: it excludes the grpc_service and the http_service beside common_config",
            ),
            (
                |config| {
                    config.common_config = Some(CommonGrpcAccessLogConfig {
                        transport_api_version: ApiVersion::V2.into(),
                        ..CommonGrpcAccessLogConfig::default()
                    });
                },
                "common_config.transport_api_version: is not supported",
            ),
            (
                |config| config.body = any(Given::BoolValue(true)),
                "body: only texts, lists and lists of keys with values are supported",
            ),
            (
                |config| config.attributes = list("a", None),
                "attributes.values[0].value: only texts, lists and lists of keys with values are supported",
            ),
            (
                |config| {
                    let values = vec![AnyValue {
                        value: Some(Given::StringValue("%NOPE%".to_owned())),
                    }];
                    config.body = any(Given::ArrayValue(ArrayValue { values }));
                },
                "body.array_value.values[0].string_value: %NOPE% is not supported",
            ),
            (
                |config| config.resource_detectors.push(Default::default()),
                "resource_detectors[0].typed_config: it must be given",
            ),
            (
                |config| config.custom_tags.push(Default::default()),
                "custom_tags[0].tag: it must not be empty",
            ),
            (
                |config| config.formatters.push(Default::default()),
                "formatters: is not supported",
            ),
        ];
        for (change, expected) in cases {
            let mut config = OpenTelemetryAccessLogConfig {
                grpc_service: service(),
                ..OpenTelemetryAccessLogConfig::default()
            };
            change(&mut config);
            let refused = compile(config, &At::ROOT).expect_err("refused");
            assert_eq!(refused.to_string(), expected);
        }
    }

    #[test]
    fn values_lie_within_each_other_only_so_deep() {
        let nested = |depth| {
            let mut value = Given::StringValue("a".to_owned());
            for _ in 1..depth {
                let values = vec![AnyValue { value: Some(value) }];
                value = Given::ArrayValue(ArrayValue { values });
            }
            OpenTelemetryAccessLogConfig {
                grpc_service: service(),
                body: any(value),
                ..OpenTelemetryAccessLogConfig::default()
            }
        };
        assert!(compile(nested(MOST_DEPTH), &At::ROOT).is_ok());
        assert!(compile(nested(MOST_DEPTH + 1), &At::ROOT).is_err());
    }
}
