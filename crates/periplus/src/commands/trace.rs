//! Traces in the terminal.

mod get;
mod id;
mod search;
mod skeleton;
mod tail;
mod waterfall;

pub(super) use search::{Found, SearchFlags};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Draw traces as waterfalls, with what made them slow
    Get(get::Args),
    /// List the newest traces that a query finds
    #[command(visible_alias = "find")]
    Search(search::Args),
    /// List traces as they arrive
    Tail(tail::Args),
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    super::block_on(async {
        match args.command {
            Command::Get(args) => get::run(args).await,
            Command::Search(args) => search::run(args).await,
            Command::Tail(args) => tail::run(args).await,
        }
    })
}
