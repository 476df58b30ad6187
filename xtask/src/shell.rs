//! Running programs: each is shown before it runs, and its failure names it.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Makes the repository's root the working directory, wherever the chore was called from.
pub(crate) fn enter_root() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent")?;
    env::set_current_dir(root).with_context(|| format!("cannot enter {}", root.display()))
}

/// Whether this runs in CI, where a missing peer is a failure and may be installed system-wide.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some()
}

/// A command line, ready to be completed.
pub(crate) fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Runs it and shows its output; an exit status other than zero is an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("\n$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a plain command line.
pub(crate) fn sh(line: &str) -> anyhow::Result<()> {
    run(&mut command(line))
}

/// Whether a program is there and answers to `--version`.
pub(crate) fn has(program: impl AsRef<OsStr>) -> bool {
    let mut version = Command::new(program);
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// What a program answers to `--version`, if it is there.
pub(crate) fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
