//! The tracing block of connection managers.

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri, TypedExtensionConfig,
};
use envoy_types::pb::envoy::config::route::v3::Tracing as RouteTracing;
use envoy_types::pb::envoy::config::trace::v3::tracing::Http;
use envoy_types::pb::envoy::config::trace::v3::tracing::http::ConfigType;
use envoy_types::pb::envoy::config::trace::v3::zipkin_config::{
    CollectorEndpointVersion, TraceContextOption,
};
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::EnvironmentResourceDetectorConfig;
use envoy_types::pb::envoy::r#type::tracing::v3::CustomTag;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::PathSegment;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_kind::{Kind, Request as OfRequest};
use envoy_types::pb::envoy::r#type::metadata::v3::{MetadataKey, MetadataKind};
use envoy_types::pb::envoy::r#type::tracing::v3::custom_tag::{
    Environment, Header, Literal, Metadata as OfMetadata, Type,
};
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};
use periplus_resources::{ExtensionProvider, PolicyAction, ProviderKind, TagSource, TraceContext};

use super::authorization;
use super::proto::{any, boolean, duration, uint32};
use crate::index::{Index, Side, Traced};
use crate::names;
use crate::proxy::{Proxy, Role};

/// The time for a report in Zipkin's form: Envoy has no other where none is given.
const ZIPKIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The tracing block of a proxy, unless tracing is off or its collector is not in the mesh.
pub(super) fn tracing(index: &Index, proxy: &Proxy, side: Side) -> Option<Tracing> {
    let (own, _) = index.proxy_tracing(proxy);
    let traced = index.tracing_of(proxy, side)?;
    let provider = traced.provider;
    let percent = |value| Some(Percent { value });
    let max_tag_length = provider.max_tag_length;
    Some(Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(traced.sampling),
        overall_sampling: percent(100.0),
        max_path_tag_length: uint32(max_tag_length.unwrap_or(own.max_path_tag_length)),
        custom_tags: custom_tags(index, &traced, proxy),
        provider: Some(provider_of(provider, proxy)),
        // A gateway has a span for the request and one for each attempt to serve it.
        spawn_upstream_span: match proxy.role {
            Role::Router => boolean(true),
            Role::Sidecar => None,
        },
        ..Tracing::default()
    })
}

/// What a route says of tracing where its requests, or those of its port, are sampled in another way.
pub(super) fn of_route(
    index: &Index,
    proxy: &Proxy,
    side: Side,
    (port, route): (u16, &str),
) -> Option<RouteTracing> {
    let millionths = index.sampling_of(proxy, side, (port, route))?;
    Some(RouteTracing {
        random_sampling: Some(FractionalPercent {
            numerator: millionths,
            denominator: DenominatorType::Million.into(),
        }),
        ..RouteTracing::default()
    })
}

fn provider_of(provider: &ExtensionProvider, proxy: &Proxy) -> Http {
    let host = provider.service.as_str();
    let cluster = names::outbound_cluster(provider.port, "", host);
    let (name, config) = match &provider.kind {
        ProviderKind::Zipkin {
            path,
            short_trace_ids,
            context,
        } => {
            let option = match context {
                TraceContext::B3 => TraceContextOption::UseB3,
                TraceContext::B3AndW3c => TraceContextOption::UseB3WithW3cPropagation,
            };
            let mut config = ZipkinConfig {
                collector_endpoint_version: CollectorEndpointVersion::HttpJson.into(),
                trace_id_128bit: !short_trace_ids,
                shared_span_context: boolean(false),
                trace_context_option: option.into(),
                ..ZipkinConfig::default()
            };
            if provider.headers.is_empty() {
                config.collector_cluster = cluster;
                config.collector_endpoint.clone_from(path);
                host.clone_into(&mut config.collector_hostname);
            } else {
                // Only this form has room for headers.
                let uri = HttpUri {
                    uri: format!("http://{host}{path}"),
                    timeout: duration(ZIPKIN_TIMEOUT),
                    http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
                };
                config.collector_service = Some(service_of(uri, provider));
            }
            ("envoy.tracers.zipkin", any(&config))
        }
        ProviderKind::OpenTelemetry { path, timeout } => {
            let uri = HttpUri {
                uri: format!("http://{}{path}", names::host_port(host, provider.port)),
                timeout: duration(*timeout),
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
            };
            let config = OpenTelemetryConfig {
                http_service: Some(service_of(uri, provider)),
                service_name: proxy.cluster.clone(),
                resource_detectors: detectors(provider),
                ..OpenTelemetryConfig::default()
            };
            ("envoy.tracers.opentelemetry", any(&config))
        }
        ProviderKind::OpenTelemetryGrpc { timeout } => {
            let target = TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: cluster,
                authority: host.to_owned(),
                ..EnvoyGrpc::default()
            });
            let config = OpenTelemetryConfig {
                grpc_service: Some(GrpcService {
                    timeout: timeout.and_then(duration),
                    target_specifier: Some(target),
                    initial_metadata: headers(provider).collect(),
                    ..GrpcService::default()
                }),
                service_name: proxy.cluster.clone(),
                resource_detectors: detectors(provider),
                ..OpenTelemetryConfig::default()
            };
            ("envoy.tracers.opentelemetry", any(&config))
        }
    };
    Http {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}

