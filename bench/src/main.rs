//! Benchmarks against peers: load generator, origin, span sink and the drivers.
//!
//! The method is in `bench/README.md`. Everything is on loopback; every loop is bounded.

mod chain;
mod cpu;
mod footprint;
mod full;
mod grpc;
mod instructions;
mod load;
mod mesh;
mod origin;
mod peers;
mod proxy;
mod receivers;
mod relay;
mod scale;
mod scaling;
mod sink;
mod store;

use clap::{Parser, Subcommand};
// The allocator of our programs.
use periplus_residence as _;

#[derive(Debug, Parser)]
#[command(name = "periplus-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU per request of our sidecar, Envoy and HAProxy, interleaved; prints a table
    Proxy(proxy::Args),
    /// Two sidecars with mutual TLS between them, ours and Envoy's; prints tables
    Chain(chain::Args),
    /// Time to start, idle memory and memory per idle connection; prints a table
    Footprint(footprint::Args),
    /// CPU per answer of blind relays, ours and HAProxy's; prints tables
    Relay(relay::Args),
    /// CPU per request with one worker and with two; prints a table
    Scaling(scaling::Args),
    /// The control plane with many services and proxies; prints a table
    Scale(scale::Args),
    /// The store, ClickHouse, DuckDB and Parquet with the same spans; prints tables
    Store(store::Args),
    /// CPU per span of each receiver, with the same spans; prints a table
    Receivers(receivers::Args),
    /// User instructions per request, counted by callgrind; compares with the committed budget
    Instructions(instructions::Args),
    /// The origin behind the proxies (started by the drivers)
    #[command(hide = true)]
    Origin(origin::Args),
    /// The origin of calls behind the proxies (started by the drivers)
    #[command(hide = true)]
    GrpcOrigin(grpc::origin::Args),
    /// The load generator of calls (started by the drivers)
    #[command(hide = true)]
    GrpcLoad(grpc::load::Args),
    /// The span sink (started by the drivers)
    #[command(hide = true)]
    Sink(sink::Args),
    /// The receivers (started by the driver)
    #[command(hide = true)]
    ReceiversServer(receivers::server::Args),
    /// The load generator (started by the drivers)
    #[command(hide = true)]
    Load(load::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Proxy(args) => proxy::run(&args),
        Command::Chain(args) => chain::run(&args),
        Command::Footprint(args) => footprint::run(&args),
        Command::Relay(args) => relay::run(&args),
        Command::Scaling(args) => scaling::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Receivers(args) => receivers::run(&args),
        Command::ReceiversServer(args) => receivers::server::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Origin(args) => origin::run(&args),
        Command::GrpcOrigin(args) => grpc::origin::run(&args),
        Command::GrpcLoad(args) => grpc::load::run(&args),
        Command::Sink(args) => sink::run(&args),
        Command::Load(args) => load::run(&args),
    }
}
