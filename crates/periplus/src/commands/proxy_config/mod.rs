//! What a proxy runs on, from its admin port: ours or a real Envoy's, which have the same pages.

mod clusters;
mod dump;
mod endpoints;
mod listeners;
mod routes;
mod secrets;

use http::Method;
use serde_json::Value;

use self::dump::Dump;
use super::client::{Client, Failure, Peer, query};
use super::control_plane::{ControlFlags, Output};
use super::output::{self, Looks, Table};
use super::proxy_status::{find, text};

/// An admin port.
const ADMIN: Peer = Peer {
    default: "http://127.0.0.1:15000",
    flag: "PROXY",
    advice: "name the address of its admin port, as its bootstrap says, or a proxy that is connected to the control \
             plane (see `periplus proxy-status`)",
};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Where it listens, and where that leads
    #[command(visible_aliases = ["listener", "l"])]
    Listeners(listeners::Args),
    /// Its virtual hosts and routes
    #[command(visible_aliases = ["route", "r"])]
    Routes(routes::Args),
    /// Whom it can reach
    #[command(visible_aliases = ["cluster", "c"])]
    Clusters(clusters::Args),
    /// The addresses behind its clusters, and how they do
    #[command(visible_aliases = ["endpoint", "ep"])]
    Endpoints(endpoints::Args),
    /// Its certificates, and until when they hold
    #[command(visible_aliases = ["secret", "s"])]
    Secrets(Which),
    /// The bootstrap that it has begun with, as JSON
    #[command(visible_alias = "b")]
    Bootstrap(Which),
    /// The levels of its log, of an Envoy; with --level they are set
    #[command(visible_alias = "o")]
    Log(LogArgs),
    /// All of it
    #[command(visible_alias = "a")]
    All(Which),
}

/// Which proxy, and how to print.
#[derive(Debug, clap::Args)]
struct Which {
    /// A proxy that is connected to the control plane, as `periplus proxy-status` names it, or the address of an admin
    /// port, such as 127.0.0.1:15000 [default: 127.0.0.1:15000]
    #[arg(value_name = "PROXY|ADDRESS")]
    proxy: Option<String>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    control: ControlFlags,
}

/// Flags of `log`.
#[derive(Debug, clap::Args)]
struct LogArgs {
    #[command(flatten)]
    which: Which,

    /// `LEVEL` for all loggers, or `LOGGER:LEVEL,…`; levels are trace, debug, info, warning, error, critical, off
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    super::block_on(show(&args.command))
}

async fn show(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Listeners(args) => {
            let dump = Dump::fetch(&args.which.client().await?).await?;
            args.which.print(&args.chosen(&dump), listeners::table)
        }
        Command::Routes(args) => {
            let dump = Dump::fetch(&args.which.client().await?).await?;
            args.which.print(&args.chosen(&dump), routes::table)
        }
        Command::Clusters(args) => {
            let dump = Dump::fetch(&args.which.client().await?).await?;
            args.which.print(&args.chosen(&dump), clusters::table)
        }
        Command::Endpoints(args) => {
            let statuses = endpoints::fetch(&args.which.client().await?).await?;
            args.which.print(&args.chosen(&statuses), endpoints::table)
        }
        Command::Secrets(which) => {
            let client = which.client().await?;
            let dump = Dump::fetch(&client).await?;
            let certificates = secrets::fetch(&client, &dump).await?;
            which.print(&certificates, secrets::table)
        }
        Command::Bootstrap(which) => {
            let dump = Dump::fetch(&which.client().await?).await?;
            output::print(&output::json(&dump.bootstrap())?)
        }
        Command::Log(args) => log(args).await,
        Command::All(which) => all(which).await,
    }
}

async fn all(which: &Which) -> anyhow::Result<()> {
    let client = which.client().await?;
    let dump = Dump::fetch(&client).await?;
    let statuses = endpoints::fetch(&client).await?;
    let certificates = secrets::fetch(&client, &dump).await?;
    if which.output == Output::Json {
        let mut whole = dump.whole;
        whole["clusters"] = statuses.into();
        whole["certificates"] = certificates.into();
        return output::print(&output::json(&whole)?);
    }
    let style = which.looks.style();
    let tables = [
        clusters::table(&dump.clusters()),
        listeners::table(&dump.listeners()),
        routes::table(&dump.routes()),
        endpoints::table(&statuses),
        secrets::table(&certificates),
    ];
    let tables = tables.map(|table| table.render(style));
    output::print(&tables.join("\n"))
}

async fn log(args: &LogArgs) -> anyhow::Result<()> {
    let pairs: Vec<(&str, &str)> = match &args.level {
        None => Vec::new(),
        Some(levels) => (levels.split(','))
            .map(|one| one.split_once(':').unwrap_or(("level", one)))
            .collect(),
    };
    if (pairs.iter()).any(|(name, level)| name.is_empty() || level.is_empty()) {
        let said = args.level.as_deref().unwrap_or_default();
        return Err(Failure::Usage(format!(
            "--level {said:?} has an empty logger or level, expected LEVEL, or LOGGER:LEVEL,…"
        ))
        .into());
    }
    let client = args.which.client().await?;
    // Envoy takes one at a time.
    let mut answer = String::new();
    for pairs in match pairs.is_empty() {
        true => vec![&pairs[..]],
        false => pairs.chunks(1).collect(),
    } {
        let path = format!("/logging{}", query(pairs));
        answer = client.text(Method::POST, &path).await?;
    }
    if args.which.output == Output::Table {
        return output::print(&answer);
    }
    let lines = answer
        .lines()
        .filter_map(|line| line.trim().split_once(':'));
    let levels: serde_json::Map<String, Value> = lines
        .filter(|(_, level)| !level.trim().is_empty())
        .map(|(name, level)| (name.trim().to_owned(), level.trim().into()))
        .collect();
    output::print(&output::json(&levels)?)
}

impl Which {
    /// A client of its admin port.
    async fn client(&self) -> anyhow::Result<Client> {
        let timeout = self.control.timeout;
        let address = match self.proxy.as_deref() {
            None => ADMIN.default.to_owned(),
            Some(address) if is_address(address) => address.to_owned(),
            Some(name) => {
                let control = self.control.client()?;
                let rows: Vec<Value> = control.get("/debug/syncz").await?;
                let row = find(&rows, name)?;
                match text(&row, "admin") {
                    "" => {
                        return Err(Failure::Nothing(format!(
                            "{} does not say where its admin port is: name its address, or write it into its \
                             bootstrap as node.metadata.ADMIN_ADDRESS",
                            text(&row, "proxy")
                        ))
                        .into());
                    }
                    admin => admin.to_owned(),
                }
            }
        };
        Ok(Client::plain(&address, &ADMIN, timeout)?)
    }

    fn print(&self, shown: &[Value], table: fn(&[Value]) -> Table) -> anyhow::Result<()> {
        output::print(&match self.output {
            Output::Json => output::json(&shown)?,
            Output::Table => table(shown).render(self.looks.style()),
        })
    }
}

/// Names of proxies have neither ports nor schemes.
fn is_address(text: &str) -> bool {
    text.contains("://")
        || text
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}
