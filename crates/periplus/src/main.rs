//! Periplus: a service mesh whose first purpose is distributed tracing.

mod commands;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "periplus", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bookinfo with sidecars, gateway, control plane, trace backend and UI on this machine
    Demo(commands::demo::Args),
    /// The trace backend and its UI alone
    Serve(commands::serve::Args),
    /// The control plane alone
    Control(commands::control::Args),
    /// A sidecar or gateway alone
    Proxy(commands::proxy::Args),
    /// One service of the Bookinfo sample
    Bookinfo(commands::bookinfo::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo(args) => commands::demo::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Control(args) => commands::control::run(args),
        Command::Proxy(args) => commands::proxy::run(args),
        Command::Bookinfo(args) => commands::bookinfo::run(args),
    }
}
