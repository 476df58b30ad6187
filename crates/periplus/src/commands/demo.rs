/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the role until it ends.
pub(crate) fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet")
}
