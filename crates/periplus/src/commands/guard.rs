//! Another program under a supervisor that it knows nothing of.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use periplus_identity::agent;
use periplus_local::Exit;

use super::identity::WorkloadArgs;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the program gets its certificate over SDS, as an Envoy does; with --token-file
    #[arg(long, value_name = "SOCKET", requires = "token_file")]
    sds: Option<PathBuf>,

    /// NAMESPACE/ACCOUNT of the workload
    #[arg(long, value_name = "NAME", requires = "sds", value_parser = account)]
    account: Option<(String, String)>,

    #[command(flatten)]
    identity: WorkloadArgs,

    /// The program
    program: PathBuf,

    /// Its arguments, after --
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Runs the program until it ends.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let program = args.program.clone();
    match super::block_on(guard(args))? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => std::process::exit(code),
        exit @ Exit::Signal(_) => anyhow::bail!("{} ended by {exit}", program.display()),
    }
}

async fn guard(args: Args) -> anyhow::Result<Exit> {
    let guard = periplus_local::guard(&args.program, &args.arguments);
    let guard = async {
        let exit = guard.await;
        exit.with_context(|| format!("cannot run {}", args.program.display()))
    };
    let Some(socket) = args.sds else {
        return guard.await;
    };
    let (namespace, account) = args.account.context("--account is missing")?;
    let config = args.identity.config(None, (&namespace, &account))?;
    let config = config.context("--token-file is missing")?;
    tokio::select! {
        exit = guard => exit,
        served = agent::serve(&socket, &config) => {
            served.with_context(|| format!("cannot serve certificates at {}", socket.display()))?;
            anyhow::bail!("certificates are served no more")
        }
    }
}

fn account(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('/');
    let parts = parts.map(|(namespace, account)| (namespace.to_owned(), account.to_owned()));
    parts.ok_or_else(|| format!("'{text}' is not of the form NAMESPACE/ACCOUNT"))
}
