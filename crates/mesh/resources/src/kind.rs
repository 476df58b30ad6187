use std::fmt;

use crate::gateway_api;
use crate::suggest::nearest;

/// The kinds of resources that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A service.
    ServiceEntry,
    /// A workload of a service.
    WorkloadEntry,
    /// How the proxy of a workload listens.
    Sidecar,
    /// Routing rules of a host.
    VirtualService,
    /// Subsets of a host, and how to connect to it.
    DestinationRule,
    /// What a gateway listens for.
    Gateway,
    /// Who may do what.
    AuthorizationPolicy,
    /// What is asked of those that connect.
    PeerAuthentication,
    /// Whose tokens are believed.
    RequestAuthentication,
    /// What is told of requests.
    Telemetry,
    /// How proxies are started.
    ProxyConfig,
    /// Kubernetes' service.
    Service,
    /// Kubernetes' endpoints of a service.
    EndpointSlice,
    /// Kubernetes' workload.
    Pod,
    /// Kubernetes' namespace.
    Namespace,
    /// Kubernetes' machine.
    Node,
    /// Kubernetes' service account.
    ServiceAccount,
    /// Kubernetes' template of pods.
    Deployment,
    /// Gateway API's class of gateways.
    GatewayClass,
    /// Gateway API's gateway, whose name is that of Istio's.
    ApiGateway,
    /// Gateway API's rules for requests.
    HttpRoute,
    /// Gateway API's rules for calls of gRPC.
    GrpcRoute,
    /// Gateway API's rules for TLS.
    TlsRoute,
    /// Gateway API's rules for connections.
    TcpRoute,
    /// Gateway API's leave to refer to other namespaces.
    ReferenceGrant,
    /// Gateway API's way to speak TLS to backends.
    BackendTlsPolicy,
    /// Kubernetes' older way to say what Gateway API says.
    Ingress,
    /// Kubernetes' texts.
    ConfigMap,
    /// Kubernetes' texts that not everybody may see.
    Secret,
    /// One that the mesh makes nothing of.
    Other,
}

/// Kinds of groups that the mesh reads kinds of, which it makes nothing of.
const OTHERS: [&str; 20] = [
    "EnvoyFilter",
    "WorkloadGroup",
    "ControllerRevision",
    "DaemonSet",
    "ReplicaSet",
    "StatefulSet",
    "IngressClass",
    "NetworkPolicy",
    "ComponentStatus",
    "Endpoints",
    "Event",
    "LimitRange",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "IPAddress",
    "ServiceCIDR",
    "Binding",
];

impl Kind {
    /// All of them, with their names.
    pub(crate) const NAMES: [(&'static str, Self); 29] = [
        ("ServiceEntry", Self::ServiceEntry),
        ("WorkloadEntry", Self::WorkloadEntry),
        ("Sidecar", Self::Sidecar),
        ("VirtualService", Self::VirtualService),
        ("DestinationRule", Self::DestinationRule),
        ("Gateway", Self::Gateway),
        ("AuthorizationPolicy", Self::AuthorizationPolicy),
        ("PeerAuthentication", Self::PeerAuthentication),
        ("RequestAuthentication", Self::RequestAuthentication),
        ("Telemetry", Self::Telemetry),
        ("ProxyConfig", Self::ProxyConfig),
        ("Service", Self::Service),
        ("EndpointSlice", Self::EndpointSlice),
        ("Pod", Self::Pod),
        ("Namespace", Self::Namespace),
        ("Node", Self::Node),
        ("ServiceAccount", Self::ServiceAccount),
        ("Deployment", Self::Deployment),
        ("GatewayClass", Self::GatewayClass),
        ("Gateway", Self::ApiGateway),
        ("HTTPRoute", Self::HttpRoute),
        ("GRPCRoute", Self::GrpcRoute),
        ("TLSRoute", Self::TlsRoute),
        ("TCPRoute", Self::TcpRoute),
        ("ReferenceGrant", Self::ReferenceGrant),
        ("BackendTLSPolicy", Self::BackendTlsPolicy),
        ("Ingress", Self::Ingress),
        ("ConfigMap", Self::ConfigMap),
        ("Secret", Self::Secret),
    ];

    /// Whether what has this name and version is there for others than the mesh, or for Istio's own parts.
    pub(crate) fn is_other(name: &str, version: &str) -> bool {
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        if version.is_empty() || name.is_empty() {
            return false;
        }
        if let Some(known) = Self::of(name, version) {
            return known.group() != group && is_foreign(group);
        }
        match group {
            // A kind of these that nobody knows is misspelt.
            gateway_api::GROUP
            | "telemetry.istio.io"
            | "security.istio.io"
            | "discovery.k8s.io" => false,
            "" | "apps" | "networking.k8s.io" | "networking.istio.io" => OTHERS.contains(&name),
            _ => true,
        }
    }

    /// The kind of a name: one of several with that name is told by its API's version.
    pub(crate) fn of(name: &str, version: &str) -> Option<Self> {
        let named = || Self::NAMES.iter().filter(|(known, _)| *known == name);
        let group = version.split('/').next().unwrap_or_default();
        let mut of_group = named().filter(|(_, kind)| kind.group() == group);
        of_group.next().or(named().next()).map(|(_, kind)| *kind)
    }

    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        names
            .find(|(_, kind)| *kind == self)
            .map_or("another kind", |(name, _)| name)
    }

