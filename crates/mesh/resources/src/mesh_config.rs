use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::At;
use crate::host::Host;
use crate::sidecar::read_outbound_traffic_policy;
use crate::suggest::did_you_mean;
use crate::view::{Object, Shape, View, first_duplicate};

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshConfig {
    /// The file that it was read from; empty for the defaults.
    pub file: Arc<str>,
    /// Whether proxies trace at all.
    pub enable_tracing: bool,
    /// Where telemetry can go.
    pub providers: Vec<ExtensionProvider>,
    /// The provider that spans go to, one of `providers`.
    pub default_tracing: Option<String>,
    /// How proxies trace.
    pub tracing: ProxyTracing,
    /// The time to connect to a workload, where no DestinationRule says it.
    pub connect_timeout: Duration,
    /// The namespace whose DestinationRules and Sidecars hold for all others.
    pub root_namespace: String,
}

/// `defaultConfig.tracing`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyTracing {
    /// How many requests are traced, in percent; unlike Istio, all when it is not said.
    pub sampling: f64,
    /// Tags for all spans, by name.
    pub custom_tags: BTreeMap<String, TagSource>,
    /// How much of a path stands in a span's tags, in bytes.
    pub max_path_tag_length: u32,
    /// Whether spans get the tags `istio.…` of their proxy.
    pub enable_istio_tags: bool,
}

/// Where the value of a custom tag comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagSource {
    /// A fixed text.
    Literal(String),
    /// An environment variable of the proxy.
    Environment {
        /// Its name.
        name: String,
        /// The value when it is not set; empty is no tag.
        default: String,
    },
    /// A request header.
    Header {
        /// Its name.
        name: String,
        /// The value when it is absent; empty is no tag.
        default: String,
    },
}

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
}

/// `traceContextOption`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceContext {
    /// B3 headers.
    B3,
    /// B3 headers, and W3C's besides.
    B3AndW3c,
}

const MESH_CONFIG: Shape = Shape {
    known: &[
        "enableTracing",
        "extensionProviders",
        "defaultProviders",
        "defaultConfig",
        "connectTimeout",
        "rootNamespace",
        "outboundTrafficPolicy",
    ],
    refused: &[
        ("accessLogFile", "proxies write no access log yet"),
        ("accessLogFormat", "proxies write no access log yet"),
        ("accessLogEncoding", "proxies write no access log yet"),
        (
            "proxyListenPort",
            "traffic is not intercepted, ports are given by Sidecar resources",
        ),
        (
            "proxyInboundListenPort",
            "traffic is not intercepted, ports are given by Sidecar resources",
        ),
        ("proxyHttpPort", "ports are given by Sidecar resources"),
        (
            "protocolDetectionTimeout",
            "protocols are declared, not detected",
        ),
        ("inboundTrafficPolicy", "traffic is not intercepted"),
        (
            "enableAutoMtls",
            "proxies do not speak TLS to each other yet",
        ),
        ("trustDomain", "proxies do not speak TLS to each other yet"),
        (
            "trustDomainAliases",
            "proxies do not speak TLS to each other yet",
        ),
        ("meshMTLS", "proxies do not speak TLS to each other yet"),
        ("tlsDefaults", "proxies do not speak TLS to each other yet"),
        (
            "caCertificates",
            "proxies do not speak TLS to each other yet",
        ),
        ("certificates", "proxies do not speak TLS to each other yet"),
        ("ca", "proxies do not speak TLS to each other yet"),
        (
            "verifyCertificateAtClient",
            "proxies do not speak TLS to each other yet",
        ),
        ("ingressClass", "there is no Kubernetes Ingress"),
        ("ingressService", "there is no Kubernetes Ingress"),
        ("ingressSelector", "there is no Kubernetes Ingress"),
        ("ingressControllerMode", "there is no Kubernetes Ingress"),
        (
            "defaultServiceExportTo",
            "write `exportTo` in the resources",
        ),
        (
            "defaultVirtualServiceExportTo",
            "write `exportTo` in the resources",
        ),
        (
            "defaultDestinationRuleExportTo",
            "write `exportTo` in the resources",
        ),
        (
            "localityLbSetting",
            "there is no locality load balancing yet",
        ),
        ("dnsRefreshRate", "hosts are not resolved by DNS"),
        ("discoverySelectors", "there is no Kubernetes discovery yet"),
        (
            "enablePrometheusMerge",
            "metrics of applications are not merged yet",
        ),
        (
            "pathNormalization",
            "paths are matched as they are received",
        ),
        ("defaultHttpRetryPolicy", "requests are not retried yet"),
        ("serviceSettings", "there is one cluster only"),
        ("h2UpgradePolicy", "HTTP/2 is not spoken to workloads yet"),
        ("tcpKeepalive", "the system's defaults are used"),
        ("defaultTrafficPolicy", "write a DestinationRule"),
        (
            "enableEnvoyAccessLogService",
            "proxies write no access log yet",
        ),
        ("disableEnvoyListenerLog", "proxies write no access log yet"),
        ("configSources", "resources come from files"),
    ],
};

