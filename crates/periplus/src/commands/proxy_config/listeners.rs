use serde_json::Value;

use super::dump::Dump;
use super::{Which, text};
use crate::commands::output::{Table, Tone, clean, left};

/// Flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) which: Which,

    /// Those of this port
    #[arg(long, value_name = "PORT")]
    port: Option<u64>,

    /// Those of this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
}

impl Args {
    pub(super) fn chosen(&self, dump: &Dump) -> Vec<Value> {
        let is_chosen = |listener: &Value| {
            let socket = &listener["address"]["socket_address"];
            self.port.is_none_or(|port| socket["port_value"] == port)
                && self
                    .address
                    .as_ref()
                    .is_none_or(|address| text(socket, "address") == address)
        };
        let mut listeners = dump.listeners();
        listeners.retain(is_chosen);
        listeners
    }
}

pub(super) fn table(listeners: &[Value]) -> Table {
    let mut table = Table::new(&[
        left("ADDRESSES"),
        left("PORT"),
        left("MATCH"),
        left("DESTINATION"),
    ]);
    for listener in listeners {
        let socket = &listener["address"]["socket_address"];
        let port = socket["port_value"].as_u64().unwrap_or_default();
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        let default = Some(&listener["default_filter_chain"]).filter(|chain| chain.is_object());
        for chain in chains.chain(default) {
            table.row(vec![
                (Tone::Plain, clean(text(socket, "address"))),
                (Tone::Plain, port.to_string()),
                (
                    Tone::Plain,
                    clean(&conditions(&chain["filter_chain_match"])),
                ),
                (Tone::Plain, clean(&destination(chain))),
            ]);
        }
    }
    table
}

/// What a chain takes, in istioctl's words.
fn conditions(chain: &Value) -> String {
    let list = |key: &str, show: fn(&Value) -> String| -> Option<String> {
        let items = chain[key].as_array().filter(|items| !items.is_empty())?;
        Some(items.iter().map(show).collect::<Vec<_>>().join(","))
    };
    let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let block = |value: &Value| {
        let length = value["prefix_len"].as_u64().unwrap_or_default();
        format!("{}/{length}", text(value, "address_prefix"))
    };
    let mut parts = Vec::new();
    parts.extend(list("server_names", plain).map(|names| format!("SNI: {names}")));
    let transport = text(chain, "transport_protocol");
    if !transport.is_empty() {
        parts.push(format!("Trans: {transport}"));
    }
    parts.extend(list("application_protocols", plain).map(|names| format!("App: {names}")));
    if let Some(port) = chain["destination_port"].as_u64() {
        parts.push(format!("Port: {port}"));
    }
    parts.extend(list("prefix_ranges", block).map(|blocks| format!("Addr: {blocks}")));
    match parts.is_empty() {
        true => "ALL".to_owned(),
        false => parts.join("; "),
    }
}

/// Where a chain leads.
fn destination(chain: &Value) -> String {
    let filters = chain["filters"].as_array().into_iter().flatten();
    for filter in filters {
        let config = &filter["typed_config"];
        let kind = text(config, "@type");
        if kind.ends_with(".HttpConnectionManager") {
            let name = text(&config["rds"], "route_config_name");
            if !name.is_empty() {
                return format!("Route: {name}");
            }
            let hosts = config["route_config"]["virtual_hosts"].as_array();
            let routes = hosts.into_iter().flatten();
            let routes = routes.flat_map(|host| host["routes"].as_array().into_iter().flatten());
            let all: Vec<String> = routes.map(super::routes::path).collect();
            return format!("Inline Route: {}", all.join(", "));
        }
        if kind.ends_with(".TcpProxy") {
            let several = config["weighted_clusters"]["clusters"].as_array();
            let several = several.into_iter().flatten().map(|one| text(one, "name"));
            let one = Some(text(config, "cluster")).filter(|name| !name.is_empty());
            let names: Vec<&str> = one.into_iter().chain(several).collect();
            return format!("Cluster: {}", names.join(", "));
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}
