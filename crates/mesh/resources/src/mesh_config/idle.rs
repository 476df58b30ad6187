//! What Istio's own installation writes into the configuration of its mesh, and changes nothing here.

use crate::view::Idle;

pub(super) const OF_MESH: &[Idle] = &[
    (
        "enablePrometheusMerge",
        "each proxy serves its application's metrics if its flags name them (--status-address)",
    ),
    ("ingressClass", "Ingresses of the class `istio` are served"),
    ("ingressService", "the status of Ingresses is not written"),
    (
        "ingressSelector",
        "Ingresses are served by the gateways with the label istio: ingressgateway",
    ),
    (
        "ingressControllerMode",
        "Ingresses of the class `istio` are served",
    ),
    (
        "dnsRefreshRate",
        "names are looked up again as their answers say",
    ),
    (
        "enableEnvoyAccessLogService",
        "name where they go: `accessLogFile`, or a provider `envoyOtelAls` in `defaultProviders.accessLogging`",
    ),
    (
        "disableEnvoyListenerLog",
        "listeners write no log of their own",
    ),
    ("certificates", "certificates of other servers are files"),
    (
        "verifyCertificateAtClient",
        "servers are always verified, unless a DestinationRule says `insecureSkipVerify`",
    ),
    ("configSources", "resources come from files"),
    ("discoverySelectors", "resources come from files"),
];

pub(super) const OF_PROXIES: &[Idle] = &[
    ("availabilityZone", "it stands in each node's `locality`"),
    ("binaryPath", IN_BOOTSTRAP),
    ("configPath", IN_BOOTSTRAP),
    ("concurrency", WORKERS),
    ("controlPlaneAuthPolicy", IN_BOOTSTRAP),
    ("customConfigFile", IN_BOOTSTRAP),
    ("discoveryRefreshDelay", "changes are sent when they happen"),
    ("discoveryAddress", IN_BOOTSTRAP),
    ("drainDuration", "it is a flag of each proxy (--drain-time)"),
    (
        "terminationDrainDuration",
        "it is a flag of each proxy (--drain-time)",
    ),
    (
        "parentShutdownDuration",
        "it is a flag of each proxy (--drain-time)",
    ),
    (
        "holdApplicationUntilProxyStarts",
        "the mesh does not start applications",
    ),
    ("image", IMAGE),
    ("interceptionMode", "it stands in the metadata of each node"),
    ("meshId", "it stands in the metadata of each node"),
    ("proxyAdminPort", IN_BOOTSTRAP),
    ("proxyMetadata", IN_BOOTSTRAP),
    ("proxyBootstrapTemplatePath", IN_BOOTSTRAP),
    ("proxyStatsMatcher", "no statistic is left out"),
    ("readinessProbe", "there is no Kubernetes to ask"),
    (
        "serviceCluster",
        "it stands in each proxy's bootstrap file as `node.cluster`",
    ),
    ("statNameLength", "names of statistics may be of any length"),
    (
        "statusPort",
        "it is a flag of each proxy (--status-address)",
    ),
    (
        "tracingServiceName",
        "it stands in each proxy's bootstrap file as `node.cluster`",
    ),
    ("envoyAccessLogService", AS_OTLP),
    (
        "envoyMetricsService",
        "statistics are scraped from each proxy",
    ),
    (
        "extraStatTags",
        "labels of metrics are given by `tagOverrides` of Telemetry resources",
    ),
    ("fileFlushInterval", "logs are written every 100 ms"),
    ("fileFlushMinSizeKb", "logs are written every 100 ms"),
    (
        "statsCompression",
        "statistics are compressed for whoever asks for it",
    ),
    ("statsdUdpAddress", "statistics are scraped from each proxy"),
    ("runtimeValues", IN_BOOTSTRAP),
];

pub(super) const WORKERS: &str = "it is a flag of each proxy (--workers)";

pub(super) const IMAGE: &str = "proxies are programs";

const IN_BOOTSTRAP: &str = "it stands in each proxy's bootstrap file";

/// Kinds of providers that nothing goes to; a resource that names one is told of it.
pub(super) const PROVIDERS: &[(&str, &str)] = &[
    ("datadog", "use `zipkin` or `opentelemetry`"),
    ("skywalking", "use `zipkin` or `opentelemetry`"),
    ("lightstep", "use `zipkin` or `opentelemetry`"),
    ("opencensus", "use `zipkin` or `opentelemetry`"),
    ("stackdriver", "use `zipkin` or `opentelemetry`"),
    ("envoyHttpAls", AS_OTLP),
    ("envoyTcpAls", AS_OTLP),
    ("sds", "certificates come from the control plane"),
];

const AS_OTLP: &str = "access logs go to collectors as OTLP, use `envoyOtelAls`";
