//! The tables: names of cases are those of the conformance suite, where there is one.

use super::backend::Speaks::{self, Bytes, H2c, Http, Https};
use super::world::Proxy::{self, Consumer, Gateway, Ingress, OtherTcp, Producer, Second, Tcp};

/// The services, and their namespaces.
pub(super) const SERVICES: [(&str, &str, Speaks); 22] = [
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
    ("mesh-match", "infra", Http),
    ("mesh-query", "infra", Http),
    ("mesh-more", "infra", Http),
    ("mesh-grpc", "infra", Http),
    ("san-dns", "infra", Https),
    ("san-dns-mismatch", "infra", Https),
    ("san-uri", "infra", Https),
    ("san-uri-mismatch", "infra", Https),
    ("strange", "infra", Https),
];

/// Those of Kubernetes: how they get an address, and what their port says.
pub(super) const KUBERNETES: [(&str, &str, &str, Speaks); 4] = [
    ("h2c", "10.96.0.1", ", appProtocol: kubernetes.io/h2c", H2c),
    ("ws", "10.96.0.2", ", appProtocol: kubernetes.io/ws", Http),
    ("manual", "10.96.0.3", "", Http),
    ("headless", "None", "", Http),
];

pub(super) const RESOURCES: [(&str, &str); 4] = [
    ("gateway-api.yaml", include_str!("resources.yaml")),
    ("more.yaml", include_str!("more.yaml")),
    ("mesh.yaml", include_str!("mesh.yaml")),
    ("connections.yaml", include_str!("connections.yaml")),
];

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
pub(super) const NAMES: [(&str, &str); 8] = [
    // TLSRouteSimpleSameNamespace, TLSRouteHostnameIntersection
    ("a.tls.test", "bytes-a"),
    ("b.tls.test", "bytes-b"),
    ("other.tls.test", "bytes-b"),
    ("tls.test", ""),
    // TLSRouteInvalidBackendRefNonexistent
    ("nowhere.tls.test", ""),
    // TLSRouteInvalidReferenceGrant, TLSRouteInvalidBackendRefUnknownKind, TLSRouteInvalidNoMatchingListenerHostname
    ("not-granted.tls.test", ""),
    ("unknown-kind.tls.test", ""),
    ("www.nomatch.com", ""),
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
    // MeshGRPCRouteWeight
    (
        Producer,
        "mesh-grpc.infra:8080/a.Shop/Buy",
        &[("v1", 70), ("v2", 30), ("v3", 0)],
    ),
    // GRPCRouteWeight, GRPCRouteNamedRule
    (
        Gateway,
        "grpc-weight.test/a.Shop/Buy",
        &[("v1", 70), ("v2", 30), ("v3", 0)],
    ),
    // TCPRouteWeightedRouting
    (OtherTcp, "any.test/", &[("v1", 70), ("v2", 30), ("v3", 0)]),
];
