//! The providers of `Tracing`: how spans are reported, and who gets them.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{GrpcService, HttpService, TypedExtensionConfig};
use envoy_types::pb::envoy::config::trace::v3::tracing::Http;
use envoy_types::pb::envoy::config::trace::v3::tracing::http::ConfigType;
use envoy_types::pb::envoy::config::trace::v3::zipkin_config::{
    CollectorEndpointVersion, TraceContextOption,
};
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig};
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::{
    EnvironmentResourceDetectorConfig, StaticConfigResourceDetectorConfig,
};
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::samplers::v3::{
    AlwaysOnSamplerConfig, ParentBasedSamplerConfig, TraceIdRatioBasedSamplerConfig,
};
use prost::Name as _;

use super::check::{At, Refused, decode, flag, ignored, must_be, nothing_else, short_type};
use super::services::{self, Service};
use super::{edits, fraction};
use crate::snapshot::{Sampler, TracingProvider};

/// What Envoy sends as the service name when none is configured.
const UNKNOWN_SERVICE: &str = "unknown_service:envoy";
const DEFAULT_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The method of OTLP over gRPC.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

pub(super) fn compile(provider: Http, at: &At<'_>) -> Result<TracingProvider, Refused> {
    let Some(ConfigType::TypedConfig(config)) = provider.config_type else {
        return Err(at.field("typed_config").refuse("it must be given"));
    };
    let at_config = &at.field("typed_config");
    if config.type_url == <ZipkinConfig as prost::Name>::type_url() {
        return zipkin(decode(&config, at_config)?, at_config);
    }
    if config.type_url == <OpenTelemetryConfig as prost::Name>::type_url() {
        return open_telemetry(decode(&config, at_config)?, at_config);
    }
    Err(at.refuse(format!(
        "tracer {:?} ({}) is not supported, only envoy.tracers.zipkin and envoy.tracers.opentelemetry are",
        provider.name,
        short_type(&config.type_url)
    )))
}

fn zipkin(mut config: ZipkinConfig, at: &At<'_>) -> Result<TracingProvider, Refused> {
    let version = std::mem::take(&mut config.collector_endpoint_version);
    let is_proto = match CollectorEndpointVersion::try_from(version) {
        Ok(CollectorEndpointVersion::HttpJson) => false,
        Ok(CollectorEndpointVersion::HttpProto) => true,
        _ => {
            let at = at.field("collector_endpoint_version");
            return Err(at.refuse("only HTTP_JSON and HTTP_PROTO are supported"));
        }
    };
    let with_w3c =
        match TraceContextOption::try_from(std::mem::take(&mut config.trace_context_option)) {
            Ok(TraceContextOption::UseB3) => false,
            Ok(TraceContextOption::UseB3WithW3cPropagation) => true,
            Err(_) => return Err(at.field("trace_context_option").refuse("is not known")),
        };
    let legacy = (
        std::mem::take(&mut config.collector_cluster),
        std::mem::take(&mut config.collector_endpoint),
        std::mem::take(&mut config.collector_hostname),
    );
    let collector = match config.collector_service.take() {
        Some(service) => http_service(service, &at.field("collector_service"))?,
        None => {
            let (cluster, path, host) = legacy;
            if cluster.is_empty() {
                return Err(at.field("collector_cluster").refuse("it must not be empty"));
            }
            if path.is_empty() {
                return Err(at
                    .field("collector_endpoint")
                    .refuse("it must not be empty"));
            }
            Collector {
                host: if host.is_empty() {
                    cluster.clone()
                } else {
                    host
                },
                cluster,
                path,
                timeout: DEFAULT_EXPORT_TIMEOUT,
                fields: Vec::new(),
            }
        }
    };
    let provider = TracingProvider::Zipkin {
        cluster: collector.cluster,
        path: collector.path,
        host: collector.host,
        trace_id_128bit: std::mem::take(&mut config.trace_id_128bit),
        shared_span_context: flag(config.shared_span_context.take(), true),
        with_w3c,
        is_proto,
        fields: collector.fields,
    };
    nothing_else(&config, at)?;
    Ok(provider)
}

