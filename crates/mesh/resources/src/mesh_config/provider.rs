use std::time::Duration;

use super::access_log::LogProvider;
use super::authorizer::Authorizer;
use super::idle;
use super::local_limit::LimitProvider;
use super::quota::QuotaProvider;
use crate::diagnostic::At;
use crate::host::Host;
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
    ],
    refused: &[
        (
            "timeout",
            "a report may take 5 s, Envoy ignores this field too",
        ),
        ("headers", "reports carry no headers of their own yet"),
    ],
};

const OPENTELEMETRY: Shape = Shape {
    known: &["service", "port", "maxTagLength", "http", "grpc"],
    refused: &[
        ("resourceDetectors", "the resource is the service's name"),
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
                LogProvider::read(name, object.get("envoyFileAccessLog")?).map(Self::Log)
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
                    "give the provider one of `zipkin`, `opentelemetry`, `envoyFileAccessLog`, `envoyExtAuthzGrpc`, \
                     `envoyExtAuthzHttp`, `envoyRateLimitGrpc`, `envoyLocalRateLimit` and `prometheus`",
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
        Self::read_target(
            name,
            object,
            ProviderKind::Zipkin {
                path,
                short_trace_ids,
                context,
            },
        )
    }

    fn read_opentelemetry(name: String, object: &Object<'_>) -> Option<Self> {
        const HTTP: Shape = Shape {
            known: &["path", "timeout"],
            refused: &[("headers", "reports carry no headers of their own yet")],
        };
        const GRPC: Shape = Shape {
            known: &["timeout"],
            refused: &[(
                "initialMetadata",
                "reports carry no headers of their own yet",
            )],
        };
        let Some(http) = object.get("http") else {
            // As in Istio, it is gRPC unless something else is said.
            let timeout = object.optional("grpc", |view| {
                view.object(&GRPC)?.optional("timeout", View::duration)
            })?;
            let kind = ProviderKind::OpenTelemetryGrpc {
                timeout: timeout.flatten(),
            };
            return Self::read_target(name, object, kind);
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
        Self::read_target(name, object, ProviderKind::OpenTelemetry { path, timeout })
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
            at: At(object.view().at()),
        })
    }
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