const DEFAULT_PROVIDERS: Shape = Shape {
    known: &["tracing"],
    refused: &[
        ("metrics", "metrics are scraped from each proxy"),
        ("accessLogging", "proxies write no access log yet"),
    ],
};

const PROXY_TRACING: Shape = Shape {
    known: &[
        "sampling",
        "customTags",
        "maxPathTagLength",
        "enableIstioTags",
    ],
    refused: &[
        (
            "zipkin",
            "define an `extensionProviders` entry and name it in `defaultProviders.tracing`",
        ),
        ("openCensusAgent", "use an `opentelemetry` provider"),
        ("lightstep", "use an `opentelemetry` provider"),
        ("datadog", "use an `opentelemetry` provider"),
        ("stackdriver", "use an `opentelemetry` provider"),
        ("tlsSettings", "spans are reported in plain text"),
    ],
};

const PROVIDER: Shape = Shape {
    known: &["name", "zipkin", "opentelemetry"],
    refused: &[
        ("datadog", "use `zipkin` or `opentelemetry`"),
        ("skywalking", "use `zipkin` or `opentelemetry`"),
        ("lightstep", "use `zipkin` or `opentelemetry`"),
        ("opencensus", "use `zipkin` or `opentelemetry`"),
        ("stackdriver", "use `zipkin` or `opentelemetry`"),
        ("prometheus", "metrics are scraped from each proxy"),
        ("envoyFileAccessLog", "proxies write no access log yet"),
        ("envoyHttpAls", "proxies write no access log yet"),
        ("envoyTcpAls", "proxies write no access log yet"),
        ("envoyOtelAls", "proxies write no access log yet"),
        (
            "envoyExtAuthzHttp",
            "there is no external authorization yet",
        ),
        (
            "envoyExtAuthzGrpc",
            "there is no external authorization yet",
        ),
        ("sds", "there is no TLS yet"),
    ],
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
    known: &["service", "port", "maxTagLength", "http"],
    refused: &[
        (
            "grpc",
            "spans are reported over HTTP, use `http: {path: /v1/traces}`",
        ),
        ("resourceDetectors", "the resource is the service's name"),
        ("dynatraceSampler", "use `defaultConfig.tracing.sampling`"),
        (
            "serviceAttributeEnrichment",
            "the resource is the service's name",
        ),
    ],
};

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            file: Arc::from(""),
            enable_tracing: true,
            providers: Vec::new(),
            default_tracing: None,
            tracing: ProxyTracing::default(),
            connect_timeout: Duration::from_secs(10),
            root_namespace: "istio-system".into(),
        }
    }
}

impl Default for ProxyTracing {
    fn default() -> Self {
        Self {
            sampling: 100.0,
            custom_tags: BTreeMap::new(),
            max_path_tag_length: 256,
            enable_istio_tags: true,
        }
    }
}