    /// Its name in Kubernetes' resource paths.
    pub fn path_name(self) -> &'static str {
        match self {
            Self::ServiceEntry => "service-entry",
            Self::WorkloadEntry => "workload-entry",
            Self::Sidecar => "sidecar",
            Self::VirtualService => "virtual-service",
            Self::DestinationRule => "destination-rule",
            Self::Gateway => "gateway",
            Self::AuthorizationPolicy => "authorization-policy",
            Self::PeerAuthentication => "peer-authentication",
            Self::RequestAuthentication => "request-authentication",
            Self::Telemetry => "telemetry",
            Self::ProxyConfig => "proxy-config",
            Self::Service => "service",
            Self::EndpointSlice => "endpoint-slice",
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::Node => "node",
            Self::ServiceAccount => "service-account",
            Self::Deployment => "deployment",
            Self::GatewayClass => "gatewayclass",
            Self::ApiGateway => "gateway",
            Self::HttpRoute => "httproute",
            Self::GrpcRoute => "grpcroute",
            Self::TlsRoute => "tlsroute",
            Self::TcpRoute => "tcproute",
            Self::ReferenceGrant => "referencegrant",
            Self::BackendTlsPolicy => "backendtlspolicy",
            Self::Ingress => "ingress",
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
            Self::Other => "other",
        }
    }

    /// The group of its API.
    pub fn group(self) -> &'static str {
        match self {
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => {
                "security.istio.io"
            }
            Self::Telemetry => "telemetry.istio.io",
            Self::Service
            | Self::Pod
            | Self::Namespace
            | Self::Node
            | Self::ServiceAccount
            | Self::ConfigMap
            | Self::Secret => "",
            Self::Ingress => "networking.k8s.io",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Deployment => "apps",
            kind if kind.is_of_gateway_api() => gateway_api::GROUP,
            _ => "networking.istio.io",
        }
    }

    /// Whether it is Kubernetes' own, of which the mesh reads what matters to it.
    pub fn is_of_kubernetes(self) -> bool {
        matches!(
            self,
            Self::Service
                | Self::EndpointSlice
                | Self::Pod
                | Self::Namespace
                | Self::Node
                | Self::ServiceAccount
                | Self::Deployment
                | Self::ConfigMap
                | Self::Secret
        )
    }

    /// Whether it is one of Gateway API's.
    pub fn is_of_gateway_api(self) -> bool {
        matches!(
            self,
            Self::GatewayClass
                | Self::ApiGateway
                | Self::HttpRoute
                | Self::GrpcRoute
                | Self::TlsRoute
                | Self::TcpRoute
                | Self::ReferenceGrant
                | Self::BackendTlsPolicy
        )
    }

    /// The versions of its API: one schema in all of them.
    pub(crate) fn versions(self) -> &'static [&'static str] {
        match self {
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => {
                &["v1", "v1beta1"]
            }
            Self::Telemetry => &["v1", "v1alpha1"],
            Self::EndpointSlice => &["v1", "v1beta1"],
            kind if kind.is_of_kubernetes() => &["v1"],
            Self::GatewayClass | Self::ApiGateway | Self::HttpRoute | Self::ReferenceGrant => {
                &["v1", "v1beta1"]
            }
            Self::GrpcRoute | Self::TcpRoute => &["v1", "v1alpha2"],
            Self::TlsRoute => &["v1", "v1alpha3", "v1alpha2"],
            Self::BackendTlsPolicy => &["v1", "v1alpha3"],
            Self::Ingress => &["v1"],
            _ => &["v1", "v1beta1", "v1alpha3"],
        }
    }
}

/// Whether kinds of a group are others than ours, though they have the same names, such as Knative's `Service`; what may be
/// one of our groups misspelt, or an older one, is none of them.
fn is_foreign(group: &str) -> bool {
    let groups = Kind::NAMES.map(|(_, kind)| kind.group());
    group.contains('.')
        && !group.ends_with("istio.io")
        && !group.ends_with("k8s.io")
        && nearest(group, groups.into_iter().filter(|it| !it.is_empty())).is_none()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
