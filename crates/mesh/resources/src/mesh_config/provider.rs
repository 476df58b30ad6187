use std::time::Duration;

use super::access_log::LogProvider;
use super::authorizer::Authorizer;
use super::idle;
use super::local_limit::LimitProvider;
use super::quota::QuotaProvider;
use crate::diagnostic::At;
use crate::host::Host;
use crate::values::check_fixed_value;
use crate::view::{Ignored, Object, Shape, View};

/// Something that telemetry can go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionProvider {
    /// Its name.
    pub name: String,
    /// The service that it is reached by.
    pub service: Host,
    /// The service's port.
    pub port: u16,
    /// `maxTagLength`.
    pub max_tag_length: Option<u32>,
    /// What is spoken.
    pub kind: ProviderKind,
    /// What each report carries besides: `headers`, or `initialMetadata`.
    pub headers: Vec<(String, String)>,
    /// `resourceDetectors.environment`: `OTEL_RESOURCE_ATTRIBUTES` of the proxy say more of the resource.
    pub detects_environment: bool,
    /// Where it is written.
    pub at: At,
}

/// How spans are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// As Zipkin v2 JSON.
    Zipkin {
        /// The path to post to.
        path: String,
        /// Whether new trace ids have 64 bits instead of 128.
        short_trace_ids: bool,
        /// The headers that carry the context.
        context: TraceContext,
    },
    /// As OTLP over HTTP.
    OpenTelemetry {
        /// The path to post to.
        path: String,
        /// The time that a report may take.
        timeout: Duration,
    },
    /// As OTLP over gRPC.
    OpenTelemetryGrpc {
        /// The time that a report may take, if that is said.
        timeout: Option<Duration>,
    },
}

/// `traceContextOption`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceContext {
    /// B3 headers.
    B3,
    /// B3 headers, and W3C's besides.
    B3AndW3c,
}

const PROVIDER: Shape = Shape {
    known: &[
        "name",
        "zipkin",
        "opentelemetry",
        "envoyFileAccessLog",
        "envoyOtelAls",
        "envoyExtAuthzGrpc",
        "envoyExtAuthzHttp",
        "envoyRateLimitGrpc",
        "envoyLocalRateLimit",
        "prometheus",
    ],
    refused: &[],
};

const ZIPKIN: Shape = Shape {
    known: &[
        "service",
        "port",
        "maxTagLength",
        "path",
        "enable64bitTraceId",
        "traceContextOption",
        "headers",
    ],
    refused: &[(
        "timeout",
        "a report may take 5 s, Envoy ignores this field too",
    )],
};

const OPENTELEMETRY: Shape = Shape {
    known: &[
        "service",
        "port",
        "maxTagLength",
        "http",
        "grpc",
        "resourceDetectors",
    ],
    refused: &[
        ("dynatraceSampler", "use `defaultConfig.tracing.sampling`"),
        (
            "serviceAttributeEnrichment",
            "the resource is the service's name",
        ),
    ],
};

/// One of `extensionProviders`.
pub(super) enum Provider {
    Tracing(ExtensionProvider),
    Log(LogProvider),
    Authorizer(Authorizer),
    Quota(QuotaProvider),
    Limit(LimitProvider),
    /// It scrapes each proxy, and needs nothing of the mesh.
    Prometheus(String),
    /// Nothing goes there.
    Idle(String, Ignored),
}

const KINDS: &[&str] = &[
    "zipkin",
    "opentelemetry",
    "envoyFileAccessLog",
    "envoyOtelAls",
    "envoyExtAuthzGrpc",
    "envoyExtAuthzHttp",
    "envoyRateLimitGrpc",
    "envoyLocalRateLimit",
    "prometheus",
];

impl Provider {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Tracing(provider) => &provider.name,
            Self::Log(provider) => &provider.name,
            Self::Authorizer(provider) => &provider.name,
            Self::Quota(provider) => &provider.name,
            Self::Limit(provider) => &provider.name,
            Self::Prometheus(name) | Self::Idle(name, _) => name,
        }
    }

    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const NOTHING: Shape = Shape {
            known: &[],
            refused: &[],
        };
        let (object, idle) = view.object_besides(&PROVIDER, idle::PROVIDERS)?;
        let name = object.require("name")?.some_text()?;
        if let (Some(ignored), []) = (idle.into_iter().next(), &*object.present(KINDS)) {
            return Some(Self::Idle(name, ignored));
        }
        match object.present(KINDS).as_slice() {
            ["zipkin"] => {
                let zipkin = object.get("zipkin")?.object(&ZIPKIN)?;
                ExtensionProvider::read_zipkin(name, &zipkin).map(Self::Tracing)
            }
            ["opentelemetry"] => {
                let object = object.get("opentelemetry")?.object(&OPENTELEMETRY)?;
                ExtensionProvider::read_opentelemetry(name, &object).map(Self::Tracing)
            }
            ["envoyFileAccessLog"] => {
                LogProvider::read_file(name, object.get("envoyFileAccessLog")?).map(Self::Log)
            }
            ["envoyOtelAls"] => {
                let view = object.get("envoyOtelAls")?;
                LogProvider::read_open_telemetry(name, view).map(Self::Log)
            }
            ["envoyExtAuthzGrpc"] => {
                let view = object.get("envoyExtAuthzGrpc")?;
                Authorizer::read_grpc(name, view).map(Self::Authorizer)
            }
            ["envoyExtAuthzHttp"] => {
                let view = object.get("envoyExtAuthzHttp")?;
                Authorizer::read_http(name, view).map(Self::Authorizer)
            }
            ["envoyRateLimitGrpc"] => {
                let view = object.get("envoyRateLimitGrpc")?;
                QuotaProvider::read(name, view).map(Self::Quota)
            }
            ["envoyLocalRateLimit"] => {
                let view = object.get("envoyLocalRateLimit")?;
                LimitProvider::read(name, view).map(Self::Limit)
            }
            ["prometheus"] => {
                object.get("prometheus")?.object(&NOTHING)?;
                Some(Self::Prometheus(name))
            }
            [] => {
                object.fail(
                    "give the provider one of `zipkin`, `opentelemetry`, `envoyFileAccessLog`, `envoyOtelAls`, \
                     `envoyExtAuthzGrpc`, `envoyExtAuthzHttp`, `envoyRateLimitGrpc`, `envoyLocalRateLimit` and \
                     `prometheus`",
                );
                None
            }
            several => {
                object.fail(format!("`{}` exclude each other", several.join("` and `")));
                None
            }
        }
    }
}

