//! What shells and `man` know of the commands.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use super::output;

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "bash: periplus completions bash > /etc/bash_completion.d/periplus\n\
                        zsh:  periplus completions zsh > \"${fpath[1]}/_periplus\"\n\
                        fish: periplus completions fish > ~/.config/fish/completions/periplus.fish"
)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "periplus man /usr/local/share/man/man1, then: man periplus-explain")]
pub(crate) struct ManArgs {
    /// Directory for the pages; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints the script.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "periplus", &mut script);
    output::print(&String::from_utf8(script).context("the script is no text")?)
}

/// Writes the pages.
pub(crate) fn man(args: &ManArgs, mut command: Command) -> anyhow::Result<()> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    // Deferred arguments are there only then.
    command.build();
    let command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write to {}", directory.display()))
}
