//! The type URLs of the resources, and the order in which they are pushed.

/// `envoy.config.cluster.v3.Cluster` (CDS).
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// `envoy.config.listener.v3.Listener` (LDS).
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `envoy.config.route.v3.RouteConfiguration` (RDS).
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// `istio.networking.nds.v1.NameTable` (NDS), of Istio: one resource without a name.
pub const NAME_TABLE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";

/// The order in which changed types are sent, so that what is referred to arrives before what refers to it.
pub const PUSH_ORDER: [&str; 5] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET];

/// The place of a type in [`PUSH_ORDER`]; types that are not in it come last.
pub fn push_rank(type_url: &str) -> usize {
    PUSH_ORDER
        .iter()
        .position(|known| *known == type_url)
        .unwrap_or(PUSH_ORDER.len())
}

/// Whether each response of this type carries its whole state, so that what is missing is removed, and
/// whether a first subscription without names means all of them: true for clusters and listeners, and for the table of
/// names.
pub fn is_full_state(type_url: &str) -> bool {
    matches!(type_url, CLUSTER | LISTENER | NAME_TABLE)
}

/// A short name for logs: `CDS`, `EDS`, `LDS`, `RDS`, `SDS`, `NDS`, or the type URL itself.
pub fn short(type_url: &str) -> &str {
    match type_url {
        CLUSTER => "CDS",
        ENDPOINT => "EDS",
        LISTENER => "LDS",
        ROUTE => "RDS",
        SECRET => "SDS",
        NAME_TABLE => "NDS",
        other => other,
    }
}

/// What metrics call a type; those that nobody knows have one name.
pub(crate) fn label(type_url: &str) -> &'static str {
    match type_url {
        CLUSTER => "cds",
        ENDPOINT => "eds",
        LISTENER => "lds",
        ROUTE => "rds",
        SECRET => "sds",
        NAME_TABLE => "nds",
        _ => "other",
    }
}
