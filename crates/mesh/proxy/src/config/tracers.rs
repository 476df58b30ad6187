//! The providers of `Tracing`: how spans are reported, and who gets them.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
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
use super::collector::{Collector, DEFAULT_EXPORT_TIMEOUT};
use super::fraction;
use crate::snapshot::{Sampler, TracingProvider};

/// What Envoy sends as the service name when none is configured.
const UNKNOWN_SERVICE: &str = "unknown_service:envoy";
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
        Some(service) => Collector::of_http(service, &at.field("collector_service"))?,
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
                is_grpc: false,
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
    let collector = Collector::compile(services, EXPORT, at)?;
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
    let detectors = std::mem::take(&mut config.resource_detectors);
    let resource = detect_all(detectors, &at.field("resource_detectors"))?;
    ignored!(config: max_cache_size);
    nothing_else(&config, at)?;
    Ok(TracingProvider::OpenTelemetry {
        cluster: collector.cluster,
        path: collector.path,
        host: collector.host,
        service_name,
        timeout: collector.timeout,
        is_grpc: collector.is_grpc,
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

/// What detectors find: later ones go before earlier ones.
pub(super) fn detect_all(
    detectors: Vec<TypedExtensionConfig>,
    at: &At<'_>,
) -> Result<Vec<(String, String)>, Refused> {
    let mut resource = Vec::new();
    for (index, detector) in detectors.into_iter().enumerate() {
        detect(detector, &mut resource, &at.index(index))?;
    }
    Ok(resource)
}

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
