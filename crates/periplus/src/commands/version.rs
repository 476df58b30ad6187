//! Which version this is, which the control plane has, and which the proxies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control_plane::{ControlFlags, Output};
use super::output;
use super::proxy_status::text;

/// Flags.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0, or, if --control names a control plane, 3 if it is not there and 4 if it does \
                        not answer in time."
)]
pub(crate) struct Args {
    /// This program's version alone
    #[arg(short, long)]
    short: bool,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane: Option<String>,
    /// How many proxies have which version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data_plane: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Remote {
    name: String,
    version: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut versions = Versions {
        client: env!("CARGO_PKG_VERSION").to_owned(),
        control_plane: None,
        data_plane: BTreeMap::new(),
    };
    if !args.short {
        match super::block_on(ask(args, &mut versions)) {
            Ok(()) => {}
            // Nobody has said that there is one.
            Err(error) if args.control.control.is_none() => eprintln!("note: {error}"),
            Err(error) => return Err(error),
        }
    }
    output::print(&match args.output {
        Output::Json => output::json(&versions)?,
        Output::Table => {
            let mut lines = format!("client version: {}\n", versions.client);
            if let Some(version) = &versions.control_plane {
                lines += &format!("control plane version: {version}\n");
            }
            let proxies = versions.data_plane.iter().map(|(version, count)| {
                let count = match count {
                    1 => "1 proxy".to_owned(),
                    n => format!("{n} proxies"),
                };
                format!("{version} ({count})")
            });
            let proxies: Vec<_> = proxies.collect();
            if !proxies.is_empty() {
                lines += &format!("data plane version: {}\n", proxies.join(", "));
            }
            lines
        }
    })
}

async fn ask(args: &Args, versions: &mut Versions) -> anyhow::Result<()> {
    let client = args.control.client()?;
    let remote: Remote = client.get("/version").await?;
    versions.control_plane = Some(match remote.name.as_str() {
        "periplus" => remote.version,
        name => format!("{name} {}", remote.version),
    });
    let rows: Vec<Value> = client.get("/debug/syncz").await?;
    for row in &rows {
        let version = match text(row, "proxy_version") {
            "" => text(row, "istio_version"),
            version => version,
        };
        *versions.data_plane.entry(version.to_owned()).or_default() += 1;
    }
    Ok(())
}
