//! Blind relays of bytes: ours and HAProxy's, with small answers and with large ones.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::ensure;

use crate::mesh;
use crate::peers::{Member, Peer, Surroundings, free_address};
use crate::proxy::{Common, print_ratios, quartiles, run_load};

/// Flags of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Bytes of a large answer
    #[arg(long, default_value_t = 1 << 20)]
    large: usize,
}

/// What we promise: our CPU per answer to HAProxy's.
const PROMISED: f64 = 1.15;

/// Runs the comparison and prints two Markdown tables; fails when a promise is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut around = Surroundings::start(&args.common.programs, directory.path())?;
    let large = around.add_origin(args.large)?;
    let small = around.origin;
    let mut ratios = Vec::new();
    println!("| answers | ours, CPU µs | HAProxy, CPU µs |\n|---|---|---|");
    for (name, origin, connections) in [("of 1 KiB", small, "64"), ("large", large, "8")] {
        around.origin = origin;
        let mut all = [Vec::new(), Vec::new()];
        for round in 0..args.common.rounds {
            for at in [round % 2, (round + 1) % 2] {
                let (process, address) = if at == 0 {
                    let address = free_address()?;
                    let control = tell(address, origin)?;
                    let programs = &args.common.programs;
                    let ours =
                        Member::Periplus.start(programs, NODE, control, &around.directory)?;
                    ours.wait_for(address)?;
                    (ours, address)
                } else {
                    Peer::HaproxyTcp.start(&args.common.programs, &around)?
                };
                let report = run_load(&[
                    "load",
                    "--address",
                    &address.to_string(),
                    "--host",
                    "bench",
                    "--pid",
                    &process.id().to_string(),
                    "--connections",
                    connections,
                    "--duration-ms",
                    &args.common.duration_ms.to_string(),
                ])?;
                ensure!(report.errors == 0, "{} requests failed", report.errors);
                all[at].push(report.cpu_us / report.requests as f64);
            }
        }
        let [ours, theirs] = all;
        let of_each = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
        println!(
            "| {name} | {:.1} | {:.1} |",
            quartiles(ours).1,
            quartiles(theirs).1
        );
        ratios.push((format!("answers {name}"), of_each, PROMISED));
    }
    print_ratios(
        "ratio of our CPU per answer to HAProxy's, within a round",
        ratios,
    )
}

/// The node of our relay.
pub(crate) const NODE: &str = "relay";

/// Tells our relay where bytes go: where its control plane is.
pub(crate) fn tell(at: SocketAddr, origin: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listeners = [mesh::relay(at, "origin")];
    let world = mesh::world(&listeners, &[mesh::cluster("origin", origin)]);
    mesh::serve(BTreeMap::from([(NODE.to_owned(), world)]))
}
