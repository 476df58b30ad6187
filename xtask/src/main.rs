//! Developer chores: `cargo xtask ci`, `test`, `ui`, `bench`, `kill`, `crash`, `rotate`, `faults`, `harm`,
//! `fuzz`, `descriptors`, `peers`.

mod ci;
mod clients;
mod descriptors;
mod fuzz;
mod peers;
mod shell;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Everything that must pass before a change lands, from a clean checkout
    Ci,
    /// All tests; fetches the peers that they need first
    Test,
    /// Formatting, lints, licences and duplicate dependencies
    Lint,
    /// Builds the web UI into `dist`; with `--check`, proves that `dist` is what the source builds
    Ui {
        /// Fail if the build differs from what is committed
        #[arg(long)]
        check: bool,
    },
    /// Runs a benchmark: `proxy` (CPU per request against peers), `store` (spans on disk against
    /// peers) or `instructions` (the CI gate)
    Bench {
        /// Which one, and its flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Kills the server under load so many times, and looks for each acknowledged span after it
    Kill {
        /// How often
        #[arg(default_value_t = 1_000)]
        rounds: u32,
    },
    /// Lets the disk below the store fail at every operation, where CI takes a sample
    Crash,
    /// Replaces certificates each ten seconds, and the root, under load, and looks for a request that fails
    Rotate {
        /// For so many seconds
        #[arg(default_value_t = 300)]
        seconds: u32,
    },
    /// Edits rules ten times a second under load, kills the control plane, and looks for a request that fails
    Faults {
        /// For so many seconds
        #[arg(default_value_t = 60)]
        seconds: u32,
    },
    /// Asks a proxy for so many paths, each another one, while its collector and its disk fail, and looks at its memory
    Harm {
        /// So many paths
        #[arg(default_value_t = 1_000_000)]
        paths: u32,
    },
    /// Runs the fuzz targets, each for so many seconds; needs cargo-fuzz
    Fuzz {
        /// For so many seconds each
        #[arg(default_value_t = 60)]
        seconds: u32,
        /// Only these
        targets: Vec<String>,
    },
    /// Makes the file that tells the proxy what Envoy's messages are made of; needed when it reads a type more
    Descriptors,
    /// Installs the real programs that tests and benchmarks run against
    Peers,
}

fn main() -> anyhow::Result<()> {
    shell::enter_root()?;
    match Cli::parse().chore {
        Chore::Ci => ci::all(),
        Chore::Test => ci::test(),
        Chore::Lint => ci::lint(),
        Chore::Ui { check } => ci::ui(check),
        Chore::Bench { args } => ci::bench(&args),
        Chore::Kill { rounds } => ci::kill(rounds),
        Chore::Crash => ci::crash(),
        Chore::Rotate { seconds } => ci::rotate(seconds),
        Chore::Faults { seconds } => ci::faults(seconds),
        Chore::Harm { paths } => ci::harm(paths),
        Chore::Fuzz { seconds, targets } => fuzz::all(seconds, &targets),
        Chore::Descriptors => descriptors::make(),
        Chore::Peers => peers::install(&peers::Need::ALL),
    }
}
