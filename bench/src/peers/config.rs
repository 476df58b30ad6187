//! The configuration of each program.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::process::free_address;
use super::{Peer, Surroundings};

/// The node that a proxy is.
pub(super) const NODE: &str = "sidecar~127.0.0.1~bench-v1.default~default.svc.cluster.local";

/// The bootstrap file of our proxy.
pub(super) fn bootstrap(control: SocketAddr) -> anyhow::Result<String> {
    bootstrap_of(NODE, control)
}

/// The same of a node whose requests are counted in Istio's metrics.
pub(super) fn counting(bootstrap: &str) -> anyhow::Result<String> {
    let mut bootstrap: Value = serde_json::from_str(bootstrap)?;
    bootstrap["node"]["metadata"]["NAMESPACE"] = "default".into();
    Ok(bootstrap.to_string())
}

/// The bootstrap file of a node, for ours and for Envoy. It leaves Istio's metrics out, which Envoy does not have.
pub(super) fn bootstrap_of(id: &str, control: SocketAddr) -> anyhow::Result<String> {
    let ads = json!({
        "api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]
    });
    let from_ads = json!({"ads": {}, "resource_api_version": "V3"});
    Ok(json!({
        "node": {
            "id": id,
            "cluster": "bench.default",
            "metadata": {
                "NAME": "bench-v1", "WORKLOAD_NAME": "bench-v1",
                "LABELS": {"app": "bench", "version": "v1"}, "INTERCEPTION_MODE": "NONE"
            }
        },
        "admin": {"address": socket_address(free_address()?)},
        "dynamic_resources": {"ads_config": ads, "lds_config": from_ads, "cds_config": from_ads},
        "static_resources": {"clusters": [{
            "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}
                }
            },
            "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket_address(control)}}
            ]}]}
        }]}
    })
    .to_string())
}

/// The mesh configuration for spans in this format.
pub(super) fn mesh_config(provider: &str) -> String {
    let how = match provider {
        "zipkin" => "zipkin: {service: collector.default.svc.cluster.local, port: 9411}",
        _ => {
            "opentelemetry: {service: collector.default.svc.cluster.local, port: 9411, \
             http: {path: /v1/traces, timeout: 5s}}"
        }
    };
    format!(
        "extensionProviders:\n- name: {provider}\n  {how}\n\
         defaultProviders:\n  tracing: [{provider}]\n"
    )
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// Envoy at its leanest: a static configuration with nothing but the router, so that the
/// comparison favours it.
pub(super) fn envoy(peer: Peer, address: SocketAddr, around: &Surroundings) -> Value {
    let kind = |name: &str| format!("type.googleapis.com/{name}");
    let cluster = |name: &str, to: SocketAddr, http2: bool| {
        let mut cluster = json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000
            }]},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket_address(to)}}
            ]}]}
        });
        if http2 {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": kind("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
                    "explicit_http_config": {"http2_protocol_options": {}}
                }
            });
        }
        cluster
    };
    let backend = match peer.is_grpc() {
        true => cluster("backend", around.echo, true),
        false => cluster("backend", around.origin, false),
    };
    let mut clusters = vec![backend];
    let codec = if peer.is_grpc() { "HTTP2" } else { "HTTP1" };
    let mut manager = json!({
        "@type": kind("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench", "codec_type": codec,
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "15s"}}
        ]}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": kind("envoy.extensions.filters.http.router.v3.Router")}
        }]
    });
    let provider = match peer {
        Peer::EnvoyZipkin | Peer::EnvoyGrpc => {
            clusters.push(cluster("sink", around.sink.zipkin, false));
            Some(json!({
                "name": "envoy.tracers.zipkin",
                "typed_config": {
                    "@type": kind("envoy.config.trace.v3.ZipkinConfig"),
                    "collector_cluster": "sink", "collector_endpoint": "/api/v2/spans",
                    "collector_endpoint_version": "HTTP_JSON",
                    "trace_id_128bit": true, "shared_span_context": false
                }
            }))
        }
        Peer::EnvoyOtlp => {
            clusters.push(cluster("sink", around.sink.otlp_grpc, true));
            Some(json!({
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": kind("envoy.config.trace.v3.OpenTelemetryConfig"),
                    "service_name": "bench",
                    "grpc_service": {"envoy_grpc": {"cluster_name": "sink"}, "timeout": "5s"}
                }
            }))
        }
        _ => None,
    };
    if let Some(provider) = provider {
        manager["tracing"] = json!({
            "random_sampling": {"value": 100}, "overall_sampling": {"value": 100},
            "client_sampling": {"value": 100}, "provider": provider
        });
    }
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{
                "name": "l", "traffic_direction": "OUTBOUND", "address": socket_address(address),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager", "typed_config": manager
                }]}]
            }],
            "clusters": clusters
        }
    })
}

/// HAProxy, in HTTP mode or as a relay.
pub(super) fn haproxy(peer: Peer, address: SocketAddr, origin: SocketAddr) -> String {
    let (mode, reuse) = match peer {
        Peer::HaproxyTcp => ("tcp", ""),
        _ => ("http", "http-reuse always"),
    };
    format!(
        "global
  nbthread 1
  maxconn 9500
defaults
  mode {mode}
  timeout connect 2s
  timeout client 600s
  timeout server 600s
frontend f
  bind {address}
  default_backend b
backend b
  {reuse}
  server s1 {origin} pool-max-conn 1000
"
    )
}
