//! The admin pages of both proxies under the same configuration: the same keys, and the same resources.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

/// A page as JSON, with names for ports.
async fn page(admin: SocketAddr, path: &str, addresses: &Addresses) -> Value {
    let mut text = get(admin, path).await.expect("an answer").body;
    let log = addresses.log.to_str().expect("UTF-8");
    text = text.replace(log, "<log>");
    let others = [
        ("origin", addresses.origin),
        ("collector", addresses.collector),
        ("nobody", addresses.nobody),
        ("http2", addresses.http2_origin),
    ];
    let listeners = addresses.listeners.iter().map(|(name, at)| (*name, *at));
    for (name, at) in listeners.chain(others) {
        for space in ["", " "] {
            let port = format!("\"port_value\":{space}{}", at.port());
            // Not the beginning of a longer number.
            for end in [",", "}", "\n"] {
                let named = format!("\"port_value\":\"{name}\"{end}");
                text = text.replace(&format!("{port}{end}"), &named);
            }
        }
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

/// The resources of a list of the dump, by name.
fn resources(dump: &Value, list: &str, at: &str, name: &str) -> BTreeMap<String, Value> {
    let configs = dump["configs"].as_array().expect("configs");
    let elements = configs.iter().filter_map(|config| config[list].as_array());
    let named = elements.flatten().map(|element| {
        let resource = element.pointer(at).cloned().unwrap_or_default();
        let name = resource[name].as_str().unwrap_or_default().to_owned();
        assert!(
            element.pointer(at).is_some(),
            "{list} without {at}: {element}"
        );
        (name, resource)
    });
    named.collect()
}

/// The lists of a dump, where a resource is in an element, and which of its fields is its name.
const LISTS: [(&str, &str, &str); 4] = [
    ("dynamic_active_clusters", "/cluster", "name"),
    ("dynamic_listeners", "/active_state/listener", "name"),
    ("dynamic_route_configs", "/route_config", "name"),
    (
        "dynamic_endpoint_configs",
        "/endpoint_config",
        "cluster_name",
    ),
];

/// The resources are the same, whatever they are made of.
pub(crate) async fn compare_dumps(
    ours: (SocketAddr, &Addresses),
    envoys: (SocketAddr, &Addresses),
) {
    let dump = "/config_dump?include_eds";
    let our_dump = page(ours.0, dump, ours.1).await;
    let envoys_dump = page(envoys.0, dump, envoys.1).await;
    for (list, at, name) in LISTS {
        let of_ours = resources(&our_dump, list, at, name);
        let of_envoy = resources(&envoys_dump, list, at, name);
        assert!(!of_ours.is_empty(), "{list} of {our_dump}");
        let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&of_ours), names(&of_envoy), "{list}");
        // Envoy tells of endpoints what has become of them, with its defaults.
        if list == "dynamic_endpoint_configs" {
            continue;
        }
        for (name, resource) in of_ours {
            assert_eq!(resource, of_envoy[&name], "{list} {name}");
        }
    }
    let kinds = |dump: &Value| -> Vec<String> {
        let configs = dump["configs"].as_array().expect("configs").iter();
        let kind = |config: &Value| config["@type"].as_str().unwrap_or_default().to_owned();
        configs.map(kind).collect()
    };
    assert_eq!(kinds(&our_dump), kinds(&envoys_dump));

    // One list, one name, one field.
    let query = "/config_dump?resource=dynamic_listeners&name_regex=^outbound$&mask=active_state.listener.name";
    let chosen = page(ours.0, query, ours.1).await;
    let expected = json!({"configs": [{
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener",
        "active_state": {"listener": {"name": "outbound"}},
    }]});
    assert_eq!(chosen, expected);
}

/// Paths of objects' fields, `[]` for the elements of lists.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{at}.{name}");
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|element| paths(element, &format!("{at}[]"), found)),
        _ => {}
    }
}

/// Pages, and the fields of Envoy that ours lack.
const PAGES: [(&str, &[&str]); 6] = [
    ("/clusters?format=json", &["stats", "added_via_api"]),
    ("/listeners?format=json", &[]),
    ("/memory", &[]),
    ("/certs", &[]),
    // What a command line of another program has, and what it was built of.
    ("/server_info", &["command_line_options.", "node."]),
    (
        "/config_dump",
        &[
            "bootstrap",
            // What stands in the bootstrap file: the cluster of the control plane.
            "static_clusters",
            "client_status",
            "node",
            "dynamic_active_clusters[].cluster.load_assignment",
        ],
    ),
];

/// Whoever reads the one can read the other.
pub(crate) async fn compare_pages(
    ours: (SocketAddr, &Addresses),
    envoys: (SocketAddr, &Addresses),
) {
    for (path, lacking) in PAGES {
        let [of_ours, of_envoy] = [ours, envoys].map(async |(admin, addresses)| {
            let mut found = BTreeSet::new();
            let shown = page(admin, path, addresses).await;
            paths(&shown, "", &mut found);
            found
        });
        let (of_ours, of_envoy) = tokio::join!(of_ours, of_envoy);
        let missing: Vec<_> = of_envoy
            .difference(&of_ours)
            .filter(|field| !lacking.iter().any(|part| field.contains(part)))
            .collect();
        assert!(missing.is_empty(), "{path} lacks {missing:#?}");
    }
}
