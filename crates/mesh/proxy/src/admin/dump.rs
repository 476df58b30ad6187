//! What the configuration is: `/config_dump`, in Envoy's form.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::type_url::{self, CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE, SECRET};
use regex::Regex;
use serde_json::{Map, Value as Json, json};

use super::{certificates, protobuf};
use crate::agent::State;
use crate::bootstrap::Bootstrap;
use crate::tls::rfc3339;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// One of the lists, each of whose elements is an answer of its own.
    resource: Option<String>,
    /// The fields that are shown.
    mask: Vec<Vec<String>>,
    name: Option<Regex>,
    include_eds: bool,
}

/// The lists of a dump: the field, what one element is called in protobuf, and where it has its name.
const LISTS: [(&str, &str, &str); 9] = [
    (
        "dynamic_listeners",
        "ListenersConfigDump.DynamicListener",
        "/name",
    ),
    (
        "dynamic_active_clusters",
        "ClustersConfigDump.DynamicCluster",
        "/cluster/name",
    ),
    (
        "dynamic_warming_clusters",
        "ClustersConfigDump.DynamicCluster",
        "/cluster/name",
    ),
    (
        "dynamic_route_configs",
        "RoutesConfigDump.DynamicRouteConfig",
        "/route_config/name",
    ),
    (
        "dynamic_endpoint_configs",
        "EndpointsConfigDump.DynamicEndpointConfig",
        "/endpoint_config/cluster_name",
    ),
    ("static_secrets", "SecretsConfigDump.StaticSecret", "/name"),
    (
        "dynamic_active_secrets",
        "SecretsConfigDump.DynamicSecret",
        "/name",
    ),
    (
        "dynamic_warming_secrets",
        "SecretsConfigDump.DynamicSecret",
        "/name",
    ),
    ("bootstrap", "BootstrapConfigDump", "/node/id"),
];

impl Wanted {
    pub(super) fn of(query: &HashMap<String, String>) -> Result<Self, (StatusCode, String)> {
        let name = query.get("name_regex").map(|name| Regex::new(name));
        let name = name
            .transpose()
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("invalid regex: {error}\n")))?;
        let path = |path: &str| path.split('.').map(str::to_owned).collect();
        let mask = query.get("mask").map_or("", String::as_str);
        let resource = query.get("resource").cloned();
        if let Some(resource) = &resource
            && !LISTS.iter().any(|(list, ..)| list == resource)
        {
            let message = format!("{resource} not found in config dump\n");
            return Err((StatusCode::NOT_FOUND, message));
        }
        Ok(Self {
            include_eds: query.contains_key("include_eds")
                || resource.as_deref() == Some("dynamic_endpoint_configs"),
            resource,
            mask: mask
                .split(',')
                .filter(|path| !path.is_empty())
                .map(path)
                .collect(),
            name,
        })
    }

    /// What is left of the whole.
    fn select(&self, mut configs: Vec<Json>) -> Vec<Json> {
        for config in &mut configs {
            for (list, _, name) in LISTS {
                let Some(elements) = config.get_mut(list).and_then(Json::as_array_mut) else {
                    continue;
                };
                elements.retain(|element| {
                    let name = element.pointer(name).and_then(Json::as_str);
                    let is_match = |regex: &Regex| regex.is_match(name.unwrap_or_default());
                    self.name.as_ref().is_none_or(is_match)
                });
            }
        }
        if let Some(resource) = &self.resource {
            configs = self.elements(configs, resource);
        }
        if !self.mask.is_empty() {
            configs
                .iter_mut()
                .for_each(|config| *config = self.masked(config));
        }
        configs
    }

    fn elements(&self, configs: Vec<Json>, resource: &str) -> Vec<Json> {
        let mut found = Vec::new();
        for mut config in configs {
            let Some(list) = config.get_mut(resource).map(Json::take) else {
                continue;
            };
            let of = LISTS.iter().find(|(list, ..)| *list == resource);
            let of = of.map_or("", |(_, of, _)| *of);
            let elements = match list {
                Json::Array(elements) => elements,
                one => vec![one],
            };
            for element in elements {
                let kind = format!("type.googleapis.com/envoy.admin.v3.{of}");
                let mut all = Map::from_iter([("@type".to_owned(), kind.into())]);
                if let Json::Object(fields) = element {
                    all.extend(fields);
                }
                found.push(Json::Object(all));
            }
        }
        found
    }

    fn masked(&self, config: &Json) -> Json {
        let mut left = Map::new();
        if let Some(kind) = config.get("@type") {
            left.insert("@type".to_owned(), kind.clone());
        }
        let mut left = Json::Object(left);
        for path in &self.mask {
            keep(config, path, &mut left);
        }
        left
    }
}