impl ExtensionProvider {
    fn read_zipkin(name: String, object: &Object<'_>) -> Option<Self> {
        let path = object
            .optional("path", read_path)?
            .unwrap_or_else(|| "/api/v2/spans".into());
        let context = match object.get("traceContextOption") {
            Some(option) => option.choice(&[
                ("USE_B3", TraceContext::B3),
                ("USE_B3_WITH_W3C_PROPAGATION", TraceContext::B3AndW3c),
            ])?,
            // Applications of either convention stay in the trace.
            None => TraceContext::B3AndW3c,
        };
        let short_trace_ids = object
            .optional("enable64bitTraceId", View::bool)?
            .unwrap_or(false);
        let headers = read_headers(object, "headers")?;
        let kind = ProviderKind::Zipkin {
            path,
            short_trace_ids,
            context,
        };
        let provider = Self::read_target(name, object, kind)?;
        Some(Self {
            headers,
            ..provider
        })
    }

    fn read_opentelemetry(name: String, object: &Object<'_>) -> Option<Self> {
        const HTTP: Shape = Shape {
            known: &["path", "timeout", "headers"],
            refused: &[],
        };
        const GRPC: Shape = Shape {
            known: &["timeout", "initialMetadata"],
            refused: &[],
        };
        let detects_environment = reads_environment(object)?;
        let Some(http) = object.get("http") else {
            // As in Istio, it is gRPC unless something else is said.
            let grpc = object.optional("grpc", |view| {
                let grpc = view.object(&GRPC)?;
                let headers = read_headers(&grpc, "initialMetadata")?;
                Some((grpc.optional("timeout", View::duration)?, headers))
            })?;
            let (timeout, headers) = grpc.unwrap_or_default();
            let kind = ProviderKind::OpenTelemetryGrpc { timeout };
            let provider = Self::read_target(name, object, kind)?;
            return Some(Self {
                headers,
                detects_environment,
                ..provider
            });
        };
        if object.get("grpc").is_some() {
            object.fail("`http` and `grpc` exclude each other");
            return None;
        }
        let http = http.object(&HTTP)?;
        let path = read_path(http.require("path")?)?;
        let timeout = http
            .optional("timeout", View::duration)?
            .unwrap_or(Duration::from_secs(3));
        let headers = read_headers(&http, "headers")?;
        let kind = ProviderKind::OpenTelemetry { path, timeout };
        let provider = Self::read_target(name, object, kind)?;
        Some(Self {
            headers,
            detects_environment,
            ..provider
        })
    }

    fn read_target(name: String, object: &Object<'_>, kind: ProviderKind) -> Option<Self> {
        let (service, port) = read_service(object)?;
        let max_tag_length = match object.get("maxTagLength") {
            Some(length) => length.u32().filter(|length| *length > 0),
            None => None,
        };
        Some(Self {
            name,
            service,
            port,
            max_tag_length,
            kind,
            headers: Vec::new(),
            detects_environment: false,
            at: At(object.view().at()),
        })
    }
}

/// A list of headers with fixed values.
fn read_headers(object: &Object<'_>, field: &str) -> Option<Vec<(String, String)>> {
    const HEADER: Shape = Shape {
        known: &["name", "value"],
        refused: &[("envName", "write the value into `value`")],
    };
    let mut headers = Vec::new();
    for view in object.items(field) {
        let header = view.object(&HEADER)?;
        let name = header.require("name")?.header_name()?;
        let value = header.require("value")?;
        headers.push((name, value.checked(value.some_ascii()?, check_fixed_value)?));
    }
    Some(headers)
}

/// Whether `resourceDetectors` have the environment among them.
fn reads_environment(object: &Object<'_>) -> Option<bool> {
    const DETECTORS: Shape = Shape {
        known: &["environment"],
        refused: &[("dynatrace", "only `environment` is supported")],
    };
    const NOTHING: Shape = Shape {
        known: &[],
        refused: &[],
    };
    let found = object.optional("resourceDetectors", |view| {
        let detectors = view.object(&DETECTORS)?;
        detectors.optional("environment", |view| view.object(&NOTHING).map(|_| ()))
    })?;
    Some(found.flatten().is_some())
}

/// The service of a provider, and its port.
pub(super) fn read_service(object: &Object<'_>) -> Option<(Host, u16)> {
    let service = object.require("service")?;
    let text = service.text()?;
    // `namespace/host` is Istio's other way to write it; host names are unique here.
    let host = text.split_once('/').map_or(text.as_str(), |(_, host)| host);
    match Host::parse(host) {
        Ok(host) => Some((host, object.require("port")?.port()?)),
        Err(reason) => {
            service.fail(format!("`{host}` is no host name: {reason}"));
            None
        }
    }
}

pub(super) fn read_path(view: &View<'_>) -> Option<String> {
    let path = view.some_ascii()?;
    if !path.starts_with('/') || path.contains(' ') {
        view.fail(format!("`{path}`: a path begins with `/`"));
        return None;
    }
    Some(path)
}