fn headers(provider: &ExtensionProvider) -> impl Iterator<Item = HeaderValue> {
    provider.headers.iter().map(|(name, value)| HeaderValue {
        key: name.clone(),
        value: value.clone(),
        ..HeaderValue::default()
    })
}

fn service_of(uri: HttpUri, provider: &ExtensionProvider) -> HttpService {
    let added = headers(provider).map(|header| HeaderValueOption {
        header: Some(header),
        ..HeaderValueOption::default()
    });
    HttpService {
        http_uri: Some(uri),
        request_headers_to_add: added.collect(),
        ..HttpService::default()
    }
}

fn detectors(provider: &ExtensionProvider) -> Vec<TypedExtensionConfig> {
    let environment = provider.detects_environment.then(|| TypedExtensionConfig {
        name: "envoy.tracers.opentelemetry.resource_detectors.environment".to_owned(),
        typed_config: Some(any(&EnvironmentResourceDetectorConfig {})),
    });
    environment.into_iter().collect()
}

/// What spans say of policies that are tried, as with Istio: the tag, and where RBAC filters leave its value.
const DRY_RUN: [(PolicyAction, [(&str, &str); 2]); 2] = [
    (
        PolicyAction::Allow,
        [
            (
                "istio.authorization.dry_run.allow_policy.name",
                "istio_dry_run_allow_shadow_effective_policy_id",
            ),
            (
                "istio.authorization.dry_run.allow_policy.result",
                "istio_dry_run_allow_shadow_engine_result",
            ),
        ],
    ),
    (
        PolicyAction::Deny,
        [
            (
                "istio.authorization.dry_run.deny_policy.name",
                "istio_dry_run_deny_shadow_effective_policy_id",
            ),
            (
                "istio.authorization.dry_run.deny_policy.result",
                "istio_dry_run_deny_shadow_engine_result",
            ),
        ],
    ),
];

fn of_rbac(key: &str) -> Type {
    let segment = PathSegment {
        segment: Some(Segment::Key(key.to_owned())),
    };
    Type::Metadata(OfMetadata {
        kind: Some(MetadataKind {
            kind: Some(Kind::Request(OfRequest::default())),
        }),
        metadata_key: Some(MetadataKey {
            key: "envoy.filters.http.rbac".to_owned(),
            path: vec![segment],
        }),
        default_value: String::new(),
    })
}

/// Sorted by name. They describe the reporting proxy, not its peer.
fn custom_tags(index: &Index, traced: &Traced<'_>, proxy: &Proxy) -> Vec<CustomTag> {
    let mut tags: BTreeMap<&str, Type> = BTreeMap::new();
    if traced.has_istio_tags {
        let literal = |value: &str| {
            Type::Literal(Literal {
                value: value.to_owned(),
            })
        };
        tags.insert(
            "istio.canonical_revision",
            literal(proxy.canonical_revision()),
        );
        tags.insert(
            "istio.canonical_service",
            literal(proxy.canonical_service()),
        );
        tags.insert("istio.cluster_id", literal(&proxy.cluster_id));
        tags.insert("istio.mesh_id", literal(&proxy.mesh_id));
        tags.insert("istio.namespace", literal(&proxy.namespace));
    }
    if traced.has_istio_tags {
        let tried = authorization::tried(index, proxy);
        let said = DRY_RUN.iter().filter(|(action, _)| tried.contains(&action));
        tags.extend(said.flat_map(|(_, said)| said.map(|(tag, key)| (tag, of_rbac(key)))));
    }
    for (name, source) in traced.custom_tags {
        tags.insert(name, tag_type(source.clone()));
    }
    let tag = |(name, source): (&str, Type)| CustomTag {
        tag: name.to_owned(),
        r#type: Some(source),
    };
    tags.into_iter().map(tag).collect()
}

fn tag_type(source: TagSource) -> Type {
    match source {
        TagSource::Literal(value) => Type::Literal(Literal { value }),
        TagSource::Formatter(format) => Type::Value(format),
        TagSource::Environment { name, default } => Type::Environment(Environment {
            name,
            default_value: default,
        }),
        TagSource::Header { name, default } => Type::RequestHeader(Header {
            name,
            default_value: default,
        }),
    }
}
