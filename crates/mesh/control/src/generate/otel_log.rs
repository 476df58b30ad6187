//! Access logs that go to a collector of OpenTelemetry.

#![expect(
    deprecated,
    reason = "every Envoy knows the older form of where a log goes, as Istio writes it"
)]

use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService};
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::opentelemetry::proto::common::v1::any_value::Value;
use envoy_types::pb::opentelemetry::proto::common::v1::{AnyValue, KeyValue, KeyValueList};
use periplus_resources::OpenTelemetryLog;

use super::access_log::default_text;
use crate::names;

/// The name of a log that has none, as in Istio.
const LOG_NAME: &str = "otel_envoy_accesslog";

pub(super) fn config(log: &OpenTelemetryLog) -> OpenTelemetryAccessLogConfig {
    let host = log.service.as_str();
    let target = TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
        cluster_name: names::outbound_cluster(log.port, "", host),
        authority: host.to_owned(),
        ..EnvoyGrpc::default()
    });
    let common = CommonGrpcAccessLogConfig {
        log_name: log.log_name.as_deref().unwrap_or(LOG_NAME).to_owned(),
        grpc_service: Some(GrpcService {
            target_specifier: Some(target),
            ..GrpcService::default()
        }),
        transport_api_version: ApiVersion::V3.into(),
        ..CommonGrpcAccessLogConfig::default()
    };
    let labels = log.labels.iter().map(|(key, value)| KeyValue {
        key: key.clone(),
        value: Some(text(value.clone())),
        ..KeyValue::default()
    });
    let attributes = KeyValueList {
        values: labels.collect(),
    };
    OpenTelemetryAccessLogConfig {
        common_config: Some(common),
        disable_builtin_labels: true,
        body: Some(text(log.text.clone().unwrap_or_else(default_text))),
        attributes: Some(attributes).filter(|all| !all.values.is_empty()),
        ..OpenTelemetryAccessLogConfig::default()
    }
}

fn text(text: String) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text)),
    }
}
