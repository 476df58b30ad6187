//! Another program under a supervisor that it knows nothing of.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use periplus_local::Exit;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program
    program: PathBuf,

    /// Its arguments, after --
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Runs the program until it ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let exit = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(periplus_local::guard(&args.program, &args.arguments))
        .with_context(|| format!("cannot run {}", args.program.display()))?;
    match exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => std::process::exit(code),
        Exit::Signal(_) => anyhow::bail!("{} ended by {exit}", args.program.display()),
    }
}
