mod access_log;
mod authorizer;
mod idle;
mod local_limit;
mod paths;
mod provider;
mod proxy;
mod quota;
mod tracing;

use std::sync::Arc;
use std::time::Duration;

use crate::keepalive::TcpKeepalive;
use crate::locality::LocalityBalancing;
use crate::meta::ExportTo;
use crate::sidecar::{OutboundPolicy, read_outbound_traffic_policy};
use crate::suggest::did_you_mean;
use crate::view::{Ignored, Shape, View, first_duplicate};
use crate::virtual_service::Retries;

pub use self::access_log::{
    AccessLog, AccessLogFormat, LogProvider, OpenTelemetryLog, ProvidedLog,
};
pub use self::authorizer::{Authorizer, CheckedBody, HttpAuthorizer};
pub use self::local_limit::{Bucket, LimitProvider, LocalLimit};
pub use self::paths::PathNormalization;
use self::provider::Provider;
pub use self::provider::{ExtensionProvider, ProviderKind, TraceContext};
pub use self::proxy::ProxyConfig;
pub(crate) use self::proxy::read_resource as read_proxy_config;
pub use self::quota::{QuotaAction, QuotaLimit, QuotaProvider};
pub(crate) use self::tracing::read_custom_tags;
pub use self::tracing::{ProxyTracing, TagSource};

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshConfig {
    /// The file that it was read from; empty for the defaults.
    pub file: Arc<str>,
    /// Whether proxies trace where no Telemetry resource names a provider.
    pub enable_tracing: bool,
    /// What is written and changes nothing.
    pub ignored: Vec<Ignored>,
    /// Where spans can go.
    pub providers: Vec<ExtensionProvider>,
    /// Where access logs can go.
    pub log_providers: Vec<LogProvider>,
    /// The services that AuthorizationPolicies may ask.
    pub authorizers: Vec<Authorizer>,
    /// The services that count requests.
    pub quotas: Vec<QuotaProvider>,
    /// What each proxy counts by itself.
    pub limits: Vec<LimitProvider>,
    /// The provider that spans go to, one of `providers`.
    pub default_tracing: Option<String>,
    /// The logs that are written unless a Telemetry resource says something else, each one of `log_providers`.
    pub default_logging: Vec<String>,
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
    /// Proxies speak mutual TLS to each other where no DestinationRule says something else.
    pub auto_mtls: bool,
    /// What the names of workloads begin with.
    pub trust_domain: String,
    /// Other trust domains, whose names stand for the same workloads.
    pub trust_domain_aliases: Vec<String>,
    /// Which places are preferred where no DestinationRule says it.
    pub locality: LocalityBalancing,
    /// What is done to the paths of requests first of all.
    pub paths: PathNormalization,
    /// Whether the other side of connections is probed; a DestinationRule may say more.
    pub keepalive: Option<TcpKeepalive>,
    /// When requests are tried again that no rule says it of.
    pub retries: Retries,
    /// Who sees resources that do not say it.
    pub export_to: ExportDefaults,
}

/// `defaultServiceExportTo` and its like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportDefaults {
    /// Of ServiceEntries and Kubernetes' Services.
    pub services: ExportTo,
    /// Of VirtualServices.
    pub virtual_services: ExportTo,
    /// Of DestinationRules.
    pub destination_rules: ExportTo,
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
        "enableAutoMtls",
        "trustDomain",
        "trustDomainAliases",
        "localityLbSetting",
        "pathNormalization",
        "tcpKeepalive",
        "defaultHttpRetryPolicy",
        "defaultServiceExportTo",
        "defaultVirtualServiceExportTo",
        "defaultDestinationRuleExportTo",
    ],
    refused: &[
        (
            "proxyListenPort",
            "intercepted connections come to 15001 and 15006, others to the ports of Sidecar resources",
        ),
        (
            "proxyInboundListenPort",
            "intercepted connections come to 15001 and 15006, others to the ports of Sidecar resources",
        ),
        ("proxyHttpPort", "ports are given by Sidecar resources"),
        (
            "inboundTrafficPolicy",
            "connections to any port of an intercepted workload are passed on",
        ),
        ("meshMTLS", "proxies speak TLS 1.2 and 1.3 to each other"),
        (
            "tlsDefaults",
            "give the settings of TLS in DestinationRules",
        ),
        (
            "caCertificates",
            "write all roots of the mesh to root-cert.pem of the certificate authority",
        ),
        (
            "ca",
            "certificates are signed by the control plane, give it a key with --cacerts",
        ),
        ("serviceSettings", "there is one cluster only"),
        (
            "serviceEntryVisibility",
            "write `defaultServiceExportTo`, or `exportTo` in the ServiceEntries",
        ),
        (
            "zoneAwareLbSetting",
            "write `localityLbSetting`, here or in a DestinationRule",
        ),
        ("h2UpgradePolicy", "give it in a DestinationRule"),
        ("defaultTrafficPolicy", "write a DestinationRule"),
    ],
};