impl MeshConfig {
    /// The provider that spans go to, unless tracing is off.
    pub fn tracing_provider(&self) -> Option<&ExtensionProvider> {
        let name = self
            .default_tracing
            .as_ref()
            .filter(|_| self.enable_tracing)?;
        self.providers
            .iter()
            .find(|provider| provider.name == *name)
    }

    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&MESH_CONFIG)?;
        let mut config = Self {
            file: view.log().file(),
            ..Self::default()
        };
        if let Some(enabled) = object.get("enableTracing").and_then(View::bool) {
            config.enable_tracing = enabled;
        }
        if let Some(timeout) = object.get("connectTimeout") {
            config.connect_timeout = timeout.duration()?;
            if config.connect_timeout < Duration::from_millis(1) {
                timeout.fail("must be at least 1ms");
            }
        }
        if let Some(namespace) = object.get("rootNamespace").and_then(View::some_text) {
            config.root_namespace = namespace;
        }
        if let Some(policy) = object.get("outboundTrafficPolicy") {
            read_outbound_traffic_policy(policy);
        }
        if let Some(defaults) = object.get("defaultConfig") {
            config.tracing = read_default_config(defaults)?;
        }
        let items = object.items("extensionProviders");
        config.providers = items.iter().filter_map(ExtensionProvider::read).collect();
        if let Some(provider) = first_duplicate(&config.providers, |p| p.name.clone()) {
            object.fail(format!("provider `{}` is defined twice", provider.name));
        }
        if let Some(defaults) = object.get("defaultProviders") {
            config.default_tracing = read_default_providers(defaults, &config.providers)?;
        }
        Some(config)
    }
}

impl ExtensionProvider {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&PROVIDER)?;
        let name = object.require("name")?.some_text()?;
        match object.present(&["zipkin", "opentelemetry"]).as_slice() {
            ["zipkin"] => Self::read_zipkin(name, &object.get("zipkin")?.object(&ZIPKIN)?),
            ["opentelemetry"] => {
                let object = object.get("opentelemetry")?.object(&OPENTELEMETRY)?;
                Self::read_opentelemetry(name, &object)
            }
            [] => {
                object.fail("give the provider `zipkin` or `opentelemetry`");
                None
            }
            _ => {
                object.fail("`zipkin` and `opentelemetry` exclude each other");
                None
            }
        }
    }

    fn read_zipkin(name: String, object: &Object<'_>) -> Option<Self> {
        let path = match object.get("path") {
            Some(path) => read_path(path)?,
            None => "/api/v2/spans".into(),
        };
        let context = match object.get("traceContextOption") {
            Some(option) => option.choice(&[
                ("USE_B3", TraceContext::B3),
                ("USE_B3_WITH_W3C_PROPAGATION", TraceContext::B3AndW3c),
            ])?,
            // Applications of either convention stay in the trace.
            None => TraceContext::B3AndW3c,
        };
        let short_trace_ids = match object.get("enable64bitTraceId") {
            Some(short) => short.bool()?,
            None => false,
        };
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
        let Some(http) = object.get("http") else {
            object.fail(
                "without `http` spans would be reported over gRPC, which is not supported yet: \
                 write `http: {path: /v1/traces}` and the port of OTLP over HTTP",
            );
            return None;
        };
        let http = http.object(&HTTP)?;
        let path = read_path(http.require("path")?)?;
        let timeout = match http.get("timeout") {
            Some(timeout) => timeout.duration()?,
            None => Duration::from_secs(3),
        };
        Self::read_target(name, object, ProviderKind::OpenTelemetry { path, timeout })
    }

    fn read_target(name: String, object: &Object<'_>, kind: ProviderKind) -> Option<Self> {
        let service = object.require("service")?;
        let text = service.text()?;
        // `namespace/host` is Istio's other way to write it; host names are unique here.
        let host = text.split_once('/').map_or(text.as_str(), |(_, host)| host);
        let host = match Host::parse(host) {
            Ok(host) => host,
            Err(reason) => {
                service.fail(format!("`{host}` is no host name: {reason}"));
                return None;
            }
        };
        let max_tag_length = match object.get("maxTagLength") {
            Some(length) => length.u32().filter(|length| *length > 0),
            None => None,
        };
        Some(Self {
            name,
            service: host,
            port: object.require("port")?.port()?,
            max_tag_length,
            kind,
            at: At(object.view().at()),
        })
    }
}