/// Takes over the field at a path; a field of a list is that of each element.
fn keep(from: &Json, path: &[String], to: &mut Json) {
    let Some((name, rest)) = path.split_first() else {
        *to = from.clone();
        return;
    };
    match (from, &mut *to) {
        (Json::Object(from), Json::Object(to)) => {
            let Some(field) = from.get(name) else {
                return;
            };
            let empty = match field {
                Json::Array(elements) => Json::Array(vec![json!({}); elements.len()]),
                _ => json!({}),
            };
            keep(field, rest, to.entry(name.clone()).or_insert(empty));
        }
        (Json::Array(from), Json::Array(to)) => {
            for (from, to) in from.iter().zip(to) {
                keep(from, path, to);
            }
        }
        _ => {}
    }
}

/// All that is asked for.
pub(super) fn config(
    bootstrap: &Bootstrap,
    state: &State,
    bind_errors: &[(String, SocketAddr, String)],
    wanted: &Wanted,
) -> Json {
    let started = json!(moment(state.started));
    let mut configs = vec![
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": bootstrap_of(bootstrap),
            "last_updated": started,
        }),
        clusters(state),
    ];
    if wanted.include_eds {
        configs.push(json!({
            "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
            "dynamic_endpoint_configs": resources(state, ENDPOINT, "endpoint_config"),
        }));
    }
    configs.extend([
        listeners(state, bind_errors),
        json!({"@type": "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump"}),
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
            "dynamic_route_configs": resources(state, ROUTE, "route_config"),
        }),
        certificates::secrets(state, version(state, SECRET)),
    ]);
    let configs = wanted.select(configs);
    if wanted.resource.is_some() || !wanted.mask.is_empty() {
        return json!({"configs": configs});
    }
    json!({
        "configs": configs,
        "control_plane": {
            "connected": state.connected,
            "error": state.stream_error,
            "secret_servers": certificates::servers(state),
            "types": PUSH_ORDER.map(|type_url| type_state(state, type_url)),
        },
    })
}

fn bootstrap_of(bootstrap: &Bootstrap) -> Json {
    let admin = bootstrap
        .admin
        .map(|admin| json!({"address": socket(admin)}));
    let mut shown = json!({
        "node": protobuf::message("envoy.config.core.v3.Node", &bootstrap.node),
        "dynamic_resources": {"ads_config": {"api_type": match bootstrap.form {
            periplus_xds::client::Form::StateOfTheWorld => "GRPC",
            periplus_xds::client::Form::Delta => "DELTA_GRPC",
        }}},
    });
    if let Some(admin) = admin {
        shown["admin"] = admin;
    }
    shown
}

/// An address as Envoy's `Address` is in JSON.
pub(super) fn socket(address: SocketAddr) -> Json {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn clusters(state: &State) -> Json {
    let slots = state.store.clusters();
    let is_active = |name: &str| slots.get(name).is_some_and(|slot| slot.warming.is_none());
    let (active, warming): (Vec<_>, Vec<_>) = named(state, CLUSTER, "cluster")
        .into_iter()
        .partition(|(name, _)| is_active(name));
    let shown = |all: Vec<(&str, Json)>| -> Json { all.into_iter().map(|(_, one)| one).collect() };
    let mut dump = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
        "version_info": version(state, CLUSTER),
        "dynamic_active_clusters": shown(active),
    });
    if !warming.is_empty() {
        dump["dynamic_warming_clusters"] = shown(warming);
    }
    dump
}

