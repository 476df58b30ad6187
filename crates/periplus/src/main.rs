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
    /// What is wrong with files of resources, or with those of a control plane that runs
    Analyze(Box<commands::analyze::AnalyzeArgs>),
    /// Whether each document of some files is valid
    Validate(commands::analyze::ValidateArgs),
    /// Where a request would go, and why
    Explain(Box<commands::explain::Args>),
    /// What the resources say of a service or a workload
    Describe(Box<commands::describe::Args>),
    /// Who may do what at a workload
    Authz(commands::authz::Args),
    /// What files would change, and at which proxies, before they are applied
    Diff(Box<commands::diff::Args>),
    /// What is amiss with a mesh that runs; `doctor tracing`: why there are no traces
    Doctor(Box<commands::doctor::Args>),
    /// Whether proxies run on what the control plane has sent them
    #[command(visible_alias = "ps")]
    ProxyStatus(commands::proxy_status::Args),
    /// What a proxy runs on, from its admin port
    #[command(visible_alias = "pc")]
    ProxyConfig(Box<commands::proxy_config::Args>),
    /// The versions of this program, the control plane and the proxies
    Version(commands::version::Args),
    /// The address of a page, and a browser at it
    Dashboard(commands::dashboard::Args),
    /// A script that completes commands and flags
    Completions(commands::shell::CompletionsArgs),
    /// Manual pages, one for each command
    Man(commands::shell::ManArgs),
    /// The control plane alone
    Control(commands::control::Args),
    /// A sidecar or gateway alone
    Proxy(commands::proxy::Args),
    /// The service that counts the requests of all proxies together, in Redis
    Ratelimit(commands::ratelimit::Args),
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
    if let Some(commands::outcome::Exit(code)) = error.downcast_ref() {
        return (*code).into();
    }
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
        | Command::Analyze(_)
        | Command::Validate(_)
        | Command::Explain(_)
        | Command::Describe(_)
        | Command::Authz(_)
        | Command::Diff(_)
        | Command::Doctor(_)
        | Command::ProxyStatus(_)
        | Command::ProxyConfig(_)
        | Command::Version(_)
        | Command::Dashboard(_)
        | Command::Completions(_)
        | Command::Man(_)
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
        Command::Analyze(args) => commands::analyze::analyze(&args),
        Command::Validate(args) => commands::analyze::validate(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Describe(args) => commands::describe::run(&args),
        Command::Authz(args) => commands::authz::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::ProxyStatus(args) => commands::proxy_status::run(&args),
        Command::ProxyConfig(args) => commands::proxy_config::run(&args),
        Command::Version(args) => commands::version::run(&args),
        Command::Dashboard(args) => commands::dashboard::run(&args),
        Command::Completions(args) => commands::shell::completions(&args, Cli::command()),
        Command::Man(args) => commands::shell::man(&args, Cli::command()),
        Command::Control(args) => commands::control::run(args),
        Command::Proxy(args) => commands::proxy::run(args),
        Command::Ratelimit(args) => commands::ratelimit::run(args),
        Command::ProxyInit(args) => commands::proxy_init::run(&args),
        Command::Bookinfo(args) => commands::bookinfo::run(args),
        Command::Guard(args) => commands::guard::run(args),
    }
}
