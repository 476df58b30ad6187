//! What the configuration is: `/config_dump` and `/clusters`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use periplus_xds::type_url::{self, CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE, SECRET};
use serde_json::{Value, json};

use super::certificates;
use crate::agent::State;
use crate::bootstrap::Bootstrap;
use crate::snapshot::{ChainTls, Cluster, FilterChain, Listener, RouteTable, Service};

/// The layout is Envoy's, the resources are told in short: names, addresses and references.
pub(super) fn config(
    bootstrap: &Bootstrap,
    state: &State,
    bind_errors: &[(String, SocketAddr, String)],
) -> Value {
    let store = &state.store;
    let listeners: Vec<_> = store
        .listeners()
        .iter()
        .map(|(name, slot)| {
            let bind_error = bind_errors.iter().find(|(failed, ..)| failed == name);
            json!({
                "name": name,
                "active_state": slot.active.as_ref().map(|active| listener(&active.built)),
                "warming_state": slot.warming.as_ref().map(|warming| json!({
                    "name": name,
                    "address": warming.spec.address,
                })),
                "error_state": bind_error.map(|(_, address, error)| json!({
                    "details": format!("cannot listen on {address}: {error}"),
                })),
            })
        })
        .collect();
    let warming: Vec<_> = store
        .clusters()
        .iter()
        .filter(|(_, slot)| slot.warming.is_some())
        .map(|(name, _)| json!({"cluster": {"name": name}}))
        .collect();
    let active: Vec<_> = store
        .clusters()
        .values()
        .filter_map(|slot| Some(cluster(&slot.active.as_ref()?.built)))
        .collect();
    let routes: Vec<_> = store.routes().map(|table| routes(table)).collect();
    json!({
        "configs": [
            {
                "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
                "bootstrap": {
                    "node": {"id": bootstrap.node.id, "cluster": bootstrap.node.cluster},
                    "control_plane": bootstrap.control_plane,
                },
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
                "version_info": version(state, LISTENER),
                "dynamic_listeners": listeners,
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
                "version_info": version(state, CLUSTER),
                "dynamic_active_clusters": active,
                "dynamic_warming_clusters": warming,
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
                "version_info": version(state, ROUTE),
                "dynamic_route_configs": routes,
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
                "version_info": version(state, ENDPOINT),
            },
            certificates::secrets(state, version(state, SECRET)),
        ],
        "control_plane": {
            "connected": state.connected,
            "error": state.stream_error,
            "types": PUSH_ORDER.map(|type_url| type_state(state, type_url)),
        },
    })
}

fn version<'a>(state: &'a State, type_url: &str) -> &'a str {
    state
        .store
        .types()
        .get(type_url)
        .map_or("", |known| known.version.as_str())
}

fn type_state(state: &State, type_url: &str) -> Value {
    let known = state
        .store
        .types()
        .get(type_url)
        .cloned()
        .unwrap_or_default();
    let refused = known.refused.map(|(version, rejections)| {
        let details: Vec<_> = rejections.iter().map(ToString::to_string).collect();
        json!({"version_info": version, "details": details})
    });
    json!({
        "type": type_url::short(type_url),
        "type_url": type_url,
        "version_info": known.version,
        "last_updated_unix_ms": known.updated.map(unix_ms),
        "error_state": refused,
    })
}

fn unix_ms(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}

fn listener(listener: &Listener) -> Value {
    json!({
        "name": listener.name,
        "address": listener.address,
        "traffic_direction": format!("{:?}", listener.direction).to_uppercase(),
        "bind_to_port": listener.socket.is_some(),
        "use_original_dst": listener.hands_over,
        "filter_chains": listener
            .chains
            .iter()
            .map(filter_chain)
            .collect::<Vec<_>>(),
        "default_filter_chain": listener.default_chain.as_ref().map(filter_chain),
        "listener_filters": format!("{:?}", listener.inspection.filters),
    })
}

fn filter_chain(chain: &FilterChain) -> Value {
    let tls = chain.tls.as_ref().map(|tls| match tls {
        ChainTls::NotReady => json!("its secrets have not come"),
        ChainTls::Ready(tls) => json!(format!("{tls:?}")),
    });
    json!({
        "filter_chain_match": format!("{:?}", chain.conditions),
        "transport_socket": tls,
        "filters": [filter(&chain.service)],
    })
}

fn filter(service: &Service) -> Value {
    match service {
        Service::Http(manager) => json!({
            "name": "envoy.filters.network.http_connection_manager",
            "stat_prefix": manager.stat_prefix,
            "route_config_name": manager.routes.as_ref().map(|table| &table.name),
            "tracing": manager.tracing.as_ref().map(|tracing| format!("{:?}", tracing.provider)),
        }),
        Service::Tcp(proxy) => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "stat_prefix": proxy.stat_prefix,
            "weighted_clusters": proxy
                .clusters
                .iter()
                .map(|choice| json!({"name": choice.name, "weight": choice.weight}))
                .collect::<Vec<_>>(),
        }),
    }
}

fn cluster(cluster: &Cluster) -> Value {
    json!({
        "cluster": {
            "name": cluster.name,
            "alt_stat_name": cluster.observability_name,
            "lb_policy": format!("{:?}", cluster.balancing),
            "endpoints": cluster
                .endpoints
                .iter()
                .map(|endpoint| json!({"address": endpoint.address, "weight": endpoint.weight}))
                .collect::<Vec<_>>(),
        },
    })
}

fn routes(table: &RouteTable) -> Value {
    let hosts: Vec<_> = table
        .virtual_hosts
        .iter()
        .map(|host| {
            let routes: Vec<_> = host
                .routes
                .iter()
                .map(|route| {
                    json!({
                        "name": route.name,
                        "match": format!("{:?}", route.path),
                        "headers": route.headers.iter().map(|h| format!("{h:?}")).collect::<Vec<_>>(),
                        "action": format!("{:?}", route.action),
                        "operation": route.decorator.as_ref().map(|decorator| &decorator.operation),
                    })
                })
                .collect();
            json!({"name": host.name, "routes": routes})
        })
        .collect();
    json!({"route_config": {"name": table.name, "virtual_hosts": hosts}})
}

/// Envoy's `/clusters`: one fact a line.
pub(super) fn clusters_text(state: &State) -> String {
    let mut text = String::new();
    for (name, slot) in state.store.clusters() {
        let Some(active) = &slot.active else {
            continue;
        };
        let cluster = &active.built;
        let mut line = |fact: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}::{fact}");
        };
        line(format!(
            "observability_name::{}",
            cluster.observability_name
        ));
        for (priority, limits) in [
            ("default", cluster.limits.default),
            ("high", cluster.limits.high),
        ] {
            for (what, limit) in [
                ("connections", limits.max_connections),
                ("pending_requests", limits.max_pending_requests),
                ("requests", limits.max_requests),
            ] {
                line(format!("{priority}_priority::max_{what}::{limit}"));
            }
        }
        line("added_via_api::true".to_owned());
        let members = cluster.members();
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            let address = endpoint.address;
            let locality = cluster.localities.get(endpoint.locality);
            let locality = locality.cloned().unwrap_or_default();
            let flags = members.host(index).flags_text(endpoint);
            line(format!("{address}::hostname::{}", endpoint.hostname));
            line(format!("{address}::health_flags::{flags}"));
            line(format!("{address}::weight::{}", endpoint.weight));
            line(format!("{address}::region::{}", locality.region));
            line(format!("{address}::zone::{}", locality.zone));
            line(format!("{address}::sub_zone::{}", locality.sub_zone));
            line(format!("{address}::priority::{}", endpoint.priority));
        }
    }
    text
}
