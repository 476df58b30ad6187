//! Whether proxies run on what they were sent.

use std::time::SystemTime;

use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_xds::server::{ProxyStatus, TypeStatus};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use serde_json::{Map, Value, json};

use crate::proxy::{Proxy, Role};

/// The types that `istioctl proxy-status` knows, with its names, and secrets.
const TYPES: [(&str, &str); 5] = [
    ("cluster", CLUSTER),
    ("listener", LISTENER),
    ("route", ROUTE),
    ("endpoint", ENDPOINT),
    ("secret", SECRET),
];

/// A row of `/debug/syncz`, as istiod writes it.
pub(crate) fn row(status: &ProxyStatus, notes: &[String]) -> Value {
    let mut row = Map::new();
    let mut set = |key: &str, value: Value| row.insert(key.to_owned(), value);
    set("proxy", json!(name(&status.node.id)));
    set("node_id", json!(status.node.id));
    if let Ok(proxy) = Proxy::from_node(&status.node) {
        let role = match proxy.role {
            Role::Sidecar => "sidecar",
            Role::Router => "router",
        };
        set("proxy_type", json!(role));
        set("cluster_id", json!(proxy.cluster_id));
    }
    set("istio_version", json!(istio_version(status)));
    if let Some(admin) = metadata(status, "ADMIN_ADDRESS") {
        set("admin", json!(admin));
    }
    set("connected_at", json!(unix_ms(status.connected_at)));
    let mut resources = Map::new();
    for (name, type_url) in TYPES {
        let Some(state) = status.types.get(type_url) else {
            continue;
        };
        set(&format!("{name}_sent"), json!(state.sent_nonce));
        set(&format!("{name}_acked"), json!(state.acked_nonce));
        resources.insert(name.to_owned(), resource(state));
    }
    set("resources", Value::Object(resources));
    if !notes.is_empty() {
        set("notes", json!(notes));
    }
    Value::Object(row)
}

/// `SYNCED`, `STALE`, `ERROR` or `NOT SENT`, as `istioctl proxy-status` calls them.
pub(crate) fn verdict(state: &TypeStatus) -> &'static str {
    match state {
        state if state.sent_nonce.is_empty() => "NOT SENT",
        state if state.last_error.is_some() => "ERROR",
        state if state.sent_nonce != state.acked_nonce => "STALE",
        _ => "SYNCED",
    }
}

/// `NAME.NAMESPACE`, the third part of the id.
fn name(id: &str) -> &str {
    id.split('~').nth(2).unwrap_or(id)
}

/// The version that a proxy says it has: of Istio, otherwise its own.
pub(crate) fn istio_version(status: &ProxyStatus) -> &str {
    let own = match &status.node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version,
        _ => "unknown",
    };
    metadata(status, "ISTIO_VERSION").unwrap_or(own)
}

/// A text of the node's metadata.
fn metadata<'a>(status: &'a ProxyStatus, key: &str) -> Option<&'a str> {
    match status
        .node
        .metadata
        .as_ref()?
        .fields
        .get(key)?
        .kind
        .as_ref()?
    {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn resource(state: &TypeStatus) -> Value {
    json!({
        "status": verdict(state),
        "sent": state.sent_nonce,
        "sentVersion": state.sent_version,
        "acked": state.acked_nonce,
        "ackedVersion": state.acked_version,
        "sentTime": state.sent_at.map(unix_ms),
        "names": state.names,
        "lastError": state.last_error.as_ref().map(|error| error.message.as_str()),
    })
}

fn unix_ms(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}