fn open_telemetry(
    mut config: OpenTelemetryConfig,
    at: &At<'_>,
) -> Result<TracingProvider, Refused> {
    let services = (config.http_service.take(), config.grpc_service.take());
    let (collector, is_grpc) = match services {
        (Some(service), None) => (http_service(service, &at.field("http_service"))?, false),
        (None, Some(service)) => (grpc_service(service, &at.field("grpc_service"))?, true),
        (Some(_), Some(_)) => {
            return Err(at.refuse("http_service and grpc_service exclude each other"));
        }
        (None, None) => {
            return Err(at.refuse("http_service or grpc_service must be given"));
        }
    };
    let service_name = match std::mem::take(&mut config.service_name) {
        unset if unset.is_empty() => UNKNOWN_SERVICE.to_owned(),
        name => name,
    };
    for (field, value) in [
        (
            "set_telemetry_sdk_resource_attributes",
            config.set_telemetry_sdk_resource_attributes.take(),
        ),
        (
            "set_service_name_resource_attribute",
            config.set_service_name_resource_attribute.take(),
        ),
        (
            "set_instrumentation_scope",
            config.set_instrumentation_scope.take(),
        ),
    ] {
        must_be(value, true, &at.field(field))?;
    }
    let sampler = match config.sampler.take() {
        Some(given) => Some(sampler(given, &at.field("sampler"))?),
        None => None,
    };
    let mut resource = Vec::new();
    for (index, detector) in std::mem::take(&mut config.resource_detectors)
        .into_iter()
        .enumerate()
    {
        let at = at.field("resource_detectors");
        detect(detector, &mut resource, &at.index(index))?;
    }
    ignored!(config: max_cache_size);
    nothing_else(&config, at)?;
    Ok(TracingProvider::OpenTelemetry {
        cluster: collector.cluster,
        path: collector.path,
        host: collector.host,
        service_name,
        timeout: collector.timeout,
        is_grpc,
        sampler,
        fields: collector.fields,
        resource,
    })
}

/// What decides about requests in place of the connection manager's shares.
fn sampler(given: TypedExtensionConfig, at: &At<'_>) -> Result<Sampler, Refused> {
    let Some(config) = given.typed_config else {
        return Err(at.field("typed_config").refuse("it must be given"));
    };
    let at_config = &at.field("typed_config");
    if config.type_url == AlwaysOnSamplerConfig::type_url() {
        return Ok(Sampler {
            is_parent_based: false,
            ratio: None,
        });
    }
    if config.type_url == TraceIdRatioBasedSamplerConfig::type_url() {
        let given: TraceIdRatioBasedSamplerConfig = decode(&config, at_config)?;
        let at = &at_config.field("sampling_percentage");
        let share = given.sampling_percentage.unwrap_or_default();
        let of = 1_000_000 / fraction::unit(&share, at)?;
        return Ok(Sampler {
            is_parent_based: false,
            ratio: Some((share.numerator, of)),
        });
    }
    if config.type_url == ParentBasedSamplerConfig::type_url() {
        let mut given: ParentBasedSamplerConfig = decode(&config, at_config)?;
        let at = &at_config.field("wrapped_sampler");
        let Some(wrapped) = given.wrapped_sampler.take() else {
            return Err(at.refuse("it must be given"));
        };
        let is_parent_based = wrapped
            .typed_config
            .as_ref()
            .is_some_and(|config| config.type_url == ParentBasedSamplerConfig::type_url());
        if is_parent_based {
            return Err(at.refuse("a sampler that asks the caller must wrap one that does not"));
        }
        return Ok(Sampler {
            is_parent_based: true,
            ..sampler(wrapped, at)?
        });
    }
    let reason = format!(
        "sampler {:?} ({}) is not supported",
        given.name,
        short_type(&config.type_url)
    );
    Err(at.refuse(reason))
}

