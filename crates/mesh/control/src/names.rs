//! The names that Istio gives to xDS resources. Users meet them in metrics and on spans.

use std::net::IpAddr;

/// The route configuration of listeners for requests in absolute form.
pub(crate) const HTTP_PROXY: &str = "http_proxy";

/// The label of workloads whose proxies speak mutual TLS (`istio`), or do not.
pub(crate) const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// `outbound|9080|v1|reviews.default.svc.cluster.local`; all workloads have the empty subset.
pub(crate) fn outbound_cluster(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// The port of the service that a cluster is one of.
pub(crate) fn port_of(cluster: &str) -> Option<u16> {
    let (port, _) = cluster.strip_prefix("outbound|")?.split_once('|')?;
    port.parse().ok()
}

/// The service that a cluster is one of.
pub(crate) fn service_of(cluster: &str) -> Option<&str> {
    let (_, host) = cluster.strip_prefix("outbound|")?.rsplit_once('|')?;
    Some(host)
}

/// `outbound_.9080_.v1_.reviews.default.svc.cluster.local`: the server name of TLS between proxies.
pub(crate) fn sni(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// `inbound|9080||`
pub(crate) fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// `inbound|http|9080`
pub(crate) fn inbound_virtual_host(port: u16) -> String {
    format!("inbound|http|{port}")
}

/// `inbound_0.0.0.0_9080;`
pub(crate) fn inbound_stat_prefix(port: u16) -> String {
    format!("inbound_0.0.0.0_{port};")
}

/// The cluster of connections that go where their clients wanted to go.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";

/// The cluster of requests that go where DNS says that their host is.
pub(crate) const ANY_BY_NAME: &str = "AllowAnyDynamicDNSCluster";

/// The virtual host and the route of those, where nobody describes that host.
pub(crate) const ANY_BY_NAME_ROUTE: &str = "allow_any_dynamic_dns";

/// The cluster of those that go nowhere.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";

/// The cluster of connections to the workload on ports that no service has.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// `http.8080`
pub(crate) fn gateway_routes(port: u16) -> String {
    format!("http.{port}")
}

/// `https.443.https.shop-gateway.shop`: each server that ends TLS has routes of its own.
pub(crate) fn secure_gateway_routes(
    (port, server): (u16, &str),
    (gateway, namespace): (&str, &str),
) -> String {
    format!("https.{port}.{server}.{gateway}.{namespace}")
}

/// `kubernetes://shop-cert`: the Secret of the proxy's own namespace; `kubernetes-gateway://shop/cert` is one that
/// Gateway API's references lead to.
pub(crate) fn secret(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        None => format!("kubernetes://{name}"),
        Some(namespace) => format!("kubernetes-gateway://{namespace}/{name}"),
    }
}

/// What the names of secrets begin with that are in files.
pub(crate) const OF_FILES: &str = "file-";

/// `file-cert:/certs/tls.crt~/certs/tls.key`
pub(crate) fn secret_of_files(certificate: &str, key: &str) -> String {
    format!("{OF_FILES}cert:{certificate}~{key}")
}

/// `file-root:/certs/ca.crt`
pub(crate) fn secret_of_authorities(path: &str) -> String {
    format!("{OF_FILES}root:{path}")
}

/// `0.0.0.0_8080`
pub(crate) fn listener(bind: IpAddr, port: u16) -> String {
    format!("{bind}_{port}")
}

/// `outbound_0.0.0.0_8080;`: the semicolon ends the prefix for whoever cuts it out of a metric.
pub(crate) fn stat_prefix(direction: &str, bind: IpAddr, port: u16) -> String {
    format!("{direction}_{bind}_{port};")
}

/// A cluster's name in metrics and on spans, ended by a semicolon as above.
pub(crate) fn alt_stat_name(cluster: &str) -> String {
    format!("{cluster};")
}

/// `reviews.default.svc.cluster.local:9080`
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