fn read_path(view: &View<'_>) -> Option<String> {
    let path = view.some_ascii()?;
    if !path.starts_with('/') || path.contains(' ') {
        view.fail(format!("`{path}`: a path begins with `/`"));
        return None;
    }
    Some(path)
}

fn read_default_providers(
    view: &View<'_>,
    providers: &[ExtensionProvider],
) -> Option<Option<String>> {
    let object = view.object(&DEFAULT_PROVIDERS)?;
    let items = object.items("tracing");
    if let Some(second) = items.get(1) {
        second.fail("spans go to one provider only, remove this one");
    }
    let Some(item) = items.first() else {
        return Some(None);
    };
    let name = item.text()?;
    let names = providers.iter().map(|provider| provider.name.as_str());
    if !names.clone().any(|known| known == name) {
        let hint = did_you_mean(&name, names);
        item.fail(format!("`{name}` is not among `extensionProviders`{hint}"));
        return None;
    }
    Some(Some(name))
}

fn read_default_config(view: &View<'_>) -> Option<ProxyTracing> {
    const DEFAULT_CONFIG: Shape = Shape {
        known: &["tracing"],
        refused: &[
            (
                "discoveryAddress",
                "it stands in each proxy's bootstrap file",
            ),
            ("proxyMetadata", "it stands in each proxy's bootstrap file"),
            (
                "serviceCluster",
                "it stands in each proxy's bootstrap file as `node.cluster`",
            ),
            (
                "tracingServiceName",
                "it stands in each proxy's bootstrap file as `node.cluster`",
            ),
            ("proxyAdminPort", "it stands in each proxy's bootstrap file"),
            ("concurrency", "it is a flag of each proxy"),
            (
                "holdApplicationUntilProxyStarts",
                "the mesh does not start applications",
            ),
        ],
    };
    let config = view.object(&DEFAULT_CONFIG)?;
    let mut tracing = ProxyTracing::default();
    let Some(view) = config.get("tracing") else {
        return Some(tracing);
    };
    let object = view.object(&PROXY_TRACING)?;
    if let Some(sampling) = object.get("sampling") {
        tracing.sampling = sampling.percent()?;
    }
    if let Some(length) = object.get("maxPathTagLength").and_then(View::u32) {
        tracing.max_path_tag_length = length;
    }
    if let Some(enabled) = object.get("enableIstioTags").and_then(View::bool) {
        tracing.enable_istio_tags = enabled;
    }
    if let Some(tags) = object.get("customTags") {
        for (key, view) in tags.entries() {
            if key.text.is_empty() {
                view.fail("the tag's name is empty");
            }
            tracing
                .custom_tags
                .insert(key.text.clone(), TagSource::read(&view)?);
        }
    }
    Some(tracing)
}

impl TagSource {
    fn read(view: &View<'_>) -> Option<Self> {
        const TAG: Shape = Shape {
            known: &["literal", "environment", "header"],
            refused: &[("formatter", "use `literal`, `environment` or `header`")],
        };
        const LITERAL: Shape = Shape {
            known: &["value"],
            refused: &[],
        };
        const NAMED: Shape = Shape {
            known: &["name", "defaultValue"],
            refused: &[],
        };
        let object = view.object(&TAG)?;
        let named = |name| {
            let object = object.get(name)?.object(&NAMED)?;
            let default = match object.get("defaultValue") {
                Some(default) => default.text()?,
                None => String::new(),
            };
            Some((object.require("name")?.some_ascii()?, default))
        };
        match object.present(TAG.known).as_slice() {
            ["literal"] => {
                let literal = object.get("literal")?.object(&LITERAL)?;
                Some(Self::Literal(literal.require("value")?.some_text()?))
            }
            ["environment"] => {
                let (name, default) = named("environment")?;
                Some(Self::Environment { name, default })
            }
            ["header"] => {
                let (name, default) = named("header")?;
                let name = name.to_ascii_lowercase();
                Some(Self::Header { name, default })
            }
            _ => {
                object.fail("give the tag one of `literal`, `environment` and `header`");
                None
            }
        }
    }
}
