use serde_json::{Value, json};

use super::{Which, text};
use crate::commands::client::{Client, Failure};
use crate::commands::output::{Table, Tone, clean, left};

/// Flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) which: Which,

    /// Those of clusters whose name contains this
    #[arg(long, value_name = "TEXT")]
    cluster: Option<String>,

    /// Those of this port
    #[arg(long, value_name = "PORT")]
    port: Option<u64>,

    /// Those that do so: healthy or unhealthy
    #[arg(long, value_name = "STATUS", value_parser = ["healthy", "unhealthy"])]
    status: Option<String>,
}

/// `/clusters`: an object for each endpoint.
pub(super) async fn fetch(client: &Client) -> Result<Vec<Value>, Failure> {
    let all: Value = client.get("/clusters?format=json").await?;
    let clusters = all["cluster_statuses"].as_array().into_iter().flatten();
    let endpoints = clusters.flat_map(|cluster| {
        let hosts = cluster["host_statuses"].as_array().into_iter().flatten();
        hosts.map(|host| endpoint(host, text(cluster, "name")))
    });
    Ok(endpoints.collect())
}

fn endpoint(host: &Value, cluster: &str) -> Value {
    let socket = &host["address"]["socket_address"];
    let health = &host["health_status"];
    let failed = |key: &str| health[key] == true;
    let is_healthy = matches!(
        text(health, "eds_health_status"),
        "" | "HEALTHY" | "UNKNOWN" | "DEGRADED"
    ) && !failed("failed_active_health_check");
    let address = match socket.is_object() {
        true => text(socket, "address"),
        false => text(&host["address"]["pipe"], "path"),
    };
    json!({
        "address": address,
        "port": socket["port_value"].as_u64().unwrap_or_default(),
        "status": if is_healthy { "HEALTHY" } else { "UNHEALTHY" },
        "outlierCheck": if failed("failed_outlier_check") { "FAILED" } else { "OK" },
        "cluster": cluster,
    })
}

impl Args {
    pub(super) fn chosen(&self, endpoints: &[Value]) -> Vec<Value> {
        let is_chosen = |endpoint: &&Value| {
            let status = text(endpoint, "status");
            self.cluster
                .as_ref()
                .is_none_or(|part| text(endpoint, "cluster").contains(part))
                && self.port.is_none_or(|port| endpoint["port"] == port)
                && self
                    .status
                    .as_ref()
                    .is_none_or(|wanted| status.eq_ignore_ascii_case(wanted))
        };
        endpoints.iter().filter(is_chosen).cloned().collect()
    }
}

pub(super) fn table(endpoints: &[Value]) -> Table {
    let mut table = Table::new(&[
        left("ENDPOINT"),
        left("STATUS"),
        left("OUTLIER CHECK"),
        left("CLUSTER"),
    ]);
    let tone = |status: &str| match status {
        "UNHEALTHY" | "FAILED" => Tone::Bad,
        _ => Tone::Plain,
    };
    for endpoint in endpoints {
        let (status, check) = (text(endpoint, "status"), text(endpoint, "outlierCheck"));
        let address = clean(text(endpoint, "address"));
        let address = match endpoint["port"].as_u64() {
            Some(port) if port > 0 => format!("{address}:{port}"),
            _ => address,
        };
        table.row(vec![
            (Tone::Plain, address),
            (tone(status), status.to_owned()),
            (tone(check), check.to_owned()),
            (Tone::Plain, clean(text(endpoint, "cluster"))),
        ]);
    }
    table
}
