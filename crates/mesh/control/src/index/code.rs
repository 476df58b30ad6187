//! The codes of problems: Istio's where Istio has one, else our own (`PER…`).

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// What scripts and suppressions know it by.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// When it is raised.
    pub about: &'static str,
}

impl Code {
    const fn new(id: &'static str, name: &'static str, about: &'static str) -> Self {
        Self { id, name, about }
    }
}

pub(super) const NOT_FOUND: Code = Code::new(
    "IST0101",
    "ReferencedResourceNotFound",
    "a gateway, host, port, subset or provider that is named does not exist",
);
pub(crate) const SCHEMA: Code = Code::new(
    "IST0106",
    "SchemaValidationError",
    "a document is not valid, or asks for what is not supported",
);
pub(super) const UNKNOWN_ANNOTATION: Code = Code::new(
    "IST0108",
    "UnknownAnnotation",
    "an annotation of Istio's that nobody knows",
);
pub(crate) const SHARED_MESH_HOST: Code = Code::new(
    "IST0109",
    "ConflictingMeshGatewayVirtualServiceHosts",
    "two VirtualServices route one host in sidecars",
);
pub(super) const CONFLICTING_SIDECARS: Code = Code::new(
    "IST0110",
    "ConflictingSidecarWorkloadSelectors",
    "two Sidecars select one workload",
);
pub(super) const SEVERAL_SIDECARS: Code = Code::new(
    "IST0111",
    "MultipleSidecarsWithoutWorkloadSelectors",
    "two Sidecars of a namespace are for all of it",
);
pub(super) const PORT_REQUIRED: Code = Code::new(
    "IST0112",
    "VirtualServiceDestinationPortSelectorRequired",
    "a destination has several ports and the rule chooses none",
);
pub(super) const PORT_NAME: Code = Code::new(
    "IST0118",
    "PortNameIsNotUnderNamingConvention",
    "a port's name does not say what is spoken, so that it is detected",
);
pub(super) const NO_WORKLOADS: Code = Code::new(
    "IST0127",
    "NoMatchingWorkloadsFound",
    "a selector matches no workload",
);
pub(super) const UNVERIFIED_DESTINATION: Code = Code::new(
    "IST0128",
    "NoServerCertificateVerificationDestinationLevel",
    "a DestinationRule has TLS whose server is believed unseen",
);
pub(super) const UNVERIFIED_PORT: Code = Code::new(
    "IST0129",
    "NoServerCertificateVerificationPortLevel",
    "a DestinationRule has TLS at a port whose server is believed unseen",
);
pub(super) const UNREACHABLE_RULE: Code = Code::new(
    "IST0130",
    "VirtualServiceUnreachableRule",
    "a rule comes after one that takes every request, or all of its matches are those of rules before",
);
pub(super) const INEFFECTIVE_MATCH: Code = Code::new(
    "IST0131",
    "VirtualServiceIneffectiveMatch",
    "a match is covered by one before",
);
pub(super) const HOST_NOT_IN_GATEWAY: Code = Code::new(
    "IST0132",
    "VirtualServiceHostNotFoundInGateway",
    "none of its Gateways serves a host of a VirtualService",
);
pub(super) const ADDRESSES_REQUIRED: Code = Code::new(
    "IST0134",
    "ServiceEntryAddressesRequired",
    "a ServiceEntry of TCP has no addresses that connections could be told by",
);
pub(super) const CONFLICTING_GATEWAYS: Code = Code::new(
    "IST0145",
    "ConflictingGateways",
    "two Gateways of the same workloads claim one host on one port",
);
pub(super) const EXTERNAL_PORT_NAME: Code = Code::new(
    "IST0150",
    "ExternalNameServiceTypeInvalidPortName",
    "a port of an ExternalName service does not say what is spoken",
);
pub(super) const TELEMETRY_WITHOUT_PROVIDER: Code = Code::new(
    "IST0157",
    "InvalidTelemetryProvider",
    "a Telemetry asks for access logs and neither it nor the mesh says where they go",
);
pub(super) const CONFLICTING_TELEMETRIES: Code = Code::new(
    "IST0159",
    "ConflictingTelemetryWorkloadSelectors",
    "two Telemetries select one workload",
);
pub(super) const SEVERAL_TELEMETRIES: Code = Code::new(
    "IST0160",
    "MultipleTelemetriesWithoutWorkloadSelectors",
    "two Telemetries of a namespace are for all of it",
);
pub(super) const INVALID_CREDENTIAL: Code = Code::new(
    "IST0161",
    "InvalidGatewayCredential",
    "the Secret that a Gateway names has no certificate with its key",
);
pub(super) const GATEWAY_PORT: Code = Code::new(
    "IST0162",
    "GatewayPortNotDefinedOnService",
    "a Gateway listens on a port that its Service does not have",
);
pub(super) const INEFFECTIVE_POLICY: Code =
    Code::new("IST0167", "IneffectivePolicy", "a policy has no effect");