fn listeners(state: &State, bind_errors: &[(String, SocketAddr, String)]) -> Json {
    let slots = state.store.listeners();
    let all: Vec<_> = named(state, LISTENER, "listener")
        .into_iter()
        .map(|(name, shown)| {
            let is_warming = slots.get(name).is_none_or(|slot| slot.warming.is_some());
            let state_name = if is_warming {
                "warming_state"
            } else {
                "active_state"
            };
            let mut listener = json!({"name": name, state_name: shown});
            let cannot_bind = bind_errors.iter().find(|(failed, ..)| failed == name);
            let error = match cannot_bind {
                Some((_, address, error)) => {
                    Some(json!({"details": format!("cannot listen on {address}: {error}")}))
                }
                None => refusal(state, LISTENER, &format!("listener {name:?}")),
            };
            if let Some(error) = error {
                listener["error_state"] = error;
            }
            listener
        })
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        "version_info": version(state, LISTENER),
        "dynamic_listeners": all,
    })
}

/// Why the newest form of a resource was refused.
fn refusal(state: &State, type_url: &str, resource: &str) -> Option<Json> {
    let known = state.store.types().get(type_url)?;
    let (version, rejections) = known.refused.as_ref()?;
    let rejection = rejections.iter().find(|one| one.resource == resource)?;
    Some(json!({"version_info": version, "details": rejection.to_string()}))
}

fn resources(state: &State, type_url: &str, field: &str) -> Json {
    let all = named(state, type_url, field).into_iter();
    all.map(|(_, one)| one).collect()
}

/// The resources of a type that were accepted last, by name, in Envoy's wrapping.
fn named<'a>(state: &'a State, type_url: &str, field: &str) -> Vec<(&'a str, Json)> {
    let known = state.store.types().get(type_url);
    let updated = known.and_then(|known| known.updated).map(moment);
    let show = |(name, version, body): (&'a str, &'a str, &'a Any)| {
        let shown = json!({
            "version_info": version,
            field: protobuf::any(body),
            "last_updated": updated,
        });
        (name, shown)
    };
    state.accepted(type_url).map(show).collect()
}

fn version<'a>(state: &'a State, type_url: &str) -> &'a str {
    state
        .store
        .types()
        .get(type_url)
        .map_or("", |known| known.version.as_str())
}

fn type_state(state: &State, type_url: &str) -> Json {
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
        "last_updated": known.updated.map(moment),
        "error_state": refused,
    })
}

/// As protobuf's JSON has moments, to the second.
fn moment(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(i64::try_from(since.as_secs()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_names_and_resources_choose() {
        let configs = vec![json!({
            "@type": "dump",
            "version_info": "1",
            "dynamic_listeners": [
                {"name": "a", "active_state": {"version_info": "1", "listener": {"name": "a"}}},
                {"name": "b", "active_state": {"version_info": "2", "listener": {"name": "b"}}},
            ],
        })];
        let wanted = |query: &[(&str, &str)]| {
            let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            Wanted::of(&query.iter().map(text).collect()).expect("valid")
        };
        let one = "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener";
        for (query, expected) in [
            (
                vec![("mask", "version_info")],
                json!([{"@type": "dump", "version_info": "1"}]),
            ),
            (
                vec![
                    ("mask", "dynamic_listeners.active_state.version_info"),
                    ("name_regex", "^b$"),
                ],
                json!([{
                    "@type": "dump",
                    "dynamic_listeners": [{"active_state": {"version_info": "2"}}],
                }]),
            ),
            (
                vec![("resource", "dynamic_listeners"), ("mask", "name")],
                json!([{"@type": one, "name": "a"}, {"@type": one, "name": "b"}]),
            ),
        ] {
            let left = wanted(&query).select(configs.clone());
            assert_eq!(Json::Array(left), expected, "{query:?}");
        }
        let query = HashMap::from([("resource".to_owned(), "nothing".to_owned())]);
        let refused = Wanted::of(&query).expect_err("unknown");
        assert_eq!(
            refused,
            (
                StatusCode::NOT_FOUND,
                "nothing not found in config dump\n".to_owned()
            )
        );
    }
}
