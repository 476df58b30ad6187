//! `/config_dump`.

use serde_json::Value;

use crate::commands::client::{Client, Failure};

/// All of it.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) whole: Value,
}

impl Dump {
    pub(super) async fn fetch(client: &Client) -> Result<Self, Failure> {
        let whole: Value = client.get("/config_dump?include_eds").await?;
        match whole["configs"].is_array() {
            true => Ok(Self { whole }),
            false => Err(Failure::Unreadable {
                server: client.server().to_owned(),
                cause: "there are no `configs` in its /config_dump".to_owned(),
            }),
        }
    }

    /// The part of this type.
    fn part(&self, name: &str) -> &Value {
        let configs = self.whole["configs"].as_array().into_iter().flatten();
        let mut configs = configs.filter(|config| {
            let kind = config["@type"].as_str();
            kind.is_some_and(|kind| kind.ends_with(name))
        });
        configs.next().unwrap_or(&Value::Null)
    }

    pub(super) fn bootstrap(&self) -> Value {
        self.part(".BootstrapConfigDump")["bootstrap"].clone()
    }

    pub(super) fn clusters(&self) -> Vec<Value> {
        let part = self.part(".ClustersConfigDump");
        let keys = [
            "static_clusters",
            "dynamic_active_clusters",
            "dynamic_warming_clusters",
        ];
        items(part, &keys)
            .map(|item| item["cluster"].clone())
            .collect()
    }

    pub(super) fn listeners(&self) -> Vec<Value> {
        let part = self.part(".ListenersConfigDump");
        let fixed = items(part, &["static_listeners"]).map(|item| &item["listener"]);
        let dynamic = items(part, &["dynamic_listeners"]).map(|item| {
            let states = ["active_state", "warming_state", "draining_state"];
            let listeners = states.iter().map(|state| &item[*state]["listener"]);
            let mut there = listeners.filter(|listener| !listener.is_null());
            there.next().unwrap_or(&Value::Null)
        });
        let all = fixed.chain(dynamic).filter(|listener| !listener.is_null());
        all.cloned().collect()
    }

    /// The secrets, and whether each is there.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&Value, bool)> {
        let part = self.part(".SecretsConfigDump");
        let there = items(part, &["static_secrets", "dynamic_active_secrets"]);
        let missing = items(part, &["dynamic_warming_secrets"]);
        there
            .map(|secret| (secret, true))
            .chain(missing.map(|secret| (secret, false)))
    }

    pub(super) fn routes(&self) -> Vec<Value> {
        let part = self.part(".RoutesConfigDump");
        let keys = ["static_route_configs", "dynamic_route_configs"];
        items(part, &keys)
            .map(|item| item["route_config"].clone())
            .collect()
    }
}

fn items<'a>(part: &'a Value, keys: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    keys.iter()
        .flat_map(|key| part[*key].as_array().into_iter().flatten())
}

/// `metadata.filter_metadata.istio.config` as people write it: `NAME.NAMESPACE`.
pub(super) fn origin(value: &Value) -> String {
    let config = value["metadata"]["filter_metadata"]["istio"]["config"].as_str();
    let parts: Vec<&str> = config.unwrap_or_default().split('/').collect();
    match parts[..] {
        // /apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME
        [.., "namespaces", namespace, _, name] => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}
