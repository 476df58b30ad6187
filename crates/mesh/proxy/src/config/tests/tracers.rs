//! Tracers and their collectors.

use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::StaticConfigResourceDetectorConfig;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::samplers::v3 as samplers;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;

use super::*;
use crate::snapshot::Sampler;

fn extension(config: Any) -> Option<core::TypedExtensionConfig> {
    Some(core::TypedExtensionConfig {
        name: "extension".to_owned(),
        typed_config: Some(config),
    })
}

#[test]
fn tracers() {
    let compile = |provider: Any| {
        let mut changed = manager("r");
        changed.tracing = Some(Tracing {
            client_sampling: Some(Percent { value: 50.9 }),
            random_sampling: Some(Percent { value: 12.345 }),
            spawn_upstream_span: yes(),
            max_path_tag_length: Some(UInt32Value { value: 64 }),
            provider: Some(trace::tracing::Http {
                name: "tracer".to_owned(),
                config_type: Some(trace::tracing::http::ConfigType::TypedConfig(provider)),
            }),
            ..Default::default()
        });
        let resource = pack_any(listener_with("l", 80, changed));
        let mut store = Store::default();
        let now = Instant::now();
        take(&mut store, CLUSTER, &[], now);
        store
            .apply(LISTENER, "v", (&[resource], Extent::Whole), now)
            .map_err(|all| all[0].reason.clone())?;
        take(&mut store, ROUTE, &[pack_any(routes("r", "c"))], now);
        let snapshot = store.advance(now).expect("a snapshot");
        Ok::<_, String>(
            manager_of(&snapshot.listeners[0])
                .tracing
                .clone()
                .expect("a tracer"),
        )
    };
    let collector = |uri: &str| core::HttpService {
        http_uri: Some(core::HttpUri {
            uri: uri.to_owned(),
            timeout: seconds(3),
            http_upstream_type: Some(HttpUpstreamType::Cluster("spans".to_owned())),
        }),
        ..Default::default()
    };
    let zipkin = trace::ZipkinConfig {
        collector_cluster: "zipkin".to_owned(),
        collector_endpoint: "/api/v2/spans".to_owned(),
        collector_endpoint_version: 1,
        trace_id_128bit: true,
        ..Default::default()
    };

    let tracing = compile(pack_any(zipkin.clone())).expect("accepted");
    assert_eq!(tracing.client_sampling, 5000);
    assert_eq!(tracing.random_sampling, 1235);
    assert_eq!(tracing.overall_sampling, 10_000);
    assert!(tracing.spawn_upstream_span);
    assert_eq!(tracing.max_path_tag_length, 64);
    let expected = TracingProvider::Zipkin {
        cluster: "zipkin".to_owned(),
        path: "/api/v2/spans".to_owned(),
        host: "zipkin".to_owned(),
        trace_id_128bit: true,
        shared_span_context: true,
        with_w3c: false,
        is_proto: false,
        fields: Vec::new(),
    };
    assert_eq!(tracing.provider, expected);

    let newer = trace::ZipkinConfig {
        collector_service: Some(collector("http://zipkin.local:9411/api/v2/spans")),
        collector_endpoint_version: 1,
        trace_context_option: 1,
        shared_span_context: Some(BoolValue { value: false }),
        ..Default::default()
    };
    let expected = TracingProvider::Zipkin {
        cluster: "spans".to_owned(),
        path: "/api/v2/spans".to_owned(),
        host: "zipkin.local:9411".to_owned(),
        trace_id_128bit: false,
        shared_span_context: false,
        with_w3c: true,
        is_proto: false,
        fields: Vec::new(),
    };
    assert_eq!(
        compile(pack_any(newer)).expect("accepted").provider,
        expected
    );

    let by_id = samplers::TraceIdRatioBasedSamplerConfig {
        sampling_percentage: Some(FractionalPercent {
            numerator: 25,
            denominator: 0,
        }),
    };
    let by_caller = samplers::ParentBasedSamplerConfig {
        wrapped_sampler: extension(pack_any(by_id)),
    };
    let of_team = StaticConfigResourceDetectorConfig {
        attributes: [("team".to_owned(), "shop".to_owned())].into(),
    };
    let token = core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: "X-Token".to_owned(),
            value: "secret".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let with_token = core::HttpService {
        request_headers_to_add: vec![token],
        ..collector("http://otel.local/v1/traces")
    };
    let mut framed = with_token.clone();
    if let Some(header) = &mut framed.request_headers_to_add[0].header {
        header.key = "Content-Length".to_owned();
    }
    let framed = trace::OpenTelemetryConfig {
        http_service: Some(framed),
        ..Default::default()
    };
    let otlp = trace::OpenTelemetryConfig {
        http_service: Some(with_token),
        sampler: extension(pack_any(by_caller)),
        resource_detectors: extension(pack_any(of_team)).into_iter().collect(),
        service_name: "reviews.default".to_owned(),
        ..Default::default()
    };
    let expected = TracingProvider::OpenTelemetry {
        cluster: "spans".to_owned(),
        path: "/v1/traces".to_owned(),
        host: "otel.local".to_owned(),
        is_grpc: false,
        service_name: "reviews.default".to_owned(),
        timeout: Duration::from_secs(3),
        sampler: Some(Sampler {
            is_parent_based: true,
            ratio: Some((25, 100)),
        }),
        fields: b"x-token: secret\r\n".to_vec(),
        resource: vec![("team".to_owned(), "shop".to_owned())],
    };
    assert_eq!(
        compile(pack_any(otlp)).expect("accepted").provider,
        expected
    );

    let at = "filter_chains[0].filters[0].tracing.provider";
    let proto = trace::ZipkinConfig {
        collector_endpoint_version: 3,
        ..zipkin
    };
    let grpc = trace::OpenTelemetryConfig {
        grpc_service: Some(Default::default()),
        ..Default::default()
    };
    for (provider, expected) in [
        (
            pack_any(proto),
            format!(
                "{at}.typed_config.collector_endpoint_version: only HTTP_JSON and HTTP_PROTO are supported"
            ),
        ),
        (
            pack_any(framed),
            format!(
                "{at}.typed_config.http_service.request_headers_to_add[0].header.key: \"Content-Length\" must not be changed"
            ),
        ),
        (
            pack_any(grpc),
            format!("{at}.typed_config.grpc_service: only envoy_grpc is supported"),
        ),
        (
            pack_any(trace::SkyWalkingConfig::default()),
            format!(
                "{at}: tracer \"tracer\" (envoy.config.trace.v3.SkyWalkingConfig) is not supported, only \
                 envoy.tracers.zipkin and envoy.tracers.opentelemetry are"
            ),
        ),
    ] {
        assert_eq!(compile(provider).expect_err("refused"), expected);
    }
}