/// Adds what a detector finds: later ones go before earlier ones.
fn detect(
    given: TypedExtensionConfig,
    resource: &mut Vec<(String, String)>,
    at: &At<'_>,
) -> Result<(), Refused> {
    let Some(config) = given.typed_config else {
        return Err(at.field("typed_config").refuse("it must be given"));
    };
    let found: Vec<(String, String)> = if config.type_url
        == EnvironmentResourceDetectorConfig::type_url()
    {
        const VARIABLE: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let text = std::env::var(VARIABLE).unwrap_or_default();
        of_environment(&text).map_err(|pair| {
            at.refuse(format!(
                "{VARIABLE}: {pair:?} is not of the form NAME=VALUE"
            ))
        })?
    } else if config.type_url == StaticConfigResourceDetectorConfig::type_url() {
        let given: StaticConfigResourceDetectorConfig = decode(&config, &at.field("typed_config"))?;
        let mut all: Vec<_> = given.attributes.into_iter().collect();
        all.sort();
        all
    } else {
        let reason = format!(
            "detector {:?} ({}) is not supported",
            given.name,
            short_type(&config.type_url)
        );
        return Err(at.refuse(reason));
    };
    for (name, value) in found {
        resource.retain(|(known, _)| *known != name);
        resource.push((name, value));
    }
    Ok(())
}

/// `NAME=VALUE,…`, as OpenTelemetry has it; the pair that is none.
fn of_environment(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split(',').map(str::trim);
    let pairs = pairs.filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or_else(|| pair.to_owned())?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

struct Collector {
    cluster: String,
    path: String,
    host: String,
    timeout: Duration,
    /// The lines of the fields that each report has besides.
    fields: Vec<u8>,
}

impl Collector {
    fn new(service: Service, path: String) -> Self {
        Self {
            timeout: service
                .timeout
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(DEFAULT_EXPORT_TIMEOUT),
            cluster: service.cluster,
            host: service.host,
            path,
            fields: service.fields,
        }
    }
}

fn http_service(mut service: HttpService, at: &At<'_>) -> Result<Collector, Refused> {
    let uri = service.http_uri.take().unwrap_or_default();
    let added = std::mem::take(&mut service.request_headers_to_add);
    nothing_else(&service, at)?;
    let (mut service, path) = services::http(uri, &at.field("http_uri"))?;
    let at = at.field("request_headers_to_add");
    for (index, mut option) in added.into_iter().enumerate() {
        let at = &at.index(index);
        let header = option.header.take().unwrap_or_default();
        // There is nothing yet that it could be added to.
        option.append_action = 0;
        option.keep_empty_value = false;
        nothing_else(&option, at)?;
        let at = &at.field("header");
        check_field(&header.key, at)?;
        services::append_fixed(header, &mut service.fields, at)?;
    }
    Ok(Collector::new(service, path))
}

fn grpc_service(service: GrpcService, at: &At<'_>) -> Result<Collector, Refused> {
    let at_fields = at.field("initial_metadata");
    for (index, field) in service.initial_metadata.iter().enumerate() {
        check_field(&field.key, &at_fields.index(index))?;
    }
    let service = services::grpc(service, at)?;
    Ok(Collector::new(service, EXPORT.to_owned()))
}

/// What a report says of itself is not for anybody else to say.
fn check_field(name: &str, at: &At<'_>) -> Result<(), Refused> {
    let name = edits::name(name, &at.field("key"))?;
    match name.as_str() {
        "content-type" | "user-agent" | "date" | "expect" => Err(at
            .field("key")
            .refuse(format!("{name:?} must not be changed"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_environment() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            of_environment("a=1, b.c = x=y,,"),
            Ok(vec![pair("a", "1"), pair("b.c", "x=y")])
        );
        assert_eq!(of_environment(""), Ok(Vec::new()));
        assert_eq!(of_environment("a=1,b"), Err("b".to_owned()));
    }
}
