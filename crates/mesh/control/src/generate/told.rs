//! What Telemetry resources say about metrics, for proxies that count them themselves, and about the logs of
//! connections and listeners.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::istio_peers;
use periplus_xds::istio_stats::{MetricConfig, PluginConfig};
use prost::{Message, Name as _};

use super::access_log::{access_logs, listener_logs};
use super::proto::any;
use crate::index::{Index, Side};
use crate::proxy::{Proxy, Role};

/// The name of the filters that Istio's metrics are configured by.
pub(super) const STATS: &str = "istio.stats";

/// What is wanted of the metrics of a side; nothing of those of a proxy that has none, such as a plain Envoy.
pub(super) fn metrics(index: &Index, proxy: &Proxy, side: Side) -> Option<Any> {
    if !proxy.counts_metrics {
        return None;
    }
    let metrics: Vec<_> = index
        .metrics_of(proxy, side)
        .into_iter()
        .map(|(name, wanted)| {
            let tags = wanted.tags.iter();
            let set = tags.clone().filter_map(|(name, value)| {
                let value = (*value)?.clone();
                Some((name.to_string(), value))
            });
            let removed = tags.filter(|(_, value)| value.is_none());
            MetricConfig {
                dimensions: set.collect(),
                name: name.to_owned(),
                tags_to_remove: removed.map(|(name, _)| name.to_string()).collect(),
                drop: wanted.is_disabled,
            }
        })
        .filter(|config| {
            config.drop || !config.dimensions.is_empty() || !config.tags_to_remove.is_empty()
        })
        .collect();
    let config = PluginConfig {
        // Clients may call a service what they want; at a client of its own, a sidecar, nothing else may be known.
        disable_host_header_fallback: proxy.role != Role::Sidecar || side == Side::Server,
        metrics,
        ..PluginConfig::default()
    };
    (config != PluginConfig::default()).then(|| config.packed())
}

/// Has listeners, and what passes connections on, tell of connections.
pub(super) fn add(index: &Index, proxy: &Proxy, listeners: &mut [Listener]) {
    for listener in listeners {
        // What a gateway serves it passes on, as in Istio.
        let is_inbound = listener.traffic_direction() == TrafficDirection::Inbound;
        let side = match is_inbound && proxy.role == Role::Sidecar {
            true => Side::Server,
            false => Side::Client,
        };
        listener.access_log = listener_logs(index, proxy, side);
        let chains = listener.filter_chains.iter_mut();
        for chain in chains.chain(listener.default_filter_chain.as_mut()) {
            add_to_chain(index, proxy, side, chain);
        }
    }
}

fn add_to_chain(index: &Index, proxy: &Proxy, side: Side, chain: &mut FilterChain) {
    let last = chain.filters.last_mut();
    let Some(filter::ConfigType::TypedConfig(config)) = last.and_then(|it| it.config_type.as_mut())
    else {
        return;
    };
    if config.type_url != TcpProxy::type_url() {
        return;
    }
    let logs = access_logs(index, proxy, side);
    if !logs.is_empty()
        && let Ok(mut made) = TcpProxy::decode(config.value.as_slice())
    {
        made.access_log = logs;
        *config = any(&made);
    }
    if side == Side::Server && proxy.exchanges_peers() {
        // Before all others, as in Istio.
        let exchange = Filter {
            name: istio_peers::FILTER.to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(
                istio_peers::of_connections(),
            )),
        };
        chain.filters.insert(0, exchange);
    }
    if let Some(metrics) = metrics(index, proxy, side) {
        let at = chain.filters.len() - 1;
        let stats = Filter {
            name: STATS.to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(metrics)),
        };
        chain.filters.insert(at, stats);
    }
}
