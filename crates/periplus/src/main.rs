//! Periplus: a service mesh whose first purpose is distributed tracing.

mod commands;
mod logging;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "periplus", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Deferred: only the arguments of the command that is run are made.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Bookinfo with sidecars, gateway, control plane, trace backend and UI on this machine
    Demo(commands::demo::Args),
    /// Your own processes with sidecars, gateway, control plane, trace backend and UI on this machine, from one file
    Up(Box<commands::up::Args>),
    /// The trace backend and its UI alone
    Serve(Box<commands::serve::Args>),
    /// The directory that the trace backend keeps spans in: check, stats, compact
    Store(commands::store::Args),
    /// Traces of a running server: get, search, tail
    Trace(commands::trace::Args),
    /// The services of a running server, and their operations
    Services(commands::services::Args),
    /// Traces of a running server, into a file
    Export(commands::export::Args),
    /// Try tail sampling on the traces that are stored
    Sampling(commands::sampling::Args),
    /// The control plane alone
    Control(commands::control::Args),
    /// A sidecar or gateway alone
    Proxy(commands::proxy::Args),
    /// A token that a workload gets its certificate with
    Token(commands::identity::TokenArgs),
    /// Redirect this network namespace's connections to its proxy, by Istio's rules
    ProxyInit(Box<commands::proxy_init::Args>),
    /// One service of the Bookinfo sample
    Bookinfo(commands::bookinfo::Args),
    /// Another program, which then ends together with whoever has started this
    #[command(hide = true)]
    Guard(commands::guard::Args),
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let Err(error) = run(cli.command, &matches) else {
        return ExitCode::SUCCESS;
    };
    // Not by returning the error: that would print backtraces, which say nothing to users.
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
    match error.downcast_ref::<commands::client::Failure>() {
        Some(failure) => failure.exit_code().into(),
        None => ExitCode::FAILURE,
    }
}

fn run(command: Command, matches: &ArgMatches) -> anyhow::Result<()> {
    logging::start(match &command {
        // It talks to a person: what goes well is on the screen already.
        Command::Demo(_)
        | Command::Up(_)
        | Command::Store(_)
        | Command::Trace(_)
        | Command::Services(_)
        | Command::Export(_)
        | Command::Sampling(_)
        | Command::Token(_) => "warn",
        Command::Proxy(args) => args.log_level(),
        _ => "info",
    });
    periplus_local::follow_parent().context("cannot watch the standard input")?;
    match command {
        Command::Demo(args) => commands::demo::run(args),
        Command::Up(args) => commands::up::run(&args),
        Command::Token(args) => commands::identity::token(args),
        Command::Serve(args) => {
            let (_, matches) = matches.subcommand().context("no command")?;
            commands::serve::run(*args, matches)
        }
        Command::Store(args) => commands::store::run(args),
        Command::Trace(args) => commands::trace::run(args),
        Command::Services(args) => commands::services::run(args),
        Command::Export(args) => commands::export::run(args),
        Command::Sampling(args) => commands::sampling::run(args),
        Command::Control(args) => commands::control::run(args),
        Command::Proxy(args) => commands::proxy::run(args),
        Command::ProxyInit(args) => commands::proxy_init::run(&args),
        Command::Bookinfo(args) => commands::bookinfo::run(args),
        Command::Guard(args) => commands::guard::run(args),
    }
}