pub(super) const NEGATIVE_CONDITION: Code = Code::new(
    "IST0171",
    "NegativeConditionStatus",
    "a condition in the status of a resource of Gateway API is False",
);
pub(super) const SUBSET_WITHOUT_WORKLOADS: Code = Code::new(
    "IST0173",
    "DestinationRuleSubsetNotSelectPods",
    "a rule leads to a subset that no workload is in",
);
pub(super) const UNKNOWN_RULE_HOST: Code = Code::new(
    "IST0174",
    "UnknownDestinationRuleHost",
    "there is no service that a DestinationRule is about",
);
pub(super) const OTHER: Code = Code::new("PER0001", "Other", "whatever has no code of its own");
pub(super) const DUPLICATE: Code = Code::new(
    "PER0101",
    "DuplicateResource",
    "two resources have one kind, namespace and name",
);
pub(super) const DUPLICATE_HOST: Code = Code::new(
    "PER0102",
    "DuplicateServiceHost",
    "two services of one namespace have one host",
);
pub(super) const SERVICE_WITHOUT_WORKLOADS: Code = Code::new(
    "PER0103",
    "ServiceWithoutWorkloads",
    "nobody serves a service: its requests get 503",
);
pub(super) const WITHOUT_EFFECT: Code = Code::new(
    "PER0104",
    "ResourceWithoutEffect",
    "a resource is read and changes nothing",
);
pub(super) const LIMITED_ROUTE_UNKNOWN: Code = Code::new(
    "PER0105",
    "LimitedRouteUnknown",
    "the rate of a route is limited that does not exist",
);
pub(super) const NO_AUTHORITY: Code = Code::new(
    "PER0106",
    "MutualTlsWithoutAuthority",
    "a policy asks for mutual TLS, and proxies have no certificates",
);
pub(crate) const KEYS_MISSING: Code = Code::new(
    "PER0107",
    "IssuerKeysMissing",
    "an issuer of tokens does not give its keys: its tokens are refused, or checked with older ones",
);
pub(crate) const SECRET_ENDS: Code = Code::new(
    "PER0108",
    "SecretEndsSoon",
    "a certificate in a Secret, an authority or a list of revoked certificates has ended, or does so soon",
);
pub(super) const TRACING_UNREACHABLE: Code = Code::new(
    "PER0201",
    "TracingProviderUnreachable",
    "spans go to a service or port that does not exist: nothing is traced",
);
pub(super) const TRACING_WITHOUT_PROVIDER: Code = Code::new(
    "PER0202",
    "TracingWithoutProvider",
    "a Telemetry asks for tracing and neither it nor the mesh names a provider",
);
pub(super) const SAMPLING_OFF: Code =
    Code::new("PER0203", "SamplingIsZero", "no request is sampled");
pub(super) const MIXED_CONTEXTS: Code = Code::new(
    "PER0204",
    "MixedTraceContexts",
    "some proxies propagate B3 only and others W3C only: traces fall apart between them",
);

pub(super) const SAMPLED_ROUTE_UNKNOWN: Code = Code::new(
    "PER0205",
    "SampledRouteUnknown",
    "a share of traced requests is given for a route that does not exist",
);
pub(crate) const TRACING_REFUSED: Code = Code::new(
    "PER0206",
    "TracingProviderRefuses",
    "the collector of a tracing provider takes no connection: spans are lost",
);

pub(super) const LOGS_UNREACHABLE: Code = Code::new(
    "PER0207",
    "LoggingProviderUnreachable",
    "access logs go to a service or port that does not exist, or is none of gRPC: they are lost",
);

/// All of them.
pub const CODES: &[Code] = &[
    NOT_FOUND,
    SCHEMA,
    UNKNOWN_ANNOTATION,
    SHARED_MESH_HOST,
    CONFLICTING_SIDECARS,
    SEVERAL_SIDECARS,
    PORT_REQUIRED,
    PORT_NAME,
    NO_WORKLOADS,
    UNVERIFIED_DESTINATION,
    UNVERIFIED_PORT,
    UNREACHABLE_RULE,
    INEFFECTIVE_MATCH,
    HOST_NOT_IN_GATEWAY,
    ADDRESSES_REQUIRED,
    CONFLICTING_GATEWAYS,
    EXTERNAL_PORT_NAME,
    TELEMETRY_WITHOUT_PROVIDER,
    CONFLICTING_TELEMETRIES,
    SEVERAL_TELEMETRIES,
    INVALID_CREDENTIAL,
    GATEWAY_PORT,
    INEFFECTIVE_POLICY,
    NEGATIVE_CONDITION,
    SUBSET_WITHOUT_WORKLOADS,
    UNKNOWN_RULE_HOST,
    OTHER,
    DUPLICATE,
    DUPLICATE_HOST,
    SERVICE_WITHOUT_WORKLOADS,
    WITHOUT_EFFECT,
    LIMITED_ROUTE_UNKNOWN,
    NO_AUTHORITY,
    KEYS_MISSING,
    SECRET_ENDS,
    TRACING_UNREACHABLE,
    TRACING_WITHOUT_PROVIDER,
    SAMPLING_OFF,
    MIXED_CONTEXTS,
    SAMPLED_ROUTE_UNKNOWN,
    TRACING_REFUSED,
    LOGS_UNREACHABLE,
];
