//! Two sidecars in a row: plaintext in, mutual TLS between them, plaintext out, every request traced by
//! both. Ours and Envoy are told the same by the same control plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::ensure;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;

use crate::load::Report;
use crate::mesh::{self, Authority};
use crate::peers::{Member, Surroundings, free_address};
use crate::proxy::{Common, print_ratios, quartiles, run_load};

/// Flags of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Keep-alive connections at saturation
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests per second where latency is measured
    #[arg(long, default_value_t = 500)]
    rate: u64,
}

/// What we promise: CPU of both sidecars per request, and what they add to the latency.
const CPU: f64 = 0.2;
const ADDED: f64 = 0.45;

struct Sample {
    cpu_us_per_request: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Runs the comparison and prints two Markdown tables; fails when a promise is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let around = Surroundings::start(&args.common.programs, directory.path())?;
    let mut all = [Vec::new(), Vec::new()];
    let mut direct = Vec::new();
    for round in 0..args.common.rounds {
        direct.push(paced(args, around.origin, &[])?);
        for at in [round % 2, (round + 1) % 2] {
            let member = [Member::Periplus, Member::Envoy][at];
            let sample = measure(args, member, &around)?;
            eprintln!(
                "round {round}: {:<8} {:>6.1} µs/request, p50 {:.0} µs, p99 {:.0} µs",
                member.name(),
                sample.cpu_us_per_request,
                sample.p50_us,
                sample.p99_us
            );
            all[at].push(sample);
        }
    }
    let [ours, theirs] = &all;
    println!(
        "| | CPU µs/request of both | p50 µs at {}/s | p99 µs |",
        args.rate
    );
    println!("|---|---|---|---|");
    for (name, samples) in [("two of ours", ours), ("two Envoys", theirs)] {
        let of = |field: &dyn Fn(&Sample) -> f64| quartiles(samples.iter().map(field).collect()).1;
        println!(
            "| {name} | {:.1} | {:.0} | {:.0} |",
            of(&|s| s.cpu_us_per_request),
            of(&|s| s.p50_us),
            of(&|s| s.p99_us)
        );
    }
    let of_direct = |field: &dyn Fn(&Report) -> f64| direct.iter().map(field).collect::<Vec<_>>();
    let (p50, p99) = (
        of_direct(&|r| r.p50_us as f64),
        of_direct(&|r| r.p99_us as f64),
    );
    println!(
        "| no sidecar | | {:.0} | {:.0} |",
        quartiles(p50.clone()).1,
        quartiles(p99.clone()).1
    );
    let added = |of: &dyn Fn(&Sample) -> f64, without: &[f64]| -> Vec<f64> {
        let pairs = ours.iter().zip(theirs).zip(without);
        pairs
            .map(|((a, b), direct)| (of(a) - direct) / (of(b) - direct))
            .collect()
    };
    let cpu = ours.iter().zip(theirs);
    print_ratios(
        "ratio of two of ours to two Envoys, within a round",
        vec![
            (
                "CPU per request".to_owned(),
                cpu.map(|(a, b)| a.cpu_us_per_request / b.cpu_us_per_request)
                    .collect(),
                CPU,
            ),
            ("added p50".to_owned(), added(&|s| s.p50_us, &p50), ADDED),
            ("added p99".to_owned(), added(&|s| s.p99_us, &p99), ADDED),
        ],
    )
}

/// The nodes of the two sidecars.
pub(crate) const OUTER: &str = "outer";
pub(crate) const INNER: &str = "inner";

/// Tells the two what to do, with certificates of their own for each pair: where their control plane is.
pub(crate) fn tell(
    outer: SocketAddr,
    inner: SocketAddr,
    around: &Surroundings,
) -> anyhow::Result<SocketAddr> {
    let authority = Authority::new()?;
    let mut next = mesh::cluster("next", inner);
    authority.secure_cluster(&mut next)?;
    let mut secured = mesh::http(inner, TrafficDirection::Inbound, "origin");
    authority.secure_listener(&mut secured)?;
    let sink = mesh::cluster("sink", around.sink_zipkin());
    let first = mesh::http(outer, TrafficDirection::Outbound, "next");
    let origin = mesh::cluster("origin", around.origin);
    let worlds = BTreeMap::from([
        (
            OUTER.to_owned(),
            mesh::world(&[first], &[next, sink.clone()]),
        ),
        (INNER.to_owned(), mesh::world(&[secured], &[origin, sink])),
    ]);
    mesh::serve(worlds)
}

fn measure(args: &Args, member: Member, around: &Surroundings) -> anyhow::Result<Sample> {
    let (outer, inner) = (free_address()?, free_address()?);
    let control = tell(outer, inner, around)?;
    let second = member.start(&args.common.programs, INNER, control, &around.directory)?;
    second.wait_for(inner)?;
    let first = member.start(&args.common.programs, OUTER, control, &around.directory)?;
    // Not before both hops have what they were told.
    first.wait_until_served(outer, "bench")?;
    let pids = [first.id(), second.id()];
    let before = around.spans()?;
    let report = saturated(args, outer, &pids)?;
    ensure!(report.errors == 0, "{} requests failed", report.errors);
    let calm = paced(args, outer, &[])?;
    ensure!(calm.errors == 0, "{} requests failed", calm.errors);
    let expected = 2 * (report.total + calm.total);
    let spans = around.wait_for_spans(before, expected)?;
    ensure!(
        spans as f64 / expected as f64 > 0.97,
        "{spans} spans of {expected} have reached the sink"
    );
    Ok(Sample {
        cpu_us_per_request: report.cpu_us / report.requests as f64,
        p50_us: calm.p50_us as f64,
        p99_us: calm.p99_us as f64,
    })
}

fn saturated(args: &Args, at: SocketAddr, pids: &[u32]) -> anyhow::Result<Report> {
    load(
        args,
        at,
        pids,
        &["--connections", &args.connections.to_string()],
    )
}

/// The same few requests per second for everybody.
fn paced(args: &Args, at: SocketAddr, pids: &[u32]) -> anyhow::Result<Report> {
    let rate = args.rate.to_string();
    load(args, at, pids, &["--connections", "16", "--rate", &rate])
}

fn load(args: &Args, at: SocketAddr, pids: &[u32], more: &[&str]) -> anyhow::Result<Report> {
    let (at, duration) = (at.to_string(), args.common.duration_ms.to_string());
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let mut flags = vec![
        "load",
        "--address",
        &at,
        "--host",
        "bench",
        "--duration-ms",
        &duration,
    ];
    flags.extend(more);
    for pid in &pids {
        flags.extend(["--pid", pid]);
    }
    run_load(&flags)
}
