mod access_log;
mod provider;
mod tracing;

use std::sync::Arc;
use std::time::Duration;

use crate::sidecar::{OutboundPolicy, read_outbound_traffic_policy};
use crate::suggest::did_you_mean;
use crate::view::{Shape, View, first_duplicate};

pub use self::access_log::{AccessLog, AccessLogFormat};
pub use self::provider::{ExtensionProvider, ProviderKind, TraceContext};
use self::tracing::read_default_config;
pub use self::tracing::{ProxyTracing, TagSource};

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
    /// What proxies log of each request; nothing without it.
    pub access_log: Option<AccessLog>,
    /// The time to connect to a workload, where no DestinationRule says it.
    pub connect_timeout: Duration,
    /// The namespace whose DestinationRules and Sidecars hold for all others.
    pub root_namespace: String,
    /// What becomes of intercepted connections to hosts that no resource describes.
    pub outbound: OutboundPolicy,
    /// How long an intercepted connection whose protocol nobody says may take to show it; zero is for ever.
    pub protocol_detection_timeout: Duration,
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
        "protocolDetectionTimeout",
        "accessLogFile",
        "accessLogFormat",
        "accessLogEncoding",
    ],
    refused: &[
        (
            "proxyListenPort",
            "traffic is not intercepted, ports are given by Sidecar resources",
        ),
        (
            "proxyInboundListenPort",
            "traffic is not intercepted, ports are given by Sidecar resources",
        ),
        ("proxyHttpPort", "ports are given by Sidecar resources"),
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
        ("h2UpgradePolicy", "give it in a DestinationRule"),
        ("tcpKeepalive", "the system's defaults are used"),
        ("defaultTrafficPolicy", "write a DestinationRule"),
        (
            "enableEnvoyAccessLogService",
            "access logs go to files, use `accessLogFile`",
        ),
        (
            "disableEnvoyListenerLog",
            "listeners write no log of their own",
        ),
        ("configSources", "resources come from files"),
    ],
};

const DEFAULT_PROVIDERS: Shape = Shape {
    known: &["tracing"],
    refused: &[
        ("metrics", "metrics are scraped from each proxy"),
        ("accessLogging", "use `accessLogFile`"),
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
            access_log: None,
            connect_timeout: Duration::from_secs(10),
            root_namespace: "istio-system".into(),
            outbound: OutboundPolicy::AllowAny,
            protocol_detection_timeout: Duration::from_millis(100),
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
            config.outbound = read_outbound_traffic_policy(policy)?;
        }
        if let Some(timeout) = object.get("protocolDetectionTimeout") {
            config.protocol_detection_timeout = timeout.duration()?;
        }
        if let Some(defaults) = object.get("defaultConfig") {
            config.tracing = read_default_config(defaults)?;
        }
        config.access_log = AccessLog::read(&object);
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
