//! Where the pages are that people look at.

use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::client::{Failure, SERVER};
use super::control_plane::ControlFlags;
use super::output;
use super::proxy_status::{find, text};

/// Flags.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The address is printed. A browser is opened as well if this is a terminal with one."
)]
pub(crate) struct Args {
    /// Which page
    #[arg(value_enum, default_value_t = Page::Ui)]
    page: Page,

    /// The proxy whose pages are meant, as `periplus proxy-status` names it
    #[arg(value_name = "PROXY", required_if_eq_any([("page", "proxy"), ("page", "envoy")]))]
    proxy: Option<String>,

    /// Print the address alone, and open nothing
    #[arg(long)]
    no_browser: bool,

    /// Address of the trace backend [default: http://127.0.0.1:16686]
    #[arg(long, value_name = "URL", env = "PERIPLUS_SERVER")]
    server: Option<String>,

    #[command(flatten)]
    control: ControlFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Page {
    /// Traces: the UI of the trace backend
    #[value(alias = "jaeger", alias = "traces")]
    Ui,
    /// The services that call each other
    #[value(alias = "kiali")]
    Dependencies,
    /// What Zipkin's tools ask
    Zipkin,
    /// The control plane's pages
    #[value(alias = "istiod-debug", alias = "controlz")]
    Control,
    /// A proxy's admin pages
    #[value(alias = "envoy")]
    Proxy,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let server = args.server.as_deref().unwrap_or(SERVER.default);
    let server = server.trim_end_matches('/');
    let url = match args.page {
        Page::Ui => format!("{server}/"),
        Page::Dependencies => format!("{server}/dependencies"),
        Page::Zipkin => format!("{server}/zipkin/"),
        Page::Control => format!("{}/debug/syncz", args.control.client()?.server()),
        Page::Proxy => super::block_on(proxy(args))?,
    };
    output::print(&format!("{url}\n"))?;
    if !args.no_browser && std::io::stdout().is_terminal() {
        open(&url);
    }
    Ok(())
}

async fn proxy(args: &Args) -> anyhow::Result<String> {
    let client = args.control.client()?;
    let rows: Vec<Value> = client.get("/debug/syncz").await?;
    let row = find(&rows, args.proxy.as_deref().unwrap_or_default())?;
    match text(&row, "admin") {
        "" => Err(Failure::Nothing(format!(
            "{} does not say where its admin port is: write it into its bootstrap as node.metadata.ADMIN_ADDRESS",
            text(&row, "proxy")
        ))
        .into()),
        admin => Ok(format!("http://{admin}/")),
    }
}

/// Opens a browser if there is one; the address is there already for whoever has none.
fn open(url: &str) {
    for program in ["xdg-open", "open"] {
        let started = Command::new(program)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if started.is_ok() {
            return;
        }
    }
}
