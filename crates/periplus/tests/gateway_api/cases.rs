//! The tables: names of cases are those of the conformance suite, where there is one.

use super::backend::Speaks::{self, Bytes, Http, Https};
use super::world::Proxy::{self, Consumer, Gateway, Ingress, Producer, Second, Tcp};

/// The services, and their namespaces.
pub(super) const SERVICES: [(&str, &str, Speaks); 13] = [
    ("v1", "infra", Http),
    ("v2", "infra", Http),
    ("v3", "infra", Http),
    ("web", "web", Http),
    ("shut", "web", Http),
    ("echo", "infra", Http),
    ("front", "infra", Http),
    ("secure", "infra", Https),
    ("stranger", "infra", Https),
    ("unsure", "infra", Https),
    ("settled", "infra", Https),
    ("bytes-a", "infra", Bytes),
    ("bytes-b", "infra", Bytes),
];

pub(super) const RESOURCES: &str = include_str!("resources.yaml");

/// Requests and what becomes of them.
pub(super) const TABLES: [(Proxy, &str); 6] = [
    (Gateway, include_str!("gateway.txt")),
    (Second, include_str!("second.txt")),
    (Producer, include_str!("producer.txt")),
    (Consumer, include_str!("consumer.txt")),
    (Ingress, include_str!("ingress.txt")),
    // TCPRouteMultipleRoutesAttachment: the older one has the listener.
    (Tcp, "GET any.test/ => v2"),
];

/// Who is heard by a client that asks for a name by TLS; nobody at all if there is no route.
pub(super) const NAMES: [(&str, &str); 5] = [
    // TLSRouteSimpleSameNamespace, TLSRouteHostnameIntersection
    ("a.tls.test", "bytes-a"),
    ("b.tls.test", "bytes-b"),
    ("other.tls.test", "bytes-b"),
    ("tls.test", ""),
    // TLSRouteInvalidBackendRefNonexistent
    ("nowhere.tls.test", ""),
];

/// Backends, and what they get in percent.
type Shares = &'static [(&'static str, usize)];

/// Who gets which share of requests.
pub(super) const SHARES: &[(Proxy, &str, Shares)] = &[
    // HTTPRouteWeight
    (
        Gateway,
        "weight.test/",
        &[("v1", 70), ("v2", 30), ("v3", 0)],
    ),
    // Trap 9: what a backend that there is not would get is 500, not left to the others.
    (Gateway, "partly.test/", &[("v1", 60), ("500", 40)]),
    // MeshHTTPRouteWeight
    (Producer, "echo.infra:8080/split", &[("v1", 90), ("v2", 10)]),
];

/// The status of resources: where to look, and what is there.
pub(super) const STATUSES: &[(&str, &str, &str)] = &[
    (
        "Gateway same-namespace",
        "/conditions",
        "Accepted=True/Accepted Programmed=True/Programmed",
    ),
    (
        "Gateway same-namespace",
        "/listeners/0/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed",
    ),
    (
        "Gateway same-namespace",
        "/listeners/0/supportedKinds",
        r#"[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute"},{"group":"gateway.networking.k8s.io","kind":"GRPCRoute"}]"#,
    ),
    // HTTPRouteHostnameIntersection: those that are not accepted do not count.
    ("Gateway hosts", "/listeners/0/attachedRoutes", "2"),
    ("Gateway hosts", "/listeners/1/attachedRoutes", "1"),
    // A route counts once, whatever number of its parents mean the listener.
    ("Gateway hosts", "/listeners/2/attachedRoutes", "1"),
    (
        "HTTPRoute no-intersecting-hosts",
        "/parents/0/conditions",
        "Accepted=False/NoMatchingListenerHostname ResolvedRefs=True/ResolvedRefs",
    ),
    // GatewayInvalidRouteKind
    (
        "Gateway kinds",
        "/listeners/0/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=False/InvalidRouteKinds Programmed=False/Invalid",
    ),
    (
        "Gateway kinds",
        "/listeners/1/supportedKinds",
        r#"[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute"}]"#,
    ),
    // GatewayListenerUnsupportedProtocol
    (
        "Gateway protocols",
        "/conditions",
        "Accepted=True/ListenersNotValid Programmed=True/Programmed",
    ),
    (
        "Gateway protocols",
        "/listeners/0/conditions",
        "Accepted=False/UnsupportedProtocol Conflicted=False/NoConflicts ResolvedRefs=True/ResolvedRefs Programmed=False/Invalid",
    ),
    (
        "Gateway protocols",
        "/listeners/2/conditions",
        "Accepted=True/Accepted Conflicted=True/ProtocolConflict ResolvedRefs=True/ResolvedRefs Programmed=False/Invalid",
    ),
    (
        "Gateway addresses",
        "/conditions",
        "Accepted=False/UnsupportedAddress Programmed=False/Invalid",
    ),
    (
        "HTTPRoute unknown-kind",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/InvalidKind",
    ),
    (
        "HTTPRoute no-service",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound",
    ),
    (
        "HTTPRoute not-granted",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/RefNotPermitted",
    ),
    (
        "HTTPRoute dotted",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound",
    ),
    (
        "HTTPRoute dotted",
        "/parents/1/conditions",
        "Accepted=False/NoMatchingParent ResolvedRefs=False/BackendNotFound",
    ),
    (
        "HTTPRoute private",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound",
    ),
    (
        "BackendTLSPolicy dotted",
        "/conditions",
        "Accepted=False/TargetNotFound ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "HTTPRoute granted",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs",
    ),
    // HTTPRouteInvalidParentRef…: SectionName, Port, CrossNamespace, and one that there is not.
    (
        "HTTPRoute strays",
        "/parents/0/conditions",
        "Accepted=False/NoMatchingParent ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "HTTPRoute strays",
        "/parents/1/conditions",
        "Accepted=False/NoMatchingParent ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "HTTPRoute strays",
        "/parents/2/conditions",
        "Accepted=False/NoMatchingParent ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "HTTPRoute cross-namespace",
        "/parents/0/conditions",
        "Accepted=False/NotAllowedByListeners ResolvedRefs=True/ResolvedRefs",
    ),
    // HTTPRouteObservedGenerationBump
    (
        "HTTPRoute matching",
        "/parents/0/conditions/0/observedGeneration",
        "7",
    ),
    ("GatewayClass ours", "/conditions", "Accepted=True/Accepted"),
    // TCPRouteInvalidNonTCPListener
    (
        "TCPRoute no-listener",
        "/parents/0/conditions",
        "Accepted=False/NotAllowedByListeners ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "TLSRoute nowhere",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound",
    ),
    ("Gateway connections", "/listeners/0/attachedRoutes", "3"),
    // BackendTLSPolicy, …ConflictResolution, …InvalidCACertificateRef
    (
        "BackendTLSPolicy secure",
        "/conditions",
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "BackendTLSPolicy secure-again",
        "/conditions",
        "Accepted=False/Conflicted ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "BackendTLSPolicy unsure",
        "/conditions",
        "Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef",
    ),
];