const DEFAULT_PROVIDERS: Shape = Shape {
    known: &["tracing", "accessLogging", "metrics"],
    refused: &[],
};

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            file: Arc::from(""),
            enable_tracing: true,
            ignored: Vec::new(),
            providers: Vec::new(),
            log_providers: vec![LogProvider::built_in()],
            authorizers: Vec::new(),
            quotas: Vec::new(),
            limits: Vec::new(),
            default_tracing: None,
            default_logging: Vec::new(),
            tracing: ProxyTracing::default(),
            access_log: None,
            connect_timeout: Duration::from_secs(10),
            root_namespace: "istio-system".into(),
            outbound: OutboundPolicy::AllowAny,
            protocol_detection_timeout: Duration::from_millis(100),
            auto_mtls: true,
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            locality: LocalityBalancing::default(),
            paths: PathNormalization::default(),
            keepalive: None,
            retries: Retries::default(),
            export_to: ExportDefaults::default(),
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
        self.provider(name)
    }

    /// The service of this name that AuthorizationPolicies may ask.
    pub fn authorizer(&self, name: &str) -> Option<&Authorizer> {
        let mut authorizers = self.authorizers.iter();
        authorizers.find(|authorizer| authorizer.name == name)
    }

    /// The provider of that name that spans can go to.
    pub fn provider(&self, name: &str) -> Option<&ExtensionProvider> {
        let mut providers = self.providers.iter();
        providers.find(|provider| provider.name == name)
    }

    /// The access log of that name.
    pub fn log_provider(&self, name: &str) -> Option<&ProvidedLog> {
        let mut providers = self.log_providers.iter();
        let found = providers.find(|provider| provider.name == name);
        found.map(|provider| &provider.log)
    }

    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let (object, ignored) = view.object_besides(&MESH_CONFIG, idle::OF_MESH)?;
        let mut config = Self {
            file: view.log().file(),
            ignored,
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
            config.outbound = read_outbound_traffic_policy(policy, true)?;
        }
        if let Some(timeout) = object.get("protocolDetectionTimeout") {
            config.protocol_detection_timeout = timeout.duration()?;
        }
        if let Some(defaults) = object.get("defaultConfig") {
            let defaults = ProxyConfig::read(defaults, ProxyTracing::default())?;
            config.tracing = defaults.tracing;
            config.ignored.extend(defaults.ignored);
        }
        if let Some(is_on) = object.get("enableAutoMtls").and_then(View::bool) {
            config.auto_mtls = is_on;
        }
        if let Some(name) = object.optional("trustDomain", read_trust_domain)? {
            config.trust_domain = name;
        }
        let aliases = object.items("trustDomainAliases");
        config.trust_domain_aliases = aliases.iter().filter_map(read_trust_domain).collect();
        if let Some(setting) = object.get("localityLbSetting") {
            config.locality = LocalityBalancing::read(setting).unwrap_or_default();
        }
        config.keepalive = object.optional("tcpKeepalive", TcpKeepalive::read)?;
        let retries = object.optional("defaultHttpRetryPolicy", Retries::read)?;
        config.retries = retries.unwrap_or_default();
        let paths = object.optional("pathNormalization", PathNormalization::read)?;
        config.paths = paths.unwrap_or_default();
        config.export_to = ExportDefaults {
            services: ExportTo::read_field(&object, "defaultServiceExportTo"),
            virtual_services: ExportTo::read_field(&object, "defaultVirtualServiceExportTo"),
            destination_rules: ExportTo::read_field(&object, "defaultDestinationRuleExportTo"),
        };
        config.access_log = AccessLog::read(&object);
        let items = object.items("extensionProviders");
        let providers: Vec<_> = items.iter().filter_map(Provider::read).collect();
        if let Some(provider) = first_duplicate(&providers, |p| p.name().to_owned()) {
            object.fail(format!("provider `{}` is defined twice", provider.name()));
        }
        for provider in providers {
            match provider {
                Provider::Tracing(provider) => config.providers.push(provider),
                Provider::Log(provider) => {
                    // It may take the place of the one that is there in any case.
                    config.log_providers.retain(|one| one.name != provider.name);
                    config.log_providers.push(provider);
                }
                Provider::Authorizer(authorizer) => config.authorizers.push(authorizer),
                Provider::Quota(quota) => config.quotas.push(quota),
                Provider::Limit(limit) => config.limits.push(limit),
                Provider::Prometheus(_) => {}
                Provider::Idle(_, ignored) => config.ignored.push(ignored),
            }
        }
        if let Some(defaults) = object.get("defaultProviders") {
            config.read_default_providers(defaults)?;
        }
        Some(config)
    }

    fn read_default_providers(&mut self, view: &View<'_>) -> Option<()> {
        let object = view.object(&DEFAULT_PROVIDERS)?;
        let items = object.items("tracing");
        if let Some(second) = items.get(1) {
            second.fail("spans go to one provider only, remove this one");
        }
        if let Some(item) = items.first() {
            let names = self.providers.iter().map(|provider| provider.name.as_str());
            self.default_tracing = Some(one_of(item, names)?);
        }
        for item in object.items("accessLogging") {
            let names = self.log_providers.iter();
            let names = names.map(|provider| provider.name.as_str());
            let name = one_of(&item, names)?;
            self.default_logging.push(name);
        }
        for item in object.items("metrics") {
            let name = item.text()?;
            check_metrics_provider(&item, &name)?;
        }
        Some(())
    }
}

/// As SPIFFE has it (SPIFFE-ID §2.1).
fn read_trust_domain(view: &View<'_>) -> Option<String> {
    let name = view.some_text()?;
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    if name.len() > 255 || !name.bytes().all(valid) {
        view.fail(format!(
            "`{name}` is no trust domain: use up to 255 lower-case letters, digits, `.`, `-` and `_`"
        ));
        return None;
    }
    Some(name)
}

/// Each proxy is scraped, and there is nothing to be done about it: nothing else can be meant.
pub(crate) fn check_metrics_provider(view: &View<'_>, name: &str) -> Option<()> {
    if name != "prometheus" {
        view.fail(format!(
            "metrics are scraped by `prometheus` only, not sent to `{name}`"
        ));
        return None;
    }
    Some(())
}

fn one_of<'a>(item: &View<'_>, names: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let name = item.text()?;
    if !names.clone().any(|known| known == name) {
        let hint = did_you_mean(&name, names);
        item.fail(format!("`{name}` is not among `extensionProviders`{hint}"));
        return None;
    }
    Some(name)
}
