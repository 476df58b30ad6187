//! What is said about resources.

/// A route that is as it should be.
const OK: &str = "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs";

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
    ("Gateway connections", "/listeners/0/attachedRoutes", "5"),
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
    ("Gateway connections", "/listeners/2/attachedRoutes", "2"),
    // HTTPRouteMultipleGateways
    ("HTTPRoute shared", "/parents/0/conditions", OK),
    ("HTTPRoute shared", "/parents/1/conditions", OK),
    // HTTPRouteDisallowedKind
    (
        "HTTPRoute disallowed-kind",
        "/parents/0/conditions",
        "Accepted=False/NotAllowedByListeners ResolvedRefs=True/ResolvedRefs",
    ),
    // TCPRouteParentRefAttachAll, TCPRouteParentRefPortAndSectionName
    ("TCPRoute z-all", "/parents/0/conditions", OK),
    ("TCPRoute weighted", "/parents/0/conditions", OK),
    (
        "TCPRoute port-and-section",
        "/parents/0/conditions",
        "Accepted=False/NoMatchingParent ResolvedRefs=True/ResolvedRefs",
    ),
    // TCPRouteInvalidBackendRefNonexistent, TCPRouteInvalidCrossNamespaceBackendRef, TCPRouteReferenceGrant
    (
        "TCPRoute z-nonexistent",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound",
    ),
    (
        "TCPRoute z-cross-namespace",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/RefNotPermitted",
    ),
    ("TCPRoute z-granted", "/parents/0/conditions", OK),
    // TLSRouteInvalidReferenceGrant, TLSRouteInvalidBackendRefUnknownKind
    (
        "TLSRoute not-granted",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/RefNotPermitted",
    ),
    (
        "TLSRoute unknown-kind",
        "/parents/0/conditions",
        "Accepted=True/Accepted ResolvedRefs=False/InvalidKind",
    ),
    // TLSRouteInvalidNoMatchingListener, TLSRouteInvalidNoMatchingListenerHostname
    (
        "TLSRoute no-listener",
        "/parents/0/conditions",
        "Accepted=False/NotAllowedByListeners ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "TLSRoute no-listener",
        "/parents/1/conditions",
        "Accepted=False/NoMatchingParent ResolvedRefs=True/ResolvedRefs",
    ),
    (
        "TLSRoute no-hostname",
        "/parents/0/conditions",
        "Accepted=False/NoMatchingListenerHostname ResolvedRefs=True/ResolvedRefs",
    ),
    // TLSRouteListenerPassthroughSupportedKinds, TLSRouteListenerTerminateSupportedKinds
    (
        "Gateway tls-kinds",
        "/listeners/0/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=False/InvalidRouteKinds Programmed=False/Invalid",
    ),
    (
        "Gateway tls-kinds",
        "/listeners/0/supportedKinds",
        r#"[{"group":"gateway.networking.k8s.io","kind":"TLSRoute"}]"#,
    ),
    (
        "Gateway tls-kinds",
        "/listeners/1/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed",
    ),
    (
        "Gateway tls-kinds",
        "/listeners/1/supportedKinds",
        r#"[{"group":"gateway.networking.k8s.io","kind":"TLSRoute"}]"#,
    ),
    // BackendTLSPolicyInvalidKind
    (
        "BackendTLSPolicy invalid-kind",
        "/conditions",
        "Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidKind",
    ),
    // GatewayClassObservedGenerationBump, GatewayObservedGenerationBump, BackendTLSPolicyObservedGenerationBump, and
    // of each kind of route
    ("GatewayClass ours", "/conditions/0/observedGeneration", "2"),
    ("Gateway tls-kinds", "/conditions/0/observedGeneration", "6"),
    (
        "Gateway tls-kinds",
        "/listeners/1/conditions/3/observedGeneration",
        "6",
    ),
    (
        "GRPCRoute grpc-weight",
        "/parents/0/conditions/1/observedGeneration",
        "3",
    ),
    (
        "TCPRoute weighted",
        "/parents/0/conditions/0/observedGeneration",
        "4",
    ),
    (
        "TLSRoute not-granted",
        "/parents/0/conditions/1/observedGeneration",
        "5",
    ),
    (
        "BackendTLSPolicy invalid-kind",
        "/conditions/0/observedGeneration",
        "8",
    ),
];
